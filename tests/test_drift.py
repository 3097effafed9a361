"""Drift: KS as scipy has it, PSI as it is stated, and what A and B may name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from guardian.config import Settings
from guardian.errors import InputError
from guardian.replay import replay
from guardian.simulate import SCENARIOS, simulate
from guardian.tables import F64
from tests.test_experiment import made
from trainer import drift

samples = st.lists(st.integers(-3, 12), min_size=4, max_size=60).map(
    lambda v: np.sort(np.array(v, np.float64))
)


@given(samples, samples)
def test_ks_is_that_of_scipy(a: F64, b: F64) -> None:
    stats = pytest.importorskip("scipy.stats")
    assert drift.ks(a, b) == pytest.approx(stats.ks_2samp(a, b, method="asymp").statistic)


def test_ks_by_chance_is_what_one_of_twenty_exceeds() -> None:
    rng = np.random.default_rng(0)
    line = 1.358 * np.sqrt(2 / 200)
    over = [drift.ks(*np.sort(rng.normal(size=(2, 200)), axis=1)) > line for _ in range(1000)]
    assert 0.02 < np.mean(over) < 0.07


def test_psi_by_chance_is_about_what_one_of_twenty_exceeds() -> None:
    rng = np.random.default_rng(0)
    over = []
    for _ in range(500):
        a, b = rng.normal(size=(2, 2000, 1)).astype(np.float32)
        (row,) = drift.drift(a, b, ("x",))
        over.append(row["psi"] > row["psi_by_chance"])
    # The two outer bins add a little: seldom a value beyond all that were seen.
    assert 0.02 < np.mean(over) < 0.15


def test_psi_over_stated_bins_is_worked_out_by_hand() -> None:
    a = np.arange(100.0)
    # The upper half moved onto the lower: five deciles have twice their rows, five have none.
    b = np.sort(np.concatenate([np.arange(50.0)] * 2))
    value, bins = drift.psi(a, b)
    share, floor = 0.1, drift.FLOOR
    wanted = 5 * (share * np.log(2)) + 5 * (floor - share) * np.log(floor / share)
    assert value == pytest.approx(wanted, rel=0.01)
    assert bins == drift.BINS


@pytest.mark.parametrize("constant", [0.0, 5.0, -1e6])
def test_a_constant_that_becomes_another_drifts(constant: float) -> None:
    a = np.full(1000, constant)
    for other in (constant + 1, constant - 1):
        assert drift.psi(a, np.full(1000, other))[0] > 5
    assert drift.psi(a, a)[0] == 0


def test_the_feature_that_moved_comes_first() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 5000, 3)).astype(np.float32)
    b[:, 1] += 1.0
    rows = drift.drift(a, b, ("same", "moved", "too"))
    assert rows[0]["feature"] == "moved"
    assert rows[0]["psi"] > drift.MUCH
    assert rows[0]["ks"] == pytest.approx(0.38, abs=0.03)  # 2 * Phi(1/2) - 1
    assert rows[0]["median"][1] - rows[0]["median"][0] == pytest.approx(1, abs=0.1)
    assert max(row["psi"] for row in rows[1:]) < 0.05
    with pytest.raises(InputError, match="has none"):
        drift.drift(a, b[:0], ("same", "moved", "too"))


def test_attacks_are_no_drift_of_the_home() -> None:
    one, two = made(seed=1), made(seed=2)
    every = np.arange(len(one))
    calm = replace(two, label=np.where(two.label > 0, -1, 0).astype(np.int16))
    found = drift.between((one, every), (two, every), ("a", "b"))
    again = drift.between((one, every), (calm, every), ("a", "b"))
    assert found["rows"][1] == int((two.label == 0).sum())
    assert again["features"] == found["features"]
    with pytest.raises(InputError, match="other features"):
        drift.between((one, every), (replace(two, features=("a",)), every), ("a", "b"))
    with pytest.raises(InputError, match="no benign row"):
        drift.between((one, every), (two, np.flatnonzero(two.label > 0)), ("a", "b"))


def test_stretches_of_time_are_weeks_or_days() -> None:
    begin, end = drift.span("2026-W46")
    assert (begin, end) == drift.span("2026-11-09..2026-11-16")
    assert begin % 86_400 == 0
    for wrong in ("2026-W99", "yesterday", "2026-11-09", "2026-13-01..2026-13-02"):
        with pytest.raises(InputError, match="no stretch of time"):
            drift.span(wrong)


def test_two_halves_of_a_database_and_two_captures(tmp_path: Path) -> None:
    quiet, loud = tmp_path / "quiet.pcap", tmp_path / "loud.pcap"
    simulate(SCENARIOS["quiet"](profile="test", hours=0.1), quiet)
    simulate(SCENARIOS["telnet-scan"](profile="test", hours=0.1), loud)
    db = tmp_path / "guardian.db"
    replay([quiet], Settings(), db=db, as_json=True)
    run = CliRunner().invoke
    done = run(drift.main, [str(quiet), str(loud), "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "benign rows of quiet.pcap beside" in done.stdout
    assert "PSI over 10 bins" in done.stdout
    told = json.loads((tmp_path / "out" / "drift.json").read_text())
    first = told["drift"]["features"][0]
    assert f"{first['psi']:7.3f}" in done.stdout
    page = (tmp_path / "out" / "drift.html").read_text()
    assert first["feature"] in page
    assert "data:image/png" in page
    prepared, rows = drift.chosen(f"{db}@2026-W46", None, None, None)
    assert len(prepared)
    inside = drift.span("2026-W46")
    assert ((prepared.ts[rows] >= inside[0]) & (prepared.ts[rows] < inside[1])).all()
    alone = run(drift.main, [str(db)])
    assert alone.exit_code == 1
    assert "the week before has no benign row" in alone.output
    missing = run(drift.main, [str(tmp_path / "none"), str(quiet)])
    assert missing.exit_code == 1
    assert "there is no" in missing.output


def test_the_last_seven_days_stand_beside_the_seven_before() -> None:
    prepared = made(groups=1, rows=400)
    hourly = replace(prepared, ts=np.arange(len(prepared), dtype=np.float64) * 3600.0)
    before, after = drift.last_weeks(hourly)
    assert len(before) == len(after) == 7 * 24
    assert before.max() < after.min()

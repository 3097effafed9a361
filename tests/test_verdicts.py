"""The highest slice of a connection: what the database keeps, and `guardian score` begins with."""

from __future__ import annotations

import csv
import io
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from guardian.cli import cli
from guardian.gathered import OWN, TOLD
from guardian.simulate import SCENARIOS, simulate
from guardian.tables import Conns, FeatureRows, Scores
from guardian.verdicts import VerdictTable

LINES = (1.0, 0.5)
KEYS = ("good", "bad")


def add(table: VerdictTable, slices: list[tuple[bytes, float, float, int, int]]) -> None:
    """Add slices of (uid, anomaly, threat, label, device)."""
    n = len(slices)
    conns = Conns.blank(n)
    conns.uid[:] = [one[0] for one in slices]
    rows = FeatureRows.blank(n)
    rows.row[:] = np.arange(n)
    rows.device[:] = [one[4] for one in slices]
    scores = Scores.blank(n)
    scores.anomaly[:] = [one[1] for one in slices]
    scores.threat[:] = [one[2] for one in slices]
    scores.label[:] = [one[3] for one in slices]
    table.add(conns, rows, scores)


def taken(table: VerdictTable, *uids: bytes) -> list[tuple[object, ...]]:
    records = Conns.blank(len(uids))
    records.uid[:] = uids
    v = table.take(records)
    return list(
        zip(
            v.verdict.tolist(), np.round(v.threat.astype("f8"), 3).tolist(),
            np.round(v.anomaly.astype("f8"), 3).tolist(), v.label.tolist(), v.device.tolist(),
            strict=True,
        )
    )  # fmt: skip


def table() -> VerdictTable:
    return VerdictTable(*LINES, lambda i: KEYS[i])


def test_all_columns_are_those_of_one_slice() -> None:
    """The highest threat and the highest anomaly lie on different slices."""
    t = table()
    add(t, [(b"A", 0.2, 0.3, 1, 0), (b"A", 4.0, 0.1, 2, 0)])
    add(t, [(b"A", 0.9, 0.4, 3, 0)])
    assert taken(t, b"A") == [(1, 0.1, 4.0, 2, b"good")]


def test_an_attack_is_above_any_anomaly_and_names_its_device() -> None:
    t = table()
    add(t, [(b"A", 9.0, 0.2, 0, 0), (b"A", 0.1, 0.8, 2, 1), (b"B", 0.1, 0.1, 0, 0)])
    assert taken(t, b"B", b"A", b"C") == [
        (0, 0.1, 0.1, 0, b"good"), (2, 0.8, 0.1, 2, b"bad"), (0, 0.0, 0.0, 0, b""),
    ]  # fmt: skip
    assert taken(t, b"A") == [(0, 0.0, 0.0, 0, b"")]  # forgotten once taken


def test_the_living_are_told_when_they_change() -> None:
    t = table()
    add(t, [(b"A", 0.2, 0.3, 1, 0), (b"B", 0.2, 0.3, 1, 0)])
    assert sorted(t.living().uid.tolist()) == [b"A", b"B"]
    assert len(t.living()) == 0
    add(t, [(b"A", 0.1, 0.1, 1, 0), (b"B", 0.2, 0.4, 1, 0)])
    assert t.living().uid.tolist() == [b"B"]
    add(t, [(b"B", 0.2, 0.6, 1, 0)])
    taken(t, b"B")
    assert len(t.living()) == 0


def test_a_score_that_is_no_number_breaks_nothing() -> None:
    t = table()
    add(t, [(b"A", np.nan, np.inf, 1, 0), (b"A", 0.2, 0.3, 2, 0)])
    assert taken(t, b"A") == [(0, 0.3, 0.2, 2, b"good")]


def test_what_is_remembered_is_capped() -> None:
    t = VerdictTable(*LINES, lambda i: KEYS[i], capacity=2)
    add(t, [(b"A", 0.1, 0.1, 0, 0)])
    add(t, [(b"B", 0.1, 0.1, 0, 0), (b"C", 0.1, 0.1, 0, 0)])
    assert [row[4] for row in taken(t, b"A", b"B", b"C")] == [b"", b"good", b"good"]
    assert len(t.living()) == 0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("verdicts") / "home.pcap"
    simulate(SCENARIOS["telnet-scan"](profile="test", hours=0.2), path)
    return path


def test_the_database_has_the_models_words_and_score_adds_what_is_known_at_the_end(
    home: Path, tmp_path: Path
) -> None:
    db = tmp_path / "g.db"
    run = CliRunner()
    done = run.invoke(cli, ["replay", str(home), "--db", str(db)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    said = run.invoke(cli, ["score", str(home)], catch_exceptions=False).stdout
    printed = {row["uid"]: row for row in csv.DictReader(io.StringIO(said))}
    with closing(sqlite3.connect(db)) as reader:
        reader.row_factory = sqlite3.Row
        kept = reader.execute("SELECT * FROM connections WHERE count = 1").fetchall()
        (cause,) = {row["cause"] for row in reader.execute("SELECT cause FROM incidents")}
    judged = [row for row in kept if row["verdict"]]
    assert len(judged) > 200
    members = 0
    for row in judged:
        other = printed[row["uid"]]
        assert float(other["anomaly"]) == pytest.approx(row["anomaly"], abs=1e-4)
        assert other["device"] == row["device"]
        threat = float(other["threat"])
        if other["verdict"] == "attack":
            members += 1
            assert (other["label"], threat >= TOLD) == (cause, True)
            continue
        assert other["label"] == row["label"]
        assert other["verdict"] == row["verdict"] or row["verdict"] == "attack"
        assert TOLD > threat >= min(row["threat"], OWN) - 1e-6
        if row["threat"] < LINES[1]:  # nothing adds up of what is under the line
            assert threat == pytest.approx(row["threat"], abs=1e-6)
    assert members > 50

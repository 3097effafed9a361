"""A device's lines follow its past within bounds; drift is told once; who was born infected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from guardian import bundle as bundles
from guardian.addresses import Lan
from guardian.alerts import AlertSettings
from guardian.changed import words
from guardian.config import Settings, override
from guardian.const import NS
from guardian.devices import DeviceTable
from guardian.drift import SEVERAL, Cuts, Weeks, psi
from guardian.evidence import EvidenceSettings
from guardian.featurelist import NAMES
from guardian.parts import Parts
from guardian.pipeline import Pipeline
from guardian.polling import Polling
from guardian.reload import APPLY, Change
from guardian.store import Store
from guardian.tables import F32
from tests.incident_rows import (
    CAMERA,
    MACS,
    START,
    S,
    beacon,
    calm,
    incident_table,
    mixed,
    run,
    scan,
    usual,
)

DAY_NS = 86_400 * NS


def raised(hours: int) -> list[S]:
    """Return a device of which one row in thirty is always just above the bundle's line."""
    rows = calm(0.0, hours * 360, every=10.0)
    return [replace(s, threat=0.95) if k % 30 == 0 else s for k, s in enumerate(rows)]


def opened(past: Sequence[S], later: Sequence[S], settings: AlertSettings) -> list[str]:
    table = incident_table(settings=settings)
    run(table, past)
    return [e.incident.cause for e in run(table, later) if e.change == "opened"]


def test_the_switch_leaves_the_bundles_lines_alone() -> None:
    past = raised(20)
    later = [S(21 * 3600.0 + 60 * k, 0.88, "c2", peer="34.9.9.9") for k in range(40)]
    on = AlertSettings(EvidenceSettings().adapting(True), counters=False)
    off = AlertSettings(EvidenceSettings().adapting(False), counters=False)
    assert opened(past, later, on) == []
    assert opened(past, later, off) == ["c2"]
    assert on.evidence == EvidenceSettings()
    assert off.evidence.adapting(True) == EvidenceSettings()


def test_the_switch_is_taken_while_we_run_and_leaves_the_weeks_limit(tmp_path: Path) -> None:
    """A limit that the user set while we ran stays where only `adapt` changes."""
    lan = Lan()
    pipeline = Pipeline(
        bundles.load(bundles.default_path()), lan, DeviceTable(lan), alerts_a_week=2
    )
    with Store(tmp_path / "guardian.db") as store:
        polling = Polling(store, pipeline)
        polling.set_budget(7, int(START * NS))
        old = Settings()
        new = override(old, "alerts", adapt=False)
        parts = cast("Parts", SimpleNamespace(pipeline=pipeline, polling=polling))
        APPLY["alerts"](Change(old, new, parts))
        found = pipeline.incidents.settings
        assert (found.evidence.raise_most, found.a_week) == (0.0, 7)
        APPLY["alerts"](Change(new, old, parts))
        assert pipeline.incidents.settings.evidence == EvidenceSettings()


def test_unlearning_undoes_it_at_once() -> None:
    later = [S(21 * 3600.0 + 60 * k, 0.88, "c2", peer="34.9.9.9") for k in range(40)]
    table = incident_table()
    run(table, raised(20))
    table.homes.unlearn(MACS[CAMERA])
    assert [e.change for e in run(table, later)][:1] == ["opened"]


def test_no_past_can_teach_a_device_to_hide() -> None:
    """However long it was just under its line, what is sure opens an incident."""
    rows = calm(0.0, 40 * 360, every=10.0, threat=0.97)
    past = [s if k % 3 else replace(s, threat=0.02) for k, s in enumerate(rows)]
    table = incident_table(settings=AlertSettings(counters=False))
    home = table.homes.get(MACS[CAMERA], int(START * NS))
    for s in past:
        home.suspicion.threat_past.add(7.9, int((START + s.at) * NS), tainted=False)
    later = beacon(41 * 3600.0, 20, threat=0.999)
    assert [e.change for e in run(table, later)][:1] == ["opened"]


@pytest.mark.parametrize(
    ("attack", "limit_s"),
    [(scan(60.0, 80), 120.0), (beacon(60.0, 58), 3600.0), (beacon(60.0, 58, threat=0.9), 3600.0)],
    ids=["scan", "beacon", "beacon less sure"],
)
def test_a_device_infected_from_its_first_minute_is_found(attack: list[S], limit_s: float) -> None:
    dhcp = S(1.0, peer="192.168.1.1", port=67, proto=17)
    table = incident_table(age_s=0.0)
    events = run(table, mixed([dhcp], calm(2.0, 300, every=12.0), attack), until=3600.0)
    first = next(e for e in events if e.change == "opened")
    assert first.incident.opened <= (START + limit_s) * NS


# --- drift --------------------------------------------------------------------


def weeks() -> Weeks:
    return Weeks(Cuts.of(usual(), NAMES), 6 * 3600.0)


def week_of(rng: np.random.Generator, n: int, shift: float) -> F32:
    x = rng.uniform(0.0, 1.0, (n, len(NAMES))).astype(np.float32)
    x[:, : SEVERAL + 2] += np.float32(shift)
    return x


def live(one: Weeks, shifts: Sequence[float], seed: int = 1) -> list[int]:
    """Let a device live a week for each shift; return the days at which a change was told."""
    rng, out = np.random.default_rng(seed), []
    for week, shift in enumerate(shifts):
        x = week_of(rng, 7 * 200, shift)
        for k in range(len(x)):
            told = int(START * NS) + week * 7 * DAY_NS + k * DAY_NS // 200
            one.add(told, x[k])
            if one.changed is not None:
                out.append((told - int(START * NS)) // DAY_NS)
                one.changed = None
    return out


def test_a_device_that_changes_is_told_once() -> None:
    days = live(weeks(), [0, 0, 0, 0.9, 0.9, 0.9, 0.9, 0.9])
    assert len(days) == 1
    assert 28 <= days[0] <= 36


@pytest.mark.parametrize("seed", range(4))
def test_a_device_that_does_not_is_never_told(seed: int) -> None:
    assert live(weeks(), [0] * 6, seed) == []


def test_few_features_and_few_days_say_nothing() -> None:
    one = weeks()
    rng = np.random.default_rng(3)
    for day in range(40):
        x = week_of(rng, 100, 0.0)
        x[:, 3] += 0.9 if day > 20 else 0.0
        for k in range(100):
            one.add(int(START * NS) + day * DAY_NS + k * 600 * NS, x[k])
    assert one.changed is None
    other = weeks()
    for day in (1, 2, 30, 31):  # away most of the time: no week is whole
        for k in range(200):
            other.add(int(START * NS) + day * DAY_NS + k * 300 * NS, week_of(rng, 1, day / 30)[0])
    assert other.changed is None
    assert other.as_json()["usual"] is None


def test_a_burst_is_one_row_and_memory_is_bounded() -> None:
    one = weeks()
    for k in range(5_000):
        one.add(int((START + 7 * 3600) * NS) + k * NS // 100, np.zeros(len(NAMES), np.float32))
    one.add(int((START + 20 * 3600) * NS), np.zeros(len(NAMES), np.float32))
    one.add(int((START + 21 * 3600) * NS), np.zeros(len(NAMES), np.float32))
    found = one.as_json()
    assert found["rows"] <= 3
    assert one._week.nbytes == len(NAMES) * 4 * 4


def test_weeks_survive_a_restart() -> None:
    first, second = weeks(), weeks()
    live(first, [0, 0])
    second.take(first.as_json(), int(START * NS) + 15 * DAY_NS)
    assert second.as_json() == first.as_json()
    with pytest.raises(ValueError, match="other features"):
        second.take(first.as_json() | {"week": [[1, 2, 3, 4]]}, 0)


def test_every_value_of_a_flag_has_its_own_bin() -> None:
    for low, middle, high in ((0, 0, 0), (0, 0, 1), (0, 1, 1), (1, 1, 1)):
        cuts = Cuts.of(np.array([[low], [middle], [high]], np.float32), ("tcp",))
        bins = {int(cuts.bins(np.array([v], np.float32))[0]) for v in (0.0, 1.0)}
        assert len(bins) == 2, (low, middle, high)


def test_psi_is_the_usual_sum() -> None:
    a, b = np.array([[50, 50, 0, 0]], np.int32), np.array([[25, 75, 0, 0]], np.int32)
    wanted = (0.25 - 0.5) * np.log(0.25 / 0.5) + (0.75 - 0.5) * np.log(0.75 / 0.5)
    assert psi(a, b)[0] == pytest.approx(wanted)
    assert psi(a, a)[0] == 0.0


def test_what_changed_is_told_in_words() -> None:
    found = [{"name": "udp", "more": True, "psi": 1.0}, {"name": "bytes_out", "more": False}]
    assert words(found, 1) == "a UDP exchange (more often) and 1 more"
    assert words(found) == "a UDP exchange (more often), amount sent by the device (lower)"

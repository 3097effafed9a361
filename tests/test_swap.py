"""A bundle that takes over in a running daemon goes on with evidence that means the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from guardian.addresses import Lan
from guardian.alerts import AlertSettings, IncidentTable
from guardian.const import NS
from guardian.polling import Polling
from guardian.scoring import Scorer
from guardian.store import Store
from tests.incident_rows import CAMERA, CLASSES, MACS, START, S, device_table, ruler, run, scan
from tests.test_past import DAY, pipeline_of

SETTINGS = AlertSettings(counters=True)
SLOWLY = scan(0.0, 60, every=60.0, threat=0.9)
"""A scan that the models see."""
SILENTLY = [
    S(k * 0.1, 0.01, peer=f"34.1.{k >> 8}.{k & 255}", port=23, state="S0", resp_pkts=0,
      resp_bytes=0, orig_bytes=0)
    for k in range(3_000)
]  # fmt: skip
"""One that only the plain counters see."""
TURNED = (CLASSES[0], *CLASSES[:0:-1])


def table(classes: tuple[str, ...] = CLASSES) -> IncidentTable:
    rules = replace(ruler(), classes=classes)
    return IncidentTable(rules, device_table(30 * DAY), Lan(), SETTINGS)


def opens_at(first: IncidentTable, second: IncidentTable | None, rows: list[S], cut: int) -> int:
    """Return the number of the row that opens an incident; the second table has them from a cut."""
    for number, row in enumerate(rows):
        if number == cut and second is not None:
            second.succeed(first)
            first = second
        if run(first, [row]):
            return number
    raise AssertionError("no incident")


@pytest.mark.parametrize("rows", [SLOWLY, SILENTLY], ids=["models", "counters"])
def test_evidence_adds_up_over_a_swap(rows: list[S]) -> None:
    alone = opens_at(table(), None, rows, 0)
    assert alone >= 3
    for cut in (1, alone // 2, alone):
        assert opens_at(table(), table(), rows, cut) == alone


def test_evidence_of_other_classes_means_something_else() -> None:
    alone = opens_at(table(), None, SLOWLY, 0)
    before = opens_at(table(TURNED), None, SLOWLY, 0)
    assert opens_at(table(TURNED), table(), SLOWLY, before) == before + alone
    # The plain counters do not ask for classes.
    counted = opens_at(table(), None, SILENTLY, 0)
    assert opens_at(table(TURNED), table(), SILENTLY, counted // 2) == counted


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "guardian.db") as opened:
        yield opened


@pytest.mark.parametrize("turned", [False, True])
def test_the_daemon_keeps_it(store: Store, turned: bool) -> None:
    """As the daemon does it: what a device was like comes back, too, and hides nothing."""
    pipeline = pipeline_of()
    polling = Polling(store, pipeline)
    polling.restore(0)
    late = 8 * 86_400.0
    assert not run(pipeline.incidents, [S(0.0), *scan(late, 2)])
    homes = pipeline.incidents.homes
    assert MACS[CAMERA] in homes.settled()
    other = replace(pipeline.bundle, digest="another")
    if turned:
        other = replace(other, classes=(other.classes[0], *other.classes[:0:-1]))
    pipeline.swap(Scorer(other))
    polling.resume(int((START + late) * NS))
    home = pipeline.incidents.homes.peek(MACS[CAMERA])
    assert home is not None
    assert pipeline.incidents.homes is not homes
    assert [case.sum.rows for case in home.suspicion._causes.values()] == ([] if turned else [2])

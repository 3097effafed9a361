"""What is measured of the gateway's own learning: drift, questions, the limit, a poisoned past."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from guardian.drift import BINS, Cuts
from guardian.evidence import LIMIT, EvidenceSettings, own_line
from guardian.features import NAMES

pytest.importorskip("trainer.trial.weeks", reason="the trials need the workstation's packages")

from trainer.trial import asking, born, budget, weeks

DAY_NS = asking.DAY_NS


def incident(day: float, device: str, cause: str, *, true: bool = False) -> dict[str, Any]:
    at = int((20_000 + day) * DAY_NS)
    return {
        "id": f"{day}{device}", "device": device, "mac": device, "cause": cause, "opened": at,
        "updated": at, "score": 0.9, "count": 6, "speaker": "model", "bundle": "", "feedback": "",
        "true": true,
    }  # fmt: skip


def test_an_answer_covers_its_device_and_cause_from_that_evening_on() -> None:
    rows = [incident(k + 0.1, "a", "c2") for k in range(5)]
    rows += [incident(k + 0.2, "b", "scan") for k in range(5)]
    rows += [incident(k + 0.3, "c", "c2", true=True) for k in range(5)]
    rows.sort(key=lambda r: r["opened"])
    assert asking.false_told(rows, None, 5) == 10
    answered: list[str] = []

    def first_false(known: list[dict[str, Any]]) -> dict[str, Any] | None:
        left = [r for r in known if not r["feedback"] and not r["true"]]
        answered.extend(r["device"] for r in left[:1])
        return left[0] if left else None

    # `a` is answered on the first evening; `b`, which came twice by then, on the second.
    assert asking.false_told(rows, first_false, 5) == 3
    assert answered == ["a", "b", "b"]
    assert all(r["feedback"] == "" for r in rows)
    # What is bad covers nothing.
    assert asking.false_told(rows, lambda known: known[2] if len(known) > 2 else None, 5) == 10


def test_asked_incidents_teach_faster_than_any() -> None:
    """The figures of docs/incidents.md in small."""
    found = asking.left_false(60, every=7)
    assert found["asked"] < 0.95 * min(found["at random"], found["the latest"])
    assert found["at random"] < 0.8 * found["nobody"]


def test_the_worst_past_raises_a_line_by_its_bound_alone() -> None:
    settings = EvidenceSettings()
    high = born.worst(20_000 * DAY_NS).high(settings.past_rows)
    assert high is not None
    assert high >= LIMIT - 0.2
    assert own_line(1.0, high, settings.raise_most) == 1.0 + settings.raise_most


def stretch(number: int, shift: int, minutes: int = 400) -> weeks.Stretch:
    counts = np.zeros((len(NAMES), BINS), dtype=np.int32)
    counts[:, 1] = minutes
    counts[:shift, 1], counts[:shift, 2] = 0, minutes
    return weeks.Stretch("home", "plug", "A", number, counts)


def test_pairs_speak_where_enough_features_moved() -> None:
    flat = np.tile(np.array([[0.0], [1.0], [2.0]], np.float32), (1, len(NAMES)))
    cuts = Cuts.of(flat, NAMES)
    pairs = [(weeks.SAME, stretch(0, 0), stretch(1, shift)) for shift in (0, 4, 6, 9)]
    pairs.append((weeks.SAME, stretch(0, 0), stretch(1, 9, minutes=20)))  # too few minutes
    told = weeks.table(pairs, cuts).splitlines()
    assert "4 | 3 | 2 | 1 | 0" in told[-1]
    assert told[-1].startswith("| nothing | 4 |")
    assert weeks.much(cuts, *pairs[2][1:]) == 6


def test_fates_become_a_table() -> None:
    fates = {
        "captures": [budget.Fate("one", budget.AT_ONCE, "flood"), budget.Fate("two", budget.NEVER)],
        "simulated": [budget.Fate("three", budget.LATER, "scan", 90.0),
                      budget.Fate("four", budget.UNFOUND)],
    }  # fmt: skip
    made = budget.table(fates, {"one": 1.0})
    assert "| captures | 2 | 2 | 1 | 0 | 1 |" in made
    assert "| simulated | 2 | 1 | 0 | 1 (1.5 min) | 0 |" in made
    assert "| 1 | 50 %, 17 % |" in made
    assert "| no limit | 0 %, 0 % |" in made

"""Which incidents a person is asked about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from guardian.asking import line_of, over, to_ask
from guardian.discovery import DRILL_MAC
from guardian.incidents import IncidentEvent
from guardian.store import Store
from guardian.usercli import alerts
from tests.test_store import NOW, device, incident, step

LINES = {"b": 0.8}


def row(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": name, "device": "camera", "mac": "", "cause": "scan", "speaker": "model", "count": 3,
        "score": 0.85, "bundle": "b", "feedback": None, "updated": NOW, **changes,
    }  # fmt: skip


def asked(*rows: dict[str, Any]) -> list[str]:
    return [i["id"] for i in to_ask(list(rows), LINES)]


def test_what_was_just_enough_comes_first() -> None:
    sure, close, long = row("sure", score=0.999), row("close"), row("long", count=4_000)
    assert asked(sure, close, long)[0] == "close"
    assert over(row("x", score=0.8), LINES) == 0.0
    assert over(row("x", score=0.99), LINES) > over(row("x", score=0.9), LINES) > 0.0
    assert over(row("x", cause="unusual", score=2.0, count=20), LINES) == 0.5


def test_three_questions_are_about_three_things() -> None:
    same = [row(f"scan{k}") for k in range(5)]
    others = [row("c2", cause="c2", score=0.95), row("hub", device="hub", score=0.95)]
    assert set(asked(*same, *others)) == {"scan4", "c2", "hub"}
    assert len(asked(*same)) == 3


def test_what_comes_again_is_asked_before_what_came_once() -> None:
    """One answer covers them all."""
    once, again = row("once", score=0.82), [row(f"again{k}", cause="c2") for k in range(4)]
    assert over(once, LINES) < over(again[0], LINES)
    assert asked(once, *again)[:2] == ["again3", "once"]


def test_what_was_answered_or_is_no_models_is_not_asked() -> None:
    done = row("done", feedback="fine", device="hub")
    drill, counter = row("drill", mac=DRILL_MAC), row("counter", speaker="counter")
    known, fresh = row("known", device="hub"), row("fresh", cause="c2", score=0.95)
    assert asked(done, drill, counter, known, fresh) == ["fresh", "known"]
    assert asked(done, drill, counter) == []


def test_the_line_of_a_manifest() -> None:
    assert line_of('{"thresholds": {"threat": 0.7}}') == 0.7
    for odd in ("", "[]", "{}", '{"thresholds": {"threat": 7}}', '{"thresholds": 1}'):
        assert line_of(odd) == 0.5


def test_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "guardian.db"
    with Store(path) as store:
        one = incident("aaaa", score=0.6)
        other = replace(one, id="bbbb", cause="c2", score=0.99, count=900)
        events = [IncidentEvent("opened", i) for i in (one, other)]
        step(store, devices=[device()], events=events)
    done = CliRunner().invoke(alerts, ["--ask", "--db", str(path)])
    assert done.exit_code == 0, done.output
    assert done.output.index("aaaa") < done.output.index("bbbb")
    assert "guardian feedback ID this-was-me | fine | bad" in done.output
    with Store(path) as store:
        for name in ("aaaa", "bbbb"):
            store.set_feedback(name, "fine")
    done = CliRunner().invoke(alerts, ["--ask", "--db", str(path)])
    assert "Nothing to ask" in done.output

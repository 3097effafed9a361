"""What the user says reaches a running pipeline, and a restarted one remembers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from guardian import bundle as bundles
from guardian import capture, commands
from guardian.addresses import Lan
from guardian.daemon import hub_states
from guardian.devices import DeviceTable
from guardian.pipeline import Pipeline
from guardian.polling import Polling
from guardian.record import Recorder
from guardian.simulate import SCENARIOS, simulate
from guardian.store import Store

DAY = 86_400 * 10**9


def fresh() -> Pipeline:
    lan = Lan()
    return Pipeline(bundles.load(bundles.default_path()), lan, DeviceTable(lan), counters=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("polling") / "home.pcap"
    simulate(SCENARIOS["telnet-scan"](profile="test", hours=0.5), path)
    return path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "guardian.db", drop_box=True) as opened:
        yield opened


def watched(home: Path, store: Store) -> Pipeline:
    pipeline = fresh()
    recorder = Recorder(store, pipeline)
    for frames in capture.read_frames(home):
        recorder.add(pipeline.step(frames))
    recorder.add(pipeline.finish())
    store.commit(time.time_ns())
    return pipeline


def say(store: Store, kind: commands.Kind, **args: object) -> None:
    commands.give(store.path, commands.new(kind, dict(args), time.time_ns()))


def results(store: Store) -> list[str]:
    rows = store._db.execute("SELECT result FROM commands ORDER BY created, id").fetchall()
    return [str(row[0]) for row in rows]


def test_names_snoozes_allowances_and_feedback_are_taken(home: Path, store: Store) -> None:
    pipeline = watched(home, store)
    incident = pipeline.incidents.open()[0]
    polling = Polling(store, pipeline)
    now = time.time_ns()
    say(store, "name", device=incident.device.mac, name="Hall camera")
    say(store, "snooze", device=incident.device.mac, until=now + DAY)
    say(store, "allow", device=None, peer="8.8.8.8", cause=None, until=None)
    say(store, "feedback", incident=incident.id, answer="fine")
    say(store, "snooze", device="nobody", until=now + DAY)
    say(store, "feedback", incident="no-such", answer="fine")
    polling.poll(now)
    assert results(store) == [
        "ok", "ok", "ok", "ok", "refused: no device nobody", "refused: no incident no-such",
    ]  # fmt: skip
    index = pipeline.devices.index(incident.device.mac)
    assert pipeline.devices.ref(index).name == "Hall camera"
    assert incident.id not in {i.id for i in pipeline.incidents.open()}
    assert polling.poll(now) == []


def test_a_restart_remembers_names_devices_open_incidents_and_rules(
    home: Path, store: Store
) -> None:
    first = watched(home, store)
    incident = first.incidents.open()[0]
    polling = Polling(store, first)
    now = time.time_ns()
    say(store, "name", device=incident.device.mac, name="Hall camera")
    say(store, "snooze", device=incident.device.mac, until=now + DAY)
    polling.poll(now)

    second = fresh()
    Polling(store, second).restore(now)
    assert {d.key for d in second.devices.devices()} == {d.key for d in first.devices.devices()}
    assert {i.id for i in second.incidents.open()} == {i.id for i in first.incidents.open()}
    assert second.devices.user_name(second.devices.index(incident.device.mac)) == "Hall camera"


def test_a_rule_for_a_device_that_is_gone_does_not_stop_the_start(
    home: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    first = watched(home, store)
    mac = first.incidents.open()[0].device.mac
    now = time.time_ns()
    say(store, "snooze", device=mac, until=now + DAY)
    Polling(store, first).poll(now)
    store._db.execute("DELETE FROM incidents")
    store._db.execute("DELETE FROM devices WHERE key = ?", (mac,))
    Polling(store, fresh()).restore(now)
    assert "no longer holds" in caplog.text


def test_what_is_undone_no_longer_holds_and_answers_outlive_a_restart(
    home: Path, store: Store
) -> None:
    first = watched(home, store)
    incident = first.incidents.open()[0]
    key, at = incident.device.mac, incident.updated
    polling = Polling(store, first)
    now = time.time_ns()

    def covered(pipeline: Pipeline) -> bool:
        return pipeline.incidents._wishes.covers(key, ("203.0.113.1", ""), 23, incident.cause, at)

    say(store, "feedback", incident=incident.id, answer="fine")
    polling.poll(now)
    assert covered(first)
    second = fresh()
    Polling(store, second).restore(now)
    assert covered(second)
    (rule,) = store.rules(now)
    say(store, "undo", command=rule.id)
    say(store, "undo", command=rule.id)
    polling.poll(now)
    assert not covered(first)
    assert results(store)[0] == "undone"
    assert results(store)[1:] == ["ok", f"refused: nothing to undo by the name of {rule.id}"]


def test_a_restart_knows_what_the_week_had_and_what_nobody_was_told_of(
    home: Path, store: Store
) -> None:
    first = watched(home, store)
    incident = first.incidents.open()[0]
    later = fresh()
    Polling(store, later).restore(incident.opened)
    assert later.incidents._incidents[incident.device.mac][incident.cause].announced
    assert incident.device.mac in later.incidents.threatened()
    store._db.execute("UPDATE incident_events SET change = 'held' WHERE change = 'opened'")
    again = fresh()
    Polling(store, again).restore(incident.opened)
    one = again.incidents._incidents[incident.device.mac][incident.cause]
    assert (one.announced, one.held) == (False, True)
    # The hub's sensor would tell it after all.
    assert incident.device.mac not in again.incidents.threatened()
    threats = [state.threat for state in hub_states(again, 0)[1]]
    assert not any(threats)


def test_an_answer_to_an_incident_of_the_past_acts_too(home: Path, store: Store) -> None:
    watched(home, store)
    later = fresh()
    store._db.execute("UPDATE incidents SET closed = updated")
    polling = Polling(store, later)
    now = time.time_ns()
    polling.restore(now)
    (name, key, cause) = store._db.execute("SELECT id, device, cause FROM incidents").fetchone()
    say(store, "feedback", incident=name, answer="bad")
    assert polling.poll(now) == []
    assert later.incidents._wishes.watched(key, cause, now)
    assert not later.incidents._wishes.watched(key, cause, now + 31 * DAY)

"""What the hub says and is shown: commands over a real broker, drills, new devices, figures."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from guardian import bundle as bundles
from guardian import firedrill, hubcommands
from guardian.addresses import Lan, pack
from guardian.blind import BlindSpots, encrypted_dns, one_sided
from guardian.bundleready import Ready
from guardian.config import MqttSettings, NotifySettings
from guardian.decode import Decoder
from guardian.devices import DeviceTable
from guardian.discovery import DRILL_MAC, Topics
from guardian.hub import Hub
from guardian.hubcommands import Asked, Limit, Refused, read
from guardian.incidents import IncidentEvent
from guardian.kin import Guess
from guardian.merge import nothing
from guardian.outlets import Outlets
from guardian.pipeline import Counts, Pipeline, Step
from guardian.polling import Polling
from guardian.publish import Publisher
from guardian.record import Recorder
from guardian.store import Store
from guardian.tables import Conns, FeatureRows, Scores, Sequences
from guardian.today import Rates, Today
from guardian.verdicts import Verdicts
from tests.broker import Broker, broker_in, listening, until
from tests.test_store import DAY, MAC, NOW, conns, device, incident, step

TOPICS = Topics("0a1b2c3d")
ID = "020000000001"
SECOND = 10**9


@dataclass
class Running:
    """A daemon without its interface: time passes as the test says."""

    pipeline: Pipeline
    store: Store
    publisher: Publisher
    polling: Polling
    recorder: Recorder
    outlets: Outlets
    hub: Hub = None  # type: ignore[assignment]
    now: int = 0

    def tick(self, seconds: int = 1) -> list[IncidentEvent]:
        """Let seconds pass as the daemon does; return what was told."""
        told: list[IncidentEvent] = []
        for _ in range(seconds):
            self.now += SECOND
            frames = nothing(self.now)
            for batch in (frames, *self.hub.drill.frames(self.now)):
                made = self.pipeline.step(batch)
                self.hub.saw(made)
                self.recorder.add(made)
                told += made.events
            changed = self.hub.step(self.now)
            told += changed
            self.recorder.tell(changed, self.now)
            self.hub.look_around(self.now)
            self.publisher.update(*self.hub.states(0, self.now))
            self.publisher.step(self.now)
        return told


@pytest.fixture(scope="module")
def bundle() -> bundles.Bundle:
    return bundles.load(bundles.default_path())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "g.db") as made:
        yield made


def run(bundle: bundles.Bundle, store: Store, settings: MqttSettings | None = None) -> Running:
    lan = Lan()
    pipeline = Pipeline(bundle, lan, DeviceTable(lan), alerts_a_week=2, live=True)
    publisher = Publisher(settings or MqttSettings(), store, backoff_s=(0.05, 0.2), birth_s=(0, 0))
    parts = Running(
        pipeline,
        store,
        publisher,
        Polling(store, pipeline),
        Recorder(store, pipeline, publisher),
        Outlets(NotifySettings()),
    )
    parts.now = time.time_ns() // (60 * SECOND) * 60 * SECOND + 10 * SECOND
    known = device(first_seen=parts.now - 9 * DAY, last_seen=parts.now - SECOND)
    step(store, devices=[known], now=parts.now)
    store.commit(parts.now)
    parts.hub = Hub(parts)
    parts.polling.restore(parts.now)
    parts.hub.begin(parts.now)
    return parts


# --- what is understood ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic", "payload", "wanted"),
    [
        ("gateway/drill", "PRESS", Asked("drill")),
        ("gateway/models", "INSTALL", Asked("install")),
        ("gateway/budget", "3", Asked("budget", {"a_week": 3})),
        ("gateway/budget", "3.0", Asked("budget", {"a_week": 3})),
        ("gateway/undo", "PRESS", Asked("undo", last=True)),
        ("gateway/undo", '{"id": "ab"}', Asked("undo", {"command": "ab"})),
        (
            "gateway/feedback",
            '{"incident": "i1", "answer": "bad"}',
            Asked("feedback", {"incident": "i1", "answer": "bad"}),
        ),
        (
            "gateway/allow",
            f'{{"device": "{MAC.upper()}", "peer": "10.1.2.3/8", "for": "2h", "preview": true}}',
            Asked(
                "allow",
                {"device": MAC, "peer": "10.0.0.0/8", "cause": None, "until": NOW + 7200 * SECOND},
                device=MAC,
                preview=True,
            ),
        ),
        (
            f"device/{ID}/snooze",
            "ON",
            Asked("snooze", {"device": MAC, "until": NOW + 86_400 * SECOND}, device=MAC),
        ),
        (
            f"device/{ID}/snooze",
            '{"for": "30m"}',
            Asked("snooze", {"device": MAC, "until": NOW + 1_800 * SECOND}, device=MAC),
        ),
        (f"device/{ID}/snooze", "OFF", Asked("undo", {"command": ""}, device=MAC)),
        (
            f"device/{ID}/fine",
            "PRESS",
            Asked("feedback", {"incident": "", "answer": "fine"}, last=True, device=MAC),
        ),
        (
            f"device/{ID}/name",
            "A\x1b\n B",
            Asked("name", {"device": MAC, "name": "A B"}, device=MAC),
        ),
        (
            f"device/{ID}/link",
            "PRESS",
            Asked("link", {"device": MAC, "old": ""}, last=True, device=MAC),
        ),
        (f"device/{ID}/unlink", "PRESS", Asked("unlink", {"device": MAC}, device=MAC)),
        (f"device/{ID}/forget", "PRESS", Asked("forget", {"device": MAC}, device=MAC)),
    ],
)
def test_commands_that_are_understood(topic: str, payload: str, wanted: Asked) -> None:
    assert read(TOPICS, f"guardian/{topic}/set", payload.encode(), [MAC], NOW) == wanted


@pytest.mark.parametrize(
    ("topic", "payload", "why"),
    [
        ("gateway/drill", "ON", "takes PRESS"),
        ("gateway/budget", "-1", "number"),
        ("gateway/budget", "1e3", "number"),
        ("gateway/budget", "٣", "number"),
        ("gateway/budget", "10001", "number"),
        ("gateway/undo", "[]", "JSON object"),
        ("gateway/undo", '{"id": 5}', "id is no text"),
        ("gateway/undo", "[" * 1000, "JSON object"),
        ("gateway/feedback", '{"incident": "i1", "answer": "maybe"}', "answer is none of"),
        ("gateway/allow", "{}", "all of it cannot be fine"),
        ("gateway/allow", '{"cause": "sin"}', "cause is none of"),
        ("gateway/allow", '{"peer": "a b"}', "no address"),
        ("gateway/allow", '{"cause": "scan", "for": "soon"}', "time span"),
        ("gateway/allow", '{"cause": "scan", "till": "2h"}', "unknown key 'till'"),
        ("gateway/allow", '{"device": "02:00:00:00:00:99"}', "no device"),
        ("gateway/shell", "ls", "no such topic"),
        ("device/020000000099/fine", "PRESS", "no device"),
        (f"device/{ID}/fine", "", "takes PRESS"),
        (f"device/{ID}/link", '{"old": "020000000001"}', "no other device"),
        (f"device/{ID}/snooze", '{"for": "2y"}', "time span"),
        (f"device/{ID}/snooze", "{}", "ON, OFF"),
        (f"device/{ID}/name", "x" * 1025, "bytes"),
    ],
)
def test_commands_that_are_refused(topic: str, payload: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        read(TOPICS, f"guardian/{topic}/set", payload.encode(), [MAC], NOW)


@given(st.text(max_size=60), st.binary(max_size=80))
def test_nothing_that_is_said_raises(topic: str, payload: bytes) -> None:
    for said in (topic, f"guardian/gateway/{topic}/set", "guardian/gateway/allow/set"):
        try:
            asked = read(TOPICS, said, payload, [MAC], NOW)
        except Refused:
            continue
        assert asked.kind


def test_a_loop_in_an_automation_is_slowed() -> None:
    limit = Limit()
    assert sum(limit.take(100.0) for _ in range(50)) == hubcommands.BURST
    assert limit.refused == 50 - hubcommands.BURST
    assert sum(limit.take(100.0 + k) for k in range(1, 21)) == 10


# --- over a real broker -----------------------------------------------------------------


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with broker_in(tmp_path) as made:
        yield made


def press(running: Running, hub: Any, topic: str, payload: str) -> dict[str, Any]:
    """Publish a command and return Guardian's answer."""
    before = len(hub.on("guardian/answer"))
    hub.client.publish(f"guardian/{topic}/set", payload, qos=1)
    wait(running, lambda: len(hub.on("guardian/answer")) > before, f"an answer to {topic}")
    answer: dict[str, Any] = hub.on("guardian/answer")[-1].json()
    assert answer["asked"] == topic
    return answer


def wait(running: Running, condition: Callable[[], Any], what: str) -> None:
    def once() -> Any:
        running.publisher.step(running.now)
        running.recorder.tell(running.hub.step(running.now), running.now)
        running.hub.look_around(running.now)
        running.publisher.update(*running.hub.states(0, running.now))
        return condition()

    until(once, what)


def last(hub: Any, topic: str) -> Any:
    heard = hub.on(topic)
    return heard[-1].json() if heard and heard[-1].payload else None


def test_what_the_hub_says_is_done_shown_and_undone(
    bundle: bundles.Bundle, store: Store, broker: Broker
) -> None:
    state, gateway = f"guardian/device/{ID}/state", "guardian/gateway/state"
    with listening(broker) as hub:
        running = run(bundle, store, broker.settings())
        wait(running, lambda: last(hub, state), "the device is shown")
        step(store, events=[IncidentEvent("opened", incident("i1", updated=running.now))])

        answer = press(running, hub, f"device/{ID}/fine", "PRESS")
        assert answer["ok"]
        assert answer["undo"]
        assert [(r.answer, r.incident, r.author) for r in store.rules(running.now)] == [
            ("fine", "i1", "hub")
        ]
        wait(running, lambda: last(hub, gateway)["rules"] == 1, "it is shown")
        assert last(hub, gateway)["said"][0].startswith("scan of camera is fine until 20")
        assert press(running, hub, "gateway/undo", "PRESS")["ok"]
        assert store.rules(running.now) == []
        assert press(running, hub, "gateway/undo", "PRESS")["said"] == "nothing to take back"

        press(running, hub, f"device/{ID}/snooze", "ON")
        wait(running, lambda: last(hub, state)["snooze"] == "ON", "snoozed")
        assert last(hub, state)["snoozed_until"].endswith("+00:00")
        press(running, hub, f"device/{ID}/snooze", "OFF")
        wait(running, lambda: last(hub, state)["snooze"] == "OFF", "awake")

        press(running, hub, f"device/{ID}/name", "Küche #1")
        wait(running, lambda: last(hub, state)["name"] == "Küche #1", "named")
        assert store.names() == {MAC: "Küche #1"}
        press(running, hub, f"device/{ID}/name", "")
        wait(running, lambda: last(hub, state)["name"] == "camera", "the learned name again")

        press(running, hub, "gateway/budget", "7")
        wait(running, lambda: last(hub, gateway)["budget"] == 7, "the budget")
        again = Polling(store, run(bundle, store).pipeline)
        again.restore(running.now)
        assert again._pipeline.incidents.settings.a_week == 7  # also after a restart

        covered = press(running, hub, "gateway/allow", '{"peer": "10.9.9.9", "preview": true}')
        assert covered["said"] == "of the 1 incidents so far, 1 would not have been told"
        assert store.rules(running.now) == []
        running.publisher.close(running.now)


def test_what_is_wrong_is_answered_and_what_is_retained_is_not_obeyed(
    bundle: bundles.Bundle, store: Store, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    with listening(broker) as hub:
        hub.client.publish("guardian/gateway/drill/set", "PRESS", qos=1, retain=True)
        running = run(bundle, store, broker.settings())
        wait(running, lambda: "not obeyed" in caplog.text, "the retained one is seen")
        assert not running.hub.drill.running
        assert hub.on("guardian/answer") == []
        answer = press(running, hub, "device/ffffffffffff/fine", "PRESS")
        assert (answer["ok"], answer["undo"]) == (False, None)
        assert "no device" in answer["said"]
        answer = press(running, hub, f"device/{ID}/bad", "PRESS")
        assert answer["said"] == "the device had no incident within a week"
        answer = press(running, hub, "gateway/models", "INSTALL")
        assert not answer["ok"]
        for _ in range(20):
            hub.client.publish("guardian/gateway/budget/set", "x", qos=1)
        said = "too many commands: wait a moment"
        wait(
            running, lambda: any(h.json()["said"] == said for h in hub.on("guardian/answer")), said
        )
        running.publisher.close(running.now)


def test_a_question_is_shown_and_answered(
    bundle: bundles.Bundle, store: Store, broker: Broker
) -> None:
    """A phone under another MAC: asked, linked by the hub, and one device from then on."""
    gateway, other = "guardian/gateway/state", "02:00:00:00:00:02"
    with listening(broker) as hub:
        running = run(bundle, store, broker.settings())
        phone = device(
            other, first_seen=running.now, last_seen=running.now, addresses=("192.168.1.77",)
        )
        running.pipeline.devices.load([phone])
        running.pipeline.devices.asked[other] = Guess(other, MAC, "it calls itself the same")
        wait(running, lambda: last(hub, gateway) and last(hub, gateway)["questions"], "asked")
        assert last(hub, gateway)["asked"][0].startswith("Is camera (02:00:00:00:00:02) the device")
        assert press(running, hub, "device/020000000002/link", "PRESS")["said"] == "done"
        wait(running, lambda: last(hub, gateway)["questions"] == 0, "answered")
        wait(running, lambda: last(hub, f"guardian/device/{ID}/state")["macs"] == [other], "one")
        config = last(hub, f"homeassistant/device/guardian_{ID}/config")
        assert config["dev"]["cns"] == [["mac", MAC], ["mac", other]]
        wait(
            running,
            lambda: hub.on("homeassistant/device/guardian_020000000002/config")[-1].payload == "",
            "the other is gone",
        )
        assert not press(running, hub, f"device/{ID}/link", "PRESS")["ok"]
        running.publisher.close(running.now)


def test_a_change_of_habits_is_shown_quietly_for_four_weeks(
    bundle: bundles.Bundle, store: Store, broker: Broker
) -> None:
    """As an attribute of the state, kept over a restart; it rings nowhere and can be taken back."""
    state = f"guardian/device/{ID}/state"
    with listening(broker) as hub:
        running = run(bundle, store, broker.settings())
        wait(running, lambda: last(hub, state), "shown")
        assert last(hub, state)["changed"] is None
        part = last(hub, f"homeassistant/device/guardian_{ID}/config")["cmps"]["state"]
        assert part["json_attributes_topic"] == state
        for key in ("changed", "changed_what"):
            assert f"value_json.{key}" in part["json_attributes_template"]
        homes = running.pipeline.incidents.homes
        home = homes.fresh(running.now)
        homes.put(MAC, home)
        assert home.weeks
        home.weeks.changed = (running.now - SECOND, [{"name": "bytes_out", "more": True}])
        running.polling.poll(running.now)
        wait(running, lambda: last(hub, state)["changed"], "told")
        assert "(higher)" in last(hub, state)["changed_what"]
        assert last(hub, state)["state"] != "alert"
        assert not any(h.topic.endswith(("/incident", "/answer")) for h in hub.heard)

        again = run(bundle, store)
        assert again.hub.states(0, running.now)[1][0].changed_what
        weeks = 28 * DAY
        assert not again.hub.states(0, running.now + weeks)[1][0].changed_what
        again.polling.keeper.unlearn(MAC)
        assert not again.hub.states(0, running.now)[1][0].changed_what
        running.publisher.close(running.now)


def test_a_hub_that_only_looks(bundle: bundles.Bundle, store: Store, broker: Broker) -> None:
    with listening(broker) as hub:
        running = run(bundle, store, broker.settings(commands=False))
        wait(running, lambda: last(hub, "guardian/gateway/state"), "shown")
        hub.client.publish("guardian/gateway/drill/set", "PRESS", qos=1)
        running.tick(3)
        time.sleep(0.2)
        running.tick(1)
        assert not running.hub.drill.running
        config = last(hub, f"homeassistant/device/guardian_{store.installation}/config")
        assert not any("command_topic" in part for part in config["cmps"].values())
        running.publisher.close(running.now)


def test_a_forgotten_device_is_gone_and_comes_back_as_new(
    bundle: bundles.Bundle, store: Store, broker: Broker
) -> None:
    config = f"homeassistant/device/guardian_{ID}/config"
    with listening(broker) as hub:
        running = run(bundle, store, broker.settings())
        wait(running, lambda: last(hub, config), "shown")
        press(running, hub, f"device/{ID}/forget", "PRESS")
        wait(running, lambda: hub.on(config)[-1].payload == "", "taken off")
        assert store.devices() == []
        running.pipeline.devices.load([device(first_seen=running.now, last_seen=running.now)])
        wait(running, lambda: last(hub, config), "shown again")
        running.now += 11 * SECOND
        wait(running, lambda: hub.on(f"guardian/device/{ID}/new"), "new")
        assert hub.on("guardian/gateway/new_device")[-1].json()["mac"] == MAC
        running.publisher.close(running.now)


def test_a_device_that_comes_back_while_its_removal_waits_is_shown(
    bundle: bundles.Bundle, store: Store, tmp_path: Path
) -> None:
    """The broker is away: it is forgotten, and seen again before the removal could be sent."""
    broker = Broker(tmp_path)
    running = run(bundle, store, MqttSettings(host="127.0.0.1", port=broker.port))
    running.tick(2)
    running.hub.forget(MAC)
    running.tick(2)
    assert store.outbox.waiting() == 2
    running.pipeline.devices.load([device(first_seen=running.now, last_seen=running.now)])
    running.tick(1)
    broker.start()
    try:
        with listening(broker) as hub:
            wait(running, lambda: not store.outbox.waiting(), "the removal is sent")
            config = f"homeassistant/device/guardian_{ID}/config"
            wait(running, lambda: last(hub, config), "shown all the same")
            running.publisher.close(running.now)
    finally:
        broker.stop()


def test_a_forgotten_device_is_not_written_by_a_later_commit(store: Store) -> None:
    step(store, devices=[device()])
    store.commit(NOW)
    step(store, devices=[device(last_seen=NOW + 90 * SECOND)], now=NOW + SECOND)  # waits
    store.forget_device(MAC)
    store.commit(NOW + 2 * SECOND)
    assert store.devices() == []
    step(store, devices=[device(last_seen=NOW + 91 * SECOND)], now=NOW + 3 * SECOND)
    store.commit(NOW + 4 * SECOND)
    assert [d.key for d in store.devices()] == [MAC]  # it is still there, after all


# --- new devices ---------------------------------------------------------------------------


def new_devices(running: Running) -> list[str]:
    rows = running.store._db.execute(
        "SELECT payload FROM outbox WHERE topic = 'guardian/gateway/new_device'"
    )
    return [json.loads(row[0])["mac"] for row in rows]


def test_new_devices_are_told_of_once_named_and_not_in_the_first_day(
    bundle: bundles.Bundle, store: Store
) -> None:
    running = run(bundle, store, MqttSettings(host="127.0.0.1", port=9))
    home = running.hub._home_since
    early, late = "02:00:00:00:00:02", "02:00:00:00:00:03"
    running.pipeline.devices.load(
        [
            device(early, first_seen=home + DAY - SECOND, last_seen=running.now),
            device(late, first_seen=running.now, last_seen=running.now, addresses=("192.168.1.9",)),
        ]
    )
    running.tick(9)
    assert new_devices(running) == []  # DHCP may yet name it
    running.tick(3)
    assert new_devices(running) == [late]
    running.tick(30)
    assert new_devices(running) == [late]
    flood = [f"02:00:00:01:00:{k:02x}" for k in range(60)]
    running.pipeline.devices.load(
        [device(mac, first_seen=running.now, last_seen=running.now, addresses=()) for mac in flood]
    )
    running.tick(12)
    assert len(new_devices(running)) == 20


# --- drills ----------------------------------------------------------------------------------


def test_the_drills_frames_are_right_and_of_nobody() -> None:
    frames = firedrill.frames(0, firedrill.SYNS, NOW)
    decoded = Decoder().decode(frames)
    p = decoded.packets
    assert len(p) == firedrill.SYNS
    assert not p.bad_csum.any()
    assert decoded.malformed == 0
    assert set(p.dport.tolist()) == {23}
    assert len(np.unique(p.dst, axis=0)) == firedrill.SYNS
    assert Lan().local(p.src).all()
    assert not Lan().local(p.dst).any()


def test_a_drill_rings_and_leaves_nothing(bundle: bundles.Bundle, store: Store) -> None:
    running = run(bundle, store, MqttSettings(host="127.0.0.1", port=9))
    before = [d.key for d in running.pipeline.devices.devices()]
    running.hub.drill.start()
    with pytest.raises(KeyError, match="runs already"):
        running.hub.drill.start()
    told = running.tick(12)
    assert store.names() == {DRILL_MAC: "Fire drill"}  # as the command line calls it
    told += running.tick(48)
    assert [e.change for e in told if e.told] == ["opened", "escalated", "closed"]
    assert {e.incident.device.name for e in told} == {"Fire drill"}
    assert running.hub.drill.said.partition(": ")[2].startswith("worked: told")
    assert running.hub.drill.last
    sent = [m.message for m in store.outbox.pending(0, 100) if m.message.kind == "incident"]
    assert len(sent) == 3
    assert all(json.loads(m.payload)["drill"] for m in sent)
    assert [d.key for d in running.pipeline.devices.devices()] == before
    assert [d.key for d in store.devices()] == before
    assert store.told(0) == []
    assert running.pipeline.incidents.week.told == []  # the week's alerts are untouched
    assert running.hub.states(0, running.now)[0].devices == 1
    config = f"homeassistant/device/guardian_{DRILL_MAC.replace(':', '')}/config"
    waits = {m.message.topic: m.message.payload for m in store.outbox.pending(0, 100)}
    assert waits[config] == ""
    running.hub.drill.start()
    assert next(e.change for e in running.tick(60) if e.told) == "opened"


def test_a_drill_rings_also_where_the_weeks_alerts_are_spent(
    bundle: bundles.Bundle, store: Store
) -> None:
    running = run(bundle, store)
    for name in ("a", "b"):
        step(store, events=[IncidentEvent("opened", incident(name, updated=running.now))])
    running.polling.count_told(running.now)
    assert len(running.pipeline.incidents.week.told) == 2
    running.hub.drill.start()
    assert "opened" in [e.change for e in running.tick(60) if e.told]
    assert len(running.pipeline.incidents.week.told) == 2


def test_a_drill_whose_calls_a_busy_machine_tears_apart_calls_again(
    bundle: bundles.Bundle, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The models say nothing, and the calls fall into two minutes: 80 and 40 of them."""
    running = run(bundle, store)
    scorer = running.pipeline._scorer
    score = scorer.score

    def silent(sequences: Sequences) -> Scores:
        found = score(sequences)
        return replace(found, threat=np.zeros_like(found.threat))

    monkeypatch.setattr(scorer, "score", silent)
    running.now += 10 * SECOND  # the 20th second of a minute
    running.hub.drill.start()
    running.tick(5)
    running.now += 40 * SECOND
    running.tick(1)
    assert running.hub.drill.said == "running"
    running.tick(60)
    assert running.hub.drill.said.partition(": ")[2].startswith("worked: told")


def test_a_drill_that_nobody_hears_says_so(bundle: bundles.Bundle, store: Store) -> None:
    running = run(bundle, store)
    running.hub.drill.start()
    running.hub.drill._sent = firedrill.ROUNDS * firedrill.SYNS
    running.tick(1)
    running.hub.drill._sent = firedrill.ROUNDS * firedrill.SYNS  # as if all frames were lost
    running.tick(int(firedrill.GIVE_UP_S) + 2)
    assert ": failed: nobody was told" in running.hub.drill.said
    assert not running.hub.drill.running
    assert running.hub.drill.last == 0


def test_a_drill_without_an_interface_fails(bundle: bundles.Bundle, store: Store) -> None:
    running = run(bundle, store)
    running.hub.drill.start()
    for _ in range(int(firedrill.GIVE_UP_S) + 2):  # the daemon reads nothing, and goes on
        running.now += SECOND
        running.hub.step(running.now)
    assert ": failed: no interface is up" in running.hub.drill.said
    assert not running.hub.drill.running


# --- models ---------------------------------------------------------------------------------


def test_a_bundle_laid_ready_is_offered_unless_it_cannot_be_taken(
    bundle: bundles.Bundle, store: Store
) -> None:
    @dataclass
    class Looker:
        laid: Ready | None = None
        busy: bool = False

        def look(self) -> Ready | None:
            return self.laid

    def shown() -> tuple[bool, str, bool]:
        models = running.hub.states(0, running.now)[0].models
        assert models is not None
        return models.installed != models.latest, models.summary, models.in_progress

    running = run(bundle, store)
    assert shown() == (False, "", False)
    running.hub.ready = looker = Looker()
    assert shown() == (False, "", False)
    looker.laid = Ready(bundle.name, bundle.version, "abcdef0123", "new lines")
    assert shown() == (True, "new lines", False)
    looker.busy = True
    assert shown() == (True, "new lines", True)
    looker.laid = replace(looker.laid, fault="the key is another")
    assert shown() == (False, "What lies ready is not taken: the key is another", False)


# --- figures ----------------------------------------------------------------------------------


def made_step(slices: Conns, devices: list[int], anomaly: list[float], now: int) -> Step:
    n = len(slices)
    rows = FeatureRows.blank(n)
    rows.device[:] = devices
    rows.row[:] = np.arange(n)
    rows.outbound[:] = True
    scores = Scores.blank(n)
    scores.anomaly[:] = anomaly
    return Step(slices, Verdicts.empty(), slices, rows, scores, [], now)


def test_a_days_figures_are_those_of_the_slices() -> None:
    lan = Lan()
    devices = DeviceTable(lan)
    other = "02:00:00:00:00:02"
    devices.load([device(), device(other, addresses=())])
    one, two = devices.index(MAC), devices.index(other)
    slices = conns(4)
    slices.piece[:] = [0, 1, 0, 0]
    slices.orig_ip_bytes[:] = [10, 20, 30, 40]
    slices.resp_ip_bytes[:] = 1
    today = Today(utc_offset_s=7_200)
    now = today.begin(NOW) + 3_600 * SECOND
    today.restore([(MAC, 5, 1_000)], now)
    today.add(made_step(slices, [one, one, two, one], [0.5, 2.0, 0.1, 1.0], now), devices)
    assert today.of(MAC, now) == (5 + 2, 1_000 + 73, 2.0)
    assert today.of(other, now)[:2] == (1, 31)
    assert today.of(other, now)[2] == pytest.approx(0.1)
    assert today.of("nobody", now) == (0, 0, 0.0)
    assert today.of(MAC, now + 3_600 * SECOND)[2] == 2.0  # the hour before counts
    assert today.of(MAC, now + 7_200 * SECOND)[2] == 0.0
    midnight = today.begin(now) + DAY
    assert today.of(MAC, midnight - 1)[0] == 7
    assert today.of(MAC, midnight)[:2] == (0, 0)
    today.add(made_step(slices, [two] * 4, [0.1] * 4, midnight), devices)
    assert today.of(other, midnight)[:2] == (3, 104)


def test_rates_are_those_of_the_last_minute() -> None:
    rates = Rates()
    assert rates.add(0.0, 1_000, 10) == (0.0, 0.0)
    assert rates.add(10.0, 2_000, 20) == (100.0, 1.0)
    for second in range(20, 200, 10):
        found = rates.add(second, 2_000, 20)
    assert found == (0.0, 0.0)


def test_blind_spots() -> None:
    lan = Lan()
    devices = DeviceTable(lan)
    devices.load([device()])
    spots = BlindSpots()
    assert spots.seen(NOW).spots == ()
    slices = conns(4)
    slices.resp_p[:] = [853, 443, 443, 443]
    slices.host[1] = b"Dns.Google"
    slices.host[2] = b"example.org"
    slices.resp[3] = pack("9.9.9.9")
    assert encrypted_dns(slices).tolist() == [True, True, False, True]
    inside = replace(slices, local_resp=np.ones(4, dtype=np.bool_))
    assert not encrypted_dns(inside).any()
    spots.add(made_step(slices, [devices.index(MAC)] * 4, [0] * 4, NOW), devices)
    assert "1 device asks" in spots.seen(NOW).spots[0]
    assert spots.seen(NOW + DAY).spots == ()

    half = conns(40)
    half.orig_bytes[:] = 100
    half.resp_pkts[:] = np.arange(40) % 2
    assert one_sided(half).sum() == 20
    spots = BlindSpots()
    spots.add(made_step(half, [0] * 40, [0] * 40, NOW), devices)
    seen = spots.seen(NOW)
    assert seen.one_sided == 50.0
    assert "50 % of the connections" in seen.spots[0]
    assert spots.seen(NOW + 25 * 3_600 * SECOND).one_sided == 0.0

    spots = BlindSpots()
    spots.count(Counts(packets=1_000, malformed=100), 2, NOW)
    assert [s.split()[0] for s in spots.seen(NOW).spots] == ["2", "100"]
    spots.count(Counts(packets=9_000, malformed=100, arp_unseen=7), 2, NOW + DAY)
    assert spots.seen(NOW + DAY).spots == (
        "7 ARP packets of the last day, which came in floods, were not looked at",
    )


# --- documents ----------------------------------------------------------------------------------


class Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML with Home Assistant's !input."""


Loader.add_constructor("!input", lambda loader, node: f"!input {loader.construct_scalar(node)}")

BLUEPRINTS = Path(__file__).parent.parent / "docs" / "blueprints"


def test_the_blueprint_uses_what_guardian_says_and_hears() -> None:
    text = (BLUEPRINTS / "phone.yaml").read_text()
    found = yaml.load(text, Loader)
    inputs = set(found["blueprint"]["input"])
    assert found["blueprint"]["domain"] == "automation"
    used = {word.split()[1] for word in _scalars(found) if word.startswith("!input")}
    assert used == inputs
    wildcard = TOPICS.incident("x").replace("key_2d711642b726", "+")
    assert found["triggers"][0]["topic"] == "{{ prefix ~ '/device/+/incident' }}"
    assert wildcard == "guardian/device/+/incident"
    for what in ("feedback", "snooze"):
        topic = TOPICS.gateway_set(what) if what == "feedback" else TOPICS.device_set(MAC, what)
        assert f"/{topic.split('/')[-2]}/set" in text


def _scalars(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _scalars(item)
    elif isinstance(value, list):
        for item in value:
            yield from _scalars(item)
    elif isinstance(value, str):
        yield value


def test_the_card_is_one() -> None:
    card = yaml.safe_load((BLUEPRINTS / "dashboard.yaml").read_text())
    assert card["type"] == "markdown"
    for part in ("running", "blind_spots", "threat", "incident"):
        assert f"_{part}" in card["content"]

"""The publisher against a real mosquitto: births, refusals, absences, order."""

from __future__ import annotations

import json
import logging
import random
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from guardian import broker as brokers
from guardian import leftovers, publish
from guardian.config import MqttSettings
from guardian.const import NS
from guardian.errors import ConfigError
from guardian.incidents import IncidentEvent
from guardian.publish import BrokerError, Publisher, check_broker
from guardian.schema import StoreError
from guardian.store import Store
from tests.broker import Broker, Cutter, broker_in, free_port, listening, until
from tests.test_discovery import DEVICE, GATEWAY
from tests.test_store import MAC, NOW, incident, killed, step

EVENTS = "guardian/device/020000000001/incident"
CONFIG = "homeassistant/device/guardian_020000000001/config"
STATE = "guardian/device/020000000001/state"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with broker_in(tmp_path) as made:
        yield made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "g.db") as made:
        yield made


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [t for t in threading.enumerate() if t not in before]
    assert not left


def publisher(settings: MqttSettings, store: Store, **options: Any) -> Publisher:
    quick: dict[str, Any] = {"backoff_s": (0.05, 0.2), "birth_s": (0, 0.1), "settle_s": 0}
    return Publisher(settings, store, **(quick | options))


def drive(p: Publisher, condition: Callable[[], Any], what: str, now: int = NOW) -> None:
    """Step as the daemon does until the condition holds."""

    def once() -> Any:
        p.step(now)
        return condition()

    until(once, what)


def cut(p: Publisher) -> None:
    """End the connection as a lost network does, without a word."""
    sock: Any = p._client.socket() if p._client else None
    sock.shutdown(2)


def announce(p: Publisher, store: Store, name: str, now: int = NOW, change: Any = "opened") -> None:
    event = IncidentEvent(change, incident(name))
    step(store, events=[event], messages=p.announce([event]), now=now)


def ids(heard: list[Any]) -> list[str]:
    return [h.json()["id"] for h in heard]


def test_states_incidents_and_a_clean_exit(broker: Broker, store: Store) -> None:
    with listening(broker) as hub:
        p = publisher(broker.settings(), store)
        p.update(GATEWAY, [DEVICE])
        announce(p, store, "i1")
        drive(p, lambda: hub.on(EVENTS) and not store.outbox.waiting(), "the incident is told")
        assert hub.on("guardian/status")[0].payload == "online"
        told = hub.on(EVENTS)[0]
        assert (told.qos, told.retain, told.json()["event_type"]) == (1, False, "opened")
        assert {"late", "repeat"}.isdisjoint(told.json())
        order = [h.topic for h in hub.heard]
        assert order.index("homeassistant/device/guardian_" + store.installation + "/config") < (
            order.index(CONFIG)
        )
        assert order.index(CONFIG) < order.index(STATE) < order.index(EVENTS)
        p.close(NOW)
        until(lambda: hub.on("guardian/status")[-1].payload == "offline", "says offline")
    with listening(broker) as late:
        until(lambda: late.on(STATE) and late.on(CONFIG), "states are retained")
        assert late.on("guardian/status")[0].payload == "offline"
        assert all(h.retain for h in late.heard)
        assert late.on(EVENTS) == []


def test_nothing_is_sent_without_a_broker(store: Store) -> None:
    with Publisher(MqttSettings(), store) as p:
        p.update(GATEWAY, [DEVICE])
        assert p.announce([IncidentEvent("opened", incident())]) == []
        p.step(NOW)
        assert not any("paho" in t.name for t in threading.enumerate())
    assert store.outbox.waiting() == 0


def test_the_last_will(broker: Broker, store: Store) -> None:
    with listening(broker, "guardian/status") as hub:
        p = publisher(broker.settings(), store)
        drive(p, lambda: hub.heard, "online")
        cut(p)  # as if the gateway lost its power
        until(lambda: hub.heard[-1].payload == "offline", "the broker tells the last will")
        drive(p, lambda: hub.heard[-1].payload == "online", "comes back")
        p.close(NOW)


def test_only_changes_are_sent_and_threats_at_once(broker: Broker, store: Store) -> None:
    with listening(broker, "guardian/device/#") as hub:
        p = publisher(broker.settings(), store, state_s=1000)
        p.update(GATEWAY, [DEVICE])
        drive(p, lambda: len(hub.heard) == 1, "the first state")
        p.update(GATEWAY, [replace(DEVICE, score=0.5)])  # a figure can wait
        p.step(NOW)
        p.update(GATEWAY, [replace(DEVICE, score=0.9, threat=True, state="alert")])
        drive(p, lambda: len(hub.heard) == 2, "the threat")
        assert hub.heard[1].json()["threat"] == "ON"
        p.step(NOW)
        p.close(NOW)
        assert len(hub.heard) == 2


def test_the_hub_is_told_again_when_it_is_born(broker: Broker, store: Store) -> None:
    with listening(broker) as hub:
        p = publisher(broker.settings(), store)
        p.update(GATEWAY, [DEVICE])
        drive(p, lambda: hub.on(STATE), "the first discovery")
        time.sleep(0.2)
        p.step(NOW)
        assert len(hub.on(CONFIG)) == 1
        hub.client.publish("homeassistant/status", "offline")
        hub.client.publish("homeassistant/status", "online")
        drive(p, lambda: len(hub.on(STATE)) == 2, "discovery and states again")
        assert len(hub.on(CONFIG)) == 2
        p.close(NOW)


def test_a_broker_that_was_away_gets_all_in_order_marked_late(broker: Broker, store: Store) -> None:
    p = publisher(broker.settings(), store)
    with listening(broker) as hub:
        announce(p, store, "i0")
        drive(p, lambda: hub.on(EVENTS) and not store.outbox.waiting(), "the first")
    broker.stop()
    drive(p, lambda: not p.connected, "the loss is noticed")
    for n in range(1, 251):
        announce(p, store, f"i{n}", NOW + n)
        if n % 50 == 0:
            p.step(NOW + n)
    assert store.outbox.waiting() == 250
    broker.start()
    with listening(broker, EVENTS) as hub:
        much_later = NOW + 3600 * 10**9
        drive(p, lambda: len(hub.heard) >= 250 and not store.outbox.waiting(), "all", much_later)
        assert ids(hub.heard) == [f"i{n}" for n in range(1, 251)]
        assert all(h.json()["late"] is True for h in hub.heard)
        p.close(much_later)


def test_what_was_not_acknowledged_is_repeated_in_order(broker: Broker, store: Store) -> None:
    with listening(broker, EVENTS) as hub:
        p = publisher(broker.settings(), store)
        drive(p, lambda: p.connected, "connects")
        assert p._client
        p._client.on_publish = None  # acknowledgements are lost
        for n in range(3):
            announce(p, store, f"i{n}")
        drive(p, lambda: len(hub.heard) == 3, "all three")
        assert store.outbox.waiting() == 3
        cut(p)
        drive(p, lambda: not store.outbox.waiting(), "again")
        until(lambda: len(hub.heard) == 6, "the repeated ones")
        p.close(NOW)
        assert ids(hub.heard) == ["i0", "i1", "i2"] * 2
        assert [h.json().get("repeat", False) for h in hub.heard] == [False] * 3 + [True] * 3


@pytest.mark.slow
def test_a_line_that_is_cut_anywhere_loses_nothing_and_keeps_the_order(
    broker: Broker, store: Store
) -> None:
    lengths = random.Random(4).choices(range(50, 30_000), k=25)
    line = Cutter(broker, lengths)
    with listening(broker, EVENTS) as hub:
        p = publisher(replace(broker.settings(), port=line.port), store)
        for n in range(300):
            announce(p, store, f"i{n}", NOW + n)
        drive(p, lambda: not store.outbox.waiting(), "all of them")
        until(lambda: "i299" in ids(hub.heard), "the last one")
        p.close(NOW)
        line.close()
        assert line.cuts > 5
        assert list(dict.fromkeys(ids(hub.heard))) == [
            f"i{n}" for n in range(300)
        ]  # the first hearing of each, in order
        again = [h for n, h in enumerate(hub.heard) if h.json()["id"] in set(ids(hub.heard[:n]))]
        assert all(h.json()["repeat"] for h in again)


def test_an_acknowledgement_that_cannot_be_written_waits_for_the_next_turn(
    broker: Broker, store: Store
) -> None:
    """Another program holds the file: states are shown all the same, and nothing is sent again."""
    store._db.execute("PRAGMA busy_timeout = 20")
    with listening(broker) as hub, closing(sqlite3.connect(store.path)) as other:
        p = publisher(broker.settings(), store)
        drive(p, lambda: p.connected and not p._unanswered, "the broker has the birth")
        announce(p, store, "i1")
        drive(p, lambda: p._in_flight, "it is sent")
        other.execute("BEGIN IMMEDIATE")
        p.update(GATEWAY, [DEVICE])

        def fails() -> bool:
            try:
                p.step(NOW)
            except StoreError:
                return True
            return False

        until(fails, "the broker has it")
        assert fails()
        until(lambda: hub.on(STATE), "how things are is shown")
        other.rollback()
        p.step(NOW)
        assert store.outbox.waiting() == 0
        p.close(NOW)
        assert ids(hub.on(EVENTS)) == ["i1"]
        assert store._db.execute("SELECT tries FROM outbox").fetchall() == [(1,)]


def test_a_killed_daemon_repeats_nothing_that_was_acknowledged(
    broker: Broker, tmp_path: Path
) -> None:
    path = tmp_path / "killed.db"
    with listening(broker, EVENTS) as hub:
        store = Store(path)
        p = publisher(broker.settings(), store)
        announce(p, store, "told")
        drive(p, lambda: hub.heard and not store.outbox.waiting(), "the first")
        announce(p, store, "untold")
        killed(store)  # the second was committed, not sent
        p._client and p._client.disconnect()
        with Store(path) as again:
            second = publisher(broker.settings(), again)
            drive(second, lambda: not again.outbox.waiting(), "the second")
            until(lambda: len(hub.heard) == 2, "is heard")
            second.close(NOW)
        assert ids(hub.heard) == ["told", "untold"]
        assert "repeat" not in hub.heard[1].json()
        p._client and p._client.loop_stop()


def test_a_refusing_broker_is_one_sentence_and_the_daemon_goes_on(
    tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with broker_in(tmp_path, user="guardian", password="right") as broker:
        p = publisher(broker.settings(username="guardian", password="wrong"), store)
        announce(p, store, "i1")
        end = time.monotonic() + 1.5
        attempts = 0
        while time.monotonic() < end:
            before = p._client
            p.step(NOW)
            attempts += p._client is not None and p._client is not before
            time.sleep(0.01)
        assert attempts >= 3
        assert not p.connected
        said = [r.getMessage() for r in caplog.records if r.name == "guardian.publish"]
        assert len(said) == 1
        assert "refused the user name or password" in said[0]
        assert store.outbox.waiting() == 1
        p._settings = broker.settings(username="guardian", password="right")
        with listening(broker) as hub:
            drive(p, lambda: hub.on(EVENTS), "the right password")
            assert "is back" in caplog.records[-1].getMessage()
            p.close(NOW)


def test_no_broker_at_all(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    p = publisher(MqttSettings(host="127.0.0.1", port=free_port()), store)
    drive(p, lambda: caplog.records, "it is said")
    end = time.monotonic() + 1
    while time.monotonic() < end:
        p.step(NOW)
        time.sleep(0.01)
    assert len(caplog.records) == 1
    assert "Connection refused" in caplog.records[0].getMessage()
    started = time.monotonic()
    p.close(NOW)
    assert time.monotonic() - started < 3


def test_a_step_never_waits(store: Store) -> None:
    """A host that takes the connection and says nothing, and one that swallows it."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        p = publisher(MqttSettings(host="127.0.0.1", port=silent.getsockname()[1]), store)
        for _ in range(20):
            started = time.monotonic()
            p.step(NOW)
            assert time.monotonic() - started < 1  # a connection attempt may take 5
            time.sleep(0.01)
        p.close(NOW)


def test_a_forgotten_device_leaves_the_broker(broker: Broker, store: Store) -> None:
    p = publisher(broker.settings(), store)
    p.update(GATEWAY, [DEVICE])
    drive(p, lambda: STATE in p._states.told, "is shown")
    p.update(GATEWAY, [])
    step(store, messages=p.forget([DEVICE.key]))
    drive(p, lambda: not store.outbox.waiting(), "is taken away")
    with listening(broker) as hub:
        until(lambda: hub.on("guardian/gateway/state"), "retained messages")
        assert hub.on(STATE) == hub.on(CONFIG) == []
    p.close(NOW)


def test_what_an_earlier_run_left_is_taken_off(
    broker: Broker, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that the database lost; those of others, and of another Guardian, stay."""
    monkeypatch.setattr(leftovers, "LISTEN_S", 0.3)
    p = publisher(broker.settings(), store)
    gone = replace(DEVICE, key="02:00:00:00:00:09", mac="02:00:00:00:00:09")
    p.update(GATEWAY, [DEVICE, gone])
    drive(p, lambda: len(p._states.told) >= 7, "both are shown")
    p.close(NOW)
    foreign = {
        "homeassistant/device/zigbee/config": {"o": {"name": "zigbee2mqtt"}, "dev": {}},
        "homeassistant/device/guardian_0000/config": {
            "o": {"name": "Guardian"}, "dev": {"via_device": "guardian_ffffffff"},
        },
        "homeassistant/device/broken/config": ["x"],
    }  # fmt: skip
    with listening(broker) as hub:
        for topic, payload in foreign.items():
            hub.client.publish(topic, json.dumps(payload), qos=1, retain=True)
        again = publisher(broker.settings(), store)
        again.update(GATEWAY, [DEVICE])
        drive(again, lambda: again.connected and again._left is None, "it looked")
        until(lambda: hub.heard[-1].topic == "guardian/device/020000000009/state", "taken off")
        again.close(NOW)
    with listening(broker) as hub:
        until(lambda: hub.on(CONFIG) and hub.on(STATE), "the known one stays")
        kept = {h.topic for h in hub.heard}
        assert foreign.keys() <= kept
        assert not any("020000000009" in topic for topic in kept)


def test_invented_devices_do_not_flood_the_hub(store: Store) -> None:
    p = publisher(MqttSettings(host="127.0.0.1"), store)
    home = [replace(DEVICE, key=f"ip:10.0.0.{n}") for n in range(200)]
    p.update(GATEWAY, home)
    flood = [replace(DEVICE, key=f"ip:10.9.{n >> 8}.{n & 255}") for n in range(4_000)]
    guilty = replace(DEVICE, key="ip:10.8.0.1", threat=True)
    p.update(GATEWAY, [*flood, *home, guilty])
    assert {d.key for d in home} < p._states.devices
    assert guilty.key in p._states.devices
    assert len(p._states.devices) == publish.MAX_HUB_DEVICES + 1
    assert p.hidden == 4_201 - len(p._states.devices)


# --- TLS -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=tmp_path)

    for name in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-days", "9", "-subj", f"/CN={name}", "-keyout", f"{name}.key",
                "-out", f"{name}.crt")  # fmt: skip
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
            "/CN=127.0.0.1", "-keyout", "b.key", "-out", "b.csr")  # fmt: skip
    (tmp_path / "san").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", "b.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-days", "9",
            "-extfile", "san", "-out", "b.crt")  # fmt: skip
    return tmp_path


def test_tls(certificates: Path, store: Store) -> None:
    folder = certificates
    with broker_in(folder, certificate=folder / "b.crt", key=folder / "b.key") as broker:
        good = broker.settings(ca=str(folder / "ca.crt"))
        check_broker(good)
        p = publisher(good, store)
        announce(p, store, "i1")
        drive(p, lambda: not store.outbox.waiting(), "the incident over TLS")
        p.close(NOW)
        with pytest.raises(BrokerError):
            check_broker(broker.settings())  # no TLS where TLS is spoken


def test_a_client_certificate(certificates: Path, store: Store) -> None:
    folder = certificates
    with broker_in(
        folder, certificate=folder / "b.crt", key=folder / "b.key", ca=folder / "ca.crt"
    ) as broker:
        ca = str(folder / "ca.crt")
        mine = broker.settings(
            ca=ca, certificate=str(folder / "b.crt"), certificate_key=str(folder / "b.key")
        )
        check_broker(mine)
        p = publisher(mine, store)
        announce(p, store, "i1")
        drive(p, lambda: not store.outbox.waiting(), "the incident with a certificate")
        p.close(NOW)
        with pytest.raises(BrokerError):
            check_broker(broker.settings(ca=ca))
        foreign = replace(
            mine, certificate=str(folder / "other.crt"), certificate_key=str(folder / "other.key")
        )
        with pytest.raises(BrokerError):
            check_broker(foreign)


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")
@pytest.mark.parametrize("version", ["3.1.1", "5"])
@pytest.mark.parametrize("transport", ["tcp", "websockets"])
@pytest.mark.parametrize("known_by", ["password", "certificate"])
def test_versions_transports_and_tls(
    certificates: Path, tmp_path: Path, store: Store, version: str, transport: str, known_by: str
) -> None:
    """Births, incidents, refusals and the last will are the same whatever carries them."""
    cert, key, ca = (certificates / name for name in ("b.crt", "b.key", "ca.crt"))
    options: dict[str, Any] = {"user": "u", "password": "p"}
    settings: dict[str, Any] = {"username": "u", "password": "p"}
    wrong: dict[str, Any] = {"password": "x"}
    why = "refused the user name or password"
    if known_by == "certificate":
        options = {"certificate": cert, "key": key, "ca": ca}
        settings = {"ca": str(ca), "certificate": str(cert), "certificate_key": str(key)}
        wrong, why = {"certificate": "", "certificate_key": ""}, r"set mqtt\.certificate"
    with broker_in(tmp_path, websockets=transport == "websockets", **options) as broker:
        good = broker.settings(version=version, transport=transport, **settings)
        check_broker(good)
        with pytest.raises(BrokerError, match=why):
            check_broker(replace(good, **wrong))
        p = publisher(good, store)
        p.update(GATEWAY, [DEVICE])
        announce(p, store, "i1")
        drive(p, lambda: STATE in p._states.told and not store.outbox.waiting(), "all is told")
        broker.stop()
        drive(p, lambda: not p.connected, "it sees that the broker is gone")
        announce(p, store, "i2")
        broker.start()
        drive(p, lambda: not store.outbox.waiting(), "the second", NOW + 120 * NS)
        p.close(NOW)


def test_two_guardians_do_not_push_each_other_off(broker: Broker, tmp_path: Path) -> None:
    with Store(tmp_path / "a.db") as one, Store(tmp_path / "b.db") as two:
        first, second = publisher(broker.settings(), one), publisher(broker.settings(), two)
        assert first._client_id() != second._client_id()
        drive(first, lambda: first.connected, "the first")
        drive(second, lambda: second.connected, "the second")
        for _ in range(20):
            first.step(NOW)
            second.step(NOW)
            time.sleep(0.01)
        assert first.connected
        assert second.connected
        assert publisher(broker.settings(client_id="mine"), one)._client_id() == "mine"
        first.close(NOW)
        second.close(NOW)


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")
def test_tls_of_another_authority(
    certificates: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    folder = certificates
    with broker_in(folder, certificate=folder / "b.crt", key=folder / "b.key") as broker:
        bad = broker.settings(ca=str(folder / "other.crt"))
        with pytest.raises(BrokerError, match=r"certificate is not accepted.*mqtt\.ca"):
            check_broker(bad)
        p = publisher(bad, store)
        drive(p, lambda: caplog.records, "the wrong authority is told")
        assert "certificate is not accepted" in caplog.records[0].getMessage()
        p.close(NOW)


# --- guardian check --------------------------------------------------------------


def test_check_broker(tmp_path: Path) -> None:
    with broker_in(tmp_path, user="u", password="p") as broker:
        check_broker(broker.settings(username="u", password="p"))
        with pytest.raises(BrokerError, match="refused the user name or password") as error:
            check_broker(broker.settings(username="u", password="x"))
        assert "\n" not in str(error.value)
        with pytest.raises(BrokerError, match="refused the user name or password"):
            check_broker(broker.settings())
    with pytest.raises(BrokerError, match=r"Connection refused.*\[mqtt\] host and port"):
        check_broker(broker.settings())


def test_check_broker_on_a_host_that_is_no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brokers, "CONNECT_S", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(BrokerError, match="does not answer as an MQTT broker"):
            check_broker(MqttSettings(host="127.0.0.1", port=silent.getsockname()[1]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ca": "/nowhere/ca.pem"}, "mqtt.ca"),
        ({"ca": __file__}, "mqtt.ca"),
        ({"host": "a..b" + "x" * 70}, "mqtt.host"),
        ({"prefix": "a/#"}, "mqtt.prefix"),
        ({"prefix": ""}, "mqtt.prefix"),
        ({"discovery_prefix": "+"}, "mqtt.discovery_prefix"),
        ({"username": "u", "password_file": "/nowhere"}, "password_file"),
        ({"certificate": "/nowhere"}, "mqtt.certificate"),
        ({"certificate": __file__}, "mqtt.certificate"),
        ({"certificate_key": "/nowhere"}, "mqtt.certificate"),
        ({"transport": "websockets", "path": "mqtt"}, "mqtt.path"),
    ],
)
def test_settings_that_cannot_be(store: Store, changes: dict[str, Any], words: str) -> None:
    settings = replace(MqttSettings(host="127.0.0.1"), **changes)
    with pytest.raises(ConfigError, match=words) as error:
        Publisher(settings, store)
    assert "\n" not in str(error.value)


def test_a_name_that_no_resolver_knows() -> None:
    with pytest.raises(BrokerError, match="no connection"):
        check_broker(MqttSettings(host="nowhere.invalid"))


def test_the_payload_is_what_the_outbox_holds(broker: Broker, store: Store) -> None:
    with listening(broker, EVENTS) as hub:
        p = publisher(broker.settings(), store)
        event = IncidentEvent("closed", incident("z", closed=NOW))
        made = p.announce([event, IncidentEvent("updated", incident("z"))])
        assert len(made) == 1
        step(store, events=[event], messages=made)
        drive(p, lambda: hub.heard, "told")
        assert hub.heard[0].json() == json.loads(made[0].payload)
        assert hub.heard[0].json()["device"]["mac"] == MAC
        p.close(NOW)

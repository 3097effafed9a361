"""Two Guardians on one broker, and one whose topics were changed in the settings."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from guardian import entities, leftovers
from guardian.config import MqttSettings
from guardian.discovery import Topics, plain
from guardian.leftovers import Leftovers
from guardian.publish import Publisher
from guardian.store import Store
from tests.broker import Broker, broker_in, listening, until
from tests.test_discovery import DEVICE, GATEWAY, check
from tests.test_publish import announce, drive, publisher
from tests.test_store import NOW

MAC = "020000000001"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with broker_in(tmp_path) as made:
        yield made


@pytest.fixture(autouse=True)
def looks_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "LISTEN_S", 0.3)


def shown(settings: MqttSettings, store: Store) -> Publisher:
    """Return a publisher that has shown a gateway and a device, and looked at what was left."""
    p = publisher(settings, store)
    p.update(GATEWAY, [DEVICE])
    drive(p, lambda: p.connected and p._left is None and len(p._states.told) >= 5, "all is shown")
    return p


def kept(broker: Broker) -> dict[str, Any]:
    """Return what the broker keeps."""
    with listening(broker) as hub:
        hub.client.publish("end", "1", qos=1, retain=False)
        until(lambda: hub.on("end"), "all that is kept")
        return {h.topic: h.payload for h in hub.heard if h.retain}


def test_each_has_topics_ids_and_commands_of_its_own(broker: Broker, tmp_path: Path) -> None:
    """Both see one device; what one says, is told or takes off is not the other's."""
    with Store(tmp_path / "a.db") as one, Store(tmp_path / "b.db") as two:
        first, second = (
            shown(broker.settings(prefix=prefix), store)
            for prefix, store in (("guardian", one), ("cabin/guardian", two))
        )
        found = {t: json.loads(p) for t, p in kept(broker).items() if t.endswith("/config")}
        assert sorted(found) == sorted(
            f"homeassistant/device/guardian_{name}/config"
            for name in (MAC, f"cabin_guardian_{MAC}", one.installation, two.installation)
        )
        ids = [part["unique_id"] for payload in found.values() for part in payload["cmps"].values()]
        assert len(ids) == len(set(ids))
        for store, name in ((one, MAC), (two, f"cabin_guardian_{MAC}")):
            described = found[f"homeassistant/device/guardian_{name}/config"]["dev"]
            assert described["via_device"] == f"guardian_{store.installation}"
            assert described["cns"] == [["mac", "02:00:00:00:00:01"]]
        with listening(broker, "#") as hub:
            announce(second, two, "i1")
            drive(second, lambda: hub.on(f"cabin/guardian/device/{MAC}/incident"), "the second's")
            hub.client.publish("cabin/guardian/gateway/budget/set", "3", qos=1)
            drive(second, lambda: second._asked, "its command")
            first.step(NOW)
            assert first.take_asked() == []
            assert hub.on(f"guardian/device/{MAC}/incident") == []
        second.close(NOW)
        left = kept(broker)
        assert left["guardian/status"] == "online"
        assert left["cabin/guardian/status"] == "offline"
        first.close(NOW)


def test_one_prefix_for_two_is_told(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with Store(tmp_path / "a.db") as one, Store(tmp_path / "b.db") as two:
        first = shown(broker.settings(), one)
        assert "another Guardian" not in caplog.text
        second = shown(broker.settings(), two)
        assert caplog.text.count("another Guardian speaks on guardian/status") == 1
        first.close(NOW)
        second.close(NOW)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"discovery_prefix": "homeassistant"}, {"discovery_prefix": "ha/discovery"}),
        ({"prefix": "guardian"}, {"prefix": "home/guardian"}),
        ({"prefix": "one"}, {"prefix": "two", "discovery_prefix": "ha"}),
    ],
)
def test_topics_that_were_changed_leave_nothing(
    broker: Broker, tmp_path: Path, old: dict[str, Any], new: dict[str, Any]
) -> None:
    with Store(tmp_path / "g.db") as store:
        shown(broker.settings(**old), store).close(NOW)
        shown(broker.settings(**new), store).close(NOW)
        fresh = set(kept(broker))
        with broker_in(tmp_path) as empty:
            shown(empty.settings(**new), store).close(NOW)
            assert fresh == set(kept(empty))


def test_a_prefix_left_to_another_guardian_is_the_others(broker: Broker, tmp_path: Path) -> None:
    with Store(tmp_path / "a.db") as one, Store(tmp_path / "b.db") as two:
        shown(broker.settings(), one).close(NOW)
        stays = shown(broker.settings(), two)
        shown(broker.settings(prefix="mine"), one).close(NOW)
        left = kept(broker)
        assert left["guardian/status"] == "online"
        assert json.loads(left["guardian/gateway/state"])
        stays.close(NOW)


def test_forged_discovery_has_no_other_topic_emptied() -> None:
    topics = Topics("0a1b2c3d")
    left = Leftovers(topics, 0.0)
    wanted = ["zigbee2mqtt/bridge/state", "guardian/#", "x/gateway/state", 7, None, "y" * 300]
    parts = {str(n): {"p": "sensor", "state_topic": t} for n, t in enumerate(wanted)}
    said = {"o": {"name": "Guardian"}, "dev": {"via_device": topics.gateway_id}, "cmps": parts}
    left.hear("homeassistant/device/x/config", json.dumps(said).encode())
    for broken in ("[]", "{", '{"o":{"name":"Guardian"},"dev":{"ids":[]},"cmps":{}}',
                   '{"o":{"name":"Guardian"},"dev":{"ids":["a"]},"cmps":[1]}'):  # fmt: skip
        left.hear("homeassistant/device/y/config", broken.encode())
    assert left.stale(set()) == ["homeassistant/device/x/config", "x/gateway/state"]


@pytest.mark.parametrize("prefix", ["home/guardian", "a b/Ü", "ÄÖÜ", "x" * 200])
def test_ids_of_any_prefix_are_ids(prefix: str) -> None:
    topics = Topics("0a1b2c3d", prefix)
    topic, payload = entities.device(topics, replace(DEVICE))
    assert plain(prefix)
    assert topic == f"homeassistant/device/guardian_{plain(prefix)}_{MAC}/config"
    assert plain("guardian/cabin") == plain("cabin") == "cabin"
    if prefix == "home/guardian":
        payload["avty"] = [{"topic": "guardian/status"}]
        check(topic, payload)

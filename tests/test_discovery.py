"""Every discovery message against Home Assistant's rules, and hostile names in them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardian import discovery, entities
from guardian.discovery import DeviceState, GatewayState, Topics
from guardian.incidents import IncidentEvent
from guardian.outbox import encode
from guardian.publish import hub_messages
from tests.test_store import MAC, incident

TOPICS = Topics("0a1b2c3d")
DEVICE = DeviceState(MAC, MAC, "Hall camera", False, 0.25, "quiet", "192.168.1.20")
GATEWAY = GatewayState(100, 10, 0, 3, 1, "0.1", ("02:00:00:00:00:fe",))

# What Home Assistant 2026.2 takes (components/mqtt/schemas.py and its platforms), the part of
# it that Guardian uses; `make test-hub` asks the real one. It refuses keys of the root and of `dev`
# that it does not know, and forgets those of a component.
ROOT = {"dev", "o", "cmps", "avty", "qos", "state_topic"}
DEV = {"ids", "cns", "name", "mf", "mdl", "sw", "via_device"}
COMMON = {
    "p", "unique_id", "default_entity_id", "name", "icon", "availability", "entity_category",
    "enabled_by_default", "json_attributes_topic", "json_attributes_template", "device_class",
}  # fmt: skip
SHOWN = COMMON | {"state_topic", "value_template"}
PLATFORMS = {
    "binary_sensor": SHOWN | {"payload_on", "payload_off"},
    "sensor": SHOWN
    | {"state_class", "options", "suggested_display_precision", "unit_of_measurement"},
    "event": (SHOWN | {"event_types"}) - {"value_template"},
    "switch": SHOWN | {"command_topic"},
    "button": COMMON | {"command_topic", "payload_press"},
    "text": SHOWN | {"command_topic", "min", "max"},
    "number": SHOWN | {"command_topic", "min", "max", "step", "mode"},
    "update": (SHOWN | {"command_topic", "payload_install"}) - {"value_template"},
}
NEEDED = {
    "binary_sensor": {"state_topic"},
    "sensor": {"state_topic"},
    "event": {"state_topic", "event_types"},
    "switch": {"state_topic", "command_topic"},
    "button": {"command_topic"},
    "text": {"command_topic"},
    "number": {"command_topic"},
    "update": {"state_topic"},
}


def check_topic(topic: str) -> None:
    assert re.fullmatch(r"[a-z0-9_/]+", topic), topic
    assert "//" not in topic


def check(topic: str, payload: dict[str, Any]) -> None:
    """Assert what Home Assistant asserts of a device's discovery message."""
    found = re.fullmatch(r"homeassistant/device/([a-zA-Z0-9_-]+)/config", topic)
    assert found
    assert {"dev", "o", "cmps"} <= set(payload) <= ROOT
    assert payload["o"]["name"]
    dev = payload["dev"]
    assert set(dev) <= DEV
    assert dev["ids"]
    assert all(isinstance(i, str) for i in dev["ids"])
    assert isinstance(dev["name"], str)
    assert dev["name"]
    for kind, value in dev.get("cns", []):
        assert kind == "mac"
        assert re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", value)
    ids = set()
    for key, part in payload["cmps"].items():
        assert re.fullmatch(r"[a-z_]+", key)
        platform = part["p"]
        assert NEEDED[platform] <= set(part) <= PLATFORMS[platform], key
        ids.add(part["unique_id"])
        assert re.fullmatch(rf"{platform}\.[a-z0-9_]+", part["default_entity_id"])
        for name in ("state_topic", "command_topic", "json_attributes_topic"):
            if name in part:
                check_topic(part[name])
        available = part.get("availability", payload.get("avty"))
        assert key == "running" or available == [{"topic": "guardian/status"}]
        if part.get("device_class") == "enum":
            assert part["options"]
            assert "state_class" not in part
        # What only tells is diagnostic; what changes something is config. HA refuses others.
        told = platform in {"binary_sensor", "sensor"}
        assert part.get("entity_category", "diagnostic") in (
            {"diagnostic"} if told else {"diagnostic", "config"}
        )
        assert part.get("state_class", "measurement") in {"measurement", "total_increasing"}
        if "min" in part:
            assert 0 <= part["min"] <= part["max"]
    assert len(ids) == len(payload["cmps"])
    json.loads(encode(payload))


def test_a_device() -> None:
    topic, payload = entities.device(TOPICS, DEVICE)
    check(topic, payload)
    assert topic == "homeassistant/device/guardian_020000000001/config"
    assert payload["dev"] == {
        "ids": ["guardian_020000000001"],
        "name": "Hall camera",
        "via_device": "guardian_0a1b2c3d",
        "cns": [["mac", MAC]],
    }
    parts = payload["cmps"]
    shows = {"threat", "score", "anomaly", "incident", "new", "state", "connections", "bytes"}
    assert set(parts) == shows | {"snooze", "fine", "bad", "name", "forget"}
    assert set(entities.device(TOPICS, DEVICE, commands=False)[1]["cmps"]) == shows
    assert (parts["threat"]["p"], parts["threat"]["device_class"]) == ("binary_sensor", "safety")
    assert parts["threat"]["name"] is None
    assert parts["incident"]["event_types"] == ["opened", "escalated", "closed"]
    assert parts["state"]["options"] == ["learning", "quiet", "alert"]


def test_the_gateway() -> None:
    topic, payload = entities.gateway(TOPICS, GATEWAY)
    check(topic, payload)
    assert payload["dev"]["ids"] == ["guardian_0a1b2c3d"]  # what via_device of devices names
    assert payload["dev"]["cns"] == [["mac", "02:00:00:00:00:fe"]]
    running = payload["cmps"]["running"]
    assert running["device_class"] == "connectivity"
    # `off`, not `unavailable`, while Guardian is away: so no availability of any level.
    assert "avty" not in payload
    assert "availability" not in running
    state = discovery.gateway_state(TOPICS, GATEWAY)[1]
    for key, part in payload["cmps"].items():
        if "value_template" in part:
            assert part["value_template"] == f"{{{{ value_json.{key} }}}}"
            assert key in state
    takes = {"drill", "undo", "budget"}
    assert takes < set(payload["cmps"])
    looks = entities.gateway(TOPICS, GATEWAY, commands=False)[1]["cmps"]
    assert set(payload["cmps"]) - takes == set(looks)
    assert "command_topic" not in looks["models"]


def test_states_have_what_the_templates_ask_for() -> None:
    topic, state = discovery.device_state(TOPICS, replace(DEVICE, threat=True, score=1.2345))
    assert state == {
        "threat": "ON", "state": "quiet", "score": 1.23, "anomaly": 0.0, "connections": 0,
        "bytes": 0, "snooze": "OFF", "snoozed_until": None, "name": "Hall camera",
        "user_name": "", "ip": "192.168.1.20", "mac": MAC, "macs": [], "maybe": "", "maybe_why": "",
        "changed": None, "changed_what": "",
    }  # fmt: skip
    parts = entities.device(TOPICS, DEVICE)[1]["cmps"]
    for key in ("threat", "score", "anomaly", "state", "connections", "bytes", "snooze", "name"):
        assert parts[key]["state_topic"] == topic
        assert parts[key]["value_template"] == f"{{{{ value_json.{key} }}}}"


@pytest.mark.parametrize("change", ["opened", "escalated", "closed"])
def test_an_incident(change: Any) -> None:
    message = discovery.incident(TOPICS, IncidentEvent(change, incident()))
    assert message is not None
    assert (message.kind, message.qos, message.retain) == ("incident", 1, False)
    assert message.topic == entities.device(TOPICS, DEVICE)[1]["cmps"]["incident"]["state_topic"]
    payload = json.loads(message.payload)
    assert payload["event_type"] == change
    assert payload["explanation"] == "camera called 214 addresses on port 23"
    assert payload["device"] == {"mac": MAC, "ip": "192.168.1.20", "name": "camera"}
    assert {"id", "severity", "advice", "cause", "score", "opened", "peers"} <= set(payload)


def test_an_update_tells_nobody() -> None:
    assert discovery.incident(TOPICS, IncidentEvent("updated", incident())) is None


def test_an_incident_fits_into_attributes() -> None:
    base = incident()
    big = incident(
        explanation="x" * 50_000,
        advice="y" * 50_000,
        peers=base.peers * 500,
        features=base.features * 500,
        connections=base.connections * 500,
    )
    message = discovery.incident(TOPICS, IncidentEvent("opened", big))
    assert message is not None
    assert len(message.payload) < 8_000


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("AA:bb:00:11:22:33", "aabb00112233"),
        ("ip:192.168.1.5", "ip_192_168_1_5"),
        ("ip:fe80::1", "ip_fe80__1"),
    ],
)
def test_slugs(key: str, expected: str) -> None:
    assert discovery.slug(key) == expected


@given(st.text(max_size=40), st.text(max_size=40))
def test_hostile_keys_make_harmless_topics(key: str, other: str) -> None:
    d = replace(DEVICE, key=key, mac="", name=other)
    topic, payload = entities.device(TOPICS, d)
    check(topic, payload | {"dev": payload["dev"] | {"name": "x"}})
    check_topic(discovery.device_state(TOPICS, d)[0])
    if key.lower() != other.lower():
        assert discovery.slug(key) != discovery.slug(other)


@pytest.mark.parametrize("name", ["a/#", "\0\n\x1b[2J", "{{ states() }}", "\ud800", "'; DROP--"])
def test_hostile_names_stay_in_json_strings(name: str) -> None:
    messages = hub_messages(
        TOPICS,
        GATEWAY,
        [replace(DEVICE, name=name)],
        [IncidentEvent("opened", incident(explanation=name))],
    )
    for message in messages:
        check_topic(message.topic)
        message.payload.encode("ascii")
    assert json.loads(messages[4].payload)["dev"]["name"] in {name, "?"}
    for part in json.loads(messages[4].payload)["cmps"].values():
        assert name not in json.dumps(part, ensure_ascii=False)


def test_all_that_a_hub_gets() -> None:
    messages = hub_messages(TOPICS, GATEWAY, [DEVICE], [IncidentEvent("opened", incident())])
    assert [m.topic for m in messages] == [
        "guardian/status",
        "homeassistant/device/guardian_0a1b2c3d/config",
        "guardian/gateway/state",
        "guardian/gateway/models",
        "homeassistant/device/guardian_020000000001/config",
        "guardian/device/020000000001/state",
        "guardian/device/020000000001/incident",
    ]
    assert [m.retain for m in messages] == [True] * 6 + [False]


def test_the_document_names_every_topic_and_key() -> None:
    text = (Path(__file__).parent.parent / "docs" / "mqtt.md").read_text()
    messages = hub_messages(TOPICS, GATEWAY, [DEVICE], [IncidentEvent("opened", incident())])
    for m in messages:
        topic = m.topic.replace("020000000001", "ID").replace("0a1b2c3d", "INSTALLATION")
        line = next(line for line in text.splitlines() if line.startswith(f"| `{topic}`"))
        assert line.endswith(f"| {m.qos} | {'yes' if m.retain else 'no'} |")
        if topic.endswith("/state"):
            assert all(key in line for key in json.loads(m.payload)), topic
        if topic.endswith("/incident"):
            assert all(f'"{key}":' in text for key in json.loads(m.payload))


def test_removal_names_the_same_topics() -> None:
    removed = discovery.removal(TOPICS, MAC)
    assert {m.topic for m in removed} == {
        entities.device(TOPICS, DEVICE)[0],
        discovery.device_state(TOPICS, DEVICE)[0],
    }
    assert all(m.payload == "" and m.retain for m in removed)


def test_what_nobody_is_told_of_is_no_message() -> None:
    assert discovery.incident(TOPICS, IncidentEvent("held", incident())) is None
    assert discovery.incident(TOPICS, IncidentEvent("closed", incident(), told=False)) is None
    assert discovery.incident(TOPICS, IncidentEvent("closed", incident())) is not None

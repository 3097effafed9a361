"""The documents' examples of what is said and heard over MQTT, held to what really is."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from guardian import discovery
from guardian.discovery import Models, Topics
from guardian.hub import Hub
from guardian.hubcommands import read
from guardian.incidents import IncidentEvent
from tests.conftest import ROOT
from tests.test_discovery import DEVICE, GATEWAY
from tests.test_store import MAC, incident

TOPICS = Topics("0a1b2c3d")
ID = "020000000001"
MQTT = (ROOT / "docs" / "mqtt.md").read_text()
HUB = (ROOT / "docs" / "hub.md").read_text()


def blocks(text: str, kind: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for name, block in fenced if name == kind]


def shape(value: Any) -> Any:
    """Return the keys of a message, of what stands in it and of its lists' first entries."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return [shape(value[0])] if isinstance(value, list) and value else None


def states() -> dict[str, dict[str, Any]]:
    """Return every message with a state, by topic."""
    made = [
        discovery.gateway_state(TOPICS, GATEWAY),
        discovery.models_state(TOPICS, Models("1", "2")),
        discovery.device_state(TOPICS, DEVICE),
        *(
            (m.topic, json.loads(m.payload))
            for m in discovery.newcomer(TOPICS, MAC, MAC, "192.168.1.20", "camera", 1.0)
        ),
    ]
    return dict(made)


def test_the_incident_is_what_is_sent() -> None:
    shown = next(json.loads(b) for b in blocks(MQTT, "json") if "event_type" in b)
    message = discovery.incident(TOPICS, IncidentEvent("opened", incident()))
    assert message is not None
    sent = json.loads(message.payload)
    assert shape(shown) == shape(sent)
    assert [type(shown[k]) for k in shown] == [type(sent[k]) for k in shown]


def test_the_answer_is_what_is_sent() -> None:
    shown = next(json.loads(b) for b in blocks(MQTT, "json") if '"asked"' in b)
    said: list[dict[str, Any]] = []

    class Parts:
        class publisher:  # noqa: N801 - as it is called there
            answer = staticmethod(said.append)

    hub = Hub.__new__(Hub)
    hub._parts = Parts  # type: ignore[assignment]
    hub._answer(shown["asked"], True, "done", "8c41")
    assert shape(shown) == shape(said[0])


def test_the_table_has_the_keys_of_each_state_and_no_others() -> None:
    for topic, payload in states().items():
        row = topic.replace(ID, "ID")
        line = next(line for line in MQTT.splitlines() if line.startswith(f"| `{row}`"))
        cell = line.split(" | ")[1]
        if "the same as" in cell:
            continue
        listed = re.sub(r"\([^()]*(\([^()]*\)[^()]*)*\)", "", cell.removeprefix("JSON: "))
        names = {name for part in re.split(r", | and ", listed) if (name := part.strip())}
        assert names == set(payload), topic


def test_what_openhab_is_told_to_look_at_is_there() -> None:
    block = next(b for b in blocks(HUB, "") if "mqtt:topic" in b)
    known = states() | {TOPICS.incident(MAC): {"explanation": ""}}
    asked = re.findall(r'stateTopic="([^"]+)", transformationPattern="JSONPATH:\$\.(\w+)"', block)
    assert len(asked) == 3
    for topic, key in asked:
        assert key in known[topic]
    for topic in re.findall(r'commandTopic="([^"]+)"', block):
        for word in ("ON", "OFF"):
            assert read(TOPICS, topic, word.encode(), [MAC], 10**18).kind in ("snooze", "undo")


def test_the_commands_that_the_documents_show_are_understood() -> None:
    said: list[tuple[str, str]] = []
    for block in blocks(HUB, "yaml"):
        example = yaml.safe_load(block)
        if example.get("action") == "mqtt.publish":
            said.append((example["data"]["topic"], example["data"]["payload"]))
    answer = re.search(r"`(\{\"incident\": msg\.payload\.id.*?\})`", HUB, re.DOTALL)
    assert answer
    payload = answer[1].replace("msg.payload.id", '"76b448b3f17f"')
    said.append(("guardian/gateway/feedback/set", payload))
    said += re.findall(r"^mosquitto_pub .*-t (\S+) -m '(.*)'$", MQTT, re.MULTILINE)
    for row in re.findall(r"^\| `(guardian/\S+/set)` \| (.*?) \|", MQTT, re.MULTILINE):
        topic = row[0].replace("ID", ID)
        for words in re.findall(r"`([^`]+)`", row[1]):
            text = words.replace("…", "02:00:00:00:00:02")
            text = text.replace('"peer": "02:00:00:00:00:02"', '"peer": "example.org"')
            text = text.replace('"cause": "02:00:00:00:00:02"', '"cause": "scan"')
            said.append((topic, text))
    assert len(said) >= 15
    keys = [MAC, "aa:bb:cc:dd:ee:ff", "02:00:00:00:00:02"]
    for topic, text in said:
        assert read(TOPICS, topic, text.encode(), keys, 10**18), topic

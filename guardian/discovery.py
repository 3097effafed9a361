"""What Home Assistant is told: topics, discovery and states as pure functions.

Device-based discovery, one retained message per device. docs/mqtt.md lists every topic.
Names from the network appear in payloads (JSON) only, never in topics.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any, Literal

import guardian
from guardian.incidents import IncidentEvent
from guardian.outbox import Message, encode

Payload = dict[str, Any]
State = Literal["learning", "quiet", "alert"]

STATES: tuple[State, ...] = ("learning", "quiet", "alert")
EVENT_TYPES = ("opened", "escalated", "closed")

MAX_LISTED = 5
"""Peers and features in an incident's message: Home Assistant keeps attributes up to 16 KiB."""

MAX_TEXT = 1_000
"""Characters of an explanation or advice in a message, for the same reason."""


@dataclass(frozen=True)
class Topics:
    """Where messages go; `installation` is the store's, eight hex digits."""

    installation: str
    prefix: str = "guardian"
    discovery: str = "homeassistant"

    @property
    def status(self) -> str:
        return f"{self.prefix}/status"

    @property
    def gateway(self) -> str:
        return f"{self.prefix}/gateway/state"

    @property
    def birth(self) -> str:
        return f"{self.discovery}/status"

    @property
    def gateway_id(self) -> str:
        return f"guardian_{self.installation}"

    def state(self, key: str) -> str:
        return f"{self.prefix}/device/{slug(key)}/state"

    def incident(self, key: str) -> str:
        return f"{self.prefix}/device/{slug(key)}/incident"

    def config(self, object_id: str) -> str:
        return f"{self.discovery}/device/{object_id}/config"


@dataclass(frozen=True)
class DeviceState:
    """A home device as the hub shows it."""

    key: str
    mac: str
    name: str
    """The user's name, else the learned one, else the address."""
    threat: bool
    """An incident of the device is open."""
    score: float
    """Highest threat of this hour and the one before, 0 to 1."""
    state: State
    ip: str = ""


@dataclass(frozen=True)
class GatewayState:
    """Guardian itself as the hub shows it; counts since its start."""

    packets: int
    connections: int
    drops: int
    """Packets that the kernel dropped before Guardian saw them."""
    devices: int
    open_incidents: int
    bundle: str
    """Version of the models."""
    macs: tuple[str, ...] = field(default=())
    """The gateway's own MACs, to merge with what a router integration shows."""


def slug(key: str) -> str:
    """Return a device key as [a-z0-9_], for topics and ids; different keys stay different."""
    plain = key.lower()
    if re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", plain):
        return plain.replace(":", "")
    if re.fullmatch(r"ip:[0-9a-f.:]{2,45}", plain):
        return re.sub(r"[.:]", "_", plain)
    digest = hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:12]
    return f"key_{digest}"


def device(topics: Topics, d: DeviceState) -> tuple[str, Payload]:
    """Return (topic, payload) of the discovery message of a device."""
    object_id = f"guardian_{slug(d.key)}"
    state = topics.state(d.key)
    described: Payload = {
        "ids": [object_id],
        "name": d.name or d.ip or d.key,
        "via_device": topics.gateway_id,
    }
    if d.mac:
        described["cns"] = [["mac", d.mac]]
    return topics.config(object_id), {
        "dev": described,
        "o": _origin(),
        "avty": [_availability(topics)],
        "cmps": {
            "threat": _part(
                object_id, "binary_sensor", "threat", None,
                device_class="safety", state_topic=state, value_template="{{ value_json.threat }}",
            ),
            "score": _part(
                object_id, "sensor", "score", "Threat score",
                state_topic=state, value_template="{{ value_json.score }}",
                state_class="measurement", suggested_display_precision=2, icon="mdi:gauge",
            ),
            "incident": _part(
                object_id, "event", "incident", "Last incident",
                state_topic=topics.incident(d.key), event_types=list(EVENT_TYPES),
                icon="mdi:shield-alert",
            ),
            "state": _part(
                object_id, "sensor", "state", "State",
                state_topic=state, value_template="{{ value_json.state }}",
                device_class="enum", options=list(STATES), icon="mdi:shield-home",
            ),
        },
    }  # fmt: skip


def gateway(topics: Topics, g: GatewayState) -> tuple[str, Payload]:
    """Return (topic, payload) of the discovery message of Guardian itself."""
    object_id = topics.gateway_id

    def count(key: str, name: str, icon: str, **more: Any) -> Payload:
        return _part(
            object_id, "sensor", key, name,
            state_topic=topics.gateway, value_template=f"{{{{ value_json.{key} }}}}",
            availability=[_availability(topics)], icon=icon, **more,
        )  # fmt: skip

    rising: Payload = {"state_class": "total_increasing", "entity_category": "diagnostic"}
    # Availability stands in each part and not above them, since `running` must show `off` while
    # Guardian is away, not `unavailable`.
    described: Payload = {
        "ids": [object_id],
        "name": "Guardian",
        "mdl": "Guardian of the home network",
        "sw": guardian.__version__,
    }
    if g.macs:
        described["cns"] = [["mac", mac] for mac in g.macs]
    return topics.config(object_id), {
        "dev": described,
        "o": _origin(),
        "cmps": {
            "running": _part(
                object_id, "binary_sensor", "running", "Running",
                device_class="connectivity", state_topic=topics.status,
                payload_on="online", payload_off="offline", entity_category="diagnostic",
            ),
            "packets": count(
                "packets", "Packets", "mdi:package-variant", **rising, enabled_by_default=False
            ),
            "connections": count(
                "connections", "Connections", "mdi:lan-connect", **rising, enabled_by_default=False
            ),
            "drops": count("drops", "Dropped packets", "mdi:package-variant-remove", **rising),
            "devices": count("devices", "Devices", "mdi:devices", state_class="measurement"),
            "open_incidents": count(
                "open_incidents", "Open incidents", "mdi:shield-alert", state_class="measurement"
            ),
            "bundle": count("bundle", "Models", "mdi:brain", entity_category="diagnostic"),
        },
    }  # fmt: skip


def device_state(topics: Topics, d: DeviceState) -> tuple[str, Payload]:
    """Return (topic, payload) of a device's retained state."""
    return topics.state(d.key), {
        "threat": "ON" if d.threat else "OFF",
        "state": d.state,
        "score": round(d.score, 2),
        "name": d.name,
        "ip": d.ip,
    }


def gateway_state(topics: Topics, g: GatewayState) -> tuple[str, Payload]:
    """Return (topic, payload) of Guardian's retained state."""
    return topics.gateway, {
        "packets": g.packets,
        "connections": g.connections,
        "drops": g.drops,
        "devices": g.devices,
        "open_incidents": g.open_incidents,
        "bundle": g.bundle,
    }


def incident(topics: Topics, event: IncidentEvent) -> Message | None:
    """Return the message of an incident's change, None where nobody is told."""
    if event.change not in EVENT_TYPES or not event.told:
        return None
    i = event.incident
    whole = i.as_json()
    payload = {
        "event_type": event.change,
        "id": i.id,
        "device": whole["device"],
        "severity": i.severity,
        "cause": i.cause,
        "label": i.label,
        "speaker": i.speaker,
        "score": i.score,
        "explanation": i.explanation[:MAX_TEXT],
        "advice": i.advice[:MAX_TEXT],
        "opened": whole["opened"],
        "updated": whole["updated"],
        "closed": whole["closed"],
        "count": i.count,
        "features": whole["features"][:MAX_LISTED],
        "peers": whole["peers"][:MAX_LISTED],
    }
    key = i.device.mac or f"ip:{i.device.ip}"
    return Message(topics.incident(key), encode(payload), "incident")


def removal(topics: Topics, key: str) -> list[Message]:
    """Return the messages that take a device off the hub and off the broker."""
    return [
        Message(topic, "", "state", retain=True)
        for topic in (topics.config(f"guardian_{slug(key)}"), topics.state(key))
    ]


def _origin() -> Payload:
    return {"name": "Guardian", "sw": guardian.__version__}


def _availability(topics: Topics) -> Payload:
    return {"topic": topics.status}


def _part(object_id: str, platform: str, key: str, name: str | None, **more: Any) -> Payload:
    return {
        "p": platform,
        "unique_id": f"{object_id}_{key}",
        "default_entity_id": f"{platform}.{object_id}_{key}",
        "name": name,
        **more,
    }

"""What the hub is told: topics and states as pure functions. docs/mqtt.md lists every topic.

entities.py has what Home Assistant makes of them. Names from the network appear in payloads (JSON)
only, never in topics.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Literal

from guardian.incidents import IncidentEvent
from guardian.outbox import Message, encode

Payload = dict[str, Any]
State = Literal["learning", "quiet", "alert"]

STATES: tuple[State, ...] = ("learning", "quiet", "alert")
EVENT_TYPES = ("opened", "escalated", "closed")

PREFIX = "guardian"

DRILL_MAC = "02:47:44:4e:00:01"
"""The device that exists in fire drills alone: locally administered, `GDN` in the middle."""

DRILL_SAID, DRILL_LAST = "last_drill_said", "last_drill"
"""Facts of the database: how the last fire drill went, and when one last worked (ns)."""

MAX_LISTED = 5
"""Peers and features in an incident's message: Home Assistant keeps attributes up to 16 KiB."""

MAX_RULES = 20
"""Rules listed in the gateway's state, for the same reason."""

MAX_SUMMARY = 255
"""Characters that Home Assistant takes of a release's summary."""

MAX_TEXT = 1_000
"""Characters of an explanation or advice in a message, for the same reason."""


@dataclass(frozen=True)
class Topics:
    """Where messages go; `installation` is the store's, eight hex digits."""

    installation: str
    prefix: str = PREFIX
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

    def device_id(self, key: str) -> str:
        """A device's id on the hub. Two Guardians on one broker differ in their prefix, and a
        device that both see is one of each."""
        own = "" if self.prefix == PREFIX else f"{plain(self.prefix)}_"
        return f"guardian_{own}{slug(key)}"

    def state(self, key: str) -> str:
        return f"{self.prefix}/device/{slug(key)}/state"

    def incident(self, key: str) -> str:
        return f"{self.prefix}/device/{slug(key)}/incident"

    def new_device(self, key: str) -> str:
        return f"{self.prefix}/device/{slug(key)}/new"

    @property
    def newcomers(self) -> str:
        return f"{self.prefix}/gateway/new_device"

    @property
    def models(self) -> str:
        return f"{self.prefix}/gateway/models"

    @property
    def answer(self) -> str:
        """What became of a command."""
        return f"{self.prefix}/answer"

    def gateway_set(self, what: str) -> str:
        """Where the hub tells Guardian something."""
        return f"{self.prefix}/gateway/{what}/set"

    def device_set(self, key: str, what: str) -> str:
        """Where the hub tells something of a device."""
        return f"{self.prefix}/device/{slug(key)}/{what}/set"

    @property
    def commands(self) -> tuple[str, ...]:
        """What Guardian subscribes to for commands."""
        return f"{self.prefix}/gateway/+/set", f"{self.prefix}/device/+/+/set"

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
    anomaly: float = 0.0
    """Highest anomaly of this hour and the one before; 1.0 is the line."""
    connections: int = 0
    """Opened today (local time), with the bytes of both sides."""
    bytes: int = 0
    snoozed_until: float = 0.0
    """Epoch seconds; 0 where nobody asked for quiet."""
    user_name: str = ""
    """The name that the user gave; empty where none."""
    macs: tuple[str, ...] = ()
    """Further MACs that the user linked to it."""
    maybe: str = ""
    """Key of the earlier device that it may be under another MAC; the user is asked."""
    maybe_why: str = ""
    changed: float = 0.0
    """Epoch seconds of when it changed its habits; 0 where it did not in the last weeks."""
    changed_what: str = ""


@dataclass(frozen=True)
class Models:
    """The bundle at work, and one that is laid ready."""

    installed: str
    latest: str
    """The version laid ready, else the installed one."""
    title: str = "Guardian models"
    summary: str = ""
    """What the ready one is, or why it is not taken; at most 255 characters."""
    in_progress: bool = False


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
    packets_rate: float = 0.0
    """A second, over the last minute."""
    connections_rate: float = 0.0
    blind_spots: tuple[str, ...] = ()
    """Sentences on what Guardian cannot see now."""
    encrypted_dns: int = 0
    """Devices that asked an encrypted DNS server within a day."""
    one_sided: float = 0.0
    """Percent of the day's TCP connections with data of which only one side was seen."""
    unread: int = 0
    """Frames that were not understood, since the start."""
    budget: int = 0
    """Incidents told a week; 0 is no limit."""
    told: int = 0
    """Incidents told in the last seven days, and those held back."""
    held: int = 0
    rules: tuple[str, ...] = ()
    """What the user said that holds, in words."""
    questions: tuple[str, ...] = ()
    """What Guardian asks the user: whether a device is an earlier one under another MAC."""
    last_drill: float = 0.0
    """Epoch seconds of the last fire drill that was told; 0: never."""
    drill: str = ""
    """How the last drill went, or that one runs."""
    models: Models | None = None


def slug(key: str) -> str:
    """Return a device key as [a-z0-9_], for topics and ids; different keys stay different."""
    plain = key.lower()
    if re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", plain):
        return plain.replace(":", "")
    if re.fullmatch(r"ip:[0-9a-f.:]{2,45}", plain):
        return re.sub(r"[.:]", "_", plain)
    digest = hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:12]
    return f"key_{digest}"


def plain(prefix: str) -> str:
    """Return a topic prefix as [a-z0-9_], for ids."""
    found = re.sub(r"[^a-z0-9]+", "_", prefix.lower()).strip("_").removeprefix("guardian_")[:32]
    return found or hashlib.sha256(prefix.encode("utf-8", "replace")).hexdigest()[:6]


def device_state(topics: Topics, d: DeviceState) -> tuple[str, Payload]:
    """Return (topic, payload) of a device's retained state."""
    return topics.state(d.key), {
        "threat": "ON" if d.threat else "OFF",
        "state": d.state,
        "score": round(d.score, 2),
        "anomaly": round(d.anomaly, 2),
        "connections": d.connections,
        "bytes": d.bytes,
        "snooze": "ON" if d.snoozed_until else "OFF",
        "snoozed_until": moment(d.snoozed_until),
        "name": d.name,
        "user_name": d.user_name,
        "ip": d.ip,
        "mac": d.mac,
        "macs": list(d.macs),
        "maybe": d.maybe,
        "maybe_why": d.maybe_why,
        "changed": moment(d.changed),
        "changed_what": d.changed_what,
    }


def gateway_state(topics: Topics, g: GatewayState) -> tuple[str, Payload]:
    """Return (topic, payload) of Guardian's retained state."""
    return topics.gateway, {
        "packets": g.packets,
        "connections": g.connections,
        "packets_rate": round(g.packets_rate, 1),
        "connections_rate": round(g.connections_rate, 2),
        "drops": g.drops,
        "unread": g.unread,
        "encrypted_dns": g.encrypted_dns,
        "one_sided": round(g.one_sided, 1),
        "blind_spots": len(g.blind_spots),
        "blind": list(g.blind_spots),
        "devices": g.devices,
        "open_incidents": g.open_incidents,
        "budget": g.budget,
        "told": g.told,
        "held": g.held,
        "rules": len(g.rules),
        "said": list(g.rules[:MAX_RULES]),
        "questions": len(g.questions),
        "asked": list(g.questions[:MAX_RULES]),
        "last_drill": moment(g.last_drill),
        "drill": g.drill,
        "bundle": g.bundle,
    }


def models_state(topics: Topics, m: Models) -> tuple[str, Payload]:
    """Return (topic, payload) of what the update entity shows."""
    return topics.models, {
        "installed_version": m.installed,
        "latest_version": m.latest,
        "title": m.title,
        "release_summary": m.summary[:MAX_SUMMARY],
        "in_progress": m.in_progress,
    }


def newcomer(topics: Topics, key: str, mac: str, ip: str, name: str, seen: float) -> list[Message]:
    """Return the messages about a device never seen before; `seen` is epoch seconds."""
    payload = encode({"event_type": "new", "mac": mac, "ip": ip, "name": name, "first_seen": seen})
    return [Message(t, payload, "event") for t in (topics.newcomers, topics.new_device(key))]


def moment(seconds: float) -> str | None:
    """Return a moment as hubs take it (ISO 8601, UTC); None for 0."""
    if not seconds:
        return None
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


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
    if i.device.mac == DRILL_MAC:
        payload["drill"] = True
    key = i.device.mac or f"ip:{i.device.ip}"
    return Message(topics.incident(key), encode(payload), "incident")


def removal(topics: Topics, key: str) -> list[Message]:
    """Return the messages that take a device off the hub and off the broker."""
    return [
        Message(topic, "", "state", retain=True)
        for topic in (topics.config(topics.device_id(key)), topics.state(key))
    ]

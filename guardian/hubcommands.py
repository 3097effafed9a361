"""What the hub may say over MQTT, read and checked: topics and payloads as docs/mqtt.md has them.

Whoever may publish to the broker may say these things, and nothing else is understood. All of it
can be undone, but for a device that was forgotten: that one comes back when it speaks again.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from guardian.commands import ANSWERS, MAX_BUDGET, Kind, clean_name
from guardian.const import NS
from guardian.discovery import Topics, slug
from guardian.names import printable
from guardian.spans import SPANS, span_s
from guardian.wishes import CAUSES

MAX_PAYLOAD = 1_024
"""Bytes of a command; a name has 64 characters."""

BURST, PER_S = 10, 0.5
"""Commands taken at once, and a second after that: more than a person presses. A loop in somebody's
automation must not wear out the database."""

SNOOZE_S = 86_400
"""Seconds that the snooze switch holds; it goes off by itself."""


class Refused(Exception):  # noqa: N818 - not an error of ours: the answer to a message
    """A message that is no command; its sentence says why, and may quote what stood in it."""

    def __init__(self, why: str) -> None:
        super().__init__(printable(why))


@dataclass(frozen=True)
class Asked:
    """A checked wish of the hub's."""

    kind: Kind
    args: dict[str, Any] = field(default_factory=dict)
    last: bool = False
    """feedback: of the device's last incident; undo: what the hub said last; link: as asked."""
    device: str = ""
    preview: bool = False
    """Only tell what it would change."""


class Limit:
    """A bucket of commands that fills with time."""

    def __init__(self, burst: float = BURST, per_s: float = PER_S) -> None:
        self._burst, self._per_s = burst, per_s
        self._left, self._at = float(burst), 0.0
        self.refused = 0
        """Commands that were not taken since there were too many."""

    def take(self, moment: float) -> bool:
        """Tell whether another command may be taken at a moment (monotonic seconds)."""
        self._left = min(self._burst, self._left + (moment - self._at) * self._per_s)
        self._at = moment
        if self._left < 1:
            self.refused += 1
            return False
        self._left -= 1
        return True


def read(
    topics: Topics, topic: str, payload: bytes, devices: Iterable[str], now: int
) -> Asked:  # fmt: skip
    """Return what a message on one of topics.commands asks for; `devices` are the known keys.

    Raises Refused with a sentence.
    """
    if len(payload) > MAX_PAYLOAD:
        raise Refused(f"more than {MAX_PAYLOAD:,} bytes")
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("not UTF-8") from None
    parts = topic.removeprefix(topics.prefix + "/").split("/")
    if len(parts) == 3 and parts[0] == "gateway":
        return _gateway(parts[1], text, devices, now)
    if len(parts) == 4 and parts[0] == "device":
        key = next((key for key in devices if slug(key) == parts[1]), "")
        if not key:
            raise Refused(f"there is no device {parts[1][:40]}")
        if parts[2] == "link":
            return _link(text, key, devices)
        return _device(parts[2], text, key, now)
    raise Refused("no such topic")


def _gateway(what: str, text: str, devices: Iterable[str], now: int) -> Asked:
    if what == "drill":
        _pressed(text, "PRESS")
        return Asked("drill")
    if what == "models":
        _pressed(text, "INSTALL")
        return Asked("install")
    if what == "allow":
        return _allow(_object(text, {"device", "peer", "cause", "for", "preview"}), devices, now)
    reader = {"budget": _budget, "undo": _undo, "feedback": _feedback}.get(what)
    if reader is None:
        raise Refused("no such topic")
    return reader(text)


def _budget(text: str) -> Asked:
    if not re.fullmatch(r"[0-9]{1,5}(\.0+)?", text.strip()) or float(text) > MAX_BUDGET:
        raise Refused(f"the budget is a number from 0 to {MAX_BUDGET:,}")
    return Asked("budget", {"a_week": int(float(text))})


def _undo(text: str) -> Asked:
    if text == "PRESS":
        return Asked("undo", last=True)
    return Asked("undo", {"command": _text(_object(text, {"id"}), "id", needed=True)})


def _feedback(text: str) -> Asked:
    given = _object(text, {"incident", "answer"})
    answer = _text(given, "answer", needed=True)
    if answer not in ANSWERS:
        raise Refused(f"answer is none of {', '.join(ANSWERS)}")
    incident = _text(given, "incident", needed=True)
    return Asked("feedback", {"incident": incident, "answer": answer})


def _allow(given: Mapping[str, Any], devices: Iterable[str], now: int) -> Asked:
    device, peer = _text(given, "device").lower(), _text(given, "peer").lower()
    cause = _text(given, "cause")
    if device:
        found = [key for key in devices if device in (key, slug(key))]
        if not found:
            raise Refused(f"there is no device {device[:40]}: give its MAC")
        device = found[0]
    if peer:
        peer = _peer(peer)
    if cause and cause not in CAUSES:
        raise Refused(f"cause is none of {', '.join(CAUSES)}")
    if not (device or peer or cause):
        raise Refused("name a device, a peer or a cause: all of it cannot be fine")
    span = _span(given)
    args = {
        "device": device or None,
        "peer": peer or None,
        "cause": cause or None,
        "until": now + span * NS if span else None,
    }
    return Asked("allow", args, device=device, preview=given.get("preview") is True)


def _device(what: str, text: str, key: str, now: int) -> Asked:
    if what == "snooze":
        if text == "OFF":
            return Asked("undo", {"command": ""}, device=key)
        span = SNOOZE_S if text == "ON" else _span(_object(text, {"for"}))
        if not span:
            raise Refused('snooze takes ON, OFF or {"for": "2h"}')
        return Asked("snooze", {"device": key, "until": now + span * NS}, device=key)
    if what in ("fine", "bad"):
        _pressed(text, "PRESS")
        return Asked("feedback", {"incident": "", "answer": what}, last=True, device=key)
    if what == "name":
        return Asked("name", {"device": key, "name": clean_name(text)}, device=key)
    if what in ("forget", "unlink"):
        _pressed(text, "PRESS")
        return Asked("forget" if what == "forget" else "unlink", {"device": key}, device=key)
    raise Refused("no such topic")


def _link(text: str, key: str, devices: Iterable[str]) -> Asked:
    """Return that a device is the earlier one that was asked about, or the one that is named."""
    if text == "PRESS":
        return Asked("link", {"device": key, "old": ""}, last=True, device=key)
    old = _text(_object(text, {"old"}), "old", needed=True).lower()
    found = [one for one in devices if old in (one, slug(one)) and one != key]
    if not found:
        raise Refused(f"there is no other device {old[:40]}: give its MAC")
    return Asked("link", {"device": key, "old": found[0]}, device=key)


def _pressed(text: str, wanted: str) -> None:
    if text != wanted:
        raise Refused(f"takes {wanted}")


def _object(text: str, known: set[str]) -> dict[str, Any]:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise Refused("takes a JSON object with " + ", ".join(sorted(known)))
    if unknown := set(map(str, given)) - known:
        raise Refused(f"unknown key {min(unknown)[:40]!r}; known are {', '.join(sorted(known))}")
    return given


def _text(given: Mapping[str, Any], key: str, *, needed: bool = False) -> str:
    value = given.get(key)
    if value is None and not needed:
        return ""
    if not isinstance(value, str) or len(value) > 256 or (needed and not value):
        raise Refused(f"{key} is no text of 1 to 256 characters")
    return value.strip()


def _span(given: Mapping[str, Any]) -> int:
    text = _text(given, "for")
    span = span_s(text) if text else 0
    if text and not span:
        raise Refused(f"for is no time span: {SPANS}")
    return span


def _peer(text: str) -> str:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        if re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", text):
            return text
        raise Refused("peer is no address, network or host name") from None
    return str(network) if "/" in text else str(network.network_address)

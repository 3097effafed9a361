"""Plain rules about what a connection carries: data in the questions of DNS, floods of messages,
the words of coin miners.

They look at one slice or some minutes; models see one row of a tunnel and ask for three.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from guardian.clues import DNS, MESSAGES, MINING
from guardian.const import NS
from guardian.counters import Finding
from guardian.facts import Row
from guardian.seen import Seen

QUESTION_BYTES = 80
"""Payload of a question of DNS that is long: a name of 62 letters. Homes' mean is below 50."""

BEYOND_BYTES = 1_000
"""Bytes of questions beyond that, shorter ones taken off, that make a tunnel."""

QUESTIONS = 10
"""Of at least so many questions."""

FORGET_S = 600
"""The sum halves in this time."""

MESSAGE_BYTES = 256_000
"""Bytes that a device publishes by MQTT within a minute of the clock, in slices of 4 kB and more.
Sensors send some kB; a picture each few seconds would reach it."""

MAX_CARRYING = 256
"""Devices with a sum; the one longest silent goes first."""

_MAX_ROWS = 16
_MINUTE = 60 * NS


def _rows() -> deque[Row]:
    return deque(maxlen=_MAX_ROWS)


@dataclass
class _Device:
    beyond: float = 0.0
    questions: int = 0
    asked_at: int = 0
    asked: deque[Row] = field(default_factory=_rows)
    minute: int = -1
    sent: int = 0
    messages: deque[Row] = field(default_factory=_rows)


class Carried:
    """These rules for all devices; bounded."""

    def __init__(self) -> None:
        self._devices: OrderedDict[str, _Device] = OrderedDict()

    def look(self, device: str, one: Seen, level: float, new_peer: bool) -> Finding | None:
        """Take a slice that has a clue; return what it completes or continues."""
        if one.clue == DNS:
            return self._questions(device, one, level, new_peer)
        if one.clue == MESSAGES:
            return self._messages(device, one, level, new_peer)
        if one.clue == MINING:
            row = one.row("other", level, new_peer)
            text = (
                f"it speaks the language of coin miners ({row.service}), which nothing else of a "
                "home does."
            )
            return Finding("other", text, [row])
        return None

    def _of(self, device: str) -> _Device:
        state = self._devices.get(device)
        if state is None:
            state = self._devices[device] = _Device()
            if len(self._devices) > MAX_CARRYING:
                self._devices.popitem(last=False)
        else:
            self._devices.move_to_end(device)
        return state

    def _questions(self, device: str, one: Seen, level: float, new_peer: bool) -> Finding | None:
        beyond = one.sent - QUESTION_BYTES * one.orig_pkts
        state = self._devices.get(device)
        if beyond <= 0 and (state is None or not state.beyond):
            return None
        state = self._of(device)
        idle = max(0, one.told - state.asked_at) / NS
        state.beyond = state.beyond * 0.5 ** (idle / FORGET_S) + beyond
        state.asked_at = max(one.told, state.asked_at)
        if state.beyond <= 1.0:
            state.beyond, state.questions = 0.0, 0
            state.asked.clear()
            return None
        state.questions += one.orig_pkts
        if beyond > 0:
            state.asked.append(one.row("other", level, new_peer))
        if beyond <= 0 or state.beyond < BEYOND_BYTES or state.questions < QUESTIONS:
            return None
        rows = list(state.asked)
        state.asked.clear()
        text = (
            f"its questions to DNS carry data: they are {one.sent / max(1, one.orig_pkts):.0f} "
            f"bytes long, normal is below {QUESTION_BYTES}."
        )
        return Finding("other", text, rows)

    def _messages(self, device: str, one: Seen, level: float, new_peer: bool) -> Finding | None:
        state = self._of(device)
        minute = one.told // _MINUTE
        if minute != state.minute:
            state.minute, state.sent = minute, 0
            state.messages.clear()
        state.sent += one.sent
        state.messages.append(one.row("flood", level, new_peer))
        if state.sent < MESSAGE_BYTES:
            return None
        rows = list(state.messages)
        state.messages.clear()
        text = (
            f"{state.sent:,} bytes published by MQTT within a minute: sensors and switches stay"
            f" below {MESSAGE_BYTES:,}, a server that publishes pictures may not."
        )
        return Finding("flood", text, rows)

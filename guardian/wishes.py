"""What the user knows better: allowances and snoozes, as the incidents apply them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Answer = Literal["this-was-me", "fine", "bad"]

MAX_ALLOWANCES = 1_000
"""Allowances in force; the oldest goes first."""


@dataclass(frozen=True)
class Allow:
    """This is fine: what is left empty may be anything. Times are ns; None is for ever."""

    device: str = ""
    """Key of a device."""
    peer: str = ""
    """Address or host name of the other side."""
    port: int | None = None
    """The responder's port."""
    cause: str = ""
    until: int | None = None

    def covers(self, device: str, peers: tuple[str, ...], port: int, cause: str, at: int) -> bool:
        """Tell whether it allows a cause on a device with a peer (address, host)."""
        return (
            (not self.device or self.device == device)
            and (not self.peer or self.peer in peers)
            and (self.port is None or self.port == port)
            and (not self.cause or self.cause == cause)
            and (self.until is None or at < self.until)
        )


@dataclass(frozen=True)
class Snooze:
    """Record, but do not tell of a device until then (ns)."""

    device: str
    until: int


@dataclass(frozen=True)
class Feedback:
    """What the user says of an incident."""

    incident: str
    answer: Answer


Wish = Allow | Snooze | Feedback


class Wishes:
    """The allowances and snoozes in force."""

    def __init__(self) -> None:
        self.allowed: list[Allow] = []
        self._snoozed: dict[str, int] = {}

    def allow(self, allow: Allow) -> None:
        if allow not in self.allowed:
            self.allowed = [*self.allowed, allow][-MAX_ALLOWANCES:]

    def disallow(self, device: str, cause: str) -> None:
        """Withdraw what was allowed to a device for a cause, when the user finds it bad."""
        self.allowed = [
            a for a in self.allowed if not (a.device == device and a.cause in ("", cause))
        ]

    def covers(self, device: str, peers: tuple[str, ...], port: int, cause: str, at: int) -> bool:
        return any(a.covers(device, peers, port, cause, at) for a in self.allowed)

    def snooze(self, device: str, until: int) -> None:
        self._snoozed[device] = until

    def snoozed_until(self, device: str) -> int:
        """Return the moment until which nobody is told of a device; 0 where none is set."""
        return self._snoozed.get(device, 0)

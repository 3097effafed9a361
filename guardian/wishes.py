"""What the user knows better: allowances and snoozes, as the incidents apply them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from guardian.const import NS

Answer = Literal["this-was-me", "fine", "bad"]

CAUSES = ("scan", "c2", "flood", "brute-force", "download", "other", "unusual")
"""What an incident may be about: the classes of the models, and what only the autoencoder sees."""

_DAY = 86_400 * NS
HOLDS: dict[str, int] = {"fine": 30 * _DAY, "this-was-me": _DAY, "bad": 30 * _DAY}
"""How long an answer changes what is told of its device and cause, ns."""

MAX_ALLOWANCES = 1_000
"""Allowances in force; the oldest goes first."""


@dataclass(frozen=True)
class Allow:
    """This is fine: what is left empty may be anything. Times are ns; None is for ever."""

    device: str = ""
    """Key of a device."""
    peer: str = ""
    """Address, network or host name of the other side."""
    port: int | None = None
    """The responder's port."""
    cause: str = ""
    until: int | None = None

    def covers(self, device: str, peers: tuple[str, ...], port: int, cause: str, at: int) -> bool:
        """Tell whether it allows a cause on a device with a peer (address, host)."""
        return (
            (not self.device or self.device == device)
            and (not self.peer or any(_is(self.peer, peer) for peer in peers))
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


@dataclass(frozen=True)
class Watch:
    """Be quicker to tell of a cause on a device until then (ns): the user found it bad."""

    device: str
    cause: str
    until: int


Wish = Allow | Snooze | Feedback | Watch


def _is(wanted: str, peer: str) -> bool:
    """Tell whether a peer, as address or host name, is what was allowed."""
    if wanted == peer:
        return True
    if "/" in wanted:
        network, address = _network(wanted), _address(peer)
        return network is not None and address is not None and address in network
    return bool(peer) and wanted == peer.lower()


@lru_cache(maxsize=256)
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


@lru_cache(maxsize=1_024)
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


class Wishes:
    """The allowances, snoozes and watches in force."""

    def __init__(self, wishes: Iterable[Allow | Snooze | Watch] = ()) -> None:
        self.allowed: list[Allow] = []
        self._snoozed: dict[str, int] = {}
        self._watched: dict[tuple[str, str], int] = {}
        for wish in wishes:
            if isinstance(wish, Allow):
                self.allow(wish)
            elif isinstance(wish, Snooze):
                self.snooze(wish.device, wish.until)
            else:
                self.watch(wish)

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

    def watch(self, watch: Watch) -> None:
        self._watched[watch.device, watch.cause] = watch.until

    def unwatch(self, device: str, cause: str) -> None:
        """Forget that a cause was bad on a device, when the user finds it fine."""
        self._watched.pop((device, cause), None)

    def watched(self, device: str, cause: str, at: int) -> bool:
        """Tell whether the user found a cause on a device bad of late."""
        return bool(self._watched) and self._watched.get((device, cause), 0) > at

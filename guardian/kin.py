"""The same device under another MAC: who may it be? Asked once, and the user's answer holds.

Phones make up a MAC for each network, and some a new one every day. A device with such a MAC (the
bit `locally administered` is set) that calls itself as an earlier one does, or asks the router for
the same things as only one earlier device does, may be that one, if that one was not seen since.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from guardian.const import NS

log = logging.getLogger("guardian")

LOCAL = 0x02 << 40
"""The bit of a MAC that its owner made up."""

OVERLAP_NS = 5 * NS
"""An earlier device may be seen so long after the new one first was: it says goodbye."""

GENERIC = {
    "", "iphone", "ipad", "android", "localhost", "mobile", "phone", "watch", "esp", "unknown",
    "esp32", "esp8266", "espressif", "linux", "raspberrypi", "galaxy", "host",
}  # fmt: skip
"""Names that many devices have: they show nothing."""


class Shown(Protocol):
    """What is compared of a device."""

    @property
    def key(self) -> str: ...
    @property
    def mac(self) -> int: ...
    @property
    def first_seen(self) -> int: ...
    @property
    def last_seen(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def heard(self) -> Iterable[str]: ...


@dataclass(frozen=True)
class Guess:
    """A device that may be an earlier one. Keys of both."""

    new: str
    old: str
    reason: str


def made_up(mac: int) -> bool:
    """Return whether a MAC was made up by its device or its user."""
    return bool(mac & LOCAL)


def guess(new: Shown, others: Iterable[Shown]) -> Guess | None:
    """Return which earlier device a new one may be; None where nothing or too much fits."""
    if not made_up(new.mac) or not (new.fingerprint or _names(new)):
        return None
    by_name: list[Shown] = []
    by_kind: list[Shown] = []
    alike = 0
    for old in others:
        if old.key == new.key or not old.mac:
            continue
        same_kind = bool(new.fingerprint) and old.fingerprint == new.fingerprint
        alike += same_kind
        if old.last_seen > new.first_seen + OVERLAP_NS or old.first_seen >= new.first_seen:
            continue  # both were there at once, or it is no earlier one
        shared = _names(new) & _names(old)
        if shared:
            by_name.append(old)
        elif same_kind and not (_names(new) and _names(old)):
            by_kind.append(old)
    if by_name:
        old = max(by_name, key=lambda d: (d.fingerprint == new.fingerprint, d.last_seen, d.key))
        name = sorted(_names(new) & _names(old))[0]
        also = " and asks the router for the same" if old.fingerprint == new.fingerprint else ""
        return Guess(new.key, old.key, f"it calls itself the same ({name}){also}")
    if len(by_kind) == 1 and alike == 1:
        return Guess(new.key, by_kind[0].key, "it alone asks the router for the same")
    return None


def unnamed(reason: str) -> str:
    """Return a guess's reason without the name in it."""
    return reason.partition(" (")[0]


def _names(device: Shown) -> set[str]:
    return {name.lower() for name in device.heard if name.lower() not in GENERIC}


class KinStore(Protocol):
    """What is kept of questions and answers."""

    def ask_kin(self, new: str, old: str, reason: str, now: int) -> bool: ...
    def set_kin(self, new: str, old: str, state: str, now: int) -> None: ...
    def kin(self) -> dict[str, tuple[str, str, str]]: ...
    def names(self) -> dict[str, str]: ...
    def name_device(self, key: str, name: str) -> bool: ...


class KinTable(Protocol):
    """The part of the device table that is used here."""

    asked: dict[str, Guess]

    def guesses(self) -> list[Guess]: ...
    def together(self, new: str, old: str) -> bool: ...
    def link(self, new: str, old: str) -> bool: ...
    def unlink(self, mac: str) -> bool: ...
    def find(self, text: str) -> str: ...


class Kinship:
    """Asks who a new device may be, and does what the user answers."""

    def __init__(self, store: KinStore, devices: KinTable, *, names: bool = True) -> None:
        self._store = store
        self._devices = devices
        self.names = names
        """The reason may say a device's name (privacy level 0)."""
        self.actions: dict[str, Callable[[dict[str, Any], int], None]] = {
            "link": lambda args, now: self.link(args["device"], args["old"], now),
            "unlink": lambda args, now: self.unlink(args["device"], now),
        }

    def restore(self) -> None:
        """Take up the questions that are open and the devices that are linked."""
        for new, (old, state, reason) in self._store.kin().items():
            if state == "linked":
                self._devices.link(new, old)
            elif state == "asked":
                self._devices.asked[new] = Guess(new, old, reason)

    def step(self, now: int) -> None:
        """Ask what is to be asked, and take back what cannot be. Raises StoreError."""
        for one in self._devices.guesses():
            reason = one.reason if self.names else unnamed(one.reason)
            if self._store.ask_kin(one.new, one.old, reason, now):
                self._devices.asked[one.new] = Guess(one.new, one.old, reason)
                log.info(
                    "%s may be %s under another MAC: %s; guardian devices asks", one.new, one.old,
                    reason,
                )  # fmt: skip
        for one in list(self._devices.asked.values()):
            if self._devices.together(one.new, one.old):
                del self._devices.asked[one.new]
                self._store.set_kin(one.new, one.old, "refused", now)

    def link(self, new: str, old: str, now: int) -> None:
        """Let a device count as an earlier one. Raises KeyError with a sentence."""
        first, second = self._devices.find(new), self._devices.find(old)
        if not first or not second:
            raise KeyError(f"no device {old if first else new}")
        if not self._devices.link(first, second):
            raise KeyError(f"{first} cannot be {second}: both need a MAC, and none be a router")
        self._devices.asked.pop(first, None)
        self._store.set_kin(first, second, "linked", now)
        names = self._store.names()
        if first in names and second not in names:
            self._store.name_device(second, names[first])

    def unlink(self, new: str, now: int) -> None:
        """Part two devices again, or say that they are none. Raises KeyError with a sentence."""
        state = self._store.kin()
        if new not in state or state[new][1] not in {"asked", "linked"}:
            raise KeyError(f"{new} is linked to no other device, and nobody asked")
        self._devices.unlink(new)
        self._devices.asked.pop(new, None)
        self._store.set_kin(new, state[new][0], "refused", now)

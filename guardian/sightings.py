"""Who spoke in a batch: the distinct (MAC, address) pairs, found with a seeded hash."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import numpy as np

from guardian.addresses import Lan
from guardian.routers import GROUP, Address
from guardian.tables import I64, U64, Bool

# Secret, so that nobody can invent addresses that hash alike and hide behind another device.
_SEEDS = np.array([secrets.randbits(64) | 1 for _ in range(3)], dtype=np.uint64)


@dataclass(frozen=True)
class Sighting:
    """A distinct (MAC, address) of a batch."""

    mac: int
    """0: by address alone."""
    address: Address | None
    """None where the source was unspecified, as in DHCP."""
    first: int
    last: int
    routed: bool
    """The MAC is a router's, so it says nothing of who spoke."""
    creates: bool
    """It shows a device; a global IPv6 address only joins one that is known."""


@dataclass(frozen=True)
class Sightings:
    """Who spoke: columns of n rows, of packets or, after distinct(), of pairs."""

    mac: U64
    address: U64
    first: I64
    last: I64
    routed: Bool
    """The MAC was known as a router's by then."""
    late: Bool
    """The home was known to have a router by then."""

    def distinct(self) -> Sightings:
        """Return one row for each (MAC, address, routed, late), with its first and last time."""
        if not len(self.mac):
            return self
        a, b, c = _SEEDS
        flags = self.routed + np.uint64(2) * self.late
        hashed = _mix(self.mac * a + self.address[:, 0] * b + self.address[:, 1] * c + flags)
        order = np.argsort(hashed)
        starts = np.flatnonzero(np.diff(hashed[order], prepend=~hashed[order[:1]]))
        some = order[starts]
        return Sightings(
            self.mac[some],
            self.address[some],
            np.minimum.reduceat(self.first[order], starts),
            np.maximum.reduceat(self.last[order], starts),
            self.routed[some],
            self.late[some],
        )

    def of_devices(self, lan: Lan) -> list[Sighting]:
        """Return the rows that tell of a device of the home.

        A global IPv6 address joins its MAC once it is clear that the MAC is no router's.
        """
        unicast = lan.unicast(self.address)
        local = unicast & lan.local(self.address)
        blank = unspecified(self.address)
        v6 = (self.address[:, 0] != 0) | (self.address[:, 1] >> np.uint64(32) != 0xFFFF)
        mac = np.where(self.mac & GROUP != 0, np.uint64(0), self.mac)
        joins = v6 & unicast & ~local & self.late & ~self.routed
        rows = np.flatnonzero(local | ((blank | joins) & (mac != 0)))
        columns = zip(
            mac[rows].tolist(),
            self.address[rows].tolist(),
            self.first[rows].tolist(),
            self.last[rows].tolist(),
            (self.routed & (mac != 0))[rows].tolist(),
            blank[rows].tolist(),
            (~joins)[rows].tolist(),
            strict=True,
        )
        return [
            Sighting(m, None if none else (high, low), first, last, routed, creates)
            for m, (high, low), first, last, routed, none, creates in columns
        ]


def unspecified(address: U64) -> Bool:
    """Return bool[n]: 0.0.0.0 or ::, the source of who has no address yet."""
    low = address[:, 1]
    blank = (low == 0) | (low == np.uint64(0xFFFF00000000))
    found: Bool = (address[:, 0] == 0) & blank
    return found


def _mix(hashed: U64) -> U64:
    """Spread the high bits over the low ones, so that all bits of a sum count."""
    hashed = hashed ^ (hashed >> np.uint64(32))
    return hashed * np.uint64(0x9E3779B97F4A7C15)

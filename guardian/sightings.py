"""Who spoke in a batch: the distinct (MAC, address) pairs, found with a seeded hash."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import numpy as np

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
    """The sources of a batch: columns of n rows."""

    mac: U64
    address: U64
    ts: I64
    routed: Bool
    local: Bool
    """A unicast address at home: shows a device."""
    blank: Bool
    """Unspecified: shows a device by its MAC."""
    joins: Bool
    """Belongs to the device of the MAC, if that is known."""

    def distinct(self) -> list[Sighting]:
        """Return the distinct (MAC, address, routed) of the rows that tell of a device."""
        mac = np.where(self.mac & GROUP != 0, np.uint64(0), self.mac)
        rows = np.flatnonzero(self.local | ((self.blank | self.joins) & (mac != 0)))
        if not len(rows):
            return []
        mac, address, ts = mac[rows], self.address[rows], self.ts[rows]
        routed = self.routed[rows] & (mac != 0)
        a, b, c = _SEEDS
        hashed = _mix(mac * a + address[:, 0] * b + address[:, 1] * c + routed)
        order = np.argsort(hashed)
        starts = np.flatnonzero(np.diff(hashed[order], prepend=~hashed[order[:1]]))
        some = order[starts]
        columns = zip(
            mac[some].tolist(),
            address[some].tolist(),
            np.minimum.reduceat(ts[order], starts).tolist(),
            np.maximum.reduceat(ts[order], starts).tolist(),
            routed[some].tolist(),
            self.blank[rows[some]].tolist(),
            self.joins[rows[some]].tolist(),
            strict=True,
        )
        return [
            Sighting(m, None if blank else (high, low), first, last, behind, not join)
            for m, (high, low), first, last, behind, blank, join in columns
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

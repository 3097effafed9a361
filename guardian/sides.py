"""Which home devices stand on the two sides of connections."""

from __future__ import annotations

import numpy as np

from guardian import addresses
from guardian.addresses import Lan
from guardian.routers import GROUP, NEVER, Address, Routers
from guardian.sightings import unspecified
from guardian.tables import I32, I64, U64, Array, Bool, Conns


class Sides:
    """The part of the device table that answers for columns of connections."""

    _lan: Lan
    _routers: Routers
    _first: I64
    _by_mac: dict[int, int]
    _by_key: dict[str, int]
    _by_address: dict[Address, int]

    def _at_home(self, address: U64) -> Bool:
        found: Bool = self._lan.local(address) & self._lan.unicast(address)
        return found

    def sides(self, conns: Conns) -> tuple[I32, I32]:
        """Return int32[n] twice: the home devices that originate and respond, -1 for none.

        None are: what is remote, multicast, broadcast, unspecified without a MAC, unknown, and
        the router itself. A device that talks to itself counts as the originator alone.
        """
        orig = self._side(conns.orig_mac, conns.orig, conns.told)
        resp = self._side(conns.resp_mac, conns.resp, conns.told)
        resp[resp == orig] = -1
        return orig, resp

    def _side(self, mac: U64, address: U64, told: I64) -> I32:
        """Return int32[n]; only what was known at the moment told counts, whatever the batch."""
        out = np.full(len(mac), -1, dtype=np.int32)
        if not len(mac):
            return out
        mac = np.where(mac & GROUP != 0, np.uint64(0), mac)
        blank = unspecified(address)
        local = self._at_home(address)
        routed = self._routers.since_of(mac) <= told
        # A foreign address at a home device's MAC is its global IPv6 address or a forged one:
        # its own doing either way, once it is clear who the router is.
        foreign = ~local & self._lan.unicast(address) & (told >= self._routers.known_since())
        by_mac = (mac != 0) & ~routed & (local | blank | foreign)
        found, inverse = np.unique(mac[by_mac], return_inverse=True)
        known = [self._by_mac.get(m, -1) for m in found.tolist()]
        out[by_mac] = np.array(known, dtype=np.int32)[inverse]
        rows = np.flatnonzero(local & ((mac == 0) | routed))
        if len(rows):
            out[rows] = self._by_addresses(address[rows], routed[rows], told[rows])
        out[self._first[out] > told] = -1
        return out

    def _by_addresses(self, address: U64, routed: Bool, told: I64) -> Array:
        answers: dict[tuple[int, int, bool], tuple[int, int]] = {}
        out = []
        for (high, low), behind, ts in zip(
            address.tolist(), routed.tolist(), told.tolist(), strict=True
        ):
            answer = answers.get((high, low, behind))
            if answer is None:
                answer = answers[high, low, behind] = self._by_one((high, low), behind)
            index, own_since = answer
            out.append(-1 if own_since <= ts else index)
        return np.array(out, dtype=np.int32)

    def _by_one(self, address: Address, behind: bool) -> tuple[int, int]:
        """Return (index or -1, since when the address is known as a router's own)."""
        own = self._routers.own.get(address, int(NEVER))
        if behind:
            if self._routers.is_own(address, 0):
                own = 0
            return self._by_key.get("ip:" + addresses.text(*address), -1), own
        return self._by_address.get(address, -1), own

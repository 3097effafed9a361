"""Which MACs are routers: learned from who is asked to carry traffic to the Internet.

A router is the MAC to which another home device sends an IPv4 packet for an address that is not
at home. A device cannot make itself a router by forging its own source address, nor, once it has
been known for a while beside another router, by luring the traffic of others (ARP spoofing):
it stays a judged device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from guardian.addresses import MULTICAST, Lan, Prefixes, pack
from guardian.const import MAX_ROUTERS, NS, ROUTER_GRACE_S
from guardian.tables import I64, U64, Packets

Address = tuple[int, int]

NEVER = np.iinfo(np.int64).max
GROUP = np.uint64(1 << 40)
"""The group bit of a MAC: such an address is never one device's."""

_CANDIDATES = 8
"""Unknown next hops looked at in one batch; a home has one or two."""

_UNROUTED = Prefixes(
    (*MULTICAST, "169.254.0.0/16", "fe80::/10", "127.0.0.0/8", "::1/128", "0.0.0.0/8", "::/128")
)
_FE80_MASK, _FE80 = 0xFFC0 << 48, 0xFE80 << 48
_ROUTER_ADVERTISEMENT = 134


class Routers:
    """The home's routers with the moment since when each is known, and their own addresses."""

    def __init__(self, macs: Iterable[int] = (), addresses: Sequence[str] = ()) -> None:
        self.since: dict[int, int] = {}
        for mac in macs:
            self.add(mac, 0)
        self.own: dict[Address, int] = {pack(text): 0 for text in addresses}
        """Addresses of the routers themselves, with the moment since when that is known."""

    def add(self, mac: int, ts: int) -> None:
        """Make a MAC a router from a moment on; nothing where it is one, or too many are."""
        if mac and len(self.since) < MAX_ROUTERS:
            self.since.setdefault(mac, ts)

    def add_own(self, address: Address, ts: int) -> None:
        """Note an address of a router itself; capped like the addresses of a device."""
        if len(self.own) < 64 * MAX_ROUTERS:
            self.own.setdefault(address, ts)

    def known_since(self) -> int:
        """Return the moment since when the home has a router at all."""
        return min(self.since.values(), default=int(NEVER))

    def since_of(self, macs: U64) -> I64:
        """Return int64[n]: since when each MAC is a router, NEVER where it is none."""
        out = np.full(len(macs), NEVER, dtype=np.int64)
        for mac, ts in self.since.items():
            out[macs == np.uint64(mac)] = ts
        return out

    def is_own(self, address: Address, ts: int) -> bool:
        """Tell whether an address behind a router's MAC is the router's own.

        Where nothing better is known, .1 and .254 are, by custom.
        """
        if self.own.get(address, NEVER) <= ts:
            return True
        high, low = address
        if high == 0:
            return low & 0xFF in (1, 254)
        return high & _FE80_MASK == _FE80

    def learn(self, packets: Packets, lan: Lan, first_seen: Callable[[int], int | None]) -> None:
        """Learn routers from a batch.

        first_seen tells since when a MAC is a known device, this batch included, None where it
        is none.
        """
        for mac, ts in _first(packets.dst_mac, packets.ts, self._next_hops(packets, lan)):
            # The first one is believed, another only if it is as new as its role.
            first = ts if self.known_since() > ts else first_seen(mac)
            if mac and ts - (ts if first is None else first) <= ROUTER_GRACE_S * NS:
                self.add(mac, ts)
        if not self.since:
            advert = (packets.proto == 58) & (packets.sport == _ROUTER_ADVERTISEMENT)
            for mac, ts in _first(packets.src_mac, packets.ts, np.flatnonzero(advert))[:1]:
                self.add(mac, ts)
        self._learn_servers(packets, lan)

    def _next_hops(self, packets: Packets, lan: Lan) -> I64:
        """Return the rows in which a home device asks an unknown MAC to carry IPv4 away."""
        dst_mac = packets.dst_mac
        rows = np.flatnonzero(
            (self.since_of(dst_mac) == NEVER)
            & ~packets.v6
            & (dst_mac & GROUP == 0)
            & (dst_mac != packets.src_mac)
        )
        # Few rows remain where most traffic goes out; the rest is judged step by step.
        for outside, column in ((True, packets.dst), (False, packets.src)):
            rows = rows[lan.local(column[rows]) != outside]
            rows = rows[~_UNROUTED.contains(column[rows])]
        return rows

    def _learn_servers(self, packets: Packets, lan: Lan) -> None:
        """Note local addresses at a router's MAC that answer DHCP or DNS: the router's own."""
        serves = (packets.proto == 17) & ((packets.sport == 53) | (packets.sport == 67))
        answers = np.flatnonzero(serves)
        answers = answers[lan.local(packets.src[answers]) & lan.unicast(packets.src[answers])]
        for mac, since in self.since.items():
            rows = answers[packets.src_mac[answers] == np.uint64(mac)]
            _, first = np.unique(packets.src[rows, 1], return_index=True)
            for k in rows[np.sort(first)].tolist():
                high, low = packets.src[k].tolist()
                self.add_own((high, low), max(since, int(packets.ts[k])))


def _first(macs: U64, ts: I64, rows: I64) -> list[tuple[int, int]]:
    """Return (MAC, time of its first row) of the first few MACs among rows, in order."""
    if not len(rows):
        return []
    found, first = np.unique(macs[rows], return_index=True)
    order = np.argsort(first)[:_CANDIDATES]
    return [(int(found[k]), int(ts[rows[first[k]]])) for k in order]

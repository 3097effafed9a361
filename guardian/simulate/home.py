"""The home: hosts, addresses, the clock that wakes their habits, and what they emit.

A habit is a generator: it emits frames at or after the time it woke, and yields the
time at which it wants to wake next. Times are float seconds since the scenario's start.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from guardian.simulate.frames import Way, ip_bytes, link_local, multicast_mac
from guardian.simulate.labels import Row
from guardian.simulate.payloads import Pool

Habit = Iterator[float]

Packets = list[tuple[float, bytes]]
"""Frames with the times at which the gateway sees them."""

UDP_GAP_S = 60.0
"""A UDP or ICMP pair silent for longer than this is a new connection (Zeek's timeouts)."""

CLOUD_HOPS = (7, 22)
"""Routers between the home and a server; its answers arrive with that much less TTL."""


@dataclass
class Host:
    """One thing in the home."""

    name: str
    kind: str
    mac: bytes
    ip: bytes
    ttl: int = 64
    wired: bool = False
    lag: float = 0.003
    """Seconds between a packet that leaves the gateway and the host's answer."""
    resolver: bytes = b""
    """Its DNS server; empty for the gateway."""
    asks_v6: bool = False
    """It asks for AAAA beside A."""
    lease_s: int = 86_400
    v6: bool = True
    ip6: bytes = b""
    stands_for: bytes = b""
    """The device that labels name in its place: an outsider's victim."""
    since: float = 0.0
    """When it first came into the home."""
    until: float = math.inf
    """When it left it for good."""
    came: float = -1.0
    """When it last joined the network."""
    ports: int = 32_768
    cache: dict[str, tuple[bytes, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ip6 = link_local(self.mac)

    def port(self, rng: Random) -> int:
        """Return the next ephemeral port; stacks step unevenly through their range."""
        self.ports = 32_768 + (self.ports - 32_768 + rng.randint(1, 37)) % 28_000
        return self.ports


def public_ip(rng: Random) -> bytes:
    """Return a plausible address on the Internet: unicast, not private, not reserved."""
    while True:
        value = rng.getrandbits(32)
        a, b, c = value >> 24, value >> 16 & 255, value >> 8 & 255
        if a in (0, 10, 127) or a >= 224 or (a == 100 and 64 <= b < 128):
            continue
        if (a, b) in ((169, 254), (192, 168), (198, 18), (198, 19)) or (a == 172 and b // 16 == 1):
            continue
        if (a, b, c) in ((192, 0, 0), (192, 0, 2), (192, 88, 99), (198, 51, 100), (203, 0, 113)):
            continue
        if value & 255 in (0, 255):
            continue
        return value.to_bytes(4, "big")


class World:
    """One simulated home while it runs."""

    def __init__(self, key: str, start_us: int, seconds: float, lan: str, utc_offset_h: float):
        self.key = key
        """Seeds every stream of chance in this home."""
        self.start_us = start_us
        self.seconds = seconds
        self.utc_offset_h = utc_offset_h
        self.now = 0.0
        self.out: Packets = []
        self.bends: list[Callable[[Packets], Packets]] = []
        """What befalls frames on their way, each time before some are written; what it did to
        a frame it does not do again."""
        self._left: dict[bytes, float] = {}
        self.rows: list[Row] = []
        self.pool = Pool(key)
        self.prefix = ip_bytes(lan.partition("/")[0])[:3]
        self.hosts: dict[str, Host] = {}
        self.by_ip: dict[bytes, Host] = {}
        rng = self.rng("gateway")
        mac = b"\x00\x25\x9c" + rng.randbytes(3)
        self.gateway = Host("gateway", "gateway", mac, self.prefix + b"\x01", 64, True, 0.0008)
        self.by_ip[self.gateway.ip] = self.gateway
        self.loss = 0.002
        """Share of packets that are lost beyond the gateway and sent again."""
        self.dns_timeouts = 0.004
        self._queue: list[tuple[float, int, Habit]] = []
        self._born = 0
        self._ways: dict[tuple[bytes, bytes], tuple[Way, Way, float]] = {}
        self._udp_seen: dict[tuple[bytes, int, bytes, int], float] = {}

    # --- chance and time ------------------------------------------------------
    def rng(self, *names: str) -> Random:
        """Return a stream of chance of its own, the same for the same names."""
        return Random("/".join((self.key, *names)))

    def epoch(self, t: float) -> float:
        return self.start_us / 1e6 + t

    def hour(self, t: float) -> float:
        """Return the local hour of the day, 0 to 24."""
        return (self.epoch(t) / 3600 + self.utc_offset_h) % 24

    def awake(self, t: float) -> float:
        """Return how lively the home is, 0.05 at night to 1: a small morning, a long evening."""
        h = self.hour(t)
        morning = math.exp(-(((h - 7.5) / 1.6) ** 2))
        evening = math.exp(-(((h - 19.5) / 3.2) ** 2))
        day = 0.35 if 9 <= h < 17 else 0.0
        return max(0.05, 0.8 * morning, evening, day)

    # --- habits -----------------------------------------------------------------
    def add(self, host: Host) -> None:
        self.hosts[host.name] = host
        self.by_ip[host.ip] = host

    def leave(self, host: Host, at: float) -> None:
        """Let a host go out of reach for good: nothing is seen from it or for it any more."""

        def gone(packets: Packets) -> Packets:
            mac = host.mac
            return [p for p in packets if p[0] < at or mac not in (p[1][:6], p[1][6:12])]

        host.until = at
        self._left[host.mac] = at
        self.bends.append(gone)

    def spawn(self, at: float, habit: Habit) -> None:
        """Start a habit at a time; it first runs then."""
        self._born += 1
        heapq.heappush(self._queue, (at, self._born, habit))

    def run(self, until: float) -> None:
        """Wake every habit whose time comes before `until`."""
        queue = self._queue
        while queue and queue[0][0] < until:
            at, number, habit = heapq.heappop(queue)
            self.now = at
            wake = next(habit, None)
            if wake is not None:
                heapq.heappush(queue, (max(wake, at), number, habit))
        self.now = until

    def drain(self, until: float) -> tuple[list[tuple[int, bytes]], list[Row]]:
        """Return the packets (microseconds since the epoch, frame) and label rows before
        `until`, in time order. Nothing earlier can come any more."""
        for bend in self.bends:
            self.out = bend(self.out)
        self.out.sort(key=lambda packet: packet[0])
        cut = next((i for i, p in enumerate(self.out) if p[0] >= until), len(self.out))
        packets = [(self.stamp(t), frame) for t, frame in self.out[:cut]]
        self.out = self.out[cut:]
        limit = self.stamp(until)
        self.rows.sort(key=lambda row: row.ts_us)
        edge = next((i for i, r in enumerate(self.rows) if r.ts_us >= limit), len(self.rows))
        rows, self.rows = self.rows[:edge], self.rows[edge:]
        if self._left:
            ends = {mac: self.stamp(t) for mac, t in self._left.items()}
            rows = [r for r in rows if r.mac not in ends or r.ts_us < ends[r.mac]]
        old = until - 2 * UDP_GAP_S
        self._udp_seen = {k: t for k, t in self._udp_seen.items() if t > old}
        return packets, rows

    def stamp(self, t: float) -> int:
        return self.start_us + int(t * 1e6 + 0.5)

    # --- where packets go ---------------------------------------------------------
    def ways(self, host: Host, peer: bytes) -> tuple[Way, Way, float]:
        """Return (there, back, round trip seconds) between a host and an address."""
        key = (host.ip if len(peer) == 4 else host.ip6, peer)
        known = self._ways.get(key)
        if known is None:
            if len(self._ways) > 8192:
                self._ways.clear()
            known = self._ways[key] = self._new_ways(host, peer)
        return known

    def _new_ways(self, host: Host, peer: bytes) -> tuple[Way, Way, float]:
        own = host.ip if len(peer) == 4 else host.ip6
        other = self.by_ip.get(peer)
        if other is None and len(peer) == 16:
            other = next((h for h in self.everyone() if h.ip6 == peer), None)
        if other is not None:
            there = Way(host.mac, other.mac, own, peer, host.ttl, host.wired)
            back = Way(other.mac, host.mac, peer, own, other.ttl, other.wired)
            return there, back, other.lag + 0.0005
        chance = Random(peer)
        mac = self.gateway.mac
        hops = chance.randint(*CLOUD_HOPS)
        rtt = 0.008 + 0.16 * chance.random() ** 2
        there = Way(host.mac, mac, own, peer, host.ttl, host.wired)
        return there, Way(mac, host.mac, peer, own, 64 - hops), rtt

    def others(self, host: Host) -> list[Host]:
        """Return the other devices that are in the home by now."""
        return [h for h in self.hosts.values() if h is not host and h.since <= self.now < h.until]

    def everyone(self) -> list[Host]:
        return [self.gateway, *self.hosts.values()]

    def group(self, host: Host, address: bytes, ttl: int = 255) -> Way:
        """Return the way to a multicast or broadcast address."""
        own = host.ip if len(address) == 4 else host.ip6
        return Way(host.mac, multicast_mac(address), own, address, ttl, host.wired)

    def cloud(self, name: str, number: int = 0) -> bytes:
        """Return an address of a named server: the same in this home for good."""
        return public_ip(Random(f"{self.key}/cloud/{name}/{number}"))

    # --- what is told ----------------------------------------------------------------
    def emit(self, t: float, frame: bytes) -> None:
        self.out.append((t, frame))

    def label(
        self, t: float, host: Host, a: bytes, ap: int, b: bytes, bp: int, proto: str, label: str
    ) -> None:
        """Register a connection that starts at t."""
        self.rows.append(
            Row(self.stamp(t), a, ap, b, bp, proto, label, host.stands_for or host.mac)
        )

    def label_flow(
        self, t: float, host: Host, a: bytes, ap: int, b: bytes, bp: int, label: str,
        proto: str = "udp",
    ) -> None:  # fmt: skip
        """Register a packet of a pair that may go on: a new connection only after a silence."""
        key = (a, ap, b, bp)
        last = self._udp_seen.get(key)
        if last is None or t - last > UDP_GAP_S:
            self.label(t, host, a, ap, b, bp, proto, label)
        self._udp_seen[key] = max(t, last or t)

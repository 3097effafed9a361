"""What an incident counted: nothing in an explanation comes from anywhere else."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, deque
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

import numpy as np

from guardian import addresses
from guardian.const import MAX_COUNTED, MAX_EXAMPLES, MAX_PEERS, NS
from guardian.incidents import Example, Peer
from guardian.routers import Address
from guardian.tables import CONN_STATES, F32, PROTO_NAMES

FAILED = frozenset(CONN_STATES.index(s) for s in ("S0", "REJ", "RSTOS0", "RSTRH", "SH"))
"""Connections that nobody answered or that were refused."""

ARP = 300
"""Stands for the protocol in rows that come from ARP: no IP protocol has this number."""

_NAMES = {**PROTO_NAMES, ARP: "arp"}
_MINUTE = 60 * NS
_MAX_STARTS = 64
_MAX_RHYTHMS = 64

Key = tuple[Address, int, int]
"""Peer, responder's port, protocol."""


class Row(NamedTuple):
    """One slice that carried evidence, as its device saw it."""

    told: int
    ts: int
    uid: str
    orig: Address
    orig_p: int
    resp: Address
    resp_p: int
    proto: int
    service: str
    host: str
    conn_state: int
    orig_bytes: int
    resp_bytes: int
    orig_pkts: int
    resp_pkts: int
    duration: float
    piece: int
    final: bool
    age: float
    outbound: bool
    label: str
    """The classifier's most probable class other than benign."""
    score: float
    """Threat, or for `unusual` the anomaly."""
    level: float
    """The same as log odds or doublings."""
    new_peer: bool
    x: F32
    """float32[F]: features of the slice."""
    error: F32
    """float32[F]: the autoencoder's error by feature."""

    @property
    def peer(self) -> Address:
        return self.resp if self.outbound else self.orig

    @property
    def key(self) -> Key:
        return self.peer, self.resp_p, self.proto

    def example(self) -> Example:
        """Return the row in the fields of conn.log."""
        return Example(
            uid=self.uid,
            ts=self.ts / NS,
            orig_h=addresses.text(*self.orig),
            orig_p=self.orig_p,
            resp_h=addresses.text(*self.resp),
            resp_p=self.resp_p,
            proto=_NAMES.get(self.proto, "unknown_transport"),
            service=self.service,
            conn_state=CONN_STATES[min(self.conn_state, len(CONN_STATES) - 1)],
            orig_bytes=self.orig_bytes,
            resp_bytes=self.resp_bytes,
            duration=self.duration,
        )


@dataclass
class Rhythm:
    """When the connections of one key began."""

    starts: deque[int] = field(default_factory=lambda: deque(maxlen=_MAX_STARTS))

    def gaps(self) -> list[float]:
        """Return the seconds between beginnings."""
        order = sorted(self.starts)
        return [(b - a) / NS for a, b in itertools.pairwise(order)]


class Facts:
    """Running counts of an incident's rows; bounded, whatever a device does."""

    def __init__(self) -> None:
        self.rows = 0
        self.connections = 0
        self.failed = 0
        self.inbound = 0
        self.first = self.begun = self.last = 0
        """First and last beginning of a connection, last moment told, ns."""
        self.peers: Counter[Address] = Counter()
        self.ports: Counter[int] = Counter()
        self.keys: Counter[Key] = Counter()
        self.new_peers = 0
        self.overflow = False
        """More distinct peers, ports or keys than MAX_COUNTED."""
        self.sent = self.got = 0
        self.packets_out = self.packets_in = 0
        self.peak_rate = 0.0
        """Most packets a second that one slice of a second or more sent."""
        self.minute_peers = 0
        """Most distinct peers within any 60 seconds, by when they were told."""
        self.longest = 0.0
        self.labels: Counter[str] = Counter()
        self.best: Row | None = None
        """The row with the highest level, the first among equals."""
        self.peak: F32 | None = None
        """float32[F]: the highest value of each feature over the rows, as the models saw it."""
        self.top_score = 0.0
        self.examples: list[Example] = []
        self._hosts: dict[Key, str] = {}
        self._rhythms: dict[Key, Rhythm] = {}
        self._window: deque[tuple[int, Address]] = deque()
        self._in_window: Counter[Address] = Counter()
        self._uids: set[str] = set()

    def add(self, row: Row) -> None:
        """Count a row."""
        self.first = row.ts if self.rows == 0 else min(self.first, row.ts)
        self.begun = max(self.begun, row.ts)
        self.last = max(self.last, row.told)
        self.rows += 1
        self.inbound += not row.outbound
        self.labels[row.label] += 1
        sent, got = max(0, row.orig_bytes), max(0, row.resp_bytes)
        out, back = row.orig_pkts, row.resp_pkts
        if not row.outbound:
            sent, got, out, back = got, sent, back, out
        self.sent, self.got = self.sent + sent, self.got + got
        self.packets_out, self.packets_in = self.packets_out + out, self.packets_in + back
        if row.duration >= 1.0:
            self.peak_rate = max(self.peak_rate, out / row.duration)
        self.longest = max(self.longest, row.age)
        self.top_score = max(self.top_score, row.score)
        if self.best is None or row.level > self.best.level:
            self.best = row
        self.peak = row.x.copy() if self.peak is None else np.fmax(self.peak, row.x)
        # A connection counts once, by its first slice that carried evidence.
        if row.piece == 0 or (row.uid not in self._uids and len(self._uids) < MAX_COUNTED):
            self._connection(row)
            if not row.final and len(self._uids) < MAX_COUNTED:
                self._uids.add(row.uid)
        if row.final:
            self._uids.discard(row.uid)

    def _connection(self, row: Row) -> None:
        self.connections += 1
        self.failed += row.conn_state in FAILED
        peer, key = row.peer, row.key
        if peer not in self.peers and len(self.peers) < MAX_COUNTED:
            self.new_peers += row.new_peer
        self._count(self.peers, peer)
        self._count(self.ports, row.resp_p)
        self._count(self.keys, key)
        if row.host and key in self.keys and len(self._hosts) < MAX_COUNTED:
            self._hosts.setdefault(key, row.host)
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(row.example())
        if key in self._rhythms or len(self._rhythms) < _MAX_RHYTHMS:
            self._rhythms.setdefault(key, Rhythm()).starts.append(row.ts)
        self._window.append((row.told, peer))
        self._in_window[peer] += 1
        while row.told - self._window[0][0] > _MINUTE or len(self._window) > MAX_COUNTED:
            _, old = self._window.popleft()
            self._in_window[old] -= 1
            if not self._in_window[old]:
                del self._in_window[old]
        self.minute_peers = max(self.minute_peers, len(self._in_window))

    def _count(self, counter: Counter[Address] | Counter[int] | Counter[Key], key: object) -> None:
        known: Counter[object] = counter  # type: ignore[assignment]
        if key in known or len(known) < MAX_COUNTED:
            known[key] += 1
        else:
            self.overflow = True

    # --- answers ----------------------------------------------------------

    @property
    def outbound(self) -> bool:
        """Most rows were opened by the device itself."""
        return 2 * self.inbound <= self.rows

    @property
    def by_arp(self) -> bool:
        """All that is known comes from ARP: there is no connection."""
        return bool(self.keys) and all(proto == ARP for _, _, proto in self.keys)

    @property
    def span(self) -> float:
        """Seconds from the first to the last beginning of a connection."""
        return (self.begun - self.first) / NS

    def rate(self) -> float:
        """Return packets sent a second: in the busiest slice, or over all of the time."""
        whole = max((self.last - self.first) / NS, 1.0)
        return max(self.peak_rate, self.packets_out / whole)

    def main_key(self) -> Key:
        """Return the peer, port and protocol with most connections; the lowest among equals."""
        return min(self.keys, key=lambda key: (-self.keys[key], key))

    def host(self, key: Key) -> str:
        return self._hosts.get(key, "")

    def beat(self, key: Key) -> tuple[int, float, float] | None:
        """Return (gaps, median gap, median deviation of the gaps) in seconds of a key.

        None with fewer than three gaps.
        """
        rhythm = self._rhythms.get(key)
        gaps = rhythm.gaps() if rhythm else []
        if len(gaps) < 3:
            return None
        middle = median(gaps)
        return len(gaps), middle, median(abs(gap - middle) for gap in gaps)

    def top_peers(self) -> tuple[Peer, ...]:
        """Return the peers with most connections, at most MAX_PEERS."""
        order = heapq.nsmallest(MAX_PEERS, self.keys, key=lambda key: (-self.keys[key], key))
        return tuple(
            Peer(
                ip=addresses.text(*key[0]),
                port=key[1],
                proto=_NAMES.get(key[2], "unknown_transport"),
                host=self._hosts.get(key, ""),
                connections=self.keys[key],
            )
            for key in order
        )

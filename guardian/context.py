"""What a device did lately: the state behind the features of gaps, pairs and windows.

Plain Python for each row, since each row depends on those before it. Only the first slice of a
connection counts here; its later slices (updates) read the state and add their bytes. So a
connection counts once, however long it lasts.
"""

from __future__ import annotations

from collections import deque
from math import sqrt
from operator import mul
from typing import NamedTuple, TypeVar

from guardian.const import (
    CAP_AGE_S,
    CAP_PAIR_COUNT,
    CAP_WINDOW_COUNT,
    MAX_PAIRS,
    MAX_PAIRS_PER_DEVICE,
    MAX_PORTS_PER_DEVICE,
    NS,
    PAIR_HISTORY,
    WINDOW_LONG_S,
    WINDOW_S,
)
from guardian.maxima import Maxima

K = TypeVar("K")

COLUMNS = (
    "gap_device", "gap_pair", "gap_port",
    "pair_gap_median", "pair_regular", "pair_equal", "pair_spread", "pair_failed",
    "pair_fail_run", "pair_count", "pair_new",
    "minute_conns", "minute_peers", "minute_ports", "minute_failures", "minute_new_peers",
    "minute_local_peers", "minute_bytes_out", "minute_bytes_in",
    "long_conns", "long_peers", "long_failures", "long_new_peers",
    "known", "most_conns", "most_peers", "most_ports", "most_failures", "most_bytes_out",
)  # fmt: skip
"""What Contexts.row returns: seconds, counts, shares and bytes, before any logarithm. `known` is
1 where the device's own maxima (`most_...`) are, 0 in its first hour."""

_MINUTE_S = int(WINDOW_S)
_BEFORE = PAIR_HISTORY - 1
_FAIL_MASK = (1 << PAIR_HISTORY) - 1
_NO_PAIR = (CAP_AGE_S, 0.0, 0.0, 0.0, 0.0, 0, 0, 0)


class Visit(NamedTuple):
    """One row of a device, as Contexts needs it."""

    device: int
    told: int
    ts: int
    first: bool
    """False for an update."""
    peer: bytes
    key: bytes
    """The pair: peer (16 bytes), port, protocol and direction."""
    port: int
    """Port, protocol and direction in one number."""
    failed: int
    local: int
    """The peer is in the home."""
    size: int
    """Equal where the amounts both ways are."""
    total: float
    """Logarithm of the bytes both ways."""
    sent: int
    received: int


class _Pair:
    """The last connections of a device with one peer, port, protocol and direction."""

    __slots__ = ("count", "fail_bits", "fail_run", "gaps", "last", "sizes", "totals")

    def __init__(self) -> None:
        self.last = 0
        self.count = 0
        self.fail_run = 0
        self.fail_bits = 0
        # Most pairs are called once: tuples of numbers are half the size of lists then, and the
        # garbage collector need not look at them.
        self.gaps: tuple[float, ...] = ()
        self.sizes: tuple[int, ...] = ()
        self.totals: tuple[float, ...] = ()


class _Window:
    """The last connections of a device, at most CAP_WINDOW_COUNT, no older than a span."""

    __slots__ = ("failures", "homes", "new", "peers", "ports", "rows", "span")

    def __init__(self, span: int) -> None:
        self.span = span
        self.rows: deque[tuple[int, bytes, int, int, int, int]] = deque()
        self.peers: dict[bytes, int] = {}
        self.ports: dict[int, int] = {}
        self.failures = 0
        self.homes: dict[bytes, int] = {}
        self.new = 0

    def expire(self, now: int) -> None:
        rows = self.rows
        oldest = now - self.span
        while rows and rows[0][0] <= oldest:
            self._drop()

    def add(self, row: tuple[int, bytes, int, int, int, int]) -> None:
        """Take (told, peer, port, failed, new, local)."""
        if len(self.rows) == CAP_WINDOW_COUNT:
            self._drop()
        self.rows.append(row)
        _, peer, port, failed, new, local = row
        self.peers[peer] = self.peers.get(peer, 0) + 1
        self.ports[port] = self.ports.get(port, 0) + 1
        if local:
            self.homes[peer] = self.homes.get(peer, 0) + 1
        self.failures += failed
        self.new += new

    def _drop(self) -> None:
        _, peer, port, failed, new, local = self.rows.popleft()
        _less(self.peers, peer)
        _less(self.ports, port)
        if local:
            _less(self.homes, peer)
        self.failures -= failed
        self.new -= new


def _less(counts: dict[K, int], key: K) -> None:
    left = counts[key] - 1
    if left:
        counts[key] = left
    else:
        del counts[key]


class _Device:
    """All that is remembered of one device."""

    __slots__ = (
        "last", "long", "maxima", "minute", "now", "pairs", "peers", "ports", "received", "seconds",
        "sent",
    )  # fmt: skip

    def __init__(self) -> None:
        self.now = 0
        self.last: int | None = None
        self.ports: dict[int, int] = {}
        self.pairs: dict[bytes, _Pair] = {}
        self.peers: dict[bytes, int] = {}
        self.minute = _Window(int(WINDOW_S * NS))
        self.long = _Window(int(WINDOW_LONG_S * NS))
        # Bytes by whole second: bounded, and exact as integers.
        self.seconds: deque[list[int]] = deque()
        self.sent = 0
        self.received = 0
        self.maxima = Maxima()

    def add_bytes(self, sent: int, received: int) -> None:
        second = self.now // NS
        seconds = self.seconds
        while seconds and seconds[0][0] <= second - _MINUTE_S:
            _, out, back = seconds.popleft()
            self.sent -= out
            self.received -= back
        if seconds and seconds[-1][0] == second:
            seconds[-1][1] += sent
            seconds[-1][2] += received
        else:
            seconds.append([second, sent, received])
        self.sent += sent
        self.received += received


class Contexts:
    """The contexts of all devices: at most max_devices, and MAX_PAIRS pairs in all."""

    def __init__(self, max_devices: int, max_pairs: int = MAX_PAIRS) -> None:
        self._max_devices = max_devices
        self._max_pairs = max_pairs
        self._devices: dict[int, _Device] = {}
        self._pairs = 0

    def __len__(self) -> int:
        return len(self._devices)

    @property
    def pairs(self) -> int:
        """Pairs remembered now."""
        return self._pairs

    def evict(self, device: int) -> None:
        """Forget a device."""
        gone = self._devices.pop(device, None)
        if gone is not None:
            self._pairs -= len(gone.pairs)

    def maxima(self, device: int) -> Maxima | None:
        """Return what a device's relative features are held to; None where it is not known."""
        state = self._devices.get(device)
        return None if state is None else state.maxima

    def put_maxima(self, device: int, maxima: Maxima) -> None:
        """Hold a device's relative features to these from now on."""
        self._wake(device).maxima = maxima

    def row(self, visit: Visit) -> tuple[float, ...]:
        """Take one row of a device; return COLUMNS, this row included."""
        state = self._wake(visit.device)
        state.now = now = max(state.now, visit.told)
        minute, long = state.minute, state.long
        minute.expire(now)
        long.expire(now)
        gap_device = gap_pair = gap_port = 0.0
        if visit.first:
            gap_device = self._gap(state, visit.ts)
            gap_port = self._port(state, visit.port, visit.ts)
            new = 0 if visit.peer in state.peers else 1
            gap_pair, pair = self._pair(state, visit)
            seen = (now, visit.peer, visit.port, visit.failed, new, visit.local)
            minute.add(seen)
            long.add(seen)
        else:
            pair = self._look(state, visit.key)
        state.add_bytes(visit.sent, visit.received)
        usual = state.maxima.usual(now)
        state.maxima.note(
            now,
            (len(minute.rows), len(minute.peers), len(minute.ports), minute.failures, state.sent),
        )
        return (
            gap_device, gap_pair, gap_port, *pair,
            len(minute.rows), len(minute.peers), len(minute.ports), minute.failures, minute.new,
            len(minute.homes), state.sent, state.received,
            len(long.rows), len(long.peers), long.failures, long.new, *usual,
        )  # fmt: skip

    def _wake(self, device: int) -> _Device:
        """Return a device's memory; the one that spoke last stands at the end."""
        state = self._devices.pop(device, None)
        if state is None:
            while len(self._devices) >= self._max_devices:
                self.evict(next(iter(self._devices)))
            state = _Device()
        self._devices[device] = state
        return state

    @staticmethod
    def _gap(state: _Device, ts: int) -> float:
        """Note a connection's beginning; return the seconds since the one before."""
        last = state.last
        if last is None:
            state.last = ts
            return CAP_AGE_S
        state.last = max(last, ts)
        return min(max(ts - last, 0) / NS, CAP_AGE_S)

    @staticmethod
    def _port(state: _Device, port: int, ts: int) -> float:
        """Note a port; return the seconds since the device used it last."""
        last = state.ports.pop(port, None)
        if last is None:
            if len(state.ports) >= MAX_PORTS_PER_DEVICE:
                del state.ports[next(iter(state.ports))]
            state.ports[port] = ts
            return CAP_AGE_S
        state.ports[port] = max(last, ts)
        return min(max(ts - last, 0) / NS, CAP_AGE_S)

    def _pair(self, state: _Device, visit: Visit) -> tuple[float, tuple[float, ...]]:
        """Note a connection of a pair; return its gap and the eight columns of the pair."""
        key, ts, size, failed = visit.key, visit.ts, visit.size, visit.failed
        pair = state.pairs.pop(key, None)
        regular = equal = 0.0
        gap = CAP_AGE_S
        if pair is None:
            self._make_room(state)
            pair = _Pair()
            new = 1
            self._pairs += 1
            state.peers[visit.peer] = state.peers.get(visit.peer, 0) + 1
            pair.last = ts
        else:
            new = 0
            since = max(ts - pair.last, 0) / NS
            gaps = pair.gaps
            if len(gaps) > 1:
                usual = _median(gaps)
                regular = min(since, usual) / max(since, usual) if since != usual else 1.0
            equal = pair.sizes.count(size) / len(pair.sizes)
            pair.gaps = (*gaps[-_BEFORE:], since)
            gap = min(since, CAP_AGE_S)
            pair.last = max(pair.last, ts)
        state.pairs[key] = pair
        pair.sizes = (*pair.sizes[-_BEFORE:], size)
        pair.totals = (*pair.totals[-_BEFORE:], visit.total)
        pair.count = min(pair.count + 1, CAP_PAIR_COUNT)
        pair.fail_run = min(pair.fail_run + 1, CAP_PAIR_COUNT) if failed else 0
        pair.fail_bits = (pair.fail_bits << 1 | failed) & _FAIL_MASK
        return gap, (*_summary(pair, regular, equal), new)

    @staticmethod
    def _look(state: _Device, key: bytes) -> tuple[float, ...]:
        """Return the eight columns of a pair as they stand; none of its regularity or size."""
        pair = state.pairs.get(key)
        return _NO_PAIR if pair is None else (*_summary(pair, 0.0, 0.0), 0)

    def _make_room(self, state: _Device) -> None:
        """Forget the pair longest unseen; over MAX_PAIRS, the device that spoke longest ago."""
        if len(state.pairs) >= MAX_PAIRS_PER_DEVICE:
            self._forget(state)
        while self._pairs >= self._max_pairs and len(self._devices) > 1:
            self.evict(next(iter(self._devices)))

    def _forget(self, state: _Device) -> None:
        key = next(iter(state.pairs))
        del state.pairs[key]
        self._pairs -= 1
        _less(state.peers, key[:16])


def _median(values: tuple[float, ...]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


def _summary(pair: _Pair, regular: float, equal: float) -> tuple[float, ...]:
    """Return the median gap, regularity, equal sizes, spread, share failed, fail run, count."""
    gaps, totals = pair.gaps, pair.totals
    k = len(totals)
    if k == 1:
        return CAP_AGE_S, regular, equal, 0.0, pair.fail_bits, pair.fail_run, pair.count
    mean = sum(totals) / k
    variance = sum(map(mul, totals, totals)) / k - mean * mean
    return (
        min(_median(gaps), CAP_AGE_S) if gaps else CAP_AGE_S,
        regular,
        equal,
        sqrt(variance) if variance > 1e-12 else 0.0,
        pair.fail_bits.bit_count() / k,
        pair.fail_run,
        pair.count,
    )

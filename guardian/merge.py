"""Frames of several interfaces in one order: that of their times.

What comes out does not depend on when the interfaces were read. Frames of one interface keep their
order; each counts as late as the latest before it. Between interfaces the earlier frame goes first,
at the same nanosecond that of the interface named first. A frame waits until every interface has
handed over what it saw before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from guardian.feed import SPARE_BYTES
from guardian.tables import I64, U8, Array, Frames

LINK_ETHERNET, LINK_RAW = 1, 101
ROOM = 14
"""Bytes free before each frame of a packet without link layer: an Ethernet header fits in."""

_FOREVER = 1 << 62
_V6, _KIND_V4, _KIND_V6 = 6, (8, 0), (0x86, 0xDD)


@dataclass
class _Batch:
    """What is left of a batch from `at` on, and the times that give the order."""

    frames: Frames
    order: I64
    at: int = 0


@dataclass
class _Stream:
    """One interface: its batches, the latest time in them, and the time until which it is whole."""

    batches: deque[_Batch] = field(default_factory=deque)
    latest: int = 0
    clock: int = 0
    held: int = 0
    """Bytes of the batches."""


class Merge:
    """Batches of several streams in, batches in order of time out."""

    def __init__(self, streams: int) -> None:
        self._streams = [_Stream() for _ in range(streams)]
        self._now = 0

    def held(self, stream: int) -> int:
        """Return how many bytes wait of a stream."""
        return self._streams[stream].held

    def put(self, stream: int, frames: Frames) -> None:
        """Take a batch, which may be empty. Of its stream no frame before its `now` will follow."""
        one = self._streams[stream]
        one.clock = max(one.clock, frames.now)
        if not len(frames):
            return
        order = np.maximum.accumulate(np.maximum(frames.ts, one.latest))
        one.latest = int(order[-1])
        one.held += len(frames.data)
        one.batches.append(_Batch(frames, order))

    def take(self, running: Iterable[int]) -> Frames:
        """Return what lies before the clocks of the running streams, in order; perhaps nothing.

        That is all up to the clock that is furthest behind, but for what streams after that one
        gave at the very nanosecond: more of that one may still go before.
        """
        until, last = min((self._streams[stream].clock, stream) for stream in running)
        return self._take(until, last, until - 1)

    def rest(self) -> Frames:
        """Return all that waits, in order: no stream runs."""
        frames = self._take(_FOREVER, len(self._streams), 0)
        for one in self._streams:
            one.latest = one.clock = 0
        return frames

    def restart(self) -> Frames:
        """Return all that waits, and let the clock begin anew: it was set back."""
        frames = self.rest()
        self._now = 0
        return frames

    def _take(self, until: int, last: int, now: int) -> Frames:
        parts: list[Frames] = []
        orders: list[I64] = []
        for number, one in enumerate(self._streams):
            beyond = until + 1 if number <= last else until
            while one.batches:
                batch = one.batches[0]
                end = int(np.searchsorted(batch.order, beyond))
                if end > batch.at:
                    parts.append(_part(batch.frames, slice(batch.at, end)))
                    orders.append(batch.order[batch.at : end])
                    batch.at = end
                if end < len(batch.order):
                    break
                one.batches.popleft()
                one.held -= len(batch.frames.data)
        latest = max((int(order[-1]) for order in orders), default=0)
        self._now = max(self._now, now, latest)
        if not parts:
            return nothing(self._now)
        if len(parts) == 1:
            return replace(parts[0], now=self._now)
        return _joined(parts, np.argsort(np.concatenate(orders), kind="stable"), self._now)


def nothing(now: int) -> Frames:
    """Return an empty batch that carries the clock."""
    none = np.zeros(0, dtype=np.int64)
    return Frames(
        data=np.zeros(SPARE_BYTES, dtype=np.uint8),
        start=none,
        caplen=none,
        wirelen=none,
        ts=none,
        link=LINK_ETHERNET,
        csum_valid=np.zeros(0, dtype=np.bool_),
        now=now,
    )


def _part(frames: Frames, rows: slice) -> Frames:
    return replace(
        frames,
        start=frames.start[rows],
        caplen=frames.caplen[rows],
        wirelen=frames.wirelen[rows],
        ts=frames.ts[rows],
        csum_valid=frames.csum_valid[rows],
    )


def _joined(parts: list[Frames], rows: Array, now: int) -> Frames:
    """Join parts into one buffer, a copy for each part, and put their rows in order."""
    if len({part.link for part in parts}) > 1:
        parts = [_as_ethernet(part) if part.link == LINK_RAW else part for part in parts]
    starts, pieces, size = [], [], 0
    for part in parts:
        low, high = int(part.start.min()), int((part.start + part.caplen).max())
        starts.append(part.start - low + size)
        pieces.append(part.data[low:high])
        size += high - low
    data: U8 = np.concatenate([*pieces, np.zeros(SPARE_BYTES, dtype=np.uint8)])
    return Frames(
        data=data,
        start=np.concatenate(starts)[rows],
        caplen=np.concatenate([part.caplen for part in parts])[rows],
        wirelen=np.concatenate([part.wirelen for part in parts])[rows],
        ts=np.concatenate([part.ts for part in parts])[rows],
        link=parts[0].link,
        csum_valid=np.concatenate([part.csum_valid for part in parts])[rows],
        now=now,
    )


def _as_ethernet(part: Frames) -> Frames:
    """Write an Ethernet header without addresses into the room before each IP packet."""
    v6 = part.data[part.start] >> 4 == _V6
    heads = np.zeros((len(part), ROOM), dtype=np.uint8)
    heads[:, ROOM - 2 :] = np.where(v6[:, None], _KIND_V6, _KIND_V4)
    part.data[part.start[:, None] + np.arange(-ROOM, 0)] = heads
    return replace(
        part,
        start=part.start - ROOM,
        caplen=part.caplen + ROOM,
        wirelen=part.wirelen + ROOM,
        link=LINK_ETHERNET,
    )

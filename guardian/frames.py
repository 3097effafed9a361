"""Small tools on a buffer of frames: gather bytes at many offsets, cut into batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from guardian.addresses import V4_PREFIX
from guardian.const import NS
from guardian.tables import I64, U8, U64, Array, Frames

LEAP_NS = 3_600 * NS
"""A lone packet of a file that is this much ahead of those before and after it has a damaged time,
which would stop all timeouts until then; queues and interfaces reorder packets by far less."""

AHEAD_NS = 2 * NS
"""A live frame's stamp may be this much ahead of the wall clock when it is read. The kernel makes
both from one clock, so more is a clock set back meanwhile, or a card's stamp gone wrong."""


def rows_at(data: U8, at: Array, width: int) -> U8:
    """Return uint8[n, width]: the `width` bytes at each offset of int64[n].

    What lies beyond the end of data reads as zero. An overlapping view with a
    stride of one byte makes this a single gather.
    """
    size = len(data)
    if size < width or (len(at) and int(at.max()) > size - width):
        return _rows_near_end(data, at, width)
    view = np.ndarray((size - width + 1,), dtype=f"V{width}", buffer=data, strides=(1,))
    return view[at].view(np.uint8).reshape(len(at), width)


def words_at(data: U8, at: Array, width: int, kind: str) -> Array:
    """Return the bytes of rows_at() as words: [width / size of a word, n], in native order.

    `kind` is the dtype they have in data, such as `>u4`.
    """
    words = rows_at(data, at, width).view(kind).T
    return np.ascontiguousarray(words, dtype=words.dtype.newbyteorder("="))


def v4_addresses(numbers: Array) -> U64:
    """Return uint64[n, 2] of IPv4 addresses as unsigned integers."""
    pairs = np.zeros((len(numbers), 2), dtype=np.uint64)
    pairs[:, 1] = numbers
    pairs[:, 1] |= np.uint64(V4_PREFIX)
    return pairs


def _rows_near_end(data: U8, at: Array, width: int) -> U8:
    """rows_at() where some rows reach beyond data: those come from a padded copy of its end."""
    size = len(data)
    base = max(0, size - width)
    padded = np.zeros(size - base + 2 * width, dtype=np.uint8)
    padded[: size - base] = data[base:]
    late = at > base
    rows = np.empty((len(at), width), dtype=np.uint8)
    rows[late] = rows_at(padded, np.minimum(at[late], size) - base, width)
    if size >= width:
        rows[~late] = rows_at(data, at[~late], width)
    else:
        rows[~late] = rows_at(padded, at[~late], width)
    return rows


def believed(ts: I64, now: int) -> I64:
    """Return times in which a lone leap ahead is the moment before it.

    A packet leaps that is LEAP_NS ahead of the clock, `now` at first. The packet after it confirms
    it if it is not LEAP_NS behind. The last packet is believed, and the first of a capture (now 0).
    """
    if len(ts) < 2 or int(ts.max()) - (now or int(ts[0])) <= LEAP_NS:
        return ts
    times = ts.tolist()
    clock = now or times[0]
    for i, following in enumerate(times[1:]):
        if times[i] - max(clock, following) > LEAP_NS:
            times[i] = clock
        clock = max(clock, times[i])
    return np.array(times, dtype=np.int64)


def not_ahead(ts: I64, wall: int, now: int) -> tuple[I64, int]:
    """Return live times in which those ahead of the wall clock are the moment before, and how many.

    Where there is none before in the batch it is the one after, and `now` where all are ahead.
    """
    if not len(ts) or int(ts.max()) <= wall + AHEAD_NS:
        return ts, 0
    good = ts <= wall + AHEAD_NS
    count = len(ts) - int(np.count_nonzero(good))
    if count == len(ts):
        return np.full(len(ts), now, dtype=np.int64), count
    last = np.maximum.accumulate(np.where(good, np.arange(len(ts)), -1))
    last[last < 0] = int(np.argmax(good))
    return ts[last], count


def cut_batches(
    data: U8,
    *,
    start: I64,
    caplen: I64,
    wirelen: I64,
    ts: I64,
    link: int,
    now: int,
    batch: int,
) -> Iterator[Frames]:
    """Yield Frames of at most `batch` frames; their clocks run on from `now` and never back."""
    ts = believed(ts, now)
    for low in range(0, len(ts), batch):
        part = slice(low, low + batch)
        now = max(now, int(ts[part].max()))
        yield Frames(
            data=data,
            start=start[part],
            caplen=caplen[part],
            wirelen=wirelen[part],
            ts=ts[part],
            link=link,
            csum_valid=np.zeros(len(ts[part]), dtype=np.bool_),
            now=now,
        )

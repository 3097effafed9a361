"""Where the records of a classic pcap lie: each is found from the one before it.

One after the other they cost Python a tenth of a microsecond each. So places that look like the
head of a record are guessed, one in each stretch of a block, and all stretches are walked at the
same time. A stretch must end exactly where the next one was guessed to begin: that proves every
guess, and where one proves wrong, all is walked again one by one.
"""

from __future__ import annotations

import struct

import numpy as np

from guardian.const import MAX_FRAME_BYTES
from guardian.frames import rows_at
from guardian.tables import I64, U8

HEAD = 16
"""Bytes of a record's head: seconds, fraction, bytes captured, bytes on the wire."""
STRETCH = 16_384
"""Bytes between two guesses: some forty frames of usual sizes."""
WINDOW = 1_024
"""Bytes in which a head is looked for: where frames are longer, and so few, two stretches in
three have none and belong to the one before."""
MAX_HITS = 16
"""Places in a window that may look like a head, on average."""
TOGETHER = 50
"""Stretches that must be under way for a step of all to be cheaper than one by one."""


def offsets(data: U8, size: int, at: int, order: str) -> tuple[I64, int]:
    """Return the offsets of all whole records in data[:size] from `at` on, and where the rest
    begins. order: `<` or `>`."""
    if size - at > 4 * STRETCH:
        begins = np.append(at, _guess(data, size, at, order))
        most = _together(data, begins, order)
        if most is not None:
            rest, stop = _one_by_one(data.data[:size], int(begins[-1]), order)
            return np.concatenate((most, rest)), stop
    return _one_by_one(data.data[:size], at, order)


def _one_by_one(data: memoryview, at: int, order: str) -> tuple[I64, int]:
    caplen_at = struct.Struct(order + "8xI").unpack_from
    found: list[int] = []
    append = found.append
    try:
        while True:
            append(at)
            at += caplen_at(data, at)[0] + HEAD
    except struct.error:
        found.pop()
    if at > len(data):
        at = found.pop()
    return np.array(found, dtype=np.int64), at


def _guess(data: U8, size: int, at: int, order: str) -> I64:
    """Return offsets, one in a stretch at most, at which a record seems to begin: the seconds are
    those of the record at `at` but for the lower two bytes, also in the record behind it."""
    count = (size - at - WINDOW - 2 * HEAD) // STRETCH
    begin = at + STRETCH * np.arange(1, count + 1)
    place = 2 if order == "<" else 0  # of the upper two bytes of the seconds
    upper = data[at + place : at + place + 2]
    same = np.ones((count, WINDOW), dtype=np.bool_)
    for k in range(2):
        first = int(begin[0]) + place + k
        same &= np.ndarray((count, WINDOW), np.uint8, data, first, (STRETCH, 1)) == upper[k]
    if np.count_nonzero(same) > MAX_HITS * count:
        return begin[:0]  # they tell nothing, as with times near zero in frames full of zeros
    hits = np.flatnonzero(same)
    stretch = hits // WINDOW
    heads = begin[stretch] + hits % WINDOW
    captured, wire = rows_at(data, heads + 8, 8).view(order + "u4").T.astype(np.int64)
    behind = np.minimum(heads + HEAD + captured, size - HEAD)
    good = (captured <= MAX_FRAME_BYTES) & (captured <= wire)
    good &= (rows_at(data, behind + place, 2) == upper).all(axis=1)
    heads, stretch = heads[good], stretch[good]
    guesses: I64 = heads[np.diff(stretch, prepend=-1) > 0]
    return guesses


def _together(data: U8, begins: I64, order: str) -> I64 | None:
    """Return the offsets of the records from begins[0] to begins[-1], or None where one of the
    begins between them is none."""
    sizes = np.ndarray((len(data) - HEAD,), "V4", data, 8, (1,))
    caplen_at = struct.Struct(order + "8xI").unpack_from
    now, ends = begins[:-1], begins[1:]
    parts: list[I64] = []
    while len(now) > TOGETHER:
        parts.append(now)
        now = now + sizes[now].view(order + "u4")
        now += HEAD
        going = now < ends
        if not going.all():
            if (now[~going] != ends[~going]).any():
                return None
            now, ends = now[going], ends[going]
    found: list[int] = []
    for at, end in zip(now.tolist(), ends.tolist(), strict=True):
        while at < end:
            found.append(at)
            at += caplen_at(data.data, at)[0] + HEAD  # noqa: PLW2901 (it walks)
        if at != end:
            return None
    parts.append(np.array(found, dtype=np.int64))
    all_: I64 = np.concatenate(parts)
    all_.sort()
    return all_

"""Internet checksums of many pieces of one buffer at once.

A one's complement sum of 16-bit words can be taken over wider words and folded
later, and in either byte order if the result is swapped (RFC 1071). So a piece
is the sum of the aligned 32-bit words it spans, less what sticks out in front,
plus what sticks out behind: one `add.reduceat` over the buffer.
"""

from __future__ import annotations

import numpy as np

from guardian.tables import I64, U8, U64, Array

_AT_ONCE = 4_096
"""Pieces summed in one go: their ends, looked at once more, are still in a cache."""
_ONES = np.uint64(0xFFFF)
_HEAD_MASK = np.array([0, 0xFF, 0xFFFF, 0xFFFFFF], dtype=np.uint32)
"""The first 0 to 3 bytes in memory of a little-endian word."""


def fold(sums: Array) -> U64:
    """Return uint64[n] of 16-bit one's complement sums of uint64[n] plain sums."""
    # A remainder by 0xFFFF, where only nothing at all gives zero; numpy is quick to divide by a
    # number, but slow to take remainders.
    folded: U64 = sums - sums // _ONES * _ONES
    folded[(folded == 0) & (sums != 0)] = _ONES
    return folded


def sums(data: U8, start: I64, stop: I64) -> U64:
    """Return uint64[n]: folded big-endian sums of data[start:stop], an odd byte padded by zero."""
    return fold(unfolded(data, start, stop))


def unfolded(data: U8, start: I64, stop: I64) -> U64:
    """Return what sums() folds: below 2**56 each, so that more can be added before.

    Pieces lie inside data; they are fastest in rising order.
    """
    if len(start) > _AT_ONCE:
        parts = range(0, len(start), _AT_ONCE)
        return np.concatenate(
            [unfolded(data, start[k : k + _AT_ONCE], stop[k : k + _AT_ONCE]) for k in parts]
        )
    if not len(start):
        return np.zeros(0, dtype=np.uint64)
    low, high = int(start.min()) & ~3, (int(stop.max()) | 3) + 1
    if high > len(data) or data.ctypes.data & 3 or not data.flags.c_contiguous:
        aligned = np.zeros(high - low, dtype=np.uint8)
        piece = data[low:high]
        aligned[: len(piece)] = piece
        words = aligned.view("<u4")
    else:
        words = data[low:high].view("<u4")
    first, last = (start - low) >> 2, (stop - low) >> 2
    edges = np.empty(2 * len(start), dtype=np.int64)
    edges[0::2], edges[1::2] = first, last
    whole = np.add.reduceat(words, edges, dtype=np.uint64)[::2]
    whole[first == last] = 0  # reduceat gives the word itself there
    whole -= words[first] & _HEAD_MASK[start & 3]
    whole += words[last] & _HEAD_MASK[stop & 3]
    # 2**16 counts as 1, so that a shift by 8 swaps the bytes of what it will be folded to.
    whole <<= ((~start & 1) << 3).view(np.uint64)
    return whole

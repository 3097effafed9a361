"""pcapng -> Frames: sections, interfaces, and the three kinds of packet blocks.

Blocks are walked once; a run of packet blocks between others (an interface, a
section, names, statistics) becomes columns together. Both byte orders, several
interfaces with their own link types and clocks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from guardian.const import MAX_FRAME_BYTES, NS
from guardian.errors import InputError
from guardian.feed import Feed
from guardian.frames import cut_batches, rows_at
from guardian.tables import I64, U8, Array, Bool, Frames

SECTION_MAGIC = b"\x0a\x0d\x0d\x0a"
"""Type of a section header block, the same in both byte orders."""

_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 2, 3, 6
_ORDER_MAGIC = 0x1A2B3C4D

MAX_BLOCK_BYTES = 16 << 20
"""Bytes in one block (Wireshark's own limit); more means a damaged length."""

MAX_INTERFACES = 4_096
"""Interfaces in a section: a capture has a handful, a damaged one may claim any number."""

_LEAST = np.zeros(256, dtype=np.int64)
_LEAST[[_OLD_PACKET, _SIMPLE, _ENHANCED]] = 32, 16, 32
"""Bytes of a packet block without its packet."""
_FIXED = np.zeros(256, dtype=np.int64)
_FIXED[[_OLD_PACKET, _SIMPLE, _ENHANCED]] = 28, 12, 28
"""Bytes before its packet."""

_LEAST_OTHER = {_SECTION: 28, _INTERFACE: 20, _OLD_PACKET: 16, _SIMPLE: 16, _ENHANCED: 16}
"""Bytes of other blocks (a packet block lands there only where it is cut or far too short)."""

_I64_MAX = (1 << 63) - 1


@dataclass(frozen=True)
class Interface:
    """What an interface block says: link type, snap length, and how its clock ticks."""

    link: int
    snaplen: int
    resolution: int = 6
    """if_tsresol: 10**-n seconds, or 2**-(n - 128) where the high bit is set."""
    offset: int = 0
    """if_tsoffset: seconds to add."""

    def nanoseconds(self, ticks: Array) -> I64:
        """Return int64 ns of uint64 ticks; what does not fit becomes the latest time there is."""
        exponent = self.resolution & 0x7F
        if self.resolution & 0x80:
            seconds = ticks >> np.uint64(exponent) if exponent < 64 else np.zeros_like(ticks)
            rest = ticks & np.uint64((1 << min(exponent, 64)) - 1)
            drop = max(0, exponent - 30)  # 30 bits of a fraction are finer than a nanosecond
            rest = rest >> np.uint64(drop) if drop < 64 else np.zeros_like(ticks)
            part = (rest * np.uint64(NS)) >> np.uint64(exponent - drop)
            ns = np.minimum(seconds, np.uint64(_I64_MAX // NS - 1)) * np.uint64(NS) + part
        elif exponent <= 9:
            factor = 10 ** (9 - exponent)
            ns = np.minimum(ticks, np.uint64(_I64_MAX // factor)) * np.uint64(factor)
        else:
            divisor = 10 ** (exponent - 9)
            ns = ticks // np.uint64(divisor) if divisor <= _I64_MAX else np.zeros_like(ticks)
        ns = np.minimum(ns, np.uint64(_I64_MAX)).astype(np.int64)
        if self.offset:
            shift = max(-_I64_MAX, min(_I64_MAX, self.offset * NS))
            ns = np.clip(ns, max(0, -shift), min(_I64_MAX, _I64_MAX - shift)) + shift
        return ns


@dataclass
class _State:
    """Where a reader stands between blocks of bytes."""

    order: str = "<"
    interfaces: list[Interface] = field(default_factory=list)
    packets: int = 0
    now: int = 0
    last_ts: int = 0
    """Time of the packet before: a simple packet block has none of its own."""
    trouble: str = ""


def read_pcapng(feed: Feed, name: str, batch: int) -> Iterator[Frames]:
    """Yield the frames of a pcapng; raises InputError last where it is faulty."""
    state = _State()
    used = 0
    while feed.more(used):
        used = 0
        while True:
            run, stop = _walk(feed.data.data[: feed.size], used, state.order)
            yield from _frames(feed.data, run, state, feed.at, batch)
            if not state.trouble:
                used = _other_block(feed.data.data[: feed.size], stop, state, feed.at)
            if state.trouble or used == stop:
                break
        if state.trouble:
            break
    if not state.trouble:
        if feed.fault:
            state.trouble = f"damaged after packet {state.packets} ({feed.fault})"
        elif feed.size:
            state.trouble = f"cut off after packet {state.packets} at byte {feed.at + feed.size}"
    if state.trouble:
        raise InputError(f"{name}: {state.trouble}; the packets before it were read")


def _walk(data: memoryview, at: int, order: str) -> tuple[I64, int]:
    """Return the offsets of the packet blocks in a row from `at` on, and where the row ends."""
    type_and_length = struct.Struct(order + "II").unpack_from
    offsets: list[int] = []
    append = offsets.append
    size = len(data)
    last = size - 12
    while at <= last:
        kind, length = type_and_length(data, at)
        if kind not in (_ENHANCED, _SIMPLE, _OLD_PACKET) or length < 16 or at + length > size:
            break
        append(at)
        at += length
    return np.array(offsets, dtype=np.int64), at


def _frames(data: U8, run: I64, state: _State, base: int, batch: int) -> Iterator[Frames]:
    """Yield the frames of a run of packet blocks; what is wrong with one is state.trouble."""
    if not len(run):
        return
    fields = rows_at(data, run, 28).view(state.order + "u4").astype(np.uint32)
    kind, length = fields[:, 0], fields[:, 1].astype(np.int64)
    simple = kind == _SIMPLE
    # An old packet block keeps its interface in 16 bits, the drops in the other 16.
    old = fields[:, 2] >> np.uint32(16) if state.order == ">" else fields[:, 2] & np.uint32(0xFFFF)
    which = np.where(simple, 0, np.where(kind == _OLD_PACKET, old, fields[:, 2])).astype(np.int64)
    least = _LEAST[kind]
    wirelen = np.where(simple, fields[:, 2], fields[:, 6]).astype(np.int64)
    snap = state.interfaces[0].snaplen if state.interfaces else 0
    caplen = np.where(simple, np.minimum(wirelen, snap or _I64_MAX), fields[:, 5]).astype(np.int64)
    closing = rows_at(data, run + length - 4, 4).view(state.order + "u4")[:, 0]
    wrong = (
        (length < least)
        | (caplen > np.minimum(length - least, MAX_FRAME_BYTES))
        | (closing != fields[:, 1])
        | (which >= len(state.interfaces))
    )
    good = int(wrong.argmax()) if wrong.any() else len(run)
    if good:
        head = slice(0, good)
        start = run[head] + _FIXED[kind[head]]
        ticks = fields[head, 3].astype(np.uint64) << np.uint64(32) | fields[head, 4]
        ts = _times(ticks, which[head], simple[head], state)
        state.last_ts = int(ts[-1])
        for low, high, link in _same_link(which[head], state.interfaces):
            part = slice(low, high)
            for frames in cut_batches(
                data,
                start=start[part],
                caplen=caplen[part],
                wirelen=wirelen[part],
                ts=ts[part],
                link=link,
                now=state.now,
                batch=batch,
            ):
                yield frames
                state.now = frames.now
        state.packets += good
    if good < len(run):
        state.trouble = f"damaged after packet {state.packets} at byte {base + int(run[good])}"


def _times(ticks: Array, which: I64, simple: Bool, state: _State) -> I64:
    """Return the times of packets by their interfaces' clocks; simple ones repeat the last."""
    ts = np.zeros(len(ticks), dtype=np.int64)
    for index in np.unique(which).tolist():
        of_it = which == index
        ts[of_it] = state.interfaces[index].nanoseconds(ticks[of_it])
    if simple.any():
        source = np.maximum.accumulate(np.where(simple, -1, np.arange(len(ts))))
        ts = np.where(source < 0, state.last_ts, ts[source])
    return ts


def _same_link(which: I64, interfaces: list[Interface]) -> Iterator[tuple[int, int, int]]:
    """Yield (from, to, link type) of stretches of packets with one link type."""
    links = np.array([interface.link for interface in interfaces], dtype=np.int64)[which]
    edges = [0, *(np.nonzero(np.diff(links))[0] + 1).tolist(), len(links)]
    for low, high in pairwise(edges):
        yield low, high, int(links[low])


def _other_block(data: memoryview, at: int, state: _State, base: int) -> int:
    """Take in the block at `at`, which is no whole packet block; return where the next begins.

    Returns `at` where the block is not there to its end, or is damaged (state.trouble).
    """
    if at + 12 > len(data):
        return at
    kind, length = struct.unpack_from(state.order + "II", data, at)
    if kind == _SECTION:
        magic = bytes(data[at + 8 : at + 12])
        orders = [order for order in "<>" if struct.unpack(order + "I", magic) == (_ORDER_MAGIC,)]
        if orders:
            state.order = orders[0]
        length = struct.unpack_from(state.order + "I", data, at + 4)[0] if orders else 0
    if not _LEAST_OTHER.get(kind, 12) <= length <= MAX_BLOCK_BYTES:
        state.trouble = f"damaged after packet {state.packets} at byte {base + at}"
        return at
    if at + length > len(data):
        return at
    body = bytes(data[at : at + length])
    crowded = kind == _INTERFACE and len(state.interfaces) >= MAX_INTERFACES
    if crowded or struct.unpack_from(state.order + "I", body, length - 4)[0] != length:
        state.trouble = f"damaged after packet {state.packets} at byte {base + at}"
        return at
    if kind == _SECTION:
        state.interfaces.clear()
    elif kind == _INTERFACE:
        state.interfaces.append(_interface(body, state.order))
    return int(at + length)


def _interface(body: bytes, order: str) -> Interface:
    """Read an interface block, whose options may end anywhere."""
    link, _, snaplen = struct.unpack_from(order + "HHI", body, 8)
    resolution, offset = 6, 0
    at, end = 16, len(body) - 4
    while at + 4 <= end:
        code, length = struct.unpack_from(order + "HH", body, at)
        value = body[at + 4 : min(at + 4 + length, end)]
        if code == 0:
            break
        if code == 9 and len(value) >= 1:
            resolution = value[0]
        elif code == 14 and len(value) >= 8:
            offset = struct.unpack_from(order + "q", value)[0]
        at += 4 + (length + 3 & ~3)
    return Interface(link, snaplen, resolution, offset)

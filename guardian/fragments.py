"""IP fragments put together again before the transport layer is read.

The one thing decode keeps between batches. Fragments are rare, so they go through a plain loop,
in order of arrival; what decides is packet time and the order of packets, never a batch. Where
fragments overlap, the bytes that came first stay.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from guardian import checksum
from guardian.const import (
    FRAGMENT_TIMEOUT_NS,
    FRAGMENTS_PER_S,
    MAX_FRAGMENT_BYTES,
    MAX_FRAGMENTED,
    MAX_PIECES,
    NS,
)
from guardian.tables import I64, U8, U32, U64, Bool, Table, col

_MOST = 0xFFFF
"""Bytes that the length field of an IP header can tell."""


@dataclass(frozen=True)
class Pieces(Table):
    """The fragments of a batch, one row each."""

    row: I64 = col("i8")
    """Its frame."""
    src: U64 = col("u8", 2)
    dst: U64 = col("u8", 2)
    v6: Bool = col("?")
    proto: U8 = col("u1")
    """What the whole datagram holds."""
    ident: U32 = col("u4")
    offset: I64 = col("i8")
    """Where its bytes belong in the whole, in bytes."""
    last: Bool = col("?")
    net: I64 = col("i8")
    """Offset in data of the IP header."""
    fixed: I64 = col("i8")
    """Offset behind the headers that each fragment repeats."""
    body: I64 = col("i8")
    end: I64 = col("i8")
    """Offsets of the fragment's own bytes."""
    named: I64 = col("i8")
    """IPv6: offset of the byte that announces the fragment header."""
    judge: Bool = col("?")
    """Its checksums count."""


@dataclass(frozen=True)
class Whole:
    """A datagram put together, and the frame that completed it."""

    row: int
    v6: bool
    datagram: bytes
    judge: bool


@dataclass
class _Partial:
    """What has come of one datagram: chunks in order that do not overlap."""

    begun: int
    starts: list[int] = field(default_factory=list)
    chunks: list[bytes] = field(default_factory=list)
    size: int = 0
    """Bytes held."""
    total: int = -1
    """Bytes of the whole, once its last fragment came."""
    head: bytes = b""
    """The headers, as the first fragment has them."""
    judge: bool = True

    def add(self, offset: int, piece: bytes) -> None:
        """Take in what no earlier fragment has brought; an early end keeps nothing behind it."""
        at = offset
        end = offset + len(piece)
        k = bisect_right(self.starts, at) - 1
        if k >= 0:
            at = max(at, self.starts[k] + len(self.chunks[k]))
        k += 1
        while at < end:
            stop = min(end, self.starts[k]) if k < len(self.starts) else end
            if at < stop:
                self.starts.insert(k, at)
                self.chunks.insert(k, piece[at - offset : stop - offset])
                self.size += stop - at
                k += 1
            if k >= len(self.starts):
                return
            at = self.starts[k] + len(self.chunks[k])
            k += 1

    def body(self) -> bytes | None:
        """Return the whole, if all of it is there."""
        if self.total < 0 or not self.head or self.size < self.total:
            return None
        # Chunks do not overlap: as many bytes as places up to the last leave no hole.
        if self.size != self.starts[-1] + len(self.chunks[-1]):
            return None
        return b"".join(self.chunks)[: self.total]


class Defragmenter:
    """Datagrams of which fragments are missing; their number and bytes are capped."""

    def __init__(self) -> None:
        self._partial: OrderedDict[tuple[int, ...], _Partial] = OrderedDict()
        self._bytes = 0
        self._clock = -(1 << 62)
        self._second = 0
        self._count = 0
        self.given_up = 0
        """Datagrams that were let go incomplete: too late, too many, or in too many pieces."""

    def __len__(self) -> int:
        return len(self._partial)

    def take(self, data: U8, ts: I64, pieces: Pieces) -> list[Whole]:
        """Take the fragments of a batch in order; return the datagrams that became whole."""
        out = []
        columns = (
            pieces.row, pieces.v6, pieces.proto, pieces.ident, pieces.offset, pieces.last,
            pieces.net, pieces.fixed, pieces.body, pieces.end, pieces.named, pieces.judge,
        )  # fmt: skip
        ends = np.concatenate([pieces.src, pieces.dst], axis=1).tolist()
        rows = zip(*(column.tolist() for column in columns), strict=True)
        for end_points, row in zip(ends, rows, strict=True):
            number, v6, proto, ident, offset, last, net, fixed, body, end, named, judge = row
            if not self._admitted(int(ts[number])):
                continue
            key = (*end_points, ident, -1 if v6 else proto)
            partial = self._partial.get(key)
            if partial is None:
                partial = self._partial[key] = _Partial(self._clock)
            before = partial.size + len(partial.head)
            if offset == 0 and not partial.head:
                head = bytearray(data[net:fixed].tobytes())
                if v6:
                    head[named - net] = proto
                partial.head = bytes(head)
            if last and partial.total < 0:
                partial.total = offset + end - body
            partial.judge &= judge
            partial.add(offset, data[body:end].tobytes())
            self._bytes += partial.size + len(partial.head) - before
            whole = partial.body()
            if whole is not None:
                self._drop(key)
                if len(whole) + len(partial.head) <= _MOST:
                    out.append(Whole(number, v6, _joined(partial.head, whole, v6), partial.judge))
            elif len(partial.chunks) > MAX_PIECES:
                self._drop(key)
                self.given_up += 1
            while len(self._partial) > MAX_FRAGMENTED or self._bytes > MAX_FRAGMENT_BYTES:
                self._give_up_oldest()
        return out

    def _admitted(self, ts: int) -> bool:
        """Move the clock; tell whether this second of it has time for one more."""
        self._clock = max(self._clock, ts)
        while self._partial:
            oldest = next(iter(self._partial.values()))
            if oldest.begun + FRAGMENT_TIMEOUT_NS > self._clock:
                break
            self._give_up_oldest()
        second = self._clock // NS
        if second != self._second:
            self._second, self._count = second, 0
        self._count += 1
        return self._count <= FRAGMENTS_PER_S

    def _give_up_oldest(self) -> None:
        self._drop(next(iter(self._partial)))
        self.given_up += 1

    def _drop(self, key: tuple[int, ...]) -> None:
        partial = self._partial.pop(key)
        self._bytes -= partial.size + len(partial.head)


def _joined(head: bytes, body: bytes, v6: bool) -> bytes:
    """Return a datagram that was never cut: lengths, flags and checksum are set so."""
    out = bytearray(head)
    if v6:
        out[4:6] = (len(head) - 40 + len(body)).to_bytes(2, "big")
        return bytes(out) + body
    out[2:4] = (len(head) + len(body)).to_bytes(2, "big")
    out[6:8] = bytes([out[6] & 0x40, 0])
    out[10:12] = b"\0\0"
    ends = np.array([len(out)], dtype=np.int64)
    total = checksum.sums(np.frombuffer(bytes(out), dtype=np.uint8), ends * 0, ends)
    out[10:12] = (int(total[0]) ^ 0xFFFF).to_bytes(2, "big")
    return bytes(out) + body

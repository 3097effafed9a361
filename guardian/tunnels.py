"""What packets carry inside: the frames and datagrams within tunnels, found by column.

As Zeek sees it: GRE with its many payloads and IP in IP by protocol, VXLAN, GENEVE and GTP-U by
port, Teredo and AYIYA by port or by what they look like. What was found is decoded again and must
hold there; here only the tunnel's own header is read. RFC 2784, 2637, 7348, 8926, 4380.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from guardian.fates import SPLIT, Batch
from guardian.frames import rows_at, words_at
from guardian.links import (
    ANY_IP,
    ETH_ETHERNET,
    ETH_IP4,
    ETH_IP6,
    ETH_PPP,
    ETH_WIFI,
    LLC_HERE,
    SUBFRAMES,
    Links,
)
from guardian.tables import I64, U8, U16, U64, Array, Bool, Packets, Table, col

IP_TUNNEL, VXLAN, GENEVE, GTP, TEREDO, AYIYA = range(1, 7)
"""Values of Packets.carries; 0 is nothing."""

ALWAYS = (VXLAN, GENEVE, AYIYA)
"""Tunnels that show themselves by their header, whatever is inside."""

_GRE, _UDP = 47, 17
_OVER_IP = np.zeros(256, dtype=np.bool_)
_OVER_IP[[4, 41, _GRE]] = True
_MAY_CARRY = _OVER_IP.copy()
_MAY_CARRY[_UDP] = True

_PORTS = np.zeros(1 << 16, dtype=np.uint8)
_PORTS[[4789, 6081, 2152, 3544, 5072]] = VXLAN, GENEVE, GTP, TEREDO, AYIYA

MAX_SUBFRAMES = 16
"""Packets taken out of one 802.11 frame (A-MSDU): usual are 2 to 7."""

MAX_GTP_EXTENSIONS = 4
"""Extension headers of GTP-U walked: one is usual."""


@dataclass(frozen=True)
class Inner(Table):
    """Frames inside others, one row each."""

    frame: I64 = col("i8")
    """Index into the batch's Frames."""
    outer: I64 = col("i8")
    """The packet that carries it, -1 for none (part of an 802.11 frame)."""
    tunnel: U8 = col("u1")
    kind: U16 = col("u2")
    """What it begins with, as links.py names it."""
    start: I64 = col("i8")
    cap_end: I64 = col("i8")
    wire_end: I64 = col("i8")
    judge: Bool = col("?")
    src_mac: U64 = col("u8")
    """Of the outermost frame: who sent it on this net, whatever is claimed inside."""
    dst_mac: U64 = col("u8")


NONE = Inner.empty()


@dataclass(frozen=True)
class _Payloads:
    """Payloads of packets that may be tunnels; what is found is written into kind and start."""

    data: U8
    start: I64
    cap_end: I64
    wire_end: I64
    kind: U16
    """What is inside; 0 for nothing."""

    def found(self, rows: I64, good: Bool, kind: Array | int, start: I64) -> None:
        """Note what begins at start in those of the rows that are good and have it captured."""
        good = good & (start <= self.cap_end[rows]) & (start <= self.wire_end[rows])
        self.kind[rows] = np.where(good, kind, 0)
        self.start[rows] = start


def carried(data: U8, packets: Packets, judge: Bool) -> Inner:
    """Return what the packets carry; `judge` says of each frame whether its checksums count."""
    proto = packets.proto
    rows = np.nonzero(_MAY_CARRY[proto])[0]
    if not len(rows):
        return NONE
    tunnel = _likely(data, packets, rows)
    likely = np.nonzero(tunnel)[0]
    likely = likely[~packets.bad_csum[rows[likely]]]
    rows, tunnel = rows[likely], tunnel[likely]
    if not len(rows):
        return NONE
    start = packets.payload_start[rows]
    payloads = _Payloads(
        data=data,
        start=start,
        cap_end=start + packets.payload_cap[rows],
        wire_end=start + packets.payload_len[rows],
        kind=np.zeros(len(rows), dtype=np.uint16),
    )
    for code in np.unique(tunnel).tolist():
        mine = np.nonzero(tunnel == code)[0]
        if code == IP_TUNNEL:
            _over_ip(payloads, mine, proto[rows[mine]])
        else:
            _OVER_UDP[code](payloads, mine)
    found = np.nonzero(payloads.kind)[0]
    rows = rows[found]
    frame = packets.frame[rows]
    return Inner(
        frame=frame,
        outer=rows,
        tunnel=tunnel[found],
        kind=payloads.kind[found],
        start=payloads.start[found],
        cap_end=payloads.cap_end[found],
        wire_end=payloads.wire_end[found],
        judge=judge[frame],
        src_mac=packets.src_mac[rows],
        dst_mac=packets.dst_mac[rows],
    )


def _likely(data: U8, packets: Packets, rows: I64) -> U8:
    """Return the tunnel that each packet may be by protocol, port, or first bytes."""
    ports, others = _PORTS[packets.dport[rows]], _PORTS[packets.sport[rows]]
    first, second = words_at(data, packets.payload_start[rows], 8, ">u4")
    # IPv6 at once must say how long it is, or that it is a bubble.
    fits = (second >> 16) + 40 == packets.payload_len[rows]
    fits |= second >> 8 & 0xFF == 59
    guess = ((fits & (first >> 28 == 6)) | (first >> 17 == 0)) * np.uint8(TEREDO)
    guess[first >> 8 & 0xFFFF == 0x5211] = AYIYA
    code: U8 = np.where(ports != 0, ports, np.where(others != 0, others, guess))
    code[packets.payload_cap[rows] < 8] = 0
    code[_OVER_IP[packets.proto[rows]]] = IP_TUNNEL
    return code


def _over_ip(p: _Payloads, rows: I64, proto: U8) -> None:
    p.found(rows, proto != _GRE, np.where(proto == 4, ETH_IP4, ETH_IP6), p.start[rows])
    rows = rows[proto == _GRE]
    at = p.start[rows]
    flags, kind = words_at(p.data, at, 4, ">u2").astype(np.int64)
    version = flags & 7
    length = 4 + sum(np.where(flags & bit, 4, 0) for bit in (0x8000, 0x2000, 0x1000, 0x0080))
    # The route of RFC 1701 is deprecated, and nobody knows the reserved flags.
    good = (at + length <= p.cap_end[rows]) & (flags & 0x4078 == 0)
    erspan = kind == 0x88BE
    erspan3 = kind == 0x22EB
    head = length + np.where(erspan & (flags & 0x1000 != 0), 8, 0) + np.where(erspan3, 12, 0)
    last = rows_at(p.data, at + head - 1, 1)[:, 0]
    head += np.where(erspan3 & (last & 1 != 0), 8, 0)
    # Aruba's controllers put 802.11 frames inside.
    aruba = (kind >= 0x8200) & (kind <= 0x83FF) & (kind & 0x0F == 0) | (kind == 0x9000)
    kind = np.where(erspan | erspan3, ETH_ETHERNET, np.where(aruba, ETH_WIFI, kind))
    plain = good & (version == 0) & (kind >= 0x0600)
    pptp = good & (version == 1) & (kind == ETH_PPP)
    p.found(rows, plain | pptp, kind, at + head)


def _vxlan(p: _Payloads, rows: I64) -> None:
    at = p.start[rows]
    flags = rows_at(p.data, at, 1)[:, 0]
    p.found(rows, flags & 0x08 != 0, ETH_ETHERNET, at + 8)


def _geneve(p: _Payloads, rows: I64) -> None:
    at = p.start[rows]
    head = words_at(p.data, at, 4, ">u2").astype(np.int64)
    length = 8 + (head[0] >> 8 & 0x3F) * 4
    p.found(rows, (head[0] >> 14 == 0) & (head[1] >= 0x0600), head[1], at + length)


def _gtp(p: _Payloads, rows: I64) -> None:
    """GTP-U: version 1, a G-PDU, perhaps with optional fields and extension headers."""
    at = p.start[rows]
    flags, message = rows_at(p.data, at, 2).T
    good = (flags >> 5 == 1) & (flags & 0x10 != 0) & (message == 0xFF)
    start = at + 8 + np.where(flags & 7, 4, 0)
    more = good & (flags & 4 != 0)
    for left in range(MAX_GTP_EXTENSIONS, -1, -1):
        # The last byte of a header names the next.
        more &= (start <= p.cap_end[rows]) & (rows_at(p.data, start - 1, 1)[:, 0] != 0)
        if not left or not more.any():
            break
        size = rows_at(p.data, start, 1)[:, 0].astype(np.int64) * 4
        good &= ~more | (size > 0)
        start = start + np.where(more, size, 0)
    good &= ~more
    p.found(rows, good & (_ip_size(p, rows, start) == p.wire_end[rows] - start), ANY_IP, start)


def _teredo(p: _Payloads, rows: I64) -> None:
    """An authentication, an origin indication, each only if it is there, then IPv6."""
    start = p.start[rows]
    good = start + 40 <= p.cap_end[rows]
    word = words_at(p.data, start, 4, ">u4")[0].astype(np.int64)
    authentic = word >> 16 == 1
    start = start + np.where(authentic, 13 + (word >> 8 & 0xFF) + (word & 0xFF), 0)
    origin = words_at(p.data, start, 2, ">u2")[0] == 0
    start = start + np.where(origin, 8, 0)
    good &= start + 40 <= p.cap_end[rows]
    head = words_at(p.data, start, 40, ">u4")
    good &= head[0] >> 28 == 6
    size = (head[1] >> 16).astype(np.int64) + 40
    room = p.wire_end[rows] - start
    bubble = (head[1] >> 8 & 0xFF == 59) & (size == 40)
    good &= (size == room) | (bubble & (size <= room))
    # Without a header before it, one of the addresses must be Teredo's own.
    good &= authentic | origin | (head[2] == 0x20010000) | (head[6] == 0x20010000)
    p.found(rows, good, ETH_IP6, start)


def _ayiya(p: _Payloads, rows: I64) -> None:
    at = p.start[rows]
    identity, signature, code, following = rows_at(p.data, at, 4).T.astype(np.int64)
    length = 8 + (1 << (identity >> 4)) + (signature >> 4) * 4
    kind = np.where(following == 41, ETH_IP6, np.where(following == 4, ETH_IP4, 0))
    p.found(rows, code & 0x0F == 1, kind, at + length)


def _ip_size(p: _Payloads, rows: I64, start: I64) -> I64:
    """Return the bytes that an IP header at start claims for its datagram, -1 where it is none."""
    head = words_at(p.data, start, 6, ">u2").astype(np.int64)
    version = head[0] >> 12
    size: I64 = np.where(version == 4, head[1], np.where(version == 6, head[2] + 40, -1))
    size[start + 20 > p.cap_end[rows]] = -1
    return size


_OVER_UDP: dict[int, Callable[[_Payloads, I64], None]] = {
    VXLAN: _vxlan,
    GENEVE: _geneve,
    GTP: _gtp,
    TEREDO: _teredo,
    AYIYA: _ayiya,
}


def subframes(batch: Batch, below: Links, judge: Bool, inside: Inner | None = None) -> Inner:
    """Return the packets of 802.11 frames that hold several, whose fate this is.

    `inside` are the frames of the batch, where they lay inside others already.
    """
    rows = batch.alive(np.nonzero(below.kind == SUBFRAMES)[0])
    if not len(rows):
        return NONE
    batch.give_up(rows, SPLIT)
    at, left = below.net[rows], rows
    found, parents = [], []
    for _ in range(MAX_SUBFRAMES):
        fits = at + 14 <= batch.cap_end[left]
        left, at = left[fits], at[fits]
        head = words_at(batch.data, at, 16, ">u8")
        end = at + 14 + (head[1] >> 16 & 0xFFFF).astype(np.int64)
        fits = end <= batch.wire_end[left]
        left, at, end, head = left[fits], at[fits], end[fits], head[:, fits]
        if not len(left):
            break
        found.append(_subframe(batch, left, at, end, head, judge, inside))
        parents.append(left)
        at = at + (end - at + 3 & ~3)  # all but the last are padded
    if not found:
        return NONE
    return Inner.concat(found).take(np.argsort(np.concatenate(parents), kind="stable"))


def _subframe(
    batch: Batch, rows: I64, at: I64, end: I64, head: Array, judge: Bool, inside: Inner | None
) -> Inner:
    """Return the subframes at `at`, one of each frame, whose first 16 bytes are head."""
    n = len(rows)
    return Inner(
        frame=rows if inside is None else inside.frame[rows],
        outer=np.full(n, -1, dtype=np.int64) if inside is None else inside.outer[rows],
        tunnel=np.zeros(n, dtype=np.uint8) if inside is None else inside.tunnel[rows],
        kind=np.full(n, LLC_HERE, dtype=np.uint16),
        start=at + 14,
        cap_end=np.minimum(end, batch.cap_end[rows]),
        wire_end=end,
        judge=judge[rows],
        src_mac=(head[0] & 0xFFFF) << 32 | head[1] >> 32
        if inside is None
        else inside.src_mac[rows],
        dst_mac=head[0] >> 16 if inside is None else inside.dst_mac[rows],
    )

"""Columns -> a capture file: Ethernet, IPv4 or IPv6, TCP, UDP or ICMP echo, all sums right.

A million packets in a few seconds: headers are structured arrays, one row a packet, written into
one buffer of random bytes for some ten thousand packets at once.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from guardian import checksum

Array = npt.NDArray[Any]

DEVICES = 40
"""Of the home."""
F_FIN, F_SYN, F_RST, F_PSH, F_ACK = 1, 2, 4, 8, 16
CHUNK = 65_536
LEAST = 60
"""Bytes of the shortest Ethernet frame without its check sequence."""
V4 = np.uint64(0xFFFF_0000_0000)
TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58
SYN, STAMPED, BARE = 2, 1, 0
"""Options of a TCP packet: those of a SYN, time stamps, none."""

_RECORD = [("sec", "<u4"), ("usec", "<u4"), ("cap", "<u4"), ("wire", "<u4")]
_ETHER = [("to_mac", "u1", 6), ("from_mac", "u1", 6), ("kind", ">u2")]
_IP4 = [
    ("version", "u1"), ("tos", "u1"), ("length", ">u2"), ("ident", ">u2"), ("part", ">u2"),
    ("ttl", "u1"), ("proto", "u1"), ("check", ">u2"), ("src", ">u4"), ("dst", ">u4"),
]  # fmt: skip
_IP6 = [
    ("version", ">u4"), ("length", ">u2"), ("proto", "u1"), ("ttl", "u1"),
    ("src", ">u8", 2), ("dst", ">u8", 2),
]  # fmt: skip
_TCP = [
    ("sport", ">u2"), ("dport", ">u2"), ("seq", ">u4"), ("ack", ">u4"), ("offset", "u1"),
    ("flags", "u1"), ("window", ">u2"), ("sum", ">u2"), ("urgent", ">u2"),
]  # fmt: skip
_UDP = [("sport", ">u2"), ("dport", ">u2"), ("size", ">u2"), ("sum", ">u2")]
_ICMP = [("type", "u1"), ("code", "u1"), ("sum", ">u2"), ("id", ">u2"), ("number", ">u2")]
_OPTIONS = {
    SYN: bytes.fromhex("020405b4 0402 080a0000000100000000 01 030307"),
    STAMPED: bytes.fromhex("0101 080a 00000002 00000001"),
    BARE: b"",
}


@dataclass(frozen=True)
class Ends:
    """The two ends of each connection, the originator first; columns of equal length."""

    v6: Array
    proto: Array
    addresses: Array
    """uint64[n, 2, 2]: by end, high half first; IPv4 as ::ffff:a.b.c.d."""
    ports: Array
    """[n, 2]: by end; of ICMP echo the identifier stands first."""
    macs: Array
    """uint64[n, 2]: by end."""


@dataclass(frozen=True)
class Plan:
    """What is sent, packets in order of time."""

    ends: Ends
    conn: Array
    """int64[n]: row of ends."""
    asks: Array
    """bool[n]: the originator sends."""
    ts: Array
    """int64[n]: nanoseconds since the epoch."""
    size: Array
    """int64[n]: bytes of payload."""
    flags: Array
    seq: Array
    ack: Array
    options: Array
    text: Array
    """int64[n]: row of texts with which the payload begins, -1 for bytes that mean nothing."""
    again: Array
    """int64[n]: equal numbers carry equal bytes (a retransmission), 0 is like no other."""
    texts: list[bytes]

    def __len__(self) -> int:
        return len(self.ts)


def write(path: Path, plan: Plan, part: slice = slice(None), seed: int = 1) -> int:
    """Write (a part of) a plan as a pcap; return its bytes."""
    chance = np.random.default_rng(seed)
    pool = chance.bytes(1 << 17)
    begin, end, _ = part.indices(len(plan))
    with path.open("wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1))
        for at in range(begin, end, CHUNK):
            out.write(_chunk(plan, slice(at, min(at + CHUNK, end)), chance, pool).data)
        return out.tell()


def _chunk(plan: Plan, rows: slice, chance: np.random.Generator, pool: bytes) -> Array:
    conn, size = plan.conn[rows], plan.size[rows]
    v6, proto = plan.ends.v6[conn], plan.ends.proto[conn]
    kind = np.where(proto == TCP, plan.options[rows], 0) + 4 * (proto == TCP) + 8 * v6
    kind += 16 * (proto == UDP)
    head = np.zeros(len(conn), dtype=np.int64)  # bytes up to the payload, without the record's 16
    groups = []
    for code in np.unique(kind).tolist():
        index = np.flatnonzero(kind == code)
        groups.append((index, _heads(plan, rows, index)))
        head[index] = groups[-1][1].dtype.itemsize - 16
    caught = np.maximum(head + size, LEAST)
    stop = np.cumsum(caught + 16)
    start = stop - caught - 16
    data = np.frombuffer(bytearray(chance.bytes(int(stop[-1]))), dtype=np.uint8)
    short = np.flatnonzero(head + size < LEAST)
    data[start[short, None] + np.arange(16 + LEAST)] = 0
    _texts(plan, rows, data, start + 16 + head, pool)
    for index, rows_of in groups:
        rows_of["cap"] = rows_of["wire"] = caught[index]
        columns = np.arange(rows_of.dtype.itemsize)
        data[start[index, None] + columns] = rows_of.view(np.uint8).reshape(len(index), -1)
    _seal(data, start + 30 + np.where(v6, 40, 20), start + 16 + head + size, groups)
    return data


def _heads(plan: Plan, rows: slice, index: Array) -> Array:
    """Return the headers of packets of one kind, sums of the transport not yet in."""
    conn, asks = plan.conn[rows][index], plan.asks[rows][index]
    ends, size, ts = plan.ends, plan.size[rows][index], plan.ts[rows][index]
    here = np.where(asks, 0, 1)
    v6, proto = bool(ends.v6[conn[0]]), int(ends.proto[conn[0]])
    options = _OPTIONS[int(plan.options[rows][index[0]])] if proto == TCP else b""
    upper: list[Any] = _TCP if proto == TCP else _UDP if proto == UDP else _ICMP
    tail = [("options", "u1", len(options))] if options else []
    fields = [*_RECORD, *_ETHER, *(_IP6 if v6 else _IP4), *upper, *tail]
    out: Array = np.zeros(len(index), dtype=fields)
    out["sec"], out["usec"] = ts // 1_000_000_000, ts % 1_000_000_000 // 1_000
    for name, end in (("from_mac", here), ("to_mac", 1 - here)):
        out[name] = ends.macs[conn, end].astype(">u8").view(np.uint8).reshape(-1, 8)[:, 2:]
    over = np.dtype([*upper, *tail]).itemsize + size
    out["proto"], out["ttl"] = proto, 64
    for name, end in (("src", here), ("dst", 1 - here)):
        whole = ends.addresses[conn, end]
        out[name] = whole if v6 else whole[:, 1] & np.uint64(0xFFFF_FFFF)
    if v6:
        out["kind"], out["version"], out["length"] = 0x86DD, 6 << 28, over
    else:
        out["kind"], out["version"], out["length"], out["part"] = 0x0800, 0x45, 20 + over, 0x4000
        words = out.view(np.uint8).reshape(len(out), -1)[:, 30:50].copy().view(">u2")
        out["check"] = 0xFFFF ^ checksum.fold(words.sum(axis=1, dtype=np.uint64))
    if proto in (TCP, UDP):
        out["sport"], out["dport"] = ends.ports[conn, here], ends.ports[conn, 1 - here]
    if proto == TCP:
        out["seq"], out["ack"] = plan.seq[rows][index], plan.ack[rows][index]
        out["flags"], out["window"] = plan.flags[rows][index], 501
        out["offset"] = (20 + len(options)) // 4 << 4
        if options:
            out["options"] = np.frombuffer(options, dtype=np.uint8)
    elif proto == UDP:
        out["size"] = over
    else:
        out["type"] = np.where(asks, 128, 129) if v6 else np.where(asks, 8, 0)
        out["id"], out["number"] = ends.ports[conn, 0], plan.seq[rows][index] & 0xFFFF
    return out


def _texts(plan: Plan, rows: slice, data: Array, at: Array, pool: bytes) -> None:
    """Put in the payloads that are not random."""
    text, again, size = plan.text[rows], plan.again[rows], plan.size[rows]
    for i in np.flatnonzero((again > 0) & (size > 0)).tolist():
        begin = int(again[i]) * 131 % 65_536
        piece = pool[begin : begin + int(size[i])]
        data[at[i] : at[i] + len(piece)] = np.frombuffer(piece, dtype=np.uint8)
    for which in np.unique(text[text >= 0]).tolist():
        what = np.frombuffer(plan.texts[which], dtype=np.uint8)
        data[at[text == which, None] + np.arange(len(what))] = what


def _seal(data: Array, start: Array, stop: Array, groups: list[tuple[Array, Array]]) -> None:
    """Write the sums of the transport: over start to stop and the pseudo header."""
    sums = checksum.sums(data, start, stop)
    for index, heads in groups:
        proto = heads["proto"].astype(np.uint64)
        pseudo = proto + (stop - start)[index].astype(np.uint64)
        for name in ("src", "dst"):
            wide = np.ascontiguousarray(heads[name]).view(">u2").reshape(len(heads), -1)
            pseudo = pseudo + wide.sum(axis=1, dtype=np.uint64)
        if int(proto[0]) == ICMP:
            pseudo = np.zeros_like(pseudo)
        check = 0xFFFF ^ checksum.fold(sums[index] + pseudo)
        if int(proto[0]) == UDP:
            check[check == 0] = 0xFFFF
        at = start[index] + {TCP: 16, UDP: 6}.get(int(proto[0]), 2)
        data[at], data[at + 1] = check >> 8, check & 0xFF


def within(conn: Array) -> tuple[Array, Array]:
    """Return for rows sorted by conn their place within it and the row where it begins."""
    first = np.flatnonzero(np.diff(conn, prepend=-1))
    begin = np.repeat(first, np.diff(np.append(first, len(conn))))
    return np.arange(len(conn)) - begin, begin


def before(amount: Array, begin: Array) -> Array:
    """Return the sum of the amounts of the rows before each, of the same connection."""
    upto = np.cumsum(amount) - amount
    sums: Array = upto - upto[begin]
    return sums


def ends(chance: np.random.Generator, n: int, proto: Array, v6: Array) -> Ends:
    """Return home devices and their Internet peers, no two alike."""
    combos = chance.choice(DEVICES * 28_000, n, replace=False)
    device, port = combos % DEVICES, 32_768 + combos // DEVICES
    peer = chance.integers(0, 3_000, n)
    addresses = np.zeros((n, 2, 2), dtype=np.uint64)
    high = np.array([0xFD00_0000_0000_0001, 0x2001_4860_0000_0000], dtype=np.uint64)
    addresses[:, :, 0] = np.where(v6[:, None], high, 0)
    addresses[:, 0, 1] = np.where(v6, 0x1000 + device, 0xC0A8_010A + device)
    addresses[:, 1, 1] = np.where(v6, peer, 0x2000_0000 + (peer * 5_003 * 1_021 & 0x3FFF_FFFF))
    addresses[~v6, :, 1] |= V4
    macs = np.empty((n, 2), dtype=np.uint64)
    macs[:, 0], macs[:, 1] = 0x0200_0000_0100 + device, 0x0200_0000_0001
    return Ends(v6, proto, addresses, np.stack((port, np.zeros_like(port)), axis=1), macs)


def finished(
    chance: np.random.Generator, two: Ends, conn: Array, asks: Array, ts: Array, size: Array,
    flags: Array, options: Array, text: Array, all_texts: list[bytes], resent: float = 0.0,
) -> Plan:  # fmt: skip
    """Return the plan in order of time; given are packets sorted by connection."""
    place, begin = within(conn)
    tcp = two.proto[conn] == TCP
    # A segment that is sent twice follows itself.
    dull = tcp & (size > 0) & (text < 0) & (flags == F_ACK | F_PSH)
    twice = dull & (chance.random(len(conn)) < resent)
    twice[1:] &= dull[:-1] & (asks[1:] == asks[:-1]) & (conn[1:] == conn[:-1]) & ~twice[:-1]
    twice[0] = False
    again = np.zeros(len(conn), dtype=np.int64)
    rows = np.flatnonzero(twice)
    size[rows] = size[rows - 1]
    again[rows] = again[rows - 1] = 1 + np.arange(len(rows))
    counts = np.where(tcp & ~twice, size + (flags & (F_SYN | F_FIN) > 0), 0)
    first = chance.integers(0, 1 << 32, (len(two.proto), 2))
    sent = [before(np.where(who, counts, 0), begin) for who in (asks, ~asks)]
    base = first[conn]
    seq = np.where(asks, base[:, 0] + sent[0], base[:, 1] + sent[1])
    seq[rows] = seq[rows - 1]
    ack = np.where(asks, base[:, 1] + sent[1], base[:, 0] + sent[0])
    ack[flags & F_ACK == 0] = 0
    seq = np.where(tcp, seq, place // 2)
    silent = tcp & (flags == F_SYN)
    seq[silent] = base[silent, 0]
    order = np.argsort(ts, kind="stable")
    u32 = partial(np.bitwise_and, 0xFFFF_FFFF)
    return Plan(
        two, conn[order], asks[order], ts[order], size[order], flags[order], u32(seq[order]),
        u32(ack[order]), options[order], text[order], again[order], all_texts,
    )  # fmt: skip

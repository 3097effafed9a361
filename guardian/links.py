"""The link layer of a batch: where the network header of each frame begins, and its kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from guardian.fates import (
    ETHERTYPE,
    LINK_TYPE,
    LLC,
    MALFORMED,
    MPLS,
    PPP,
    PPPOE,
    PROTECTED,
    WIFI,
    Batch,
)
from guardian.frames import rows_at, words_at
from guardian.tables import I64, U8, U16, U64, Array

ETH_IP4, ETH_IP6, ETH_ARP = 0x0800, 0x86DD, 0x0806
ETH_MPLS, ETH_PPPOE = 0x8847, 0x8864
ETH_ETHERNET, ETH_PPP, ETH_WIFI = 0x6558, 0x880B, 0x8240
"""Numbers by which GRE names a whole Ethernet, PPP or 802.11 frame; here it is any such inside."""
ANY_IP, SUBFRAMES, LLC_HERE = 0xFFFF, 0xFFFE, 0x0004
"""Numbers of our own: IP whose version says which; the subframes of an A-MSDU; 802.2."""

MAX_LAYERS = 8
"""Headers taken off between the first and the network's, such as tags and MPLS labels: two or
three are usual, more is a mistake or an attack."""

_SNAP = 0xAAAA0300
"""LLC of a SNAP header, and the first byte of an organisation code that must be zero."""


MAX_FIELDS = 32
"""Fields of a packet of Netfilter's log that are looked at for its payload: it has a dozen."""

_NFLOG_PAYLOAD = 9


@dataclass(frozen=True)
class Links:
    """What the link layer says of each frame; rows of frames given up hold nothing of use."""

    net: I64
    """Offset of the network header."""
    kind: U16
    """Its ethertype."""
    src_mac: U64
    dst_mac: U64


Opener = Callable[[Batch, Links, I64], None]
"""Takes one layer off the frames of some rows: moves net, sets kind, may give them up."""
Reader = Callable[[Batch], Links]


def read(batch: Batch, link: int) -> Links:
    """Read the link layer of all frames; those that end here get their fate."""
    reader = READERS.get(link)
    if reader is None:
        every = np.arange(len(batch.start))
        batch.give_up(every, LINK_TYPE)
        return _links(batch, 0)
    return reader(batch)


def inside(batch: Batch, kind: U16) -> Links:
    """Read frames that lay inside others: what each begins with is said by `kind`."""
    links = _links(batch, 0)
    links.kind[:] = kind
    _open(batch, links)
    return links


def _links(batch: Batch, length: int) -> Links:
    """Links of a fixed header length, without kinds and addresses."""
    n = len(batch.start)
    return Links(
        net=batch.start + length,
        kind=np.zeros(n, dtype=np.uint16),
        src_mac=np.zeros(n, dtype=np.uint64),
        dst_mac=np.zeros(n, dtype=np.uint64),
    )


def _ethernet(batch: Batch) -> Links:
    first, second = words_at(batch.data, batch.start, 16, ">u8")
    batch.need(np.arange(len(batch.start)), batch.start + 14)
    links = Links(
        net=batch.start + 14,
        kind=(second >> 16 & 0xFFFF).astype(np.uint16),
        src_mac=(first & 0xFFFF) << 32 | second >> 32,
        dst_mac=first >> 16,
    )
    _open(batch, links)
    return links


def _open(batch: Batch, links: Links) -> None:
    """Take off what lies above the network header, one layer of each frame a round."""
    rows = np.nonzero(_LAYER[links.kind])[0]
    for _ in range(MAX_LAYERS):
        rows = batch.alive(rows)
        if not len(rows):
            return
        layer = _LAYER[links.kind[rows]]
        for code in np.unique(layer).tolist():
            _OPENERS[code][1](batch, links, rows[layer == code])
        rows = rows[_LAYER[links.kind[rows]] > 0]


def _tag(batch: Batch, links: Links, rows: I64) -> None:
    """802.1Q, 802.1ad."""
    at = links.net[rows]
    batch.need(rows, at + 4)
    links.kind[rows] = words_at(batch.data, at, 4, ">u2")[1]
    links.net[rows] = at + 4


def _vntag(batch: Batch, links: Links, rows: I64) -> None:
    at = links.net[rows]
    batch.need(rows, at + 6)
    links.kind[rows] = words_at(batch.data, at, 6, ">u2")[2]
    links.net[rows] = at + 6


def _skip(length: int) -> Opener:
    """A header of that length, then a whole Ethernet frame: Cisco FabricPath, 802.1ah."""

    def opener(batch: Batch, links: Links, rows: I64) -> None:
        batch.need(rows, links.net[rows] + length)
        links.net[rows] += length
        links.kind[rows] = ETH_ETHERNET

    return opener


def _ethernet_here(batch: Batch, links: Links, rows: I64) -> None:
    at = links.net[rows]
    batch.need(rows, at + 14)
    first, second = words_at(batch.data, at, 16, ">u8")
    links.dst_mac[rows] = first >> 16
    links.src_mac[rows] = (first & 0xFFFF) << 32 | second >> 32
    links.kind[rows] = second >> 16 & 0xFFFF
    links.net[rows] = at + 14


def _mpls(batch: Batch, links: Links, rows: I64) -> None:
    """One label. Under the last, the first bits tell IP, or the control word of a pseudowire."""
    at = links.net[rows]
    batch.need(rows, at + 4)
    links.net[rows] = at + 4
    last = rows[words_at(batch.data, at, 4, "u1")[2] & 1 != 0]
    batch.need(last, links.net[last] + 1)
    version = rows_at(batch.data, links.net[last], 1)[:, 0] >> 4
    links.kind[last[version == 4]] = ETH_IP4
    links.kind[last[version == 6]] = ETH_IP6
    wire = last[version == 0]
    links.kind[wire] = ETH_ETHERNET
    batch.need(wire, links.net[wire] + 4)
    links.net[wire] += 4
    batch.give_up(last[(version != 4) & (version != 6) & (version != 0)], MPLS)


def _pppoe(batch: Batch, links: Links, rows: I64) -> None:
    at = links.net[rows]
    batch.need(rows, at + 6)
    session = words_at(batch.data, at, 2, ">u2")[0] == 0x1100
    batch.give_up(rows[~session], PPPOE)
    links.net[rows] = at + 6
    links.kind[rows] = ETH_PPP


def _ppp(batch: Batch, links: Links, rows: I64) -> None:
    at = links.net[rows]
    batch.need(rows, at + 2)
    words = words_at(batch.data, at, 4, ">u2")
    framed = words[0] == 0xFF03  # address and control of HDLC, which may be left out
    batch.need(rows[framed], at[framed] + 4)
    proto = np.where(framed, words[1], words[0])
    links.net[rows] = at + np.where(framed, 4, 2)
    kind = np.zeros(len(rows), dtype=np.uint16)
    kind[proto == 0x0021] = ETH_IP4
    kind[proto == 0x0057] = ETH_IP6
    kind[(proto == 0x0281) | (proto == 0x0283)] = ETH_MPLS
    links.kind[rows] = kind
    batch.give_up(rows[kind == 0], PPP)


def _any_ip(batch: Batch, links: Links, rows: I64) -> None:
    """An IP header at once: its version says which."""
    batch.need(rows, links.net[rows] + 1)
    version = rows_at(batch.data, links.net[rows], 1)[:, 0] >> 4
    links.kind[rows[version == 4]] = ETH_IP4
    links.kind[rows[version == 6]] = ETH_IP6
    batch.give_up(rows[(version != 4) & (version != 6)], MALFORMED)


def _llc(batch: Batch, links: Links, rows: I64) -> None:
    """802.3 frames: a SNAP header may hold an ethertype, all other LLC is not for us."""
    at = links.net[rows]
    words = words_at(batch.data, at, 8, ">u4")
    snap = (words[0] == _SNAP) & (words[1] >> 16 == 0) & (at + 8 <= batch.cap_end[rows])
    batch.give_up(rows[~snap], LLC)
    links.kind[rows[snap]] = words[1, snap] & 0xFFFF
    links.net[rows[snap]] = at[snap] + 8


def _wifi(batch: Batch, links: Links, rows: I64) -> None:
    """802.11 data frames, with four addresses or QoS too; what is encrypted is only counted."""
    at = links.net[rows]
    batch.need(rows, at + 2)
    head = rows_at(batch.data, at, 32)
    control, flags = head[:, 0], head[:, 1]
    data = (control & 0x0C == 0x08) & (control & 0x40 == 0)
    batch.give_up(rows[~data], WIFI)
    batch.give_up(rows[flags & 0x40 != 0], PROTECTED)
    four, qos = flags & 3 == 3, control & 0x80 != 0
    addresses = np.where(four, 30, 24)
    high_throughput = qos & (flags & 0x80 != 0)
    length = addresses + 2 * qos + 4 * high_throughput
    batch.need(rows, at + length)
    several = qos & (head[np.arange(len(rows)), addresses] & 0x80 != 0)
    first, second, third, fourth = (_mac(head, offset) for offset in (4, 10, 16, 24))
    to, out = flags & 1 != 0, flags & 2 != 0
    links.dst_mac[rows] = np.where(to, third, first)
    links.src_mac[rows] = np.where(out, np.where(to, fourth, third), second)
    links.net[rows] = at + length
    links.kind[rows] = np.where(several, SUBFRAMES, LLC_HERE)


def _mac(head: U8, at: int) -> U64:
    mac: Array = np.zeros(len(head), dtype=np.uint64)
    for i in range(6):
        mac = mac << 8 | head[:, at + i]
    return mac


def _cooked(batch: Batch) -> Links:
    """Linux cooked, version 1: the sender's address alone."""
    return _cooked_as(batch, length=16, address=6, address_length=4, kind=14)


def _cooked2(batch: Batch) -> Links:
    return _cooked_as(batch, length=20, address=12, address_length=11, kind=0)


def _cooked_as(batch: Batch, length: int, address: int, address_length: int, kind: int) -> Links:
    head = words_at(batch.data, batch.start, length, "u1")
    batch.need(np.arange(len(batch.start)), batch.start + length)
    links = _links(batch, length)
    mac = _mac(head.T, address)
    # A version 1 header has a 16-bit length of the address: 6 has its high byte zero.
    has_mac = head[address_length + (length == 16)] == 6
    if length == 16:
        has_mac &= head[address_length] == 0
    links = Links(
        net=links.net,
        kind=head[kind].astype(np.uint16) << 8 | head[kind + 1],
        src_mac=np.where(has_mac, mac, np.uint64(0)),
        dst_mac=links.dst_mac,
    )
    # Below 0x0600 the kind is Linux's own number of a frame format.
    batch.give_up(np.nonzero(links.kind < 0x0600)[0], LLC)
    _open(batch, links)
    return links


def _begins(kind: int) -> Reader:
    """Frames that begin with a header of that kind."""

    def reader(batch: Batch) -> Links:
        links = _links(batch, 0)
        links.kind[:] = kind
        _open(batch, links)
        return links

    return reader


def _radiotap(batch: Batch) -> Links:
    links = _links(batch, 0)
    every = np.arange(len(batch.start))
    batch.need(every, batch.start + 4)
    words = words_at(batch.data, batch.start, 4, "<u2")
    batch.give_up(every[(words[0] & 0xFF != 0) | (words[1] < 8)], MALFORMED)
    links.net[:] += words[1]
    batch.need(every, links.net)
    links.kind[:] = ETH_WIFI
    _open(batch, links)
    return links


def _hdlc(batch: Batch) -> Links:
    """Cisco HDLC: address, control, ethertype."""
    links = _links(batch, 4)
    batch.need(np.arange(len(batch.start)), links.net)
    links.kind[:] = words_at(batch.data, batch.start, 4, ">u2")[1]
    batch.give_up(np.nonzero(links.kind < 0x0600)[0], ETHERTYPE)
    _open(batch, links)
    return links


def _nflog(batch: Batch) -> Links:
    """Netfilter's log: a protocol family, then fields, one of which holds the packet."""
    links = _links(batch, 4)
    rows = np.arange(len(batch.start))
    batch.need(rows, links.net)
    family = rows_at(batch.data, batch.start, 1)[:, 0]
    for _ in range(MAX_FIELDS):
        rows = batch.alive(rows)
        if not len(rows):
            break
        at = links.net[rows]
        batch.need(rows, at + 4)
        size, kind = words_at(batch.data, at, 4, "<u2").astype(np.int64)
        batch.give_up(rows[size < 4], MALFORMED)
        found = kind == _NFLOG_PAYLOAD
        links.net[rows] = at + np.where(found, 4, (size + 3) & ~3)
        rows = rows[~found]
    batch.give_up(rows, ETHERTYPE)
    links.kind[family == 2] = ETH_IP4
    links.kind[family == 10] = ETH_IP6
    batch.give_up(np.nonzero(links.kind == 0)[0], ETHERTYPE)
    return links


def _loopback(batch: Batch) -> Links:
    """A protocol family of the capturing system, in its byte order or the network's."""
    links = _links(batch, 4)
    batch.need(np.arange(len(batch.start)), batch.start + 4)
    big = words_at(batch.data, batch.start, 4, ">u4")[0]
    family = np.where(big > 0xFFFF, big.byteswap(), big)
    links.kind[family == 2] = ETH_IP4
    links.kind[(family == 24) | (family == 28) | (family == 30) | (family == 10)] = ETH_IP6
    batch.give_up(np.nonzero(links.kind == 0)[0], ETHERTYPE)
    return links


_OPENERS: dict[int, tuple[tuple[int, ...], Opener]] = {
    1: ((0x8100, 0x88A8, 0x9100), _tag),
    2: ((ETH_MPLS, 0x8848), _mpls),
    3: ((ETH_PPPOE,), _pppoe),
    4: ((ETH_PPP,), _ppp),
    5: ((ETH_ETHERNET,), _ethernet_here),
    6: ((0x8903,), _skip(2)),
    7: ((0x88E7,), _skip(4)),
    8: ((0x8926,), _vntag),
    9: ((ETH_WIFI,), _wifi),
    10: ((ANY_IP,), _any_ip),
    11: (tuple(range(0x0600)), _llc),
}
"""Kinds that are no network header, and who takes them off."""

_LAYER = np.zeros(1 << 16, dtype=np.uint8)
for _code, (_kinds, _) in _OPENERS.items():
    _LAYER[list(_kinds)] = _code

READERS: dict[int, Reader] = {
    0: _loopback,
    108: _loopback,
    1: _ethernet,
    9: _begins(ETH_PPP),
    12: _begins(ANY_IP),
    14: _begins(ANY_IP),
    50: _begins(ETH_PPP),
    51: _begins(ETH_PPPOE),
    101: _begins(ANY_IP),
    104: _hdlc,
    105: _begins(ETH_WIFI),
    113: _cooked,
    127: _radiotap,
    228: _begins(ETH_IP4),
    229: _begins(ETH_IP6),
    239: _nflog,
    276: _cooked2,
}
"""Link type (DLT or LINKTYPE) -> its reader."""

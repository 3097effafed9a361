"""The link layer of a batch: where the network header of each frame begins, and its kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from guardian.fates import ETHERTYPE, LINK_TYPE, LLC, MALFORMED, Batch
from guardian.frames import rows_at, words_at
from guardian.tables import I64, U16, U64, Array

ETH_IP4, ETH_IP6, ETH_ARP = 0x0800, 0x86DD, 0x0806

MAX_TAGS = 4
"""VLAN tags taken off a frame: two are usual (QinQ), more is a mistake or an attack."""

_TAGS = (0x8100, 0x88A8, 0x9100)
_SNAP = 0xAAAA0300
"""LLC of a SNAP header, and the first byte of an organisation code that must be zero."""


@dataclass(frozen=True)
class Links:
    """What the link layer says of each frame; rows of frames given up hold nothing of use."""

    net: I64
    """Offset of the network header."""
    kind: U16
    """Its ethertype."""
    src_mac: U64
    dst_mac: U64


def read(batch: Batch, link: int) -> Links:
    """Read the link layer of all frames; those that end here get their fate."""
    reader = READERS.get(link)
    if reader is None:
        every = np.arange(len(batch.start))
        batch.give_up(every, LINK_TYPE)
        return _links(batch, 0)
    return reader(batch)


def _links(batch: Batch, length: int) -> Links:
    """Links of a fixed header length, without kinds and addresses."""
    n = len(batch.start)
    nothing = np.zeros(n, dtype=np.uint64)
    return Links(batch.start + length, np.zeros(n, dtype=np.uint16), nothing, nothing)


def _ethernet(batch: Batch) -> Links:
    first, second = words_at(batch.data, batch.start, 16, ">u8")
    batch.need(np.arange(len(batch.start)), batch.start + 14)
    links = Links(
        net=batch.start + 14,
        kind=(second >> 16 & 0xFFFF).astype(np.uint16),
        src_mac=(first & 0xFFFF) << 32 | second >> 32,
        dst_mac=first >> 16,
    )
    _untag(batch, links)
    _open_llc(batch, links)
    return links


def _untag(batch: Batch, links: Links) -> None:
    """Take VLAN tags off, one more of each frame a round."""
    for _ in range(MAX_TAGS):
        tagged = (links.kind == _TAGS[0]) | (links.kind == _TAGS[1]) | (links.kind == _TAGS[2])
        rows = batch.alive(np.nonzero(tagged)[0])
        if not len(rows):
            return
        at = links.net[rows]
        batch.need(rows, at + 4)
        links.kind[rows] = words_at(batch.data, at, 4, ">u2")[1]
        links.net[rows] = at + 4


def _open_llc(batch: Batch, links: Links) -> None:
    """802.3 frames: a SNAP header may hold an ethertype, all other LLC is not for us."""
    rows = batch.alive(np.nonzero(links.kind < 0x0600)[0])
    if not len(rows):
        return
    at = links.net[rows]
    words = words_at(batch.data, at, 8, ">u4")
    snap = (words[0] == _SNAP) & (words[1] >> 16 == 0) & (at + 8 <= batch.cap_end[rows])
    batch.give_up(rows[~snap], LLC)
    links.kind[rows[snap]] = words[1, snap] & 0xFFFF
    links.net[rows[snap]] = at[snap] + 8


def _cooked(batch: Batch) -> Links:
    """Linux cooked, version 1: the sender's address alone."""
    return _cooked_as(batch, length=16, address=6, address_length=4, kind=14)


def _cooked2(batch: Batch) -> Links:
    return _cooked_as(batch, length=20, address=12, address_length=11, kind=0)


def _cooked_as(batch: Batch, length: int, address: int, address_length: int, kind: int) -> Links:
    head = words_at(batch.data, batch.start, length, "u1")
    batch.need(np.arange(len(batch.start)), batch.start + length)
    links = _links(batch, length)
    mac: Array = np.zeros(len(batch.start), dtype=np.uint64)
    for i in range(6):
        mac = mac << 8 | head[address + i]
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
    _untag(batch, links)
    # Below 0x0600 the kind is Linux's own number of a frame format.
    batch.give_up(np.nonzero(links.kind < 0x0600)[0], LLC)
    return links


def _raw(batch: Batch) -> Links:
    """An IP header at once: its version says which."""
    links = _links(batch, 0)
    batch.need(np.arange(len(batch.start)), batch.start + 1)
    version = rows_at(batch.data, batch.start, 1)[:, 0] >> 4
    links.kind[version == 4] = ETH_IP4
    links.kind[version == 6] = ETH_IP6
    batch.give_up(np.nonzero(links.kind == 0)[0], MALFORMED)
    return links


def _only(kind: int) -> Callable[[Batch], Links]:
    def read_only(batch: Batch) -> Links:
        links = _links(batch, 0)
        links.kind[:] = kind
        return links

    return read_only


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


READERS: dict[int, Callable[[Batch], Links]] = {
    0: _loopback,
    108: _loopback,
    1: _ethernet,
    12: _raw,
    14: _raw,
    101: _raw,
    113: _cooked,
    228: _only(ETH_IP4),
    229: _only(ETH_IP6),
    276: _cooked2,
}
"""Link type (DLT or LINKTYPE) -> its reader."""

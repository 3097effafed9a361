"""Frames -> Packets: a whole batch at once.

Link layer (links.py), network layer (network.py), transport layer (transport.py); what a tunnel
carries (tunnels.py) goes the same way again. Each frame ends as exactly one of: a packet row with
the rows of what it carries, an ARP row, one count in not_understood, one count in malformed (an
802.11 frame of several packets as none of them). Only fragments.py keeps something between
batches.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from guardian import links, network, transport, tunnels
from guardian.const import MAX_TUNNELS
from guardian.fates import (
    ALIVE,
    ARP,
    EAPOL,
    ETHERTYPE,
    FRAGMENT,
    MPLS,
    NO_NEXT,
    OTHER_ARP,
    PPPOE,
    SPLIT,
    Batch,
)
from guardian.fragments import Defragmenter, Pieces
from guardian.frames import v4_addresses, words_at
from guardian.links import ETH_ARP, ETH_IP4, ETH_IP6, SUBFRAMES, Links
from guardian.network import Datagrams
from guardian.tables import I64, U8, Arps, Bool, Decoded, Frames, Packets
from guardian.tunnels import Inner

_ETHERTYPE_FATES = {0x888E: EAPOL, 0x8863: PPPOE, 0x8864: PPPOE, 0x8847: MPLS, 0x8848: MPLS}
_CARRIED = (ALIVE, ARP, FRAGMENT, NO_NEXT, SPLIT)
"""Fates of what was carried indeed."""


def decode(frames: Frames, ignore_checksums: bool = False) -> Decoded:
    """Decode one batch alone: fragments are put together within it only."""
    return Decoder(ignore_checksums=ignore_checksums).decode(frames)


class Decoder:
    """Decodes batches in order of arrival, and keeps the fragments that wait for others."""

    def __init__(self, *, ignore_checksums: bool = False) -> None:
        self._ignore_checksums = ignore_checksums
        # One for each level of tunnels: a level is read as a whole, in order of arrival.
        self._fragments = [Defragmenter() for _ in range(1 + MAX_TUNNELS)]

    @property
    def waiting(self) -> int:
        """Datagrams that wait for fragments."""
        return sum(map(len, self._fragments))

    @property
    def given_up(self) -> int:
        """Datagrams whose fragments never all came, or not in time."""
        return sum(table.given_up for table in self._fragments)

    def decode(self, frames: Frames) -> Decoded:
        """Decode a batch of frames of one link type. Raises nothing, whatever the bytes are."""
        if not len(frames):
            return Decoded(Packets.empty(), Arps.empty(), frames.data, {}, 0, frames.now)
        batch = Batch.of(frames)
        judge = (
            np.zeros(len(frames), dtype=np.bool_)
            if self._ignore_checksums
            else (~frames.csum_valid)
        )
        below = links.read(batch, frames.link)
        _count_others(batch, below)
        arps = _arps(batch, below, frames)
        batch, packets = self._read(batch, below, judge, frames.ts, 0)
        data = batch.data
        split = tunnels.subframes(batch, below, judge)
        inner = tunnels.carried(data, packets, judge)
        if len(split) or len(inner):
            inner = Inner.concat([split, inner])
            data, packets = self._go_inside(data, packets, inner, frames.ts, judge)
        not_understood, malformed = batch.counts()
        return Decoded(packets, arps, data, not_understood, malformed, frames.now)

    def _read(
        self, batch: Batch, below: Links, judge: Bool, ts: I64, level: int
    ) -> tuple[Batch, Packets]:
        """Read the network and transport layers of a level; what was put together of fragments
        lies behind the data of the batch returned."""
        ip, pieces = network.read(batch, below, judge)
        if len(pieces):
            batch, below, ip = self._join(batch, below, judge, ts, level, ip, pieces)
        return batch, transport.read(batch, below, ts, ip)

    def _join(
        self, batch: Batch, below: Links, judge: Bool, ts: I64, level: int, ip: Datagrams,
        pieces: Pieces,
    ) -> tuple[Batch, Links, Datagrams]:  # fmt: skip
        """Let fragments that complete a datagram stand for it."""
        whole = self._fragments[level].take(batch.data, ts, pieces)
        if not whole:
            return batch, below, ip
        rows = np.array([w.row for w in whole], dtype=np.int64)
        sizes = np.array([len(w.datagram) for w in whole], dtype=np.int64)
        start = len(batch.data) + np.cumsum(sizes) - sizes
        joined = b"".join(w.datagram for w in whole)
        cap_end, wire_end = batch.cap_end.copy(), batch.wire_end.copy()
        cap_end[rows] = wire_end[rows] = start + sizes
        batch = replace(
            batch,
            data=np.concatenate([batch.data, np.frombuffer(joined, dtype=np.uint8)]),
            cap_end=cap_end,
            wire_end=wire_end,
        )
        batch.fate[rows] = ALIVE
        net, judge = below.net.copy(), judge.copy()
        net[rows], judge[rows] = start, [w.judge for w in whole]
        below = replace(below, net=net)
        more, _ = network.read(batch, below, judge, rows)
        ip = Datagrams.concat([ip, more])
        return batch, below, ip.take(np.argsort(ip.frame, kind="stable"))

    def _go_inside(
        self, data: U8, packets: Packets, inner: Inner, ts: I64, judge: Bool
    ) -> tuple[U8, Packets]:
        """Decode what is inside the packets, and what is inside that."""
        parts, carriers = [packets], [np.full(len(packets), -1, dtype=np.int64)]
        marks = []
        so_far = len(packets)
        for level in range(1, 1 + MAX_TUNNELS):
            if not len(inner):
                break
            inner = inner.take(np.argsort(inner.frame, kind="stable"))
            n = len(inner)
            batch = Batch(data, inner.start, inner.cap_end, inner.wire_end, np.zeros(n, np.uint8))
            below = links.inside(batch, inner.kind)
            below = replace(below, src_mac=inner.src_mac, dst_mac=inner.dst_mac)
            _count_others(batch, below)
            batch.give_up(np.nonzero(below.kind == ETH_ARP)[0], ARP)
            batch, found = self._read(batch, below, inner.judge, ts[inner.frame], level)
            split = tunnels.subframes(batch, below, inner.judge, inner)
            shown = np.isin(batch.fate, _CARRIED) | np.isin(inner.tunnel, tunnels.ALWAYS)
            marks.append(inner.take(shown & (inner.outer >= 0)))
            carriers.append(inner.outer[found.frame])
            found = replace(found, frame=inner.frame[found.frame])
            deeper = tunnels.carried(batch.data, found, judge)
            inner = Inner.concat([split, replace(deeper, outer=deeper.outer + so_far)])
            data = batch.data
            parts.append(found)
            so_far += len(found)
        return data, _in_order(Packets.concat(parts), np.concatenate(carriers), Inner.concat(marks))


def _in_order(packets: Packets, carrier: I64, carried: Inner) -> Packets:
    """Put packets of several levels in order of arrival, each before what it carries.

    `carrier` are rows of packets or -1; `carried` says what was found in which.
    """
    carries = packets.carries
    carries[carried.outer] = carried.tunnel
    order = np.argsort(packets.frame, kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(1, 1 + len(order))
    carrier = np.where(carrier >= 0, place[carrier], 0)
    return replace(packets, carries=carries, carrier=carrier).take(order)


def _count_others(batch: Batch, below: Links) -> None:
    """Give up the frames that hold neither IP nor ARP."""
    kind = below.kind
    rows = np.nonzero((kind != ETH_IP4) & (kind != ETH_IP6) & (kind != ETH_ARP))[0]
    rows = rows[kind[rows] != SUBFRAMES]
    if len(rows):
        fate = np.full(len(rows), ETHERTYPE, dtype=np.uint8)
        for ethertype, other in _ETHERTYPE_FATES.items():
            fate[kind[rows] == ethertype] = other
        batch.give_up(rows, fate)


def _arps(batch: Batch, below: Links, frames: Frames) -> Arps:
    rows = batch.alive(np.nonzero(below.kind == ETH_ARP)[0])
    if not len(rows):
        return Arps.empty()
    net = below.net[rows]
    batch.need(rows, net + 8)
    fixed = words_at(batch.data, net, 8, ">u2")
    usual = (fixed[0] == 1) & (fixed[1] == ETH_IP4) & (fixed[2] == 0x0604)
    batch.give_up(rows[~usual], OTHER_ARP)
    batch.need(rows[usual], net[usual] + 28)
    rows = batch.alive(rows)
    batch.give_up(rows, ARP)
    words = words_at(batch.data, below.net[rows], 28, ">u2").astype(np.uint64)
    return Arps(
        ts=frames.ts[rows],
        op=words[3].astype(np.uint16),
        src_mac=words[4] << 32 | words[5] << 16 | words[6],
        src=v4_addresses(words[7] << 16 | words[8]),
        dst=v4_addresses(words[12] << 16 | words[13]),
    )

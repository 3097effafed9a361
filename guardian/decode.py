"""Frames -> Packets: a whole batch at once, nothing kept between batches.

Link layer (links.py), network layer (network.py), then the transport layer
here. Each frame ends as exactly one of: a packet row, an ARP row, one count in
not_understood, one count in malformed.
"""

from __future__ import annotations

import numpy as np

from guardian import checksum, links, network
from guardian.fates import ARP, EAPOL, ETHERTYPE, MALFORMED, MPLS, OTHER_ARP, PPPOE, Batch
from guardian.frames import v4_addresses, words_at
from guardian.links import ETH_ARP, ETH_IP4, ETH_IP6, Links
from guardian.network import Datagrams
from guardian.tables import I64, Arps, Array, Bool, Decoded, Frames, Packets

ICMP, TCP, UDP, ICMP6 = 1, 6, 17, 58

_HEADER = np.zeros(256, dtype=np.int64)
_HEADER[[ICMP, TCP, UDP, ICMP6]] = 8, 20, 8, 8
"""Bytes of a transport header by protocol, without TCP's options."""

_ETHERTYPE_FATES = {0x888E: EAPOL, 0x8863: PPPOE, 0x8864: PPPOE, 0x8847: MPLS, 0x8848: MPLS}


def decode(frames: Frames, ignore_checksums: bool = False) -> Decoded:
    """Decode a batch of frames of one link type. Raises nothing, whatever the bytes are."""
    if not len(frames):
        return Decoded(Packets.empty(), Arps.empty(), frames.data, {}, 0, frames.now)
    batch = Batch.of(frames)
    judge = np.zeros(len(frames), dtype=np.bool_) if ignore_checksums else ~frames.csum_valid
    below = links.read(batch, frames.link)
    _count_others(batch, below)
    arps = _arps(batch, below, frames)
    packets = _packets(batch, below, frames, network.read(batch, below, judge))
    not_understood, malformed = batch.counts()
    return Decoded(packets, arps, frames.data, not_understood, malformed, frames.now)


def _count_others(batch: Batch, below: Links) -> None:
    """Give up the frames that hold neither IP nor ARP."""
    kind = below.kind
    rows = np.nonzero((kind != ETH_IP4) & (kind != ETH_IP6) & (kind != ETH_ARP))[0]
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


def _packets(batch: Batch, below: Links, frames: Frames, ip: Datagrams) -> Packets:
    """Read the transport headers."""
    ip, words, header, length = _transport(batch, ip)
    frame, proto = ip.frame, ip.proto
    tcp, icmp = proto == TCP, (proto == ICMP) | (proto == ICMP6)
    ports = tcp | (proto == UDP)
    sport, dport = words[0] >> 16, words[0] & 0xFFFF
    if icmp.any():
        sport = np.where(icmp, words[0] >> 24, sport)
        dport = np.where(icmp, words[0] >> 16 & 0xFF, dport)
    ported = ports | icmp
    if not ported.all():
        sport, dport = sport * ported, dport * ported
    cap_end = batch.cap_end[frame]
    payload = np.minimum(ip.body + header, cap_end)
    payload_len = length - header
    return Packets(
        ts=frames.ts[frame],
        frame=frame,
        src_mac=below.src_mac[frame],
        dst_mac=below.dst_mac[frame],
        src=ip.src,
        dst=ip.dst,
        v6=ip.v6,
        proto=proto,
        sport=sport.astype(np.uint16),
        dport=dport.astype(np.uint16),
        ip_len=ip.end - ip.net,
        payload_len=payload_len,
        payload_start=payload,
        payload_cap=np.minimum(payload_len, cap_end - payload),
        flags=((words[3] >> 16 & 0xFF) * tcp).astype(np.uint8),
        seq=words[1] * tcp,
        ack=words[2] * tcp,
        window=((words[3] & 0xFFFF) * tcp).astype(np.uint16),
        bad_csum=ip.bad_header | _bad_transport(batch, ip, words, length),
        icmp_id=((words[1] >> 16) * _is_echo(proto, sport)).astype(np.uint16),
    )


def _transport(batch: Batch, ip: Datagrams) -> tuple[Datagrams, Array, I64, I64]:
    """Return the datagrams whose transport header holds, and of it uint32[5, n] words,
    the bytes of the header, and the bytes of header and payload."""
    least = _HEADER[ip.proto]
    upto = ip.body + least
    batch.give_up(ip.frame[upto > ip.end], MALFORMED)
    batch.need(ip.frame, upto)
    words = words_at(batch.data, ip.body, 20, ">u4")
    tcp, udp = ip.proto == TCP, ip.proto == UDP
    room = ip.end - ip.body
    header = np.where(tcp, words[3] >> 28 << 2, least).astype(np.int64)
    claimed = words[1] >> 16
    # UDP's own length rules; zero stands for a super-frame.
    length = np.where(udp & (claimed != 0), claimed, room).astype(np.int64)
    batch.give_up(ip.frame[(header < least) | (header > length) | (length > room)], MALFORMED)
    alive = batch.fate[ip.frame] == 0
    if alive.all():
        return ip, words, header, length
    return ip.take(alive), words[:, alive], header[alive], length[alive]


def _is_echo(proto: Array, icmp_type: Array) -> Bool:
    echo4 = (proto == ICMP) & ((icmp_type == 8) | (icmp_type == 0))
    echo6 = (proto == ICMP6) & ((icmp_type == 128) | (icmp_type == 129))
    echo: Bool = echo4 | echo6
    return echo


def _bad_transport(batch: Batch, ip: Datagrams, words: Array, length: I64) -> Bool:
    """Return bool[n]: the transport checksum is wrong, where it can be judged."""
    bad = np.zeros(len(ip), dtype=np.bool_)
    proto = ip.proto
    judged = ip.judge & (_HEADER[proto] > 0)
    unset = (proto == UDP) & (words[1] & 0xFFFF == 0)
    bad |= judged & unset & ip.v6  # UDP over IPv6 may not leave it out, over IPv4 it may
    rows = np.nonzero(judged & ~unset)[0]
    if not len(rows):
        return bad
    whole = len(rows) == len(ip)
    if not whole:
        ip, length = ip.take(rows), length[rows]
        proto = ip.proto
    total = checksum.sums(batch.data, ip.body, ip.body + length)
    pseudo = _pseudo_header(ip) + proto + length.astype(np.uint64)
    pseudo[proto == ICMP] = 0
    total += pseudo
    bad[rows] = checksum.fold(total) != 0xFFFF
    return bad


def _pseudo_header(ip: Datagrams) -> Array:
    """Return uint64[n]: the plain sum of both addresses as 32-bit words.

    The prefix under which IPv4 addresses are written adds 0xFFFF, which is zero here.
    """
    low = np.uint64(0xFFFFFFFF)
    total: Array = (ip.src[:, 1] & low) + (ip.src[:, 1] >> 32) + (ip.dst[:, 1] & low)
    total += ip.dst[:, 1] >> 32
    if ip.v6.any():
        for high in (ip.src[:, 0], ip.dst[:, 0]):
            total += (high & low) + (high >> 32)
    return total

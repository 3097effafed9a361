"""The transport layer of a batch: ports, TCP's fields, ICMP, and whether checksums are right."""

from __future__ import annotations

import numpy as np

from guardian import checksum
from guardian.fates import MALFORMED, NO_NEXT, Batch
from guardian.frames import words_at
from guardian.links import Links
from guardian.network import NOTHING, Datagrams
from guardian.tables import I64, Array, Bool, Packets

ICMP, TCP, UDP, ICMP6 = 1, 6, 17, 58
VXLAN_PORT = 4789

_HEADER = np.zeros(256, dtype=np.int64)
_HEADER[[ICMP, TCP, UDP, ICMP6]] = 8, 20, 8, 8
"""Bytes of a transport header by protocol, without TCP's options."""


def read(batch: Batch, below: Links, ts: I64, ip: Datagrams) -> Packets:
    """Read the transport headers of datagrams; `ts` are the times of the batch's frames."""
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
        ts=ts[frame],
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
        bad_csum=_bad_transport(batch, ip, words, length),
        icmp_id=((words[1] >> 16) * _is_echo(proto, sport)).astype(np.uint16),
        carrier=np.zeros(len(frame), dtype=np.int64),
        carries=np.zeros(len(frame), dtype=np.uint8),
    )


def _transport(batch: Batch, ip: Datagrams) -> tuple[Datagrams, Array, I64, I64]:
    """Return the datagrams whose transport header holds, and of it uint32[5, n] words,
    the bytes of the header, and the bytes of header and payload."""
    nothing = ip.proto == NOTHING
    if nothing.any():
        batch.give_up(ip.frame[nothing], NO_NEXT)
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
    # UDP over IPv6 may not leave it out, except for tunnels; over IPv4 it may.
    bad |= judged & unset & ip.v6 & (words[0] & 0xFFFF != VXLAN_PORT)
    rows = np.nonzero(judged & ~unset)[0]
    if not len(rows):
        return bad
    whole = len(rows) == len(ip)
    if not whole:
        ip, length = ip.take(rows), length[rows]
        proto = ip.proto
    total = checksum.unfolded(batch.data, ip.body, ip.body + length)
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

"""Bytes of packets, put together by hand: small builders with right checksums."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from guardian.tables import Frames
from tests.twins.decode import internet_sum

MAC_A, MAC_B = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
A4, B4 = bytes([192, 168, 1, 10]), bytes([192, 168, 1, 1])
A6, B6 = bytes.fromhex("fd" + "00" * 14 + "10"), bytes.fromhex("2001" + "00" * 13 + "01")


def ether(body: bytes, kind: int = 0x0800) -> bytes:
    return MAC_B + MAC_A + struct.pack(">H", kind) + body


def ip4(
    body: bytes,
    proto: int,
    src: bytes = A4,
    dst: bytes = B4,
    *,
    options: bytes = b"",
    part: int = 0,
    ident: int = 7,
) -> bytes:
    size = 20 + len(options)
    head = struct.pack(
        ">BBHHHBBH4s4s", 0x40 | size // 4, 0, size + len(body), ident, part, 64, proto, 0, src, dst
    )
    head += options
    check = internet_sum(head) ^ 0xFFFF
    return head[:10] + struct.pack(">H", check) + head[12:] + body


def ip6(
    body: bytes, proto: int, src: bytes = A6, dst: bytes = B6, extensions: bytes = b""
) -> bytes:
    """`proto` is the first next-header; extensions name their own.

    More than fits into the length field is a super-frame, whose length is zero.
    """
    size = len(extensions) + len(body)
    size = size if size < 65_536 else 0
    return struct.pack(">IHBB", 6 << 28, size, proto, 64) + src + dst + extensions + body


def seal(body: bytes, at: int, proto: int, src: bytes, dst: bytes) -> bytes:
    """Put the right checksum at offset `at` of a transport header."""
    pseudo = src + dst + struct.pack(">II", len(body), proto) if proto != 1 else b""
    zeroed = body[:at] + b"\0\0" + body[at + 2 :]
    check = internet_sum(pseudo + zeroed) ^ 0xFFFF
    return body[:at] + struct.pack(">H", check or 0xFFFF) + body[at + 2 :]


def tcp(
    payload: bytes = b"",
    src: bytes = A4,
    dst: bytes = B4,
    *,
    sport: int = 40_000,
    dport: int = 443,
    flags: int = 0x18,
    seq: int = 1_000,
    ack: int = 2_000,
    window: int = 512,
    options: bytes = b"",
) -> bytes:
    offset = (20 + len(options)) // 4 << 4
    head = struct.pack(">HHIIBBHHH", sport, dport, seq, ack, offset, flags, window, 0, 0)
    return seal(head + options + payload, 16, 6, src, dst)


def udp(
    payload: bytes = b"", src: bytes = A4, dst: bytes = B4, sport: int = 40_000, dport: int = 53
) -> bytes:
    head = struct.pack(">HHHH", sport, dport, 8 + len(payload), 0)
    return seal(head + payload, 6, 17, src, dst)


def icmp(kind: int = 8, code: int = 0, identifier: int = 77, payload: bytes = b"ping") -> bytes:
    return seal(struct.pack(">BBHHH", kind, code, 0, identifier, 1) + payload, 2, 1, b"", b"")


def icmp6(
    kind: int = 128, identifier: int = 77, payload: bytes = b"", src: bytes = A6, dst: bytes = B6
) -> bytes:
    return seal(struct.pack(">BBHHH", kind, 0, 0, identifier, 1) + payload, 2, 58, src, dst)


def arp(op: int = 1, src: bytes = A4, dst: bytes = B4) -> bytes:
    return struct.pack(">HHBBH", 1, 0x0800, 6, 4, op) + MAC_A + src + bytes(6) + dst


def ppp(body: bytes, kind: int = 0x0800, *, framed: bool = False) -> bytes:
    proto = {0x0800: 0x21, 0x86DD: 0x57, 0x8847: 0x281}.get(kind, 0xC021)
    return b"\xff\3" * framed + struct.pack(">H", proto) + body


def pppoe(body: bytes) -> bytes:
    return struct.pack(">BBHH", 0x11, 0, 7, len(body)) + body


def wifi(body: bytes, kind: int = 0x0800, ways: int = 1, qos: int = 0, more: int = 0) -> bytes:
    """An 802.11 data frame; ways: 1 to, 2 from the distribution system; more: HT control too."""
    station = b"\x02" + bytes(4) + b"\x09"
    addresses = {
        0: MAC_B + MAC_A + station,
        1: station + MAC_A + MAC_B,
        2: MAC_B + station + MAC_A,
        3: station + station + MAC_B,
    }[ways]
    head = bytes([0x88 if qos else 0x08, ways | 0x80 * more]) + b"\0\0" + addresses + b"\0\0"
    head += MAC_A * (ways == 3) + b"\0\0" * qos + bytes(4) * (qos and more)
    return head + b"\xaa\xaa\3\0\0\0" + struct.pack(">H", kind) + body


def cut4(packet: bytes, *sizes: int, ident: int = 7) -> list[bytes]:
    """Cut an IPv4 packet without options into fragments of so many bytes, and the rest."""
    out, at, body = [], 0, packet[20:]
    for size in (*sizes, len(body)):
        piece = body[at : at + size]
        part = at // 8 | (0x2000 if at + len(piece) < len(body) else 0)
        at += len(piece)
        if piece:
            whole = ip4(piece, packet[9], packet[12:16], packet[16:20], part=part, ident=ident)
            out.append(whole)
    return out


def cut6(packet: bytes, *sizes: int, ident: int = 7) -> list[bytes]:
    """Cut an IPv6 packet without extensions into fragments of so many bytes, and the rest."""
    out, at, body = [], 0, packet[40:]
    for size in (*sizes, len(body)):
        piece = body[at : at + size]
        more = at + len(piece) < len(body)
        head = struct.pack(">BBHI", packet[6], 0, at | more, ident)
        at += len(piece)
        if piece:
            out.append(ip6(piece, 44, packet[8:24], packet[24:40], head))
    return out


def gre(body: bytes, kind: int, flags: int = 0, version: int = 0) -> bytes:
    words = sum(bool(flags & bit) for bit in (0x8000, 0x2000, 0x1000, 0x80))
    return struct.pack(">HH", flags | version, kind) + bytes(4 * words) + body


def vxlan(frame: bytes) -> bytes:
    return b"\x08" + bytes(7) + frame


def geneve(body: bytes, kind: int = 0x6558, options: int = 0) -> bytes:
    return struct.pack(">BBHI", options, 0, kind, 7) + bytes(4 * options) + body


def gtp(body: bytes, extensions: int = 0, *, optional: bool = False) -> bytes:
    head = b""
    if extensions or optional:
        # Each extension header ends in the type of the next.
        kinds = [0x85] * extensions + [0]
        head = bytes(3) + bytes(kinds[:1])
        for following in kinds[1:]:
            head += b"\1\0\0" + bytes([following])
    flags = 0x30 | (4 if extensions else 0) | (2 if optional else 0)
    return struct.pack(">BBHI", flags, 0xFF, len(head) + len(body), 9) + head + body


def teredo(body: bytes, *, origin: bool = False, authentic: bool = False) -> bytes:
    head = b"\0\1\0\0" + bytes(9) if authentic else b""
    return head + (bytes(8) if origin else b"") + body


def ayiya(body: bytes, following: int = 41) -> bytes:
    return bytes([0x42, 0x52, 0x11, following]) + bytes(4 + 16 + 20) + body


def amsdu(*packets: bytes) -> bytes:
    """An 802.11 frame with QoS that holds several packets."""
    out = wifi(b"", ways=1, qos=1)[:24] + b"\x80\0"
    for i, packet in enumerate(packets):
        body = b"\xaa\xaa\3\0\0\0\x08\0" + packet
        out += MAC_B + MAC_A + struct.pack(">H", len(body)) + body
        out += bytes(-len(out) + 26 & 3) if i + 1 < len(packets) else b""
    return out


def cooked(body: bytes, kind: int = 0x0800) -> bytes:
    return struct.pack(">HHH8sH", 0, 1, 6, MAC_A, kind) + body


def cooked2(body: bytes, kind: int = 0x0800) -> bytes:
    return struct.pack(">HHIHBB8s", kind, 0, 2, 1, 0, 6, MAC_A) + body


def frames_of(
    pieces: Sequence[bytes],
    link: int = 1,
    *,
    wirelens: Sequence[int] | None = None,
    gaps: Sequence[bytes] | None = None,
    tail: bytes = b"",
    csum_valid: bool = False,
) -> Frames:
    """Frames of one buffer: `gaps` are the bytes before each frame, `tail` those after the last."""
    buffer, start = bytearray(), []
    for i, piece in enumerate(pieces):
        buffer += gaps[i] if gaps else b""
        start.append(len(buffer))
        buffer += piece
    buffer += tail
    caplen = np.array([len(piece) for piece in pieces], dtype=np.int64)
    ts = np.arange(len(pieces), dtype=np.int64) + 1_000
    return Frames(
        data=np.frombuffer(bytes(buffer), dtype=np.uint8),
        start=np.array(start, dtype=np.int64),
        caplen=caplen,
        wirelen=np.array(wirelens, dtype=np.int64) if wirelens is not None else caplen.copy(),
        ts=ts,
        link=link,
        csum_valid=np.full(len(pieces), csum_valid),
        now=int(ts.max()) if len(ts) else 0,
    )

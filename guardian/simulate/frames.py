"""Frames as bytes: Ethernet, IP and transport headers with right checksums, fast.

A `Way` is one direction between two hosts. Its headers are packed once, and each
packet patches the fields that change. A sum of 16-bit words modulo 65,535 is the
whole number modulo 65,535, so checksums are plain integer arithmetic.
tests/test_simulate.py holds every builder against scapy's own bytes.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from struct import Struct, pack

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

MSS = 1460
"""Payload bytes of a full TCP segment."""

IP4_TCP = Struct("!16sHHHBBH8sHHIIHHHH")
IP4_HEAD = Struct("!16sHHHBBH8s")
IP6_HEAD = Struct("!14sIHBB32s")


def words(data: bytes) -> int:
    """Return the sum of the 16-bit words of data, modulo 65,535 (an odd end is padded)."""
    value = int.from_bytes(data, "big")
    return (value << 8 if len(data) & 1 else value) % 65535


def checksum(total: int) -> int:
    """Return the Internet checksum of words that add up to total (more than 0)."""
    return 65535 - (total % 65535 or 65535)


def mac_bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def ip_bytes(text: str) -> bytes:
    return IPv6Address(text).packed if ":" in text else IPv4Address(text).packed


def ip_text(ip: bytes) -> str:
    return str(IPv4Address(ip) if len(ip) == 4 else IPv6Address(ip))


def link_local(mac: bytes) -> bytes:
    """Return the IPv6 link-local address that a MAC gives (EUI-64)."""
    return (
        b"\xfe\x80" + bytes(6) + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:6]
    )  # fmt: skip


def multicast_mac(ip: bytes) -> bytes:
    """Return the MAC of an IPv4 or IPv6 multicast address, or of the broadcast."""
    if len(ip) == 16:
        return b"\x33\x33" + ip[12:]
    if ip[0] >> 4 == 14:
        return b"\x01\x00\x5e" + bytes([ip[1] & 0x7F]) + ip[2:]
    return b"\xff" * 6


class Way:
    """One direction between two hosts: packs whole frames.

    `pad` fills short frames to Ethernet's 60 bytes, as a wired card does.
    """

    __slots__ = ("_ident", "_ip_base", "_l2", "_pre", "_pseudo", "_srcdst", "_v6", "pad", "ttl")

    def __init__(
        self,
        src_mac: bytes,
        dst_mac: bytes,
        src: bytes,
        dst: bytes,
        ttl: int = 64,
        pad: bool = False,
    ) -> None:
        self._v6 = len(src) == 16
        self._l2 = dst_mac + src_mac + (b"\x86\xdd" if self._v6 else b"\x08\x00")
        self._pre = self._l2 + b"\x45\x00"
        self._srcdst = src + dst
        self._pseudo = words(self._srcdst)
        self._ip_base = 0x4500 + 0x4000 + self._pseudo
        # Any start will do; a counter is what most stacks write.
        self._ident = words(self._l2 + self._srcdst)
        self.ttl = ttl
        self.pad = pad

    def _ip4(self, proto: int, length: int, ttl: int) -> bytes:
        self._ident = ident = (self._ident + 1) & 0xFFFF
        total = length + 20
        csum = checksum(self._ip_base + total + ident + (ttl << 8 | proto))
        return IP4_HEAD.pack(self._pre, total, ident, 0x4000, ttl, proto, csum, self._srcdst)

    def _wrap(self, proto: int, body: bytes, ttl: int | None = None) -> bytes:
        hops = self.ttl if ttl is None else ttl
        if self._v6:
            head = IP6_HEAD.pack(self._l2, 0x60000000, len(body), proto, hops, self._srcdst)
        else:
            head = self._ip4(proto, len(body), hops)
        frame = head + body
        return frame.ljust(60, b"\0") if self.pad and len(frame) < 60 else frame

    def tcp(
        self,
        sport: int,
        dport: int,
        seq: int,
        ack: int,
        flags: int,
        window: int,
        payload: bytes = b"",
        payload_sum: int = -1,
        options: bytes = b"",
    ) -> bytes:
        """Return a TCP frame. `payload_sum` is words(payload) where the caller knows it."""
        if payload_sum < 0:
            payload_sum = words(payload) if payload else 0
        offset = (5 + len(options) // 4) << 12 | flags
        length = 20 + len(options) + len(payload)
        csum = checksum(
            self._pseudo + 6 + length + sport + dport + seq + ack + offset + window + payload_sum
            + (words(options) if options else 0)
        )  # fmt: skip
        if self._v6 or options:
            head = pack("!HHIIHHHH", sport, dport, seq, ack, offset, window, csum, 0)
            return self._wrap(6, head + options + payload)
        self._ident = ident = (self._ident + 1) & 0xFFFF
        total = length + 20
        ip_csum = checksum(self._ip_base + total + ident + (self.ttl << 8 | 6))
        frame = IP4_TCP.pack(
            self._pre, total, ident, 0x4000, self.ttl, 6, ip_csum, self._srcdst,
            sport, dport, seq, ack, offset, window, csum, 0,
        )  # fmt: skip
        if payload:
            return frame + payload
        return frame.ljust(60, b"\0") if self.pad else frame

    def udp(self, sport: int, dport: int, payload: bytes, ttl: int | None = None) -> bytes:
        """Return a UDP frame."""
        length = 8 + len(payload)
        total = self._pseudo + 17 + 2 * length + sport + dport + words(payload)
        # A UDP checksum of 0 would mean "none".
        head = pack("!HHHH", sport, dport, length, checksum(total) or 0xFFFF)
        return self._wrap(17, head + payload, ttl)

    def icmp(self, kind: int, code: int, body: bytes, ttl: int | None = None) -> bytes:
        """Return an ICMP (or over IPv6 ICMPv6) frame; body is all after the checksum."""
        total = (kind << 8 | code) + words(body)
        if self._v6:
            total += self._pseudo + 58 + 4 + len(body)
        message = pack("!BBH", kind, code, checksum(total)) + body
        return self._wrap(58 if self._v6 else 1, message, ttl)

    def bare(self, proto: int, body: bytes, ttl: int | None = None) -> bytes:
        """Return a frame of any other IP protocol, or of a transport part made elsewhere."""
        return self._wrap(proto, body, ttl)


def arp(op: int, src_mac: bytes, src: bytes, dst_mac: bytes, dst: bytes) -> bytes:
    """Return an ARP frame: op 1 asks everyone for dst, op 2 answers dst_mac."""
    ask = op == 1
    to = b"\xff" * 6 if ask else dst_mac
    body = b"\0\x01\x08\0\x06\x04" + pack("!H", op) + src_mac + src
    return to + src_mac + b"\x08\x06" + body + (bytes(6) if ask else dst_mac) + dst

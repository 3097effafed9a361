"""Which service a datagram shows by its bytes, and the name it is about.

Bytes decide; a port is asked only where bytes cannot tell. Nothing here raises on any bytes.
"""

from __future__ import annotations

import re
import struct

from guardian import quic
from guardian.brands import brand
from guardian.const import HOST_BYTES

Found = tuple[bytes, bytes]
"""A service and a host, either empty."""
NONE: Found = (b"", b"")
MAX_DNS_NAME = 255
"""Bytes of a name (RFC 1035); that of an IPv6 address has 34 labels."""
STUN_COOKIE = b"\x21\x12\xa4\x42"
DHCP_COOKIE = b"\x63\x82\x53\x63"
QUIC = b"quic,ssl"
"""The name in its hello is sealed, and found by quic.Hellos."""

SIP = re.compile(rb"(?:[A-Z]{3,12} sips?:[^\r\n]{1,400} SIP/2\.0\r?\n|SIP/2\.0 [1-6][0-9][0-9] )")
# The flags say that a version is there, behind an id of 8 bytes; from Q044 on a long header.
_GOOGLE_QUIC = re.compile(rb"(?:[\x09\x0d\x19\x1d].{8}|[\xc0-\xff])Q0[0-9][0-9]", re.DOTALL)
_RDP_UDP = re.compile(rb"\xff{4}...\x01", re.DOTALL)
_MARKED = re.compile(
    rb"[A-Z][A-Z-][A-Z]|[\x09\x0d\x19\x1d].{8}Q0|.Q0|\x16\xfe|\xff{4}|d1:", re.DOTALL
)
"""How those begin that are told on any port: most others are seen to be none by one look."""
_SNMP = re.compile(rb"\x30.{1,4}?\x02\x01[\x00\x01\x03]", re.DOTALL)


def datagram(port: int, asking: bool, payload: bytes) -> Found:  # noqa: PLR0911
    """Return what a datagram shows; port: the responder's, asking: it is the originator's."""
    by_port = _UDP_BY_PORT.get(port)
    if by_port is not None:
        found = by_port(payload)
        if found[0]:
            return found
    if len(payload) >= 20 and payload[4:8] == STUN_COOKIE and payload[0] < 64:
        return b"stun", b""
    if payload[236:240] == DHCP_COOKIE and payload[:1] in (b"\x01", b"\x02"):
        return b"dhcp", b""
    if (len(payload) >= 1_000 or not asking) and quic_kind(payload) == 0:
        return QUIC, b""
    if not _MARKED.match(payload):
        return brand(port, payload), b""
    if payload.startswith((b"M-SEARCH * HTTP/1.1", b"NOTIFY * HTTP/1.1")):
        return b"ssdp", b""
    if SIP.match(payload):
        return b"sip", b""
    if google_quic(payload):
        return b"gquic", printable(quic.google_name(payload))
    if is_dtls(payload):
        return b"dtls", b""
    if len(payload) == 1_232 and _RDP_UDP.match(payload):
        return b"rdpeudp", b""
    if payload.startswith((b"d1:ad2:id20:", b"d1:rd2:id20:")):
        return b"bittorrent", b""
    return brand(port, payload), b""


def is_dtls(payload: bytes) -> bool:
    """Return whether this begins a handshake of DTLS."""
    return payload[:1] == b"\x16" and payload[1:3] in (b"\xfe\xff", b"\xfe\xfd")


def quic_kind(payload: bytes) -> int:
    """Return the kind of a QUIC packet with a long header, as version 1 numbers it; -1: none.

    The kinds are 0 Initial, 1 0-RTT, 2 Handshake, 3 Retry.
    """
    if len(payload) < 24 or payload[0] & 0xC0 != 0xC0 or payload[5] > 20:
        return -1
    kind, version = payload[0] >> 4 & 3, payload[1:5]
    if version == b"\x00\x00\x00\x01" or version.startswith(b"\xff\x00\x00"):
        return kind
    return kind - 1 & 3 if version == b"\x6b\x33\x43\xcf" else -1


def google_quic(payload: bytes) -> bool:
    """Return whether a packet tells a version of Google's QUIC: those before the standard."""
    return _GOOGLE_QUIC.match(payload) is not None


def dns(payload: bytes) -> Found:
    """Return DNS and the name asked for, if this is a message of DNS."""
    name = dns_question(payload)
    return NONE if name is None else (b"dns", name)


def dns_question(message: bytes) -> bytes | None:
    """Return the first question's name, empty if there is none; None if this is no DNS."""
    if len(message) < 12:
        return None
    counts = struct.unpack_from(">4H", message, 4)
    if message[2] >> 3 & 15 > 6 or counts[0] > 64 or sum(counts) > 512 or not any(counts):
        return None
    if not counts[0]:
        return b""
    at = 12
    labels: list[bytes] = []
    while at < len(message) and message[at]:
        size = message[at]
        if size > 63 or at + 1 + size > min(len(message), 12 + MAX_DNS_NAME):
            return None
        labels.append(message[at + 1 : at + 1 + size])
        at += 1 + size
    if at + 5 > len(message):
        return None
    return printable(b".".join(labels))


def _netbios(payload: bytes) -> Found:
    found, _ = dns(payload)
    return found, b""  # the name is in a code of its own


def _ntp(payload: bytes) -> Found:
    version, mode = payload[0] >> 3 & 7, payload[0] & 7
    fits = len(payload) >= (12 if mode in {6, 7} else 48) and 1 <= version <= 4 and mode
    return (b"ntp", b"") if fits else NONE


def _dhcp(payload: bytes) -> Found:
    return (b"dhcp", b"") if payload[236:240] == DHCP_COOKIE else NONE


def _snmp(payload: bytes) -> Found:
    return (b"snmp", b"") if _SNMP.match(payload) else NONE


def _ssdp(payload: bytes) -> Found:
    return (b"ssdp", b"") if payload.startswith((b"M-SEARCH", b"NOTIFY", b"HTTP/1.")) else NONE


def _coap(payload: bytes) -> Found:
    fits = len(payload) >= 4 and payload[0] >> 6 == 1 and payload[0] & 15 <= 8
    return (b"coap", b"") if fits and payload[1] >> 5 in {0, 2, 4, 5} else NONE


def _syslog(payload: bytes) -> Found:
    return (b"syslog", b"") if re.match(rb"<[0-9]{1,3}>", payload) else NONE


def _kerberos(payload: bytes) -> Found:
    return (b"krb", b"") if payload[:1] in (b"\x6a", b"\x6b", b"\x6c", b"\x6d", b"\x7e") else NONE


def _cldap(payload: bytes) -> Found:
    return (b"ldap_udp", b"") if is_ldap(payload) else NONE


def _radius(payload: bytes) -> Found:
    fits = len(payload) >= 20 and int.from_bytes(payload[2:4], "big") <= len(payload)
    return (b"radius", b"") if fits and payload[0] in {1, 2, 3, 4, 5, 11} else NONE


def is_ldap(payload: bytes) -> bool:
    """Return whether this begins like an LDAP message: a sequence that opens with a number."""
    if payload[:1] != b"\x30" or len(payload) < 7:
        return False
    long_form = payload[1] & 0x7F if payload[1] & 0x80 else 0
    return long_form <= 4 and payload[2 + long_form : 3 + long_form] == b"\x02"


_UDP_BY_PORT = {
    53: dns,
    67: _dhcp,
    68: _dhcp,
    88: _kerberos,
    123: _ntp,
    137: _netbios,
    161: _snmp,
    162: _snmp,
    389: _cldap,
    514: _syslog,
    1812: _radius,
    1900: _ssdp,
    5353: dns,
    5355: dns,
    5683: _coap,
}


_PRINTABLE = bytes(b if 33 <= b < 127 else 63 for b in range(256)).lower()


def printable(raw: bytes) -> bytes:
    """Return a name as lower-case printable ASCII without blanks, cut to HOST_BYTES."""
    return raw[:HOST_BYTES].translate(_PRINTABLE)

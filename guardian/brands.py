"""What the makers of home devices speak on the local network: datagrams told by their bytes.

The names are ours: Zeek has none for these. What is usual beside them (WS-Discovery, NetBIOS
datagrams, DHCPv6, IKE) has none here either, so that a log of ours is no stranger to one of Zeek's
where it need not be. Only datagrams that nothing better known explains come here (datagrams.py).
Most show a mark of their own and are told on any port; where a mark is short, a length or an end
that must fit stands beside it. Nothing here raises on any bytes.
"""

from __future__ import annotations

import re

_TUYA = {
    b"\x00\x00\x55\xaa": b"\x00\x00\xaa\x55",
    b"\x00\x00\x66\x99": b"\x00\x00\x99\x66",
}
"""How a frame begins and ends."""
_WIREGUARD = {b"\x01\x00\x00\x00": 148, b"\x02\x00\x00\x00": 92, b"\x03\x00\x00\x00": 64}
"""The messages of a handshake have one size each."""
_PREFIXES = (
    (b"TS\xf0\x9f\x92\xac", b"tailscale"),
    (b"BJNP", b"bjnp"),  # Canon printers
    (b"MFNP", b"bjnp"),
    (b"TiVoConnect=", b"tivo"),
    (b'{"msg":{"cmd":"', b"govee"),
)
_WIZ = re.compile(
    rb'\{\s?"(?:(?:id|env)":[^:]{1,40}"){0,2}method":\s?"'
    rb"(?:(?:get|set|sync)[A-Z][A-Za-z]{3,20}|registration|firstBeat|pulse)"
)
_TFTP = re.compile(rb"\x00[\x01\x02][^\x00]{0,400}\x00(?:octet|netascii|mail)\x00", re.IGNORECASE)


_MARKED = re.compile(
    rb"TS\xf0|BJNP|MFNP|TiVo|\{|\x00\x00[\x55\x66]|[\x01-\x04]\x00\x00\x00|\xd0\xf2|\x21\x31"
    rb"|..\x00[\x14\x34]|\x81[\x00-\x0c]|\x06\x10",
    re.DOTALL,
)
"""How those begin that are told on any port: most others are seen to be none by one look."""


def brand(port: int, payload: bytes) -> bytes:
    """Return the local protocol that a datagram shows, empty for none; port: the responder's."""
    if len(payload) < 8:
        return b"pcp" if port == 5351 and _is_port_mapping(payload) else b""
    if _MARKED.match(payload):
        for prefix, name in _PREFIXES:
            if payload.startswith(prefix):
                return name
        for fits, name in _SHOWN:
            if fits(payload):
                return name
    by_port = _BY_PORT.get(port)
    return by_port[1] if by_port is not None and by_port[0](payload) else b""


def _is_wireguard(payload: bytes) -> bool:
    size = len(payload)
    if payload[:4] == b"\x04\x00\x00\x00":  # data, with a counter that is never that high
        return size >= 32 and size % 16 == 0 and payload[12:16] == b"\x00" * 4
    return _WIREGUARD.get(payload[:4]) == size


def is_tuya(payload: bytes) -> bool:
    """Tuya's own frame, by its first and last bytes."""
    end = _TUYA.get(payload[:4])
    return end is not None and payload.endswith(end)


def is_kasa(hidden: bytes) -> bool:
    """A JSON object of TP-Link's plugs and lamps, each byte added to the one before."""
    return hidden[:2] == b"\xd0\xf2" and hidden[-1] ^ hidden[-2] == 0x7D


def _is_miio(payload: bytes) -> bool:
    """Xiaomi: a mark, and the size."""
    return payload[:2] == b"\x21\x31" and int.from_bytes(payload[2:4], "big") == len(payload) >= 32


def _is_lifx(payload: bytes) -> bool:
    """LIFX: the size, protocol 1024 with an address, and no reserved bits."""
    size, protocol = payload[0] | payload[1] << 8, payload[2] | payload[3] << 8
    return size == len(payload) >= 36 and protocol & 0x1FFF == 0x1400 and payload[16:22] in _LIFX


_LIFX = (b"\x00" * 6, b"LIFXV2")


def _is_bacnet(payload: bytes) -> bool:
    fits = payload[0] == 0x81 and payload[1] <= 0x0C
    return fits and int.from_bytes(payload[2:4], "big") == len(payload)


def _is_knx(payload: bytes) -> bool:
    return payload[:2] == b"\x06\x10" and int.from_bytes(payload[4:6], "big") == len(payload)


def _is_wiz(payload: bytes) -> bool:
    return payload[:1] == b"{" and _WIZ.match(payload) is not None


def _is_ubiquiti(payload: bytes) -> bool:
    return payload[0] in {1, 2} and int.from_bytes(payload[2:4], "big") == len(payload) - 4


def _is_matter(payload: bytes) -> bool:
    """Version 0 and no reserved bit; all else is sealed or may be anything."""
    return payload[0] & 0xF8 == 0 and payload[0] & 3 < 3 and payload[3] & 0x1F < 2


def _is_tftp(payload: bytes) -> bool:
    return _TFTP.match(payload) is not None


def _is_port_mapping(payload: bytes) -> bool:
    """NAT-PMP (version 0) or PCP (version 2): how a device opens the home's router."""
    return len(payload) >= 2 and payload[0] in {0, 2} and payload[1] & 0x7F <= 2


_SHOWN = (
    (is_tuya, b"tuya"),
    (_is_wireguard, b"wireguard"),
    (is_kasa, b"kasa"),
    (_is_miio, b"miio"),
    (_is_lifx, b"lifx"),
    (_is_bacnet, b"bacnet"),
    (_is_knx, b"knx"),
    (_is_wiz, b"wiz"),
)
_BY_PORT = {
    69: (_is_tftp, b"tftp"),
    5351: (_is_port_mapping, b"pcp"),
    5540: (_is_matter, b"matter"),
    10001: (_is_ubiquiti, b"ubnt"),
}

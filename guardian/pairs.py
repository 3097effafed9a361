"""Services shown on any port by a question and its answer, which bear the same number.

One message of DNS, NTP, SNMP, CoAP or Modbus has bytes that would fit much else; two that are whole
by their own lengths, go opposite ways, and agree in a number of 16 bits are no chance. Nothing here
raises on any bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from guardian.datagrams import dns_question

KINDS = (b"", b"dns", b"ntp", b"snmp", b"coap", b"modbus")

MAX_OPTIONS = 24
"""Of CoAP, walked to see whether they fit: a request has a handful."""

Message = tuple[bool, int]
"""Whether it is an answer, and its number."""

_BER = re.compile(
    rb"\x30(?:[\x00-\x7f]|\x81.|\x82..)\x02\x01[\x00\x01]\x04[\x00-\x40].{0,64}?"
    rb"([\xa0-\xa3\xa5])(?:[\x00-\x7f]|\x81.|\x82..)\x02([\x01-\x04])",
    re.DOTALL,
)
_NTP_SIZES = (48, 68, 72)
"""Without and with the two usual digests."""


def told(proto: int, payload: bytes) -> tuple[int, Message] | None:
    """Return what a message may be, as an index of KINDS, and what it says of itself."""
    for kind, reader in _READERS[proto]:
        message = reader(payload)
        if message is not None:
            return kind, message
    return None


def _dns(payload: bytes) -> Message | None:
    """One question of class IN, and no answers, or no more than a datagram holds."""
    if len(payload) < 17 or payload[4:6] != b"\x00\x01" or payload[2] & 0x78 or payload[3] & 0x40:
        return None
    name = dns_question(payload)
    end = payload.find(b"\x00", 12) + 5
    if not name or end > len(payload) or payload[end - 2 : end] != b"\x00\x01":
        return None
    answer = payload[2] & 0x80 != 0
    if not answer and (payload[6:10] != bytes(4) or (payload[10:12] == bytes(2)) != (
        end == len(payload)
    )):  # fmt: skip
        return None
    return answer, int.from_bytes(payload[:2], "big")


def _dns_over_tcp(payload: bytes) -> Message | None:
    whole = int.from_bytes(payload[:2], "big") == len(payload) - 2
    return _dns(payload[2:]) if whole else None


def _ntp(payload: bytes) -> Message | None:
    """A client tells its time; the server repeats it."""
    if len(payload) not in _NTP_SIZES or not 1 <= payload[0] >> 3 & 7 <= 4 or payload[1] > 16:
        return None
    mode = payload[0] & 7
    stamp = payload[40:48] if mode == 3 else payload[24:32]
    if mode not in {3, 4} or not any(stamp):
        return None
    return mode == 4, int.from_bytes(stamp[6:], "big")


def _snmp(payload: bytes) -> Message | None:
    match = _BER.match(payload)
    if match is None:
        return None
    long_form = payload[1] & 0x7F if payload[1] & 0x80 else 0
    size = int.from_bytes(payload[2 : 2 + long_form], "big") if long_form else payload[1]
    number = payload[match.end() : match.end() + match[2][0]]
    if size + 2 + long_form != len(payload) or not number:
        return None
    return match[1] == b"\xa2", int.from_bytes(number[-2:], "big")


def _coap(payload: bytes) -> Message | None:
    """A request that wants to be acknowledged, or the answer within the acknowledgement."""
    if len(payload) < 4 or payload[0] >> 6 != 1 or payload[0] & 15 > 8:
        return None
    kind, code, at = payload[0] >> 4 & 3, payload[1], 4 + (payload[0] & 15)
    answer = kind == 2 and code >> 5 in {2, 4, 5}
    if not answer and not (kind == 0 and 1 <= code <= 7):
        return None
    for _ in range(MAX_OPTIONS):
        if at >= len(payload) or payload[at] == 0xFF:
            break
        delta, size = payload[at] >> 4, payload[at] & 15
        if 15 in (delta, size):
            return None
        at += 1 + (1 if delta == 13 else 2 if delta == 14 else 0)
        if size > 12:
            more = payload[at : at + size - 12]
            size = int.from_bytes(more, "big") + (13 if size == 13 else 269)
            at += len(more)
        at += size
    if at > len(payload) or at == len(payload) - 1:
        return None
    return answer, int.from_bytes(payload[2:4], "big")


def _modbus(payload: bytes) -> Message | None:
    """The same number and function; which is the answer is not plain."""
    whole = int.from_bytes(payload[4:6], "big") == len(payload) - 6
    if len(payload) < 8 or payload[2:4] != b"\x00\x00" or not whole or not payload[7] & 0x7F:
        return None
    return payload[7] >= 0x80, payload[1] << 8 | payload[7] & 0x7F


_READERS: dict[int, tuple[tuple[int, Callable[[bytes], Message | None]], ...]] = {
    17: ((1, _dns), (2, _ntp), (3, _snmp), (4, _coap)),
    6: ((1, _dns_over_tcp), (5, _modbus)),
}


def pair(before: int, asking: bool, proto: int, payload: bytes) -> tuple[int, bytes]:
    """Return what is to be remembered for the other side's next payload, and the service that this
    one and what was remembered show.

    before: as returned by the last call, 0 at first. It has 24 bits.
    """
    found = told(proto, payload)
    if found is None:
        return before, b""
    kind, (answer, number) = found
    if before and (before >> 21, before & 0xFFFF) == (kind, number):
        other_side = bool(before >> 20 & 1) != asking
        turn = kind == KINDS.index(b"modbus") or bool(before >> 19 & 1) != answer
        if other_side and turn:
            return 0, KINDS[kind]
    return kind << 21 | asking << 20 | answer << 19 | number, b""

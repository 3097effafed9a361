"""What a packet carries, one packet at a time: what tunnels.py must equal."""

from __future__ import annotations

import struct
from typing import Any

IP_TUNNEL, VXLAN, GENEVE, GTP, TEREDO, AYIYA = range(1, 7)
ALWAYS = (VXLAN, GENEVE, AYIYA)
PORTS = {4789: VXLAN, 6081: GENEVE, 2152: GTP, 3544: TEREDO, 5072: AYIYA}
Found = tuple[int, Any, int]


class ShortError(Exception):
    """The header is not all there."""


def byte(data: bytes, at: int) -> int:
    if at >= len(data):
        raise ShortError
    return data[at]


def word(data: bytes, at: int) -> int:
    return byte(data, at) << 8 | byte(data, at + 1)


def carried(row: dict[str, Any]) -> Found | None:
    """Return the tunnel, what it holds and where that begins in the payload."""
    data, size, proto = row["payload"], row["payload_len"], row["proto"]
    if row["bad_csum"]:
        return None
    try:
        found = over_ip(data, proto) if proto in (4, 41, 47) else over_udp(row, data, size, proto)
    except ShortError:
        return None
    if found is None or found[2] > len(data):
        return None
    return found


def over_ip(data: bytes, proto: int) -> Found | None:  # noqa: PLR0911
    if proto != 47:
        return IP_TUNNEL, 0x0800 if proto == 4 else 0x86DD, 0
    flags, kind = word(data, 0), word(data, 2)
    start = 4 + 4 * sum(bool(flags & bit) for bit in (0x8000, 0x2000, 0x1000, 0x80))
    if flags & 0x4078 or start > len(data):
        return None
    if flags & 7 == 1:
        return (IP_TUNNEL, kind, start) if kind == 0x880B else None
    if flags & 7:
        return None
    if kind == 0x88BE:
        return IP_TUNNEL, 0x6558, start + 8 * bool(flags & 0x1000)
    if kind == 0x22EB:
        return IP_TUNNEL, 0x6558, start + 12 + 8 * (byte(data, start + 11) & 1)
    if kind == 0x9000 or (0x8200 <= kind < 0x8400 and kind % 16 == 0):
        return IP_TUNNEL, 0x8240, start
    return (IP_TUNNEL, kind, start) if kind >= 0x600 else None


def over_udp(row: dict[str, Any], data: bytes, size: int, proto: int) -> Found | None:
    if proto != 17 or len(data) < 8:
        return None
    tunnel = PORTS.get(row["dport"]) or PORTS.get(row["sport"])
    if not tunnel:
        if data[1:3] == b"\x52\x11":
            tunnel = AYIYA
        elif data[0] >> 4 == 6 or (data[0] == 0 and data[1] < 2):
            tunnel = TEREDO
    if tunnel == VXLAN:
        return (VXLAN, 0x6558, 8) if data[0] & 8 else None
    if tunnel == GENEVE:
        kind = word(data, 2)
        start = 8 + (data[0] & 0x3F) * 4
        return (GENEVE, kind, start) if data[0] < 64 and kind >= 0x600 else None
    if tunnel == GTP:
        return gtp(data, size)
    if tunnel == TEREDO:
        return teredo(data, size)
    return ayiya(data) if tunnel == AYIYA else None


def gtp(data: bytes, size: int) -> Found | None:
    flags, message = data[0], data[1]
    if flags >> 5 != 1 or not flags & 0x10 or message != 0xFF:
        return None
    start = 8 + 4 * bool(flags & 7)
    if flags & 4:
        for _ in range(4):
            if not byte(data, start - 1):
                break
            length = 4 * byte(data, start)
            if not length:
                return None
            start += length
        if byte(data, start - 1):
            return None
    if start + 20 > len(data):
        return None
    version = data[start] >> 4
    claimed = {4: word(data, start + 2), 6: word(data, start + 4) + 40}.get(version)
    return (GTP, "ip", start) if claimed == size - start else None


def teredo(data: bytes, size: int) -> Found | None:
    if len(data) < 40:
        return None
    start, headed = 0, False
    if word(data, 0) == 1:
        start, headed = 13 + data[2] + data[3], True
    if word(data, start) == 0:
        start, headed = start + 8, True
    if start + 40 > len(data) or data[start] >> 4 != 6:
        return None
    payload, following = struct.unpack_from(">HB", data, start + 4)
    room = size - start
    if payload + 40 != room and not (following == 59 and not payload and room >= 40):
        return None
    prefix = bytes.fromhex("20010000")
    own = prefix in (data[start + 8 : start + 12], data[start + 24 : start + 28])
    return (TEREDO, 0x86DD, start) if headed or own else None


def ayiya(data: bytes) -> Found | None:
    start = 8 + (1 << (data[0] >> 4)) + (data[1] >> 4) * 4
    kind = {41: 0x86DD, 4: 0x0800}.get(data[3])
    return (AYIYA, kind, start) if kind and data[2] & 15 == 1 else None

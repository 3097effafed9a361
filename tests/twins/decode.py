"""A slow, obvious decoder: one frame at a time, with struct. What decode.py must equal."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

V4_PREFIX = 0xFFFF << 32


@dataclass
class Result:
    """What became of the frames of a batch."""

    packets: list[dict[str, Any]] = field(default_factory=list)
    arps: list[dict[str, Any]] = field(default_factory=list)
    not_understood: dict[str, int] = field(default_factory=dict)
    malformed: int = 0


class MalformedError(Exception):
    """The headers contradict themselves or the frame's length."""


class OtherError(Exception):
    """Not understood; the argument is the kind."""


@dataclass
class Frame:
    """One frame, whose bytes are taken in order."""

    data: bytes
    wirelen: int
    at: int = 0

    def need(self, upto: int) -> None:
        if upto > len(self.data):
            raise (
                MalformedError
                if upto > max(self.wirelen, len(self.data))
                else OtherError("cut short")
            )

    def peek(self, kind: str) -> tuple[Any, ...]:
        self.need(self.at + struct.calcsize(kind))
        return struct.unpack_from(kind, self.data, self.at)

    def take(self, kind: str) -> tuple[Any, ...]:
        values = self.peek(kind)
        self.at += struct.calcsize(kind)
        return values


def decode(
    link: int, frames: list[tuple[int, bytes, int, bool]], ignore_checksums: bool = False
) -> Result:
    """Decode (ts, captured bytes, wire length, checksum valid) of each frame."""
    result = Result()
    for index, (ts, data, wirelen, csum_valid) in enumerate(frames):
        judge = not (ignore_checksums or csum_valid)
        row = fate(result, link, Frame(data, wirelen), judge)
        if row.pop("arp", False):
            result.arps.append({"ts": ts, **row})
        elif row:
            result.packets.append({"ts": ts, "frame": index, **row})
    return result


def fate(result: Result, link: int, frame: Frame, judge: bool) -> dict[str, Any]:
    """Return the row of a frame; one without a row is counted."""
    try:
        return one(link, frame, judge)
    except MalformedError:
        result.malformed += 1
    except OtherError as error:
        kind = error.args[0]
        result.not_understood[kind] = result.not_understood.get(kind, 0) + 1
    return {}


def one(link: int, frame: Frame, judge: bool) -> dict[str, Any]:
    """Return the row of one frame."""
    kind, src_mac, dst_mac = below(link, frame)
    if kind == 0x0806:
        return arp(frame)
    if kind == 0x0800:
        row = ip4(frame, judge)
    elif kind == 0x86DD:
        row = ip6(frame, judge)
    else:
        names = {0x888E: "eapol", 0x8863: "pppoe", 0x8864: "pppoe", 0x8847: "mpls", 0x8848: "mpls"}
        raise OtherError(names.get(kind, "ethertype"))
    return {"src_mac": src_mac, "dst_mac": dst_mac, **row}


def below(link: int, frame: Frame) -> tuple[int, int, int]:  # noqa: PLR0911
    """Take the link layer off; return ethertype and both MACs."""
    if link == 1:
        return ethernet(frame)
    if link in (113, 276):
        return cooked(link, frame)
    if link in BEGINS:
        return opened(frame, BEGINS[link])
    if link == 127:
        version, length = frame.peek("<BxH")
        if version or length < 8:
            raise MalformedError
        frame.need(frame.at + length)
        frame.at += length
        return opened(frame, WIFI)
    if link == 104:
        kind = frame.take(">HH")[1]
        if kind < 0x600:
            raise OtherError("ethertype")
        return opened(frame, kind)
    if link == 239:
        return nflog(frame), 0, 0
    if link in (0, 108):
        return loopback(frame), 0, 0
    raise OtherError("link type")


ETHERNET, PPP, WIFI, ANY_IP, SUBFRAMES = "ethernet", "ppp", "802.11", "ip", 0xFFFE
BEGINS: dict[int, Any] = {
    9: PPP, 50: PPP, 51: 0x8864, 12: ANY_IP, 14: ANY_IP, 101: ANY_IP, 105: WIFI, 228: 0x0800,
    229: 0x86DD,
}  # fmt: skip
"""What the frames of a link type begin with: an ethertype or a name."""


def opened(  # noqa: PLR0912
    frame: Frame, kind: Any, src: bytes = b"", dst: bytes = b""
) -> tuple[Any, int, int]:
    """Take off layer after layer, at most eight; return what is left and both MACs."""
    for _ in range(8):
        if kind in (0x8100, 0x88A8, 0x9100):
            _, kind = frame.take(">HH")
        elif kind == 0x8926:
            _, kind = frame.take(">IH")
        elif kind in (0x8903, 0x88E7):
            frame.take("H" if kind == 0x8903 else "I")
            kind = ETHERNET
        elif kind in (ETHERNET, 0x6558):
            dst, src, kind = frame.take(">6s6sH")
        elif kind in (PPP, 0x880B):
            kind = ppp(frame)
        elif kind in (WIFI, 0x8240):
            kind, src, dst = wifi(frame)
        elif kind == 0x8864:
            first, _, _ = frame.take(">HHH")
            if first != 0x1100:
                raise OtherError("pppoe")
            kind = PPP
        elif kind in (0x8847, 0x8848):
            kind = mpls(frame, kind)
        elif kind in (ANY_IP, 0xFFFF):
            version = frame.peek("B")[0] >> 4
            if version not in (4, 6):
                raise MalformedError
            kind = 0x0800 if version == 4 else 0x86DD
        elif isinstance(kind, int) and kind < 0x600:
            snap = frame.data[frame.at : frame.at + 6] == b"\xaa\xaa\x03\0\0\0"
            if not snap or len(frame.data) < frame.at + 8:
                raise OtherError("llc")
            kind = frame.take(">6sH")[1]
        else:
            break
    return kind, int.from_bytes(src, "big"), int.from_bytes(dst, "big")


def ppp(frame: Frame) -> int:
    (proto,) = frame.take(">H")
    if proto == 0xFF03:
        (proto,) = frame.take(">H")
    known = {0x21: 0x0800, 0x57: 0x86DD, 0x281: 0x8847, 0x283: 0x8847}
    if proto not in known:
        raise OtherError("ppp")
    return known[proto]


def mpls(frame: Frame, kind: int) -> Any:
    """Take one label off."""
    if not frame.take(">HBB")[1] & 1:
        return kind
    version = frame.peek("B")[0] >> 4
    if version == 0:
        frame.take("I")
        return ETHERNET
    if version not in (4, 6):
        raise OtherError("mpls")
    return 0x0800 if version == 4 else 0x86DD


def wifi(frame: Frame) -> tuple[Any, bytes, bytes]:
    control, flags = frame.peek("BB")
    if control & 0x0C != 0x08 or control & 0x40:
        raise OtherError("802.11")
    if flags & 0x40:
        raise OtherError("802.11 protected")
    qos, four = bool(control & 0x80), flags & 3 == 3
    size = 24 + 6 * four + 2 * qos + 4 * (qos and bool(flags & 0x80))
    frame.need(frame.at + size)
    head = frame.data[frame.at : frame.at + size]
    frame.at += size
    dst = head[16:22] if flags & 1 else head[4:10]
    src = head[10:16]
    if flags & 2:
        src = head[24:30] if four else head[16:22]
    several = qos and head[30 if four else 24] & 0x80
    return SUBFRAMES if several else 4, src, dst


def nflog(frame: Frame) -> int:
    (family,) = frame.take("B3x")
    for _ in range(32):
        size, kind = frame.peek("<HH")
        if size < 4:
            raise MalformedError
        if kind == 9:
            frame.at += 4
            break
        frame.at += (size + 3) // 4 * 4
    else:
        raise OtherError("ethertype")
    if family not in (2, 10):
        raise OtherError("ethertype")
    return 0x0800 if family == 2 else 0x86DD


def ethernet(frame: Frame) -> tuple[Any, int, int]:
    dst, src, kind = frame.take(">6s6sH")
    return opened(frame, kind, src, dst)


def cooked(link: int, frame: Frame) -> tuple[Any, int, int]:
    if link == 113:
        _, _, length, address, kind = frame.take(">HHH8sH")
    else:
        kind, _, _, _, _, length, address = frame.take(">HHIHBB8s")
    if kind < 0x600:
        raise OtherError("llc")
    return opened(frame, kind, address[:6] if length == 6 else b"")


def loopback(frame: Frame) -> int:
    (family,) = frame.take(">I")
    if family > 0xFFFF:
        (family,) = struct.unpack("<I", struct.pack(">I", family))
    if family == 2:
        return 0x0800
    if family in (10, 24, 28, 30):
        return 0x86DD
    raise OtherError("ethertype")


def arp(frame: Frame) -> dict[str, Any]:
    hardware, protocol, hlen, plen, _ = frame.peek(">HHBBH")
    if (hardware, protocol, hlen, plen) != (1, 0x0800, 6, 4):
        raise OtherError("arp")
    _, op, mac, src, _, dst = frame.take(">6sH6sI6sI")
    return {
        "arp": True,
        "op": op,
        "src_mac": int.from_bytes(mac, "big"),
        "src": (0, V4_PREFIX | src),
        "dst": (0, V4_PREFIX | dst),
    }


def ip4(frame: Frame, judge: bool) -> dict[str, Any]:
    net = frame.at
    first, _, length, _, part, _, proto, _, src, dst = frame.peek(">BBHHHBBH4s4s")
    header = (first & 15) * 4
    room = max(frame.wirelen, len(frame.data)) - net
    length = length or room
    if first >> 4 != 4 or header < 20 or length < header or length > room:
        raise MalformedError
    frame.need(net + header)
    if part & 0x3FFF:
        raise OtherError("ip fragment")
    judge = judge and net + length <= len(frame.data)
    bad = judge and internet_sum(frame.data[net : net + header]) != 0xFFFF
    frame.at = net + header
    row = transport(frame, proto, net + length, src + dst, judge)
    row["bad_csum"] = row["bad_csum"] or bad
    return {
        **row,
        "src": (0, V4_PREFIX | int.from_bytes(src, "big")),
        "dst": (0, V4_PREFIX | int.from_bytes(dst, "big")),
        "v6": False,
        "ip_len": length,
    }


def ip6(frame: Frame, judge: bool) -> dict[str, Any]:
    net = frame.at
    first, payload, proto, _, src, dst = frame.take(">IHBB16s16s")
    room = max(frame.wirelen, len(frame.data)) - net
    length = payload + 40
    if not payload and (proto == 6 or room > 65_575):
        length = room
    if first >> 28 != 6 or length > room:
        raise MalformedError
    end = net + length
    for _ in range(8):
        if proto not in (0, 43, 44, 51, 60):
            break
        if frame.at + 8 > end:
            raise MalformedError
        following, units, third, fourth = frame.peek("BBBB4x")
        size = {44: 8, 51: (units + 2) * 4}.get(proto, (units + 1) * 8)
        if frame.at + size > end:
            raise MalformedError
        if proto == 44 and (third or fourth & 0xF9):
            raise OtherError("ip fragment")
        if proto == 43 and fourth:
            judge = False
        proto = following
        frame.at += size
    else:
        if proto in (0, 43, 44, 51, 60):
            raise MalformedError
    judge = judge and end <= len(frame.data)
    return {
        **transport(frame, proto, end, src + dst, judge),
        "src": struct.unpack(">QQ", src),
        "dst": struct.unpack(">QQ", dst),
        "v6": True,
        "ip_len": length,
    }


def transport(frame: Frame, proto: int, end: int, addresses: bytes, judge: bool) -> dict[str, Any]:
    """Read the transport header at frame.at of a datagram that ends at `end`."""
    at = frame.at
    v6 = len(addresses) == 32
    row: dict[str, Any] = dict.fromkeys(
        ("sport", "dport", "flags", "seq", "ack", "window", "icmp_id"), 0
    )
    size = {6: 20, 17: 8, 1: 8, 58: 8}.get(proto, 0)
    if at + size > end:
        raise MalformedError
    frame.need(at + size)
    given: int | None = None
    if proto == 6:
        (row["sport"], row["dport"], row["seq"], row["ack"], offset, row["flags"], row["window"],
         given) = frame.peek(">HHIIBBHH")  # fmt: skip
        size = (offset >> 4) * 4
        if size < 20 or at + size > end:
            raise MalformedError
    elif proto == 17:
        row["sport"], row["dport"], length, given = frame.peek(">HHHH")
        if length:
            if length < 8 or at + length > end:
                raise MalformedError
            end = at + length
        if given == 0 and not v6:
            given = None
    elif proto in (1, 58):
        row["sport"], row["dport"], given, identifier, _ = frame.peek(">BBHHH")
        if row["sport"] in ((8, 0) if proto == 1 else (128, 129)):
            row["icmp_id"] = identifier
    start = min(at + size, len(frame.data))
    payload = end - at - size
    row |= {
        "proto": proto,
        "payload_len": payload,
        "payload_start": start,
        "payload_cap": min(payload, len(frame.data) - start),
        "bad_csum": False,
    }
    if judge and given is not None:
        body = frame.data[at:end]
        pseudo = addresses + struct.pack(">II", len(body), proto) if proto != 1 else b""
        wrong = internet_sum(pseudo + body) != 0xFFFF
        row["bad_csum"] = wrong or (proto == 17 and given == 0)
    return row


def internet_sum(data: bytes) -> int:
    """One's complement sum of the 16-bit words; 0xFFFF where the checksum inside is right."""
    if len(data) % 2:
        data += b"\0"
    total = 0
    for i in range(0, len(data), 2):
        total += data[i] << 8 | data[i + 1]
        if total > 0xFFFF:
            total -= 0xFFFF
    return total

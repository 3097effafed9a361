"""A slow, obvious decoder: one frame at a time, with struct. What decode.py must equal."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

from tests.twins import tunnels

V4_PREFIX = 0xFFFF << 32


@dataclass
class Result:
    """What became of the frames of a batch."""

    packets: list[dict[str, Any]] = field(default_factory=list)
    arps: list[dict[str, Any]] = field(default_factory=list)
    not_understood: dict[str, int] = field(default_factory=dict)
    malformed: int = 0
    split: int = 0
    """802.11 frames of several packets."""


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


class PieceError(Exception):
    """A fragment that may complete a datagram; the argument is a Piece."""


@dataclass
class Piece:
    """One fragment."""

    key: tuple[Any, ...]
    offset: int
    last: bool
    head: bytes
    body: bytes
    judge: bool


class Level:
    """Fragments of the packets of one level of tunnels: a byte at its place, one by one."""

    def __init__(self) -> None:
        self.waiting: dict[tuple[Any, ...], dict[str, Any]] = {}
        self.clock = -1

    def take(self, piece: Piece, ts: int) -> tuple[bytes, bool] | None:
        self.clock = max(self.clock, ts)
        late = [k for k, w in self.waiting.items() if w["begun"] + 30 * 10**9 <= self.clock]
        for key in late:
            del self.waiting[key]
        new = {"begun": self.clock, "bytes": {}, "total": None, "head": b"", "judge": True}
        w = self.waiting.setdefault(piece.key, new)
        if piece.offset == 0 and not w["head"]:
            w["head"] = piece.head
        if piece.last and w["total"] is None:
            w["total"] = piece.offset + len(piece.body)
        w["judge"] &= piece.judge
        for i, value in enumerate(piece.body):
            w["bytes"].setdefault(piece.offset + i, value)
        there, total, head = w["bytes"], w["total"], w["head"]
        if total is None or not head or len(there) < total or max(there) != len(there) - 1:
            return None
        del self.waiting[piece.key]
        body = bytes(there[i] for i in range(total))
        if len(head) + len(body) > 0xFFFF:
            return None
        if head[0] >> 4 == 6:
            return head[:4] + struct.pack(">H", len(head) - 40 + total) + head[6:] + body, w[
                "judge"
            ]
        size = struct.pack(">H", len(head) + total)
        head = (
            head[:2]
            + size
            + head[4:6]
            + bytes([head[6] & 0x40, 0])
            + head[8:10]
            + b"\0\0"
            + (head[12:])
        )
        check = struct.pack(">H", internet_sum(head) ^ 0xFFFF)
        return head[:10] + check + head[12:] + body, w["judge"]


@dataclass
class Inside:
    """Something to decode: the frame itself, or what a packet carries."""

    frame: Frame
    kind: Any = None
    """What it begins with; None for the frame itself."""
    carrier: int = -1
    tunnel: int = 0
    macs: tuple[int, int] | None = None


def decode(
    link: int, frames: list[tuple[int, bytes, int, bool]], ignore_checksums: bool = False
) -> Result:
    """Decode (ts, captured bytes, wire length, checksum valid) of each frame."""
    return Decoder(ignore_checksums).decode(link, frames)


class Decoder:
    def __init__(self, ignore_checksums: bool = False) -> None:
        self.ignore_checksums = ignore_checksums
        self.levels = [Level() for _ in range(5)]

    def decode(self, link: int, frames: list[tuple[int, bytes, int, bool]]) -> Result:
        result = Result()
        for index, (ts, data, wirelen, csum_valid) in enumerate(frames):
            judge = not (self.ignore_checksums or csum_valid)
            now = [Inside(Frame(data, wirelen))]
            for level in range(5):
                after: list[Inside] = []
                for inside in now:
                    after += self.one(result, link, inside, level, ts, index, judge)
                # Parts of one frame before what was found in their packets.
                now = [x for x in after if x.tunnel == -1] + [x for x in after if x.tunnel != -1]
                for x in now:
                    x.tunnel = max(x.tunnel, 0)
        return result

    def one(
        self, result: Result, link: int, inside: Inside, level: int, ts: int, index: int,
        judge: bool,
    ) -> list[Inside]:  # fmt: skip
        """Decode one thing; return what is inside."""
        fate, row = self.fate(link, inside, level, ts, judge)
        if level == 0:
            result.split += fate == "split"
            if fate == "malformed":
                result.malformed += 1
            elif fate == "an arp":
                result.arps.append({"ts": ts, **row})
            elif fate not in ("packet", "split"):
                result.not_understood[fate] = result.not_understood.get(fate, 0) + 1
        elif inside.carrier >= 0 and (
            fate in ("packet", "an arp", "ip fragment", "no next header", "split")
            or inside.tunnel in tunnels.ALWAYS
        ):
            result.packets[inside.carrier]["carries"] = inside.tunnel
        if fate == "split":
            return row["parts"]  # type: ignore[no-any-return]
        if fate != "packet":
            return []
        macs = inside.macs or (row["src_mac"], row["dst_mac"])
        row |= {"ts": ts, "frame": index, "src_mac": macs[0], "dst_mac": macs[1], "carries": 0}
        row["carrier"] = inside.carrier + 1
        result.packets.append(row)
        found = tunnels.carried(row)
        if found is None:
            return []
        tunnel, kind, start = found
        frame = Frame(row["payload"][start:], row["payload_len"] - start)
        return [Inside(frame, kind, len(result.packets) - 1, tunnel, macs)]

    def fate(
        self, link: int, inside: Inside, level: int, ts: int, judge: bool
    ) -> tuple[str, dict[str, Any]]:
        frame = inside.frame
        try:
            if inside.kind is None:
                kind, src, dst = below(link, frame)
            else:
                kind, src, dst = opened(frame, inside.kind)
            if kind == SUBFRAMES:
                return "split", {"parts": parts(frame, inside)}
            if kind == 0x0806:
                return "an arp", arp(frame) if level == 0 else {}
            row = self.network(kind, frame, level, ts, judge)
        except MalformedError:
            return "malformed", {}
        except OtherError as error:
            return error.args[0], {}
        return "packet", {"src_mac": src, "dst_mac": dst, **row}

    def network(self, kind: Any, frame: Frame, level: int, ts: int, judge: bool) -> dict[str, Any]:
        names = {0x888E: "eapol", 0x8863: "pppoe", 0x8864: "pppoe", 0x8847: "mpls", 0x8848: "mpls"}
        reader = {0x0800: ip4, 0x86DD: ip6}.get(kind)
        if reader is None:
            raise OtherError(names.get(kind, "ethertype"))
        try:
            return reader(frame, judge)
        except PieceError as error:
            whole = self.levels[level].take(error.args[0], ts)
        if whole is None:
            raise OtherError("ip fragment")
        try:
            return reader(Frame(whole[0], len(whole[0])), whole[1])
        except PieceError:
            raise OtherError("ip fragment") from None


def parts(frame: Frame, inside: Inside) -> list[Inside]:
    """Return the packets of an A-MSDU."""
    found = []
    at = frame.at
    for _ in range(16):
        if at + 14 > len(frame.data):
            break
        dst, src, size = struct.unpack_from(">6s6sH", frame.data, at)
        end = at + 14 + size
        if end > max(frame.wirelen, len(frame.data)):
            break
        macs = inside.macs or (int.from_bytes(src, "big"), int.from_bytes(dst, "big"))
        part = Frame(frame.data[at + 14 : end], size)
        tunnel = inside.tunnel or -1
        found.append(Inside(part, 4, inside.carrier, tunnel, macs))
        at += (14 + size + 3) // 4 * 4
    return found


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
    offloaded, length = not length, length or room
    if first >> 4 != 4 or header < 20 or length < header or length > room:
        raise MalformedError
    frame.need(net + header)
    if judge and (offloaded or internet_sum(frame.data[net : net + header]) != 0xFFFF):
        raise OtherError("ip checksum")
    judge = judge and net + length <= len(frame.data)
    if part & 0x3FFF:
        head = frame.data[net : net + header]
        key = (src, dst, head[4:6], proto)
        piece(
            frame,
            key,
            (part & 0x1FFF) * 8,
            not part & 0x2000,
            head,
            net + header,
            net + length,
            judge,
        )
    frame.at = net + header
    return {
        **transport(frame, proto, net + length, src + dst, judge),
        "src": (0, V4_PREFIX | int.from_bytes(src, "big")),
        "dst": (0, V4_PREFIX | int.from_bytes(dst, "big")),
        "v6": False,
        "ip_len": length,
    }


def ip6(frame: Frame, judge: bool) -> dict[str, Any]:  # noqa: PLR0912
    net = frame.at
    first, payload, proto, _, src, dst = frame.take(">IHBB16s16s")
    room = max(frame.wirelen, len(frame.data)) - net
    length = payload + 40
    if not payload and (proto == 6 or room > 65_575):
        length = room
    if first >> 28 != 6 or length > room:
        raise MalformedError
    end = net + length
    named = net + 6
    final = home = b""
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
            head = bytearray(frame.data[net : frame.at])
            head[named - net] = following
            key = (src, dst, frame.data[frame.at + 4 : frame.at + 8])
            offset = (third << 8 | fourth) & 0xFFF8
            judge = judge and end <= len(frame.data)
            piece(frame, key, offset, not fourth & 1, bytes(head), frame.at + 8, end, judge)
        header = frame.data[frame.at : frame.at + size].ljust(size, b"\0")
        if proto == 43 and fourth:
            if (third == 0 and units >= 2 and units % 2 == 0) or (third == 2 and units == 2):
                final = final or header[-16:]
            else:
                judge = False
            dst = final or dst
        if proto == 60:
            home = home or home_address(header)
            src = home or src
        named = frame.at
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


def home_address(header: bytes) -> bytes:
    """Return what an option of Mobile IPv6 says, among the first eight."""
    at = 2
    for _ in range(8):
        if at + 2 > len(header):
            break
        kind, size = header[at], header[at + 1]
        if kind == 201 and size == 16 and at + 18 <= len(header):
            return header[at + 2 : at + 18]
        at += 1 if kind == 0 else 2 + size
    return b""


def piece(
    frame: Frame, key: tuple[Any, ...], offset: int, last: bool, head: bytes, start: int, end: int,
    judge: bool,
) -> None:  # fmt: skip
    """Raise what a fragment is."""
    body = frame.data[start:end]
    if end > len(frame.data) or not body or not (last or len(body) % 8 == 0):
        raise OtherError("ip fragment")
    if offset + len(body) > 0xFFFF:
        raise OtherError("ip fragment")
    raise PieceError(Piece(key, offset, last, head, body, judge))


def transport(frame: Frame, proto: int, end: int, addresses: bytes, judge: bool) -> dict[str, Any]:
    """Read the transport header at frame.at of a datagram that ends at `end`."""
    at = frame.at
    if proto == 59:
        raise OtherError("no next header")
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
        "payload": frame.data[start : start + min(payload, len(frame.data) - start)],
        "payload_cap": min(payload, len(frame.data) - start),
        "bad_csum": False,
    }
    if judge and given is not None:
        body = frame.data[at:end]
        pseudo = addresses + struct.pack(">II", len(body), proto) if proto != 1 else b""
        wrong = internet_sum(pseudo + body) != 0xFFFF
        row["bad_csum"] = wrong or (proto == 17 and given == 0 and row["dport"] != 4789)
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

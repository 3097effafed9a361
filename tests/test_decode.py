"""decode(): equal to a slow twin on anything, and right on packets made by hand."""

from __future__ import annotations

import struct
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian import capture
from guardian.addresses import text
from guardian.const import NS
from guardian.decode import Decoder, decode
from guardian.fates import KINDS
from guardian.tables import Decoded, Frames
from tests import wire
from tests.twins import decode as twin

LINKS = (1, 0, 108, 12, 14, 101, 113, 228, 229, 276, 105, 127, 9, 50, 51, 104, 239, 147)
COLUMNS = (
    "ts", "frame", "src_mac", "dst_mac", "src", "dst", "v6", "proto", "sport", "dport", "ip_len",
    "payload_len", "payload_cap", "flags", "seq", "ack", "window", "bad_csum",
    "icmp_id", "carrier", "carries",
)  # fmt: skip


def twin_of(frames: Frames, ignore_checksums: bool = False) -> twin.Result:
    return twin.decode(frames.link, rows_of(frames), ignore_checksums)


def rows_of(frames: Frames) -> list[tuple[int, bytes, int, bool]]:
    return [
        (int(ts), frames.data[start : start + caplen].tobytes(), int(wirelen), bool(valid))
        for ts, start, caplen, wirelen, valid in zip(
            frames.ts, frames.start, frames.caplen, frames.wirelen, frames.csum_valid, strict=True
        )
    ]


def with_payload(made: Decoded) -> list[dict[str, Any]]:
    rows = table_rows(made.packets, COLUMNS)
    for row, start in zip(rows, made.packets.payload_start.tolist(), strict=True):
        row["payload"] = made.data[start : start + row["payload_cap"]].tobytes()
    return rows


def table_rows(table: Any, names: tuple[str, ...]) -> list[dict[str, Any]]:
    columns = {name: getattr(table, name).tolist() for name in names}
    for name in ("src", "dst"):
        columns[name] = [tuple(pair) for pair in columns[name]]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def check_against_twin(frames: Frames, ignore_checksums: bool = False) -> Decoded:
    """Every column equals the twin's, and every frame has exactly one fate."""
    fast = decode(frames, ignore_checksums)
    slow = twin_of(frames, ignore_checksums)
    rows, p = with_payload(fast), fast.packets
    assert rows == [{name: row[name] for name in (*COLUMNS, "payload")} for row in slow.packets]
    names = ("ts", "op", "src_mac", "src", "dst")
    assert table_rows(fast.arps, names) == [{n: row[n] for n in names} for row in slow.arps]
    assert fast.not_understood == slow.not_understood
    assert fast.malformed == slow.malformed
    assert set(fast.not_understood) <= set(KINDS)
    others = sum(fast.not_understood.values()) + fast.malformed
    whole = len(np.unique(p.frame))  # a frame may hold several packets
    split = slow.split
    assert whole <= len(frames) - len(fast.arps) - others <= whole + split
    return fast


# --- anything at all ----------------------------------------------------------


def some_bytes(chance: Random, most: int) -> bytes:
    return chance.randbytes(chance.randrange(most + 1))


def some_ip(chance: Random) -> tuple[bytes, int]:
    """An IP packet of any kind, and its ethertype."""
    v6 = chance.random() < 0.4
    src, dst = (chance.randbytes(16 if v6 else 4) for _ in range(2))
    payload = some_bytes(chance, 40)
    kind = chance.randrange(5)
    proto = (6, 17, 58 if v6 else 1, chance.randrange(256), 6)[kind]
    if kind == 0:
        options = bytes(4 * chance.randrange(4))
        body = wire.tcp(payload, src, dst, flags=chance.randrange(256), options=options)
    elif kind == 1:
        body = wire.udp(payload, src, dst)
        if chance.random() < 0.3:
            body = body[:6] + b"\0\0" + body[8:]
    elif kind == 2:
        echo = chance.choice([0, 3, 8, 128, 129, 135])
        body = wire.icmp6(echo, 9, payload, src, dst) if v6 else wire.icmp(echo, 1, 9, payload)
    else:
        body = payload
    if not v6:
        part = chance.choice([0, 0, 0, 0x4000, 0x2000, 3])
        options = bytes(4 * chance.choice([0, 0, 0, 1, 10]))
        return wire.ip4(body, proto, src, dst, options=options, part=part), 0x0800
    extensions, first = b"", proto
    for _ in range(chance.choice([0, 0, 0, 1, 2, 9])):
        extension = chance.choice([0, 43, 44, 51, 60])
        units = 0 if extension == 44 else chance.randrange(3)
        size = {44: 8, 51: units * 4 + 8}.get(extension, units * 8 + 8)
        piece = bytes([first, units]) + bytes(6)
        if chance.random() < 0.2:
            piece = piece[:2] + chance.randbytes(2) + piece[4:]
        if extension == 43 and chance.random() < 0.5:
            piece = piece[:2] + bytes([chance.choice([0, 2, 4]), 1]) + chance.randbytes(size - 4)
        if extension == 60 and chance.random() < 0.5:
            pad = chance.choice([b"", b"\0", b"\x01\x02\0\0"])
            piece = bytes([first, 3]) + pad + b"\xc9\x10" + chance.randbytes(30 - len(pad))
            size = len(piece) if chance.random() < 0.9 else 16
            piece = piece[:1] + bytes([size // 8 - 1]) + piece[2:size]
        extensions = piece.ljust(size, b"\0") + extensions
        first = extension
    return wire.ip6(body, first, src, dst, extensions), 0x86DD


def some_frame(chance: Random, link: int) -> bytes:
    """A frame of a link type, mostly sound, then perhaps damaged."""
    body, kind = some_ip(chance)
    if chance.random() < 0.1:
        body, kind = wire.arp(chance.randrange(4)), 0x0806
    if chance.random() < 0.1:
        kind = chance.choice([0x888E, 0x8864, 0x8847, 0x1234, 60, 4])
    if chance.random() < 0.4:
        for _ in range(chance.choice([1, 1, 2, 4, 9])):
            body, kind = some_layer(chance, body, kind)
    if chance.random() < 0.1:
        body = b"\xaa\xaa\x03\0\0\0" + struct.pack(">H", kind) + body
        kind = len(body)
    return damage(chance, some_link(chance, link, body, kind))


def some_tunnel(chance: Random, body: bytes, kind: int) -> tuple[bytes, int]:
    """Put an IP packet into a tunnel of any kind; return the packet around it."""
    over = wire.ether(body, kind)
    ipv4 = kind == 0x0800
    which = chance.randrange(11)
    flags = chance.choice([0, 0x8000, 0x2000, 0x3000, 0xB000, 0x4000, 0x40])
    if which == 0:
        return some_outer(chance, body, 4 if ipv4 else 41)
    if which == 1:
        inner, name = chance.choice([(body, kind), (over, 0x6558), (over, 0x88BE), (over, 0x22EB)])
        head = {0x22EB: chance.choice([bytes(12), bytes(11) + b"\1" + bytes(8)]), 0x88BE: bytes(
            8 if flags & 0x1000 else 0)}.get(name, b"")  # fmt: skip
        return some_outer(chance, wire.gre(head + inner, name, flags), 47)
    if which == 2:
        packet = wire.gre(wire.ppp(body, kind, framed=True), 0x880B, 0x3080, 1)
        return some_outer(chance, packet, 47)
    if which == 3:
        frame = wire.amsdu(body, body) if ipv4 else wire.wifi(body, kind)
        return some_outer(chance, wire.gre(frame, chance.choice([0x8200, 0x8370, 0x9000])), 47)
    payload, port = {
        4: (wire.vxlan(over), 4789),
        5: (wire.geneve(over, options=chance.randrange(3)), 6081),
        6: (wire.geneve(body, kind), 6081),
        7: (wire.gtp(body, chance.randrange(6), optional=chance.random() < 0.5), 2152),
        8: (wire.teredo(body, origin=chance.random() < 0.5, authentic=chance.random() < 0.5), 3544),
        9: (wire.ayiya(body, 4 if ipv4 else 41), 5072),
        10: (wire.vxlan(wire.ether(wire.arp(), 0x0806)), 4789),
    }[which]
    return some_outer(chance, payload, 17, chance.choice([port, port, 50_000]))


def some_outer(chance: Random, body: bytes, proto: int, port: int = 0) -> tuple[bytes, int]:
    v6 = chance.random() < 0.2
    src, dst = (wire.A6, wire.B6) if v6 else (wire.A4, wire.B4)
    if proto == 17:
        ports = chance.choice([(port, 2000), (2000, port)])
        body = wire.udp(body, src, dst, *ports)
    return (wire.ip6(body, proto), 0x86DD) if v6 else (wire.ip4(body, proto), 0x0800)


def some_pieces(chance: Random, body: bytes, kind: int) -> list[bytes]:
    """Cut an IP packet into fragments, in any order, some twice, missing or altered."""
    sizes = [8 * chance.randrange(1, 5) for _ in range(chance.randrange(1, 6))]
    ident = chance.choice([7, 7, 8, 9])
    pieces = (wire.cut4 if kind == 0x0800 else wire.cut6)(body, *sizes, ident=ident) or [body]
    if chance.random() < 0.3:
        chance.shuffle(pieces)
    if chance.random() < 0.2:
        pieces.append(chance.choice(pieces))
    if chance.random() < 0.2:
        del pieces[chance.randrange(len(pieces))]
    if chance.random() < 0.2:
        pieces += (wire.cut4 if kind == 0x0800 else wire.cut6)(body[::-1][:20] + body[20:], 16)
    return pieces


def some_traffic(chance: Random, link: int) -> list[bytes]:
    """Frames with tunnels and fragments in them, at any level, mixed with others."""
    out: list[list[bytes]] = []
    for _ in range(chance.randrange(1, 7)):
        packets = [some_plain(chance)]
        for _ in range(chance.choice([0, 1, 1, 1, 2, 3, 6])):
            if chance.random() < 0.4:
                packets = [
                    (piece, kind) for body, kind in packets for piece in some_pieces(
                        chance, body, kind)
                ]  # fmt: skip
            elif len(packets) < 20:
                packets = [some_tunnel(chance, body, kind) for body, kind in packets]
        out.append([damaged_link(chance, link, body, kind) for body, kind in packets])
    mixed = []
    while any(out):
        mixed.append(chance.choice([frames for frames in out if frames]).pop(0))
    return mixed


def some_plain(chance: Random) -> tuple[bytes, int]:
    if chance.random() < 0.3:
        return some_ip(chance)
    src, dst, v6 = wire.A4, wire.B4, chance.random() < 0.4
    if v6:
        src, dst = (bytes.fromhex("20010000") + wire.A6[4:], wire.B6)
    body = wire.tcp(some_bytes(chance, 60), src, dst)
    return (wire.ip6(body, 6, src, dst), 0x86DD) if v6 else (wire.ip4(body, 6), 0x0800)


def damaged_link(chance: Random, link: int, body: bytes, kind: int) -> bytes:
    if link == 105 and kind == 0x0800 and chance.random() < 0.3:
        frame = wire.amsdu(*[body] * chance.randrange(1, 4))
    else:
        frame = some_link(chance, link, body, kind)
    return damage(chance, frame) if chance.random() < 0.15 else frame


def some_layer(  # noqa: PLR0911
    chance: Random, body: bytes, kind: int
) -> tuple[bytes, int]:
    """Put a header around a packet; return it and the ethertype it goes by."""
    layer = chance.randrange(8)
    if layer == 0:
        return b"\1\2\3\4" + struct.pack(">H", kind) + body, 0x8926
    if layer == 1:
        return b"\3\4" + wire.ether(body, kind), 0x8903
    if layer == 2:
        return b"\0\1\2\3" + wire.ether(body, kind), 0x88E7
    if layer == 3:
        word = b"" if kind in (0x0800, 0x86DD) else bytes(4)
        inner = body if not word else wire.ether(body, kind)
        labels = b"\0\1\0\5" * chance.choice([0, 0, 1, 2, 9])
        return labels + b"\0\1\1\5" + word + inner, chance.choice([0x8847, 0x8848])
    if layer == 4:
        return wire.pppoe(wire.ppp(body, kind)), 0x8864
    if layer == 5:
        return wire.wifi(body, kind, *(chance.randrange(n) for n in (4, 2, 2))), 0x8240
    return struct.pack(">HH", 3, kind) + body, chance.choice([0x8100, 0x88A8, 0x9100])


def some_link(  # noqa: PLR0911
    chance: Random, link: int, body: bytes, kind: int
) -> bytes:
    if link == 1:
        return wire.ether(body, kind) + bytes(chance.choice([0, 0, 6]))
    if link == 113:
        return wire.cooked(body, kind)
    if link == 276:
        return wire.cooked2(body, kind)
    if link in (0, 108):
        family = chance.choice([2, 2, 24, 28, 30, 10, 7])
        return struct.pack(chance.choice("<>") + "I", family) + body
    if link in (9, 50):
        return wire.ppp(body, kind, framed=chance.random() < 0.5)
    if link == 51:
        return wire.pppoe(wire.ppp(body, kind))
    if link == 104:
        return b"\x0f\0" + struct.pack(">H", kind) + body
    if link in (105, 127):
        tap = bytes([0, 0, 12, 0]) + bytes(8) if link == 127 else b""
        frame = wire.wifi(body, kind, *(chance.randrange(n) for n in (4, 2, 2)))
        if chance.random() < 0.2:
            frame = chance.choice([b"\x80\0", b"\x48\0", b"\x08\x41"]) + frame[2:]
        return tap + frame
    if link == 239:
        fields = b"".join(
            struct.pack("<HH", 4 + n, 1) + bytes(n + 3 & ~3)
            for n in [chance.randrange(9)] * chance.choice([0, 1, 2, 40])
        )
        family = chance.choice([2, 2, 10, 3])
        return bytes([family, 0, 0, 0]) + fields + struct.pack("<HH", 4 + len(body), 9) + body
    return body


def damage(chance: Random, frame: bytes) -> bytes:
    damaged = bytearray(frame)
    if chance.random() < 0.4:
        for _ in range(chance.choice([1, 1, 1, 5])):
            # Mostly in the headers, where it hurts.
            at = chance.randrange(min(len(damaged), chance.choice([20, 60, 200])))
            damaged[at] = chance.randrange(256)
    if chance.random() < 0.3:
        del damaged[chance.randrange(len(damaged) + 1) :]
    if chance.random() < 0.05:
        damaged = bytearray(some_bytes(chance, 80))
    return bytes(damaged)


@settings(max_examples=600)
@given(chance=st.randoms(use_true_random=False), link=st.sampled_from(LINKS))
def test_equals_the_twin_on_any_frames(chance: Random, link: int) -> None:
    pieces = [some_frame(chance, link) for _ in range(chance.randrange(1, 12))]
    wirelens = [len(piece) + chance.choice([0, 0, 0, 4, 100, -1, -30]) for piece in pieces]
    wirelens = [max(0, wirelen) for wirelen in wirelens]
    gaps = [some_bytes(chance, 5) for _ in pieces]
    tail = some_bytes(chance, 3) if chance.random() < 0.5 else bytes(64)
    ignore, valid = chance.random() < 0.2, chance.random() < 0.1
    frames = wire.frames_of(pieces, link, wirelens=wirelens, gaps=gaps, tail=tail, csum_valid=valid)
    first = check_against_twin(frames, ignore)

    # What lies between the frames changes nothing.
    other = [bytes(255 - b for b in gap) for gap in gaps]
    frames = wire.frames_of(
        pieces, link, wirelens=wirelens, gaps=other, tail=tail[::-1], csum_valid=valid
    )
    second = decode(frames, ignore)
    assert table_rows(first.packets, COLUMNS) == table_rows(second.packets, COLUMNS)


@pytest.mark.slow
@settings(max_examples=150)
@given(seed=st.integers(0, 1 << 32), link=st.sampled_from((1, 101, 105)))
def test_equals_the_twin_on_tunnels_and_fragments(seed: int, link: int) -> None:
    """And whatever the cut into batches, where the twin keeps its fragments too."""
    chance = Random(seed)
    pieces = some_traffic(chance, link)
    wirelens = [len(piece) + chance.choice([0, 0, 0, 0, 4, 40]) for piece in pieces]
    whole = wire.frames_of(pieces, link, wirelens=wirelens)
    check_against_twin(whole)
    wide = np.sort(np.array([chance.choice([0, 0, 0, 40 * NS]) for _ in pieces]).cumsum())
    whole = Frames(**{**vars(whole), "ts": whole.ts + wide})
    slow = twin.decode(link, rows_of(whole))
    fast: list[dict[str, Any]] = []
    decoder, at = Decoder(), 0
    while at < len(pieces):
        upto = at + chance.randrange(1, 6)
        part = {
            name: value[at:upto]
            for name, value in vars(whole).items() if name not in ("data", "link", "now")
        }  # fmt: skip
        made = decoder.decode(Frames(data=whole.data, link=link, now=0, **part))
        rows = with_payload(made)
        for row in rows:
            row["frame"] += at
            row["carrier"] += len(fast) if row["carrier"] else 0
        fast += rows
        at = upto
    assert fast == [{name: row[name] for name in (*COLUMNS, "payload")} for row in slow.packets]


def test_tunnels_and_fragments_are_reached() -> None:
    """The property above is worth something only if it sees every tunnel at every depth."""
    chance = Random(3)
    seen, depths, joined, several = set(), set(), 0, 0
    for link in (1, 101, 105):
        for _ in range(150):
            pieces = some_traffic(chance, link)
            made = decode(wire.frames_of(pieces, link))
            p = made.packets
            seen |= set(p.carries.tolist())
            depth = np.zeros(len(p), dtype=int)
            for i in np.flatnonzero(p.carrier).tolist():
                assert p.carrier[i] <= i
                depth[i] = depth[p.carrier[i] - 1] + 1
            depths |= set(depth.tolist())
            joined += int((p.payload_start > sum(map(len, pieces))).sum())
            top = np.bincount(p.frame[p.carrier == 0], minlength=1)
            several += int((top > 1).sum())
    assert seen == set(range(7))
    assert depths == set(range(5))
    assert min(joined, several) > 20


@settings(max_examples=200)
@given(
    pieces=st.lists(st.binary(max_size=90), min_size=1, max_size=8),
    link=st.sampled_from(LINKS),
)
def test_equals_the_twin_on_noise(pieces: list[bytes], link: int) -> None:
    check_against_twin(wire.frames_of(pieces, link))


def test_the_generator_reaches_every_fate() -> None:
    """The property above is worth something only if its frames are of all kinds."""
    chance = Random(5)
    seen: dict[str, int] = {}
    malformed = arps = bad = good = 0
    for link in LINKS:
        frames = wire.frames_of([some_frame(chance, link) for _ in range(500)], link)
        sizes = frames.wirelen + np.array([chance.choice([0, 40]) for _ in range(500)])
        result = decode(Frames(**{**vars(frames), "wirelen": sizes}))
        for kind, count in result.not_understood.items():
            seen[kind] = seen.get(kind, 0) + count
        malformed += result.malformed
        arps += len(result.arps)
        bad += int(result.packets.bad_csum.sum())
        good += int((~result.packets.bad_csum).sum())
    assert set(seen) == set(KINDS)
    assert min(malformed, arps, bad) > 20
    assert good > 500


# --- by hand ------------------------------------------------------------------


def only(piece: bytes, link: int = 1, **more: Any) -> Decoded:
    return check_against_twin(wire.frames_of([piece], link, **more))


def test_tcp_over_ethernet() -> None:
    packet = wire.tcp(b"hello", seq=5, ack=9, window=77, flags=0x18, options=b"\1\1\1\1")
    p = only(wire.ether(wire.ip4(packet, 6))).packets
    assert (int(p.src_mac[0]), int(p.dst_mac[0])) == (0x020000000001, 0x020000000002)
    assert text(*p.src[0].tolist()) == "192.168.1.10"
    assert text(*p.dst[0].tolist()) == "192.168.1.1"
    assert (p.proto[0], p.sport[0], p.dport[0], p.flags[0]) == (6, 40_000, 443, 0x18)
    assert (p.seq[0], p.ack[0], p.window[0]) == (5, 9, 77)
    assert (p.ip_len[0], p.payload_len[0], p.payload_cap[0]) == (49, 5, 5)
    assert not p.bad_csum[0]


def test_payload_start_points_into_the_buffer() -> None:
    frames = wire.frames_of(
        [wire.ether(wire.ip4(wire.udp(body), 17)) for body in (b"one", b"three")],
        gaps=[b"x", b"yz"],
    )
    result = decode(frames)
    p = result.packets
    bodies = [
        result.data[at : at + size].tobytes()
        for at, size in zip(p.payload_start, p.payload_cap, strict=True)
    ]
    assert bodies == [b"one", b"three"]


@pytest.mark.parametrize(
    ("link", "piece"),
    [
        (1, wire.ether(wire.ip4(wire.tcp(), 6))),
        (1, wire.ether(b"\0\5\x08\0" + wire.ip4(wire.tcp(), 6), 0x8100)),
        (1, wire.ether(b"\0\5\x81\0\0\6\x08\0" + wire.ip4(wire.tcp(), 6), 0x88A8)),
        (1, wire.ether(b"\xaa\xaa\3\0\0\0\x08\0" + wire.ip4(wire.tcp(), 6), 48)),
        (113, wire.cooked(wire.ip4(wire.tcp(), 6))),
        (276, wire.cooked2(wire.ip4(wire.tcp(), 6))),
        (101, wire.ip4(wire.tcp(), 6)),
        (12, wire.ip4(wire.tcp(), 6)),
        (14, wire.ip4(wire.tcp(), 6)),
        (228, wire.ip4(wire.tcp(), 6)),
        (0, b"\2\0\0\0" + wire.ip4(wire.tcp(), 6)),
        (0, b"\0\0\0\2" + wire.ip4(wire.tcp(), 6)),
        (108, b"\0\0\0\2" + wire.ip4(wire.tcp(), 6)),
        (1, wire.ether(wire.ip4(wire.tcp(), 6, options=bytes(40)))),
        (1, wire.ether(b"\0\5\x81\0" * 3 + b"\0\6\x08\0" + wire.ip4(wire.tcp(), 6), 0x8100)),
        (1, wire.ether(wire.pppoe(b"\0\x21" + wire.ip4(wire.tcp(), 6)), 0x8864)),
        (1, wire.ether(b"\0\1\0\x40\0\1\1\x40" + wire.ip4(wire.tcp(), 6), 0x8847)),
        (1, wire.ether(b"\0\1\1\x40" + bytes(4) + wire.ether(wire.ip4(wire.tcp(), 6)), 0x8847)),
        (1, wire.ether(b"\0\1" + wire.ether(wire.ip4(wire.tcp(), 6)), 0x8903)),
        (1, wire.ether(b"\0\0\0\0\x08\0" + wire.ip4(wire.tcp(), 6), 0x8926)),
        (1, wire.ether(b"\0\0\0\0" + wire.ether(wire.ip4(wire.tcp(), 6)), 0x88E7)),
        (9, b"\0\x21" + wire.ip4(wire.tcp(), 6)),
        (50, b"\xff\3\0\x21" + wire.ip4(wire.tcp(), 6)),
        (51, wire.pppoe(b"\0\x21" + wire.ip4(wire.tcp(), 6))),
        (104, b"\x0f\0\x08\0" + wire.ip4(wire.tcp(), 6)),
        (105, wire.wifi(wire.ip4(wire.tcp(), 6))),
        (127, b"\0\0\x0a\0" + bytes(6) + wire.wifi(wire.ip4(wire.tcp(), 6), 0x0800, 3, 1, 1)),
        (239, b"\2\0\0\0\5\0\1\0a\0\0\0\xff\0\x09\0" + wire.ip4(wire.tcp(), 6)),
    ],
)  # fmt: skip
def test_one_packet_over_every_link(link: int, piece: bytes) -> None:
    p = only(piece, link).packets
    assert (p.proto[0], p.sport[0], p.dport[0]) == (6, 40_000, 443)
    assert not p.bad_csum[0]
    broken = bytearray(piece)
    broken[-20] ^= 1  # the source port: 40000 becomes 40256
    p = only(bytes(broken), link).packets
    assert (p.sport[0], bool(p.bad_csum[0])) == (40_256, True)


HOP = b"\x2c\0\1\4\0\0\0\0"
ATOMIC = b"\x06\0\0\0\0\0\0\1"


@pytest.mark.parametrize(
    ("link", "piece"),
    [
        (229, wire.ip6(wire.tcp(src=wire.A6, dst=wire.B6), 6)),
        (101, wire.ip6(wire.tcp(src=wire.A6, dst=wire.B6), 6)),
        (0, b"\x1e\0\0\0" + wire.ip6(wire.tcp(src=wire.A6, dst=wire.B6), 6)),
        (1, wire.ether(wire.ip6(wire.tcp(src=wire.A6, dst=wire.B6), 0, extensions=HOP + ATOMIC),
                       0x86DD)),
    ],
)  # fmt: skip
def test_ip6(link: int, piece: bytes) -> None:
    p = only(piece, link).packets
    assert text(*p.src[0].tolist()) == "fd00::10"
    assert text(*p.dst[0].tolist()) == "2001::1"
    assert (bool(p.v6[0]), p.proto[0], p.dport[0], bool(p.bad_csum[0])) == (True, 6, 443, False)


def test_icmp_type_and_code_stand_for_ports() -> None:
    p = only(wire.ether(wire.ip4(wire.icmp(3, 1), 1))).packets
    assert (p.sport[0], p.dport[0], p.icmp_id[0], bool(p.bad_csum[0])) == (3, 1, 0, False)
    p = only(wire.ether(wire.ip4(wire.icmp(8, 0, 99), 1))).packets
    assert (p.sport[0], p.dport[0], p.icmp_id[0]) == (8, 0, 99)
    p = only(wire.ether(wire.ip6(wire.icmp6(128, 98), 58), 0x86DD)).packets
    assert (p.sport[0], p.icmp_id[0], bool(p.bad_csum[0])) == (128, 98, False)


def test_other_protocols_are_rows_without_ports() -> None:
    p = only(wire.ether(wire.ip4(b"\x88\x0b\0\4abcd", 47))).packets
    assert (p.proto[0], p.sport[0], p.dport[0], p.payload_len[0]) == (47, 0, 0, 8)


def test_ethernet_padding_is_no_payload() -> None:
    p = only(wire.ether(wire.ip4(wire.tcp(b""), 6)) + bytes(6)).packets
    assert (p.payload_len[0], p.payload_cap[0], bool(p.bad_csum[0])) == (0, 0, False)


def test_a_snap_length_cuts_the_payload_alone() -> None:
    whole = wire.ether(wire.ip4(wire.tcp(bytes(500)), 6))
    p = only(whole[:60], wirelens=[len(whole)]).packets
    assert (p.payload_len[0], p.payload_cap[0], bool(p.bad_csum[0])) == (500, 6, False)
    assert only(whole[:40], wirelens=[len(whole)]).not_understood == {"cut short": 1}
    assert only(whole[:40]).malformed == 1


def test_a_super_frame_says_its_length_itself() -> None:
    whole = bytearray(wire.ether(wire.ip4(wire.tcp(bytes(1000)), 6)))
    whole[16:18] = b"\0\0"
    p = only(bytes(whole), csum_valid=True).packets
    assert (p.ip_len[0], p.payload_len[0], bool(p.bad_csum[0])) == (1040, 1000, False)
    p = only(wire.ether(wire.ip6(wire.tcp(bytes(70_000)), 6), 0x86DD), csum_valid=True).packets
    assert (p.ip_len[0], p.payload_len[0]) == (70_060, 70_000)


def test_checksums_are_judged_only_where_they_can_be() -> None:
    broken = bytearray(wire.ether(wire.ip4(wire.udp(b"abc"), 17)))
    broken[-1] ^= 1
    piece = bytes(broken)
    assert only(piece).packets.bad_csum[0]
    assert not only(piece, csum_valid=True).packets.bad_csum[0]
    assert not only(piece[:-1], wirelens=[len(piece)]).packets.bad_csum[0]
    assert not check_against_twin(wire.frames_of([piece]), True).packets.bad_csum[0]
    broken[40:42] = b"\0\0"  # UDP over IPv4 may leave its checksum out
    assert not only(bytes(broken)).packets.bad_csum[0]
    six = bytearray(wire.ether(wire.ip6(wire.udp(b"abc", wire.A6, wire.B6), 17), 0x86DD))
    assert not only(bytes(six)).packets.bad_csum[0]
    six[60:62] = b"\0\0"  # but not over IPv6
    assert only(bytes(six)).packets.bad_csum[0]


@pytest.mark.parametrize("options", [b"", b"\1\1\1\0"])
def test_a_wrong_ip_header_checksum_hides_the_packet(options: bytes) -> None:
    """As in Zeek: it is not known whose packet it is. Also where the snap length cuts the rest."""
    header = bytearray(wire.ether(wire.ip4(wire.udp(b"abc"), 17, options=options)))
    header[22] ^= 1  # TTL
    found = only(bytes(header))
    assert (found.not_understood, found.bad_checksums) == ({"ip checksum": 1}, 1)
    assert not len(found.packets)
    cut = only(bytes(header)[:-2], wirelens=[len(header)])
    assert cut.not_understood == {"ip checksum": 1}
    assert len(only(bytes(header), csum_valid=True).packets) == 1
    assert len(check_against_twin(wire.frames_of([bytes(header)]), True).packets) == 1
    offloaded = bytearray(wire.ether(wire.ip4(wire.tcp(bytes(3_000)), 6, options=options)))
    offloaded[16:18] = b"\0\0"  # so is one whose length the card was to fill in
    assert only(bytes(offloaded)).not_understood == {"ip checksum": 1}
    assert check_against_twin(wire.frames_of([bytes(offloaded)]), True).packets.payload_len == 3_000


LAST6, HOME6 = bytes.fromhex("20010db8" + "00" * 11 + "99"), bytes.fromhex("fd" + "00" * 14 + "55")


def routing(kind: int, left: int, size: int = 2) -> bytes:
    return bytes([17, size, kind, left]) + bytes(4) + bytes(8 * size - 16) + LAST6


@pytest.mark.parametrize(
    ("extensions", "first", "src", "dst"),
    [
        (routing(0, 1), 43, wire.A6, LAST6),
        (routing(0, 1, 4), 43, wire.A6, LAST6),
        (routing(0, 0), 43, wire.A6, wire.B6),
        (routing(2, 1), 43, wire.A6, LAST6),
        (bytes([17, 2]) + b"\1\2\0\0\xc9\x10" + HOME6, 60, HOME6, wire.B6),
        (bytes([17, 2]) + b"\xc9\x10" + HOME6 + b"\1\2\0\0", 60, HOME6, wire.B6),
        (b"\x3c" + routing(0, 1)[1:] + bytes([17, 2]) + b"\1\2\0\0\xc9\x10" + HOME6, 43, HOME6,
         LAST6),
    ],
)  # fmt: skip
def test_ip6_addresses_that_headers_tell(
    extensions: bytes, first: int, src: bytes, dst: bytes
) -> None:
    """A routing header's last address, and Mobile IPv6's home: so Zeek names the ends, and so the
    checksum is made."""
    for ends in ((src, dst), (wire.A6, wire.B6)):
        body = wire.udp(b"abc", *ends)
        p = only(wire.ip6(body, first, extensions=extensions), 101).packets
        assert [text(*pair) for pair in (p.src[0].tolist(), p.dst[0].tolist())] == [
            text(*struct.unpack(">QQ", address)) for address in (src, dst)
        ]
        assert (p.dport[0], bool(p.bad_csum[0])) == (53, ends != (src, dst))


def test_other_routing_headers_leave_the_ends_and_the_checksum_alone() -> None:
    p = only(wire.ip6(wire.udp(b"a"), 43, extensions=routing(4, 1)), 101).packets
    assert text(*p.dst[0].tolist()) == text(*struct.unpack(">QQ", wire.B6))
    assert not p.bad_csum[0]


@pytest.mark.parametrize(
    ("kind", "piece"),
    [
        ("llc", wire.ether(b"\x42\x42\3" + bytes(40), 43)),
        ("llc", wire.ether(b"\xaa\xaa\3\0\0", 5)),
        ("eapol", wire.ether(b"\1\0\0\0", 0x888E)),
        ("pppoe", wire.ether(bytes(20), 0x8864)),
        ("pppoe", wire.ether(bytes(20), 0x8863)),
        ("ppp", wire.ether(wire.pppoe(b"\xc0\x21" + bytes(9)), 0x8864)),
        ("mpls", wire.ether(bytes(40), 0x8847)),
        ("mpls", wire.ether(b"\0\1\1\x40\x50" + bytes(9), 0x8847)),
        ("ethertype", wire.ether(bytes(20), 0x88CC)),
        ("ethertype", wire.ether(b"\0\1\x81\0" * 9 + wire.ip4(b"", 6), 0x8100)),
        ("arp", wire.ether(b"\0\6" + wire.arp()[2:], 0x0806)),
        ("ip fragment", wire.ether(wire.ip4(bytes(16), 17, part=0x2000))),
        ("ip fragment", wire.ether(wire.ip4(bytes(16), 17, part=2))),
        ("ip fragment", wire.ether(wire.ip6(bytes(16), 44, extensions=b"\x11\0\0\1" + bytes(4)),
                                   0x86DD)),
    ],
)  # fmt: skip
def test_kinds_of_what_is_not_understood(kind: str, piece: bytes) -> None:
    assert only(piece).not_understood == {kind: 1}


@pytest.mark.parametrize(
    "piece",
    [
        b"",
        wire.ether(b""),
        wire.ether(b"\x45" + bytes(10)),
        wire.ether(b"\x65" + wire.ip4(wire.tcp(), 6)[1:]),
        wire.ether(b"\x44" + wire.ip4(wire.tcp(), 6)[1:]),
        wire.ether(wire.ip4(wire.tcp(), 6)[:30]),
        wire.ether(wire.ip4(b"12345678", 6)),
        wire.ether(wire.ip4(wire.tcp()[:12] + b"\x40" + wire.tcp()[13:], 6)),
        wire.ether(wire.ip4(wire.tcp()[:12] + b"\xf0" + wire.tcp()[13:], 6)),
        wire.ether(wire.ip4(wire.udp(b"x")[:4] + b"\0\7" + bytes(3), 17)),
        wire.ether(wire.ip4(wire.udp(b"x")[:4] + b"\0\x0a" + bytes(3), 17)),
        wire.ether(wire.ip4(b"\x08\0\0", 1)),
        wire.ether(wire.arp()[:20], 0x0806),
    ],
)
def test_what_contradicts_itself_is_counted(piece: bytes) -> None:
    assert only(piece).malformed == 1


@pytest.mark.parametrize(
    ("kind", "control"),
    [("802.11", b"\x80\0"), ("802.11", b"\x48\1"), ("802.11 protected", b"\x88\x41")],
)
def test_wireless_frames_without_readable_data(kind: str, control: bytes) -> None:
    assert only(control + wire.wifi(wire.ip4(wire.tcp(), 6))[2:], 105).not_understood == {kind: 1}


@pytest.mark.parametrize("ways", range(4))
def test_who_sent_a_wireless_frame(ways: int) -> None:
    p = only(wire.wifi(wire.ip4(wire.tcp(), 6), 0x0800, ways), 105).packets
    assert (int(p.src_mac[0]), int(p.dst_mac[0])) == (0x020000000001, 0x020000000002)


def test_arps() -> None:
    frames = wire.frames_of(
        [wire.ether(wire.arp(1), 0x0806), wire.ether(wire.ip4(wire.tcp(), 6)),
         wire.ether(wire.arp(2, wire.B4, wire.A4) + bytes(18), 0x0806)]
    )  # fmt: skip
    arps = check_against_twin(frames).arps
    assert arps.op.tolist() == [1, 2]
    assert [text(*a) for a in arps.src.tolist()] == ["192.168.1.10", "192.168.1.1"]
    assert [text(*a) for a in arps.dst.tolist()] == ["192.168.1.1", "192.168.1.10"]


def test_an_empty_batch_keeps_the_clock() -> None:
    empty = wire.frames_of([])
    result = decode(Frames(**{**vars(empty), "now": 42}))
    assert (len(result.packets), result.now) == (0, 42)


# --- real captures --------------------------------------------------------------


def captures(data: Path) -> list[Path]:
    found = sorted(p for p in data.rglob("*.pcap*") if p.suffix in (".pcap", ".pcapng"))
    return [path for path in found if path.is_file()]


def first_frames(path: Path, most: int) -> list[Frames]:
    """The first frames of a capture, and so those of its first link type."""
    for frames in capture.read_frames(path, batch=most):
        return [frames]
    return []


@pytest.mark.slow
def test_equals_the_twin_on_real_captures(data: Path) -> None:
    packets = 0
    for path in captures(data):
        for frames in first_frames(path, 150):
            packets += len(check_against_twin(frames).packets)
    assert packets > 30_000


@pytest.mark.slow
def test_agrees_with_scapy_on_real_captures(data: Path) -> None:
    """An independent dissector sees the same addresses, ports, flags, lengths and checksums."""
    from scapy.layers.inet import ICMP, IP, TCP, UDP  # noqa: PLC0415
    from scapy.layers.l2 import Ether  # noqa: PLC0415

    compared = wrong = 0
    for path in captures(data)[::8]:
        for frames in first_frames(path, 60):
            if frames.link != 1:
                continue
            p = decode(frames).packets
            plain = ~p.v6 & (p.carrier == 0) & (p.payload_start < len(frames.data))
            for i in np.nonzero(plain)[0].tolist():
                at = int(frames.start[p.frame[i]])
                packet = Ether(frames.data[at : at + int(frames.caplen[p.frame[i]])].tobytes())
                if IP not in packet:
                    continue  # under layers that scapy does not know by default
                ip = packet[IP]
                assert text(*p.src[i].tolist()) == ip.src
                assert text(*p.dst[i].tolist()) == ip.dst
                assert (p.proto[i], p.ip_len[i]) == (ip.proto, ip.len)
                layer = ip.getlayer(TCP) or ip.getlayer(UDP)
                if layer is None or ip.getlayer(ICMP):
                    continue
                assert (p.sport[i], p.dport[i]) == (layer.sport, layer.dport)
                if TCP in ip:
                    assert (p.flags[i], p.seq[i], p.ack[i], p.window[i]) == (
                        int(layer.flags) & 255, layer.seq, layer.ack, layer.window,
                    )  # fmt: skip
                    assert p.payload_len[i] == ip.len - ip.ihl * 4 - layer.dataofs * 4
                else:
                    assert p.payload_len[i] == layer.len - 8
                if p.payload_cap[i] == p.payload_len[i] and layer.chksum:
                    again = IP(bytes(ip))
                    del again.chksum, again[type(layer)].chksum
                    again = IP(bytes(again))
                    same = (again.chksum, again[type(layer)].chksum) == (ip.chksum, layer.chksum)
                    assert bool(p.bad_csum[i]) == (not same)
                    wrong += not same
                compared += 1
    assert compared > 1_000
    assert wrong > 10

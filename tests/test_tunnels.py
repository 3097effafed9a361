"""Fragments and tunnels: caps, cuts, whom the connections inside belong to."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian import fragments as fragments_module
from guardian.addresses import Lan, text
from guardian.capture import read_frames
from guardian.connlog import json_lines
from guardian.conns import ConnTable
from guardian.const import (
    FRAGMENT_TIMEOUT_NS,
    FRAGMENTS_PER_S,
    MAX_FRAGMENT_BYTES,
    MAX_FRAGMENTED,
    MAX_PIECES,
    NS,
)
from guardian.decode import Decoder, decode
from guardian.devices import DeviceTable
from guardian.tables import Conns, Decoded, Frames, Packets
from guardian.tunnels import IP_TUNNEL, VXLAN
from tests import wire


def frames(pieces: list[bytes], ts: list[int] | None = None, link: int = 101) -> Frames:
    made = wire.frames_of(pieces, link)
    if ts is None:
        return made
    return Frames(**{**vars(made), "ts": np.array(ts, dtype=np.int64), "now": max(ts)})


def payloads(made: Decoded) -> list[bytes]:
    p = made.packets
    spans = zip(p.payload_start.tolist(), p.payload_cap.tolist(), strict=True)
    return [made.data[start : start + size].tobytes() for start, size in spans]


DATAGRAM = wire.ip4(wire.udp(bytes(range(200))), 17)
DATAGRAM6 = wire.ip6(wire.udp(bytes(range(200)), wire.A6, wire.B6), 17)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (0, 0, 2, 1)])
@pytest.mark.parametrize("pieces", [wire.cut4(DATAGRAM, 64, 80), wire.cut6(DATAGRAM6, 64, 80)])
def test_fragments_in_any_order_over_batches(order: tuple[int, ...], pieces: list[bytes]) -> None:
    decoder, out = Decoder(), []
    for k, which in enumerate(order):
        made = decoder.decode(frames([pieces[which]], [k * NS]))
        out.append(made)
        assert len(made.packets) == (k == len(order) - 1)
    p = out[-1].packets
    assert payloads(out[-1]) == [bytes(range(200))]
    assert (p.dport[0], p.payload_len[0], bool(p.bad_csum[0])) == (53, 200, False)
    assert p.ip_len[0] == (248 if p.v6[0] else 228)  # as if it had never been cut
    assert p.ts[0] == (len(order) - 1) * NS
    assert out[0].not_understood == {"ip fragment": 1}
    assert decoder.waiting == 0


def test_what_came_first_stays_where_fragments_overlap() -> None:
    first, second, third = wire.cut4(DATAGRAM, 64, 80)
    liar = wire.ip4(b"\xff" * 144, 17, part=0x2000 | 0, ident=7)
    made = Decoder().decode(frames([second, first, liar, third]))
    assert payloads(made) == [bytes(range(200))]
    made = Decoder().decode(frames([liar[:20] + b"\xee" * 144, third]))
    assert made.malformed == 1  # the lie's own UDP header claims too much


def test_a_datagram_waits_half_a_minute() -> None:
    first, second, third = wire.cut4(DATAGRAM, 64, 80)
    for late, whole in ((FRAGMENT_TIMEOUT_NS - 1, 1), (FRAGMENT_TIMEOUT_NS, 0)):
        decoder = Decoder()
        made = decoder.decode(frames([first, second, third], [0, NS, late]))
        assert len(made.packets) == whole
        assert (decoder.waiting, decoder.given_up) == ((0, 0) if whole else (1, 1))


def test_a_flood_of_fragments_is_capped() -> None:
    decoder = Decoder()
    first = [wire.ip4(bytes(1400), 17, part=0x2000, ident=k & 0xFFFF) for k in range(4_000)]
    for k in range(0, len(first), 500):
        decoder.decode(frames(first[k : k + 500], [k * NS // 4_000] * 500))
        assert decoder.waiting <= MAX_FRAGMENTED
    table = decoder._fragments[0]
    assert table._bytes == sum(p.size + len(p.head) for p in table._partial.values())
    assert decoder.given_up >= 4_000 - MAX_FRAGMENTED
    # Large pieces reach the bytes before the number.
    for k in range(300):
        piece = wire.ip4(bytes(60_000), 17, part=0x2000, ident=k)
        decoder.decode(frames([piece], [NS]))
        assert table._bytes <= MAX_FRAGMENT_BYTES
    assert decoder.waiting < 80


def test_a_datagram_in_too_many_stretches_is_given_up() -> None:
    decoder = Decoder()
    holes = [wire.ip4(bytes(8), 17, part=0x2000 | 2 * k, ident=1) for k in range(1, MAX_PIECES + 3)]
    decoder.decode(frames(holes))
    assert decoder.given_up == 1


def test_a_second_has_room_for_so_many_fragments(monkeypatch: pytest.MonkeyPatch) -> None:
    assert FRAGMENTS_PER_S > 1_000
    monkeypatch.setattr(fragments_module, "FRAGMENTS_PER_S", 10)
    pieces = [piece for k in range(8) for piece in wire.cut4(DATAGRAM, 104, ident=k)]
    decoder = Decoder()
    assert len(decoder.decode(frames(pieces, [0] * 16)).packets) == 5
    assert len(decoder.decode(frames(pieces[:10], [NS] * 10)).packets) == 5


# --- connections ----------------------------------------------------------------


def records(made: list[Decoded]) -> tuple[Conns, Conns]:
    table = ConnTable(Lan())
    told = [table.step(part) for part in made]
    told.append(table.finish())
    return Conns.concat([t.records for t in told]), Conns.concat([t.slices for t in told])


@pytest.mark.slow
def test_any_cut_gives_the_same_connections(data: Path) -> None:
    folder = data / "zeek-parity"
    paths = sorted(folder.glob("core.*/input.pcap*"))
    paths += sorted((data / "protocol-pcaps" / "basics").glob("*frag*"))
    assert len(paths) > 30
    for path in paths:
        results = []
        for batch in (16_384, 1, 7):
            decoder = Decoder(ignore_checksums=True)
            results.append(records([decoder.decode(f) for f in read_frames(path, batch)]))
        for other in results[1:]:
            for mine, theirs in zip(results[0], other, strict=True):
                for f in fields(Conns):
                    same = np.array_equal(getattr(mine, f.name), getattr(theirs, f.name))
                    assert same, (path, f.name)


def test_a_name_for_the_tunnel_in_both_directions() -> None:
    """GRE has no record; both directions of it are one parent. VXLAN has two records."""
    ask = wire.ip4(wire.icmp(8), 1, wire.A4, wire.B4)
    answer = wire.ip4(wire.icmp(0), 1, wire.B4, wire.A4)
    far, near = bytes([1, 1, 1, 1]), bytes([2, 2, 2, 2])
    pieces = [
        wire.ip4(wire.gre(ask, 0x0800), 47, far, near),
        wire.ip4(wire.gre(answer, 0x0800), 47, near, far),
    ]
    rows, slices = records([decode(frames(pieces))])
    assert [(text(*rows.orig[0].tolist()), rows.orig_pkts[0], rows.resp_pkts[0])] == [
        ("192.168.1.10", 1, 1)
    ]
    assert len(rows.tunnel_parents[0]) == 18
    assert json.loads(json_lines(rows))["tunnel_parents"] == [rows.tunnel_parents[0].decode()]
    assert set(slices.tunnel_parents.tolist()) == {b""}
    pieces = [
        wire.ip4(wire.udp(wire.vxlan(wire.ether(packet)), src, dst, port, 4789), 17, src, dst)
        for packet, src, dst, port in ((ask, far, near, 5_000), (answer, near, far, 6_000))
    ]
    rows, _ = records([decode(frames(pieces))])
    outer = rows.take(rows.proto == 17)
    inner = rows.take(rows.proto == 1)
    assert outer.service.tolist() == [b"vxlan", b"vxlan"]
    assert set(inner.tunnel_parents[0].split(b",")) == set(outer.uid.tolist())


def test_what_carries_by_ip_alone_is_a_connection_only_where_nothing_is_inside() -> None:
    inside = wire.ip4(wire.tcp(), 6)
    rows, _ = records([decode(frames([wire.ip4(wire.gre(inside, 0x0800), 47)]))])
    assert rows.proto.tolist() == [6]
    rows, _ = records([decode(frames([wire.ip4(wire.gre(b"\x45nothing", 0x0800), 47)]))])
    assert rows.proto.tolist() == [47]


def test_five_tunnels_deep() -> None:
    packet = wire.ip4(wire.tcp(), 6)
    for _ in range(6):
        packet = wire.ip4(packet, 4)
    p = decode(frames([packet])).packets
    assert p.carrier.tolist() == [0, 1, 2, 3, 4]
    assert p.carries.tolist() == [IP_TUNNEL] * 4 + [0]


def test_addresses_inside_a_tunnel_teach_nothing_about_devices() -> None:
    """Anybody can write the address of a neighbour inside: who sent the frame is held to it."""
    lan = Lan()
    thief = bytes([192, 168, 1, 66])
    forged = wire.ether(wire.ip4(wire.tcp(src=wire.A4), 6, wire.A4, wire.B4))
    shell = wire.udp(wire.vxlan(forged), thief, wire.B4, 4_789, 4_789)
    made = decode(wire.frames_of([wire.ether(wire.ip4(shell, 17, thief, wire.B4))]))
    p: Packets = made.packets
    assert (p.carries[0], p.carrier[1]) == (VXLAN, 1)
    assert p.src_mac[0] == p.src_mac[1]
    devices, table = DeviceTable(lan), ConnTable(lan)
    devices.step(made)
    told = table.step(made), table.finish()
    slices = Conns.concat([t.slices for t in told])
    orig, _ = devices.sides(slices)
    assert len(slices) == 2
    known = {devices.device(int(i)).addresses for i in set(orig.tolist())}
    assert known == {("192.168.1.66",)}


# --- tunnels that change ----------------------------------------------------------


def through(packet: bytes, way: int, src: bytes = wire.A4, dst: bytes = wire.B4) -> bytes:
    """An IP packet as it is (0), or through one of several tunnels."""
    if way == 0:
        return packet
    if way == 1:
        return wire.ip4(wire.gre(packet, 0x0800), 47, src, dst)
    shell = wire.udp(wire.vxlan(wire.ether(packet)), src, dst, 5_000 + way, 4789)
    return wire.ip4(shell, 17, src, dst)


def said(time: int, way: int, proto: int = 17, flip: bool = False) -> tuple[int, bytes]:
    src, dst = (wire.B4, wire.A4) if flip else (wire.A4, wire.B4)
    if proto == 1:
        return time, through(wire.ip4(wire.icmp(0 if flip else 8), 1, src, dst), way)
    sport, dport = (9_998, 9_999) if not flip else (9_999, 9_998)
    if proto == 17:
        return time, through(wire.ip4(wire.udp(b"x", src, dst, sport, dport), 17, src, dst), way)
    body = wire.tcp(b"", src, dst, sport=sport, dport=dport, flags=0x10, seq=5, ack=9)
    return time, through(wire.ip4(body, 6, src, dst), way)


def inner(pieces: list[tuple[int, bytes]], proto: int) -> list[str]:
    """Return the histories of what was inside, the same however the packets are cut."""
    found = []
    for step in (len(pieces), 1, 3):
        decoder = Decoder()
        made = [
            decoder.decode(frames([p for _, p in part], [t for t, _ in part]))
            for part in (pieces[k : k + step] for k in range(0, len(pieces), step))
        ]
        rows, slices = records(made)
        found.append((rows, slices))
        for mine, theirs in zip(found[0], found[-1], strict=True):
            for f in fields(Conns):
                assert np.array_equal(getattr(mine, f.name), getattr(theirs, f.name)), f.name
    rows = found[0][0]
    mine = rows.take((rows.proto == proto) & (rows.resp_p != 4789))
    return [history.decode() for history in mine.history.tolist()]


@pytest.mark.parametrize(
    ("proto", "ways", "history"),
    [
        (17, [2, 3, 2, 3, 2, 3], "D"),  # five changes
        (17, [2, 3, 2, 3, 2, 3, 2], "DX"),
        (17, [2, 3] * 20, "DX"),
        (17, [0, 1, 0, 1, 0, 1, 0], "DX"),  # by GRE and beside it
        (17, [0, 0, 0, 2, 2, 4, 4, 1, 1, 1, 0, 0, 2, 4, 4], "DX"),
        (17, [1] * 20, "D"),
        (1, [2, 3] * 4, "X"),
        (6, [2, 3] * 4, "AX"),
        (6, [2, 2, 2, 3, 2, 3, 2, 3], "A"),
    ],
)
def test_a_connection_whose_tunnels_change(proto: int, ways: list[int], history: str) -> None:
    """At the sixth change Zeek writes an X."""
    pieces = [said(k * NS // 10, way, proto) for k, way in enumerate(ways)]
    assert inner(pieces, proto) == [history]


def test_the_letters_of_the_packet_come_after_the_x() -> None:
    ways = [2, 3, 2, 3, 2, 3, 2]
    pieces = [said(k * NS // 10, way, flip=k == 6) for k, way in enumerate(ways)]
    assert inner(pieces, 17) == ["DXd"]
    pieces = [said(k * NS // 10, way, flip=k == 5) for k, way in enumerate(ways)]
    assert inner(pieces, 17) == ["DdX"]


def test_another_connection_on_the_same_ends_counts_anew() -> None:
    pieces = [said(k * NS // 10, way) for k, way in enumerate([2, 3, 2, 3])]
    pieces += [said(100 * NS + k * NS // 10, way) for k, way in enumerate([2, 3, 2, 3])]
    pieces += [said(300 * NS + k * NS // 10, way) for k, way in enumerate([2, 3] * 4)]
    assert inner(pieces, 17) == ["D", "D", "DX"]


def test_the_way_through_a_tunnel_is_no_change() -> None:
    """GRE is one whichever end sent; so is a tunnel inside of another."""
    pieces = []
    for k in range(9):
        src, dst = (wire.A4, wire.B4) if k % 2 else (wire.B4, wire.A4)
        _, plain = said(0, 0, flip=bool(k % 2))
        deep = through(through(plain, 1, src, dst), 1, bytes([8, 8, 8, k % 3]), bytes([9, 9, 9, 9]))
        once = through(plain, 1, src, dst)
        pieces.append((k * NS // 10, deep if k > 5 else once))
    assert inner(pieces, 17) == ["^Dd"] or inner(pieces, 17) == ["Dd"]


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.sampled_from((17, 6)),
                          st.sampled_from((1, NS, 6 * NS, 70 * NS))), max_size=40))  # fmt: skip
def test_any_change_whatever_the_cut(steps: list[tuple[int, bool, int, int]]) -> None:
    time, pieces = 0, []
    for way, flip, proto, gap in steps:
        time += gap
        pieces.append(said(time, way, proto, flip))
    if pieces:
        inner(pieces, 17)

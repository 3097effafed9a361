"""QUIC's Initial packets: the vectors of the RFCs, hellos in pieces, real captures, any bytes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian import quic
from guardian.addresses import Lan
from guardian.capture import read_frames
from guardian.conns import ConnTable
from guardian.const import NS
from guardian.datagrams import google_quic, quic_kind
from guardian.decode import Decoder
from guardian.tables import Conns
from tests.packets import ACK, PSH, SYN, Packet, decoded
from tests.quicpackets import DRAFT_29, FIRST_ID, V1, V2, crypto, sealed
from tests.test_service import hello

FLOW: quic.Flow = (b"a" * 16, b"b" * 16, 50_000, 443)
RFC_HELLO = bytes.fromhex(
    "010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c000004130113020100"
    "00c000000010000e00000b6578616d706c652e636f6dff01000100000a00080006001d001700180010000700050461"
    "6c706e000500050100000000003300260024001d00209370b2c9caa47fbabaf4559fedba753de171fa71f50f1ce15d"
    "43e994ec74d748002b0003020304000d0010000e0403050306030203080408050806002d00020101001c0002400100"
    "3900320408ffffffffffffffff05048000ffff07048000ffff0801100104800075300901100f088394c8f03e515708"
    "06048000ffff"
)
"""The ClientHello of RFC 9001, A.2; RFC 9369 takes the same."""


@pytest.mark.parametrize(
    ("version", "client", "text", "nonce", "header"),
    [
        (V1, True, "1f369613dd76d5467730efcbe3b1a22d", "fa044b2f42a3fd3b46fb255c",
         "9f50449e04a0e810283a1e9933adedd2"),
        (V1, False, "cf3a5331653c364c88f0f379b6067e37", "0ac1493ca1905853b0bba03e",
         "c206b8d9b9f0f37644430b490eeaa314"),
        (V2, True, "8b1a0bc121284290a29e0971b5cd045d", "91f73e2351d8fa91660e909f",
         "45b95e15235d6f45a6b19cbcb0294ba9"),
        (V2, False, "82db637861d55e1d011f19ea71d5d2a7", "dd13c276499c0249d3310652",
         "edf6d05c83121201b436e16877593c3a"),
    ],
)  # fmt: skip
def test_keys_of_the_rfcs(version: int, client: bool, text: str, nonce: str, header: str) -> None:
    """RFC 9001, A.1 and RFC 9369, A.1."""
    keys = quic.keys_of(version, FIRST_ID, client)
    assert keys.text[0].tobytes().hex() == text
    assert keys.nonce.hex() == nonce
    assert keys.header[0].tobytes().hex() == header


@pytest.mark.parametrize(
    ("version", "begin", "tag"),
    [
        (V1, "c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11d242b123dc9b",
         "e221af44860018ab0856972e194cd934"),
        (V2, "d76b3343cf088394c8f03e5157080000449ea0c95e82ffe67b6abcdb4298b485dd04de806071",
         "a18b2faa745b6fe189cf772a9f84cbfc"),
    ],
)  # fmt: skip
def test_packets_of_the_rfcs(version: int, begin: str, tag: str) -> None:
    """A.2 of both: what the tests seal is the RFC's packet, and it is read back."""
    frames = b"\x06\x00\x40\xf1" + RFC_HELLO
    datagram = sealed(frames, version)
    assert len(datagram) == 1_200
    assert datagram.hex().startswith(begin)
    assert datagram.hex().endswith(tag)
    (packet,) = quic.initials(datagram)
    found = quic.opened(datagram, packet, quic.keys_of(version, FIRST_ID))
    assert found == frames.ljust(1_162, b"\x00")
    assert quic.pieces(found) == [(0, RFC_HELLO)]
    assert quic.Hellos().look(FLOW, 0, datagram) == (b"example.com", True)


def test_a_server_packet_of_the_rfc() -> None:
    """RFC 9001, A.3: the keys are those of the id that the client made up."""
    datagram = bytes.fromhex(
        "cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a5816b6394100f37a1c69797554"
        "780bb38cc5a99f5ede4cf73c3ec2493a1839b3dbcba3f6ea46c5b7684df3548e7ddeb9c3bf9c73cc3f3bded74b"
        "562bfb19fb84022f8ef4cdd93795d77d06edbb7aaf2f58891850abbdca3d20398c276456cbc42158407dd074ee"
    )
    (packet,) = quic.initials(datagram)
    frames = quic.opened(datagram, packet, quic.keys_of(V1, FIRST_ID, client=False))
    assert frames is not None
    assert frames.startswith(
        bytes.fromhex("02000000000600405a020000560303eefce7f7b37ba1d1632e9667")
    )
    assert quic.opened(datagram, packet, quic.keys_of(V1, FIRST_ID)) is None


# --- hellos in pieces -------------------------------------------------------------------------

HELLO = hello(b"Cam.Example.org")[5:]


def looked(*datagrams: bytes) -> list[tuple[bytes, bool]]:
    hellos = quic.Hellos()
    return [hellos.look(FLOW, i, datagram) for i, datagram in enumerate(datagrams)]


@pytest.mark.parametrize("version", [V1, V2, DRAFT_29, 0xFF00001B, 0xFF000022])
def test_a_hello_in_two_packets_in_any_order(version: int) -> None:
    one, two = (
        sealed(crypto(at, HELLO[at : at + 60]) + b"\x01", version, pn=pn)
        for pn, at in enumerate((0, 60))
    )
    assert HELLO[60:] not in two
    for first, second in ((one, two), (two, one)):
        results = looked(first, second)
        assert results[1] == (b"Cam.Example.org", True)


def test_pieces_out_of_order_twice_and_overlapping() -> None:
    parts = [(90, 400), (0, 10), (40, 95), (8, 41), (40, 50)]
    frames = b"\x00\x00\x01".join(crypto(a, HELLO[a:b]) for a, b in parts)
    ack = b"\x02\x01\x40\x10\x01\x00\x00\x05" + b"\x03\x00\x00\x00\x00\x01\x02\x03"
    assert looked(sealed(ack + frames)) == [(b"Cam.Example.org", True)]


def test_two_packets_in_one_datagram() -> None:
    frames = [crypto(60, HELLO[60:]), crypto(0, HELLO[:60])]
    both = b"".join(sealed(f, pn=pn) for pn, f in enumerate(frames))
    assert looked(both) == [(b"Cam.Example.org", True)]


def test_the_server_answers_between_two_packets() -> None:
    """The second packet is sent to the id that the server chose; the keys stay."""
    first = sealed(crypto(0, HELLO[:60]))
    second = sealed(crypto(60, HELLO[60:]), to=b"chosen", first_id=FIRST_ID, pn=3)
    assert looked(first, second)[1] == (b"Cam.Example.org", True)


def test_the_server_asks_to_begin_again() -> None:
    """After a Retry the client sends a token to another id, which makes new keys."""
    lost = sealed(crypto(60, HELLO[60:]))
    again = sealed(crypto(0, HELLO), to=b"another", token=b"t" * 40, pn=1)
    assert looked(lost, again) == [(b"", False), (b"Cam.Example.org", True)]


def test_a_hello_without_a_name_ends_the_search() -> None:
    bare = b"\x01\x00\x00\x2b\x03\x03" + b"r" * 32 + b"\x00\x00\x02\x13\x01\x01\x00\x00\x00"
    assert looked(sealed(crypto(0, bare))) == [(b"", True)]
    assert looked(sealed(crypto(0, b"\x02" + HELLO[1:]))) == [(b"", True)]  # no ClientHello


def test_a_packet_cut_by_a_short_capture_tells_what_is_there() -> None:
    whole = sealed(crypto(0, HELLO))
    assert looked(whole[:300]) == [(b"Cam.Example.org", True)]
    assert looked(whole[:60]) == [(b"", False)]


def test_a_damaged_packet_tells_nothing() -> None:
    whole = sealed(crypto(0, HELLO))
    for at in (0, 20, 100, 1_199):
        broken = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        assert looked(broken)[0][0] == b""
    assert looked(broken, whole)[1] == (b"Cam.Example.org", True)


# --- bounds -----------------------------------------------------------------------------------


def test_looking_ends() -> None:
    """Packets without the start of a hello: after some of them none is opened."""
    results = looked(*(sealed(crypto(60, HELLO[60:]), pn=pn) for pn in range(quic.MAX_INITIALS)))
    assert results == [(b"", False)] * (quic.MAX_INITIALS - 1) + [(b"", True)]


def test_a_hello_is_bounded() -> None:
    held = quic.Hello(V1, FIRST_ID)
    held.add([(at, b"x") for at in range(1_000, 2_000)])
    assert len(held.held) == quic.MAX_PIECES
    held = quic.Hello(V1, FIRST_ID)
    held.add([(1 << 61, b"x" * 100), (quic.MAX_HELLO - 1, b"xx"), (5, b"")])
    assert held.held == []


def test_what_waits_is_bounded() -> None:
    hellos = quic.Hellos()
    part = sealed(crypto(60, HELLO[60:]))
    for i in range(quic.MAX_WAITING + 30):
        assert hellos.look((b"", b"", i, 443), i * NS, part) == (b"", False)
    assert len(hellos) == quic.MAX_WAITING
    rest = sealed(crypto(0, HELLO[:60]), pn=3)
    last = quic.MAX_WAITING + 29
    assert hellos.look((b"", b"", last, 443), 0, rest) == (b"Cam.Example.org", True)
    assert hellos.look((b"", b"", 0, 443), 0, rest) == (b"", False)  # it had to go


def test_a_flood_is_not_opened() -> None:
    hellos = quic.Hellos()
    whole = sealed(crypto(0, HELLO))
    names = [hellos.look((b"", b"", i, 443), i, whole)[0] for i in range(quic.OPENED_PER_S + 20)]
    assert names.count(b"Cam.Example.org") == quic.OPENED_PER_S
    assert hellos.skipped == 20
    assert len(hellos) == 0
    assert hellos.look((b"", b"", 1, 443), NS, whole) == (b"Cam.Example.org", True)
    for second in range(quic.MAX_SECONDS + 5):
        hellos.look((b"", b"", 1, 443), second * NS, whole)
    assert len(hellos._opened) == quic.MAX_SECONDS


@settings(max_examples=150)
@given(
    st.sampled_from((V1, V2, DRAFT_29)),
    st.lists(st.tuples(st.integers(0, 60), st.binary(min_size=1, max_size=4)), max_size=3),
    st.integers(0, 1_250),
    st.binary(max_size=40),
)
def test_hostile_packets(
    version: int, changes: list[tuple[int, bytes]], size: int, frames: bytes
) -> None:
    """Changed headers, cut datagrams, and any frames under a right seal."""
    whole = sealed(frames, version, pn=7)
    packet = bytearray(whole + sealed(crypto(0, HELLO), version))
    for at, data in changes:
        packet[at : at + len(data)] = data
    hellos = quic.Hellos()
    for datagram in (bytes(packet), bytes(packet[:size]), whole):
        name, _ = hellos.look(FLOW, 0, datagram)
        assert len(name) <= quic.MAX_HELLO
        quic_kind(datagram)


@settings(max_examples=300)
@given(st.binary(max_size=80), st.binary(max_size=60))
def test_any_frames_and_any_bytes(frames: bytes, data: bytes) -> None:
    for offset, piece in quic.pieces(frames) or []:
        assert 0 <= offset < 1 << 62
        assert len(piece) <= len(frames)
    list(quic.initials(b"\xc3\x00\x00\x00\x01" + data))
    list(quic.initials(data))
    quic.google_name(b"CHLO" + data)


def test_no_frames_take_long() -> None:
    """An acknowledgement that promises 2^62 ranges, and padding in many places."""
    endless = b"\x02\x00\x00\xff" + b"\xff" * 7 + b"\x00"
    assert quic.pieces(endless) == []
    assert quic.pieces(b"\x01\x00" * 1_000) == []
    assert quic.pieces(b"\x08" + b"\x00" * 10) is None  # no stream before the keys


# --- over TCP -----------------------------------------------------------------------------------


def keys_first(name: bytes, size: int) -> bytes:
    """Return a hello whose name stands behind an extension of some size."""
    record = hello(name)
    at = record.index(b"\x00\x17\x00\x00")  # the first extension
    more = b"\x00\x33" + size.to_bytes(2, "big") + b"k" * size
    body = bytearray(record[:at] + more + record[at:])
    for where, width in ((3, 2), (6, 3), (at - 2, 2)):
        value = int.from_bytes(body[where : where + width], "big") + len(more)
        body[where : where + width] = value.to_bytes(width, "big")
    return bytes(body)


def tls(record: bytes, *cuts: int, seq: int = 7_000) -> list[Packet]:
    """Return a connection whose client sends a record in segments."""
    me, you = ("192.168.1.2", 40_000), ("192.168.1.9", 443)
    out = [
        Packet(0, *me, *you, flags=SYN, seq=seq),
        Packet(1, *you, *me, flags=SYN | ACK, seq=1, ack=seq + 1),
        Packet(2, *me, *you, flags=ACK, seq=seq + 1, ack=2),
    ]
    bounds = [0, *cuts, len(record)]
    for i, (begin, end) in enumerate(pairwise(bounds)):
        at = (seq + 1 + begin) % (1 << 32)
        out.append(Packet(3 + i, *me, *you, 6, ACK | PSH, at, 2, record[begin:end]))
    answer = b"\x16\x03\x03\x00\x31\x02\x00\x00\x2d\x03\x03" + b"r" * 38
    return [*out, Packet(9, *you, *me, 6, ACK | PSH, 2, at + len(record), answer)]


def outcome(packets: list[Packet]) -> list[tuple[bytes, bytes]]:
    table = ConnTable(Lan())
    told = [table.step(decoded(packets)).records, table.finish().records]
    found = Conns.concat(told)
    return list(zip(found.service.tolist(), found.host.tolist(), strict=True))


@pytest.mark.parametrize("seq", [7_000, (1 << 32) - 900])
def test_a_tls_hello_in_two_segments(seq: int) -> None:
    """The name is in the second, or cut in two; the last byte may be the number's wrap."""
    record = keys_first(b"Hub.Example.org", 1_300)
    at = record.index(b"Hub")
    for cut in (1_000, at - 5, at + 4):
        assert outcome(tls(record, cut, seq=seq)) == [(b"ssl", b"hub.example.org")]
    assert outcome(tls(record)) == [(b"ssl", b"hub.example.org")]
    assert outcome(tls(record[:-40], 1_000)) == [(b"ssl", b"")]


def test_segments_out_of_order_and_of_others() -> None:
    record = keys_first(b"Hub.Example.org", 1_300)
    hellos = quic.Hellos()
    assert hellos.segment(FLOW, 5, b"anything") == b""
    assert hellos.segment(FLOW, 100, record[:1_200]) == b""
    assert len(hellos) == 1
    other = (FLOW[1], FLOW[0], 1, 2)
    assert hellos.segment(other, 1_300, record[1_200:]) == b""
    assert hellos.segment(FLOW, 90, record[1_200:]) == b""
    assert hellos.segment(FLOW, 1_300, record[1_200:]) == b"Hub.Example.org"
    assert len(hellos) == 0
    assert hellos.segment(FLOW, 100, record) == b""  # whole: its name is known before
    for i in range(quic.MAX_WAITING + 9):
        hellos.segment((b"", b"", i, 443), 100, record[:1_200])
    assert len(hellos) == quic.MAX_WAITING


# --- before the standard ------------------------------------------------------------------------


def test_google_says_the_name_in_the_clear() -> None:
    values = [(b"PAD\x00", b"-" * 40), (b"SNI\x00", b"Www.Example.com"), (b"VER\x00", b"Q035")]
    table, end = b"", 0
    for tag, value in values:
        end += len(value)
        table += tag + end.to_bytes(4, "little")
    chlo = b"CHLO" + len(values).to_bytes(2, "little") + b"\x00\x00" + table
    chlo += b"".join(value for _, value in values)
    for start in (b"\x0d12345678Q035\x01" + b"\x00" * 17, b"\xc3Q046\x50" + b"i" * 20):
        assert google_quic(start + chlo)
        assert quic.google_name(start + chlo) == b"Www.Example.com"
        assert quic.google_name(start + chlo[:20]) == b""
    assert not google_quic(b"\x0d12345678R035")


# --- real captures ------------------------------------------------------------------------------


def records(path: Path, frames: int = 16_384) -> Conns:
    table, decoder = ConnTable(Lan()), Decoder(ignore_checksums=True)
    told = [table.step(decoder.decode(batch)).records for batch in read_frames(path, frames)]
    return Conns.concat([*told, table.finish().records])


def named(path: Path, frames: int = 16_384) -> Iterator[tuple[str, str]]:
    found = records(path, frames)
    for service, host, proto in zip(found.service, found.host, found.proto, strict=True):
        if proto == 17 and b"quic" in service:
            yield service.decode(), host.decode()


HOSTS = {
    "39264-rand": "tr6.snapchat.com",
    "analyzer-confirmations": "api.cirrus-ci.com",
    "curl-http3": "www.google.de",
    "decrypt-fail-google-de-51833": "www.google.de",
    "dpd-v2-custom-port": "localhost",
    "firefox": "blog.cloudflare.com",
    "fragmented-crypto": "www.google.de",
    "interop.quic-go_quic-go.handshake": "server4:443",
    "interop.quic-go_quic-go.zerortt": "server4:443",
    "multiple-initial-fragmented-crypto": "googleads.g.doubleclick.net",
    "multiple-initial-fragmented-crypto-only-initial": "googleads.g.doubleclick.net",
    "quicdoq": "",
    "quicv2-echo-443": "localhost",
    "run-pcap": "www.google.com",
}
"""Zeek's captures, by their folders; quicdoq asks for an address, which has no server name."""


@pytest.mark.parametrize("name", HOSTS)
def test_names_in_zeeks_captures(data: Path, name: str) -> None:
    path = data / "zeek-parity-partial" / f"scripts.base.protocols.quic.{name}" / "input.pcap"
    found = set(named(path))
    assert found == {("quic,ssl", HOSTS[name])}
    assert set(named(path, 1)) == found  # however the packets come in batches


def test_names_in_ndpis_captures(data: Path) -> None:
    """Every connection of which nDPI tells the host."""
    folder = data / "protocol-pcaps" / "ndpi"
    theirs = sorted(
        line.split("[Hostname/SNI: ")[1].split("]")[0]
        for line in (folder / "quic.pcap.out").read_text().splitlines()
        if "[Hostname/SNI: " in line
    )
    assert len(theirs) == 8
    assert sorted(host for _, host in named(folder / "quic.pcap") if host) == theirs
    assert list(named(folder / "doq.pcapng")) == [("quic,ssl", "")]


def test_a_real_hello_cut_anywhere(data: Path) -> None:
    """No cut raises; a name is the whole one or none."""
    path = data / "zeek-parity-partial/scripts.base.protocols.quic.firefox/input.pcap"
    frames = next(read_frames(path))
    p = Decoder(ignore_checksums=True).decode(frames)
    at = int(np.flatnonzero(p.packets.payload_len > 1_000)[0])
    start = int(p.packets.payload_start[at])
    datagram = p.data[start : start + int(p.packets.payload_len[at])].tobytes()
    names = {quic.Hellos().look(FLOW, 0, datagram[:size])[0] for size in range(0, 1_300, 7)}
    assert names == {b"", b"blog.cloudflare.com"}

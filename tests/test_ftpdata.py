"""Data connections of FTP are known by the line that announced them, whatever the cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardian import ftpdata
from guardian.addresses import Lan, pack
from guardian.conns import ConnTable
from guardian.const import NS
from tests.packets import ACK, PSH, SYN, Packet
from tests.test_conns import feed, same
from tests.zeekpairs import ours, pairs

A, B, C = "192.168.1.2", "93.184.216.34", "93.184.216.35"
A6, B6 = "fd00::2", "2001:db8::1"
MS = NS // 1_000


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"PORT 192,168,1,2,4,1\r\n", (A, 1025)),
        (b"port 192,168,1,2,255,255\r\n", (A, 65_535)),
        (b"227 Entering Passive Mode (93,184,216,34,10,1).\r\n", (B, 2561)),
        (b"227 =93,184,216,34,10,1\r\n", (B, 2561)),
        (b"229 Entering Extended Passive Mode (|||2561|)\r\n", (B, 2561)),
        (b"229 ok (|1|93.184.216.35|7|)\r\n", (C, 7)),
        (b"EPRT |1|192.168.1.2|1025|\r\n", (A, 1025)),
        (b"EPRT |2|fd00::2|1025|\r\n", (A6, 1025)),
        (b"eprt !2!fd00::2!1025!", (A6, 1025)),
        (b"PORT 192,168,1,256,4,1\r\n", None),
        (b"PORT 192,168,1,2,4\r\n", None),
        (b"229 ok (|||65536|)\r\n", None),
        (b"229 ok\r\n(|||7|)", None),
        (b"EPRT |||1025|\r\n", None),
        (b"EPRT |2|fd00::2::3|1025|\r\n", None),
        (b"EPRT " + b"|" * 400, None),
        (b"227 " + b"1," * 250, (pack("1.1.1.1"), 257)),
    ],
)
def test_lines(line: bytes, found: tuple[str, int] | None) -> None:
    end = None
    if found is not None:
        address = pack(found[0]) if isinstance(found[0], str) else found[0]
        end = (*address, found[1])
    assert ftpdata.announced(line, pack(B)) == end


def said(time: int, src: str, dst: str, line: bytes, sport: int = 21, **more: bool) -> Packet:
    return Packet(
        time, src, sport, dst, 40_000, flags=ACK | PSH, seq=time % 9_999, payload=line, **more
    )


def opens(time: int, src: str, sport: int, dst: str, dport: int) -> Packet:
    return Packet(time, src, sport, dst, dport, flags=SYN, seq=7)


PASV = said(10 * MS, B, A, b"227 Passive (93,184,216,34,10,1)\r\n")


def services(packets: list[Packet]) -> dict[tuple[int, int], bytes]:
    records, slices = feed(packets)
    again = feed(packets, range(1, len(packets)))
    for mine, theirs in zip((records, slices), again, strict=True):
        same(mine, theirs)
    by_port: dict[tuple[int, int], bytes] = {}
    for table in (records, slices):
        rows = zip(
            table.orig_p.tolist(), table.resp_p.tolist(), table.service.tolist(), strict=True
        )
        by_port |= {(orig, resp): service for orig, resp, service in rows}
    return by_port


def test_a_passive_and_an_active_one() -> None:
    port = said(20 * MS, A, B, b"PORT 192,168,1,2,4,1\r\n")
    packets = [
        opens(1, A, 50_000, B, 2_561),  # before it was announced
        PASV,
        replace(port, sport=40_000, dport=21),
        opens(30 * MS, A, 50_001, B, 2_561),
        opens(31 * MS, C, 50_002, B, 2_561),  # somebody else
        opens(32 * MS, A, 50_003, C, 2_561),
        opens(33 * MS, A, 50_004, B, 2_562),
        opens(34 * MS, B, 20, A, 1_025),
    ]
    found = services(packets)
    named = {ports for ports, service in found.items() if service == b"ftp-data"}
    assert named == {(50_001, 2_561), (20, 1_025)}


def test_what_it_carries_gives_it_no_other_name() -> None:
    """Its timeouts are those of any connection."""
    text = b"SSH-2.0-x\r\n"
    packets = [PASV, opens(30 * MS, A, 50_001, B, 2_561)]
    for k in range(4):
        ends = (A, 50_001, B, 2_561) if k % 2 else (B, 2_561, A, 50_001)
        packets.append(Packet((40 + k) * MS, *ends, flags=ACK, seq=8, ack=8, payload=text))
    assert services(packets)[50_001, 2_561] == b"ftp-data"


@pytest.mark.parametrize(("after", "named"), [(299, True), (301, False)])
def test_it_holds_five_minutes(after: int, named: bool) -> None:
    found = services([PASV, opens(10 * MS + after * NS, A, 50_001, B, 2_561)])
    assert (found[50_001, 2_561] == b"ftp-data") == named


def test_a_wrong_checksum_announces_nothing() -> None:
    found = services([replace(PASV, bad=True), opens(NS, A, 50_001, B, 2_561)])
    assert found[50_001, 2_561] == b""


def test_many_announcements_are_capped_by_the_second() -> None:
    flood = [
        said(i * MS, B, A, b"227 (93,184,216,34,%d,%d)\r\n" % (i >> 8, i & 255)) for i in range(999)
    ]
    table = ConnTable(Lan())
    feed([*flood, opens(NS, A, 50_001, B, 5), opens(NS, A, 50_002, B, 998)], table=table)
    assert len(table._announced) == ftpdata.PER_S
    feed([opens(400 * NS, A, 1, B, 2), PASV], table=table)
    feed([opens(800 * NS, A, 1, B, 2)], table=table)
    assert len(table._announced) == 0


@given(st.binary(max_size=60), st.sampled_from((b"PORT ", b"EPRT ", b"227 ", b"229 ", b"")))
def test_any_bytes(line: bytes, start: bytes) -> None:
    end = ftpdata.announced(start + line, pack(B))
    assert end is None or (end[2] < 65_536 and end[0] < 1 << 64)


def test_as_zeek_has_it(data: Path) -> None:
    """Five data connections over IPv6, three passive and two active."""
    [pair] = [p for p in pairs(data / "zeek-parity") if p.name.endswith("ftp.ftp-ipv6")]
    mine = {row["id.orig_p"]: row["service"] for row in ours(pair)}
    theirs = {row["id.orig_p"]: row["service"] for row in pair.rows}
    assert mine == theirs
    assert sorted(theirs.values()) == ["ftp", *["ftp-data"] * 5]

"""A flood fills the table: it stays at its cap, counts what went, and the quiet lose nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest

from guardian.addresses import Lan, pack
from guardian.connalone import IDLE_NS
from guardian.conns import EVICT_EVERY, ConnTable
from guardian.const import NS
from guardian.tables import Arps, Bool, Conns, Decoded, Packets
from tests.packets import ACK, FIN, PSH, RST, START, SYN, Packet, decoded
from tests.test_conns import same

LAN = Lan()
CAPACITY = 2_048
QUIET = [f"192.168.1.{k}" for k in range(2, 9)]
SERVER = "192.168.1.200"
FLOOD_FROM_S, FLOOD_S = 100, 20
BATCH = 5_000
CONNECT = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04abcd"
QUERY = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03abc\x02de\x00\x00\x01\x00\x01"
ANSWER = b"\x12\x34\x81\x80" + QUERY[4:]
GET = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Flood = Callable[[np.random.Generator], Packets]


def tcp(at: float, device: str, port: int, peer: str, service: int,
        says: list[tuple[float, bool, bytes]], *, closes: bool) -> list[Packet]:  # fmt: skip
    """Return a TCP session: handshake, what each side says (seconds later, by whom), its end."""
    ends = ((device, port), (peer, service))
    number = [1_000, 5_000]
    script = [(0.0, 0, SYN, b""), (0.02, 1, SYN | ACK, b""), (0.021, 0, ACK, b"")]
    script += [(0.03 + t, int(not asks), PSH | ACK, text) for t, asks, text in says]
    if closes:
        last = script[-1][0]
        script += [(last + 0.01, 0, FIN | ACK, b""), (last + 0.03, 1, FIN | ACK, b"")]
        script.append((last + 0.031, 0, ACK, b""))
    out = []
    for t, who, flags, text in script:
        out.append(
            Packet(int((at + t) * NS), *ends[who], *ends[1 - who], 6, flags, number[who],
                   number[1 - who] if flags & ACK else 0, text)
        )  # fmt: skip
        number[who] += len(text) + bool(flags & (SYN | FIN))
    return out


def asked(at: float, device: str, port: int, peer: str, service: int, proto: int,
          ask: bytes, answer: bytes) -> list[Packet]:  # fmt: skip
    """Return a question and its answer 20 ms later."""
    back = (0, 0) if proto == 1 else (service, port)
    there = (8, 0) if proto == 1 else (port, service)
    return [
        Packet(int(at * NS), device, there[0], peer, there[1], proto, payload=ask),
        Packet(int((at + 0.02) * NS), peer, back[0], device, back[1], proto, payload=answer),
    ]


def household() -> list[Packet]:
    """Return ten minutes of devices that say little, in order of time."""
    a, b, c, d, e, f, _ = QUIET
    minutes = [
        (60.0 * k + wait, asks, text)
        for k in range(1, 10)
        for wait, asks, text in ((0, True, b"\x30\x06\x00\x01tonn"), (0.05, False, b"\xd0\x00"))
    ]
    hello = [(0.0, True, CONNECT), (0.02, False, b"\x20\x02\x00\x00")]
    out = tcp(1.0, a, 40_000, "93.184.216.34", 1_883, [*hello, *minutes], closes=True)
    late = [(0.0, False, b"SSH-2.0-a\r\n"), (0.02, True, b"SSH-2.0-b\r\n"), (280.0, True, b"x")]
    out += tcp(3.0, b, 40_001, "93.184.216.35", 22, late, closes=False)
    for k in range(60):
        at = 2.0 + 5 * k
        out += asked(at, c, 50_000 + k, "192.168.1.1", 53, 17, QUERY, ANSWER)
        says = [(0.0, True, GET), (0.03, False, OK)]
        out += tcp(at + 0.2, d, 51_000 + k, "93.184.216.36", 80, says, closes=k % 3 > 0)
        out += asked(at + 0.4, e, 123, f"93.184.217.{k}", 123, 17, b"\x23" + bytes(47),
                     b"\x24" + bytes(47))  # fmt: skip
        out += asked(at + 0.6, f, 0, f"93.184.218.{k}", 0, 1, b"ping", b"ping")
    return sorted(out, key=lambda packet: packet.time)


def blank(chance: np.random.Generator, n: int) -> Packets:
    """Return empty packets spread over the time of the flood."""
    packets = Packets.blank(n)
    packets.ts[:] = START + FLOOD_FROM_S * NS + np.sort(chance.integers(0, FLOOD_S * NS, n))
    packets.ip_len[:], packets.window[:] = 40, 1_024
    packets.sport[:] = chance.integers(1_024, 65_536, n)
    return packets


def scan(chance: np.random.Generator) -> Packets:
    """Return a SYN scan of the Internet by one device, which gets no answer."""
    n = 60_000
    packets = blank(chance, n)
    packets.src[:] = pack(SERVER)
    packets.dst[:] = pack("32.0.0.0")
    packets.dst[:, 1] += np.arange(n, dtype=np.uint64)
    packets.proto[:], packets.flags[:], packets.dport[:] = 6, SYN, 23
    return packets


def spoofed(chance: np.random.Generator) -> Packets:
    """Return a flood from invented sources: TCP of any flags, UDP, ICMP, others; IPv4 and IPv6."""
    n = 60_000
    packets = blank(chance, n)
    packets.v6[:] = chance.random(n) < 0.3
    wide = chance.integers(0, 1 << 63, (n, 2, 2), dtype=np.uint64)
    wide[:, :, 0] = np.where(packets.v6[:, None], 0x2001_4860_0000_0000, 0)
    v4 = np.uint64(0x2000_0000) + wide[:, :, 1] % np.uint64(0x3000_0000) | pack("0.0.0.0")[1]
    wide[:, :, 1] = np.where(packets.v6[:, None], wide[:, :, 1], v4)
    packets.src[:], packets.dst[:] = wide[:, 0], wide[:, 1]
    packets.proto[:] = chance.choice([6, 17, 1, 132], n, p=[0.5, 0.44, 0.05, 0.01])
    packets.proto[packets.v6 & (packets.proto == 1)] = 58
    some = chance.random(n) < 0.7
    packets.flags[:] = np.where(
        packets.proto == 6, np.where(some, SYN, chance.integers(0, 64, n)), 0
    )
    packets.dport[:] = chance.integers(0, 65_536, n)
    icmp = (packets.proto == 1) | (packets.proto == 58)
    packets.sport[icmp] = chance.choice([8, 128, 3], int(icmp.sum()))
    packets.dport[icmp] = 0
    return packets


def answered(chance: np.random.Generator) -> Packets:
    """Return a flood from invented sources that a server answers: SYN-ACK, RST, UDP, echo."""
    n = 30_000
    asks = blank(chance, n)
    asks.src[:] = pack("32.0.0.0")
    asks.src[:, 1] += np.arange(n, dtype=np.uint64)
    asks.dst[:] = pack(SERVER)
    asks.proto[:] = chance.choice([6, 17, 1], n, p=[0.6, 0.3, 0.1])
    closed = chance.random(n) < 0.3
    asks.dport[:] = np.select([asks.proto == 17, closed], [53, 81], 80)
    asks.flags[:] = np.where(asks.proto == 6, SYN, 0)
    asks.sport[asks.proto == 1], asks.dport[asks.proto == 1] = 8, 0
    back = asks.take(np.arange(n))
    back.ts[:] += 20_000
    back.src[:], back.dst[:] = asks.dst, asks.src
    back.sport[:] = np.where(asks.proto == 1, 0, asks.dport)
    back.dport[:] = np.where(asks.proto == 1, 0, asks.sport)
    back.flags[:] = np.where(asks.proto == 6, np.where(closed, RST | ACK, SYN | ACK), 0)
    back.ack[:] = np.where(asks.proto == 6, 1, 0)
    return Packets.concat([asks, back])


def run(packets: Packets, data: Decoded, table: ConnTable) -> tuple[Conns, Conns, int]:
    """Return records, slices, and the most connections that lived after a step."""
    packets = packets.take(np.argsort(packets.ts, kind="stable"))
    told, most = [], 0
    for at in range(0, len(packets), BATCH):
        part = packets.take(slice(at, at + BATCH))
        told.append(table.step(Decoded(part, Arps.empty(), data.data, {}, 0, int(part.ts.max()))))
        most = max(most, table.live)
    told.append(table.finish())
    records = Conns.concat([part.records for part in told])
    return records, Conns.concat([part.slices for part in told]), most


def of_quiet(rows: Conns) -> Conns:
    """Return the rows of quiet devices, without uids: those tell packets apart by their number."""
    found: Bool = np.zeros(len(rows), dtype=np.bool_)
    for address in QUIET:
        found |= (rows.orig == pack(address)).all(axis=1) | (rows.resp == pack(address)).all(axis=1)
    rows = rows.take(found)
    rows.uid[:] = b""
    return rows.take(np.lexsort((rows.orig_p, rows.orig[:, 1], rows.ts, rows.told)))


def whenever(rows: Conns) -> Conns:
    """Return rows without the moment at which they were told."""
    rows = rows.take(np.lexsort((rows.piece, rows.orig_p, rows.orig[:, 1], rows.ts)))
    rows.told[:], rows.final[:] = 0, False
    return rows


def flooded(flood: Flood) -> tuple[Conns, Conns, Conns, Conns]:
    """Return the household's records and slices of a table under a flood, and of one without."""
    quiet = decoded(household())
    table = ConnTable(LAN, CAPACITY)
    both = Packets.concat([quiet.packets, flood(np.random.default_rng(3))])
    records, slices, most = run(both, quiet, table)
    assert CAPACITY <= most <= CAPACITY + EVICT_EVERY
    assert table.evicted > 10 * CAPACITY
    expected, cut, _ = run(quiet.packets, quiet, ConnTable(LAN))
    assert len(expected) == 242
    assert len(cut) > len(expected)
    return of_quiet(records), of_quiet(slices), of_quiet(expected), of_quiet(cut)


@pytest.mark.parametrize("flood", [scan, spoofed])
def test_quiet_devices_lose_nothing_under_a_flood(flood: Flood) -> None:
    records, slices, expected, cut = flooded(flood)
    same(records, expected)
    same(slices, cut)


def test_quiet_devices_lose_nothing_under_a_flood_that_is_answered() -> None:
    """Sessions are the same; what was one question and one answer may be told before its time."""
    records, slices, expected, cut = flooded(answered)
    for rows, others in ((records, expected), (slices, cut)):
        same(rows.take(rows.proto == 6), others.take(others.proto == 6))
        same(whenever(rows), whenever(others))


@pytest.mark.parametrize("flood", [scan, spoofed, answered])
def test_what_was_evicted_is_told_and_counted(flood: Flood) -> None:
    """Beside a table without a cap: the same connections, and those that went early counted."""
    packets = flood(np.random.default_rng(3))
    nothing = decoded([])
    table, endless = ConnTable(LAN, CAPACITY), ConnTable(LAN, 200_000)
    capped, cut, most = run(packets, nothing, table)
    whole, _, live = run(packets, nothing, endless)
    assert most <= CAPACITY + EVICT_EVERY < live
    assert endless.evicted == 0
    assert len(np.unique(capped.uid)) == len(capped) == len(whole)
    capped, whole = (rows.take(np.argsort(rows.uid)) for rows in (capped, whole))
    early = capped.told < whole.told
    assert table.evicted == early.sum() == (capped.told != whole.told).sum()
    for name in (field.name for field in fields(Conns)):
        if name != "told":
            assert np.array_equal(getattr(capped, name), getattr(whole, name)), name
    assert (cut.orig_pkts + cut.resp_pkts).sum() == len(packets)


def test_what_nobody_answers_may_be_cut_but_is_told_whole() -> None:
    """A device that only announces itself comes in more records; their sum is the same."""
    each = [
        Packet(k * 20 * NS, QUIET[0], 1_900, "239.255.255.250", 1_900, 17, payload=b"announce")
        for k in range(30)
    ]
    alone = decoded(each)
    expected, _, _ = run(alone.packets, alone, ConnTable(LAN))
    assert len(expected) == 1
    both = Packets.concat([alone.packets, scan(np.random.default_rng(3))])
    records, slices, _ = run(both, alone, ConnTable(LAN, CAPACITY))
    for rows in (of_quiet(records), of_quiet(slices)):
        assert rows.orig_pkts.sum() == expected.orig_pkts[0] == 30
        assert rows.orig_ip_bytes.sum() == expected.orig_ip_bytes[0]
    assert len(of_quiet(records)) > 1
    assert IDLE_NS > 20 * NS  # it would not have ended by itself

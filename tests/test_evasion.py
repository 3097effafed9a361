"""Tricks against whoever looks at the traffic of others, each as Zeek takes it (docs/parity.md)."""

from __future__ import annotations

import time

import numpy as np
import pytest

from guardian import keys
from guardian.addresses import Lan, texts
from guardian.conns import ConnTable
from guardian.const import NS
from guardian.decode import Decoder
from guardian.tables import CONN_STATES, Conns
from tests import wire
from tests.packets import ACK, Packet, decoded
from tests.test_conns import feed, same
from tests.test_tcp import OPEN, story
from tests.twins.decode import internet_sum

GIB = 1 << 30


def told(*frames: bytes) -> Conns:
    """Return the records of Ethernet frames."""
    table = ConnTable(Lan())
    parts = [table.step(Decoder().decode(wire.frames_of(frames))).records, table.finish().records]
    return Conns.concat(parts)


def session(*more: bytes) -> list[bytes]:
    """A handshake of A and B over Ethernet, then more TCP segments, each with its sender."""
    syn = wire.tcp(flags=2, seq=99, ack=0)
    answer = wire.tcp(b"", wire.B4, wire.A4, sport=443, dport=40_000, flags=18, seq=499, ack=100)
    third = wire.tcp(flags=16, seq=100, ack=500)
    return [mine(syn), theirs(answer), mine(third), *more]


def mine(segment: bytes) -> bytes:
    return wire.ether(wire.ip4(segment, 6))


def theirs(segment: bytes) -> bytes:
    return wire.ether(wire.ip4(segment, 6, wire.B4, wire.A4))


# --- segments ------------------------------------------------------------------------------


def one(*lines: str) -> tuple[str, str, int, int]:
    """State, history, bytes of the originator and missed bytes of a story."""
    records, _ = feed(story(*OPEN, *lines))
    assert len(records) == 1
    return (
        CONN_STATES[records.conn_state[0]], records.history[0].decode(),
        int(records.orig_bytes[0]), int(records.missed_bytes[0]),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        # A part again and a part new: new bytes count once, and nothing was sent again in whole.
        (("> A 101 501 10", "> A 106 501 10", "< A 501 116 0"), ("S1", "ShADa", 15, 0)),
        # Within what was sent, with whatever other bytes: a retransmission.
        (("> A 101 501 20", "> A 106 501 5", "< A 501 121 0"), ("S1", "ShADTa", 20, 0)),
        # Around what was sent.
        (("> A 106 501 5", "> A 101 501 20", "< A 501 121 0"), ("S1", "ShADa", 20, 0)),
        # A hole that overlapping pieces fill from both sides.
        (("> A 131 501 10", "> A 121 501 15", "> A 101 501 25", "< A 501 141 0"),
         ("S1", "ShADTa", 40, 0)),
        # A keep-alive: one byte from before.
        (("> A 101 501 10", "< A 501 111 0", "> A 110 501 1"), ("S1", "ShADaT", 10, 0)),
        # Before the connection's first byte.
        (("> A 91 501 10", "> A 101 501 10", "< A 501 111 0"), ("S1", "ShADTa", 10, 0)),
        # Far beyond any window, never acknowledged: it counts by its number, as in Zeek.
        (("> A 1000101 501 10", "> A 101 501 10", "< A 501 111 0"), ("S1", "ShADTa", 1_000_010, 0)),
        # A RST that the receiver would not believe ends it for Zeek, too, at its number.
        (("> A 101 501 10", "> R 5000 501 0", "> A 111 501 10"), ("RSTO", "ShADR", 4_899, 0)),
        # One whose checksum is wrong does not.
        (("> A 101 501 10", "> R 111 501 0 c", "> A 111 501 10"), ("S1", "ShADC", 20, 0)),
    ],
)  # fmt: skip
def test_segments_that_contradict_each_other(
    lines: tuple[str, ...], expected: tuple[str, str, int, int]
) -> None:
    assert one(*lines) == expected


def test_sequence_numbers_that_wrap_twice() -> None:
    lines, sent = [], 101
    for _ in range(9):  # 9 GiB of which the capture saw ten bytes each
        lines += [f"> A {sent} 501 10", f"< A 501 {(sent + 10) % (1 << 32)} 0"]
        sent += GIB
        lines.append(f"< A 501 {sent % (1 << 32)} 0")
    state, _, size, missed = one(*lines)
    assert (state, size) == ("S1", 9 * GIB)
    assert missed == 9 * (GIB - 10)


# --- datagrams -----------------------------------------------------------------------------


def test_time_to_live_is_not_looked_at() -> None:
    """A packet that dies on its way is believed, as by Zeek; a bad checksum is not."""
    rst = wire.ip4(wire.tcp(flags=4, seq=100, ack=0), 6)
    last = bytearray(rst)
    last[8] = 1
    last[10:12] = b"\0\0"
    last[10:12] = (internet_sum(bytes(last[:20])) ^ 0xFFFF).to_bytes(2, "big")
    records = told(*session(wire.ether(bytes(last))))
    assert records.history.tolist() == [b"ShAR"]
    records = told(*session(wire.ether(rst[:34] + b"\xff" + rst[35:])))
    assert records.history.tolist() == [b"ShAC"]


def fragments(segment: bytes, cut: int) -> list[bytes]:
    """A segment in two IPv4 fragments, the first of `cut` bytes."""
    parts = (segment[:cut], 0x2000), (segment[cut:], cut >> 3)
    return [wire.ether(wire.ip4(body, 6, part=part, ident=9)) for body, part in parts]


def test_a_header_split_over_fragments_is_read() -> None:
    """Eight bytes hold the ports but no flags; a filter that looks at the first sees no SYN."""
    syn = wire.tcp(flags=2, seq=99, ack=0)
    for pieces in (fragments(syn, 8), fragments(syn, 8)[::-1]):
        records = told(*pieces)
        assert records.history.tolist() == [b"S"]
        assert records.resp_p.tolist() == [443]


def test_a_later_fragment_cannot_rewrite_the_header() -> None:
    """The bytes that came first stay, as with Zeek: another port behind them is not believed."""
    syn = wire.tcp(flags=2, seq=99, ack=0)
    first, rest = fragments(syn, 16)
    liar = wire.ether(wire.ip4(wire.tcp(dport=23, flags=2, seq=99)[:8], 6, part=0x2000, ident=9))
    records = told(first, liar, rest)
    assert records.resp_p.tolist() == [443]
    assert records.history.tolist() == [b"S"]


def test_fragments_of_other_datagrams_do_not_mix() -> None:
    """The same number from another sender, or for another protocol, is another datagram."""
    syn = wire.tcp(flags=2, seq=99, ack=0)
    first, rest = fragments(syn, 8)
    other = wire.ether(wire.ip4(bytes(16), 17, part=1, ident=9))
    foreign = wire.ether(wire.ip4(bytes(16), 6, bytes([192, 168, 1, 77]), part=1, ident=9))
    records = told(first, other, foreign, rest)
    assert records.history.tolist() == [b"S"]


# --- the table -----------------------------------------------------------------------------


def test_nobody_knows_how_keys_are_hashed() -> None:
    """Two tables of one seed hash by different words, and yet tell the same, uids and all."""
    packets = story(*OPEN, "> A 101 501 10", "< A 501 111 20")
    one_, two = ConnTable(Lan(), seed=7), ConnTable(Lan(), seed=7)
    assert not np.array_equal(one_._words, two._words)
    for a, b in zip(feed(packets, table=one_), feed(packets, table=two), strict=True):
        same(a, b)


def test_keys_made_to_collide_elsewhere_cost_nothing_here() -> None:
    """Keys whose hashes by known words all name one cell lie apart in a table."""
    known = keys.seeds(0)
    packets = [
        Packet(k, f"10.{k >> 16}.{k >> 8 & 255}.{k & 255}", 1_000, "192.168.1.2", 80, flags=ACK)
        for k in range(60_000)
    ]
    made = decoded(packets).packets
    chosen = np.flatnonzero(keys.of(made, known).hash & np.uint64(63) == 0)
    assert len(chosen) > 600
    table = ConnTable(Lan())
    begun = time.process_time()
    records, _ = feed([packets[k] for k in chosen.tolist()], table=table)
    assert len(records) == len(chosen)
    assert time.process_time() - begun < 5
    spread = keys.of(made.take(chosen), table._words).hash & np.uint64(63)
    assert len(np.unique(spread)) > 50


def test_addresses_that_are_no_numbers() -> None:
    """Halves of IPv6 addresses that, taken as floats, are signalling NaNs, stay what they are."""
    a, b = "7ff0::1", "fff0::1:7ff4:0:0:2"
    packets = [Packet(k, a, 5_000 + k, b, 9, 17, payload=b"x") for k in range(40)]
    packets += [Packet(NS + k, b, 9, a, 5_000 + k, 17, payload=b"y") for k in range(40)]
    records, _ = feed(packets)
    assert set(texts(records.orig)) == {a}
    assert set(texts(records.resp)) == {b}
    assert records.history.tolist() == [b"Dd"] * 40

"""TCP's states, letters and byte counts, each on a story that a person can follow."""

from __future__ import annotations

from dataclasses import replace

import pytest

from guardian.addresses import Lan
from guardian.conns import ConnTable
from guardian.const import NS
from guardian.tables import CONN_STATES
from tests.packets import ACK, FIN, RST, SYN, Packet, decoded
from tests.test_conns import feed

A, B = "192.168.1.2", "93.184.216.34"
MS = NS // 1_000
_FLAGS = {"S": SYN, "H": SYN | ACK, "A": ACK, "F": FIN | ACK, "R": RST | ACK, "r": RST}


def story(*lines: str, server: int = 80) -> list[Packet]:
    """Return packets from lines `> S 100 0 0`: direction, kind, seq, ack, payload bytes; then
    perhaps `w` (window zero), `c` (bad checksum) or a time in ms as `@500`."""
    packets, time = [], 0
    for line in lines:
        way, kind, seq, ack, size, *rest = line.split()
        time += 10
        for word in rest:
            if word.startswith("@"):
                time = int(word[1:])
        ends = (A, 4_000, B, server) if way == ">" else (B, server, A, 4_000)
        packet = Packet(time * MS, *ends, flags=_FLAGS[kind], seq=int(seq) % (1 << 32))
        packets.append(
            replace(
                packet,
                ack=int(ack),
                payload=b"x" * int(size),
                window=0 if "w" in rest else 1_000,
                bad="c" in rest,
            )
        )
    return packets


OPEN = ("> S 100 0 0", "< H 500 101 0", "> A 101 501 0")
CASES = {
    "whole": ((*OPEN, "> A 101 501 10", "< A 501 111 20", "> F 111 521 0", "< F 521 112 0",
               "> A 112 522 0"), "SF", "ShADdFf", 10, 20, 0),
    "no answer": (("> S 100 0 0",), "S0", "S", -1, -1, 0),
    "refused": (("> S 100 0 0", "< R 0 101 0"), "REJ", "Sr", 0, 0, 0),
    "left open": ((*OPEN, "> A 101 501 5"), "S1", "ShAD", 5, 0, 0),
    "half closed": ((*OPEN, "> F 101 501 0", "< A 501 102 0"), "S2", "ShAFa", 0, 0, 0),
    "closed by the responder": ((*OPEN, "< F 501 101 0", "> A 101 502 0"), "S3", "ShAf", 0, 0, 0),
    "aborted": ((*OPEN, "> A 101 501 5", "> R 106 501 0"), "RSTO", "ShADR", 5, 0, 0),
    "aborted by the responder": ((*OPEN, "< R 501 101 0"), "RSTR", "ShAr", 0, 0, 0),
    "given up": (("> S 100 0 0", "> r 101 0 0"), "RSTOS0", "SR", 0, 0, 0),
    "half-open scan": (("> S 100 0 0", "> F 101 0 0"), "SH", "SF", 0, 0, 0),
    "no SYN, responder closes": (("< H 500 101 0", "< F 501 101 0"), "SHR", "^hf", 0, 0, 0),
    "no SYN, responder aborts": (("< H 500 101 0", "< R 501 101 0"), "RSTRH", "^hr", 0, 0, 0),
    "midstream": (("> A 101 501 5", "< A 501 106 7"), "OTH", "Dd", 5, 7, 0),
    "a gap": ((*OPEN, "> A 101 501 10", "> A 211 501 10", "< A 501 221 0"), "S1", "ShADaG", 120, 0,
              100),
    "out of order is no gap": ((*OPEN, "> A 111 501 10", "> A 101 501 10", "< A 501 121 0"), "S1",
                               "ShADTa", 20, 0, 0),
    "sent again": ((*OPEN, *["> A 101 501 10"] * 12), "S1", "ShADTT", 10, 0, 0),
    "zero windows": ((*OPEN, *["< A 501 101 0 w"] * 11), "S1", "ShAaww", 0, 0, 0),
    "bad checksums do not count": ((*OPEN, "> A 101 501 10 c"), "S1", "ShAC", 0, 0, 0),
    "wraps": (("> S 4294967290 0 0", "< H 500 4294967291 0", "> A 4294967291 501 100",
               "< A 501 95 0"), "S1", "ShDa", 100, 0, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_story(name: str) -> None:
    lines, state, history, sent, received, missed = CASES[name]
    records, slices = feed(story(*lines))
    assert len(records) == len(slices) == 1
    assert CONN_STATES[records.conn_state[0]] == state
    assert records.history[0].decode() == history
    assert (records.orig_bytes[0], records.resp_bytes[0]) == (sent, received)
    assert records.missed_bytes[0] == missed


def test_a_close_waits_five_seconds_for_stragglers() -> None:
    whole = CASES["whole"][0]
    table = ConnTable(Lan())
    table.step(decoded(story(*whole)))
    records = table.step(decoded([], 60 * NS)).records
    assert records.told[0] - records.ts[0] == 5 * NS + 60 * MS  # since the second FIN
    late = story(*whole, "> A 112 522 0 @5200")
    assert len(feed(late)[0]) == 2
    assert feed(late)[0].orig_pkts.tolist() == [5, 1]


def test_a_new_syn_begins_a_new_connection() -> None:
    again = ("> S 9000 0 0 @400", "< H 7000 9001 0")
    records, slices = feed(story(*CASES["whole"][0], *again))
    assert [h.decode() for h in records.history] == ["ShADdFf", "Sh"]
    assert len(set(records.uid.tolist())) == 2
    assert records.told[0] == records.ts[0] + 390 * MS + 1
    assert slices.final.tolist() == [True, True]


def test_the_last_packet_after_both_fins_does_not_lengthen() -> None:
    records, _ = feed(story(*CASES["whole"][0]))
    assert records.duration[0] == pytest.approx(0.06)
    assert records.orig_pkts[0] == 5


def test_a_flip_in_midstream_keeps_what_was_told() -> None:
    """An answer from a server's port: the roles are turned from the first packet on."""
    records, _ = feed(story("< A 501 101 50", "> A 101 551 5"))
    assert records.orig_p.tolist() == [4_000]
    assert records.history[0] == b"^dD"
    assert (records.orig_bytes[0], records.resp_bytes[0]) == (5, 50)


def test_a_syn_ack_that_overtook_the_syn() -> None:
    """Where the port does not tell, the SYN does: the roles are turned when it comes."""
    records, slices = feed(
        story("< H 500 101 0", "> S 100 0 0", "> A 101 501 3", "< A 501 104 9", server=4_001)
    )
    assert records.orig_p.tolist() == [4_000]
    assert CONN_STATES[records.conn_state[0]] == "S1"
    assert records.history[0] == b"Hs^Dd"
    assert (records.orig_bytes[0], records.resp_bytes[0]) == (3, 9)
    assert (records.orig_pkts[0], records.resp_pkts[0]) == (2, 2)
    assert slices.orig_p.tolist() == [4_000]


def test_only_bad_checksums_make_a_record_that_counts_nothing() -> None:
    records, slices = feed(story("> A 100 5 0 c", "> A 100 5 9 c"))
    assert records.history.tolist() == [b"C"]
    assert (records.orig_pkts[0], records.orig_bytes[0]) == (0, -1)
    assert CONN_STATES[records.conn_state[0]] == "OTH"
    assert not len(slices)


def test_payload_that_was_not_captured() -> None:
    """A file cut short misses bytes, as Zeek has it; a short live capture misses nothing."""
    packets = story(*OPEN, "> A 101 501 100", "< A 501 201 0")
    packets[3] = replace(packets[3], cut=60)
    for cut_is_gap, missed, history in ((True, 100, b"ShADaG"), (False, 0, b"ShADa")):
        records, _ = feed(packets, table=ConnTable(Lan(), cut_is_gap=cut_is_gap))
        assert records.missed_bytes.tolist() == [missed]
        assert records.history.tolist() == [history]
        assert records.orig_bytes.tolist() == [100]

"""ConnTable: the same records and slices whatever the cut, the caps, the flood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian import conns as conns_module
from guardian import keys
from guardian.addresses import Lan, texts
from guardian.capture import read_frames
from guardian.conns import ConnTable
from guardian.const import NS
from guardian.decode import Decoder
from guardian.errors import InputError
from guardian.tables import CONN_STATES, U64, Conns, Packets
from guardian.tunnels import IP_TUNNEL
from tests.packets import START, SYN, Packet, decoded, traffic
from tests.twins.conns import Twin

LAN = Lan()


def feed(
    packets: Sequence[Packet],
    cuts: Sequence[int] = (),
    ticks: bool = False,
    table: ConnTable | None = None,
) -> tuple[Conns, Conns]:
    """Run packets through a table, cut at the given places; with ticks in between."""
    table = table or ConnTable(LAN)
    records, slices = [], []
    bounds = [0, *sorted(cuts), len(packets)]
    for begin, end in pairwise(bounds):
        told = table.step(decoded(packets[begin:end]))
        records.append(told.records)
        slices.append(told.slices)
        if ticks and 0 < end < len(packets):
            gap = packets[end].time - packets[end - 1].time
            for part in (gap // 2, gap):
                told = table.step(decoded([], packets[end - 1].time + part))
                records.append(told.records)
                slices.append(told.slices)
    told = table.finish()
    assert table.live == 0
    return Conns.concat([*records, told.records]), Conns.concat([*slices, told.slices])


def same(a: Conns, b: Conns) -> None:
    """Assert that two tables are equal in every column."""
    assert len(a) == len(b)
    for field in fields(Conns):
        x, y = getattr(a, field.name), getattr(b, field.name)
        assert x.dtype == y.dtype, field.name
        assert np.array_equal(x, y), (field.name, x[x != y], y[x != y])


@settings(max_examples=50)
@given(st.integers(0, 1 << 30), st.data())
def test_any_cut_gives_the_same(seed: int, data: st.DataObject) -> None:
    packets = traffic(seed)
    whole = feed(packets)
    cuts = data.draw(st.lists(st.integers(0, len(packets)), max_size=8))
    ticks = data.draw(st.booleans())
    cut = feed(packets, cuts, ticks)
    same(whole[0], cut[0])
    same(whole[1], cut[1])
    single = feed(packets, range(1, len(packets)), ticks)
    same(whole[0], single[0])
    same(whole[1], single[1])


def as_rows(table: Conns) -> list[tuple[object, ...]]:
    """Return a table as comparable rows, without what only the fast side has: uid, MAC, tunnel."""
    columns: dict[str, list[object]] = {
        field.name: getattr(table, field.name).tolist()
        for field in fields(Conns)
        if field.name not in {"uid", "orig_mac", "resp_mac", "tunnel_parents"}
    }
    columns["orig"], columns["resp"] = list(texts(table.orig)), list(texts(table.resp))
    columns["conn_state"] = [CONN_STATES[state] for state in table.conn_state.tolist()]
    names = sorted(columns)
    return sorted(zip(*(columns[name] for name in names), strict=True), key=repr)


@settings(max_examples=150)
@given(st.integers(0, 1 << 40))
def test_twin(seed: int) -> None:
    packets = traffic(seed)
    ours = feed(packets, [len(packets) // 2])
    theirs = Twin().run(packets)
    for table, rows in zip(ours, theirs, strict=True):
        expected = sorted((tuple(row[name] for name in sorted(row)) for row in rows), key=repr)
        assert as_rows(table) == expected


def syn(time: int, n: int, sport: int = 40_000) -> Packet:
    return Packet(time, "192.168.1.9", sport, f"93.184.{n >> 8}.{n & 255}", 23, flags=SYN, seq=n)


def test_slices_follow_the_clock() -> None:
    """Boundaries at 5 s and then every 60 s; one without packets is not told."""
    times = [0, 1, 6, 64, 65, 200]
    packets = [
        Packet(t * NS, "192.168.1.2", 40_000, "93.184.216.34", 9, 17, payload=b"x" * (i + 1))
        for i, t in enumerate(times[:4])
    ]
    table = ConnTable(LAN)
    assert not len(table.step(decoded(packets[:2])).slices)
    assert not len(table.step(decoded([], 4 * NS)).slices)
    first = table.step(decoded([], 5 * NS)).slices
    assert first.told.tolist() == [START + 5 * NS]
    assert (first.piece[0], first.final[0], first.orig_pkts[0], first.orig_bytes[0]) == (0, 0, 2, 3)
    assert (first.duration[0], first.age[0]) == (1.0, 1.0)
    second = table.step(decoded(packets[2:], 66 * NS)).slices
    assert second.told.tolist() == [START + 65 * NS]
    assert (second.piece[0], second.orig_pkts[0], second.orig_bytes[0]) == (1, 2, 7)
    assert (second.duration[0], second.age[0]) == (58.0, 64.0)
    over = table.step(decoded([], 125 * NS))
    assert not len(over.slices)  # nothing happened after the last slice
    assert over.records.told.tolist() == [START + 124 * NS]
    assert (over.records.orig_pkts[0], over.records.duration[0]) == (4, 64.0)


def test_short_connection_is_one_slice_equal_to_its_record() -> None:
    packets = [
        Packet(0, "192.168.1.2", 40_000, "93.184.216.34", 53, 17, payload=b"x" * 30),
        Packet(NS, "93.184.216.34", 53, "192.168.1.2", 40_000, 17, payload=b"y" * 50),
    ]
    records, slices = feed(packets)
    for name in ("uid", "duration", "orig_bytes", "resp_bytes", "orig_pkts", "history", "piece"):
        assert getattr(records, name).tolist() == getattr(slices, name).tolist()
    assert records.conn_state.tolist() == [CONN_STATES.index("SF")]


def test_amounts_of_slices_add_up_to_the_record() -> None:
    for seed in range(200):
        records, slices = feed(traffic(seed))
        for name in ("orig_pkts", "resp_pkts", "orig_ip_bytes", "resp_ip_bytes", "missed_bytes"):
            assert getattr(records, name).sum() == getattr(slices, name).sum() or (
                b"^" in b"".join(records.history.tolist())  # a flip moves what was told
            )


def test_uids_are_repeatable_and_differ() -> None:
    packets = [syn(i, i) for i in range(500)]
    first, again = feed(packets)[0], feed(packets)[0]
    same(first, again)
    assert len(set(first.uid.tolist())) == 500
    other = feed(packets, table=ConnTable(LAN, seed=7))[0]
    assert not set(first.uid.tolist()) & set(other.uid.tolist())
    assert all(len(uid) == 18 and uid[:1] == b"C" and uid.isalnum() for uid in first.uid.tolist())


def test_a_full_table_evicts_what_got_no_answer_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conns_module, "EVICT_EVERY", 64)
    talk = [
        Packet(1, "192.168.1.2", 40_000, "93.184.216.34", 9, 17, payload=b"q"),
        Packet(2, "93.184.216.34", 9, "192.168.1.2", 40_000, 17, payload=b"a"),
    ]
    flood = [syn(1_000 + i, i, 20_000 + i) for i in range(1_000)]
    packets = [*talk, *flood]
    table = ConnTable(LAN, capacity=100)
    records, slices = feed(packets, range(0, len(packets), 37), table=table)
    assert len(records) == len(slices) == 1_001
    assert table.evicted == 1_001 - 100 - len(packets) % 64
    quiet = records.take(records.proto == 17)
    assert quiet.conn_state.tolist() == [CONN_STATES.index("SF")]
    assert quiet.told[0] == records.told.max()  # it stayed to the end
    whole = feed(packets, table=ConnTable(LAN, capacity=100))
    same(records, whole[0])
    same(slices, whole[1])


def test_colliding_keys_do_not_merge(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a hash of four values keys collide: the table takes other words until none do."""
    packets = traffic(5) + [syn(10**12 + i, i) for i in range(50)]
    expected = feed(packets)
    plain = keys.of
    made: list[keys.Keys] = []

    def of(packets: Packets, words: U64) -> keys.Keys:
        made.append(plain(packets, words))
        weak = made[-1].hash & np.uint64(3)
        return made[-1] if len(made) > 3 else replace(made[-1], hash=weak)

    monkeypatch.setattr(keys, "of", of)
    got = feed(packets)
    assert len(made) > 3
    same(expected[0], got[0])
    same(expected[1], got[1])


def test_rehash_keeps_what_lives() -> None:
    packets = traffic(11, 12)
    expected = feed(packets)
    table = ConnTable(LAN)
    records, slices = [], []
    for packet in packets:
        told = table.step(decoded([packet]))
        records.append(told.records)
        slices.append(told.slices)
        table._rehash()
    told = table.finish()
    same(expected[0], Conns.concat([*records, told.records]))
    same(expected[1], Conns.concat([*slices, told.slices]))


def test_icmp_pairs_and_one_way_messages() -> None:
    a, b = "192.168.1.2", "192.168.1.3"
    packets = [
        Packet(0, a, 8, b, 0, 1, payload=b"x" * 56),
        Packet(NS, b, 0, a, 0, 1, payload=b"x" * 56),
        Packet(2 * NS, b, 3, a, 1, 1, payload=b"e" * 28),
        Packet(3 * NS, a, 3, b, 1, 1, payload=b"e" * 28),
    ]
    records, _ = feed(packets)
    columns = (records.orig_p, records.resp_p, texts(records.orig), records.orig_bytes,
               records.resp_pkts)  # fmt: skip
    rows = sorted(zip(*(list(column) for column in columns), strict=True))
    assert rows == [(3, 1, a, -1, 0), (3, 1, b, -1, 0), (8, 0, a, 56, 1)]
    assert set(records.history.tolist()) == {b""}


def test_an_empty_table_ticks() -> None:
    told = ConnTable(LAN).step(decoded([], 0))
    assert len(told.records) == len(told.slices) == 0
    assert len(ConnTable(LAN).finish().records) == 0


def test_clock_that_jumps_back_loses_nothing() -> None:
    packets = [syn(10 * NS, 1), syn(0, 2), syn(3 * NS, 3)]
    records, slices = feed(packets)
    assert len(records) == len(slices) == 3
    assert (np.diff(records.told) >= 0).all()


@settings(max_examples=100)
@given(st.integers(0, 1 << 30))
def test_random_columns_raise_nothing(seed: int) -> None:
    """Packets that contradict themselves in every column."""
    rng = np.random.default_rng(seed)
    n = 60
    batch = decoded(traffic(seed, 2)[:n] or [syn(0, 1)])
    p = batch.packets
    n = len(p)
    for column, top in (("flags", 256), ("seq", 1 << 32), ("ack", 1 << 32), ("window", 3)):
        getattr(p, column)[:] = rng.integers(0, top, n)
    p.proto[:] = rng.choice([6, 17, 1, 58, 0, 255], n)
    p.payload_len[:] = rng.integers(0, 70_000, n)
    p.payload_cap[:] = 0
    p.ts[:] = START + rng.integers(-(10**12), 10**12, n)
    table = ConnTable(LAN, capacity=8)
    records = [table.step(replace(batch, now=int(p.ts.max()))).records, table.finish().records]
    assert sum(len(part) for part in records) >= 1


def test_missing_end_of_a_handshake_is_told_in_five_seconds() -> None:
    records, slices = feed([syn(0, 1), syn(NS, 1), syn(7 * NS, 1)])
    assert records.told.tolist() == [START + 5 * NS, START + 7 * NS]
    assert records.conn_state.tolist() == [CONN_STATES.index("S0")] * 2
    assert records.history.tolist() == [b"S", b"S"]
    assert slices.final.tolist() == [True, True]


@pytest.mark.slow
def test_real_captures_in_two_cuts(data: Path) -> None:
    """Every capture there is: both cuts agree, the rows are in order, no packet is lost."""
    paths = [p for p in sorted(data.rglob("*")) if p.suffix in {".pcap", ".pcapng"}]
    assert len(paths) > 300
    for path in paths:
        results = []
        for batch in (16_384, 211):
            table, decoder, good = ConnTable(LAN), Decoder(), 0
            told = []
            try:
                for frames in read_frames(path, batch):
                    made = decoder.decode(frames)
                    belong = made.packets.carries != IP_TUNNEL
                    good += int((~made.packets.bad_csum & belong).sum())
                    told.append(table.step(made))
            except InputError:
                pass  # a capture cut short: what came before counts
            told.append(table.finish())
            records = Conns.concat([part.records for part in told])
            assert (records.orig_pkts + records.resp_pkts).sum() == good, path
            assert (np.diff(records.told) >= 0).all(), path
            results.append((records, Conns.concat([part.slices for part in told])))
        same(results[0][0], results[1][0])
        same(results[0][1], results[1][1])


@settings(max_examples=15)
@given(st.integers(0, 1 << 30), st.integers(1, 8))
def test_any_cut_gives_the_same_where_the_table_is_full(seed: int, capacity: int) -> None:
    packets = traffic(seed, 8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conns_module, "EVICT_EVERY", 8)
        tables = [ConnTable(LAN, capacity=capacity) for _ in range(3)]
        whole = feed(packets, table=tables[0])
        single = feed(packets, range(1, len(packets)), ticks=True, table=tables[1])
        odd = feed(packets, range(5, len(packets), 13), table=tables[2])
    for other in (single, odd):
        same(whole[0], other[0])
        same(whole[1], other[1])
    assert len({table.evicted for table in tables}) == 1


def test_a_late_packet_gets_a_uid_of_its_own() -> None:
    """It may bear the very time of a connection on its key that is over."""
    first = Packet(0, "192.168.1.9", 40_000, "93.184.216.34", 9_999, proto=17, payload=b"x")
    other = Packet(100 * NS, "192.168.1.8", 40_000, "93.184.216.34", 9_999, proto=17)
    records, _ = feed([first, other, first, other, first])
    assert len(records) == 3
    again, _ = feed([first, replace(first, time=100 * NS), first])
    assert len(set(records.uid.tolist())) == 3
    assert len(set(again.uid.tolist())) == len(again) == 2


@given(st.lists(st.integers(0, 1 << 14) | st.integers((1 << 64) - 50, (1 << 64) - 1), max_size=40))
def test_sort_is_stable(hashes: list[int]) -> None:
    """Also where hashes differ only in the bits that the place is written over."""
    given_ = np.array(hashes, dtype=np.uint64)
    assert np.array_equal(keys.sort(given_), np.argsort(given_, kind="stable"))


@pytest.mark.parametrize("seed", range(6))
def test_after_a_step_nothing_is_left_due(seed: int) -> None:
    """Blocks of rows that are not looked at hold nothing that was over or due."""
    packets = traffic(seed, 40)
    table = ConnTable(LAN, capacity=600)
    for begin in range(0, len(packets), 7):
        part = packets[begin : begin + 7]
        now = part[-1].time + (begin % 5) * NS
        table.step(decoded(part, now))
        store = table._store
        assert store.due.min() > table._now
        assert store.deadline.min() > table._now
        assert (np.minimum(store.due, store.deadline).reshape(len(store._soonest), -1)
                >= store._soonest[:, None]).all()  # fmt: skip

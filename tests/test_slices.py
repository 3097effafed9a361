"""Slices cut from log records: the sums are exact, the rest is a fair guess."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian import slices, zeeklog
from guardian.const import MAX_SLICES_PER_RECORD, NS
from guardian.tables import CONN_STATES, Conns

AMOUNTS = (
    "orig_bytes", "resp_bytes", "missed_bytes", "orig_pkts", "orig_ip_bytes", "resp_pkts",
    "resp_ip_bytes",
)  # fmt: skip
T0 = 1_600_000_000 * NS


def records(**columns: Any) -> Conns:
    """Records with the given columns (lists of equal length); the others as a log's defaults."""
    n = len(next(iter(columns.values())))
    conns = Conns.blank(n)
    conns.uid[:] = [f"C{i:05d}" for i in range(n)]
    conns.ts[:] = T0
    conns.proto[:] = 6
    conns.final[:] = True
    for name, values in columns.items():
        getattr(conns, name)[:] = values
    conns.age[:] = conns.duration
    conns.told[:] = conns.ts + np.rint(conns.duration * NS).astype(np.int64)
    return conns


def state(*names: str) -> list[int]:
    return [CONN_STATES.index(name) for name in names]


def check(conns: Conns) -> tuple[Conns, np.ndarray[Any, Any]]:
    """Cut records and check all that holds of any slices."""
    pieces, parent = slices.cut(conns)
    assert set(parent.tolist()) == set(range(len(conns)))
    keys = list(zip(pieces.told.tolist(), pieces.ts.tolist(), pieces.uid.tolist(), strict=True))
    assert keys == sorted(keys)
    for k in range(len(conns)):
        mine = pieces.take(parent == k)
        assert (mine.uid == conns.uid[k]).all()
        assert mine.piece.tolist() == list(range(len(mine)))
        assert mine.final.tolist() == [False] * (len(mine) - 1) + [True]
        assert (np.diff(mine.told) > 0).all()
        assert len(mine) <= MAX_SLICES_PER_RECORD
        for name in AMOUNTS:
            column = getattr(mine, name)
            whole = int(getattr(conns, name)[k])
            if whole < 0:
                assert (column == whole).all()
            else:
                assert (column >= 0).all()
                assert sum(column.tolist()) == whole
        packets = mine.orig_pkts + mine.resp_pkts
        assert (packets[1:] > 0).all()
        assert (mine.duration >= 0).all()
        assert (np.diff(mine.age) > -1e-6).all()
        # A single packet may claim a duration; then nothing says where it was.
        if conns.orig_pkts[k] + conns.resp_pkts[k] > 1:
            assert mine.age[-1] == pytest.approx(conns.duration[k])
        assert (mine.age <= conns.duration[k] * (1 + 1e-9)).all()
        assert (mine.told - mine.ts >= np.floor(mine.age * NS) - 1e4).all()
    return pieces, parent


def test_a_short_record_is_its_own_slice() -> None:
    conns = records(duration=[0, 0.1, 5], orig_pkts=[1, 3, 9], orig_bytes=[-1, 10, 20])
    pieces, parent = check(conns)
    assert parent.tolist() == [0, 1, 2]
    for name in ("duration", "age", "history", "conn_state", *AMOUNTS):
        assert np.array_equal(getattr(pieces, name), getattr(conns, name))


def test_a_long_record_is_cut_at_five_seconds_and_then_each_minute() -> None:
    conns = records(
        duration=[130.0], orig_pkts=[131], orig_ip_bytes=[13_100], orig_bytes=[1_310],
        resp_pkts=[131], resp_ip_bytes=[26_200], resp_bytes=[2_620], missed_bytes=[130],
        conn_state=state("SF"), history=[b"ShADadtFfR"], service=[b"ssl"],
    )  # fmt: skip
    pieces, _ = check(conns)
    assert ((pieces.told - T0) / NS).tolist() == [5, 65, 125, 135]
    # Five packets each way greet; the other 126 are spread evenly over 130 s, in twos.
    assert pieces.orig_pkts.tolist() == pieces.resp_pkts.tolist() == [5 + 4, 58, 58, 6]
    assert pieces.orig_bytes.tolist() == [90, 580, 580, 60]
    assert pieces.resp_ip_bytes.tolist() == [1_800, 11_600, 11_600, 1_200]
    assert [CONN_STATES[s] for s in pieces.conn_state] == ["S1", "S1", "S1", "SF"]
    assert pieces.history.tolist() == [b"ShADadt"] * 3 + [b"ShADadtFfR"]
    assert pieces.service.tolist() == [b"ssl"] * 4
    assert pieces.duration.tolist() == pytest.approx(
        [5 * 17 / 18, 60 * 115 / 116, 60 * 115 / 116, 5 * 11 / 12]
    )


def test_the_first_packet_comes_first_and_the_last_one_last() -> None:
    conns = records(duration=[3_600.0, 3_600.0, 3_600.0], orig_pkts=[2, 1, 0],
                    resp_pkts=[0, 1, 2], resp_bytes=[0, 9, 9])  # fmt: skip
    pieces, parent = check(conns)
    assert parent.tolist() == [0, 1, 2, 0, 1, 2]
    assert pieces.orig_pkts.tolist() == [1, 1, 0, 1, 0, 0]
    assert pieces.resp_pkts.tolist() == [0, 0, 1, 0, 1, 1]
    assert pieces.resp_bytes.tolist() == [0, 0, 4, 0, 9, 5]
    assert pieces.duration.tolist() == [0] * 6
    assert pieces.age.tolist() == [0] * 3 + [3_600] * 3


def test_only_tcp_closes_before_the_boundary() -> None:
    conns = records(duration=[6.0, 6.0, 6.0, 6.0], proto=[6, 6, 17, 6], orig_pkts=[9, 9, 9, 9],
                    conn_state=state("SF", "S1", "SF", "REJ"))  # fmt: skip
    pieces, parent = check(conns)
    ends = {k: int(t - T0) // NS for k, t in zip(parent.tolist(), pieces.told, strict=True)}
    assert ends == {0: 11, 1: 65, 2: 65, 3: 11}


def test_nothing_is_lost_where_no_packets_were_counted() -> None:
    conns = records(duration=[3_600.0, 3_600.0], orig_pkts=[0, 5], resp_pkts=[0, 0],
                    orig_bytes=[77, 10], resp_bytes=[88, 99])  # fmt: skip
    pieces, parent = check(conns)
    assert np.bincount(parent).tolist() == [1, 3]
    assert pieces.orig_pkts[parent == 1].tolist() == [2, 2, 1]
    assert pieces.resp_bytes[parent == 1].tolist() == [99, 0, 0]


def test_the_number_of_slices_is_capped_and_the_last_takes_the_rest() -> None:
    week, packets = 7 * 86_400.0, 7 * 86_400
    pieces, _ = check(records(duration=[week], orig_pkts=[packets], conn_state=state("SF")))
    assert len(pieces) == MAX_SLICES_PER_RECORD
    before = 5 + (packets - 5) * (5 + 60 * (MAX_SLICES_PER_RECORD - 2)) // packets
    assert pieces.orig_pkts[-1] == packets - before
    assert pieces.told[-1] == T0 + int(week) * NS


def test_absurd_records_stay_within_bounds() -> None:
    huge = 1 << 61
    conns = records(duration=[1e9, 1e-9, 5.000001], orig_pkts=[huge] * 3, orig_bytes=[huge] * 3)
    pieces, _ = check(conns)
    assert len(pieces) == MAX_SLICES_PER_RECORD + 1 + 2


def test_no_records_no_slices() -> None:
    pieces, parent = slices.cut(Conns.empty())
    assert len(pieces) == len(parent) == 0


def test_answers_come_with_their_questions() -> None:
    conns = records(duration=[3_600.0, 3_600.0], orig_pkts=[45, 30], resp_pkts=[30, 45])
    pieces, _ = check(conns)
    assert not ((pieces.orig_pkts == 0) | (pieces.resp_pkts == 0))[~pieces.final].any()


@st.composite
def some_records(draw: st.DrawFn) -> Conns:
    n = draw(st.integers(1, 6))
    amount = st.one_of(st.integers(-1, 40), st.integers(-1, 10**15))
    count = st.one_of(st.integers(0, 5), st.integers(0, 10**9))
    spans = st.one_of(
        st.sampled_from([0.0, 4.999999, 5.0, 5.000001, 64.9, 65.0, 65.1, 3_600.0, 90_000.0]),
        st.floats(0, 1_000),
    )

    def column(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=n, max_size=n))

    return records(
        duration=column(spans),
        ts=[T0 + t for t in column(st.integers(0, 100 * NS))],
        proto=column(st.sampled_from([6, 17, 1])),
        conn_state=column(st.integers(0, len(CONN_STATES) - 1)),
        history=column(st.sampled_from([b"", b"ShAdDaFf", b"SrR", b"Dd"])),
        orig_bytes=column(amount), resp_bytes=column(amount),
        missed_bytes=column(st.integers(0, 10**6)),
        orig_pkts=column(count), resp_pkts=column(count),
        orig_ip_bytes=column(st.integers(0, 10**15)), resp_ip_bytes=column(st.integers(0, 99)),
    )  # fmt: skip


@given(some_records())
@settings(max_examples=60)
def test_whatever_the_records_the_sums_are_exact(conns: Conns) -> None:
    check(conns)


def test_records_are_cut_alike_alone_and_among_others(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    conns = records(
        duration=rng.exponential(300, 200), orig_pkts=rng.integers(0, 900, 200),
        resp_pkts=rng.integers(0, 900, 200), orig_bytes=rng.integers(-1, 10**6, 200),
    )  # fmt: skip
    whole, parent = slices.cut(conns)
    monkeypatch.setattr(slices, "_CHUNK", 7)
    chunked, parent_too = slices.cut(conns)
    assert np.array_equal(parent, parent_too)
    for name in (*AMOUNTS, "told", "piece", "duration", "age"):
        assert np.array_equal(getattr(whole, name), getattr(chunked, name))


def test_real_logs(data: Path) -> None:
    for path in [*(data / "iot23").glob("*4-1*.csv"), *data.glob("stratosphere/001*/conn.log")]:
        check(Conns.concat([batch.conns for batch in zeeklog.read(path)]))

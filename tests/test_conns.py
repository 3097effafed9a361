"""ConnTable: the same records and slices whatever the cut, the caps, the flood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian.addresses import Lan, texts
from guardian.conns import ConnTable
from guardian.tables import CONN_STATES, Conns
from tests.packets import Packet, decoded, traffic
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


@settings(max_examples=150)
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
    """Return a table as comparable rows, without what only the fast side has (uid, MACs)."""
    columns: dict[str, list[object]] = {
        field.name: getattr(table, field.name).tolist()
        for field in fields(Conns)
        if field.name not in {"uid", "orig_mac", "resp_mac"}
    }
    columns["orig"], columns["resp"] = list(texts(table.orig)), list(texts(table.resp))
    columns["conn_state"] = [CONN_STATES[state] for state in table.conn_state.tolist()]
    names = sorted(columns)
    return sorted(zip(*(columns[name] for name in names), strict=True), key=repr)


@settings(max_examples=300)
@given(st.integers(0, 1 << 40))
def test_twin(seed: int) -> None:
    packets = traffic(seed)
    ours = feed(packets, [len(packets) // 2])
    theirs = Twin().run(packets)
    for table, rows in zip(ours, theirs, strict=True):
        expected = sorted((tuple(row[name] for name in sorted(row)) for row in rows), key=repr)
        assert as_rows(table) == expected

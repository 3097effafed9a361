"""Rounds by column say what the events say one by one: on made traffic and on real captures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian import capture, rounds, singles, stateless
from guardian.addresses import Lan
from guardian.conns import ConnTable
from guardian.decode import Decoder
from guardian.tables import Bool, Conns
from tests import bench_captures, bench_pcap
from tests.packets import traffic
from tests.test_conns import feed, same

NEVER, ALWAYS = 1 << 40, 1
CAPTURES = ("zeek-parity", "iot-sentinel")
LARGEST, MOST = 400_000, 40


@contextmanager
def least_rows(number: int) -> Iterator[None]:
    """Go round from so many rows on."""
    before = rounds.LEAST_ROWS, stateless.LEAST, singles.LEAST
    rounds.LEAST_ROWS = stateless.LEAST = singles.LEAST = number
    try:
        yield
    finally:
        rounds.LEAST_ROWS, stateless.LEAST, singles.LEAST = before


def through(*paths: Path) -> tuple[Conns, Conns]:
    table, decoder = ConnTable(Lan()), Decoder()
    told = [
        table.step(decoder.decode(frames)) for path in paths for frames in capture.read_frames(path)
    ]
    told.append(table.finish())
    return Conns.concat([t.records for t in told]), Conns.concat([t.slices for t in told])


@settings(max_examples=120)
@given(st.integers(0, 1 << 40), st.integers(1, 12), st.data())
def test_made_traffic(seed: int, conversations: int, data: st.DataObject) -> None:
    packets = traffic(seed, conversations)
    cuts = data.draw(st.lists(st.integers(0, len(packets)), max_size=3))
    with least_rows(ALWAYS):
        by_column = feed(packets, cuts)
    with least_rows(NEVER):
        one_by_one = feed(packets, cuts)
    for a, b in zip(by_column, one_by_one, strict=True):
        same(a, b)


def test_a_busy_capture(tmp_path: Path) -> None:
    """Handshakes, closes and refusals by the hundred, which the rounds must really take."""
    path = tmp_path / "mixed.pcap"
    bench_pcap.write(path, bench_captures.mixed(packets=30_000, conns=1_500, seconds=60, seed=3))
    with least_rows(NEVER):
        one_by_one = through(path)
    by_column = through(path)
    for a, b in zip(by_column, one_by_one, strict=True):
        same(a, b)
    states, counts = np.unique(by_column[0].conn_state, return_counts=True)
    assert len(states) >= 5
    assert counts.sum() == len(by_column[0])


def test_a_packet_or_two_of_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data of many connections at random, which are really taken one by one by column."""
    plan, parts = bench_captures.grown(3_000, packets=4_000)
    paths = [tmp_path / f"{k}.pcap" for k in range(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        bench_pcap.write(path, plan, part)
    with least_rows(NEVER):
        one_by_one = through(*paths)
    taken = []
    take = singles._take

    def counted(*given: Any) -> Bool:
        took = take(*given)
        taken.append(int(took.sum()))
        return took

    monkeypatch.setattr(singles, "_take", counted)
    by_column = through(*paths)
    for a, b in zip(by_column, one_by_one, strict=True):
        same(a, b)
    assert sum(taken) > 3_000


@pytest.mark.parametrize("folder", CAPTURES)
def test_real_captures(data: Path, folder: str) -> None:
    found = sorted(path for path in (data / folder).rglob("*.pcap*") if path.is_file())
    paths = [path for path in found if path.stat().st_size < LARGEST]
    assert paths
    for path in paths[:: max(1, len(paths) // MOST)]:
        with least_rows(ALWAYS):
            by_column = through(path)
        with least_rows(NEVER):
            one_by_one = through(path)
        for a, b in zip(by_column, one_by_one, strict=True):
            same(a, b)

"""Sequences: the last T rows of each device, however the rows are cut into steps."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian.sequences import SequenceTable
from guardian.tables import F32, FeatureRows, Sequences

FEATURES = 3


def rows(devices: list[int], start: int = 0) -> FeatureRows:
    """Rows whose features name them: no two are alike."""
    n = len(devices)
    number = np.arange(start + 1, start + n + 1, dtype=np.float32)
    x = number[:, None] + np.array([0, 0.25, 0.5], dtype=np.float32)
    return FeatureRows(x, np.array(devices, dtype=np.int32), np.arange(n, dtype=np.int64),
                       np.arange(n) % 2 == 0)  # fmt: skip


def twin(table: FeatureRows, window: int) -> list[tuple[F32, int]]:
    """Return each row's sequence and length, by looking back over the whole list."""
    out = []
    for k in range(len(table)):
        mine = [i for i in range(k + 1) if table.device[i] == table.device[k]][-window:]
        x = np.zeros((window, table.x.shape[1]), dtype=np.float32)
        x[window - len(mine) :] = table.x[mine]
        out.append((x, len(mine)))
    return out


def assert_twin(found: Sequences, table: FeatureRows, window: int) -> None:
    assert len(found) == len(table)
    for k, (x, length) in enumerate(twin(table, window)):
        assert np.array_equal(found.x[k], x)
        assert found.length[k] == length
    for name in ("device", "row", "outbound"):
        assert np.array_equal(getattr(found, name), getattr(table, name))


lists = st.lists(st.integers(0, 4), max_size=60)


@given(lists, st.integers(1, 6))
@settings(max_examples=80)
def test_equal_to_the_twin(devices: list[int], window: int) -> None:
    table = rows(devices)
    assert_twin(SequenceTable(window, FEATURES).step(table), table, window)


@given(lists, st.lists(st.integers(0, 60), max_size=4), st.integers(1, 6))
@settings(max_examples=80)
def test_the_cut_into_steps_changes_nothing(
    devices: list[int], cuts: list[int], window: int
) -> None:
    table, sequences = rows(devices), SequenceTable(window, FEATURES)
    bounds = [0, *sorted(min(c, len(devices)) for c in cuts), len(devices)]
    parts = [sequences.step(table.take(slice(a, b))) for a, b in pairwise(bounds)]
    assert_twin(Sequences.concat(parts), table, window)


@given(lists, st.integers(1, 9))
@settings(max_examples=40)
def test_chunks_are_the_same_sequences(devices: list[int], chunk: int) -> None:
    table = rows(devices)
    parts = list(SequenceTable(4, FEATURES).steps(table, chunk))
    assert all(len(part) <= chunk for part in parts)
    if devices:
        assert_twin(Sequences.concat(parts), table, 4)
    else:
        assert parts == []


def test_no_rows_no_sequences() -> None:
    found = SequenceTable(5, FEATURES).step(rows([]))
    assert found.x.shape == (0, 5, FEATURES)
    assert found.x.dtype == np.float32


def test_a_forgotten_device_begins_anew() -> None:
    table = SequenceTable(3, FEATURES)
    table.step(rows([7, 7, 2]))
    table.evict(7)
    table.evict(1_000_000)
    found = table.step(rows([7, 2], start=100))
    assert found.length.tolist() == [1, 2]
    assert not found.x[0, :2].any()
    assert found.x[1, 1, 0] == 3


def test_what_was_handed_out_does_not_change() -> None:
    table = SequenceTable(3, FEATURES)
    first = table.step(rows([0, 0]))
    before = first.x.copy()
    first.x[:] = -1
    second = table.step(rows([0], start=50))
    assert np.array_equal(second.x[0, :2, 0], before[1, 1:, 0])


def test_a_flood_takes_no_more_than_its_rows() -> None:
    table = SequenceTable(12, FEATURES)
    n = 50_000
    devices = [0] * n
    found = table.step(rows(devices))
    assert found.x.nbytes == n * 12 * FEATURES * 4
    assert found.length.tolist()[:13] == [*range(1, 13), 12]
    assert np.array_equal(found.x[-1, :, 0], np.arange(n - 11, n + 1, dtype=np.float32))


def test_high_indexes_grow_the_table() -> None:
    table = SequenceTable(2, FEATURES)
    table.step(rows([0]))
    table.step(rows([4_095], start=10))
    found = table.step(rows([0, 4_095], start=20))
    assert found.x[:, 0, 0].tolist() == [1, 11]


def test_a_window_has_a_step() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        SequenceTable(0, FEATURES)

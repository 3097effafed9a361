"""The hash index of the connection table against a dict."""

from __future__ import annotations

import numpy as np
import pytest

from guardian.slotindex import SlotIndex


def run(seed: int, spread: int, rounds: int = 60, rows: int = 4_000) -> SlotIndex:
    """Add and remove at random and compare each time; few values of `spread` crowd the cells."""
    chance = np.random.default_rng(seed)
    known = np.zeros(rows, dtype=np.uint64)
    index, twin = SlotIndex(), dict[int, int]()
    for _ in range(rounds):
        free = np.setdiff1d(np.arange(rows), list(twin.values()))
        new = chance.choice(free, min(len(free), int(chance.integers(0, 400))), replace=False)
        hashes = chance.permutation(1 << 20)[: len(new)].astype(np.uint64) * np.uint64(spread)
        absent = np.array([h not in twin for h in hashes.tolist()], dtype=np.bool_)
        new, hashes = new[absent], hashes[absent]
        known[new] = hashes
        index.add(hashes, new, known)
        twin.update(zip(hashes.tolist(), new.tolist(), strict=True))
        gone = chance.permutation(np.array(list(twin), dtype=np.uint64))[: chance.integers(0, 300)]
        index.remove(gone, known)
        for one in gone.tolist():
            del twin[one]
        asked = np.append(np.array(list(twin), dtype=np.uint64), gone)
        expected = [twin.get(h, -1) for h in asked.tolist()]
        assert index.find(asked, known).tolist() == expected
        assert len(index) == len(twin)
        assert index.slots().tolist() == sorted(twin.values())
    return index


@pytest.mark.parametrize("seed", range(4))
def test_as_a_dict(seed: int) -> None:
    run(seed, 0x9E3779B97F4A7C15)


def test_crowded_cells() -> None:
    """All hashes name one cell of 4,096: the search goes on until it finds each."""
    run(9, 1 << 12, rounds=12, rows=600)


def test_it_neither_fills_with_what_is_gone_nor_grows() -> None:
    index = run(5, 0x9E3779B97F4A7C15, rounds=300, rows=500)
    assert len(index._cells) <= 4_096
    assert np.count_nonzero(index._cells == -1) >= len(index._cells) // 2


def test_nothing() -> None:
    index, known = SlotIndex(), np.zeros(4, dtype=np.uint64)
    none = np.zeros(0, dtype=np.uint64)
    index.add(none, np.zeros(0, dtype=np.int64), known)
    index.remove(none, known)
    assert not len(index)
    assert index.find(np.zeros(2, dtype=np.uint64), known).tolist() == [-1, -1]

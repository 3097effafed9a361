"""The names of connections: one at a time as many at once."""

from __future__ import annotations

import numpy as np

from guardian import keys


def test_one_uid_is_that_among_many() -> None:
    chance = np.random.default_rng(3)
    n = 500
    low, high = chance.integers(0, 1 << 63, (2, n, 2), dtype=np.uint64) * np.uint64(2)
    low[::2, 0] = high[::3, 0] = 0
    rest = chance.integers(0, 1 << 48, n, dtype=np.uint64)
    begin = chance.integers(-(1 << 62), 1 << 62, n)
    gen = chance.integers(0, 1 << 40, n) * (chance.random(n) < 0.5)
    for seed in (0, 7, 1 << 130):
        many = keys.uids(low, high, rest, begin, gen, seed)
        alone = [
            keys.uids(low[at], high[at], rest[at], begin[at], gen[at], seed)[0]
            for at in (slice(k, k + 1) for k in range(n))
        ]
        assert many.tolist() == alone
        assert len(set(alone)) == n

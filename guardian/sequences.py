"""The last T feature rows of each device: what the models read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from guardian.const import ROWS_PER_CHUNK
from guardian.tables import F32, I32, FeatureRows, Sequences


class SequenceTable:
    """A ring of T - 1 rows for each device, grown to the largest index seen.

    Indexes are those of the DeviceTable, which bounds their number: 4,096 devices of 12 steps
    and 67 features take 13 MB.
    """

    def __init__(self, window: int, n_features: int) -> None:
        """`window` is T, at least 1."""
        if window < 1:
            raise ValueError(f"a sequence has at least one step, not {window}")
        self.window = window
        self.n_features = n_features
        self._past: F32 = np.zeros((0, window - 1, n_features), dtype=np.float32)
        self._known: I32 = np.zeros(0, dtype=np.int32)

    def evict(self, device: int) -> None:
        """Forget a device, when the DeviceTable gives its index to another."""
        if device < len(self._known):
            self._past[device] = 0
            self._known[device] = 0

    def step(self, rows: FeatureRows) -> Sequences:
        """Return for each row the sequence that ends with it, in the order of the rows.

        Sequences.x is float32[rows, T, F], zeros on the left. It takes rows * T * F * 4 bytes:
        use steps() where a flood may bring very many rows.
        """
        n, window = len(rows), self.window
        if n == 0:
            shape = (0, window, self.n_features)
            none = Sequences.empty()
            return Sequences(np.zeros(shape, np.float32), none.length, none.device, none.row,
                             none.outbound)  # fmt: skip
        order = np.argsort(rows.device, kind="stable")
        device = rows.device[order]
        starts = np.flatnonzero(np.diff(device, prepend=-1))
        present = device[starts]
        self._grow(int(present[-1]) + 1)
        counts = np.diff(np.append(starts, n))

        # One pool: for each device its past, then its new rows; a sequence is T rows in a line.
        before = (window - 1) * np.arange(1, len(present) + 1)
        position = np.arange(n) + np.repeat(before, counts)
        pool = np.empty((n + len(present) * (window - 1), self.n_features), dtype=np.float32)
        pool[position] = rows.x[order]
        first = starts + before - (window - 1)
        past = first[:, None] + np.arange(window - 1)
        pool[past] = self._past[present]
        rank = np.arange(n) - np.repeat(starts, counts)
        length = np.minimum(rank + 1 + np.repeat(self._known[present], counts), window)

        ends = np.empty(n, dtype=np.int64)
        ends[order] = position
        lengths = np.empty(n, dtype=np.int32)
        lengths[order] = length
        x = pool[ends[:, None] + np.arange(1 - window, 1)]

        last = starts + counts + before  # one beyond each device's last row in the pool
        self._past[present] = pool[last[:, None] + np.arange(1 - window, 0)]
        self._known[present] = np.minimum(self._known[present] + counts, window)
        return Sequences(x, lengths, rows.device, rows.row, rows.outbound)

    def steps(self, rows: FeatureRows, chunk: int = ROWS_PER_CHUNK) -> Iterator[Sequences]:
        """Yield the sequences of at most `chunk` rows at a time: bounded memory under a flood."""
        for begin in range(0, len(rows), chunk):
            yield self.step(rows.take(slice(begin, begin + chunk)))

    def _grow(self, size: int) -> None:
        have = len(self._known)
        if size <= have:
            return
        size = max(size, 2 * have, 16)
        past = np.zeros((size, self.window - 1, self.n_features), dtype=np.float32)
        past[:have] = self._past
        known = np.zeros(size, dtype=np.int32)
        known[:have] = self._known
        self._past, self._known = past, known

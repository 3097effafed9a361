"""ROC figures from scores, with ties and weights treated as they should be."""

from __future__ import annotations

import numpy as np

from guardian.tables import F64, Array


def auc(benign: Array, attacks: Array, weight: Array | None = None) -> float:
    """Return the probability that an attack scores above a benign one, ties counted half.

    `weight` is of the benign scores (equal where not given); NaN where one side is empty.
    """
    if not len(benign) or not len(attacks):
        return float("nan")
    weight = np.ones(len(benign)) if weight is None else weight
    order = np.argsort(benign, kind="stable")
    values = benign[order]
    below = np.concatenate([[0.0], np.cumsum(weight[order])])
    low = below[np.searchsorted(values, attacks, side="left")]
    high = below[np.searchsorted(values, attacks, side="right")]
    return float(((low + high) / 2).mean() / below[-1])


def found(scores: Array, line: float) -> int:
    """Return how many scores reach a line."""
    return int((scores >= line).sum())


def per_minute(device: Array, ts: Array, key: Array) -> tuple[F64, F64]:
    """Return, for each event, how many events and how many distinct keys its device had in the
    60 s up to it: the plain counters that every model has to beat.

    All arrays have n rows; ts is int64 nanoseconds and rises; device below 0 counts nothing.
    """
    n = len(ts)
    events, keys = np.zeros(n), np.zeros(n)
    span = 60 * 10**9
    for d in np.unique(device[device >= 0]).tolist():
        rows = np.flatnonzero(device == d)
        first = np.searchsorted(ts[rows], ts[rows] - span, side="right")
        events[rows] = np.arange(len(rows)) - first + 1
        count: dict[int, int] = {}
        low = 0
        for position, (row, begin) in enumerate(zip(rows.tolist(), first.tolist(), strict=True)):
            k = int(key[row])
            count[k] = count.get(k, 0) + 1
            while low < min(begin, position):
                old = int(key[rows[low]])
                count[old] -= 1
                if not count[old]:
                    del count[old]
                low += 1
            keys[row] = len(count)
    return events, keys

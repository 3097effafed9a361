"""Curves and intervals from scores, for the page."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from guardian.tables import F64, Array

ROUNDS = 200
FEWEST_GROUPS = 5
MOST_ROWS = 20_000
"""Rows of a bootstrap round of a curve or a table at most."""
POINTS = 240
"""Points of a curve that are kept."""


def roc(score: F64, attack: Array) -> tuple[F64, F64]:
    """Return false positive rate and recall at every distinct line, from (0, 0) to (1, 1)."""
    hits, false = _counts(score, attack)
    return false / max(int((~attack).sum()), 1), hits / max(int(attack.sum()), 1)


def precision_recall(score: F64, attack: Array) -> tuple[F64, F64]:
    """Return recall and precision at every distinct line, the highest first."""
    hits, false = _counts(score, attack)
    hits, false = hits[1:], false[1:]
    return hits / max(int(attack.sum()), 1), hits / (hits + false)


def _counts(score: F64, attack: Array) -> tuple[F64, F64]:
    """Return attacks and benign rows above every distinct line, from the highest down."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.diff(score[order]) != 0, True)
    hits = np.cumsum(attack[order])[last]
    both = np.flatnonzero(last) + 1
    return np.r_[0.0, hits], np.r_[0.0, both - hits]


def thinned(x: F64, y: F64, most: int = POINTS, *, log: bool = False) -> list[list[float]]:
    """Return a curve's points [x, y], at most about so many, evenly along x and along y."""
    if len(x) > most:
        scale = np.log10(np.maximum(x, 1e-6)) if log else x
        marks = [
            np.searchsorted(np.abs(v - v[0]), np.linspace(0, abs(v[-1] - v[0]), most // 2))
            for v in (scale, y)
        ]
        keep = np.unique(np.clip(np.concatenate([[0, len(x) - 1], *marks]), 0, len(x) - 1))
        x, y = x[keep], y[keep]
    return [[float(a), float(b)] for a, b in zip(x, y, strict=True)]


def draws(group: Array, seed: int = 1, rounds: int = ROUNDS) -> Any:
    """Yield the rows of each bootstrap round: whole groups where there are five and more, as in
    trainer.judge, else rows.
    """
    rng = np.random.default_rng(seed)
    names = np.unique(group)
    rows_of = [np.flatnonzero(group == n) for n in names] if len(names) >= FEWEST_GROUPS else []
    for _ in range(rounds):
        if rows_of:
            rows = np.concatenate([rows_of[k] for k in rng.integers(0, len(names), len(names))])
            yield rows if len(rows) <= MOST_ROWS else rng.choice(rows, MOST_ROWS, replace=False)
        else:
            yield rng.integers(0, len(group), min(len(group), MOST_ROWS))


def roc_band(score: F64, attack: Array, group: Array, at: F64) -> list[list[float]] | None:
    """Return [rate, low, high]: the 95 % interval of recall at some false positive rates."""
    found = []
    for rows in draws(group, rounds=ROUNDS // 2):
        benign, attacks = score[rows][~attack[rows]], np.sort(score[rows][attack[rows]])
        if len(benign) and len(attacks):
            lines = np.quantile(benign, 1.0 - at, method="higher")
            found.append(1.0 - np.searchsorted(attacks, lines, side="right") / len(attacks))
    if not found:
        return None
    low, high = np.quantile(found, (0.025, 0.975), axis=0)
    return [list(map(float, row)) for row in zip(at, low, high, strict=True)]


def share(k: int, n: int) -> dict[str, Any]:
    """Return k of n as a share with the 95 % interval of Wilson; None where n is 0.

    It takes rows for independent.
    """
    if not n:
        return {"value": None, "low": None, "high": None, "of": 0}
    z = 1.96
    middle = (k / n + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(k / n * (1 - k / n) / n + z * z / (4 * n * n))
    # At k = 0 and k = n rounding would put the bound beyond the value itself.
    low, high = max(0.0, min(middle - half, k / n)), min(1.0, max(middle + half, k / n))
    return {"value": k / n, "low": low, "high": high, "of": n}


def confusion(label: Array, told: Array, group: Array, classes: int) -> list[list[dict[str, Any]]]:
    """Return for class i told as j: how many, and their share of class i with its 95 % interval."""
    pair = label.astype(np.int64) * classes + told
    table = np.bincount(pair, minlength=classes**2).reshape(classes, classes)
    drawn = np.array([
        np.bincount(pair[rows], minlength=classes**2).reshape(classes, classes)
        for rows in draws(group)
    ], np.float64)  # fmt: skip
    whole = drawn.sum(axis=2, keepdims=True)
    shares = np.divide(drawn, whole, out=np.full_like(drawn, np.nan), where=whole > 0)
    total = table.sum(axis=1)
    out = []
    for i in range(classes):
        row = []
        for j in range(classes):
            real = shares[:, i, j][np.isfinite(shares[:, i, j])]
            low, high = np.quantile(real, (0.025, 0.975)) if len(real) else (None, None)
            value = table[i, j] / total[i] if total[i] else None
            row.append({"count": int(table[i, j]), "value": value, "low": low, "high": high})
        out.append(row)
    return out


def histogram(score: F64, attack: Array, line: float, bins: int = 40) -> dict[str, Any]:
    """Return how the scores of both sides are spread: by value where they are within a factor of
    a hundred, else by their logarithm.
    """
    positive = score[score > 0]
    log = bool(len(positive) and np.quantile(score, 0.999) > 100 * max(np.median(positive), 1e-12))
    if not log and len(score) and score.min() >= 0 and score.max() <= 1:
        edges = np.linspace(0, 1, bins + 1)
    elif log:
        least = max(float(np.quantile(positive, 0.001)), 1e-12)
        edges = np.geomspace(least, max(float(score.max()), line, 2 * least), bins + 1)
    else:
        edges = np.linspace(score.min(), max(score.max(), line, score.min() + 1e-9), bins + 1)
    kept = np.clip(score, edges[0], edges[-1])
    sides = {
        name: (np.histogram(kept[side], edges)[0] / max(int(side.sum()), 1)).tolist()
        for name, side in (("benign", ~attack), ("attack", attack))
    }
    return {"log": log, "edges": edges.tolist(), "line": line, **sides}


def by_doubt(doubt: F64, wrong: Array, bins: int = 10) -> list[dict[str, Any]]:
    """Return for tenths of the sequences by rising doubt: its mean, and the share told wrongly."""
    tenths = np.array_split(np.argsort(doubt, kind="stable"), bins)
    return [
        {"doubt": float(doubt[rows].mean()), **share(int(wrong[rows].sum()), len(rows))}
        for rows in tenths
        if len(rows)
    ]

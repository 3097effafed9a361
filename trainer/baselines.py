"""What needs no model: figures that every model has to beat on the same rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from guardian.tables import F32, F64, Array
from trainer import judge, thresholds
from trainer.judge import figures
from trainer.material import Sequences, joined
from trainer.metrics import auc

EXPLAINED = 0.95
"""Share of the variance that the kept components have."""
MOST_ROWS = 20_000
MOST_COLUMNS = 2_000
"""Values of a sequence up to which its steps are taken together; else the last step alone."""


def beside(
    train: Sequences, valid: Sequences, test: Sequences, method: str, *, learns_benign: bool
) -> tuple[dict[str, Any], dict[str, F64]]:
    """Return the figures of all baselines on the test sequences, and the scores of those that
    have any; F1 at the line that `method` draws on their validation scores.
    """
    known = np.zeros(1, np.int32) if learns_benign else np.maximum(train.label, 0)
    attacks = [some.label > 0 for some in (valid, test)]
    out: dict[str, Any] = {"majority": majority(known, np.maximum(test.label, 0))}
    scores: dict[str, F64] = {}

    def judged(name: str, on_valid: F64, on_test: F64) -> None:
        line = thresholds.draw(method, on_valid, attacks[0])
        flagged = line.flagged(on_test, test.group)
        out[name]["f1"] = judge.binary(flagged, attacks[1])["f1"]
        out[name]["bounds"] = judge.bounds(on_test, attacks[1], test.group, flagged)
        scores[name] = on_test

    last = [replace(some, window=1).x() for some in (valid, test)]
    best = best_feature(last[0], attacks[0], last[1], attacks[1], test.prepared.features)
    out["best feature"] = best
    if best is not None:
        place = test.prepared.features.index(best["feature"])
        sign = 1.0 if best["high_is_attack"] else -1.0
        column = [sign * x[:, -1, place].astype(np.float64) for x in last]
        judged("best feature", *column)
    benign = train.only(np.asarray(train.label <= 0))
    if len(benign) > 1:
        pca = Pca(benign.spread(MOST_ROWS).x())
        found = [joined(some.score(pca.score)) for some in (valid, test)]
        out["pca"] = {"components": pca.components, **figures(found[1], attacks[1])}
        judged("pca", *found)
    return out, scores


def majority(train_label: Array, test_label: Array) -> dict[str, Any]:
    """Return the accuracy and F1 of telling the training rows' most frequent class always."""
    classes = int(max(train_label.max(initial=0), test_label.max(initial=0))) + 1
    counts = np.bincount(train_label, minlength=classes)
    told = int(counts.argmax())
    hit = float((test_label == told).mean()) if len(test_label) else float("nan")
    present = len(np.unique(test_label))
    return {"class": told, "accuracy": hit, "macro_f1": 2 * hit / (1 + hit) / max(present, 1)}


def best_feature(
    valid_x: F32, valid_attack: Array, test_x: F32, test_attack: Array, names: tuple[str, ...]
) -> dict[str, Any] | None:
    """Return the figures of the last step's one feature, upwards or downwards, that is best by
    AUC on validation. None where validation has not both sides.
    """
    if valid_attack.all() or not valid_attack.any():
        return None
    worth = []
    for f in range(valid_x.shape[2]):
        column = valid_x[:, -1, f].astype(np.float64)
        worth.append(auc(column[~valid_attack], column[valid_attack]))
    up = np.array(worth)
    chosen = int(np.argmax(np.abs(up - 0.5)))
    sign = 1.0 if up[chosen] >= 0.5 else -1.0
    told = figures(sign * test_x[:, -1, chosen].astype(np.float64), test_attack)
    return {"feature": names[chosen], "high_is_attack": sign > 0, **told}


class Pca:
    """Principal components of benign sequences; the score is what they leave unexplained."""

    def __init__(self, benign: F32) -> None:
        """Fit on float32[n, T, F], scaled."""
        if len(benign) > MOST_ROWS:
            benign = benign[np.linspace(0, len(benign) - 1, MOST_ROWS).astype(np.int64)]
        rows = self._rows(benign)
        self._mean = rows.mean(axis=0)
        centred = rows - self._mean
        values, vectors = np.linalg.eigh(centred.T @ centred / max(len(rows), 1))
        values = np.maximum(values[::-1], 0.0)
        enough = np.searchsorted(np.cumsum(values), EXPLAINED * values.sum()) + 1
        # One must be left out, or nothing is left unexplained.
        self.components = int(min(enough, max(len(values) - 1, 1)))
        self._vectors = vectors[:, ::-1][:, : self.components]

    def score(self, x: F32) -> F64:
        """Return float64[n]: the mean squared rest of each sequence."""
        parts = []
        for begin in range(0, len(x), MOST_ROWS):
            centred = self._rows(x[begin : begin + MOST_ROWS]) - self._mean
            rest = centred - centred @ self._vectors @ self._vectors.T
            parts.append(np.square(rest).mean(axis=1))
        return np.concatenate(parts) if parts else np.zeros(0)

    @staticmethod
    def _rows(x: F32) -> F64:
        flat = x.shape[1] * x.shape[2] <= MOST_COLUMNS
        return np.asarray(x.reshape(len(x), -1) if flat else x[:, -1], np.float64)

"""What scores are worth: figures of one set of rows, with the bounds that chance leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from guardian.tables import F64, Array
from trainer.metrics import auc

RATES = (0.001, 0.01, 0.1)
ROUNDS = 200
FEWEST_GROUPS = 5
MOST_ROWS = 50_000
"""Rows of a bootstrap round at most: the bounds of more are narrower than anyone reads."""


def average_precision(benign: Array, attacks: Array) -> float:
    """Return the mean precision over the attacks found, from the highest score down; ties fall
    together. NaN where there is no attack.
    """
    if not len(attacks):
        return float("nan")
    scores = np.concatenate([benign, attacks])
    attack = np.concatenate([np.zeros(len(benign)), np.ones(len(attacks))])
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)
    hits = np.cumsum(attack[order])[last]
    flagged = np.flatnonzero(last) + 1
    return float((np.diff(hits, prepend=0.0) * hits / flagged).sum() / len(attacks))


def recall_at(benign: Array, attacks: Array, rate: float) -> float:
    """Return the share of attacks above a line that at most `rate` of the benign are above.

    The line is drawn through these same rows: a point of their ROC, not a threshold to use.
    """
    if not len(attacks) or not len(benign):
        return float("nan")
    line = np.quantile(benign, 1.0 - rate, method="higher")
    return float((attacks > line).mean())


def figures(score: F64, attack: Array) -> dict[str, float]:
    """Return AUC, average precision and recall at the rates of RATES."""
    benign, attacks = score[~attack], score[attack]
    found = {"auc": auc(benign, attacks), "average_precision": average_precision(benign, attacks)}
    for rate in RATES:
        found[f"recall_at_{rate:g}"] = recall_at(benign, attacks, rate)
    return found


def bounds(
    score: F64,
    attack: Array,
    group: Array,
    flagged: Array | None = None,
    *,
    seed: int = 1,
    rounds: int = ROUNDS,
) -> dict[str, Any]:
    """Return the 95 % bootstrap interval of each of `figures`, and what was drawn; of F1, too,
    where `flagged`, bool[n], says what a line tells.

    Whole groups are drawn where there are five and more, since rows of a capture resemble each
    other; else rows, and the bounds are then too narrow for another network.
    """
    rng = np.random.default_rng(seed)
    names = np.unique(group)
    by_group = len(names) >= FEWEST_GROUPS
    rows_of = [np.flatnonzero(group == name) for name in names] if by_group else []
    drawn: dict[str, list[float]] = {}
    for _ in range(rounds):
        if by_group:
            chosen = np.concatenate([rows_of[k] for k in rng.integers(0, len(names), len(names))])
            if len(chosen) > MOST_ROWS:
                chosen = rng.choice(chosen, MOST_ROWS, replace=False)
        else:
            chosen = rng.integers(0, len(score), min(len(score), MOST_ROWS))
        found = figures(score[chosen], attack[chosen])
        if flagged is not None:
            found["f1"] = binary(flagged[chosen], attack[chosen])["f1"]
        for key, value in found.items():
            drawn.setdefault(key, []).append(value)
    out: dict[str, Any] = {"of": "groups" if by_group else "rows", "rounds": rounds}
    for key, values in drawn.items():
        real = np.array([v for v in values if np.isfinite(v)])
        out[key] = [float(q) for q in np.quantile(real, (0.025, 0.975))] if len(real) else None
    return out


def by_part(
    score: F64, attack: Array, flagged: Array, part: Array, names: Callable[[int], str]
) -> dict[str, dict[str, Any]]:
    """Return rows, AUC, detection and false positives of each part (a class, a group).

    A part of attacks alone is set against all benign rows.
    """
    out = {}
    for number in np.unique(part).tolist():
        rows = part == number
        hits, false = rows & attack, rows & ~attack
        against = false if false.any() else ~attack
        out[names(number)] = {
            "rows": int(rows.sum()),
            "auc": _number(auc(score[against], score[hits])),
            "detection": _number(flagged[hits].mean()) if hits.any() else None,
            "false_positives": _number(flagged[false].mean()) if false.any() else None,
        }
    return out


def confusion(wanted: Array, found: Array, classes: int) -> list[list[int]]:
    """Return how often class i was told as j."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (wanted, found), 1)
    return [[int(n) for n in row] for row in table]


def class_figures(table: list[list[int]]) -> dict[str, float]:
    """Return accuracy and the F1 of the classes that there are, each counting the same."""
    counts = np.array(table, np.float64)
    hits, wanted, told = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    present = wanted > 0
    f1 = 2 * hits[present] / (wanted + told)[present]
    return {"accuracy": float(hits.sum() / max(counts.sum(), 1)), "macro_f1": float(f1.mean())}


def binary(flagged: Array, attack: Array) -> dict[str, float]:
    """Return accuracy, precision, recall and F1 of what was flagged, and the counts."""
    hits, false = int((flagged & attack).sum()), int((flagged & ~attack).sum())
    missed = int((~flagged & attack).sum())
    passed = len(attack) - hits - false - missed
    return {
        "accuracy": (hits + passed) / max(len(attack), 1),
        "precision": hits / max(hits + false, 1),
        "recall": hits / max(hits + missed, 1),
        "f1": 2 * hits / max(2 * hits + false + missed, 1),
        "true_positives": hits, "false_positives": false,
        "false_negatives": missed, "true_negatives": passed,
    }  # fmt: skip


def _number(value: float) -> float | None:
    """Return None for what JSON cannot say."""
    return float(value) if np.isfinite(value) else None


def plain(value: Any) -> Any:
    """Return a value as JSON has it: NaN becomes null, numpy numbers Python's."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (bool, str, int)) or value is None:
        return value
    if isinstance(value, np.integer):
        return int(value)
    return _number(float(value))

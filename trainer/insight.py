"""What a page wants to show of a fitted model and only the model can tell: what it looks at, how
it rebuilds, how sure it is. Small, and kept in the run's folder (kept.json, kept.npz).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from guardian.tables import F32, F64, I64, Array
from trainer import drift
from trainer.fitting.member import Fitted
from trainer.fitting.run import write_json
from trainer.judge import plain
from trainer.material import Sequences
from trainer.metrics import auc
from trainer.sets.split import Split
from trainer.zoo.config import Config
from trainer.zoo.family import Family

KEPT = "kept.json"
ARRAYS = "kept.npz"

OUTCOMES = ("true positive", "false positive", "false negative", "true negative")
BY_ATTACK = 512
"""Sequences of each side (or class) that means over sequences are taken of."""
ROUNDS = 3
"""Permutations of each feature."""
SPENT = 1_000_000
"""Steps that are scored for the permutations, about; a long window has fewer sequences."""
STEPS = 10
"""What a sequence costs at least, in steps."""
FEWEST = 100
AT_ONCE = 1 << 24
"""Values that are scored in one call."""


@dataclass(frozen=True)
class Judged:
    """Test sequences with the scores and the line that they are judged by."""

    some: Sequences
    score: F64
    attack: Array
    flagged: Array

    def outcome(self) -> Array:
        """Return int[n]: which of OUTCOMES."""
        return np.where(self.flagged, np.where(self.attack, 0, 1), np.where(self.attack, 2, 3))


def keep(
    folder: Path,
    fitted: Fitted,
    family: Family,
    config: Config,
    dealt: Split,
    judged: Judged,
    seed: int,
) -> None:
    """Write kept.json and kept.npz beside a run's result."""
    prepared = judged.some.prepared
    arrays: dict[str, Array] = {}
    about: dict[str, Any] = {
        "features": list(prepared.features),
        "classes": list(prepared.classes),
        "groups": list(prepared.groups),
        "counts": prepared.counts,
        "by_class": {
            part: _by_class(prepared.label[rows], prepared.classes)
            for part, rows in (("train", dealt.train), ("valid", dealt.valid), ("test", dealt.test))
        },
        "importance": importance(fitted, judged, seed),
        "drift": _drift(judged.some, dealt),
        "rebuilt": _rebuilt(fitted, judged, arrays) if family.task == "rebuild" else None,
        "attention": _attention(fitted, judged, arrays),
        "doubt": _doubt(fitted, family, config, judged, arrays, seed),
    }
    np.savez_compressed(folder / ARRAYS, **arrays)  # type: ignore[arg-type]
    write_json(folder / KEPT, plain(about))


def _by_class(label: Array, classes: tuple[str, ...]) -> dict[str, int]:
    found = {name: int((label == k).sum()) for k, name in enumerate(classes)}
    found["(unlabelled)"] = int((label < 0).sum())
    return {name: many for name, many in found.items() if many}


def _drift(some: Sequences, dealt: Split) -> dict[str, Any] | None:
    prepared = some.prepared
    sides = [(prepared, dealt.train), (prepared, dealt.test)]
    if not all(len(drift.benign(*side)) for side in sides):
        return None
    return drift.between(sides[0], sides[1], ("train", "test"))


# --- what it looks at -----------------------------------------------------------------------


def feature_groups(names: tuple[str, ...]) -> dict[str, list[int]]:
    """Return the features that share the first word of their name, by that word; none alone."""
    found: dict[str, list[int]] = {}
    for k, name in enumerate(names):
        word = name.replace(".", "_").replace(" ", "_").strip("_").partition("_")[0]
        found.setdefault(word, []).append(k)
    several = {word: members for word, members in found.items() if len(members) > 1}
    return several if len(several) > 1 else {}


def importance(fitted: Fitted, judged: Judged, seed: int) -> dict[str, Any] | None:
    """Return what the AUC loses when a feature's values are dealt out among the sequences anew.

    All steps of a sequence move together. None where there is no AUC.
    """
    names = judged.some.prepared.features
    groups = feature_groups(names)
    wanted = [[k] for k in range(len(names))] + list(groups.values())
    most = SPENT // (max(judged.some.window, STEPS) * len(wanted) * ROUNDS)
    pick = _both_sides(judged.attack, min(max(most, FEWEST), 2 * BY_ATTACK))
    if not len(pick):
        return None
    x, attack = judged.some.x(pick), judged.attack[pick]
    score = fitted.score(x)
    whole = auc(score[~attack], score[attack])
    rng = np.random.default_rng([seed, 7])
    orders = [rng.permutation(len(x)) for _ in range(ROUNDS)]
    jobs = [(columns, order) for columns in wanted for order in orders]
    many = max(1, AT_ONCE // x.size)
    lost: list[float] = []
    for begin in range(0, len(jobs), many):
        mixed = [_mixed(x, columns, order) for columns, order in jobs[begin : begin + many]]
        scores = fitted.score(np.concatenate(mixed)).reshape(-1, len(x))
        lost += [whole - auc(found[~attack], found[attack]) for found in scores]
    of = np.array(lost).reshape(len(wanted), ROUNDS)

    def rows(labels: list[str], values: F64, sizes: list[int]) -> list[dict[str, Any]]:
        told = [
            {"name": name, "features": size, "lost": v.mean(), "low": v.min(), "high": v.max()}
            for name, v, size in zip(labels, values, sizes, strict=True)
        ]
        return sorted(told, key=lambda row: -float(row["lost"]))

    count = len(names)
    return {
        "sequences": len(x), "attacks": int(attack.sum()), "rounds": ROUNDS, "auc": whole,
        "features": rows(list(names), of[:count], [1] * count),
        "groups": rows(list(groups), of[count:], [len(v) for v in groups.values()]),
    }  # fmt: skip


def _mixed(x: F32, columns: list[int], order: I64) -> F32:
    out = x.copy()
    out[:, :, columns] = x[order][:, :, columns]
    return out


def _both_sides(attack: Array, most: int) -> I64:
    """Return about as many benign as attack rows, at most so many; none where one side lacks."""
    sides = [np.flatnonzero(~attack), np.flatnonzero(attack)]
    if not all(map(len, sides)):
        return np.zeros(0, np.int64)
    return np.sort(np.concatenate([_spread(side, most // 2) for side in sides]))


def _spread(rows: Array, most: int) -> I64:
    if len(rows) <= most:
        return np.asarray(rows, np.int64)
    return np.asarray(rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)], np.int64)


# --- how it rebuilds ------------------------------------------------------------------------


def _rebuilt(fitted: Fitted, judged: Judged, arrays: dict[str, Array]) -> dict[str, Any] | None:
    """Keep the error of each feature, and of each outcome the sequence with the median score."""
    if fitted.model is None:
        return None
    many: dict[str, int] = {}
    for name, side in (("benign", ~judged.attack), ("attack", judged.attack)):
        rows = _spread(np.flatnonzero(side), BY_ATTACK)
        many[name] = len(rows)
        if len(rows):
            x = judged.some.x(rows)
            arrays[f"error_{name}"] = np.square(x - _again(fitted, x)).mean(axis=(0, 1))
    outcome = judged.outcome()
    examples: list[dict[str, Any]] = []
    for k, name in enumerate(OUTCOMES):
        rows = np.flatnonzero(outcome == k)
        if not len(rows):
            continue
        row = rows[np.argsort(judged.score[rows], kind="stable")[len(rows) // 2]]
        x = judged.some.x(np.array([row]))
        arrays[f"given_{len(examples)}"], arrays[f"again_{len(examples)}"] = (
            x[0],
            _again(fitted, x)[0],
        )
        examples.append({"outcome": name, "of": len(rows), "score": judged.score[row],
                         "class": int(max(judged.some.label[row], 0)),
                         "group": int(judged.some.group[row])})  # fmt: skip
    return {"sequences": many, "examples": examples}


def _again(fitted: Fitted, x: F32) -> F32:
    return np.asarray(fitted.model.predict(x, batch_size=1_024, verbose=0), np.float32)


# --- where it looks, how sure it is -----------------------------------------------------------


def _attention(fitted: Fitted, judged: Judged, arrays: dict[str, Array]) -> dict[str, Any] | None:
    """Keep the mean map of each class with rows, over heads, sequences and layers."""
    if fitted.model is None:
        return None
    from trainer.zoo.attention import attention_maps  # noqa: PLC0415 - needs keras

    label = np.maximum(judged.some.label, 0)
    present = np.unique(label).tolist()
    found, rows = [], []
    for k in present:
        at = _spread(np.flatnonzero(label == k), BY_ATTACK)
        maps = attention_maps(fitted.model, judged.some.x(at))
        if not maps:
            return None
        found.append(np.mean([one.mean(axis=(0, 1)) for one in maps], axis=0))
        rows.append(len(at))
    arrays["attention"] = np.asarray(found, np.float32)
    heads, layers = maps[0].shape[1], len(maps)
    return {"classes": present, "sequences": rows, "heads": heads, "layers": layers}


def _doubt(
    fitted: Fitted,
    family: Family,
    config: Config,
    judged: Judged,
    arrays: dict[str, Array],
    seed: int,
) -> dict[str, Any] | None:
    """Keep the doubt about some test sequences, where the family can tell it."""
    if fitted.model is None or "monte_carlo" not in family.uses or config.monte_carlo < 2:
        return None
    from trainer.zoo.uncertainty import doubt  # noqa: PLC0415 - needs keras

    rows = _spread(np.arange(len(judged.some)), 4 * BY_ATTACK)
    found = doubt(fitted.model, judged.some.x(rows), config.monte_carlo, seed=seed)
    arrays["doubt_row"] = rows
    arrays["doubt_told"] = found.probability.argmax(axis=1)
    for name in ("epistemic", "aleatoric", "low", "high"):
        arrays[f"doubt_{name}"] = getattr(found, name)
    return {"sequences": len(rows), "passes": config.monte_carlo, "coverage": 0.9}

"""Train, validation and test rows: whole captures or devices, by row only on request."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np

from guardian.errors import InputError
from guardian.tables import F64, I64, U64, Array
from trainer.sets.prepared import Prepared
from trainer.sets.writer import hashes

By = Literal["group", "time", "row"]
PARTS = ("train", "valid", "test")

ROW_WARNING = (
    "Split by row: rows of one capture or device are in train and test, so the figures say how"
    " well more of the same is told, not how well another network would be."
)
TIME_WARNING = (
    "Split by time within each group: the same captures or devices are in train and test, so the"
    " figures say how well their later rows are told, not how well another network would be."
)
_EVERY = 7
"""Up to so many units every way to deal them out is tried."""
_TRIALS = 400
_ROUNDS = 20
_CELLS = 1 << 22
"""Of a table of ways by units."""
_PIECE = 1 << 15


@dataclass(frozen=True)
class Split:
    """Row numbers of the three parts, each rising; no row is in two."""

    train: I64
    valid: I64
    test: I64
    how: str
    """What was kept together, and which class is not in train or not in test."""
    warning: str
    """For the report; empty where whole groups were kept apart."""


def split(
    prepared: Prepared,
    *,
    by: By = "group",
    seed: int = 1,
    shares: tuple[float, float, float] = (0.6, 0.2, 0.2),
    test: tuple[str, ...] = (),
) -> Split:
    """Deal a set's rows out to train, valid and test, about in these shares.

    By group: whole captures (what stands before the slash of a group's name), or whole groups
    where there are fewer than three captures; each class comes into train and test where the
    groups allow it. Two captures alone that both have benign and other rows are taken as a
    published pair: the larger one is train and valid, the smaller one test. By time: the first
    rows of each group are train, the last test. By row: by chance. `test` names captures that
    are the test, all others are train and valid. Raises InputError where by group cannot be done,
    no capture has such a name, or the shares make no sense.
    """
    if len(shares) != 3 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise InputError(f"shares of train, valid and test are {shares}: give three that sum to 1")
    if len(prepared) < 3:
        raise InputError(f"{prepared.name} has {len(prepared)} rows: too few to split")
    if test and by != "group":
        raise InputError("captures are named for the test: split by group")
    if test:
        part, how = _left_out(prepared, seed, shares, test)
        warning = ""
    elif by == "group":
        part, how = _by_group(prepared, seed, shares)
        warning = ""
    elif by == "time":
        part, how, warning = _by_time(prepared, shares), "by time within each group", TIME_WARNING
    else:
        place = np.random.default_rng(seed).permutation(len(prepared))
        part = _cut(place, len(prepared), shares)
        how, warning = f"by row, seed {seed}", ROW_WARNING
    rows = [np.flatnonzero(part == k) for k in range(3)]
    how += _absent(prepared, rows)
    return Split(rows[0], rows[1], rows[2], how, warning)


def _cut(place: Array, n: int, shares: tuple[float, float, float]) -> Array:
    """Return int8: 0, 1 or 2 by place (0 to n - 1) in an order of n; each part has one at least."""
    first = min(max(1, round(shares[0] * n)), max(1, n - 2))
    second = min(max(first + 1, round((shares[0] + shares[1]) * n)), max(first + 1, n - 1))
    return ((place >= first).astype(np.int8) + (place >= second)).astype(np.int8)


def _by_time(prepared: Prepared, shares: tuple[float, float, float]) -> Array:
    part = np.zeros(len(prepared), dtype=np.int8)
    for group in np.unique(prepared.group):
        rows = np.flatnonzero(prepared.group == group)
        part[rows] = _cut(np.arange(len(rows)), len(rows), shares)
    return part


def _by_group(
    prepared: Prepared, seed: int, shares: tuple[float, float, float]
) -> tuple[Array, str]:
    present = np.unique(prepared.group)
    families = prepared.families()
    names = [families[g] for g in present.tolist()]
    kind = "captures"
    if len(set(names)) < 3:
        names = [prepared.groups[g] for g in present.tolist()]
        kind = "groups"
    units = sorted(set(names))
    if len(units) == 2 and (pair := _official(prepared, names, present, seed, shares)):
        return pair
    if len(units) < 3:
        raise InputError(
            f"{prepared.name} has {len(units)} group{'s' if len(units) != 1 else ''} and three are"
            " needed for train, valid and test: give more captures, or ask for a split by time or"
            " by row"
        )
    unit_of_group = np.full(len(prepared.groups), -1)
    unit_of_group[present] = [units.index(name) for name in names]
    unit = unit_of_group[prepared.group]
    table = np.zeros((len(units), len(prepared.classes) + 1))
    np.add.at(table, (unit, prepared.label.astype(np.int64)), 1)  # -1 is the last column
    dealt = _deal(table, np.random.default_rng(seed), np.array(shares))
    sizes = np.bincount(dealt, minlength=3).tolist()
    how = f"by {kind}: {sizes[0]} train, {sizes[1]} valid, {sizes[2]} test"
    if kind == "groups":
        how += " (fewer than three captures: parts of one capture may be in train and test)"
    return dealt[unit].astype(np.int8), how


def _official(
    prepared: Prepared, names: list[str], groups: Array, seed: int, shares: tuple[float, ...]
) -> tuple[Array, str] | None:
    """Return the split of a set that comes as a part to train on and a smaller one to test on, as
    some are published; None where one of the two has no benign rows or nothing else.
    """
    first = np.isin(prepared.group, groups[np.array(names) == names[0]])
    for part in (first, ~first):
        said = np.unique(prepared.label[part])
        if 0 not in said or not (said > 0).any():
            return None
    test = ~first if first.sum() >= (~first).sum() else first
    rest = np.flatnonzero(~test)
    if not prepared.ordered:
        rest = np.random.default_rng(seed).permutation(rest)
    part = np.full(len(prepared), 2, dtype=np.int8)
    part[rest] = 0
    valid = max(1, round(len(rest) * shares[1] / (shares[0] + shares[1])))
    part[rest[-valid:]] = 1
    groups_of = prepared.groups[int(prepared.group[np.flatnonzero(test)[0]])].partition("/")[0]
    how = f"by capture: test is {groups_of}; valid are rows of the capture that train is of"
    return part, how


def _left_out(
    prepared: Prepared, seed: int, shares: tuple[float, ...], test: tuple[str, ...]
) -> tuple[Array, str]:
    """Return the split where some captures are the test and the others train and valid."""
    families = prepared.families()
    names = {families[g] for g in np.unique(prepared.group).tolist()}
    if unknown := sorted(set(test) - names):
        raise InputError(f"{prepared.name} has no capture {unknown[0]}: {', '.join(sorted(names))}")
    rest = sorted(names - set(test))
    if len(rest) < 2:
        raise InputError(f"without {', '.join(test)} no two captures are left to train and valid")
    place = {name: k for k, name in enumerate(rest)}
    unit = np.array([place.get(name, -1) for name in families])[prepared.group]
    table = np.zeros((len(rest), len(prepared.classes) + 1))
    taught = unit >= 0
    np.add.at(table, (unit[taught], prepared.label[taught].astype(np.int64)), 1)
    two = np.array([shares[0], shares[1], 0.0]) / (shares[0] + shares[1])
    dealt = _deal(table, np.random.default_rng(seed), two, parts=2)
    part = np.append(dealt, 2)[unit].astype(np.int8)
    counts = np.bincount(dealt, minlength=2).tolist()
    how = f"by captures: {counts[0]} train, {counts[1]} valid, test {' and '.join(sorted(test))}"
    return part, how


def _deal(table: F64, rng: np.random.Generator, shares: F64, parts: int = 3) -> Array:
    """Return int8[units]: the part of each, the best of many ways; of two parts none is test."""
    n = len(table)
    if n <= _EVERY:
        all_ways: Array = np.array(list(product(range(parts), repeat=n)), dtype=np.int8)
        found: Array = all_ways[int(np.argmin(_costs(table, all_ways, shares)))]
        return found
    many = max(8, min(_TRIALS, _CELLS // n))
    rows = table.sum(axis=1)
    ways: Array = np.zeros((many, n), dtype=np.int8)
    for k in range(many):
        order = rng.permutation(n)
        middle = np.cumsum(rows[order]) - rows[order] / 2
        edges = np.cumsum(shares)[: parts - 1] * rows.sum()
        ways[k, order] = np.searchsorted(edges, middle, side="right")
    costs = _costs(table, ways, shares)
    best: Array = ways[int(np.argmin(costs))]
    least = float(costs.min())
    for _ in range(_ROUNDS):  # then one unit at a time
        units = rng.permutation(n)[: many // 3]
        ways = np.repeat(best[None, :], parts * len(units), axis=0)
        each = np.tile(np.arange(parts), len(units))
        ways[np.arange(len(ways)), np.repeat(units, parts)] = each
        costs = _costs(table, ways, shares)
        if float(costs.min()) < least:
            best, least = ways[int(np.argmin(costs))], float(costs.min())
    return best


def _costs(table: F64, ways: Array, shares: F64) -> F64:
    """Return float64[ways]: how far each is from what is wished: parts that have rows, benign in
    each, each class in train, in test, then in valid, and at last the shares.
    """
    held = np.stack([(ways == part) @ table for part in range(3)], axis=1)  # [ways, part, class]
    rows, named = held.sum(axis=2), held[:, :, :-1]
    whole = table.sum(axis=0)[:-1]
    absent = (named == 0) & (whole > 0)
    costs: F64 = 10_000.0 * (rows == 0).sum(axis=1)
    costs += absent[:, :, 0] @ np.array([400.0, 100.0, 200.0])
    costs += absent[:, :, 1:].sum(axis=2) @ np.array([10.0, 2.0, 9.5])
    costs += np.abs(rows / rows.sum(axis=1, keepdims=True) - shares).sum(axis=1)
    # Every class in its own shares, so that a large one does not decide alone.
    spread = np.abs(named / np.maximum(whole, 1) - shares[:, None])[:, :, whole > 0]
    costs += spread.sum(axis=(1, 2)) / max(1, 3 * np.count_nonzero(whole))
    return costs


def _absent(prepared: Prepared, rows: list[I64]) -> str:
    """Return what to add to `how` where a class of the set is not in train or not in test."""
    have = [set(np.unique(prepared.label[part]).tolist()) for part in rows]
    known = sorted(set().union(*have) - {-1})
    words = ""
    for k, name in ((0, "train"), (1, "valid"), (2, "test")):
        missing = [prepared.classes[c] for c in known if c not in have[k]]
        if missing:
            words += f"; not in {name}: {', '.join(missing)}"
    return words


def shared(prepared: Prepared, parts: Split) -> int:
    """Return how many rows of test have the features and the label of a row of train."""
    train = np.unique(marks(prepared, parts.train))
    return int(np.isin(marks(prepared, parts.test), train).sum())


def marks(prepared: Prepared, rows: I64) -> U64:
    """Return uint64[m]: one number for features and label of each row, read a piece at a time."""
    out = np.zeros(len(rows), dtype=np.uint64)
    for k in range(0, len(rows), _PIECE):
        index = rows[k : k + _PIECE]
        both = np.column_stack([prepared.x[index], prepared.label[index].astype(np.float32)])
        out[k : k + _PIECE] = hashes(both)
    return out

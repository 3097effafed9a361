"""Decision trees as plain arrays: an isolation forest, boosted trees or a forest that votes,
without scikit-learn.

A file is an .npz of arrays, one entry a node, all trees in one row: feature, threshold, left,
right, value; a leaf has left = right = -1. root has a node for each tree, output the class that
its value counts for, baseline what each class starts from and, last, a forest's scale; about is
format, kind, columns of a row. In a voting forest a node has a value for each class, one after
the other, and output is 0. It is read as bytes that anyone may have made: sizes are checked
before memory is asked for, and trees must be trees.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from guardian import npz
from guardian.errors import BundleError
from guardian.runner import softmax
from guardian.tables import F32, F64, I32, Array

FORMAT = 1
ISOLATION, BOOSTED, VOTING = 0, 1, 2
MAX_NODES = 2_000_000
"""Nodes of all trees: 40 MB in memory, far more than a gateway would want to walk."""
MAX_TREES = 20_000
MAX_DEPTH = 64
"""Steps from a root to its deepest leaf: each costs a pass over all trees."""
MAX_COLUMNS = 4_096
MAX_CLASSES = 256
MAX_VALUE = 1e6
"""Of a leaf, a depth or a part of a logit: sums stay far from overflow."""
SHARE_SLACK = 1e-3
"""The shares of a leaf are float32 in some files."""
CHUNK = 1 << 14
"""Rows times trees of one pass: what it keeps stays within a processor's cache."""
VIEWS = 3
"""Columns of a row for each feature: its last step, its mean and its spread over the steps."""

_ARRAYS = ("about", "feature", "threshold", "left", "right", "value", "root", "output", "baseline")
_WHOLE = ("about", "feature", "left", "right", "root", "output")


@dataclass(frozen=True)
class Trees:
    """Trees that judge rows; `grown` and `read` check them, nothing changes after."""

    kind: int
    columns: int
    feature: Array
    """intp[nodes]: the column that a node looks at. Nodes lie level by level."""
    threshold: F32
    """A row goes right where its column is above it, NaN goes left; inf at a leaf."""
    first: Array
    """intp[nodes]: the left child; the right one lies behind it. A leaf's is itself."""
    value: F64
    """float64[nodes]; of a voting forest float64[nodes, classes], shares that add up to 1."""
    output: I32
    """The class of each tree; it rises. Of a voting forest 0."""
    baseline: F64
    """Where each class starts; of a forest one 0."""
    scale: float
    """Of a forest: mean depth of a row in a tree of as many rows as each tree saw."""
    depth: int

    @property
    def classes(self) -> int:
        """How many classes `probability` gives; a forest has one."""
        return len(self.baseline)

    def sums(self, rows: F32) -> F64:
        """Return float64[n, classes]: the baseline plus the values of the leaves that n rows
        reach. Raises ValueError where the rows have other columns than the trees.
        """
        if rows.ndim != 2 or rows.shape[1] != self.columns:
            raise ValueError(f"rows have shape {rows.shape}, the trees know {self.columns} columns")
        total = np.tile(self.baseline, (len(rows), 1))
        found, begin = np.unique(self.output, return_index=True)
        step = max(1, CHUNK // len(self.output))
        for k in range(0, len(rows), step):
            if self.kind == VOTING:
                leaves = self._leaves(rows[k : k + step])
                total[k : k + step] += self.value.take(leaves, axis=0).sum(axis=1)
                continue
            values = self.value.take(self._leaves(rows[k : k + step]))
            total[k : k + step, found] += np.add.reduceat(values, begin, axis=1)
        return total

    def _leaves(self, rows: F32) -> Array:
        """Return intp[m, trees]: the leaf of each row in each tree."""
        flat = np.ascontiguousarray(rows, dtype=np.float32).ravel()
        start = (np.arange(len(rows)) * self.columns)[:, None]
        node = np.tile(np.arange(len(self.output)), (len(rows), 1))
        for _ in range(self.depth):
            seen = flat.take(start + self.feature.take(node))
            node = self.first.take(node) + (seen > self.threshold.take(node))
        return node

    def probability(self, rows: F32) -> F32:
        """Return float32[n, classes] of boosted trees or of a voting forest."""
        if self.kind == VOTING:
            shares: F32 = (self.sums(rows) / len(self.output)).astype(np.float32)
            return shares
        return softmax(self.sums(rows).astype(np.float32))

    def score(self, rows: F32) -> F64:
        """Return float64[n]: the threat of boosted trees or of a voting forest (1 - probability of
        class 0), or how alone rows stand in an isolation forest: near 1 where few splits part them
        from all, 0.5 where as many as for any.
        """
        sums = self.sums(rows)
        if self.kind == VOTING:
            malice: F64 = 1.0 - sums[:, 0] / len(self.output)
            return malice
        if self.kind == ISOLATION:
            lone: F64 = np.exp2(-sums[:, 0] / (len(self.output) * self.scale))
            return lone
        sums -= sums.max(axis=1, keepdims=True)
        share = np.exp(sums)
        threat: F64 = 1.0 - share[:, 0] / share.sum(axis=1)
        return threat


def summary(x: F32, length: I32 | None = None) -> F32:
    """Return float32[n, 3 F], the rows that trees see of float32[n, T, F]: the last step, mean
    and standard deviation over the real steps; `length` says how many are real, from the end.
    """
    steps = x.shape[1]
    if length is None:
        length = np.full(len(x), steps, dtype=np.int32)
    real = (np.arange(steps) >= (steps - length)[:, None])[:, :, None]
    count = np.maximum(length, 1)[:, None].astype(np.float32)
    mean = (x * real).sum(axis=1) / count
    spread = np.sqrt((np.square(x - mean[:, None]) * real).sum(axis=1) / count)
    return np.concatenate([x[:, -1], mean, spread], axis=1).astype(np.float32)


def grown(
    kind: int,
    columns: int,
    nodes: dict[str, Array],
    root: Array,
    output: Array,
    baseline: Array,
    scale: float = 1.0,
) -> Trees:
    """Return checked trees from arrays as a file has them (`nodes`: feature, threshold, left,
    right, value). Raises ValueError with what is wrong.
    """
    baseline = np.asarray(baseline, np.float64)
    feature, left, right = (np.asarray(nodes[k], np.int64) for k in ("feature", "left", "right"))
    threshold = np.asarray(nodes["threshold"], np.float32)
    value = np.asarray(nodes["value"], np.float64)
    root, output = np.asarray(root, np.int64), np.asarray(output, np.int64)
    count = len(feature)
    same = all(a.shape == (count,) for a in (feature, threshold, left, right))
    same = same and value.shape == ((count, baseline.size) if kind == VOTING else (count,))
    _require(same and 1 <= count <= MAX_NODES, "the arrays of nodes do not fit each other")
    _require(root.ndim == 1 and 1 <= len(root) <= MAX_TREES, "there are no trees, or too many")
    _require(kind in (ISOLATION, BOOSTED, VOTING), "the kind of trees is not known")
    _require(1 <= columns <= MAX_COLUMNS, "the rows have no columns, or too many")
    classes = baseline.shape[0] if baseline.ndim == 1 else 0
    _require(1 <= classes <= MAX_CLASSES, "there are no classes, or too many")
    _require(output.shape == root.shape, "not every tree has a class")
    _require(_within(output, classes), "a tree is of no class")
    small = (np.abs(value) <= MAX_VALUE).all() and (np.abs(baseline) <= MAX_VALUE).all()
    _require(bool(small) and 0 < scale <= MAX_VALUE, "a value is no number, or too large")
    if kind == VOTING:
        _require(not output.any() and not baseline.any(), "a voting forest starts from nothing")
        leaf = value[left < 0]
        even = (np.abs(leaf.sum(axis=1) - 1.0) <= SHARE_SLACK).all() and (leaf >= 0).all()
        _require(bool(even), "the shares of a leaf do not add up to 1")
    by_class = np.argsort(output, kind="stable")
    root, output = root[by_class], output[by_class]
    order, depth = _by_level(root, left, right)
    inner = left[order] >= 0
    _require(_within(feature[order][inner], columns), "a node looks at no column")
    _require(bool(np.isfinite(threshold[order][inner]).all()), "a threshold is not a number")
    # Children come in pairs in the order of their parents, behind all the roots.
    first = np.arange(len(order))
    first[inner] = len(root) + 2 * np.arange(int(inner.sum()))
    return Trees(
        kind=kind,
        columns=columns,
        feature=np.where(inner, feature[order], 0),
        threshold=np.where(inner, threshold[order], np.float32(np.inf)),
        first=first,
        value=value[order],
        output=output.astype(np.int32),
        baseline=baseline,
        scale=float(scale),
        depth=depth,
    )


def _by_level(root: Array, left: Array, right: Array) -> tuple[Array, int]:
    """Return the nodes level by level, and the depth. Raises ValueError where a node is reached
    twice, so that what loops is refused.
    """
    count = len(left)
    _require(_within(root, count), "a root is no node")
    levels, level = [root], root
    reached = len(root)
    while True:
        inner = level[left[level] >= 0]
        if not len(inner):
            break
        level = np.stack([left[inner], right[inner]], axis=1).ravel()
        _require(_within(level, count), "a child is no node")
        reached += len(level)
        _require(reached <= count and len(levels) <= MAX_DEPTH, "the nodes do not make trees")
        levels.append(level)
    order = np.concatenate(levels)
    _require(len(np.unique(order)) == len(order), "the nodes do not make trees")
    return order, len(levels) - 1


def _within(numbers: Array, count: int) -> bool:
    return bool(((numbers >= 0) & (numbers < count)).all())


def _require(good: bool, what: str) -> None:
    if not good:
        raise ValueError(what)


# --- in a file ------------------------------------------------------------------------------


def save(trees: Trees, path: Path) -> None:
    """Write trees as a file that `read` takes."""
    inner = trees.first != np.arange(len(trees.first))
    left = np.where(inner, trees.first, -1)
    about = (FORMAT, trees.kind, trees.columns)
    np.savez_compressed(
        path,
        about=np.array(about, np.int64),
        feature=trees.feature.astype(np.int32),
        threshold=np.where(inner, trees.threshold, 0).astype(np.float32),
        left=left.astype(np.int32),
        right=np.where(inner, left + 1, -1).astype(np.int32),
        value=trees.value.astype(np.float32 if trees.kind == VOTING else np.float64).ravel(),
        root=np.arange(len(trees.output), dtype=np.int32),
        output=trees.output,
        baseline=np.append(trees.baseline, trees.scale),
    )


def read(content: bytes, columns: int | None = None) -> Trees:
    """Return the trees of a file's bytes, for rows of `columns` where given.

    Raises BundleError where it is no such file, or not of trees that can be walked.
    """
    try:
        arrays = npz.arrays(content, _ARRAYS, 8 * MAX_NODES)
        rows = all(a.ndim == 1 for a in arrays.values())
        _require(rows, "an array is not a row of numbers")
        version, kind, wide = (int(v) for v in arrays["about"])
        _require(version == FORMAT, f"its format is {version}, this Guardian reads {FORMAT}")
        _require(columns in (None, wide), f"its rows have {wide} columns, not {columns}")
        ends = arrays["baseline"].astype(np.float64)
        _require(ends.ndim == 1 and len(ends) >= 2, "the baseline has no scale")
        whole = all(arrays[k].dtype.kind in "iu" for k in _WHOLE)
        _require(whole, "a place in a tree is no whole number")
        nodes = {k: arrays[k] for k in ("feature", "threshold", "left", "right", "value")}
        scale = float(ends[-1])
        if kind == VOTING:
            nodes["value"] = nodes["value"].reshape(-1, len(ends) - 1)
        return grown(kind, wide, nodes, arrays["root"], arrays["output"], ends[:-1], scale)
    except npz.FAULTS as error:
        raise BundleError(
            f"the trees cannot be read: {str(error)[:120] or type(error).__name__}; "
            "make the file again on the workstation"
        ) from error

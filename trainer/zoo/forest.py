"""forest: an isolation forest over a sequence's last step, mean and spread."""

from __future__ import annotations

from typing import Any

import numpy as np

from guardian import trees
from guardian.errors import InputError
from guardian.tables import F32, F64, Array
from trainer.zoo.config import Config
from trainer.zoo.family import Family
from trainer.zoo.screens import no_network, nodes_of, rows_of


def fit(x: F32, label: Array, weight: F32 | None, config: Config, seed: int) -> trees.Trees:
    """Return the trees grown on the benign sequences (label 0) of float32[m, T, F]."""
    from sklearn.ensemble import IsolationForest  # noqa: PLC0415 - a slow import

    benign = np.asarray(label) == 0
    if benign.sum() < 2:
        raise InputError("a forest learns from benign sequences, and there are none: add some")
    rows = rows_of(x)[benign]
    forest = IsolationForest(
        n_estimators=config.trees, max_samples=min(config.samples, len(rows)), random_state=seed
    ).fit(rows, sample_weight=None if weight is None else np.asarray(weight)[benign])
    return planted(forest)


def planted(forest: Any) -> trees.Trees:
    """Return the arrays of a fitted scikit-learn isolation forest.

    A leaf's value is the depth of a row that falls there: its own, and the mean depth of a tree
    grown from the rows that were left in it.
    """
    parts, roots, count = [], [], 0
    for one in forest.estimators_:
        tree = one.tree_
        inner = tree.children_left >= 0
        roots.append(count)
        parts.append(
            nodes_of(
                feature=np.where(inner, tree.feature, 0),
                threshold=tree.threshold,
                left=np.where(inner, tree.children_left + count, -1),
                right=np.where(inner, tree.children_right + count, -1),
                value=_depth(tree) + mean_depth(tree.n_node_samples),
            )
        )
        count += tree.node_count
    nodes = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    scale = float(mean_depth(np.array([forest.max_samples_]))[0])
    output = np.zeros(len(roots), np.int64)
    columns = int(forest.n_features_in_)
    return trees.grown(trees.ISOLATION, columns, nodes, np.array(roots), output, np.zeros(1), scale)


def _depth(tree: Any) -> F64:
    """Return the depth of each node; a child lies behind its parent."""
    depth = np.zeros(tree.node_count)
    for node in range(tree.node_count):
        for child in (tree.children_left[node], tree.children_right[node]):
            if child >= 0:
                depth[child] = depth[node] + 1
    return depth


def mean_depth(rows: Array) -> F64:
    """Return the mean depth at which a random tree of so many rows parts one from all others:
    2 H(n - 1) - 2 (n - 1) / n, where H(n) is near log n + 0.5772.
    """
    n = np.asarray(rows, np.float64)
    safe = np.maximum(n, 3.0)
    many = 2.0 * (np.log(safe - 1.0) + np.euler_gamma) - 2.0 * (safe - 1.0) / safe
    found: F64 = np.where(n > 2, many, np.where(n == 2, 1.0, 0.0))
    return found


FAMILY = Family(
    name="forest",
    task="screen",
    about="Asks how few random splits part a sequence from all usual ones.",
    drawing="100 isolation trees of 256 rows over last step, mean and spread",
    at_export="Trees become plain arrays in an .npz; guardian.trees walks them.",
    defaults=Config(window=10, trees=100, samples=256),
    uses=frozenset({"window", "stride", "trees", "samples"}),
    build=no_network,
    fit=fit,
)

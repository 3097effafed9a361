"""Fitted scikit-learn trees as members of a bundle's classifier: every class has its place."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from guardian import trees
from guardian.members import TREES, ModelFile
from trainer.labels import CLASSES
from trainer.zoo import boosted
from trainer.zoo.screens import nodes_of

ABSENT = -30.0
"""What a class starts from, as a logit, that boosted trees never saw."""


def member(
    found: trees.Trees, name: str, takes: str, *, scaled: bool = False, weight: float = 1.0
) -> ModelFile:
    """Return trees as a member of an ensemble; `takes` is one of guardian.members.TAKES, and
    guardian.voting.rows_of gives the rows that they must be fitted on.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trees.npz"
        trees.save(found, path)
        content = path.read_bytes()
    return ModelFile(name, content, TREES, 0, weight, takes, scaled)


def voting(model: Any, classes: int = len(CLASSES)) -> trees.Trees:
    """Return a fitted RandomForestClassifier or ExtraTreesClassifier, whose labels are indexes of
    the classes (or 0 and 1 with `classes` 2). Give it a max_depth: guardian.trees walks 64 steps.
    """
    where = np.asarray(model.classes_, np.int64)
    parts, roots, count = [], [], 0
    for estimator in model.estimators_:
        tree = estimator.tree_
        inner = tree.children_left >= 0
        share = np.zeros((tree.node_count, classes))
        share[:, where] = tree.value[:, 0] / tree.value[:, 0].sum(axis=1, keepdims=True)
        roots.append(count)
        parts.append(
            nodes_of(
                feature=np.where(inner, tree.feature, 0),
                threshold=np.where(inner, tree.threshold, 0.0),
                left=np.where(inner, tree.children_left + count, -1),
                right=np.where(inner, tree.children_right + count, -1),
                value=share,
            )
        )
        count += tree.node_count
    nodes = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    output = np.zeros(len(roots), np.int64)
    columns = int(model.n_features_in_)
    return trees.grown(trees.VOTING, columns, nodes, np.array(roots), output, np.zeros(classes))


def boosting(model: Any, classes: int = len(CLASSES)) -> trees.Trees:
    """Return a fitted HistGradientBoostingClassifier, with the same labels."""
    found = boosted.planted(model)
    where = np.asarray(model.classes_, np.int64)
    baseline = np.full(classes, ABSENT)
    baseline[where] = found.baseline
    inner = found.first != np.arange(len(found.first))
    nodes = {
        "feature": found.feature,
        "threshold": np.where(inner, found.threshold, 0),
        "left": np.where(inner, found.first, -1),
        "right": np.where(inner, found.first + 1, -1),
        "value": found.value,
    }
    roots = np.arange(len(found.output))
    return trees.grown(trees.BOOSTED, found.columns, nodes, roots, where[found.output], baseline)

"""boosted: histogram gradient boosting over a sequence's last step, mean and spread."""

from __future__ import annotations

from typing import Any

import numpy as np

from guardian import trees
from guardian.errors import InputError
from guardian.tables import F32, Array
from trainer.zoo.config import Config
from trainer.zoo.family import Family
from trainer.zoo.screens import no_network, nodes_of, rows_of

DEEPEST = 8
"""Splits from a root to a leaf: each step costs the gateway a pass over all trees."""
SHRINK = 1.0
"""L2 of the leaves' values. Without it, rows that are told for sure already have next to no
second derivative, and of several classes a rare one's leaves grow without bounds: NSL-KDD by row
then has an AUC of 0.961 instead of 0.9999.
"""


def fit(x: F32, label: Array, weight: F32 | None, config: Config, seed: int) -> trees.Trees:
    """Return the trees grown on labelled sequences, float32[m, T, F]; class 0 is benign."""
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415 - a slow import

    label = np.asarray(label)
    found = np.unique(label)
    if 0 not in found or len(found) < 2:
        raise InputError("boosting learns from benign sequences and attacks: give it both")
    model = HistGradientBoostingClassifier(
        max_iter=config.trees,
        max_leaf_nodes=config.leaves,
        max_depth=DEEPEST,
        learning_rate=min(config.rate, 1.0),
        l2_regularization=SHRINK,
        early_stopping=False,
        random_state=seed,
    ).fit(rows_of(x), label, sample_weight=weight)
    return planted(model)


def planted(model: Any) -> trees.Trees:
    """Return the arrays of a fitted scikit-learn histogram gradient boosting classifier.

    Output k is its k-th class; of two classes only the second has trees.
    """
    two = len(model.classes_) == 2
    begin = np.ravel(model._baseline_prediction)
    parts, roots, output, count = [], [], [], 0
    for one in model._predictors:
        for number, predictor in enumerate(one):
            node = predictor.nodes
            inner = node["is_leaf"] == 0
            roots.append(count)
            output.append(number + two)
            parts.append(
                nodes_of(
                    feature=np.where(inner, node["feature_idx"], 0),
                    threshold=node["num_threshold"],
                    left=np.where(inner, node["left"].astype(np.int64) + count, -1),
                    right=np.where(inner, node["right"].astype(np.int64) + count, -1),
                    value=np.where(inner, 0.0, node["value"]),
                )
            )
            count += len(node)
    nodes = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    baseline = np.concatenate([[0.0], begin]) if two else begin
    columns = int(model.n_features_in_)
    return trees.grown(trees.BOOSTED, columns, nodes, np.array(roots), np.array(output), baseline)


FAMILY = Family(
    name="boosted",
    task="screen",
    about="Adds up small trees, each of which mends what those before it got wrong.",
    drawing="100 rounds of trees of 31 leaves over last step, mean and spread, softmax",
    at_export="Trees become plain arrays in an .npz; guardian.trees walks them.",
    defaults=Config(window=10, trees=100, leaves=31, rate=0.1),
    uses=frozenset({"window", "stride", "trees", "leaves", "rate"}),
    build=no_network,
    fit=fit,
)

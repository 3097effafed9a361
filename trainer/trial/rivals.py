"""What a bundle is compared with, fitted on the recipe's own material.

Nothing here sees a capture that is judged. What learns from benign traffic alone has the benign
rows of the material; the boosted trees have its attacks, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest

from guardian.bundle import Scaler
from guardian.tables import F32, F64, Sequences
from trainer import calibrate, catalogue, recipe
from trainer.baselines import Pca
from trainer.calibrate import LEAST_THREAT, THREAT_SHARE, source_weights
from trainer.labels import CLASSES
from trainer.recipe import Material, Recipe
from trainer.rows import Rows
from trainer.streams import Stream
from trainer.trial.bench import BySequence, BySlice, Rivals
from trainer.trial.counters import COUNTERS
from trainer.trial.kitsune import Kitsune

Echo = Callable[[str], None]

SMALL = replace(Recipe(), homes=10, held_out_homes=1, grafts=24, placebos=24, longest_h=6.0)
"""Of the recipe as much as the rivals need."""
SEED = 1
LEARNERS_ROWS = 40_000
KITSUNE_SLICES = 3_000
"""Of each capture that it learns from."""
TREES, FOREST, PCA, KITSUNE = (
    "boosted trees, one record", "isolation forest", "PCA error", "Kitsune-like",
)  # fmt: skip


@dataclass(frozen=True)
class _Trees:
    """Boosted trees that see the newest row alone."""

    model: HistGradientBoostingClassifier

    def __call__(self, sequences: Sequences) -> F64:
        return self.of(sequences.x)

    def of(self, x: F32) -> F64:
        """Return float64[m]: the probability of each window float32[m, window, F]."""
        out: F64 = self.model.predict_proba(x[:, -1])[:, 1]
        return out


@dataclass(frozen=True)
class _Forest:
    """An isolation forest that sees the newest row alone."""

    model: IsolationForest
    scaler: Scaler

    def __call__(self, sequences: Sequences) -> F64:
        out: F64 = -self.model.score_samples(_last(self.scaler, sequences.x))
        return out


@dataclass(frozen=True)
class _Components:
    """What principal components leave unexplained of the newest row."""

    model: Pca
    scaler: Scaler

    def __call__(self, sequences: Sequences) -> F64:
        return self.model.score(_last(self.scaler, sequences.x)[:, None])


def counters() -> Rivals:
    """Return the rivals that need no learning."""
    return Rivals({}, dict(COUNTERS))


def fitted(data: Path, echo: Echo, without: frozenset[str] = frozenset()) -> Rivals:
    """Return all rivals, fitted on the captures that may teach and on simulated homes, without
    those of some groups."""
    material = recipe.prepare(data, [], SMALL, echo)
    return of(material, benign_streams(data, without), without)


def of(material: Material, quiet: list[Stream], without: frozenset[str] = frozenset()) -> Rivals:
    """Return all rivals, fitted on a recipe's material and on benign streams."""
    train = material.train.without(without) if without else material.train
    rng = np.random.default_rng(SEED)
    if len(train) > LEARNERS_ROWS:
        train = train.take(np.sort(rng.permutation(len(train))[:LEARNERS_ROWS]))
    weight = train.weights()
    good = train.label == 0
    scaler = calibrate.scaler(train.x[good, -1], weight[good])
    trees = HistGradientBoostingClassifier(
        max_iter=120, learning_rate=0.1, max_leaf_nodes=31, l2_regularization=1.0, random_state=SEED
    )
    trees.fit(train.x[:, -1], train.label > 0, sample_weight=weight)
    benign = _last(scaler, train.x[good])
    forest = IsolationForest(
        n_estimators=100, max_samples=min(512, len(benign)), random_state=SEED, n_jobs=1
    )
    forest.fit(benign, sample_weight=weight[good])
    kitsune = Kitsune(SEED)
    kitsune.learn(quiet)
    by_sequence: dict[str, BySequence] = {
        TREES: _Trees(trees),
        FOREST: _Forest(forest, scaler),
        PCA: _Components(Pca(benign[:, None]), scaler),
    }
    by_slice: dict[str, BySlice] = {**COUNTERS, KITSUNE: kitsune}
    return Rivals(by_sequence, by_slice, {TREES: _line(_Trees(trees), material.held_out, without)})


def _line(model: _Trees, rows: Rows, without: frozenset[str]) -> tuple[float, float]:
    """Return the line of a rival, drawn as a bundle's is, and its answer to ordinary traffic."""
    rows = rows.without(without) if without else rows
    benign = (rows.label == 0) & rows.clean
    scores = model.of(rows.x[benign])
    weight = source_weights(rows, benign)
    line = max(calibrate.threshold(scores, THREAT_SHARE, weight), LEAST_THREAT)
    return line, float(np.quantile(scores, 0.1))


def benign_streams(data: Path, without: frozenset[str]) -> list[Stream]:
    """Return the benign slices of captures that may teach, the first of each."""
    out = []
    for source in catalogue.of("train"):
        if source.group in without or not any(data.glob(source.pattern)):
            continue
        _, stream = next(catalogue.streams(source, data))
        stream = stream.take(np.flatnonzero(stream.label == CLASSES.index("benign")))
        if len(stream):
            out.append(stream.take(slice(0, KITSUNE_SLICES)))
    return out


def _last(scaler: Scaler, x: F32) -> F32:
    """Return the newest rows, scaled, float32[m, F]."""
    return scaler.apply(x[:, -1:], np.ones(len(x), np.int32))[:, 0]

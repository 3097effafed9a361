"""Fitting any family of the zoo: networks by the loop here, screens by themselves, ensembles by
their members. All become something that scores sequences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from guardian import trees
from guardian.errors import InputError
from guardian.tables import F32, F64, Array
from trainer.fitting.how import Fit, History, Rows, balanced
from trainer.fitting.run import save_weights, write_json
from trainer.material import Sequences, joined
from trainer.zoo import ensemble
from trainer.zoo.config import Config
from trainer.zoo.family import Family, Shape

Echo = Callable[[str], None]

IN_MEMORY = 1 << 30
"""Bytes of training sequences up to which they are held; more are read anew in each epoch."""
HELD_OUT = 1 << 16
"""Validation sequences that a fit looks at after each epoch at most."""
SCREENED = 1 << 18
"""Sequences that a screen learns from at most: it needs them in memory."""
BATCH = 1_024


@dataclass(frozen=True)
class Fitted:
    """A fitted family."""

    answer: Callable[[F32], tuple[F64, Array | None]]
    """float32[n, T, F], scaled -> float64[n], higher is more of an attack, and int[n], the class;
    None where it knows none."""
    size: int
    """Parameters of the network; nodes of the trees."""
    save: Callable[[Path], None]
    """Write what was learned to a run's folder."""
    history: History | None = None
    model: Any = None
    """The keras.Model that scores, where there is one."""

    def score(self, x: F32) -> F64:
        """Return the scores alone."""
        return self.answer(x)[0]


def how_of(config: Config, **changes: Any) -> Fit:
    """Return how a family's config wants to be fitted; changes are fields of Fit."""
    of_config = {
        key: getattr(config, key) for key in ("epochs", "batch", "rate", "patience", "weight_decay")
    }
    return Fit(**{**of_config, **changes})


def fit_member(
    family: Family,
    config: Config,
    how: Fit,
    shape: Shape,
    train: Sequences,
    valid: Sequences,
    *,
    seed: int,
    folder: Path,
    echo: Echo,
) -> Fitted:
    """Fit a family.

    Rebuilding families get benign `train` and `valid` sequences alone from the caller. Raises
    InputError where there is nothing to learn from.
    """
    if not len(train):
        raise InputError(
            f"{family.name} finds no sequence to learn from: give more rows, or a shorter window"
        )
    if family.task == "ensemble":
        raise InputError("an ensemble is fitted by its members: see fit_ensemble")
    if family.task == "screen":
        return _screen(family, config, train, seed, how.class_weights)
    return _network(family, config, how, shape, train, valid, seed, folder, echo)


def _screen(
    family: Family, config: Config, train: Sequences, seed: int, class_weights: bool
) -> Fitted:
    assert family.fit is not None
    given = train.spread(SCREENED)
    label = np.maximum(given.label, 0)  # a set without labels is taken for quiet
    weight = balanced(label) if class_weights else None
    grown = family.fit(given.x(), label, weight, config, seed)
    classes = np.unique(label)  # the trees' classes are those they saw

    def answer(x: F32) -> tuple[F64, Array | None]:
        rows = trees.summary(x)
        told = None
        if grown.kind != trees.ISOLATION:
            told = classes[grown.probability(rows).argmax(axis=1)]
        return grown.score(rows), told

    return Fitted(
        answer=answer,
        size=len(grown.feature),
        save=lambda folder: trees.save(grown, folder / "trees.npz"),
    )


def _network(
    family: Family,
    config: Config,
    how: Fit,
    shape: Shape,
    train: Sequences,
    valid: Sequences,
    seed: int,
    folder: Path,
    echo: Echo,
) -> Fitted:
    import keras  # noqa: PLC0415 - screens need none

    from trainer.fitting import device  # noqa: PLC0415
    from trainer.fitting.loop import Stream, fit  # noqa: PLC0415

    strategy = device.strategy_of(how)
    groups = len(train.prepared.groups)

    def built(parameters: int) -> Any:
        keras.utils.set_random_seed(seed)
        with device.built_for(how, parameters, strategy):
            return family.learner(shape, config, groups)

    learner = built(0)
    if device.found() and learner.model.count_params() >= device.PAYS_FROM:
        learner = built(learner.model.count_params())  # in the precision that its size deserves
    weight = np.ones(len(train), np.float32)
    if how.class_weights and family.task != "rebuild":
        weight = balanced(train.label)

    def rows(x: F32, label: Array, group: Array, index: Array) -> Rows:
        return Rows(x, learner.targets(x, label, group), weight[index])

    given: Rows | Any
    if train.size <= IN_MEMORY:
        given = rows(train.x(), train.label, train.group, np.arange(len(train)))
    else:
        digest = f"{train.prepared.digest} {len(train)} {train.window}"
        given = Stream(len(train), lambda epoch: train.pieces(epoch, seed, rows), digest)
    held = valid.spread(HELD_OUT)
    ones = np.ones(len(held), np.float32)
    x = held.x()
    held_rows = Rows(x, learner.targets(x, held.label, held.group), ones)
    history = fit(
        learner.model, given, held_rows, how, loss=learner.loss, monitor=learner.monitor,
        seed=seed, folder=folder, strategy=strategy, echo=echo,
    )  # fmt: skip
    core = learner.core

    def answer(x: F32) -> tuple[F64, Array | None]:
        outputs = np.asarray(core.predict(x, batch_size=BATCH, verbose=0), np.float32)
        told = outputs.argmax(axis=1) if family.task == "classify" else None
        return family.score(outputs, x), told

    return Fitted(
        answer=answer,
        size=int(core.count_params()),
        save=lambda folder: save_weights(folder, core.get_weights()),
        history=history,
        model=core,
    )


def fit_ensemble(
    config: Config,
    members: dict[str, Fitted],
    judge: Sequences,
) -> Fitted:
    """Return the ensemble of fitted members, the screen first, its weights chosen on `judge`."""
    scores = {name: joined(judge.score(member.score)) for name, member in members.items()}
    chosen = ensemble.choose(scores, judge.label, config.gate)
    first = next(iter(members))

    def answer(x: F32) -> tuple[F64, Array | None]:
        screened = members[first].score(x)
        return chosen.asked(screened, lambda name, rows: members[name].score(x[rows])), None

    return Fitted(
        answer=answer,
        size=sum(member.size for member in members.values()),
        save=lambda folder: write_json(folder / "ensemble.json", chosen.as_json()),
    )

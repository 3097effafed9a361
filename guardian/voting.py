"""The classifier as it runs: one model, or several whose answers are averaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from guardian import trees
from guardian.errors import BundleError
from guardian.members import TREES, Ensemble, ModelFile
from guardian.runner import Runner, softmax
from guardian.tables import F32, F64, I32

EDGE = 1e-4
"""A member's threat counts as at least this and at most 1 less this in log odds: a forest whose
leaves are all pure answers 0 or 1, which no other member could outvote. 9.2 either way."""
ROWS = 128
"""Sequences judged together where there are trees, whose walk costs little more then."""

Judge = Callable[[F32, F32, I32], F32]
"""Raw and scaled sequences and their lengths -> probabilities, float32[m, classes]."""


class Classifier:
    """The members of an ensemble; not to be shared between threads."""

    def __init__(
        self, ensemble: Ensemble, interpreter: Any, shape: tuple[int, int], classes: int
    ) -> None:
        """`shape` is (T, F). Raises BundleError where a member does not fit."""
        self._log_odds = ensemble.mean == "log-odds"
        self._members: list[tuple[float, Judge]] = []
        total = sum(member.weight for member in ensemble.members)
        full = False
        for member in ensemble.members:
            judge, known = _judge(member, interpreter, shape, classes)
            self._members.append((member.weight / total, judge))
            full = full or known == classes
        if not full:
            raise BundleError(
                "no member of the bundle's classifier knows all its classes: pack it again with "
                "one that does"
            )
        some = any(member.form == TREES for member in ensemble.members)
        self.chunk = max(ensemble.batch, ROWS if some else 1)

    def __call__(self, raw: F32, z: F32, length: I32) -> F32:
        """Return float32[m, classes] of raw and of scaled float32[m, T, F]."""
        answers = [(weight, judge(raw, z, length)) for weight, judge in self._members]
        if len(answers) == 1:
            return answers[0][1]
        return combined(answers, self._log_odds)


def combined(answers: Sequence[tuple[float, F32]], log_odds: bool) -> F32:
    """Return float32[m, classes] of several members' (weight, probabilities); weights add up to 1.

    Those that know two classes have a say in the threat alone.
    """
    classes = max(probability.shape[1] for _, probability in answers)
    threat: F64 = np.zeros(len(answers[0][1]))
    kinds: F64 = np.zeros((len(threat), classes - 1))
    for weight, probability in answers:
        own = np.clip(1.0 - probability[:, 0].astype(np.float64), 0.0, 1.0)
        if log_odds:
            own = np.clip(own, EDGE, 1.0 - EDGE)
            own = np.log(own / (1.0 - own))
        threat += weight * own
        if probability.shape[1] == classes:
            kinds += weight * probability[:, 1:]
    if log_odds:
        threat = 1.0 / (1.0 + np.exp(-threat))
    out = np.empty((len(threat), classes), dtype=np.float32)
    out[:, 0] = 1.0 - threat
    # Where nobody names an attack, each is as likely.
    share = kinds.sum(axis=1, keepdims=True)
    even = share[:, 0] <= 0.0
    kinds[even], share[even] = 1.0, classes - 1
    out[:, 1:] = threat[:, None] * kinds / share
    return out


def _judge(
    member: ModelFile, interpreter: Any, shape: tuple[int, int], classes: int
) -> tuple[Judge, int]:
    """Return a member ready to run and how many classes it knows."""
    if member.form != TREES:
        return partial(_network, Runner(member, interpreter, shape, (classes,))), classes
    columns = {"last": shape[1], "summary": trees.VIEWS * shape[1], "flat": shape[0] * shape[1]}
    found = trees.read(member.content, columns[member.takes])
    if found.kind == trees.ISOLATION or found.classes not in (2, classes):
        raise BundleError(
            f"the {member.name} of the bundle gives no probability of 2 or {classes} classes: "
            "pack boosted trees or a voting forest"
        )
    return partial(_walk, found, member.takes, member.scaled), found.classes


def _network(run: Runner, raw: F32, z: F32, length: I32) -> F32:
    del raw, length
    return softmax(run(z))


def _walk(found: trees.Trees, takes: str, scaled: bool, raw: F32, z: F32, length: I32) -> F32:
    return found.probability(rows_of(z if scaled else raw, length, takes))


def rows_of(x: F32, length: I32, takes: str) -> F32:
    """Return the rows that trees see of float32[m, T, F]; what is padding counts as 0."""
    if takes == "last":
        return x[:, -1]
    if takes == "summary":
        return trees.summary(cleared(x, length), length)
    return cleared(x, length).reshape(len(x), -1)


def cleared(x: F32, length: I32) -> F32:
    """Return sequences whose padded steps are 0."""
    steps = x.shape[1]
    out: F32 = x.copy()
    out[np.arange(steps) < (steps - length)[:, None]] = 0.0
    return out

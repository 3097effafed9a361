"""ensemble: a screen judges all, the others only what it suspects; a weighted sum decides.

Members' scores have different units, so each becomes its surprise: how few benign sequences of
the validation part score as high, as -log10 of their share. Needs no keras.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from guardian.errors import ConfigError
from guardian.tables import F64, Array, Bool
from trainer.metrics import auc
from trainer.zoo.config import Config
from trainer.zoo.family import REGISTRY, Family
from trainer.zoo.screens import no_network

STEPS = 10
"""Weights are tenths: finer ones would fit the validation part's chance."""
MOST_MEMBERS = 5
SHARE = 0.01
"""Share of benign sequences at which recall counts in the choice of the weights."""
_TAIL = 10.0 ** -np.linspace(0, 4, 65)
"""The shares of benign scores whose quantiles are kept."""


@dataclass(frozen=True)
class Ruler:
    """What a member's score means: the scores that few benign sequences reach."""

    quantile: F64
    """float64[65]: the score that a share of _TAIL reaches; it rises."""

    def surprise(self, score: F64) -> F64:
        """Return float64[n], 0 to 5: -log10 of the share of benign scores as high; above 4, where
        none was, it still rises with the score.
        """
        level = np.interp(score, self.quantile, -np.log10(_TAIL))
        top = self.quantile[-1]
        spread = max(float(top - self.quantile[0]), 1e-12)
        over = np.maximum(score - top, 0.0)
        found: F64 = level + over / (over + spread)
        return found


@dataclass(frozen=True)
class Ensemble:
    """Members by name, the screen first, with the weights that validation chose."""

    weights: dict[str, float]
    rulers: dict[str, Ruler]
    gate: float
    """Surprise of the screen from which on the others are asked."""

    @property
    def screen(self) -> str:
        """The member that judges all."""
        return next(iter(self.weights))

    def suspicious(self, screen: F64) -> Bool:
        """Return which rows the screen passes on, from its scores."""
        passed: Bool = self.rulers[self.screen].surprise(screen) >= self.gate
        return passed

    def score(self, scores: Mapping[str, F64]) -> F64:
        """Return float64[n] from every member's scores of all rows. Rows that the screen did not
        suspect keep its surprise alone: the others' scores of them are not looked at.
        """
        return self.asked(scores[self.screen], lambda name, rows: scores[name][rows])

    def asked(self, screen: F64, ask: Callable[[str, Array], F64]) -> F64:
        """Return float64[n]; `ask(member, rows)` scores the rows that the screen passed on."""
        first, *others = self.weights
        total = self.weights[first] * self.rulers[first].surprise(screen)
        rows = np.flatnonzero(self.suspicious(screen))
        for name in others:
            if len(rows) and self.weights[name]:
                found = self.rulers[name].surprise(ask(name, rows))
                total[rows] += self.weights[name] * found
        return total

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        rulers = {name: ruler.quantile.tolist() for name, ruler in self.rulers.items()}
        return {"weights": self.weights, "rulers": rulers, "gate": self.gate}


def from_json(kept: Mapping[str, Any]) -> Ensemble:
    """Return the ensemble that `as_json` described. Raises ConfigError where it is none."""
    try:
        rulers = {k: Ruler(np.asarray(v, np.float64)) for k, v in kept["rulers"].items()}
        weights = {str(k): float(v) for k, v in kept["weights"].items()}
        gate = float(kept["gate"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"this describes no ensemble: {error}; choose it again") from error
    fits = len(weights) > 0 and weights.keys() == rulers.keys()
    if not fits or any(r.quantile.shape != _TAIL.shape for r in rulers.values()):
        raise ConfigError("this ensemble's members and quantiles do not fit: choose it again")
    return Ensemble(weights, rulers, gate)


def members(config: Config) -> list[Family]:
    """Return the families of a config's members. Raises ConfigError where they are no ensemble."""
    names = config.members
    found = [REGISTRY[name] for name in names]
    if not 2 <= len(found) <= MOST_MEMBERS or len(set(names)) < len(names):
        raise ConfigError(f"an ensemble has 2 to {MOST_MEMBERS} different members: name them so")
    if found[0].task != "screen" or any(f.task == "ensemble" for f in found):
        raise ConfigError(
            f"{names[0]} cannot be asked about every sequence: name forest or boosted first, "
            "then the sequence models"
        )
    return found


def choose(scores: Mapping[str, F64], label: Array, share: float) -> Ensemble:
    """Return the ensemble of the members' scores of the validation part, the screen first.

    `share` is how many of the benign sequences the screen passes on. Of all weights in tenths,
    those with the best mean of AUC and recall at 1 % of benign sequences are taken.
    """
    label = np.asarray(label)
    benign, attacks = label == 0, label > 0
    if not benign.any() or not attacks.any():
        raise ConfigError("weights are chosen on benign sequences and attacks: give both")
    levels = 1.0 - _TAIL
    rulers = {
        name: Ruler(np.quantile(np.asarray(score, np.float64)[benign], levels))
        for name, score in scores.items()
    }
    found = {name: rulers[name].surprise(np.asarray(scores[name])) for name in scores}
    gate = float(-np.log10(max(share, _TAIL[-1])))
    first, *others = scores
    passed = found[first] >= gate
    best, chosen = -np.inf, (1.0, *(0.0 for _ in others))
    for weights in _weights(len(found)):
        total = weights[0] * found[first]
        for weight, name in zip(weights[1:], others, strict=True):
            total = total + weight * found[name] * passed
        worth = _worth(total[benign], total[attacks])
        if worth > best:
            best, chosen = worth, weights
    return Ensemble(dict(zip(scores, chosen, strict=True)), rulers, gate)


def _weights(count: int) -> list[tuple[float, ...]]:
    """Return all weights in tenths that add up to 1, the screen's above 0 and largest first."""
    every = itertools.product(range(STEPS, -1, -1), repeat=count)
    return [tuple(n / STEPS for n in w) for w in every if sum(w) == STEPS and w[0]]


def _worth(benign: F64, attacks: F64) -> float:
    line = np.quantile(benign, 1.0 - SHARE)
    return (auc(benign, attacks) + float((attacks > line).mean())) / 2


FAMILY = Family(
    name="ensemble",
    task="ensemble",
    about="Asks the sequence models only about what a fast screen suspects, and weighs them.",
    drawing="boosted on all; lstm-classifier and lstm-autoencoder on what it passes; weighted sum",
    at_export="Each member is exported as itself; weights, quantiles and gate are JSON.",
    defaults=Config(window=10, gate=0.1),
    uses=frozenset({"window", "stride", "members", "gate"}),
    build=no_network,
)

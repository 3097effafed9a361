"""What a family is, and the registry of all of them. Needs no keras until one is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np

from guardian.errors import ConfigError
from guardian.scoring import reconstruction_error, softmax
from guardian.tables import F32, F64, I32, Array
from trainer.zoo.config import PRESETS, Config, key_of, nearest

Task = Literal["rebuild", "classify", "screen", "ensemble"]


@dataclass(frozen=True)
class Shape:
    """What goes in and comes out: float32[m, window, features], one of `classes`."""

    window: int
    features: int
    classes: int


@dataclass(frozen=True)
class Learner:
    """A family ready to be fitted: `model.compile(optimizer, learner.loss)`, then
    `model.fit(x, learner.targets(x, label, group), sample_weight=...)`.

    Losses of the parts (divergence from a prior) are added by the model's own layers.
    """

    model: Any
    """The keras.Model that is fitted."""
    core: Any
    """The keras.Model whose weights are kept, exported and scored: without the parts that only
    teach. It shares its layers with `model` and often is `model`."""
    loss: Any
    """What `compile` takes: a function giving float32[batch], or one for each output."""
    targets: Callable[[Any, Any, Any], Any]
    """(x, label int[m], group int[m]) -> what `fit` takes as y; arrays or tensors."""
    monitor: str = "val_loss"
    """The loss that says when to stop: without what a part loses on purpose."""


COMMON = frozenset(
    {"window", "stride", "epochs", "batch", "rate", "patience", "weight_decay", "activation"}
)
"""Hyperparameters of every family that is fitted by gradient."""


@dataclass(frozen=True)
class Family:
    """One kind of model: how it is drawn, fitted, scored, and what becomes of it at export."""

    name: str
    task: Task
    about: str
    """What it is, in one sentence."""
    drawing: str
    """Its layers in one line."""
    at_export: str
    """What becomes of its parts at export."""
    defaults: Config
    uses: frozenset[str]
    """The hyperparameters that it reads; others are refused."""
    build: Callable[..., Any]
    """build(shape, config, *, unroll=False, batch=None) -> keras.Model: what is scored; with
    unroll its export twin, with the same weights in the same order. Screens and the ensemble have
    none and raise ConfigError."""
    learn: Callable[[Shape, Config, int], Learner] | None = None
    """Its own learner(shape, config, groups), where fitting needs more than `build`."""
    own: bool = False
    """It reads the gateway's own features by name, and no others."""
    fit: Callable[..., Any] | None = None
    """Of screens: fit(x, label, weight, config, seed) -> guardian.trees.Trees."""

    def config(self, preset: str | None = None, **changes: Any) -> Config:
        """Return its config: the defaults, then a preset, then the changes.

        Raises ConfigError for a hyperparameter that it does not read, or an unknown preset.
        """
        config = self.defaults
        if preset is not None:
            if preset not in PRESETS:
                near = nearest(preset, PRESETS)
                raise ConfigError(f"there is no preset {preset!r}: did you mean {near}?")
            config = PRESETS[preset].apply(config)
        for name in changes:
            key = key_of(name)
            if key not in self.uses:
                raise ConfigError(
                    f"{self.name} has no {name}: it knows {', '.join(sorted(self.uses))}"
                )
        config = config.with_(**changes)
        if "heads" in self.uses and config.hidden[0] % config.heads:
            raise ConfigError(
                f"hidden = {config.hidden[0]} cannot be shared by {config.heads} heads: "
                "give a multiple of the heads"
            )
        return config

    def learner(self, shape: Shape, config: Config, groups: int = 1) -> Learner:
        """Return what is fitted; `groups` is how many groups (captures, homes) the rows are of."""
        if self.learn is not None:
            return self.learn(shape, config, groups)
        from trainer.fit import logits_loss, rebuilt_loss  # noqa: PLC0415 - needs keras

        model = self.build(shape, config)
        if self.task == "rebuild":
            return Learner(model, model, rebuilt_loss, lambda x, _label, _group: x)
        loss = logits_loss(shape.classes, config.smoothing)
        return Learner(model, model, loss, lambda _x, label, _group: label)

    def score(self, outputs: Array, x: F32, length: I32 | None = None) -> F64:
        """Return float64[n]: the threat (1 - probability of class 0), or the mean squared
        difference over the real steps, of n outputs of the model for float32[n, T, F].
        """
        if self.task != "rebuild":
            threat: F64 = 1.0 - softmax(np.asarray(outputs, np.float32))[:, 0].astype(np.float64)
            return np.clip(threat, 0.0, 1.0)
        if length is None:
            length = np.full(len(x), x.shape[1], np.int32)
        error, _ = reconstruction_error(x, np.asarray(outputs, np.float32), length)
        return error.astype(np.float64)


_PLACES = {
    "lstm-autoencoder": "autoencoder",
    "deep-lstm-autoencoder": "deep_autoencoder",
    "lstm-classifier": "classifier",
    "lstm-pair": "pair",
    "views": "views",
    "bilstm": "bilstm",
    "temporal-attention": "temporal_attention",
    "cnn-lstm": "cnn_lstm",
    "transformer": "transformer",
    "vae": "vae",
    "gan": "gan",
    "forest": "forest",
    "boosted": "boosted",
    "ensemble": "ensemble",
}
"""The module of each family; it has one FAMILY."""


class _Registry(Mapping[str, Family]):
    """The families by name; each is loaded when it is asked for."""

    def __getitem__(self, name: str) -> Family:
        if name not in _PLACES:
            near = nearest(name, _PLACES)
            raise ConfigError(f"there is no model {name!r}: did you mean {near}?")
        return _load(_PLACES[name])

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)

    def __contains__(self, name: object) -> bool:
        return name in _PLACES


@cache
def _load(place: str) -> Family:
    family: Family = importlib.import_module(f"trainer.zoo.{place}").FAMILY
    return family


REGISTRY: Mapping[str, Family] = _Registry()

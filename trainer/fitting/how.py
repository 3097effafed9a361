"""How a model is fitted, on what, and what came of it: plain data, no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np

from guardian.errors import ConfigError
from guardian.tables import F32, Array

Precision = Literal["auto", "float32", "float16", "bfloat16"]
Distribute = Literal["off", "mirrored", "multiworker"]


@dataclass(frozen=True)
class Rows:
    """What a model is fitted or judged on."""

    x: F32
    """float32[n, T, F], scaled."""
    y: Any
    """The targets: array[n, ...], or a list or dict of them, one for each output."""
    weight: F32
    """float32[n]: what a row's loss counts."""

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Augment:
    """What is done to the sequences of a training step; validation sees them as they are.

    Where the targets are the input itself, they stay as they were: the model rebuilds what was
    there before.
    """

    noise: float = 0.0
    """Standard deviation of what is added to each value."""
    feature_dropout: float = 0.0
    """Chance of each feature to be zero in a whole sequence."""
    jitter: int = 0
    """Most steps that a sequence is moved by in time; zeros come in where it left."""
    crop: float = 0.0
    """Chance of a sequence to lose its first steps (half of them at most): zeros stand there."""

    @property
    def on(self) -> bool:
        """Whether anything is done at all."""
        return bool(self.noise or self.feature_dropout or self.jitter or self.crop)


@dataclass(frozen=True)
class Fit:
    """How a model is fitted."""

    epochs: int = 50
    batch: int = 256
    rate: float = 2e-3
    patience: int = 5
    """Epochs without a better validation loss before it stops; 0 never stops. The best weights
    are kept either way, where there is validation."""
    weight_decay: float = 1e-4
    """By AdamW; 0 is Adam."""
    decay: bool = True
    """The rate falls by a cosine to a twentieth; else it stays."""
    clip: float = 1.0
    """The longest gradient of a weight tensor; 0 does not clip."""
    class_weights: bool = False
    """Rows count inversely to how many their class has. Of the caller who knows the classes."""
    augment: Augment = field(default_factory=Augment)
    precision: Precision = "auto"
    jit: bool | None = None
    """XLA; None leaves it to the device."""
    recompute: bool = False
    """Gradient checkpointing: recurrent and attention layers are computed again for the gradient
    instead of being remembered. Less memory, more time."""
    distribute: Distribute = "off"
    tensorboard: bool = False
    """Write curves for TensorBoard to `folder`/tensorboard."""

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch", 1), ("patience", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}: give {least} or more")
        if not self.rate > 0:
            raise ConfigError(f"rate is {self.rate}: give a learning rate above 0")


def fit_of(about: dict[str, Any]) -> Fit:
    """Return the Fit that `dataclasses.asdict` made into JSON. Raises ConfigError."""
    known = {f.name for f in fields(Fit)}
    if unknown := sorted(set(about) - known):
        raise ConfigError(f"there is no {unknown[0]} in how a model is fitted")
    try:
        return Fit(**{**about, "augment": Augment(**about.get("augment", {}))})
    except TypeError as error:
        raise ConfigError(f"how a model is fitted cannot be read: {error}") from error


@dataclass
class History:
    """Losses by epoch, and how the fit went."""

    loss: list[float] = field(default_factory=list)
    """Mean training loss of each epoch, dropout and augmentation included."""
    valid: list[float] = field(default_factory=list)
    """Validation loss after each epoch; empty without validation."""
    best: int = -1
    """The epoch (from 0) whose weights were kept."""
    seconds: list[float] = field(default_factory=list)
    """Wall time of each epoch; compiling is in the first."""
    stopped: str = ""
    """Why it ended before the last epoch; empty where it did not."""
    device: str = ""
    """What was found and chosen."""


def balanced(label: Array, weight: F32 | None = None) -> F32:
    """Return float32[n]: weights under which every class counts the same, their mean 1."""
    weight = np.ones(len(label), np.float32) if weight is None else weight
    _, number = np.unique(label, return_inverse=True)
    total = np.bincount(number, weights=weight)
    share = (weight / total[number]).astype(np.float32)
    return np.asarray(share * (len(label) / max(share.sum(), 1e-30)), np.float32)

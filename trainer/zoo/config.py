"""Every hyperparameter with its default, and what a person may ask of it. Needs no keras."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from guardian.errors import ConfigError

ACTIVATIONS = ("tanh", "relu", "gelu", "elu", "selu", "swish", "sigmoid", "linear")


def _of(default: Any, low: float, high: float, about: str) -> Any:
    """Declare a hyperparameter: its default, the least and the most it may be, what it is."""
    return field(default=default, metadata={"low": low, "high": high, "about": about})


@dataclass(frozen=True)
class Config:
    """The hyperparameters of all families; `Family.uses` says which a family reads."""

    window: int = _of(10, 2, 1024, "steps of a sequence")
    stride: int = _of(1, 1, 1024, "steps between the starts of two sequences")
    hidden: tuple[int, ...] = _of((64, 32), 1, 4096, "units of each layer")
    code: int = _of(32, 1, 4096, "width of the code between encoder and decoder")
    heads: int = _of(4, 1, 64, "heads of attention; the width must be a multiple of them")
    kernel: int = _of(3, 1, 64, "steps a convolution sees")
    dropout: float = _of(0.2, 0.0, 0.9, "share of units dropped while training")
    activation: str = _of("tanh", 0, 0, "activation of the recurrent layers")

    epochs: int = _of(50, 1, 100_000, "passes over the training rows at most")
    batch: int = _of(256, 1, 1_000_000, "sequences of one training step")
    rate: float = _of(2e-3, 1e-8, 10.0, "learning rate at its peak")
    patience: int = _of(5, 0, 100_000, "epochs without a better validation loss before it stops")
    weight_decay: float = _of(1e-4, 0.0, 1.0, "decay of the weights in a step, by AdamW")
    smoothing: float = _of(0.0, 0.0, 0.5, "label smoothing")

    hierarchy: bool = _of(True, 0, 1, "LSTMs at three time scales instead of one")
    attention: bool = _of(True, 0, 1, "multi-head temporal attention")
    temperature: bool = _of(True, 0, 1, "a learned temperature for each head")
    periodic: bool = _of(True, 0, 1, "a learned periodic bias over the lag between two steps")
    memory: bool = _of(True, 0, 1, "a memory bank, read by attention")
    slots: int = _of(16, 1, 4096, "slots of the memory bank")
    adversary: bool = _of(True, 0, 1, "a head that guesses the group behind gradient reversal")
    reversal: float = _of(0.1, 0.0, 100.0, "strength of the reversed gradient")
    bayesian: bool = _of(True, 0, 1, "a variational head: weights are distributions")
    variance: bool = _of(True, 0, 1, "an output for the noise in the data")
    monte_carlo: int = _of(20, 0, 10_000, "passes with dropout on that measure doubt; 0 is off")
    kl: float = _of(1e-3, 0.0, 100.0, "weight of the divergence from the prior")

    trees: int = _of(100, 1, 2_000, "trees of a forest, rounds of boosting")
    leaves: int = _of(31, 2, 1_024, "leaves of a boosted tree at most")
    samples: int = _of(256, 2, 1_000_000, "rows that an isolation tree sees")

    members: tuple[str, ...] = _of(
        ("boosted", "lstm-classifier", "lstm-autoencoder"), 0, 0, "members, the screen first"
    )
    gate: float = _of(0.01, 0.0, 1.0, "share of benign rows that the screen passes on")

    @property
    def layers(self) -> int:
        """How many layers `hidden` lists."""
        return len(self.hidden)

    def with_(self, **changes: Any) -> Config:
        """Return a config with these changes, checked.

        `layers` cuts `hidden` or repeats its last width; one number for `hidden` goes for every
        layer; the option names seq_length, hidden_size, learning_rate, batch_size are understood.
        Raises ConfigError with the nearest right key.
        """
        wanted = {key_of(key): value for key, value in changes.items()}
        if len(wanted) < len(changes):
            raise ConfigError(f"{', '.join(changes)} name one hyperparameter twice: give it once")
        count = wanted.pop("layers", None)
        clean = {key: _checked(key, value) for key, value in wanted.items() if key != "hidden"}
        hidden = self.hidden
        if "hidden" in wanted:
            hidden = _checked("hidden", _widths(wanted["hidden"], self.layers))
        if count is not None:
            hidden = _stacked(hidden, count)
        return replace(self, hidden=hidden, **clean)


FIELDS = {f.name: f for f in fields(Config)}
KEYS = (*FIELDS, "layers")
ALIASES = {
    "seq_length": "window",
    "hidden_size": "hidden",
    "learning_rate": "rate",
    "batch_size": "batch",
    "memory_slots": "slots",
}


def key_of(name: str, known: Iterable[str] = KEYS) -> str:
    """Return the hyperparameter that a name means. Raises ConfigError with the nearest one."""
    plain = name.replace("-", "_").lstrip("_")
    plain = ALIASES.get(plain, plain)
    if plain in known:
        return plain
    near = nearest(plain, (*known, *ALIASES))
    raise ConfigError(f"there is no hyperparameter {name!r}: did you mean {near}?")


def nearest(word: str, words: Iterable[str]) -> str:
    """Return the word that is spelled most like this one."""
    return max(words, key=lambda w: difflib.SequenceMatcher(None, word, w).ratio())


def _widths(value: Any, layers: int) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,) * layers


def _stacked(hidden: tuple[int, ...], count: Any) -> tuple[int, ...]:
    if type(count) is not int or not 1 <= count <= 64:
        raise ConfigError(f"layers = {count!r} is not a whole number from 1 to 64")
    return (hidden + hidden[-1:] * count)[:count]


def _checked(key: str, value: Any) -> Any:
    """Return a value of the default's type within its limits. Raises ConfigError."""
    about = FIELDS[key].metadata
    default = FIELDS[key].default
    if key == "activation":
        if value not in ACTIVATIONS:
            near = nearest(str(value), ACTIVATIONS)
            raise ConfigError(f"activation = {value!r} is not known: did you mean {near}?")
        return value
    if key == "members":
        if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
            raise ConfigError(f"members = {value!r} is not a list of families' names")
        return tuple(value)
    if key == "hidden":
        if not value or len(value) > 64:
            raise ConfigError(f"hidden = {value!r}: give the units of 1 to 64 layers")
        return tuple(_number(key, v, int, about) for v in value)
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ConfigError(f"{key} = {value!r} is neither true nor false")
        return value
    return _number(key, value, type(default), about)


def _number(key: str, value: Any, kind: type, about: Mapping[str, Any]) -> Any:
    low, high = about["low"], about["high"]
    fits = isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
    if not fits or not math.isfinite(value) or not low <= value <= high:
        what = "whole number" if kind is int else "number"
        raise ConfigError(f"{key} = {value!r} is not a {what} from {low:g} to {high:g}")
    return kind(value)


@dataclass(frozen=True)
class Preset:
    """A wish in one word: how wide the layers become, and what else changes."""

    about: str
    width: float
    """Factor on the units of every layer and on the trees."""
    changes: Mapping[str, Any]

    def apply(self, config: Config) -> Config:
        """Return the config as this preset wishes it; widths stay multiples of the heads."""
        changes = dict(self.changes)
        heads = changes.get("heads", config.heads)
        scale = self.width
        hidden = tuple(max(heads, round(n * scale / heads) * heads) for n in config.hidden)
        return config.with_(
            hidden=config.hidden if scale == 1 else hidden,
            trees=max(1, round(config.trees * scale)),
            **changes,
        )


PRESETS: dict[str, Preset] = {
    "fast": Preset(
        "an answer in minutes: half the width, large batches, few epochs, no Monte Carlo",
        0.5,
        {"epochs": 10, "batch": 512, "patience": 2, "rate": 4e-3, "monte_carlo": 0},
    ),
    "high-performance": Preset(
        "the best figures, for an evening with a GPU: twice the width, patience, many epochs",
        2.0,
        {"epochs": 200, "patience": 15, "rate": 1e-3, "monte_carlo": 50},
    ),
    "interpretability": Preset(
        "a model to look into: one head gives one map to read, no memory behind it, more passes"
        " to measure doubt",
        1.0,
        {"heads": 1, "memory": False, "attention": True, "periodic": True, "monte_carlo": 50},
    ),
    "online": Preset(
        "light enough to follow every step on a gateway: half the width, stride 1, small batches",
        0.5,
        {"stride": 1, "batch": 64, "epochs": 20, "patience": 3, "monte_carlo": 0},
    ),
}

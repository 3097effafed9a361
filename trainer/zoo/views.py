"""views: the shipped classifier."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from guardian.features import GROUPS, NAMES
from trainer.zoo.config import Config
from trainer.zoo.family import COMMON, Family, Learner, Shape
from trainer.zoo.parts import lstm, sequence

NOISE = 0.2
FEATURE_DROPOUT = 0.15
KERNEL, REACH = 3, 3
"""Steps that a convolution sees, and the distance between them in the second one."""

_RAW = ("raw", "gaps")
_PAIR = (*_RAW, "pair")
_ALL = (*_PAIR, "context", "relative")
VIEWS = (("lstm", _RAW), ("lstm", _ALL), ("steps", _PAIR), ("last", _ALL))
"""How each view looks, and the groups of features that it sees. The hour is left out: a capture's
hours are chance."""


def build(shape: Shape, config: Config, *, unroll: bool = False, batch: int | None = None) -> Any:
    """Four views of one sequence; the mean of their logits.

    An LSTM sees single connections and their gaps alone, another one the device's context, too; two
    convolutions see the calls of each destination; a plain network sees the last connection and
    the mean of all. Unlike views err differently: their mean held up better on networks left out
    than any of them. Noise and dropped features while training keep them from learning a network
    by heart.
    """
    inputs, views = _views(shape, config, unroll, batch)
    return keras.Model(inputs, layers.Average()(views), name="views")


def learn(shape: Shape, config: Config, groups: int) -> Learner:
    """Return the learner: each view is taught for itself, so that none leans on another."""
    from trainer.fit import logits_loss  # noqa: PLC0415 - needs keras

    del groups
    inputs, views = _views(shape, config, False, None)
    alone = logits_loss(shape.classes, config.smoothing)

    def loss(wanted: Any, found: Any) -> Any:
        parts = keras.ops.split(found, len(VIEWS), axis=1)
        return sum(alone(wanted, part) for part in parts) / len(VIEWS)

    return Learner(
        keras.Model(inputs, layers.Concatenate()(views), name="views"),
        keras.Model(inputs, layers.Average()(views), name="views"),
        loss,
        lambda _x, label, _group: label,
    )


def _views(shape: Shape, config: Config, unroll: bool, batch: int | None) -> tuple[Any, list[Any]]:
    """Return the input, and the logits of each view."""
    inputs = sequence(shape, batch)
    units = config.hidden[0]
    views = []
    for kind, groups in VIEWS:
        x = layers.Rescaling(_mask(groups))(inputs)
        x = layers.GaussianNoise(NOISE)(x)
        x = layers.SpatialDropout1D(FEATURE_DROPOUT)(x)
        if kind == "lstm":
            x = lstm(units, config, unroll)(x)
        elif kind == "steps":
            x = layers.Conv1D(units, KERNEL, padding="causal", activation="relu")(x)
            x = layers.Conv1D(
                units, KERNEL, padding="causal", dilation_rate=REACH, activation="relu"
            )(x)
            x = layers.Concatenate()([_last(x), layers.GlobalMaxPooling1D()(x)])
        else:
            x = layers.Concatenate()([_last(x), layers.GlobalAveragePooling1D()(x)])
            x = layers.Dense(2 * units, activation="relu")(x)
            x = layers.Dropout(config.dropout)(x)
            x = layers.Dense(units, activation="relu")(x)
        x = layers.Dropout(config.dropout)(x)
        views.append(layers.Dense(shape.classes)(x))
    return inputs, views


def _last(x: Any) -> Any:
    """Return the last step."""
    return x[:, -1]


def _mask(groups: tuple[str, ...]) -> list[float]:
    """Return 1 for each feature of these groups, 0 for the others."""
    return [float(GROUPS[name] in groups) for name in NAMES]


FAMILY = Family(
    name="views",
    task="classify",
    about="The shipped classifier: four views of Guardian's own features, their logits averaged.",
    drawing="LSTM 40 twice, two convolutions of 40, dense 80 and 40, each behind mask and noise, "
    "dropout, dense; the mean of all, softmax",
    at_export="Noise and dropout are gone, softmax is the scorer's; the LSTMs are unrolled.",
    defaults=Config(window=12, hidden=(40,), dropout=0.3, epochs=3, smoothing=0.05),
    uses=COMMON | {"hidden", "dropout", "smoothing"},
    build=build,
    learn=learn,
    own=True,
)

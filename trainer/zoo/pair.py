"""lstm-pair: a single connection and its context, each seen by an LSTM of its own."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from guardian.features import GROUPS, NAMES
from trainer.zoo.config import Config
from trainer.zoo.family import COMMON, Family, Shape
from trainer.zoo.parts import lstm, sequence

NOISE = 0.2
FEATURE_DROPOUT = 0.15
VIEWS = (("raw", "gaps"), ("raw", "gaps", "pair", "context", "relative"))


def build(shape: Shape, config: Config, *, unroll: bool = False, batch: int | None = None) -> Any:
    """Two LSTMs of 40, one that sees single connections and their gaps alone and one that sees
    the device's context, too; the mean of their logits. Unlike views err differently.

    Noise and dropped features while training keep it from learning a network by heart. The hour
    is left out: a capture's hours are chance.
    """
    inputs = sequence(shape, batch)
    views = []
    for groups in VIEWS:
        x = layers.Rescaling(_mask(groups))(inputs)
        x = layers.GaussianNoise(NOISE)(x)
        x = layers.SpatialDropout1D(FEATURE_DROPOUT)(x)
        x = lstm(config.hidden[0], config, unroll)(x)
        x = layers.Dropout(config.dropout)(x)
        views.append(layers.Dense(shape.classes)(x))
    return keras.Model(inputs, layers.Average()(views), name="lstm-pair")


def _mask(groups: tuple[str, ...]) -> list[float]:
    """Return 1 for each feature of these groups, 0 for the others."""
    return [float(GROUPS[name] in groups) for name in NAMES]


FAMILY = Family(
    name="lstm-pair",
    task="classify",
    about="Two views of Guardian's own features, their logits averaged.",
    drawing="twice: mask, noise, LSTM 40, dropout, dense; the mean of both, softmax",
    at_export="Noise and dropout are gone, softmax is the scorer's; both LSTMs are unrolled.",
    defaults=Config(window=12, hidden=(40,), dropout=0.3, epochs=3, smoothing=0.05),
    uses=COMMON | {"hidden", "dropout", "smoothing"},
    build=build,
    own=True,
)

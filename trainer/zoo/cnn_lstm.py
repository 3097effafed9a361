"""cnn-lstm: a usual rival."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from trainer.zoo.config import Config
from trainer.zoo.family import COMMON, Family, Shape
from trainer.zoo.parts import lstm, sequence, to_classes


def build(shape: Shape, config: Config, *, unroll: bool = False, batch: int | None = None) -> Any:
    """Convolutions over the steps before, an LSTM over what they found, logits."""
    x = inputs = sequence(shape, batch)
    *filters, units = config.hidden
    for count in filters:
        x = layers.Conv1D(count, config.kernel, padding="causal", activation="relu")(x)
    x = lstm(units, config, unroll)(x)
    x = layers.Dropout(config.dropout)(x)
    return keras.Model(inputs, to_classes(shape)(x), name="cnn-lstm")


FAMILY = Family(
    name="cnn-lstm",
    task="classify",
    about="Names the class of a sequence from the short patterns that convolutions find in it.",
    drawing="conv 64 of 3 steps, conv 64 of 3 steps, LSTM 64, dropout, dense, softmax",
    at_export="Dropout is gone, softmax is the scorer's; the LSTM is unrolled.",
    defaults=Config(window=10, hidden=(64, 64, 64), kernel=3, dropout=0.2),
    uses=COMMON | {"hidden", "layers", "kernel", "dropout", "smoothing"},
    build=build,
)

"""lstm-autoencoder: what a sequence of usual traffic looks like."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from trainer.zoo.config import Config
from trainer.zoo.family import COMMON, Family, Shape
from trainer.zoo.parts import lstm, sequence, to_features


def build(shape: Shape, config: Config, *, unroll: bool = False, batch: int | None = None) -> Any:
    """Encoder 50, 20; the code repeated; decoder 20, 50; a dense layer back to the features."""
    x = inputs = sequence(shape, batch)
    *outer, inner = config.hidden
    for units in outer:
        x = lstm(units, config, unroll, every=True)(x)
    x = lstm(inner, config, unroll)(x)
    x = layers.RepeatVector(shape.window)(x)
    for units in reversed(config.hidden):
        x = lstm(units, config, unroll, every=True)(x)
    return keras.Model(inputs, to_features(shape)(x), name="lstm-autoencoder")


FAMILY = Family(
    name="lstm-autoencoder",
    task="rebuild",
    about="Rebuilds usual sequences through a narrow code; what it cannot rebuild is unusual.",
    drawing="LSTM 50, LSTM 20, repeat, LSTM 20, LSTM 50, dense",
    at_export="The whole model travels; every LSTM is unrolled.",
    defaults=Config(window=10, hidden=(50, 20), batch=32, epochs=50),
    uses=COMMON | {"hidden", "layers"},
    build=build,
)

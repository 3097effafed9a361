"""deep-lstm-autoencoder: the same idea over long sequences."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from trainer.zoo.config import Config
from trainer.zoo.family import COMMON, Family, Shape
from trainer.zoo.parts import lstm, sequence, to_features


def build(shape: Shape, config: Config, *, unroll: bool = False, batch: int | None = None) -> Any:
    """Encoder 128, 64 with batch norm; a dense code of 32, repeated; the decoder mirrored."""
    x = inputs = sequence(shape, batch)
    for k, units in enumerate(config.hidden):
        x = lstm(units, config, unroll, every=k < config.layers - 1)(x)
        x = layers.BatchNormalization()(x)
    x = layers.Dense(config.code, activation=config.activation)(x)
    x = layers.RepeatVector(shape.window)(x)
    for units in reversed(config.hidden):
        x = lstm(units, config, unroll, every=True)(x)
        x = layers.BatchNormalization()(x)
    return keras.Model(inputs, to_features(shape)(x), name="deep-lstm-autoencoder")


FAMILY = Family(
    name="deep-lstm-autoencoder",
    task="rebuild",
    about="Rebuilds sequences of a hundred steps through a dense code.",
    drawing="LSTM 128, norm, LSTM 64, norm, dense 32, repeat, LSTM 64, norm, LSTM 128, norm, dense",
    at_export="Batch norm becomes a scale and a shift; every LSTM is unrolled.",
    defaults=Config(window=100, stride=10, hidden=(128, 64), code=32, batch=64, rate=1e-3),
    uses=COMMON | {"hidden", "layers", "code"},
    build=build,
)

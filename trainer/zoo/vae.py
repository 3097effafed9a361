"""vae: a variational LSTM autoencoder."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from trainer.zoo.bayes import Sample
from trainer.zoo.config import Config
from trainer.zoo.family import COMMON, Family, Shape
from trainer.zoo.parts import lstm, sequence, to_features


def build(shape: Shape, config: Config, *, unroll: bool = False, batch: int | None = None) -> Any:
    """Encoder 64; a code of 16 that is drawn while training; decoder 64; a dense layer back."""
    x = inputs = sequence(shape, batch)
    for k, units in enumerate(config.hidden):
        x = lstm(units, config, unroll, every=k < config.layers - 1)(x)
    mean = layers.Dense(config.code, name="mean")(x)
    spread = layers.Dense(config.code, kernel_initializer="zeros", name="log_variance")(x)
    x = Sample(config.kl, name="code")([mean, spread])
    x = layers.RepeatVector(shape.window)(x)
    for units in reversed(config.hidden):
        x = lstm(units, config, unroll, every=True)(x)
    return keras.Model(inputs, to_features(shape)(x), name="vae")


FAMILY = Family(
    name="vae",
    task="rebuild",
    about="Rebuilds usual sequences from a code that is a distribution, so that near codes mean "
    "near sequences.",
    drawing="LSTM 64, mean and variance of 16, draw, repeat, LSTM 64, dense",
    at_export="The code is its mean: the variance and the draw stay behind; LSTMs are unrolled.",
    defaults=Config(window=10, hidden=(64,), code=16, kl=1e-3),
    uses=COMMON | {"hidden", "layers", "code", "kl"},
    build=build,
)

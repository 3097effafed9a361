"""Pieces that several drawings share."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from trainer.zoo.config import Config
from trainer.zoo.family import Shape


def sequence(shape: Shape, batch: int | None) -> Any:
    """Return the input: [batch, window, features]."""
    return layers.Input((shape.window, shape.features), batch_size=batch)


def lstm(units: int, config: Config, unroll: bool, *, every: bool = False) -> Any:
    """Return an LSTM layer; `every` gives all steps, else the last one."""
    return layers.LSTM(
        units,
        activation=config.activation,
        return_sequences=every,
        unroll=unroll,
        # On JAX Keras 3.15 takes cuDNN for it, and stacked layers learned badly there
        # (docs/BENCHMARKS.md).
        use_cudnn=False if keras.backend.backend() == "jax" else "auto",
    )


def to_features(shape: Shape) -> Any:
    """Return the dense layer from a decoder's steps back to the features."""
    return layers.TimeDistributed(layers.Dense(shape.features, dtype="float32"), dtype="float32")


def to_classes(shape: Shape) -> Any:
    """Return the dense layer to logits: softmax is the scorer's, int8 is too coarse for it."""
    return layers.Dense(shape.classes, dtype="float32")

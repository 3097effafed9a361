"""The models by name. Each is built twice: to train (fused layers, any batch) and to export.

The export twin is unrolled at a fixed batch: what TFLite runs with builtin ops alone. Both have
the same weights in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from guardian.features import GROUPS, NAMES

DROPOUT = 0.2
NOISE = 0.2
FEATURE_DROPOUT = 0.15

Builder = Callable[..., Any]


def lstm_autoencoder(
    window: int, features: int, *, unroll: bool = False, batch: int | None = None
) -> Any:
    """Encoder 50, 20; the code repeated; decoder 20, 50; a dense layer back to the features."""
    x = inputs = layers.Input((window, features), batch_size=batch)
    x = layers.LSTM(50, return_sequences=True, unroll=unroll)(x)
    x = layers.LSTM(20, unroll=unroll)(x)
    x = layers.RepeatVector(window)(x)
    x = layers.LSTM(20, return_sequences=True, unroll=unroll)(x)
    x = layers.LSTM(50, return_sequences=True, unroll=unroll)(x)
    x = layers.TimeDistributed(layers.Dense(features))(x)
    return keras.Model(inputs, x, name="lstm-autoencoder")


def lstm_classifier(
    window: int, features: int, classes: int, *, unroll: bool = False, batch: int | None = None
) -> Any:
    """LSTM 64, 32 with dropout, then logits: softmax is the scorer's, int8 is too coarse for it."""
    x = inputs = layers.Input((window, features), batch_size=batch)
    x = layers.LSTM(64, return_sequences=True, unroll=unroll)(x)
    x = layers.Dropout(DROPOUT)(x)
    x = layers.LSTM(32, unroll=unroll)(x)
    x = layers.Dropout(DROPOUT)(x)
    x = layers.Dense(classes)(x)
    return keras.Model(inputs, x, name="lstm-classifier")


def lstm_pair(
    window: int, features: int, classes: int, *, unroll: bool = False, batch: int | None = None
) -> Any:
    """Two LSTMs of 40, one that sees single connections and their gaps alone and one that sees
    the device's context, too; the mean of their logits. Unlike views err differently.

    Noise and dropped features while training keep it from learning a network by heart. The hour
    is left out: a capture's hours are chance.
    """
    inputs = layers.Input((window, features), batch_size=batch)
    views = []
    for groups in (("raw", "gaps"), ("raw", "gaps", "pair", "context", "relative")):
        x = layers.Rescaling(_mask(groups))(inputs)
        x = layers.GaussianNoise(NOISE)(x)
        x = layers.SpatialDropout1D(FEATURE_DROPOUT)(x)
        x = layers.LSTM(40, unroll=unroll)(x)
        x = layers.Dropout(0.3)(x)
        views.append(layers.Dense(classes)(x))
    return keras.Model(inputs, layers.Average()(views), name="lstm-pair")


def _mask(groups: tuple[str, ...]) -> list[float]:
    """Return 1 for each feature of these groups, 0 for the others."""
    return [float(GROUPS[name] in groups) for name in NAMES]


REGISTRY: dict[str, Builder] = {
    "lstm-autoencoder": lstm_autoencoder,
    "lstm-classifier": lstm_classifier,
    "lstm-pair": lstm_pair,
}

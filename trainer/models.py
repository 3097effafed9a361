"""The models by name. Each is built twice: to train (fused layers, any batch) and to export.

The export twin is unrolled at a fixed batch: what TFLite runs with builtin ops alone. Both have
the same weights in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

DROPOUT = 0.2

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


REGISTRY: dict[str, Builder] = {
    "lstm-autoencoder": lstm_autoencoder,
    "lstm-classifier": lstm_classifier,
}

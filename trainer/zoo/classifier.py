"""lstm-classifier: which class a sequence is of."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from trainer.zoo.config import Config
from trainer.zoo.family import COMMON, Family, Shape
from trainer.zoo.parts import lstm, sequence, to_classes


def build(shape: Shape, config: Config, *, unroll: bool = False, batch: int | None = None) -> Any:
    """LSTM 64, 32 with dropout, then logits."""
    x = inputs = sequence(shape, batch)
    for k, units in enumerate(config.hidden):
        x = lstm(units, config, unroll, every=k < config.layers - 1)(x)
        x = layers.Dropout(config.dropout)(x)
    return keras.Model(inputs, to_classes(shape)(x), name="lstm-classifier")


FAMILY = Family(
    name="lstm-classifier",
    task="classify",
    about="Names the class of a sequence from its last state.",
    drawing="LSTM 64, dropout, LSTM 32, dropout, dense, softmax",
    at_export="Dropout is gone, softmax is the scorer's; both LSTMs are unrolled.",
    defaults=Config(window=10, hidden=(64, 32), dropout=0.2),
    uses=COMMON | {"hidden", "layers", "dropout", "smoothing"},
    build=build,
)

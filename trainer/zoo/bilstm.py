"""bilstm: ten connections of a source, read forwards and backwards."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from trainer.zoo.config import Config
from trainer.zoo.family import COMMON, Family, Shape
from trainer.zoo.parts import lstm, sequence, to_classes


def build(shape: Shape, config: Config, *, unroll: bool = False, batch: int | None = None) -> Any:
    """Two bidirectional layers of 128 with dropout, then logits."""
    x = inputs = sequence(shape, batch)
    for k, units in enumerate(config.hidden):
        x = layers.Bidirectional(lstm(units, config, unroll, every=k < config.layers - 1))(x)
        x = layers.Dropout(config.dropout)(x)
    return keras.Model(inputs, to_classes(shape)(x), name="bilstm")


FAMILY = Family(
    name="bilstm",
    task="classify",
    about="Names the class of a source's last ten connections, read in both directions.",
    drawing="BiLSTM 128, dropout, BiLSTM 128, dropout, dense, softmax",
    at_export="Dropout is gone, softmax is the scorer's; both directions are unrolled.",
    defaults=Config(window=10, hidden=(128, 128), dropout=0.2, rate=1e-3),
    uses=COMMON | {"hidden", "layers", "dropout", "smoothing"},
    build=build,
)

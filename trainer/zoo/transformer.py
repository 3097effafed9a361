"""transformer: a usual rival."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from trainer.zoo.attention import TemporalAttention
from trainer.zoo.config import Config
from trainer.zoo.family import COMMON, Family, Shape
from trainer.zoo.parts import sequence, to_classes


def build(shape: Shape, config: Config, *, unroll: bool = False, batch: int | None = None) -> Any:
    """Steps with their place, two blocks of attention and a dense pair, their mean, logits."""
    del unroll  # nothing recurs here
    inputs = sequence(shape, batch)
    x = Places()(layers.Dense(config.hidden[0])(inputs))
    for units in config.hidden:
        seen, _ = TemporalAttention(config.heads)(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dropout(config.dropout)(seen)])
        wide = layers.Dense(2 * units, activation="relu")(layers.LayerNormalization()(x))
        wide = layers.Dense(config.hidden[0])(wide)
        x = layers.Add()([x, layers.Dropout(config.dropout)(wide)])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, to_classes(shape)(x), name="transformer")


@keras.saving.register_keras_serializable("guardian")
class Places(layers.Layer):  # type: ignore[misc]
    """Adds a learned vector for the place of a step."""

    def build(self, shape: tuple[Any, ...]) -> None:
        """Make a vector for each of T steps."""
        self._place = self.add_weight(
            shape=shape[1:], initializer=keras.initializers.RandomNormal(stddev=0.02), name="place"
        )
        self.built = True

    def call(self, x: Any) -> Any:
        """Return the steps with their place."""
        return x + self._place


FAMILY = Family(
    name="transformer",
    task="classify",
    about="Names the class of a sequence by attention alone.",
    drawing="dense 64 and place, twice: norm, attention of 4 heads, norm, dense 128, dense 64; "
    "norm, mean, dense, softmax",
    at_export="Dropout is gone, softmax is the scorer's; nothing recurs, so nothing is unrolled.",
    defaults=Config(window=10, hidden=(64, 64), heads=4, dropout=0.1, rate=1e-3),
    uses=(COMMON - {"activation"}) | {"hidden", "layers", "heads", "dropout", "smoothing"},
    build=build,
)

"""Multi-head attention over the steps of a sequence, written so that TFLite has an op for all."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from guardian.tables import F32

WAVES = 4
"""Periods that a head's bias is made of."""


@keras.saving.register_keras_serializable("guardian")
class TemporalAttention(layers.Layer):  # type: ignore[misc]
    """[batch, T, D] -> the attended steps [batch, T, D] and the maps [batch, heads, T, T].

    A head's map is softmax(q k / (sqrt(d) temperature) + bias(lag)). The temperature is learned,
    and so is the bias: a sum of cosines over the lag between two steps, with a learned height,
    phase and period each. Both rest on weights alone and are constants in an export.
    """

    def __init__(
        self, heads: int, *, temperature: bool = False, periodic: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.heads, self.temperature, self.periodic = heads, temperature, periodic

    def build(self, shape: tuple[Any, ...]) -> None:
        """Make the weights for [batch, T, D]; D must be a multiple of the heads."""
        _, self._steps, width = shape
        self._depth = width // self.heads
        self._dense = [
            layers.Dense(width, name=name, dtype=self.dtype_policy)
            for name in ("query", "key", "value", "out")
        ]
        for dense in self._dense:
            dense.build(shape)
        if self.temperature:
            self._heat = self.add_weight(
                shape=(self.heads, 1, 1), initializer="zeros", name="log_temperature"
            )
        if self.periodic:
            of_waves = (self.heads, WAVES, 1, 1)
            self._height = self.add_weight(shape=of_waves, initializer="zeros", name="height")
            self._phase = self.add_weight(shape=of_waves, initializer="zeros", name="phase")
            self._period = self.add_weight(
                shape=of_waves, initializer=_periods(self._steps), name="log_period"
            )
        self.built = True

    def call(self, x: Any) -> tuple[Any, Any]:
        """Return the attended steps and the maps."""
        query, key, value, out = self._dense
        scores = ops.matmul(
            self._by_head(query(x)), ops.transpose(self._by_head(key(x)), (0, 1, 3, 2))
        )
        scores = ops.cast(scores, "float32") / math.sqrt(self._depth)
        if self.temperature:
            scores = scores * ops.exp(-ops.cast(self._heat, "float32"))
        if self.periodic:
            scores = scores + self._bias()
        maps = ops.softmax(scores, axis=-1)
        found = ops.matmul(ops.cast(maps, self.compute_dtype), self._by_head(value(x)))
        found = ops.transpose(found, (0, 2, 1, 3))
        return out(ops.reshape(found, (-1, self._steps, self.heads * self._depth))), maps

    def _by_head(self, x: Any) -> Any:
        """[batch, T, D] -> [batch, heads, T, d]."""
        x = ops.reshape(x, (-1, self._steps, self.heads, self._depth))
        return ops.transpose(x, (0, 2, 1, 3))

    def _bias(self) -> Any:
        """Return [heads, T, T]: the sum of the waves at the lag between two steps."""
        step = np.arange(self._steps, dtype=np.float32)
        lag = (step[:, None] - step)[None, None]
        height, phase, period = (
            ops.cast(w, "float32") for w in (self._height, self._phase, self._period)
        )
        waves = height * ops.cos(2 * math.pi * lag * ops.exp(-period) + phase)
        return ops.sum(waves, axis=1)

    def get_config(self) -> dict[str, Any]:
        """Return what makes this layer again."""
        own = {"heads": self.heads, "temperature": self.temperature, "periodic": self.periodic}
        return {**super().get_config(), **own}


def _periods(steps: int) -> Any:
    """Return the initializer of the periods: from two steps to the whole window, in octaves."""
    first = np.linspace(math.log(2.0), math.log(max(steps, 3)), WAVES, dtype=np.float32)

    def fill(shape: tuple[int, ...], dtype: Any = None) -> Any:
        return ops.cast(ops.broadcast_to(first[None, :, None, None], shape), dtype or "float32")

    return fill


def attention_maps(model: Any, x: F32, batch: int = 512) -> list[F32]:
    """Return float32[n, heads, T, T] of each attention layer: how much step i looks at step j."""
    found = [layer for layer in model.layers if isinstance(layer, TemporalAttention)]
    if not found:
        return []
    inner = keras.Model(model.inputs, [layer.output[1] for layer in found])
    maps = inner.predict(x, batch_size=batch, verbose=0)
    return maps if isinstance(maps, list) else [maps]

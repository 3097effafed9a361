"""A memory bank, and the gradient reversed."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("guardian")
class MemoryBank(layers.Layer):  # type: ignore[misc]
    """[batch, D] -> what the bank holds that is like it, [batch, D].

    Read by attention over the slots. Written while training, not by gradient: each slot moves
    towards the mean of the questions that chose it, the more the more chose it. In an export it
    is frozen and read alone.
    """

    def __init__(self, slots: int, decay: float = 0.99, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.slots, self.decay = slots, decay

    def build(self, shape: tuple[Any, ...]) -> None:
        """Make the slots for [batch, D]."""
        width = shape[-1]
        self._question = layers.Dense(width, name="question", dtype=self.dtype_policy)
        self._question.build(shape)
        self._bank = self.add_weight(
            shape=(self.slots, width),
            initializer="orthogonal",
            trainable=False,
            aggregation="mean",
            dtype="float32",
            autocast=False,  # its steps are too small for half precision
            name="bank",
        )
        self._sharp = math.sqrt(width)
        self.built = True

    def call(self, x: Any, training: bool = False) -> Any:
        """Return what was read."""
        question = self._question(x)
        bank = ops.cast(self._bank, self.compute_dtype)
        chosen = ops.softmax(ops.matmul(question, ops.transpose(bank)) / self._sharp, axis=-1)
        if training:
            self._write(ops.stop_gradient(question), ops.stop_gradient(chosen))
        return ops.matmul(chosen, bank)

    def _write(self, question: Any, chosen: Any) -> None:
        question, chosen = ops.cast(question, "float32"), ops.cast(chosen, "float32")
        share = ops.sum(chosen, axis=0)[:, None]
        mean = ops.matmul(ops.transpose(chosen), question) / (share + 1e-6)
        step = (1.0 - self.decay) * ops.minimum(share, 1.0)
        self._bank.assign(self._bank + step * (mean - self._bank))

    def get_config(self) -> dict[str, Any]:
        """Return what makes this layer again."""
        return {**super().get_config(), "slots": self.slots, "decay": self.decay}


@keras.saving.register_keras_serializable("guardian")
class GradientReversal(layers.Layer):  # type: ignore[misc]
    """The identity, whose gradient is reversed: what comes before learns the contrary of what
    comes after.
    """

    def __init__(self, strength: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.strength = strength

    def call(self, x: Any) -> Any:
        """Return x."""
        return ops.stop_gradient((1.0 + self.strength) * x) - self.strength * x

    def get_config(self) -> dict[str, Any]:
        """Return what makes this layer again."""
        return {**super().get_config(), "strength": self.strength}

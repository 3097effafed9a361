"""Layers of doubt: sampled codes, weights that are distributions, noise in the logits."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import layers, ops

DRAWS = 8
"""Draws of the noise in a training step: the loss sees the mean of their probabilities."""
FIRST_SPREAD = -4.0
"""log of the standard deviation of a variational weight before training."""
WIDEST = 6.0
"""log of the largest variance: beyond it a logit says nothing, and exp would overflow."""


@keras.saving.register_keras_serializable("guardian")
class Sample(layers.Layer):  # type: ignore[misc]
    """(mean, log variance) -> a draw while training, the mean else.

    While training it adds the divergence from N(0, 1) to the loss, `weight` times the mean over
    the batch.
    """

    def __init__(self, weight: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.weight = weight
        self._seeds = keras.random.SeedGenerator()

    def call(self, given: tuple[Any, Any], training: bool = False) -> Any:
        """Return [batch, code]."""
        mean, log_variance = given
        if not training:
            return mean
        log_variance = ops.clip(log_variance, -WIDEST, WIDEST)
        far = 0.5 * ops.sum(ops.square(mean) + ops.exp(log_variance) - log_variance - 1.0, axis=-1)
        self.add_loss(self.weight * ops.mean(ops.cast(far, "float32")))
        noise = keras.random.normal(ops.shape(mean), dtype=self.compute_dtype, seed=self._seeds)
        return mean + ops.exp(0.5 * log_variance) * noise

    def get_config(self) -> dict[str, Any]:
        """Return what makes this layer again."""
        return {**super().get_config(), "weight": self.weight}


@keras.saving.register_keras_serializable("guardian")
class BayesianDense(layers.Layer):  # type: ignore[misc]
    """[batch, D] -> the mean [batch, units] of the outputs and their variance.

    Every weight is a normal distribution with a learned mean and spread. While training it adds
    the divergence from N(0, 1), `weight` times the mean over the weights.
    """

    def __init__(self, units: int, weight: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units, self.weight = units, weight

    def build(self, shape: tuple[Any, ...]) -> None:
        """Make the weights for [batch, D]."""
        of_kernel = (shape[-1], self.units)
        self._mean = self.add_weight(shape=of_kernel, initializer="glorot_uniform", name="mean")
        self._spread = self.add_weight(
            shape=of_kernel,
            initializer=keras.initializers.Constant(FIRST_SPREAD),
            name="log_spread",
        )
        self._bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")
        self.built = True

    def call(self, x: Any, training: bool = False) -> tuple[Any, Any]:
        """Return mean and variance."""
        variance = ops.exp(2.0 * self._spread)
        if training:
            far = 0.5 * (variance + ops.square(self._mean) - 1.0) - self._spread
            self.add_loss(self.weight * ops.mean(ops.cast(far, "float32")))
        return ops.matmul(x, self._mean) + self._bias, ops.matmul(ops.square(x), variance)

    def get_config(self) -> dict[str, Any]:
        """Return what makes this layer again."""
        return {**super().get_config(), "units": self.units, "weight": self.weight}


@keras.saving.register_keras_serializable("guardian")
class NoisyLogits(layers.Layer):  # type: ignore[misc]
    """[mean, variance of the weights, variance of the data] -> logits; either may be missing.

    While training the noise is drawn: one draw of the weights, the mean probability of DRAWS
    draws of the data's noise, as its logarithm. Else the logits are tempered by both variances,
    mean / sqrt(1 + pi/8 variance), which is close to the mean probability and costs one division.
    """

    def __init__(self, weights: bool, data: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.weights_known, self.data_known = weights, data
        self._seeds = keras.random.SeedGenerator()

    def call(self, given: list[Any], training: bool = False) -> Any:
        """Return [batch, classes], logits."""
        mean, *variances = given
        if not training:
            return mean * ops.rsqrt(1.0 + math.pi / 8 * sum(variances[1:], variances[0]))
        if self.weights_known:
            mean = mean + self._drawn(variances[0], ops.shape(mean))
        if self.data_known:
            noisy = mean + self._drawn(variances[-1], (DRAWS, *ops.shape(mean)))
            mean = ops.logsumexp(ops.log_softmax(noisy, axis=-1), axis=0) - math.log(DRAWS)
        return mean

    def _drawn(self, variance: Any, shape: tuple[Any, ...]) -> Any:
        noise = keras.random.normal(shape, dtype=self.compute_dtype, seed=self._seeds)
        # The root has no slope at 0.
        return noise * ops.sqrt(variance + 1e-8)

    def get_config(self) -> dict[str, Any]:
        """Return what makes this layer again."""
        own = {"weights": self.weights_known, "data": self.data_known}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("guardian")
class Variance(layers.Layer):  # type: ignore[misc]
    """[batch, units] log variances -> variances, bounded."""

    def call(self, x: Any) -> Any:
        """Return [batch, units], positive."""
        return ops.exp(ops.minimum(x, WIDEST))

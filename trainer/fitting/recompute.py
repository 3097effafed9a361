"""Gradient checkpointing: layers forget what they computed and compute it again for the gradient.

Only recurrent and attention layers: what they remember grows with the steps. Random draws are
repeated exactly: the states of a layer's random numbers are set back before the second time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf


@contextmanager
def recomputed(model: Any, on: bool = True) -> Iterator[int]:
    """Let a model's recurrent and attention layers recompute inside the block; yields how many."""
    kinds = (keras.layers.RNN, keras.layers.MultiHeadAttention)
    layers = [x for x in model._flatten_layers() if isinstance(x, kinds)] if on else []
    for layer in layers:
        layer.call = _again(layer, layer.call)
    try:
        yield len(layers)
    finally:
        for layer in layers:
            del layer.call


def _again(layer: Any, call: Any) -> Any:
    """Return a call that keeps its inputs alone."""

    def again(*inputs: Any, **options: Any) -> Any:
        tensors = {k: v for k, v in options.items() if tf.is_tensor(v)}
        rest = {k: v for k, v in options.items() if k not in tensors}
        states = [v.value for v in layer.variables if "seed" in v.name]
        begun = [tf.identity(state) for state in states]

        def compute(*values: Any) -> Any:
            for state, value in zip(states, begun, strict=True):
                state.assign(value)
            named = dict(zip(tensors, values[len(inputs) :], strict=True))
            return call(*values[: len(inputs)], **named, **rest)

        if not all(tf.is_tensor(value) for value in inputs):
            return call(*inputs, **options)
        return tf.recompute_grad(compute)(*inputs, *tensors.values())

    return again

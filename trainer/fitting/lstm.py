"""The LSTM layers of a model, computed for training on a CPU: same results, fewer operations.

Keras multiplies the inputs step by step and lets TensorFlow differentiate the loop. Here all
steps' inputs are multiplied at once, the steps are written out one after the other, and the
gradient is written by hand: the weights' gradient is one multiplication over all steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

MOST_STEPS = 16
"""Longer sequences stay with Keras: writing their steps out takes longer than it saves."""

_Slope = Callable[[Any], Any]
_SLOPES: dict[str, _Slope] = {
    "tanh": lambda a: 1.0 - a * a,
    "relu": lambda a: tf.cast(a > 0, a.dtype),
    "sigmoid": lambda a: a * (1.0 - a),
    "linear": tf.ones_like,
}
"""The slope of an activation, from its output."""


@contextmanager
def fused(model: Any, on: bool = True) -> Iterator[int]:
    """Let a model's LSTM layers be computed this way inside the block; yields how many are.

    Left to Keras: long sequences, masks, dropout inside the cell, layers that keep their state,
    activations whose slope does not follow from their output.
    """
    layers = [layer for layer in _flat(model) if _fits(layer)] if on else []
    for layer in layers:
        layer.inner_loop = _loop(layer, layer.inner_loop)
    try:
        yield len(layers)
    finally:
        for layer in layers:
            del layer.inner_loop  # the class's own shows again


def _flat(model: Any) -> list[Any]:
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.LSTM)]


def _fits(layer: Any) -> bool:
    return (
        not layer.stateful
        and not layer.dropout
        and not layer.recurrent_dropout
        and layer.activation.__name__ in _SLOPES
        and layer.recurrent_activation.__name__ == "sigmoid"
    )


def _loop(layer: Any, plain: Callable[..., Any]) -> Callable[..., Any]:
    """Return what stands in for a layer's own loop over the steps."""

    def inner_loop(
        sequences: Any, initial_state: Any, mask: Any = None, training: bool = False
    ) -> Any:
        if mask is not None or not 0 < (sequences.shape[1] or 0) <= MOST_STEPS:
            return plain(sequences, initial_state, mask, training=training)
        cell = layer.cell
        x = tf.transpose(tf.convert_to_tensor(sequences), (1, 0, 2))
        if layer.go_backwards:
            x = x[::-1]
        steps, _, width = x.shape
        z = tf.matmul(tf.reshape(x, (-1, width)), tf.convert_to_tensor(cell.kernel))
        if cell.use_bias:
            z += tf.convert_to_tensor(cell.bias)
        z = tf.reshape(z, (steps, -1, 4 * layer.units))
        recurrent = tf.convert_to_tensor(cell.recurrent_kernel)
        states = [tf.cast(tf.convert_to_tensor(s), z.dtype) for s in initial_state]
        out, last_h, last_c = _steps(layer.activation)(z, recurrent, *states)
        every = tf.transpose(out, (1, 0, 2)) if layer.return_sequences else last_h[:, None]
        return last_h, every, [last_h, last_c]

    return inner_loop


def _steps(activation: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return (inputs times kernel [T, B, 4U], recurrent kernel [U, 4U], h and c [B, U]) ->
    (every h [T, B, U], the last h and c), with its gradient.
    """
    slope = _SLOPES[activation.__name__]

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def run(z: Any, recurrent: Any, h: Any, c: Any) -> Any:
        before: list[Any] = []
        gates: list[Any] = []
        for step in tf.unstack(z):
            i, f, g, o = tf.split(step + tf.matmul(h, recurrent), 4, axis=1)
            i, f, o, g = tf.sigmoid(i), tf.sigmoid(f), tf.sigmoid(o), activation(g)
            before.append((h, c))
            c = f * c + i * g
            a = activation(c)
            h = o * a
            gates.append((i, f, g, o, a))
        hs = [pair[0] for pair in before]

        def gradient(d_every: Any, d_h: Any, d_c: Any) -> Any:
            d_z: list[Any] = []
            d_steps = tf.unstack(d_every)
            for t in reversed(range(len(gates))):
                i, f, g, o, a = gates[t]
                d_h += d_steps[t]
                d_c += d_h * o * slope(a)
                d_z.append(
                    tf.concat(
                        [
                            d_c * g * i * (1.0 - i),
                            d_c * before[t][1] * f * (1.0 - f),
                            d_c * i * slope(g),
                            d_h * a * o * (1.0 - o),
                        ],
                        axis=1,
                    )
                )
                d_h = tf.matmul(d_z[-1], recurrent, transpose_b=True)
                d_c *= f
            d_z.reverse()
            d_recurrent = tf.matmul(tf.concat(hs, 0), tf.concat(d_z, 0), transpose_a=True)
            return tf.stack(d_z), d_recurrent, d_h, d_c

        return (tf.stack([*hs[1:], h]), h, c), gradient

    steps: Callable[..., Any] = run
    return steps

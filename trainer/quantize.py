"""From a trained Keras model to TFLite that both runtimes run with builtin ops alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from guardian.hush import hushed
from guardian.tables import F32

REPRESENTATIVE = 1024
"""Sequences that set the int8 ranges."""


def to_tflite(
    build: Callable[..., Any], weights: list[Any], batch: int, form: str, representative: F32
) -> bytes:
    """Return a TFLite model of `build(unroll=True, batch=batch)` with the trained weights.

    `representative` is float32[n, T, F] of scaled sequences, benign and attacks, at least one
    batch; `form` is int8, dynamic (int8 weights, float sums) or float32. Inputs and outputs are
    float32 in all: inside an int8 model the first and last op convert, which costs nothing that
    can be measured.
    """
    model = build(unroll=True, batch=batch)
    model.set_weights(weights)
    spec = tf.TensorSpec((batch, *representative.shape[1:]), tf.float32)
    concrete = tf.function(lambda x: model(x, training=False)).get_concrete_function(spec)
    # A frozen graph: with resource variables TFLite would read them at run time, and fail.
    frozen = convert_variables_to_constants_v2(concrete)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen], model)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if form == "int8":
        rows = representative[: max(batch, REPRESENTATIVE)]

        def samples() -> Iterator[list[F32]]:
            for k in range(0, len(rows) - batch + 1, batch):
                yield [rows[k : k + batch].astype(np.float32)]

        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = samples
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    if form == "dynamic":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        # tflite-runtime 2.14 does not know a scale for each channel of a dense layer.
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    with hushed(), warnings.catch_warnings():
        # It asks for ranges of the input, which the representative sequences give.
        warnings.filterwarnings("ignore", "Statistics for quantized inputs")
        return bytes(converter.convert())

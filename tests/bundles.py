"""Bundles made by hand for tests: linear models of any size, without tensorflow.

The classifier is logits = weights . z + bias, the autoencoder rebuilds gain * z, both over scaled
sequences; so what such a bundle answers can be worked out on paper.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flatbuffers  # type: ignore[import-untyped,unused-ignore]
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from guardian import bundle
from guardian.tables import F32, Array

CLASSES = ("benign", "scan", "c2", "flood", "brute-force", "download", "other")
BATCH = 8


def f32(values: Any) -> F32:
    return np.asarray(values, dtype=np.float32)


def write(
    folder: Path,
    *,
    names: Sequence[str] | None = None,
    window: int = 12,
    weights: F32 | None = None,
    bias: Sequence[float] = (0.0,) * len(CLASSES),
    gain: float = 1.0,
    threat: float = 0.9,
    anomaly: float = 1.0,
    mean: F32 | None = None,
    scale: F32 | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Path:
    """Write a bundle and return its folder; `changes` are put over the manifest's keys.

    `weights` is float32[classes, T, F] (zeros where not given: constant probabilities). With gain 1
    every reconstruction is perfect and no sequence is an anomaly.
    """
    if names is None:
        from guardian import features  # noqa: PLC0415 - only where the test names none

        names = features.NAMES
    names = tuple(names)
    shape = (window, len(names))
    weights = np.zeros((len(CLASSES), *shape), np.float32) if weights is None else weights
    scaler = bundle.Scaler(
        mean=np.zeros(shape[1], np.float32) if mean is None else mean,
        scale=np.ones(shape[1], np.float32) if scale is None else scale,
        clip=10.0,
    )
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "autoencoder.tflite": linear_autoencoder(shape, gain),
        "classifier.tflite": linear_classifier(shape, weights, f32(bias)),
        "golden.npz": _golden(folder / "golden.npz", scaler, weights, f32(bias), gain),
        "card.md": b"# A bundle made by hand for tests\n",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    manifest = {
        "format": bundle.FORMAT,
        "name": "by-hand",
        "version": "0",
        "created": "1970-01-01T00:00:00Z",
        "guardian": "0",
        "features": names,
        "window": window,
        "classes": CLASSES,
        "scaler": {"mean": scaler.mean.tolist(), "scale": scaler.scale.tolist(), "clip": 10.0},
        "models": {
            name: {"file": f"{name}.tflite", "form": "float32", "batch": BATCH}
            for name in bundle.MODELS
        },
        "thresholds": {"anomaly": anomaly, "threat": threat, "calibrated_on": "nothing"},
        "usual": np.zeros((3, len(names))).tolist(),
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
        "datasets": [],
        **(changes or {}),
    }
    (folder / bundle.MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def write_constant(folder: Path, **given: Any) -> Path:
    """Write a bundle whose answers never change: equal probabilities, no anomaly.

    Its threshold lies just above what it answers, as calibration on benign traffic would put it.
    """
    return write(folder, **{"threat": 0.99, **given})


def linear_classifier(shape: tuple[int, int], weights: F32, bias: F32) -> bytes:
    """Return a TFLite model [BATCH, T, F] -> logits [BATCH, classes]."""
    flat = int(np.prod(shape))
    model = _Model()
    x = model.tensor("x", (BATCH, *shape))
    rows = model.tensor("rows", (BATCH, flat))
    new_shape = model.constant("shape", np.array([BATCH, flat], np.int32))
    w = model.constant("w", weights.reshape(len(bias), flat).astype(np.float32))
    b = model.constant("b", bias.astype(np.float32))
    y = model.tensor("y", (BATCH, len(bias)))
    model.op(schema.BuiltinOperator.RESHAPE, [x, new_shape], rows)
    options = schema.FullyConnectedOptionsT()
    model.op(
        schema.BuiltinOperator.FULLY_CONNECTED,
        [rows, w, b],
        y,
        schema.BuiltinOptions.FullyConnectedOptions,
        options,
    )
    return model.content(x, y)


def linear_autoencoder(shape: tuple[int, int], gain: float) -> bytes:
    """Return a TFLite model [BATCH, T, F] -> gain times the same."""
    model = _Model()
    x = model.tensor("x", (BATCH, *shape))
    factor = model.constant("factor", np.array([gain], np.float32))
    y = model.tensor("y", (BATCH, *shape))
    options = schema.MulOptionsT()
    model.op(schema.BuiltinOperator.MUL, [x, factor], y, schema.BuiltinOptions.MulOptions, options)
    return model.content(x, y)


class _Model:
    """The few parts of a TFLite file that a linear model needs."""

    def __init__(self) -> None:
        self._model = schema.ModelT()
        self._model.version = 3
        self._model.buffers = [schema.BufferT()]
        self._model.operatorCodes = []
        self._graph = schema.SubGraphT()
        self._graph.tensors = []
        self._graph.operators = []
        self._model.subgraphs = [self._graph]

    def tensor(self, name: str, shape: tuple[int, ...], kind: int = 0, buffer: int = 0) -> int:
        tensor = schema.TensorT()
        tensor.name = name.encode()
        tensor.shape = list(shape)
        tensor.type = kind
        tensor.buffer = buffer
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def constant(self, name: str, value: Array) -> int:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(value.tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        kind = schema.TensorType.INT32 if value.dtype == np.int32 else schema.TensorType.FLOAT32
        return self.tensor(name, value.shape, kind, len(self._model.buffers) - 1)

    def op(
        self, code: int, inputs: list[int], output: int, kind: int = 0, options: Any = None
    ) -> None:
        entry = schema.OperatorCodeT()
        entry.deprecatedBuiltinCode = entry.builtinCode = code
        entry.version = 1
        self._model.operatorCodes.append(entry)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self._model.operatorCodes) - 1
        operator.inputs = inputs
        operator.outputs = [output]
        operator.builtinOptionsType = kind
        operator.builtinOptions = options
        self._graph.operators.append(operator)

    def content(self, x: int, y: int) -> bytes:
        self._graph.inputs, self._graph.outputs = [x], [y]
        builder = flatbuffers.Builder(1024)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def _golden(path: Path, scaler: bundle.Scaler, weights: F32, bias: F32, gain: float) -> bytes:
    """Return golden.npz with the answers worked out by numpy."""
    window, count = weights.shape[1:]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, window, count)).astype(np.float32)
    length = np.array([1, 2, window, window, max(1, window // 2)], np.int32).clip(1, window)
    z = scaler.apply(x, length)
    logits = np.einsum("ntf,ctf->nc", z, weights) + bias
    power = np.exp(logits - logits.max(axis=1, keepdims=True))
    square = np.square(z - gain * z).mean(axis=2)  # padded steps are 0 and rebuilt as 0
    np.savez_compressed(
        path,
        x=x,
        length=length,
        probability=(power / power.sum(axis=1, keepdims=True)).astype(np.float32),
        error=(square.sum(axis=1) / length).astype(np.float32),
    )
    return path.read_bytes()

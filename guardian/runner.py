"""One TFLite model as it runs: LiteRT or tflite-runtime, one thread, a fixed batch."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from guardian.errors import BundleError
from guardian.hush import hushed
from guardian.members import ModelFile
from guardian.tables import F32, Array


def runtime() -> tuple[str, Any]:
    """Return the name of the TFLite runtime at hand and its Interpreter class."""
    for name in ("ai_edge_litert", "tflite_runtime"):
        try:
            module = importlib.import_module(f"{name}.interpreter")
        except ImportError:
            continue
        return name, module.Interpreter
    raise BundleError(
        "no TFLite runtime is installed: run `pip install ai-edge-litert` "
        "(or, with Python up to 3.11 and numpy below 2, tflite-runtime)"
    )


class Runner:
    """One interpreter with a fixed batch: calls with fewer sequences are padded."""

    def __init__(
        self, model: ModelFile, interpreter: Any, shape: tuple[int, ...], out: tuple[int, ...]
    ) -> None:
        """Raises BundleError where the model cannot be run or has other shapes."""
        self.batch = model.batch
        self._name = model.name
        try:
            with hushed():
                self._interpreter = interpreter(model_content=model.content, num_threads=1)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise BundleError(
                f"the {model.name} of the bundle cannot be run here: "
                f"{_first_line(error)}; install the bundle again"
            ) from error
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]
        found = (tuple(self._input["shape"].tolist()), tuple(self._output["shape"].tolist()))
        if found != ((self.batch, *shape), (self.batch, *out)):
            raise BundleError(
                f"the {model.name} of the bundle has shapes {found[0]} -> {found[1]}, which do "
                "not fit its manifest: install the bundle again, or run `make bundle`"
            )
        self._room = np.zeros((self.batch, *shape), dtype=np.float32)

    def __call__(self, z: F32) -> F32:
        """Return float32[m, ...] for float32[m, T, F]."""
        parts = [self._run(z[k : k + self.batch]) for k in range(0, len(z), self.batch)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _run(self, z: F32) -> F32:
        n = len(z)
        if n < self.batch:
            self._room[:n] = z
            self._room[n:] = 0.0
            z = self._room
        try:
            self._interpreter.set_tensor(self._input["index"], _quantize(z, self._input))
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise BundleError(
                f"the {self._name} of the bundle failed while it ran: "
                f"{_first_line(error)}; install the bundle again"
            ) from error
        found: Array = self._interpreter.get_tensor(self._output["index"])
        return _dequantize(found, self._output)[:n]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["no reason given"])[0][:120]


def _quantize(z: F32, tensor: Any) -> Array:
    if tensor["dtype"] == np.float32:
        return z
    scale, zero = tensor["quantization"]
    limits = np.iinfo(tensor["dtype"])
    steps: Array = np.clip(np.rint(z / scale) + zero, limits.min, limits.max)
    return steps.astype(tensor["dtype"])


def _dequantize(raw: Array, tensor: Any) -> F32:
    if tensor["dtype"] == np.float32:
        return raw
    scale, zero = tensor["quantization"]
    out: F32 = ((raw.astype(np.float32) - zero) * scale).astype(np.float32)
    return out


def softmax(logits: F32) -> F32:
    """Return probabilities of float32[m, classes] logits."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    out: F32 = (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)
    return out

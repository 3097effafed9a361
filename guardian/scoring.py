"""Sequences -> Scores: the two models of a bundle, run by LiteRT on one thread."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from guardian.bundle import Bundle, ModelFile, Scaler
from guardian.errors import BundleError
from guardian.hush import hushed
from guardian.tables import F32, I32, Array, Scores, Sequences

PROBABILITY_TOLERANCE = 0.1
ERROR_TOLERANCE = 0.1
"""How far golden outputs may differ: absolute for probabilities, relative (plus as much absolute)
for errors. Runtimes and processors round int8 sums differently, by a few steps of 1/256; a wrong
model, scaler or runtime is off by far more on several of the golden sequences."""


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


class Pair:
    """The two models as they run: scaled sequences in, probabilities and errors out."""

    def __init__(
        self,
        scaler: Scaler,
        autoencoder: ModelFile,
        classifier: ModelFile,
        shape: tuple[int, int],
        classes: int,
    ) -> None:
        """Build the interpreters; shape is (T, F).

        Raises BundleError where no runtime is installed or a model does not fit.
        """
        self.runtime, interpreter = runtime()
        self._scaler = scaler
        self._autoencoder = _Runner(autoencoder, interpreter, shape, shape)
        self._classifier = _Runner(classifier, interpreter, shape, (classes,))
        self._chunk = max(autoencoder.batch, classifier.batch)

    def infer(self, x: F32, length: I32) -> Iterator[tuple[slice, F32, F32, F32]]:
        """Yield, a chunk at a time so that memory is bounded by the models' batch: the rows,
        probability[m, classes], error[m] of the sequences, error[m, F] of their last steps.
        """
        for k in range(0, len(x), self._chunk):
            part = slice(k, min(k + self._chunk, len(x)))
            z = self._scaler.apply(x[part], length[part])
            whole, last = reconstruction_error(z, self._autoencoder(z), length[part])
            yield part, softmax(self._classifier(z)), whole, last


class Scorer:
    """Runs a bundle's models; holds their interpreters, so it belongs to one thread."""

    def __init__(self, bundle: Bundle) -> None:
        """Build the interpreters and compare them with the golden outputs.

        Raises BundleError where no runtime is installed, a model does not fit the manifest, or
        its answers differ from the golden ones.
        """
        self.bundle = bundle
        self._pair = Pair(
            bundle.scaler,
            bundle.autoencoder,
            bundle.classifier,
            (bundle.window, len(bundle.features)),
            len(bundle.classes),
        )
        self.runtime = self._pair.runtime
        self._check_golden()

    def score(self, sequences: Sequences) -> Scores:
        """Return the scores of m sequences, in their order."""
        m = len(sequences)
        scores = Scores(
            anomaly=np.zeros(m, dtype=np.float32),
            threat=np.zeros(m, dtype=np.float32),
            label=np.zeros(m, dtype=np.uint8),
            probability=np.zeros((m, len(self.bundle.classes)), dtype=np.float32),
            error=np.zeros((m, len(self.bundle.features)), dtype=np.float32),
        )
        for part, probability, whole, last in self._pair.infer(sequences.x, sequences.length):
            scores.anomaly[part] = whole / self.bundle.error_threshold
            scores.probability[part] = probability
            scores.threat[part] = np.clip(1.0 - probability[:, 0], 0.0, 1.0)
            scores.label[part] = probability.argmax(axis=1)
            scores.error[part] = last
        return scores

    def _check_golden(self) -> None:
        golden = self.bundle.golden
        for part, probability, error, _ in self._pair.infer(golden.x, golden.length):
            off = np.abs(probability - golden.probability[part])
            slack = ERROR_TOLERANCE * (1.0 + golden.error[part])
            good = (off <= PROBABILITY_TOLERANCE).all()
            if not (good and (np.abs(error - golden.error[part]) <= slack).all()):
                raise BundleError(
                    f"the models of {self.bundle.folder} do not give their golden outputs on "
                    f"{self.runtime}: install the bundle again, or run `make bundle`"
                )


class _Runner:
    """One interpreter with a fixed batch: calls with fewer sequences are padded."""

    def __init__(
        self, model: ModelFile, interpreter: Any, shape: tuple[int, ...], out: tuple[int, ...]
    ) -> None:
        self.batch = model.batch
        self._name = model.name
        try:
            with hushed():
                self._interpreter = interpreter(model_content=model.content, num_threads=1)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise BundleError(
                f"the {model.name} of the bundle cannot be run here: "
                f"{str(error).splitlines()[0][:120]}; install the bundle again"
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
                f"{str(error).splitlines()[0][:120]}; install the bundle again"
            ) from error
        found: Array = self._interpreter.get_tensor(self._output["index"])
        return _dequantize(found, self._output)[:n]


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


def reconstruction_error(z: F32, rebuilt: F32, length: I32) -> tuple[F32, F32]:
    """Return error[m] of sequences and error[m, F] of their last steps.

    A sequence's error is the mean squared difference over its real steps and all features.
    """
    square = np.square(z - rebuilt)
    steps = z.shape[1]
    real = np.arange(steps) >= (steps - length)[:, None]
    by_step = square.mean(axis=2)
    whole = (by_step * real).sum(axis=1) / np.maximum(length, 1)
    return whole.astype(np.float32), square[:, -1].astype(np.float32)


def softmax(logits: F32) -> F32:
    """Return probabilities of float32[m, classes] logits."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    out: F32 = (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)
    return out

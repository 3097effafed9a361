"""Sequences -> Scores: the models of a bundle, on one thread."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from guardian.bundle import Bundle, Scaler
from guardian.errors import BundleError
from guardian.members import Ensemble, ModelFile, alone
from guardian.runner import Runner, runtime, softmax
from guardian.tables import F32, I32, Scores, Sequences
from guardian.voting import Classifier

__all__ = ["Pair", "Scorer", "reconstruction_error", "runtime", "softmax"]

PROBABILITY_TOLERANCE = 0.1
ERROR_TOLERANCE = 0.1
"""How far golden outputs may differ: absolute for probabilities, relative (plus as much absolute)
for errors. Runtimes and processors round int8 sums differently, by a few steps of 1/256; a wrong
model, scaler or runtime is off by far more on several of the golden sequences."""


class Pair:
    """Autoencoder and classifier as they run: sequences in, probabilities and errors out."""

    def __init__(
        self,
        scaler: Scaler,
        autoencoder: ModelFile,
        classifier: Ensemble | ModelFile,
        shape: tuple[int, int],
        classes: int,
    ) -> None:
        """Build the interpreters; shape is (T, F).

        Raises BundleError where no runtime is installed or a model does not fit.
        """
        self.runtime, interpreter = runtime()
        self._scaler = scaler
        self._autoencoder = Runner(autoencoder, interpreter, shape, shape)
        self._classifier = Classifier(alone(classifier), interpreter, shape, classes)
        self._chunk = max(autoencoder.batch, self._classifier.chunk)

    def infer(self, x: F32, length: I32) -> Iterator[tuple[slice, F32, F32, F32]]:
        """Yield, a chunk at a time so that memory is bounded by the models' batch: the rows,
        probability[m, classes], error[m] of the sequences, error[m, F] of their last steps.
        """
        for k in range(0, len(x), self._chunk):
            part = slice(k, min(k + self._chunk, len(x)))
            z = self._scaler.apply(x[part], length[part])
            whole, last = reconstruction_error(z, self._autoencoder(z), length[part])
            yield part, self._classifier(x[part], z, length[part]), whole, last


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

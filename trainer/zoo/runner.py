"""Runs an exported model with whatever runtime this Python has; needs numpy and the runtime.

`python -m trainer.zoo.runner IN.npz OUT.npz SECONDS`, also in the venv of the other runtime:
models as bytes (model_0, model_1, ...) and x in; answers (y_0, ...), microseconds of a sequence
(us_0, ..., each measured for so many seconds) and names out.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from guardian.errors import BundleError
from guardian.hush import hushed
from guardian.scoring import runtime
from guardian.tables import F32

SECONDS = 0.2
"""How long one timing lasts."""


class Runner:
    """A TFLite model with a fixed batch, on one thread."""

    def __init__(self, content: bytes) -> None:
        """Build the interpreter. Raises BundleError where the model cannot be run here."""
        self.runtime, interpreter = runtime()
        try:
            with hushed():
                self._interpreter = interpreter(model_content=content, num_threads=1)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise BundleError(
                f"the model cannot be run on {self.runtime}: {str(error)[:120]}; export it again"
            ) from error
        given = self._interpreter.get_input_details()[0]
        self.batch = int(given["shape"][0])
        self._in, self._out = given["index"], self._interpreter.get_output_details()[0]["index"]

    def __call__(self, x: F32) -> F32:
        """Return float32[n, ...] of float32[n, T, F]; the last batch is filled up with zeros."""
        parts = []
        for k in range(0, len(x), self.batch):
            rows = x[k : k + self.batch]
            room = np.zeros((self.batch, *x.shape[1:]), np.float32)
            room[: len(rows)] = rows
            self._interpreter.set_tensor(self._in, room)
            self._interpreter.invoke()
            parts.append(self._interpreter.get_tensor(self._out)[: len(rows)])
        return np.concatenate(parts)

    def microseconds(self, x: F32, seconds: float = SECONDS) -> float:
        """Return the time of a sequence: the best of several full batches."""
        rows = x[np.arange(self.batch) % len(x)]
        self(rows)
        best, now = np.inf, time.perf_counter()
        until = now + seconds
        while best == np.inf or now < until:
            begun = time.perf_counter()
            self(rows)
            now = time.perf_counter()
            best = min(best, now - begun)
        return round(best / self.batch * 1e6, 2)


def run_file(given: Path, out: Path, seconds: float = SECONDS) -> None:
    """Write what the models of a file answer to its sequences."""
    found: dict[str, object] = {"numpy": np.__version__}
    with np.load(given) as file:
        x = file["x"]
        for k in range(sum(name.startswith("model_") for name in file.files)):
            runner = Runner(file[f"model_{k}"].tobytes())
            found[f"y_{k}"] = runner(x)
            found[f"us_{k}"] = runner.microseconds(x, seconds)
            found["runtime"] = runner.runtime
    np.savez(out, **found)  # type: ignore[arg-type]


if __name__ == "__main__":
    run_file(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))

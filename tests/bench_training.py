"""Fitting beside plain Keras: `make bench-train` prints the table of docs/BENCHMARKS.md.

The 34,364-parameter autoencoder (T = 10, 4 features, ReLU, 50, 20, 20, 50, dense), 792 sequences,
50 epochs, batch 32. Each run is a process of its own; time begins when TensorFlow is loaded and
the model is built, and includes compiling. The ways take turns; each round has a
seed of its own for first weights and order.
"""

# ruff: noqa: PLC0415, TID251 - only the processes that fit import keras
from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np

from tests.conftest import ROOT
from tests.fitters import waves

SEQUENCES, EPOCHS, BATCH = 792, 50, 32
WAYS = {
    "keras": "plain Keras `fit`",
    "keras-same": "plain Keras `fit`, our batches in our order",
    "keras-xla": "plain Keras `fit`, jit_compile=True",
    "keras-many": "plain Keras `fit`, steps_per_execution=25",
    "loop": "our loop, Keras' LSTM",
    "ours": "our loop, LSTM steps written out",
    "ours-xla": "the same, XLA",
}


def main() -> None:
    """Run every way so often and print medians; `main ROUNDS WAY...` runs some."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    ways = sys.argv[2:] or list(WAYS)
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for seed in range(1, rounds + 1):
        for way in ways:
            found[way].append(_process(way, seed))
            print(f"  {way}: {found[way][-1]}", file=sys.stderr, flush=True)
    plain = _median(found[ways[0]], "wall"), _median(found[ways[0]], "cpu")
    print("| way | wall s | CPU s | x wall | x CPU | loss of epoch 5 | after 50 |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for way in ways:
        wall, cpu = _median(found[way], "wall"), _median(found[way], "cpu")
        print(
            f"| {WAYS[way]} | {wall:.1f} | {cpu:.1f} | {plain[0] / wall:.1f} | "
            f"{plain[1] / cpu:.1f} | {_median(found[way], 'fifth'):.4f} | "
            f"{_median(found[way], 'after'):.4f} |"
        )


def _median(runs: list[dict[str, float]], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def _process(way: str, seed: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench_training", "--one", way, str(seed)],
        cwd=ROOT, capture_output=True, text=True, check=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def one(way: str, seed: int) -> None:
    """Fit in one way and print wall and CPU seconds, the last epoch's loss, and the loss after."""
    import keras

    from trainer.fit import rebuilt_loss
    from trainer.fitting import lstm
    from trainer.fitting.how import Fit, Rows
    from trainer.fitting.loop import fit
    from trainer.zoo.family import REGISTRY, Shape

    x = waves(SEQUENCES, 10, 4)
    family = REGISTRY["lstm-autoencoder"]
    keras.utils.set_random_seed(seed)
    model = family.build(Shape(10, 4, 1), family.config(activation="relu"))
    assert model.count_params() == 34_364
    wall, cpu = time.perf_counter(), time.process_time()
    if way.startswith("keras"):
        model.compile(
            keras.optimizers.Adam(1e-3), rebuilt_loss,
            jit_compile=True if way == "keras-xla" else "auto",
            steps_per_execution=25 if way == "keras-many" else 1,
        )  # fmt: skip
        if way == "keras-same":
            losses = []
            for epoch in range(EPOCHS):
                rows = x[np.random.default_rng([seed, epoch]).permutation(len(x))]
                done = model.fit(rows, rows, batch_size=BATCH, shuffle=False, verbose=0)
                losses += done.history["loss"]
        else:
            losses = model.fit(x, x, batch_size=BATCH, epochs=EPOCHS, verbose=0).history["loss"]
    else:
        if way == "loop":
            lstm.MOST_STEPS = 0
        how = Fit(EPOCHS, BATCH, 1e-3, 0, weight_decay=0, decay=False, clip=0,
                  jit=way == "ours-xla")  # fmt: skip
        given = Rows(x, x, np.ones(len(x), np.float32))
        losses = fit(model, given, None, how, loss=rebuilt_loss, seed=seed, echo=_quiet).loss
    took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    after = float(np.mean((model.predict(x, verbose=0) - x) ** 2))
    print(json.dumps(took | {"first": losses[0], "fifth": losses[4], "last": losses[-1],
                             "after": after}))  # fmt: skip


def _quiet(line: str) -> None:
    """Nobody listens."""


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2], int(sys.argv[3]))
    else:
        main()

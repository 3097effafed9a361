"""Small models and sequences for the tests of fitting, also run as a program that can be killed.

`python -m tests.fitters FOLDER EPOCHS [mirrored|multiworker]` fits and prints the history.
"""

# ruff: noqa: PLC0415, TID251 - imported where needed: collecting tests needs no tensorflow
from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from guardian.tables import F32
from trainer.fitting.how import Augment, Fit, Rows

HOW = Fit(epochs=3, batch=16, rate=1e-2, patience=0)


def waves(n: int, window: int = 6, features: int = 3, seed: int = 0) -> F32:
    """Return float32[n, window, features]: sines of chance period and phase, with noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(window)[None, :, None] / window
    period, phase = rng.uniform(0.5, 2, (n, 1, features)), rng.uniform(size=(n, 1, features))
    x = np.sin(2 * np.pi * (t * period + phase)) + rng.normal(0, 0.05, (n, window, features))
    return np.asarray(x, np.float32)


def rebuild(n: int, seed: int = 0) -> Rows:
    """Rows for an autoencoder."""
    x = waves(n, seed=seed)
    return Rows(x, x, np.ones(n, np.float32))


def autoencoder(dropout: float = 0.0, window: int = 6, activation: str = "tanh") -> Any:
    """A small LSTM autoencoder, its first weights always the same."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(7)
    x = inputs = layers.Input((window, 3))
    x = layers.LSTM(8, activation=activation)(x)
    if dropout:
        x = layers.Dropout(dropout)(x)
    x = layers.RepeatVector(window)(x)
    x = layers.LSTM(8, return_sequences=True, activation=activation)(x)
    return keras.Model(inputs, layers.Dense(3, dtype="float32")(x), name="small")


def fitted(
    how: Fit = HOW,
    *,
    folder: Path | None = None,
    dropout: float = 0.0,
    rows: int = 70,
) -> tuple[Any, Any]:
    """Fit the small autoencoder; return (history, model)."""
    from trainer.fit import rebuilt_loss
    from trainer.fitting import device
    from trainer.fitting.loop import fit

    strategy = device.strategy_of(how)
    with device.built_for(how, strategy=strategy):
        model = autoencoder(dropout)
    history = fit(
        model, rebuild(rows), rebuild(40, 1), how, loss=rebuilt_loss, seed=3, folder=folder,
        strategy=strategy, echo=lambda line: print(line, file=sys.stderr, flush=True),
    )  # fmt: skip
    return history, model


def main() -> None:
    """Fit as the arguments say."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    how = replace(HOW, epochs=int(sys.argv[2]), augment=Augment(noise=0.1))
    if len(sys.argv) > 3:
        how = replace(how, distribute=sys.argv[3], augment=Augment())  # type: ignore[arg-type]
    if how.distribute == "mirrored":
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration() for _ in range(2)]
        )
    history, model = fitted(
        how, folder=Path(sys.argv[1]), dropout=0.0 if len(sys.argv) > 3 else 0.3
    )
    weights = float(sum(np.abs(w).sum() for w in model.get_weights()))
    print(json.dumps({"loss": history.loss, "valid": history.valid, "weights": weights}))


if __name__ == "__main__":
    main()

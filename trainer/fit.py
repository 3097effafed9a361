"""Fitting one model: seeded, weighted, with early stopping and progress that a person can read."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from guardian.tables import F32, Array

Echo = Callable[[str], None]

WEIGHT_DECAY = 1e-4


@dataclass(frozen=True)
class Fit:
    """How a model is fitted."""

    epochs: int
    batch: int = 256
    rate: float = 2e-3
    patience: int = 4
    """Epochs without a better validation loss before it stops; the best weights are kept."""


class _Progress(keras.callbacks.Callback):  # type: ignore[misc]
    """One line an epoch: losses, sequences a second, time left at most."""

    def __init__(self, name: str, epochs: int, rows: int, echo: Echo) -> None:
        super().__init__()
        self._name, self._epochs, self._rows, self._echo = name, epochs, rows, echo
        self._begun = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        done = epoch + 1
        spent = time.monotonic() - self._begun
        logs = logs or {}
        self._echo(
            f"{self._name}: epoch {done}/{self._epochs}, loss {logs.get('loss', 0):.4f}, "
            f"held out {logs.get('val_loss', 0):.4f}, {self._rows * done / spent:,.0f} a second, "
            f"at most {spent / done * (self._epochs - done):.0f} s left"
        )


def fit(
    model: Any,
    data: tuple[F32, Array, F32],
    held_out: tuple[F32, Array, F32],
    loss: Any,
    how: Fit,
    *,
    seed: int,
    echo: Echo,
) -> dict[str, list[float]]:
    """Fit a model on (x, y, weight) and return its losses by epoch; it keeps its best weights."""
    x, y, weight = data
    keras.utils.set_random_seed(seed)
    steps = max(1, len(x) // how.batch) * how.epochs
    rate = keras.optimizers.schedules.CosineDecay(how.rate, steps, alpha=0.05)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=WEIGHT_DECAY, clipnorm=1.0)
    model.compile(optimizer, loss)
    history = model.fit(
        x,
        y,
        sample_weight=weight,
        validation_data=held_out,
        batch_size=how.batch,
        epochs=how.epochs,
        verbose=0,
        callbacks=[
            keras.callbacks.EarlyStopping(patience=how.patience, restore_best_weights=True),
            _Progress(model.name, how.epochs, len(x), echo),
        ],
    )
    return {name: [float(v) for v in values] for name, values in history.history.items()}


def logits_loss(classes: int, smoothing: float) -> Any:
    """Return [batch]: cross-entropy of logits, by class number; smoothing spares surplus zeal."""

    def loss(wanted: Any, found: Any) -> Any:
        target = keras.ops.one_hot(keras.ops.reshape(wanted, (-1,)), classes)
        target = target * (1.0 - smoothing) + smoothing / classes
        return keras.ops.categorical_crossentropy(target, found, from_logits=True)

    return loss


def rebuilt_loss(wanted: Any, found: Any) -> Any:
    """Return [batch]: mean squared difference over steps and features, the scorer's error."""
    return keras.ops.mean(keras.ops.square(wanted - found), axis=(1, 2))

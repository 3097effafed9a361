"""Fitting a Keras model: `fit`."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from guardian.errors import InputError
from guardian.tables import I32
from trainer.fitting import checkpoint, device
from trainer.fitting.board import Board
from trainer.fitting.how import Fit, History, Rows
from trainer.fitting.lstm import fused
from trainer.fitting.progress import Progress
from trainer.fitting.recompute import recomputed
from trainer.fitting.step import Train, plan, tensors, trainer, validator

Echo = Callable[[str], None]

CALL_SECONDS = 0.5
"""About how long one compiled call lasts: the bar moves, Ctrl-C is heard."""
CHECKPOINT = "checkpoint.npz"


@dataclass(frozen=True)
class Stream:
    """Rows that come in pieces, for what does not fit into memory."""

    rows: int
    """How many an epoch has."""
    pieces: Callable[[int], Iterator[Rows]]
    """Epoch (from 0) -> its rows in a shuffled order, the same whenever it is asked. Best some
    hundred batches a piece, and a multiple of the batch."""
    digest: str = ""
    """Says what the rows are, so that another fit's checkpoint is not taken up."""


def fit(
    model: Any,
    train: Rows | Stream,
    valid: Rows | None,
    how: Fit,
    *,
    loss: Any,
    seed: int,
    monitor: str = "val_loss",
    folder: Path | None = None,
    strategy: Any = None,
    echo: Echo = print,
) -> History:
    """Fit a built model, leave it with its best weights, and return the losses by epoch.

    `loss` is what `model.compile` takes; `monitor` "val_loss" or "val_<output>_loss". With a
    `folder`, the state after each epoch is kept in its checkpoint.npz, and a fit that finds one
    there goes on where that ended; the same seed gives the same weights either way. A model for
    several replicas was built in the scope of `strategy` (device.strategy_of). Raises InputError
    for an empty set, a checkpoint of another fit, and a loss that is no number.
    """
    if not (len(train) if isinstance(train, Rows) else train.rows):
        raise InputError("there is no sequence to fit a model on: give more data")
    valid = valid if valid is not None and len(valid) else None
    layers = model._flatten_layers()
    replicas = 1 if strategy is None else strategy.num_replicas_in_sync
    choice = device.choose(
        device.found(),
        how,
        parameters=model.count_params(),
        cudnn=device.uses_cudnn(list(layers)),
        cpus=replicas,
        workers=replicas,
    )
    echo(f"{model.name}: {choice.line}")
    keras.utils.set_random_seed(seed)
    rows = len(train) if isinstance(train, Rows) else train.rows
    batch = -(-min(how.batch, rows) // replicas) * replicas
    compile_for(model, how, loss, max(1, -(-rows // batch)) * how.epochs, strategy)
    path = _checkpoint_path(folder, how)
    history, best = History(device=choice.line), model.get_weights()
    key = _key(model, train, valid, how, seed) if path else ""
    if path and (saved := checkpoint.restore(path, model, key)):
        history, best = saved
        echo(f"{model.name}: goes on after epoch {len(history.loss)}")
    with ExitStack() as stack:
        stack.enter_context(fused(model, choice.fused))
        stack.enter_context(recomputed(model, how.recompute))
        run = _Run(model, how, seed, batch, choice.jit, strategy, monitor, valid)
        bar = Progress(model.name, how.epochs, rows, echo, begin=len(history.loss))
        stack.callback(bar.clear)
        board = Board(folder / "tensorboard") if folder and how.tensorboard else None
        if board:
            stack.callback(board.close)
        while len(history.loss) < how.epochs and not history.stopped:
            epoch = len(history.loss)
            begun = time.monotonic()
            history.loss.append(run.epoch(train, epoch, bar))
            if valid is not None:
                history.valid.append(run.valid())
            history.seconds.append(time.monotonic() - begun)
            if _judge(history, how):
                best = model.get_weights()
            bar.after(epoch, history)
            if board:
                board.write(epoch, history, float(model.optimizer.learning_rate))
            if path:
                checkpoint.save(path, model, best, history, key)
    if history.stopped:
        echo(f"{model.name}: {history.stopped}")
    model.set_weights(best)
    if history.best < 0:
        raise InputError(
            f"{model.name} learned nothing: its loss was no number in the first epoch. Give a"
            " smaller rate, or look for extreme values in the data"
        )
    return history


def compile_for(model: Any, how: Fit, loss: Any, steps: int, strategy: Any = None) -> None:
    """Compile a model as `fit` does: AdamW or Adam, its rate falling over so many steps."""
    rate: Any = how.rate
    if how.decay:
        rate = keras.optimizers.schedules.CosineDecay(how.rate, steps, alpha=0.05)
    with ExitStack() as stack:
        if strategy is not None:
            stack.enter_context(strategy.scope())
        clip = how.clip or None
        if how.weight_decay:
            kind: Any = keras.optimizers.AdamW(rate, weight_decay=how.weight_decay, clipnorm=clip)
        else:
            kind = keras.optimizers.Adam(rate, clipnorm=clip)
        model.compile(kind, loss)
        model.optimizer.build(model.trainable_variables)


class _Run:
    """The compiled functions of a fit, and the rows that stay where they compute."""

    def __init__(
        self,
        model: Any,
        how: Fit,
        seed: int,
        batch: int,
        jit: bool,
        strategy: Any,
        monitor: str,
        valid: Rows | None,
    ) -> None:
        self._seed, self._batch = seed, batch
        self._train: Train = trainer(model, how.augment, seed=seed, jit=jit, strategy=strategy)
        self._validate = validator(model, monitor)
        self._held: tuple[Any, Any, Any] | None = None
        if valid is not None:
            order = np.arange(len(valid), dtype=np.int32)
            self._held = (tensors(valid), *plan(order, min(len(valid), 4 * batch)))
        self._whole: Any = None
        self._steps = 0.0
        """Of the next call; 0 before the first, which is one step and compiles."""

    def valid(self) -> float:
        """Return the validation loss."""
        assert self._held is not None
        return self._validate(*self._held)

    def epoch(self, train: Rows | Stream, epoch: int, bar: Progress) -> float:
        """Train one epoch; return its mean loss."""
        if isinstance(train, Rows):
            rng = np.random.default_rng([self._seed, epoch])
            order = rng.permutation(len(train)).astype(np.int32)
            if self._whole is None:
                self._whole = tensors(train)
            total = self._piece(self._whole, order, epoch, bar, 0.0, 1.0, 0)
            return total / len(train)
        total, done, step = 0.0, 0, 0
        for rows in train.pieces(epoch):
            order = np.arange(len(rows), dtype=np.int32)
            share = len(rows) / train.rows
            total += self._piece(tensors(rows), order, epoch, bar, done / train.rows, share, step)
            done += len(rows)
            step += -(-len(rows) // self._batch)
        return total / max(done, 1)

    def _piece(
        self, data: Any, order: I32, epoch: int, bar: Progress, done: float, share: float, past: int
    ) -> float:
        """Train on rows that are in memory, in calls of about CALL_SECONDS; return the sum."""
        index, counts = plan(order, self._batch)
        first, losses = 0, list[float]()
        while first < len(index):
            last = min(len(index), first + max(1, round(self._steps)))
            begun = time.monotonic()
            losses += self._train(data, index, counts, first, last, epoch, past).tolist()
            spent = time.monotonic() - begun
            first, now = last, done + share * last / len(index)
            if not self._steps:
                self._steps = 4.0
                bar.compiled(epoch + now)
            else:
                wished = self._steps * CALL_SECONDS / max(spent, 1e-4)
                self._steps = min(max(wished, 1.0), self._steps * 8)
            bar.within(epoch, now)
        return math.fsum(losses)


def _judge(history: History, how: Fit) -> bool:
    """Note whether the last epoch is the best, and whether it was the last; return the former."""
    watched = history.valid or history.loss
    epoch, value = len(watched) - 1, watched[-1]
    if not math.isfinite(value) or not math.isfinite(history.loss[-1]):
        history.stopped = f"stopped: the loss of epoch {epoch + 1} is no number"
        return False
    # Without validation the last weights are the best: a training loss is no judge.
    better = not history.valid or history.best < 0 or value < watched[history.best]
    if better:
        history.best = epoch
    elif how.patience and epoch - history.best >= how.patience:
        history.stopped = (
            f"stopped after epoch {epoch + 1}: the best was {history.best + 1},"
            f" {how.patience} epochs before"
        )
    return better


def _checkpoint_path(folder: Path | None, how: Fit) -> Path | None:
    if folder is None:
        return None
    if how.distribute != "multiworker":
        return folder / CHECKPOINT
    # Each worker keeps its own: they need not share a disk, nor write one file on it.
    index = json.loads(os.environ.get("TF_CONFIG", "{}")).get("task", {}).get("index", 0)
    return folder / f"checkpoint-{index}.npz"


def _key(model: Any, train: Rows | Stream, valid: Rows | None, how: Fit, seed: int) -> str:
    """Return a digest of what decides a fit: another one must not go on from its checkpoint."""
    sha = hashlib.sha256()
    settings = asdict(how) | {"tensorboard": None}
    sha.update(json.dumps([model.name, settings, seed], sort_keys=True).encode())
    for rows in (train, valid):
        if isinstance(rows, Stream):
            sha.update(f"{rows.rows} {rows.digest}".encode())
        elif rows is not None:
            for array in (rows.x, rows.weight):
                sha.update(np.ascontiguousarray(array).data)
    sha.update(b"".join(np.ascontiguousarray(w).tobytes() for w in model.get_weights()))
    return sha.hexdigest()

"""Sequences of a prepared set's rows: within one group, within one part of a split."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from guardian.errors import InputError
from guardian.tables import F32, I32, I64, Array
from trainer.sets.prepared import I16, Prepared

POOL = 1 << 15
"""Windows that are shuffled together while a set streams."""
STRETCH = 1 << 10
"""Neighbouring windows that come into a pool together, so that a disk reads in stretches."""


@dataclass(frozen=True)
class Windows:
    """m sequences of T rows."""

    x: F32
    """float32[m, T, F]"""
    label: I16
    """int16[m], of the last row."""
    group: I32
    row: I64
    """int64[m]: number of the last row in the prepared set."""

    def __len__(self) -> int:
        return len(self.label)


def windows(
    prepared: Prepared,
    rows: Array,
    window: int,
    stride: int = 1,
    x: F32 | None = None,
    *,
    pad: bool = False,
) -> Windows:
    """Return the sequences of `window` rows that end in `rows`, in memory.

    `rows` are row numbers, as a Split has them. Only neighbours in time follow each other: a
    sequence never crosses groups, and where `rows` leaves a row out, a new one begins. Every
    `stride`-th is returned. With `pad`, the first rows have sequences too, zeros on their left,
    as on the gateway; else only full ones count. `x`, float32[n, F], stands in for prepared.x
    where it was scaled. Raises InputError where window or stride is below 1.
    """
    ends, length = ends_of(prepared, rows, window, stride, pad=pad)
    values = prepared.x if x is None else x
    return Windows(
        gather(values, ends, length, window), prepared.label[ends], prepared.group[ends], ends
    )


def ends_of(
    prepared: Prepared, rows: Array, window: int, stride: int = 1, *, pad: bool = False
) -> tuple[I64, I64]:
    """Return int64[m] twice: the last row of each sequence, and how many of its rows are real."""
    if window < 1 or stride < 1:
        raise InputError(f"window {window} and stride {stride}: both must be 1 or more")
    index = np.unique(np.asarray(rows, dtype=np.int64))
    if not len(index):
        return index, index.copy()
    group = prepared.group[index]
    begins = np.ones(len(index), dtype=np.bool_)
    begins[1:] = (np.diff(index) != 1) | (group[1:] != group[:-1])
    start = np.maximum.accumulate(np.where(begins, np.arange(len(index)), 0))
    place = np.arange(len(index)) - start
    first = 0 if pad else window - 1
    keep = (place >= first) & ((place - first) % stride == 0)
    return index[keep], np.minimum(place[keep] + 1, window)


def gather(values: F32, ends: I64, length: I64, window: int) -> F32:
    """Return float32[m, window, F]: the rows up to each end, zeros where they are not real."""
    steps = np.arange(1 - window, 1)
    at = ends[:, None] + steps
    real = steps > -length[:, None]
    out = np.asarray(values[np.where(real, at, ends[:, None])], dtype=np.float32)
    if not real.all():
        out[~real] = 0.0
    return out


def chunks(
    prepared: Prepared,
    rows: Array,
    window: int,
    *,
    batch: int,
    stride: int = 1,
    pad: bool = False,
    seed: int | None = None,
    scale: Callable[[F32], F32] | None = None,
    pool: int = POOL,
) -> Iterator[tuple[F32, I16]]:
    """Yield (float32[b, T, F], int16[b]) a batch at a time; memory holds one batch.

    With a seed the order is by chance: stretches of neighbours from all over the set are put into
    a pool and shuffled there. `scale` gets float32[rows, F] before zeros are padded.
    """
    ends, length = ends_of(prepared, rows, window, stride, pad=pad)
    left = np.zeros(0, dtype=np.int64)
    done = 0
    for more in order(len(ends), seed, pool):
        done += len(more)
        pick = np.concatenate([left, more])
        whole = len(pick) if done == len(ends) else len(pick) // batch * batch
        left = pick[whole:]
        for k in range(0, whole, batch):
            chosen = pick[k : min(k + batch, whole)]
            x = gather(prepared.x, ends[chosen], length[chosen], window)
            if scale is not None:
                shape = x.shape
                x = np.asarray(scale(x.reshape(-1, shape[2])), np.float32).reshape(shape)
                x[np.arange(1 - window, 1) <= -length[chosen][:, None]] = 0.0
            yield x, prepared.label[ends[chosen]]


def order(n: int, seed: int | list[int] | None, pool: int, stretch: int = STRETCH) -> Iterator[I64]:
    """Yield all of 0 to n - 1 in pools; with a seed by chance, stretches of neighbours together."""
    if seed is None:
        for k in range(0, n, pool):
            yield np.arange(k, min(n, k + pool))
        return
    rng = np.random.default_rng(seed)
    stretches = rng.permutation(-(-n // stretch))
    many = max(1, pool // stretch)
    for k in range(0, len(stretches), many):
        starts = stretches[k : k + many, None] * stretch
        found = (starts + np.arange(stretch)).ravel()
        yield rng.permutation(found[found < n])


def batches(
    prepared: Prepared,
    rows: Array,
    window: int,
    *,
    batch: int,
    stride: int = 1,
    pad: bool = False,
    seed: int | None = None,
    scale: Callable[[F32], F32] | None = None,
    pool: int = POOL,
) -> Any:
    """Return a tf.data.Dataset of (x float32[b, T, F], label int16[b]), read as it goes.

    It never holds the whole set: see `chunks`. Each pass over it with a seed has another order,
    the same in the next run. The last batch may be smaller.
    """
    import tensorflow as tf  # noqa: PLC0415

    passes = [0]

    def read() -> Iterator[tuple[F32, I16]]:
        mixed = None if seed is None else seed * 1_000_003 + passes[0]
        passes[0] += 1
        yield from chunks(
            prepared, rows, window, batch=batch, stride=stride, pad=pad, seed=mixed, scale=scale,
            pool=pool,
        )  # fmt: skip

    width = len(prepared.features)
    signature = (
        tf.TensorSpec((None, window, width), tf.float32),
        tf.TensorSpec((None,), tf.int16),
    )
    many = len(ends_of(prepared, rows, window, stride, pad=pad)[0])
    made = tf.data.Dataset.from_generator(read, output_signature=signature)
    return made.apply(tf.data.experimental.assert_cardinality(-(-many // batch))).prefetch(2)

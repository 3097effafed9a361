"""The sequences of one part of a data set, made when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from guardian.bundle import Scaler
from guardian.tables import F32, F64, I64, Array
from trainer.fitting.how import Rows
from trainer.scaling import scaled
from trainer.sets.prepared import Prepared
from trainer.sets.windows import ends_of, gather, order

PIECE = 1 << 14
"""Sequences that are made, scored or read together."""
STRETCH = 1 << 9
"""Neighbouring sequences that a stream reads together, so that a disk reads in stretches."""


@dataclass(frozen=True)
class Sequences:
    """m sequences of `window` rows of a prepared set, by where they end."""

    prepared: Prepared
    scaler: Scaler
    window: int
    ends: I64
    """int64[m]: the last row of each; what is told of a sequence is told of that row."""

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def label(self) -> Array:
        """int[m]: the class of each."""
        return self.prepared.label[self.ends].astype(np.int32)

    @property
    def group(self) -> Array:
        """int[m]: the group of each."""
        return self.prepared.group[self.ends]

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return len(self) * self.window * len(self.prepared.features) * 4

    def x(self, pick: Any = slice(None)) -> F32:
        """Return float32[n, window, F], scaled, of those picked."""
        ends = self.ends[pick]
        length = np.full(len(ends), self.window)
        return scaled(self.scaler, gather(self.prepared.x, ends, length, self.window))

    def only(self, mask: Array | slice) -> Sequences:
        """Return those where the mask is true, or those of an index or a slice."""
        return Sequences(self.prepared, self.scaler, self.window, self.ends[mask])

    def spread(self, most: int) -> Sequences:
        """Return at most so many, spread evenly."""
        if len(self) <= most:
            return self
        return self.only(np.linspace(0, len(self) - 1, most).astype(np.int64))

    def score(self, model: Any) -> list[Any]:
        """Return what a function of float32[n, window, F] gives for all, piece by piece."""
        pieces = range(0, len(self), PIECE)
        return [model(self.x(slice(begin, begin + PIECE))) for begin in pieces]

    def pieces(self, epoch: int, seed: int, rows: Any) -> Iterator[Rows]:
        """Yield all in an order of this epoch; `rows` makes Rows of (x, label, group, index)."""
        for index in order(len(self), [seed, epoch], PIECE, STRETCH):
            yield rows(self.x(index), self.label[index], self.group[index], index)


def sequences(
    prepared: Prepared, scaler: Scaler, rows: Array, window: int, stride: int
) -> Sequences:
    """Return the sequences that end in some rows: neighbours in time, of one group."""
    return Sequences(prepared, scaler, window, ends_of(prepared, rows, window, stride)[0])


def joined(parts: list[F64]) -> F64:
    """Return pieces of scores as one array; empty where there is none."""
    return np.concatenate(parts) if parts else np.zeros(0)

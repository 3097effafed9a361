"""Sequences gathered from many streams, each row with its class, its instance and its weight.

An instance is one device of one stream under one class: a beacon of 8,000 calls is one instance,
and so is a download of three. Rows are weighted so that instances of a class count alike (by the
square root of their size) and classes by SHARE; else the longest capture would teach alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np

from guardian.features import NAMES
from guardian.tables import F32, F64, I32, I64, Array, Bool
from trainer.labels import CLASSES
from trainer.streams import WINDOW, Stream, sequences

CALM_S = 600
"""The longest memory of the features of a device's context."""

SHARE = {
    "benign": 2.0,
    "scan": 0.22,
    "c2": 0.26,
    "flood": 0.15,
    "brute-force": 0.15,
    "download": 0.15,
    "other": 0.07,
}
"""Weight of each class in training: benign counts twice all malice."""


@dataclass(frozen=True)
class Rows:
    """m labelled sequences."""

    x: F32
    """float32[m, T, F], raw."""
    length: I32
    label: Array
    """int8[m], 0 to len(CLASSES) - 1."""
    instance: I64
    """int64[m]"""
    clean: Bool
    """bool[m]: its device did nothing malicious shortly before. Benign traffic of a device in the
    middle of an attack is no false alarm, and no threshold rests on it."""
    names: tuple[tuple[str, str], ...]
    """(group, source) of each instance."""
    kinds: tuple[str, ...] = ()
    """Class of device of each instance, empty where nobody said; of none where there are none."""

    def __len__(self) -> int:
        return len(self.x)

    def take(self, index: Array) -> Rows:
        return Rows(
            self.x[index],
            self.length[index],
            self.label[index],
            self.instance[index],
            self.clean[index],
            self.names,
            self.kinds,
        )

    @property
    def kind(self) -> Array:
        """str[m]: the class of each row's device, empty where nobody said."""
        return np.array(self.kinds or [""] * len(self.names), dtype=np.str_)[self.instance]

    def without(self, groups: Collection[str]) -> Rows:
        """Return the rows whose group is none of these; a graft has its host's and its guest's."""
        keep = np.array([not set(group.split("+")) & set(groups) for group, _ in self.names])
        return self.take(keep[self.instance])

    def weights(self) -> F64:
        """Return float64[m] with mean 1."""
        weight = self._weights(0.5)
        scaled: F64 = weight / weight.mean()
        return scaled

    def evened(self) -> F64:
        """Return float64[m] with mean 1: the same, but for a fit that must hold up elsewhere.

        Large instances keep more of their size, and origins (each network, simulated homes, what
        was put into others) count by the square root of what they had, benign and malicious rows
        apart: else the simulated homes teach nearly alone.
        """
        weight = self._weights(0.25)
        origins = [s if s in ("graft", "placebo") else group for group, s in self.names]
        _, origin = np.unique(origins, return_inverse=True)
        for side in (self.label == 0, self.label > 0):
            of = origin[self.instance[side]]
            before = weight[side]
            after = before / np.sqrt(np.bincount(of, before))[of]
            weight[side] = after * (before.sum() / max(after.sum(), 1e-12))
        scaled: F64 = weight / weight.mean()
        return scaled

    def _weights(self, power: float) -> F64:
        """Return float64[m]: each class has its SHARE, an instance of n rows n**(1 - power)."""
        key = self.instance * len(CLASSES) + self.label
        _, index, count = np.unique(key, return_inverse=True, return_counts=True)
        weight: F64 = (1.0 / count[index] ** power).astype(np.float64)
        for number, name in enumerate(CLASSES):
            hit = self.label == number
            if hit.any():
                weight[hit] *= SHARE[name] / weight[hit].sum()
        return weight


def gather(
    streams: Iterable[tuple[str, str, Stream, Array | None]], limit: int, seed: int, window: int
) -> Rows:
    """Return the labelled sequences of streams; of an instance about `limit` at most, by chance.

    Each stream comes with the names of its group and source and, where only some slices are
    wanted, bool[n].
    """
    rng = np.random.default_rng(seed)
    parts: list[tuple[F32, I32, Array, I64, Bool]] = []
    names: list[tuple[str, str]] = []
    kinds: list[str] = []
    for group, source, stream, wanted in streams:
        chance = _chances(stream, wanted, limit)
        known: dict[int, int] = {}
        calm = _calm(stream)
        for chunk in sequences(stream, window):
            label = row_labels(stream, chunk.at, chunk.sequences.outbound, chunk.label)
            side = np.where(chunk.sequences.outbound, 0, 1)
            p = chance[chunk.at, side]
            keep = (label >= 0) & (rng.random(len(p)) < p)
            if not keep.any():
                continue
            device = chunk.sequences.device[keep]
            for d in np.unique(device).tolist():
                if d not in known:
                    known[d] = len(names)
                    names.append((group, source))
                    kinds.append(stream.kinds.get(d, ""))
            instance = np.array([known[d] for d in device.tolist()], dtype=np.int64)
            parts.append(
                (
                    chunk.sequences.x[keep],
                    chunk.sequences.length[keep],
                    label[keep],
                    instance,
                    calm[chunk.at, side][keep],
                )
            )
    if not parts:
        x = np.zeros((0, window, len(NAMES)), np.float32)
        none = np.zeros(0, np.int64)
        return Rows(x, none.astype(np.int32), none.astype(np.int8), none, none.astype(np.bool_), ())
    columns = [np.concatenate([part[k] for part in parts]) for k in range(5)]
    return Rows(
        columns[0], columns[1], columns[2], columns[3], columns[4], tuple(names), tuple(kinds)
    )


def row_labels(stream: Stream, at: I64, outbound: Array, label: Array) -> Array:
    """Return int8[m]: the class of each sequence as its own device's.

    A machine of the home that another one attacks is not the infected one: its side is benign.
    """
    both = (stream.orig_device[at] >= 0) & (stream.resp_device[at] >= 0)
    return np.where(both & ~outbound & (label > 0), 0, label).astype(np.int8)


def _calm(stream: Stream) -> Bool:
    """Return bool[n, 2]: the device on either side did nothing malicious in the last CALM_S
    seconds nor in its sequence. What others do to it leaves it calm.
    """
    out = np.ones((len(stream), 2), dtype=np.bool_)
    told, bad = stream.slices.told, stream.label > 0
    sides = np.stack([stream.orig_device, stream.resp_device], axis=1)
    for device in np.unique(stream.orig_device[bad & (stream.orig_device >= 0)]).tolist():
        row, side = np.nonzero(sides == device)
        position = np.arange(len(row))
        last = np.maximum.accumulate(np.where(bad[row] & (side == 0), position, -1))
        near = (last >= 0) & (
            (position - last < WINDOW) | (told[row] - told[row[last]] < CALM_S * 10**9)
        )
        out[row[near], side[near]] = False
    return out


def _chances(stream: Stream, wanted: Array | None, limit: int) -> F64:
    """Return float64[n, 2]: chance to keep the originator's and the responder's sequence."""
    out = np.zeros((len(stream), 2))
    for side, device in enumerate((stream.orig_device, stream.resp_device)):
        use = (device >= 0) & (stream.label >= 0)
        if wanted is not None:
            use &= wanted
        key = device.astype(np.int64) * len(CLASSES) + stream.label
        _, index, count = np.unique(key[use], return_inverse=True, return_counts=True)
        out[use, side] = np.minimum(1.0, limit / count[index])
    return out

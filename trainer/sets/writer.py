"""From rows as they are read to the files of a prepared set; memory holds one batch of features.

Of each row 26 bytes stay in memory (label, group, time, hash): a hundred million rows take 2.6 GB.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from guardian.errors import InputError
from guardian.tables import F64, I64, U64, Array, Bool
from trainer.sets.prepared import FACTS

_HEADER = 128
"""Bytes of an .npy header, padded so that the number of rows can be written at the end."""
MAX_GROUPS = 1 << 16
"""A flood from invented addresses must not make a group of each."""
_COPY = 1 << 14
"""Rows that are put in order at a time."""


@dataclass(frozen=True)
class Nature:
    """What a reader found out about its rows as a whole."""

    ordered: bool
    comparable: bool
    why: str


class Writer:
    """Takes batches of rows; `finish` sorts them, drops repeated ones and writes the set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: BinaryIO | None = None
        self._columns: list[tuple[Array, Array, F64, U64]] = []
        self._groups: dict[str, int] = {}
        self._previous: Array | None = None
        self._gap = -1
        self.features: tuple[str, ...] = ()
        self.counts: dict[str, int] = {}
        self.seen = 0
        """Rows so far: the time of rows that have none."""
        self.clock = 0.0
        """The last time that was read, seconds."""

    def count(self, what: str, number: int | np.integer[Any]) -> None:
        """Add to a count; what never happened is not named."""
        if number:
            self.counts[what] = self.counts.get(what, 0) + int(number)

    def begin(self, features: Sequence[str], gap: str = "") -> None:
        """Say the features, before the first row. The one named `gap` is filled in at the end:
        log1p of the seconds since the row before of the same group, 0 in the first.
        """
        self.features = tuple(features)
        self._gap = self.features.index(gap) if gap else -1
        self._file = (self.folder / "x.npy").open("wb")
        self._file.write(b"\0" * _HEADER)

    def group(self, name: str) -> int:
        """Return the number of a group; a new name gets the next, until there are too many: then
        it is one of its capture's others.
        """
        if name not in self._groups and len(self._groups) >= MAX_GROUPS:
            name = f"{name.partition('/')[0]}/others"
            self.count("groups too many", name not in self._groups)
        return self._groups.setdefault(name, len(self._groups))

    def add(self, x: F64, label: Array, group: Array | int, ts: F64, fill: str = "zero") -> None:
        """Take rows: float64[b, F] with NaN for missing, label, group and seconds, each [b].

        Missing and infinite values are filled and counted: with 0, or with the column's value in
        the row before (of the same group, if it is filled with "previous").
        """
        assert self._file is not None
        groups = np.broadcast_to(np.asarray(group, dtype=np.int32), (len(x),))
        with np.errstate(over="ignore"):
            values = x.astype(np.float32)
        infinite = np.isinf(values)
        self.count("values infinite", np.count_nonzero(infinite))
        gaps = infinite | np.isnan(values)
        self.count("values filled", np.count_nonzero(gaps))
        if gaps.any():
            if fill == "previous":
                values = _carry(values, gaps, groups, self._previous)
            else:
                values[gaps] = 0.0
        values += np.float32(0)  # -0.0 and 0.0 are one value
        if len(values):
            self._previous = np.append(values[-1], np.float32(groups[-1]))
        self._file.write(np.ascontiguousarray(values).tobytes())
        self._columns.append((label.astype(np.int16), groups.astype(np.int32), ts, hashes(values)))

    def close(self) -> None:
        """Let go of the file, also where nothing came of it."""
        if self._file is not None:
            self._file.close()

    def finish(
        self, name: str, classes: tuple[str, ...], nature: Nature, digest: str, twice: str
    ) -> None:
        """Write the whole set. Raises InputError where there is no row."""
        if self._file is None or not sum(len(part[0]) for part in self._columns):
            raise InputError(f"{name} has no row that can be used: see what was dropped and why")
        self._file.close()
        parts = self._columns
        label: Array = np.concatenate([p[0] for p in parts])
        group: Array = np.concatenate([p[1] for p in parts])
        ts: F64 = np.concatenate([p[2] for p in parts])
        mark: U64 = np.concatenate([p[3] for p in parts])
        self._columns = []
        self.count("rows out of time order", _unsorted(group, ts))
        repeated, torn = _repeats(mark, label)
        self.count("rows repeated", np.count_nonzero(repeated))
        self.count("rows alike with another label", torn)
        order = np.lexsort((ts, group))
        if twice == "drop":
            order = order[~repeated[order]]
            self.count("dropped: repeated", np.count_nonzero(repeated))
        self.counts["rows kept"] = len(order)
        self._store(order, len(label), _gaps(group[order], ts[order]) if self._gap >= 0 else None)
        for column, values in (("label", label), ("group", group), ("ts", ts)):
            np.save(self.folder / f"{column}.npy", values[order])
        facts = {
            "name": name, "features": self.features, "classes": classes,
            "groups": list(self._groups), "rows": len(order), "ordered": nature.ordered,
            "comparable": nature.comparable, "why": nature.why,
            "counts": dict(sorted(self.counts.items())), "digest": digest,
        }  # fmt: skip
        (self.folder / FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")

    def _store(self, order: I64, n: int, gaps: F64 | None) -> None:
        """Put the rows of x in order; where they are, only the header is written."""
        path, width = self.folder / "x.npy", len(self.features)
        if gaps is None and len(order) == n and (order == np.arange(n)).all():
            with path.open("r+b") as file:
                file.write(_header(n, width))
            return
        raw = np.memmap(path, np.float32, "r", _HEADER, (n, width))
        out = self.folder / "x.part"
        with out.open("wb") as file:
            file.write(_header(len(order), width))
            for k in range(0, len(order), _COPY):
                rows = np.array(raw[order[k : k + _COPY]])
                if gaps is not None:
                    rows[:, self._gap] = gaps[k : k + _COPY]
                file.write(rows.tobytes())
        del raw
        out.replace(path)


def _gaps(group: Array, ts: F64) -> F64:
    """Return float64[n]: log1p of seconds since the row before, of rows sorted by group, time."""
    gaps = np.zeros(len(ts))
    gaps[1:] = np.where(np.diff(group) == 0, np.diff(ts), 0.0)
    return np.log1p(np.maximum(gaps, 0.0))


def _header(n: int, width: int) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({n}, {width}), }}"
    body = text.ljust(_HEADER - 11).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body


def hashes(values: Array) -> U64:
    """Return uint64[n]: equal where all float32 of a row are equal, and (but for one pair in 2^64)
    only there.
    """
    bits: Array = np.ascontiguousarray(values).view(np.uint32)
    salt: Array = np.random.default_rng(20_261_122).integers(0, 1 << 62, (bits.shape[1],))
    out: U64 = np.zeros(len(bits), dtype=np.uint64)
    for k, number in enumerate(salt.tolist()):
        out += _mix(bits[:, k].astype(np.uint64) ^ np.uint64(number))
    return out


def _mix(z: U64) -> U64:
    """Return numbers scattered over 64 bits (the finalizer of splitmix64)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _repeats(mark: U64, label: Array) -> tuple[Bool, int]:
    """Return bool[n] (features and label were there before) and how many rows have the features
    of another one and not its label.
    """
    both = mark + _mix(label.astype(np.int64).view(np.uint64) + np.uint64(1))
    repeated = np.ones(len(mark), dtype=np.bool_)
    repeated[np.unique(both, return_index=True)[1]] = False
    # What is left once repeated rows are out differs in features, or in the label alone.
    _, counts = np.unique(mark[~repeated], return_counts=True)
    return repeated, int(counts[counts > 1].sum())


def _unsorted(group: Array, ts: F64) -> int:
    """Return how many rows have a time before that of their group's row before them."""
    order = np.argsort(group, kind="stable")
    same = np.diff(group[order]) == 0
    return int(np.count_nonzero(same & (np.diff(ts[order]) < 0)))


def _carry(values: Array, gaps: Array, groups: Array, previous: Array | None) -> Array:
    """Return values with gaps filled from the row above, 0 where a group begins with one."""
    begins = np.ones(len(values), dtype=np.bool_)
    begins[1:] = groups[1:] != groups[:-1]
    if previous is not None and len(values) and previous[-1] == groups[0]:
        values[0] = np.where(gaps[0], previous[:-1], values[0])
        gaps[0] = False
    values[gaps & begins[:, None]] = 0.0
    at = np.where(~gaps | begins[:, None], np.arange(len(values))[:, None], 0)
    np.maximum.accumulate(at, axis=0, out=at)
    out: Array = np.take_along_axis(values, at, axis=0)
    return out

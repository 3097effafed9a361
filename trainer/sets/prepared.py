"""A prepared set: finite float32 features in rows, with label, group and time of each."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from guardian.tables import F32, F64, I32, Array

I16 = npt.NDArray[np.int16]

COLUMNS = ("x", "label", "group", "ts")
FACTS = "set.json"
"""Written last: a folder without it is no whole set."""


@dataclass(frozen=True)
class Prepared:
    """n rows of one data set. Rows of a group stand together, in time."""

    name: str
    features: tuple[str, ...]
    classes: tuple[str, ...]
    """All that the reader's mapping knows, the first is "benign"; not each need have rows."""
    x: F32
    """float32[n, F], finite. Amounts may be log1p, as the mapping says; nothing is centred or
    divided. May be an np.memmap that is read-only."""
    label: I16
    """int16[n]: number in classes, -1 unlabelled."""
    group: I32
    """int32[n]: number in groups."""
    groups: tuple[str, ...]
    """Captures or devices. Parts of one capture share what stands before the first slash."""
    ts: F64
    """float64[n]: seconds since 1970, row order where the set has no times. Rises in a group."""
    ordered: bool
    """Rows of a group follow in time, so that a sequence of them means something."""
    comparable: bool
    """Figures may stand beside published ones."""
    why: str
    """One sentence: why not ordered or not comparable; empty where both hold."""
    counts: dict[str, int]
    """Rows and values by what was done with them; see docs/datasets.md."""
    digest: str
    """Of the files' content, the mapping and the limit."""

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: Array | slice) -> Prepared:
        """Return some rows; x is then in memory where `rows` is an index or a mask.

        Rows that were apart become neighbours: for sequences give `rows` to windows() instead.
        """
        return replace(
            self,
            x=self.x[rows],
            label=self.label[rows],
            group=self.group[rows],
            ts=self.ts[rows],
        )

    def families(self) -> tuple[str, ...]:
        """Return the capture of each group: what stands before the first slash of its name."""
        return tuple(name.partition("/")[0] for name in self.groups)


def load(folder: Path) -> Prepared:
    """Return the set in a folder; x is mapped, not read."""
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    x = np.load(folder / "x.npy", mmap_mode="r") if facts["rows"] else np.load(folder / "x.npy")
    return Prepared(
        name=facts["name"],
        features=tuple(facts["features"]),
        classes=tuple(facts["classes"]),
        x=x,
        label=np.load(folder / "label.npy"),
        group=np.load(folder / "group.npy"),
        groups=tuple(facts["groups"]),
        ts=np.load(folder / "ts.npy"),
        ordered=facts["ordered"],
        comparable=facts["comparable"],
        why=facts["why"],
        counts=facts["counts"],
        digest=facts["digest"],
    )

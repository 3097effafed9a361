"""What devices of a class do at most in their first day: the prior that a bundle carries.

For each class, for devices that were seen to come and those that were there already, and for the
first ten minutes, hour, six hours and day, a level by statistic that one such device in `of`
exceeds (trainer/priors.py draws them). A statistic without a level is not looked at.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from guardian.deviceclass import CLASSES, THING

SENT, STRANGERS = range(2)
STATISTICS = ("sent", "strangers")
"""Bytes sent by TCP to the busiest stranger, a machine outside that the device never asked for by
name; strangers."""

CAME, THERE = "came", "there"
PHASES = (CAME, THERE)
"""Whether it was seen to ask for its first address: then all names it knows were asked for in
sight. One that was there before may know machines by names that nobody saw asked, so its strangers
are those that are new to it when it is settled."""

WINDOWS_S = (600, 3_600, 21_600, 86_400)
"""Ages up to which a level holds, s."""

CLASS_MOVES_MOST = 4.0
"""Times the level of things, which that of another class may be: any device can say that it is a
phone."""

Levels = tuple[float, ...]
"""By statistic; inf where there is none."""


@dataclass(frozen=True)
class Prior:
    """Levels of devices' first hours."""

    of: int
    """One device of its class in so many exceeds a level."""
    levels: Mapping[tuple[str, str], tuple[Levels, ...]]
    """By class and phase: of each window, by statistic."""

    def windows(self, kind: str, phase: str) -> tuple[Levels, ...]:
        """Return the levels of a device by window; nothing exceeds those that are not named."""
        return self.levels.get((kind, phase), (NEVER,) * len(WINDOWS_S))

    def at(self, kind: str, phase: str, window: int) -> Levels:
        """Return the levels of a device in one window."""
        return self.windows(kind, phase)[window]


NEVER: Levels = (math.inf,) * len(STATISTICS)


def of_manifest(found: Any) -> Prior | None:
    """Return the prior as a manifest has it, None where it has none.

    Raises ValueError, TypeError, KeyError or AttributeError where it is something else.
    """
    if found is None:
        return None
    of = int(found["of"])
    if not 2 <= of <= 1_000_000_000:
        raise ValueError("prior.of is not between 2 and a thousand million")
    levels = {}
    for kind, phases in found["levels"].items():
        for phase, rows in phases.items():
            if kind not in CLASSES or phase not in PHASES:
                raise ValueError(
                    f"prior.levels may name {', '.join(CLASSES)} and of each {', '.join(PHASES)}"
                )
            levels[kind, phase] = _levels(rows)
    return Prior(of, bounded(levels))


def bounded(
    levels: Mapping[tuple[str, str], tuple[Levels, ...]],
) -> dict[tuple[str, str], tuple[Levels, ...]]:
    """Return levels of which no class's is more than CLASS_MOVES_MOST times that of things."""
    out = {}
    for (kind, phase), windows in levels.items():
        things = levels.get((THING, phase), windows)
        pairs = zip(windows, things, strict=True)
        out[kind, phase] = tuple(
            tuple(min(a, CLASS_MOVES_MOST * b) for a, b in zip(one, thing, strict=True))
            for one, thing in pairs
        )
    return out


def _levels(rows: Any) -> tuple[Levels, ...]:
    if not set(rows) <= set(STATISTICS):
        raise ValueError(f"a prior has levels of {', '.join(STATISTICS)} and nothing else")
    none = (math.inf,) * len(WINDOWS_S)
    columns = [[float(v) for v in rows.get(name, none)] for name in STATISTICS]
    for name, column in zip(STATISTICS, columns, strict=True):
        rising = all(0.0 < a <= b for a, b in itertools.pairwise(column))
        if len(column) != len(WINDOWS_S) or not rising:
            raise ValueError(
                f"prior.levels {name} must be {len(WINDOWS_S)} numbers above 0 that do not fall"
            )
    return tuple(zip(*columns, strict=True))


def as_manifest(prior: Prior) -> dict[str, Any]:
    """Return what of_manifest reads; a statistic that has no level in any window is left out."""
    levels: dict[str, dict[str, dict[str, list[float]]]] = {}
    for (kind, phase), windows in prior.levels.items():
        columns = zip(STATISTICS, zip(*windows, strict=True), strict=True)
        named = {name: list(c) for name, c in columns if math.isfinite(c[-1])}
        levels.setdefault(kind, {})[phase] = named
    return {"of": prior.of, "levels": levels}

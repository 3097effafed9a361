"""How many incidents a week a person is told of, and what a limit costs."""

from __future__ import annotations

import math
from collections.abc import Iterable

from guardian.const import NS

_WEEK_NS = 7 * 86_400 * NS

FALSE_A_WEEK = 1.7
SILENT = 0.21
"""What trials of the shipped models say (docs/incidents.md, trainer/trial/budget.py): the false
incidents of eight devices in a week, and the share of found infections that stayed so small that a
full week told nothing of them."""


def full(most: int, a_week: float) -> float:
    """Return the share of time in which a week of `most` has no room, where so many come a week.

    Erlang's loss formula: each takes its place for seven days, whatever their spacing.
    """
    if not most or not a_week:
        return 0.0
    share = 1.0
    for k in range(1, most + 1):
        share = a_week * share / (k + a_week * share)
    return share


def cost(most: int) -> str:
    """Return what a limit costs in detection, as a sentence's part; empty for none."""
    lost = 100.0 * SILENT * full(most, FALSE_A_WEEK)
    if not most:
        return "nothing is held back"
    many = f"{math.ceil(lost)}" if lost >= 1.0 else "less than 1"
    return (
        f"in trials with eight devices so few kept silent about {many} of 100 infections that were "
        "found (docs/incidents.md, `guardian alerts --held`)"
    )


class Week:
    """When incidents were told of late; `most` is the week's limit, 0 for none."""

    def __init__(self) -> None:
        self.told: list[int] = []
        """The last moments, as many as a week may have, ns."""

    def load(self, told: Iterable[int], most: int) -> None:
        """Take up again what was told before a restart."""
        self.told = sorted(told)[-most:] if most else []

    def spend(self, at: int, most: int) -> None:
        """Note that one was told of."""
        if most:
            self.told = [*self.told, at][-most:]

    def spent(self, now: int, most: int) -> float:
        """Return how much of the week's limit is spent, 0 to 1; 0 where there is none."""
        if not most or not self.told:
            return 0.0
        return min(1.0, sum(at + _WEEK_NS > now for at in self.told) / most)

    def room_at(self, most: int) -> int:
        """Return the moment from which on the week has room for another one, ns."""
        return self.told[-most] + _WEEK_NS if 0 < most <= len(self.told) else 0

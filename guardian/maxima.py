"""A device's own usual maximum: what the `relative_*` features are held to.

Kept by steps of ten minutes; a step counts once it is an hour old, so that an attack does not
become its own measure at once, and then only as one maximum that is halved each week. It survives
a restart (past.py): some 300 bytes a device.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

from guardian.const import (
    BASELINE_DELAY_S,
    BASELINE_HALF_LIFE_S,
    BASELINE_STEP_S,
    MAX_AMOUNT,
    NS,
)

WIDTH = 5
"""Connections, peers, ports and failures of a minute, and bytes sent in it."""

_STEP_NS = BASELINE_STEP_S * NS
_DELAY = -(-BASELINE_DELAY_S // BASELINE_STEP_S)
_DECAY = 0.5 ** (BASELINE_STEP_S / BASELINE_HALF_LIFE_S)
_NONE = (0.0,) * (WIDTH + 1)


class Maxima:
    """The maxima of one device."""

    __slots__ = ("_most", "_most_step", "_steps")

    def __init__(self) -> None:
        self._steps: deque[list[float]] = deque()
        """[step, maxima...] of those that are not an hour old, rising."""
        self._most: list[float] | None = None
        self._most_step = 0

    def usual(self, now: int) -> tuple[float, ...]:
        """Return (1, the maxima that are at least an hour old), zeros in the first hour."""
        step = now // _STEP_NS
        steps = self._steps
        while steps and steps[0][0] < step - _DELAY:
            old, *values = steps.popleft()
            if self._most is None:
                self._most = values
            else:
                decay = _DECAY ** (old - self._most_step)
                self._most = [max(a * decay, b) for a, b in zip(self._most, values, strict=True)]
            self._most_step = int(old)
        if self._most is None:
            return _NONE
        decay = _DECAY ** (step - self._most_step)
        a, b, c, d, e = self._most
        return (1.0, a * decay, b * decay, c * decay, d * decay, e * decay)

    def note(self, now: int, values: Sequence[float]) -> None:
        """Hold the maxima of this step of ten minutes."""
        step = now // _STEP_NS
        if not self._steps or self._steps[-1][0] != step:
            self._steps.append([step, *values])
            return
        most = self._steps[-1]
        for k, value in enumerate(values, 1):
            if value > most[k]:  # noqa: PLR1730 - a third of max()'s time, for every row
                most[k] = value

    def as_json(self) -> dict[str, Any]:
        """Return all of it, the running step too."""
        return {"most": self._most, "at": self._most_step, "steps": [list(s) for s in self._steps]}

    @classmethod
    def from_json(cls, found: Any, now: int) -> Maxima:
        """Return what as_json gave; nothing in it is later than `now` (ns).

        Raises KeyError, ValueError or TypeError where it is something else.
        """
        out, last = cls(), now // _STEP_NS
        if found["most"] is not None:
            out._most = _values(found["most"])
            out._most_step = min(max(int(found["at"]), 0), last)
        before = out._most_step if out._most is not None else -1
        for step, *values in found["steps"][-_DELAY - 2 :]:
            if before < int(step) <= last:
                out._steps.append([int(step), *_values(values)])
                before = int(step)
        return out


def _values(found: Any) -> list[float]:
    out = [float(value) for value in found]
    if len(out) != WIDTH or not all(math.isfinite(v) and v >= 0.0 for v in out):
        raise ValueError("no maxima of a device")
    return [min(value, 60.0 * MAX_AMOUNT) for value in out]

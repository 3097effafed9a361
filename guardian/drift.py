"""Notices that a device's calm traffic is no longer as it was: told once, and never an incident.

One calm row of each minute counts, any of them alike often, in four bins for each feature: cut
where the bundle's benign traffic has its 5, 50 and 95 %. The first whole week after the learning
time is what is usual. A later week is held to it by PSI, the sum of (b - a) ln(b / a) over the
bins' shares; beyond MUCH for SEVERAL features the device has changed, and the new week is what is
usual.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from guardian.const import NS
from guardian.featurelist import GROUPS, TEXTS
from guardian.tables import F32, F64, I32, I64, Bool

BINS = 4
MUCH = 0.25
"""PSI from which on drift is commonly called much."""
SEVERAL = 8
"""Features beyond it. One more kind of connection moves up to four at once (protocol, port,
service, how it ended), so one such alone is not told. With 5, one of twelve simulated devices was
told of a change that was none, with 8 none; of twelve new apps 11 and 10 were told
(python -m trainer.trial.weeks --teach)."""
FLOOR = 0.01
"""What a smaller share counts as: something new must be more than a tenth of the minutes."""
WEEK_NS = 7 * 86_400 * NS
DAYS, ROWS = 6, 300
"""Days and minutes with rows that a week needs, else it goes on: weekends differ, and with fewer
rows chance alone moves shares."""
LEFT_OUT = ("hour", "relative")
"""Groups that change by themselves: the clock, and what is held to a maximum not yet found."""
_MINUTE_NS, _DAY_NS = 60 * NS, 86_400 * NS


@dataclass(frozen=True)
class Cuts:
    """Where the bins of each feature begin."""

    edges: F32
    """float32[3, F], rising."""
    names: tuple[str, ...]
    judged: Bool
    """bool[F]"""

    @classmethod
    def of(cls, usual: F32, names: tuple[str, ...]) -> Cuts:
        """Return the cuts at a bundle's 5, 50 and 95 %; equal ones are set apart, so that what is
        below, at and above a value that is nearly always the same falls into bins of its own."""
        edges = usual.astype(np.float32).copy()
        for k in (1, 2):
            edges[k] = np.maximum(edges[k], np.nextafter(edges[k - 1], np.float32(np.inf)))
        return cls(edges, names, np.array([GROUPS.get(n, "") not in LEFT_OUT for n in names]))

    def bins(self, x: F32) -> I64:
        """Return int64[F], the bin of each feature."""
        out: I64 = (x >= self.edges).sum(axis=0)
        return out


def psi(a: I32, b: I32) -> F64:
    """Return float64[F] of two int32[F, BINS] counts."""
    one, two = (np.maximum(c / max(1, int(c[0].sum())), FLOOR) for c in (a, b))
    out: F64 = ((two - one) * np.log(two / one)).sum(axis=1)
    return out


class Weeks:
    """Two weeks of one device: what is usual, and the running one; 2 x F x BINS int32."""

    def __init__(self, cuts: Cuts, settle_s: float) -> None:
        self.changed: tuple[int, list[dict[str, Any]]] | None = None
        """Moment (ns) and features of a change that nobody was told of yet."""
        self._cuts = cuts
        self._settle_ns = int(settle_s * NS)
        self._begin = 0
        self._usual: I32 | None = None
        self._week = self._blank()
        self._rows = self._days = 0
        self._day = self._minute = -1
        self._seen, self._lot = 0, 1
        self._x: F32 | None = None

    def add(self, told: int, x: F32) -> None:
        """Take a calm row."""
        if told < self._begin:
            return
        if not self._begin:
            self._begin = told + self._settle_ns
            return
        minute = told // _MINUTE_NS
        if minute != self._minute:
            self._turn(told)
            self._minute, self._seen = minute, 0
        self._seen += 1
        self._lot = (self._lot * 1_103_515_245 + 12_345) & 0x7FFFFFFF
        if (self._lot >> 8) % self._seen == 0:
            self._x = x.copy()

    def _turn(self, told: int) -> None:
        """Close a minute, and the week where it is over."""
        if self._x is not None:
            self._week[np.arange(len(self._week)), self._cuts.bins(self._x)] += 1
            self._x, self._rows = None, self._rows + 1
            day = self._minute * _MINUTE_NS // _DAY_NS
            self._days, self._day = self._days + (day != self._day), day
        if told - self._begin >= WEEK_NS and self._rows >= ROWS and self._days >= DAYS:
            self._close(told)

    def _close(self, told: int) -> None:
        if self._usual is None:
            self._usual = self._week
        else:
            found = self._compare(self._usual)
            if len(found) >= SEVERAL:
                self.changed, self._usual = (told, found), self._week
        self._week, self._begin, self._rows, self._days = self._blank(), told, 0, 0

    def _compare(self, usual: I32) -> list[dict[str, Any]]:
        """Return the features that drifted much, the largest first."""
        value = np.where(self._cuts.judged, psi(usual, self._week), 0.0)
        weight = np.arange(BINS) / max(1, self._rows)
        before = usual @ (np.arange(BINS) / max(1, int(usual[0].sum())))
        more = self._week @ weight > before
        order = np.argsort(-value, kind="stable")
        return [
            {
                "name": self._cuts.names[k],
                "text": TEXTS.get(self._cuts.names[k], self._cuts.names[k]),
                "more": bool(more[k]),
                "psi": round(float(value[k]), 3),
            }
            for k in order[value[order] > MUCH].tolist()
        ]

    def _blank(self) -> I32:
        return np.zeros((len(self._cuts.names), BINS), dtype=np.int32)

    def as_json(self) -> dict[str, Any]:
        """Return both weeks; the running minute is left out."""
        usual = None if self._usual is None else self._usual.tolist()
        return {
            "begin": self._begin, "usual": usual, "week": self._week.tolist(),
            "rows": self._rows, "days": self._days, "day": self._day,
        }  # fmt: skip

    def take(self, found: Any, now: int) -> None:
        """Go on with what as_json gave, by now (ns). Raises KeyError, ValueError or TypeError."""
        week, usual = (None if found[k] is None else _counts(found[k]) for k in ("week", "usual"))
        shape = self._week.shape
        if week is None or week.shape != shape or (usual is not None and usual.shape != shape):
            raise ValueError("weeks of other features")
        self._week, self._usual = week, usual
        self._begin = min(int(found["begin"]), now + self._settle_ns)
        self._rows, self._days, self._day = (int(found[k]) for k in ("rows", "days", "day"))


def _counts(found: Any) -> I32:
    out = np.array(found, dtype=np.int32)
    if out.size and out.min() < 0:
        raise ValueError("counts below zero")
    return out

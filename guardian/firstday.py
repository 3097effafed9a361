"""A device's first day, counted as the bundle's prior counts it, and its later days.

The first day is held to what devices of its class do at most (prior.py). A later day is held to the
prior's whole day, moved towards the device's own past days: the more of them there were, the
further (SHRINK), but never above MARGIN times the prior's. A day in which it exceeded something, or
in which an incident of it opened, teaches nothing.

Counted is TCP alone, since who calls by UDP was seldom asked for by name (streams between peers).
What a day counted is forgotten at a restart: the device is then one that was there before. What
its past days taught, and what was told of it, is not.
"""

from __future__ import annotations

import math
from typing import Any

from guardian.clues import DNS, OUTSIDE
from guardian.const import MAX_DAY_NAMED, MAX_DAY_STRANGERS, NS
from guardian.patient import NAMED_S
from guardian.phrases import size
from guardian.prior import (
    CAME,
    SENT,
    STATISTICS,
    STRANGERS,
    THERE,
    WINDOWS_S,
    Levels,
    Prior,
)
from guardian.seen import Seen
from guardian.tables import CONN_STATES

_NAMED_NS = NAMED_S * NS
"""A call so soon after a question to DNS has a name; so do later ones to the same machine."""
LEAST_NAMED = 3
"""Calls with a name that a device must have made, so that it is known to ask: of another nothing is
said."""
SHRINK = 7.0
"""Days at which the prior and a device's own days count the same."""
MARGIN, QUIET = 10.0, 4.0
"""Times its own most, and times the floor at least, which a device's days stand for: a quiet week
says little of the next."""
KEEP = 0.9
"""What remains of a day's most the next day."""
FLOORS = (1_048_576.0, 4.0)
"""By statistic: less is never worth a word."""

_WINDOWS = tuple(seconds * NS for seconds in WINDOWS_S)
_DAY = _WINDOWS[-1]


_BEGUN, _AMOUNT = range(2)
"""Of a stranger: when its first call began, and bytes sent to it."""

_UNDERWAY = CONN_STATES.index("OTH")
"""Of a connection that was there before Guardian: when it was asked for, nobody saw."""

_UNKNOWN: Levels = (-1.0,) * len(STATISTICS)


class Day:
    """What one device did since its day began, and what its days were like; bounded."""

    __slots__ = (
        "_asked",
        "_ends",
        "_later",
        "_named",
        "_strangers",
        "_window",
        "bounds",
        "came",
        "counts",
        "days",
        "first",
        "named",
        "own",
        "tainted",
        "told",
    )

    def __init__(self) -> None:
        self.first = -1
        self.came = False
        """It was seen to ask for its first address."""
        self.named = 0
        """Calls with a name."""
        self.counts = [0] * len(STATISTICS)
        self.bounds = _UNKNOWN
        """What its counts are held to; each count is beyond those that must be looked up."""
        self.days = 0
        self.own = [0.0] * len(STATISTICS)
        """Number of past days that taught, and their most by statistic."""
        self.told = 0
        """Bits of the statistics of which somebody was told; never again of the same."""
        self.tainted = False
        """The running day teaches nothing."""
        self._asked = -(1 << 62)
        self._ends = self._window = 0
        self._later = False
        """Its first day is over."""
        self._named: dict[int, None] = {}
        self._strangers: dict[int, list[int]] = {}

    # --- counting -------------------------------------------------------------

    def take(self, one: Seen, fresh: bool) -> bool:
        """Take a slice that the device opened, in the order of time; return whether a count that
        rose is beyond its bound.

        fresh: the device is settled and never had to do with the peer before.
        """
        told, clue = one.told, one.clue
        if told > self._ends:
            self._turn(told)
        if clue == OUTSIDE:
            high, low = one.peer
            stranger = self._strangers.get(high ^ low)
            if stranger is not None:
                if not one.piece and 0 <= one.begun - self._asked < _NAMED_NS:
                    self._known(high ^ low)
                    return False
                return self._sends(stranger, one.sent)
            return not one.piece and self._call(high ^ low, one, fresh)
        if clue == DNS:
            self._asks(one.begun)
        return False

    def _sends(self, stranger: list[int], sent: int) -> bool:
        stranger[_AMOUNT] += sent
        if stranger[_AMOUNT] <= self.counts[SENT]:
            return False
        self.counts[SENT] = stranger[_AMOUNT]
        return self.counts[SENT] > self.bounds[SENT]

    def _call(self, key: int, one: Seen, fresh: bool) -> bool:
        """Take the first call to a machine outside that is no stranger yet."""
        if 0 <= one.begun - self._asked < _NAMED_NS:
            self._note(key)
            return False
        if key in self._named or not (fresh or self.came) or one.conn_state == _UNDERWAY:
            return False
        strangers = self._strangers
        if len(strangers) >= MAX_DAY_STRANGERS:
            oldest = next(iter(strangers))
            state = strangers.pop(oldest)
            if state[_AMOUNT] and state[_AMOUNT] == self.counts[SENT]:
                strangers[oldest] = state  # who got most is not pushed out by others
                del strangers[next(iter(strangers))]
        stranger = strangers[key] = [one.begun, 0]
        self.counts[STRANGERS] += 1
        return self._sends(stranger, one.sent) or self.counts[STRANGERS] > self.bounds[STRANGERS]

    def _note(self, key: int) -> None:
        """Take note of a call with a name."""
        self.named += 1
        if self.named == LEAST_NAMED:
            self.bounds = _UNKNOWN
        self._named.pop(key, None)
        self._named[key] = None
        if len(self._named) > MAX_DAY_NAMED:
            del self._named[next(iter(self._named))]

    def _known(self, key: int) -> None:
        """A stranger has a name after all."""
        self._note(key)
        gone = self._strangers.pop(key)
        self.counts[STRANGERS] -= 1
        if gone[_AMOUNT] == self.counts[SENT]:
            self.counts[SENT] = max((s[_AMOUNT] for s in self._strangers.values()), default=0)

    def _asks(self, begun: int) -> None:
        """A question may be told after the call that it was for."""
        self._asked = max(self._asked, begun)
        strangers = self._strangers
        while strangers:
            key = next(reversed(strangers))
            if not 0 <= strangers[key][_BEGUN] - begun < _NAMED_NS:
                break
            self._known(key)

    # --- time -----------------------------------------------------------------

    def _turn(self, told: int) -> None:
        """Begin the next window, or the next day."""
        self.bounds = _UNKNOWN
        if self.first < 0:
            self.first = told
        age = told - self.first
        if age > _DAY:
            if not self.tainted:
                self.days += 1
                pairs = zip(self.own, self.counts, strict=True)
                self.own = [max(KEEP * most, float(count)) for most, count in pairs]
            self.first += age // _DAY * _DAY
            self._later, self.came, self.tainted = True, False, False
            self.counts = [0] * len(STATISTICS)
            for stranger in self._strangers.values():
                stranger[_AMOUNT] = 0
        if self._later:
            self._window = len(_WINDOWS) - 1
        else:
            self._window = next(k for k, end in enumerate(_WINDOWS) if age <= end)
        self._ends = self.first + _WINDOWS[self._window]

    def comes(self) -> None:
        """It asks for its first address."""
        self.came, self.bounds = True, _UNKNOWN

    def renew(self) -> None:
        """Let what it is held to be looked up anew: another prior holds."""
        self.bounds = _UNKNOWN

    # --- what is too much -------------------------------------------------------

    def beyond(self, prior: Prior, kind: str, own_days: bool = True) -> int:
        """Return the first statistic that exceeds what a device of this class does at most, and of
        which nobody was told; -1 where none does. own_days: its past days count."""
        asks = self.named >= LEAST_NAMED
        self.bounds = tuple(
            level if asks and not self.told >> k & 1 else math.inf
            for k, level in enumerate(self.limits(prior, kind, own_days))
        )
        pairs = zip(self.counts, self.bounds, strict=True)
        return next((k for k, (count, bound) in enumerate(pairs) if count > bound), -1)

    def limits(self, prior: Prior, kind: str, own_days: bool = True) -> Levels:
        """Return what its counts are held to now."""
        levels = prior.at(kind, CAME if self.came else THERE, self._window)
        if not (self.days and own_days):
            return levels
        part = self.days / (self.days + SHRINK)
        return tuple(
            _mixed(level, max(MARGIN * own, QUIET * floor), part, own)
            for level, own, floor in zip(levels, self.own, FLOORS, strict=True)
        )

    def says(self, k: int, prior: Prior, kind: str) -> str:
        """Return what it did and what is normal, in words, and take note that it was told."""
        self.told |= 1 << k
        self.tainted = True
        count, most = self.counts[k], math.floor(self.bounds[k])
        done, level = (size(count), size(most)) if k == SENT else (f"{count:,}", f"{most:,}")
        span = ("ten minutes", "hour", "six hours", "day")[self._window]
        if self._later:
            whom = "it" if self.days else f"a {kind}"
            return f"{_DONE[k].format(done)} within a day; below {level} is normal for {whom}."
        phase = "new" if self.came else "newly watched"
        return (
            f"{_DONE[k].format(done)}; of {prior.of:,} {phase} {kind}s one comes to more than "
            f"{level} in its first {span}."
        )

    # --- over a restart -----------------------------------------------------------

    def as_json(self) -> dict[str, Any]:
        """Return what its past days taught and what was told."""
        return {"days": self.days, "own": self.own, "told": self.told}

    @classmethod
    def from_json(cls, found: Any) -> Day:
        """Return what as_json gave. Raises KeyError, ValueError or TypeError."""
        out = cls()
        own = [float(most) for most in found["own"]]
        days, told = int(found["days"]), int(found["told"])
        if len(own) != len(STATISTICS) or not all(0.0 <= most < math.inf for most in own):
            raise ValueError("no days of a device")
        if not (0 <= days < 1 << 32 and 0 <= told < 1 << len(STATISTICS)):
            raise ValueError("no days of a device")
        out.days, out.own, out.told, out._later = days, own, told, True
        return out


_DONE = (
    "it sent {} to one machine outside that it never asked for by name",
    "it called {} machines outside that it never asked for by name",
)


def _mixed(level: float, own: float, part: float, most: float) -> float:
    """Return a level between the prior's and a device's own: twice its own most at least, MARGIN
    times the prior's at most."""
    if math.isinf(level):
        return level
    mixed = math.exp((1.0 - part) * math.log(level) + part * math.log(own))
    return min(max(mixed, 2.0 * most), MARGIN * level)

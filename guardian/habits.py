"""What a device usually does, so that an explanation can say what is new about it.

Learned from calm rows alone; small, capped, and only ever used for words, not for decisions.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from statistics import median

import numpy as np

from guardian.const import MAX_HABIT_HOURS, MAX_HABIT_ROWS, MAX_KNOWN_PEERS, NS
from guardian.routers import Address
from guardian.tables import F32

SAMPLE_NS = 600 * NS
"""One feature row in ten minutes is kept, so that a burst does not become the habit."""
ENOUGH_ROWS = 20
ENOUGH_HOURS = 3
_HOUR_NS = 3_600 * NS


class Habits:
    """A device's known peers, its counts by hour and a sample of its feature rows."""

    def __init__(self) -> None:
        self._known: OrderedDict[Address, None] = OrderedDict()
        self._hour = -1
        self._peers: set[Address] = set()
        self._hours: deque[int] = deque(maxlen=MAX_HABIT_HOURS)
        self._rows: deque[F32] = deque(maxlen=MAX_HABIT_ROWS)
        self._sampled = -SAMPLE_NS

    def knows(self, peer: Address) -> bool:
        """Tell whether the device had to do with a peer before, in calm."""
        return peer in self._known

    def add(self, told: int, peer: Address, x: F32) -> None:
        """Take a calm row."""
        if peer in self._known:
            self._known.move_to_end(peer)
        else:
            self._known[peer] = None
            if len(self._known) > MAX_KNOWN_PEERS:
                self._known.popitem(last=False)
        hour = told // _HOUR_NS
        if hour != self._hour:
            self._turn(hour)
        if len(self._peers) < MAX_KNOWN_PEERS:
            self._peers.add(peer)
        if told - self._sampled >= SAMPLE_NS:
            self._sampled = told
            self._rows.append(x.copy())

    def _turn(self, hour: int) -> None:
        """Close an hour; the silent ones since count as none."""
        if self._hour >= 0:
            self._hours.append(len(self._peers))
            silent = min(max(hour - self._hour - 1, 0), MAX_HABIT_HOURS)
            self._hours.extend([0] * silent)
        self._hour = hour
        self._peers = set()

    def peers_an_hour(self) -> int | None:
        """Return how many peers it usually has in an hour; None while that is not known."""
        if len(self._hours) < ENOUGH_HOURS:
            return None
        return round(median(self._hours))

    def most_peers_an_hour(self) -> int | None:
        """Return how many peers it has in its busy hours (95 %); None while that is not known."""
        if len(self._hours) < ENOUGH_HOURS:
            return None
        return math.ceil(float(np.quantile(np.array(self._hours), 0.95)))

    def usual(self) -> F32 | None:
        """Return float32[3, F], its own 5, 50 and 95 % quantiles; None while too few are known."""
        if len(self._rows) < ENOUGH_ROWS:
            return None
        out: F32 = np.quantile(np.stack(self._rows), [0.05, 0.5, 0.95], axis=0).astype(np.float32)
        return out

"""What a device usually does, so that an explanation can say what is new about it.

Learned from calm rows alone; small, capped, and only ever used for words, not for decisions. It
survives a restart (past.py).
"""

from __future__ import annotations

import base64
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

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

    def as_json(self, keep: Callable[[Iterable[Address]], list[Address]] = list) -> dict[str, Any]:
        """Return all of it; `keep` says which peers may leave the memory."""
        rows = np.stack(self._rows) if self._rows else np.zeros((0, 0), dtype=np.float32)
        return {
            "known": keep(self._known),
            "hour": self._hour,
            "peers": sorted(keep(self._peers)),
            "hours": list(self._hours),
            "rows": base64.b64encode(rows.tobytes()).decode("ascii"),
            "width": rows.shape[1],
            "sampled": self._sampled,
        }

    @classmethod
    def from_json(cls, found: Any, width: int) -> Habits:
        """Return what as_json gave; rows of another width than the models' are left out.

        Raises KeyError, ValueError or TypeError where it is something else.
        """
        out = cls()
        known = found["known"][-MAX_KNOWN_PEERS:]
        out._known = OrderedDict((_address(peer), None) for peer in known)
        out._hour, out._sampled = int(found["hour"]), int(found["sampled"])
        out._peers = {_address(peer) for peer in found["peers"][:MAX_KNOWN_PEERS]}
        out._hours.extend(int(hour) for hour in found["hours"])
        if found["width"] == width:
            rows = np.frombuffer(base64.b64decode(found["rows"]), dtype=np.float32)
            out._rows.extend(row.copy() for row in rows.reshape(-1, width))
        return out

    def by(self, now: int) -> None:
        """Let nothing be later than now, ns: the clock may have been set back."""
        self._hour, self._sampled = min(self._hour, now // _HOUR_NS), min(self._sampled, now)

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


def _address(found: Any) -> Address:
    high, low = found
    if not (0 <= high < 1 << 64 and 0 <= low < 1 << 64):
        raise ValueError(f"no address: {found}")
    return int(high), int(low)

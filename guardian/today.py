"""What each device did today, and how odd it looked of late: figures for the hub.

Counted from slices as they are told, so that a session that lasts for days counts each day. Local
time makes the day. Memory: one small row per device of the home, MAX_DEVICES at most.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from guardian.const import MAX_DEVICES, NS
from guardian.devices import DeviceTable
from guardian.pipeline import Step

HOUR_S, DAY_S = 3_600, 86_400


@dataclass
class Day:
    """One device's day so far."""

    day: int = -1
    connections: int = 0
    bytes: int = 0
    hour: int = -1
    highest: float = 0.0
    """Highest anomaly of the hour, and of the one before."""
    before: float = 0.0

    def anomaly(self, now: int) -> float:
        """Return the highest anomaly of this hour and the one before; 1.0 is the line."""
        age = now // (HOUR_S * NS) - self.hour
        if age == 0:
            return max(self.highest, self.before)
        return self.highest if age == 1 else 0.0


class Today:
    """The days of all devices, by key."""

    def __init__(self, utc_offset_s: int = 0) -> None:
        self._offset = utc_offset_s * NS
        self._days: dict[str, Day] = {}

    def number(self, now: int) -> int:
        """Return the number of the local day of a moment (ns)."""
        return (now + self._offset) // (DAY_S * NS)

    def begin(self, now: int) -> int:
        """Return the first moment of the local day, ns."""
        return self.number(now) * DAY_S * NS - self._offset

    def restore(self, counts: Iterable[tuple[str, int, int]], now: int) -> None:
        """Take (key, connections, bytes) of the day so far, after a restart."""
        today = self.number(now)
        for key, connections, size in counts:
            self._days[key] = Day(today, connections, size)

    def add(self, step: Step, devices: DeviceTable) -> None:
        """Count a step's slices."""
        rows, slices = step.rows, step.slices
        if not len(rows):
            return
        today, hour = self.number(step.now), step.now // (HOUR_S * NS)
        present, index = np.unique(rows.device, return_inverse=True)
        size = (slices.orig_ip_bytes + slices.resp_ip_bytes)[rows.row]
        opened = slices.piece[rows.row] == 0
        connections = np.bincount(index, weights=opened)
        sizes = np.bincount(index, weights=size)
        anomaly = np.zeros(len(present), dtype=np.float32)
        np.maximum.at(anomaly, index, step.scores.anomaly)
        for k, number in enumerate(present.tolist()):
            key = devices.key(number)
            if not key:
                continue
            one = self._days.get(key)
            if one is None:
                one = self._days[key] = Day()
                if len(self._days) > MAX_DEVICES:
                    del self._days[next(iter(self._days))]
            if one.day != today:
                one.day, one.connections, one.bytes = today, 0, 0
            if one.hour != hour:
                one.before = one.highest if hour - one.hour == 1 else 0.0
                one.hour, one.highest = hour, 0.0
            one.connections += int(connections[k])
            one.bytes += int(sizes[k])
            one.highest = max(one.highest, float(anomaly[k]))

    def of(self, key: str, now: int) -> tuple[int, int, float]:
        """Return (connections, bytes) of the day and the highest anomaly of late."""
        one = self._days.get(key)
        if one is None:
            return 0, 0, 0.0
        same = one.day == self.number(now)
        return (one.connections if same else 0, one.bytes if same else 0, one.anomaly(now))

    def forget(self, key: str) -> None:
        """Drop a device."""
        self._days.pop(key, None)


class Rates:
    """Packets and connections a second over the last minute, by the wall clock."""

    SPAN_S = 60.0

    def __init__(self) -> None:
        self._seen: list[tuple[float, int, int]] = []

    def add(self, moment: float, packets: int, connections: int) -> tuple[float, float]:
        """Take the counts so far at a moment (monotonic seconds); return both rates."""
        while len(self._seen) > 1 and moment - self._seen[1][0] >= self.SPAN_S:
            self._seen.pop(0)
        self._seen.append((moment, packets, connections))
        then, first, opened = self._seen[0]
        span = moment - then
        if span <= 0:
            return 0.0, 0.0
        return (packets - first) / span, (connections - opened) / span

"""What a flooding device is not judged for, so that all others are judged in time.

A model reads a slice in some 0.1 ms, so a device that opens ten thousand connections a second would
keep the models busy with itself alone. The rule, by packet time:

* each device and direction has ROWS_AT_ONCE slices judged at once and ROWS_PER_S more a second,
  which no home device reaches unless it floods or scans;
* beyond that a slice is judged only if it is none of a flood's repeats: at most ALIKE in a second
  to its peer, and as many to its port, and RARE_PER_S in all;
* the others are shed: recorded, written to the database, but without a score. They are counted by
  device, and told.

No device's slices count against those of another, and a device's inbound ones (others may send it
what they like) not against its own. How the input is cut into steps changes nothing.
"""

from __future__ import annotations

import numpy as np

from guardian.const import ALIKE, NS, RARE_PER_S, ROWS_AT_ONCE, ROWS_PER_S
from guardian.tables import I32, I64, Array, Bool, Conns

_STEP_NS = NS // ROWS_PER_S
_SLACK_NS = (ROWS_AT_ONCE - 1) * _STEP_NS


class _Budget:
    """What one device may have judged in one direction: a leaky bucket, and what is rare."""

    __slots__ = ("full_at", "peers", "ports", "rare", "second")

    def __init__(self) -> None:
        self.full_at = 0
        """When all that was judged would have been, at ROWS_PER_S; ns."""
        self.second = 0
        self.rare = 0
        self.peers: dict[tuple[int, int], int] = {}
        self.ports: dict[int, int] = {}

    def unusual(self, second: int, peer: tuple[int, int], port: int) -> bool:
        """Tell whether a slice beyond the budget is none of many alike."""
        if second != self.second:
            self.second, self.rare = second, 0
            self.peers.clear()
            self.ports.clear()
        by_peer, by_port = self.peers.get(peer, 0), self.ports.get(port, 0)
        if by_peer >= ALIKE or by_port >= ALIKE or self.rare >= RARE_PER_S:
            return False
        self.peers[peer], self.ports[port] = by_peer + 1, by_port + 1
        self.rare += 1
        return True


class Shedder:
    """Takes the repeats of flooding devices out of what is judged."""

    def __init__(self) -> None:
        self._budgets: dict[int, _Budget] = {}
        self.shed = 0
        """Slices that were not judged, since the start."""
        self.by_device: dict[int, int] = {}
        """The same for each device (by index)."""

    def evict(self, device: int) -> None:
        """Forget a device, when the DeviceTable gives its index to another."""
        self.by_device.pop(device, None)
        for side in (0, 1):
            self._budgets.pop(2 * device + side, None)

    def sides(self, slices: Conns, orig: I32, resp: I32) -> tuple[I32, I32]:
        """Return the devices of each slice's ends, -1 where it is not judged for one."""
        return (
            self._side(orig, 0, slices.told, slices.resp, slices),
            self._side(resp, 1, slices.told, slices.orig, slices),
        )

    def _side(self, devices: I32, side: int, told: I64, peers: Array, slices: Conns) -> I32:
        order = np.argsort(devices, kind="stable")
        present, starts = np.unique(devices[order], return_index=True)
        out = devices
        for device, mine in zip(present.tolist(), np.split(order, starts[1:]), strict=True):
            if device < 0:
                continue
            budget = self._budgets.setdefault(2 * device + side, _Budget())
            if _fits(budget, told, mine):
                continue
            keep = self._judged(budget, mine, told, peers, slices)
            gone = int(np.count_nonzero(~keep))
            if not gone:
                continue
            if out is devices:
                out = devices.copy()
            out[mine[~keep]] = -1
            self.shed += gone
            self.by_device[device] = self.by_device.get(device, 0) + gone
        return out

    @staticmethod
    def _judged(budget: _Budget, mine: I64, told: I64, peers: Array, slices: Conns) -> Bool:
        """Return bool[len(mine)]: which of a device's slices are judged, one after the other."""
        keep = np.ones(len(mine), dtype=np.bool_)
        ports: list[int] = (slices.resp_p[mine].astype(np.int64) << 8 | slices.proto[mine]).tolist()
        columns = zip(told[mine].tolist(), peers[mine].tolist(), ports, strict=True)
        for k, (at, peer, port) in enumerate(columns):
            if budget.full_at - at <= _SLACK_NS:
                budget.full_at = max(budget.full_at, at) + _STEP_NS
            else:
                keep[k] = budget.unusual(at // NS, (peer[0], peer[1]), port)
        return keep


def _fits(budget: _Budget, told: I64, mine: I64) -> bool:
    """Take slices into the budget where all of them surely fit, else leave it as it is."""
    n, first = len(mine), int(told[mine[0]])
    full_at = max(budget.full_at, first) + n * _STEP_NS
    if n > 1:
        waits = told[mine] + np.arange(n, 0, -1) * _STEP_NS
        full_at = max(full_at, int(waits.max()))
    if full_at - _STEP_NS - first > _SLACK_NS:
        return False
    budget.full_at = full_at
    return True

"""What the kernel leaves out of a flood, so that its packets do not push out those of others.

Where the ring is full, the kernel drops whatever comes next, whoever sent it. So where it dropped
packets and one machine's to another (or to the router) are most of what came, the kernel's filter
lets only a part of these in, chosen by chance: an eighth, and less while packets are still
dropped. It is told, and taken back step by step once nothing was dropped for a while.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from guardian.addresses import mac_text
from guardian.bpf import NOTHING, Program
from guardian.frames import rows_at
from guardian.tables import Array, Frames

SHARE = 0.4
"""Of the frames of a batch, from which on a pair of machines is a flood: below it no single one is
to blame."""
STEP, MOST = 3, 9
"""Powers of two: an eighth at first, at the most one in 512."""
MAX_PAIRS = 4
"""Floods at a time; a filter tests for each of them."""
PAUSE_S = 1.0
"""Seconds over which drops are counted, and between two changes."""
CALM_S = 60.0
"""Seconds without a drop after which more is let in again."""
FEWEST = 100
"""Frames, and drops, from which shares are taken."""
DROPPED_PERCENT = 2.0
"""Of what came in that time; a burst now and then is no flood."""

_LOAD, _EQUAL, _AT_LEAST = 0x20, 0x15, 0x35
_RANDOM = 0xFFFFF000 + 56
"""Where the kernel shows a random number."""


@dataclass(frozen=True)
class Pair:
    """Who sends to whom, as the first 12 bytes of an Ethernet frame have it."""

    raw: bytes

    def __str__(self) -> str:
        to, by = (int.from_bytes(self.raw[k : k + 6], "big") for k in (0, 6))
        return f"{mac_text(by)} to {mac_text(to)}"


class Thinning:
    """Decides for one interface what of which flood is let in."""

    def __init__(self) -> None:
        self.shifts: dict[Pair, int] = {}
        """Let in one of 2^shift."""
        self.left_out = 0
        """Packets that the filter left out since the start, by what it let in: about."""
        self._drops = 0
        self._frames = 0
        self._dropped_at = self._looked_at = float("-inf")
        """When packets were dropped last, or more was let in since."""

    def look(self, frames: Frames, drops: int, moment: float) -> list[str]:
        """Take a batch, the drops since the start and the clock (s); return what changed, in words.

        Where something did, program() is to be set anew.
        """
        pairs: Array | None = None
        if self.shifts and len(frames):
            pairs = _pairs(frames)
            for pair, shift in self.shifts.items():
                let_in = int(np.count_nonzero(pairs == np.frombuffer(pair.raw, dtype="V12")))
                self.left_out += let_in * ((1 << shift) - 1)
        self._frames += len(frames)
        if moment - self._looked_at < PAUSE_S:
            return []
        dropped, came = drops - self._drops, self._frames
        self._looked_at, self._drops, self._frames = moment, drops, 0
        if dropped:
            self._dropped_at = moment
            if dropped >= FEWEST and 100.0 * dropped >= DROPPED_PERCENT * (came + dropped):
                return self._thin(_pairs(frames) if pairs is None else pairs)
        elif self.shifts and moment - self._dropped_at >= CALM_S:
            self._dropped_at = moment
            return self._relax()
        return []

    def _thin(self, pairs: Array) -> list[str]:
        if len(pairs) < FEWEST:
            return []
        kinds, counts = np.unique(pairs, return_counts=True)
        most = int(counts.argmax())
        pair = Pair(kinds[most].tobytes())
        shift = self.shifts.get(pair, 0)
        full = shift >= MOST or (not shift and len(self.shifts) >= MAX_PAIRS)
        if counts[most] < SHARE * len(pairs) or full:
            return []
        self.shifts[pair] = shift + STEP
        return [
            f"more packets from {pair} than this machine can read: one of {1 << shift + STEP} of "
            "them is looked at"
        ]

    def _relax(self) -> list[str]:
        self.shifts = {pair: s - STEP for pair, s in self.shifts.items() if s > STEP}
        if self.shifts:
            return []
        return [f"all packets are looked at again; about {self.left_out:,} were left out so far"]

    def program(self, then: Program) -> Program:
        """Return a filter that goes on with `then` for what it lets in. Ethernet alone."""
        out: Program = ()
        for pair, shift in self.shifts.items():
            raw = pair.raw
            test: list[tuple[int, int, int, int]] = []
            for at in (0, 4, 8):
                over = 8 - at // 2 - 1  # what is left of this test
                value = int.from_bytes(raw[at : at + 4], "big")
                test += [(_LOAD, 0, 0, at), (_EQUAL, 0, over, value)]
            # At or above this share of all random numbers it is left out.
            test += [(_LOAD, 0, 0, _RANDOM), (_AT_LEAST, 0, 1, 1 << 32 - shift), *NOTHING]
            out += tuple(test)
        return (*out, *then)


def _pairs(frames: Frames) -> Array:
    rows = rows_at(frames.data, frames.start, 12)
    found: Array = np.ascontiguousarray(rows).view("V12")[:, 0]
    return found

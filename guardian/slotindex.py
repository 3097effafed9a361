"""Which row of the table holds a key: an open hash index, for many keys at once.

A dict of a million keys costs four misses of the cache a look, one after the other, and a hundred
bytes a key. Here a look is two gathers, which overlap. The cells hold row numbers; a key is looked
for from the cell that its hash names, in steps of 1, 2, 3 ..., until an empty cell ends the search.
The hashes are keyed by secret words (keys.py), so nobody can choose which cells are crowded.
"""

from __future__ import annotations

import numpy as np

from guardian.tables import I32, I64, U64

_EMPTY, _GONE = -1, -2
_ROOM = 4
"""Cells a row at least, when the index is made anew."""
_FULL = 2
"""It is made anew where fewer than so many cells are there for each one used or once used."""
_LEAST = 1_024


class SlotIndex:
    """Slots by 64-bit hashes. Two keys of one hash are for the caller to keep apart."""

    def __init__(self) -> None:
        self._cells: I32 = np.full(_LEAST, _EMPTY, dtype=np.int32)
        self._used = 0
        self._live = 0

    def __len__(self) -> int:
        return self._live

    def slots(self) -> I64:
        """Return all slots, in order."""
        found: I64 = np.sort(self._cells[self._cells >= 0]).astype(np.int64)
        return found

    def find(self, hashes: U64, known: U64) -> I64:
        """Return the slot of each hash, -1 for none; known: the hashes by slot."""
        slots, _ = self._look(hashes, known)
        return slots

    def add(self, hashes: U64, slots: I64, known: U64) -> None:
        """Add hashes, all different and none of them there, under their slots; known: the hashes
        by slot, those of the others at least."""
        if (self._used + len(slots)) * _FULL > len(self._cells):
            self._renew(self._live + len(slots), known)
        self._put(hashes, slots)
        self._live += len(slots)

    def remove(self, hashes: U64, known: U64) -> None:
        """Remove hashes, all of them there."""
        _, cells = self._look(hashes, known)
        self._cells[cells] = _GONE
        self._live -= len(cells)

    def clear(self) -> None:
        self._cells[:] = _EMPTY
        self._used = self._live = 0

    def _look(self, hashes: U64, known: U64) -> tuple[I64, I64]:
        """Return slots, and the cells that they were found in."""
        mask = len(self._cells) - 1
        cells = (hashes & np.uint64(mask)).view(np.int64)
        found = self._cells.take(cells)
        hit = known[found] == hashes  # a cell without a row looks at the last
        hit &= found >= 0
        slots = np.where(hit, found, _EMPTY).astype(np.int64, copy=False)
        left = np.flatnonzero(~hit & (found != _EMPTY))
        step = 1
        at = cells[left] + step & mask
        while len(left):
            found = self._cells.take(at)
            hit = known[found] == hashes.take(left)
            hit &= found >= 0
            mine = left[hit]
            slots[mine], cells[mine] = found[hit], at[hit]
            more = np.flatnonzero(~hit & (found != _EMPTY))
            step += 1
            left, at = left[more], at[more] + step & mask
        return slots, cells

    def _put(self, hashes: U64, slots: I64) -> None:
        mask = len(self._cells) - 1
        at = (hashes & np.uint64(mask)).view(np.int64)
        step = 0
        while len(slots):
            found = self._cells.take(at)
            free = np.flatnonzero(found < 0)
            self._cells[at[free]] = slots[free]
            placed = self._cells.take(at) == slots  # of two at one cell the later
            self._used += int(np.count_nonzero(placed & (found == _EMPTY)))
            more = np.flatnonzero(~placed)
            step += 1
            slots, at = slots[more], at[more] + step & mask

    def _renew(self, rows: int, known: U64) -> None:
        """Make the index anew, without what is gone, with room for so many rows."""
        slots = self.slots()
        size = max(_LEAST, 1 << (rows * _ROOM - 1).bit_length())
        self._cells = np.full(size, _EMPTY, dtype=np.int32)
        self._used = 0
        self._put(known[slots], slots)

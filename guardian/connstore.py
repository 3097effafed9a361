"""The rows of the connection table: where they lie, and what they say as Conns.

Integers lie in one int64[rows, WIDTH] (connstate names its columns), so that a row, or its front,
is taken out and put back in one piece. Keys and deadlines lie apart, in heads: each batch looks
at those of all rows that it meets. Rows grow as they are needed and are never given back.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from guardian import keys, outcome, service
from guardian.addresses import Lan, Prefixes
from guardian.connstate import (
    DEADLINE,
    DUE,
    FRONT,
    GEN,
    HISTORY,
    HOLES,
    HOST,
    IPB,
    LAST,
    LOW,
    MAC,
    MISSED,
    NEVER,
    OPENED,
    ORIG,
    P_BYTES,
    P_IPB,
    P_MISSED,
    P_PKTS,
    PIECE,
    PKTS,
    RESP,
    SERVICE,
    SLOT,
    SNIFF,
    TS,
    WIDTH,
    Row,
)  # fmt: skip
from guardian.const import HISTORY_BYTES, HOST_BYTES, NS, PARENTS_BYTES, SERVICE_BYTES
from guardian.parents import Parents
from guardian.quic import Hellos
from guardian.tables import I64, U64, Array, Bool, Conns

_SPARE = 8_192
"""Rows beyond a table's capacity: it overshoots a little, and slices that are due lie in rows."""
_BLOCK = 256
"""Rows that are looked at together for whether one is over or due."""
_UID = Conns.blank(0).uid.dtype


UNROUTED = Prefixes(
    (
        "0.0.0.0/8", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24",
        "203.0.113.0/24", "224.0.0.0/24", "239.0.0.0/8", "240.0.0.0/4", "::/128",
        "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "fec0::/10",
    )
)  # fmt: skip
"""Special addresses that no router passes on: Zeek counts them as local, too."""


class Store:
    """Rows by slot number. A free row has neither deadline nor anything due.

    There is room for `rows` from the start, which takes no memory before it is used.
    """

    def __init__(self, rows: int, seed: int) -> None:
        n = _whole_blocks(rows + _SPARE)
        self._seed = seed
        self.ints = np.zeros((n, WIDTH), dtype=np.int64)
        self.heads = _heads(n)
        """uint64[rows, 8]: hash, rest, low, high, due, deadline. What every batch asks of the rows
        that it meets lies in one line of the cache."""
        self._soonest = np.full(n // _BLOCK, NEVER, dtype=np.int64)
        """Of each block of rows a moment before which none of them is over or due."""
        self.history = np.zeros(n, dtype=f"S{HISTORY_BYTES}")
        self.letters = np.zeros(n, dtype=np.int64)
        """How many letters each history has."""
        self.uid = np.zeros(n, dtype=keys.UID)
        self.service = np.zeros(n, dtype=f"S{SERVICE_BYTES}")
        self.host = np.zeros(n, dtype=f"S{HOST_BYTES}")
        self.holes: dict[int, tuple[list[tuple[int, int]], list[tuple[int, int]]]] = {}
        self.parents = Parents()
        self.hellos = Hellos()
        self._look_anew()
        self._free = np.arange(n - 1, -1, -1)
        self._left = n
        """Of free slots, which are the first so many: the one freed last is taken next."""

    def allocate(self, n: int) -> I64:
        """Return n free slots, their integers zero."""
        while self._left < n:
            self._grow()
        self._left -= n
        slots = self._free[self._left : self._left + n].copy()
        self.ints[slots] = 0
        return slots

    def release(self, slots: I64) -> None:
        self.due[slots] = NEVER
        self.deadline[slots] = NEVER
        self._free[self._left : self._left + len(slots)] = slots
        self._left += len(slots)
        self.parents.release(slots)
        if self.holes:
            for slot in slots.tolist():
                self.holes.pop(slot, None)

    def _grow(self) -> None:
        old = len(self.due)
        new = _whole_blocks(old + old // 4)
        for name in ("ints", "history", "letters", "uid", "service", "host"):
            array = getattr(self, name)
            bigger = np.zeros((new, *array.shape[1:]), dtype=array.dtype)
            bigger[:old] = array
            setattr(self, name, bigger)
        heads = _heads(new)
        heads[:old] = self.heads
        self.heads = heads
        self._look_anew()
        more = np.full((new - old) // _BLOCK, NEVER, dtype=np.int64)
        self._soonest = np.append(self._soonest, more)
        free = np.zeros(new, dtype=np.int64)
        free[: new - old] = np.arange(new - 1, old - 1, -1)
        free[new - old : new - old + self._left] = self._free[: self._left]
        self._free, self._left = free, self._left + new - old

    def _look_anew(self) -> None:
        """Make the views of new arrays."""
        self.hash, self.rest = self.heads[:, 0], self.heads[:, 1]
        self.low, self.high = self.heads[:, 2:4], self.heads[:, 4:6]
        moments = self.heads.view(np.int64)
        self.due, self.deadline = moments[:, 6], moments[:, 7]
        # A row as one value is taken out and put back many times as fast as its columns.
        self._whole_heads = self.heads.view("V64").reshape(-1)
        self._fronts = np.ndarray(
            len(self.ints), f"V{8 * FRONT}", buffer=self.ints, strides=(8 * WIDTH,)
        )

    def fronts(self, slots: I64) -> I64:
        """Return int64[slots, FRONT]: the fronts of rows (see connstate)."""
        return self._fronts[slots].view(np.int64).reshape(-1, FRONT)

    def put_fronts(self, slots: I64, fronts: I64) -> None:
        self._fronts[slots] = fronts.view(self._fronts.dtype).reshape(-1)

    def wake(self, slots: I64, when: I64 | None = None) -> None:
        """Note that rows may be over or due sooner than was known; when: then, if not as they
        say."""
        if when is None:
            when = np.minimum(self.due[slots], self.deadline[slots])
        np.minimum.at(self._soonest, slots // _BLOCK, when)

    def over(self, now: int) -> I64:
        """Return the rows whose deadline has come, in order."""
        return self._until(self.deadline, now)

    def late(self, now: int) -> I64:
        """Return the rows whose slices are due, in order."""
        return self._until(self.due, now)

    def _until(self, moments: I64, now: int) -> I64:
        blocks = np.flatnonzero(self._soonest <= now)
        if 2 * len(blocks) > len(self._soonest):
            return np.flatnonzero(moments <= now)
        found = np.flatnonzero(moments.reshape(-1, _BLOCK)[blocks] <= now)
        rows: I64 = blocks[found // _BLOCK] * _BLOCK + found % _BLOCK
        return rows

    def swept(self, now: int) -> None:
        """Look anew when the next row is over or due, where one could have been by now."""
        blocks = np.flatnonzero(self._soonest <= now)
        soonest = np.minimum(*(a.reshape(-1, _BLOCK)[blocks] for a in (self.due, self.deadline)))
        self._soonest[blocks] = soonest.min(axis=1)

    def load(self, slots: I64) -> list[Row]:
        """Return rows as lists, to be handled alone and put back by save()."""
        rows: list[Row] = self.ints[slots].tolist()
        numbers = slots.tolist()
        holes = [self.holes.get(slot) for slot in numbers] if self.holes else [None] * len(rows)
        for row, *more in zip(
            rows,
            self.due[slots].tolist(),
            self.deadline[slots].tolist(),
            self.history[slots].tolist(),
            self.service[slots].tolist(),
            self.host[slots].tolist(),
            holes,
            numbers,
            strict=True,
        ):
            row.extend(more)
        return rows

    def save(self, rows: list[Row]) -> None:
        slots = np.array([row[SLOT] for row in rows], dtype=np.int64)
        self.ints[slots] = np.array([row[:WIDTH] for row in rows], dtype=np.int64)
        self.due[slots] = [row[DUE] for row in rows]
        self.deadline[slots] = [row[DEADLINE] for row in rows]
        self.history[slots] = [row[HISTORY] for row in rows]
        self.wake(slots)
        self.letters[slots] = [len(row[HISTORY]) for row in rows]
        self.service[slots] = [row[SERVICE] for row in rows]
        self.host[slots] = [row[HOST] for row in rows]
        for row in rows:
            if row[HOLES] is not None:
                if row[HOLES][0] or row[HOLES][1]:
                    self.holes[row[SLOT]] = row[HOLES]
                else:
                    self.holes.pop(row[SLOT], None)

    def write(self, slots: I64, letter: bytes | Array) -> None:
        """Append a letter to the history of rows (one for all or one each); no row twice."""
        at = self.letters[slots]
        room = at < HISTORY_BYTES
        if not room.all():
            slots, at = slots[room], at[room]
            letter = letter if isinstance(letter, bytes) else letter[room]
        self.history.view("S1").reshape(-1, HISTORY_BYTES)[slots, at] = letter
        self.letters[slots] = at + 1

    def snapshot(self, slots: I64) -> I64:
        """Copy rows as they are into new slots, whose slices are to be told; open their next."""
        copies = self.allocate(len(slots))
        for name in ("ints", "due", "history", "service", "host"):
            array = getattr(self, name)
            array[copies] = array[slots]
        self.copy_keys(slots, copies)
        self.spoken(slots)
        return copies

    def copy_keys(self, source: I64, target: I64) -> None:
        for array in (self.hash, self.low, self.high, self.rest, self.uid):
            array[target] = array[source]

    def put_keys(self, slots: I64, keyed: keys.Keys, index: I64, deadline: I64) -> None:
        """Give rows the keys of the packets at index, and deadlines; none is due."""
        heads = np.empty((len(slots), 8), dtype=np.uint64)
        heads[:, 0], heads[:, 1] = keyed.hash[index], keyed.rest[index]
        heads[:, 2:4], heads[:, 4:6] = (
            ends.take(index, axis=0) for ends in (keyed.low, keyed.high)
        )
        heads[:, 6], heads[:, 7] = NEVER, deadline
        self._whole_heads[slots] = heads.view("V64").reshape(-1)

    def same_keys(self, slots: I64, keyed: keys.Keys, index: I64) -> bool:
        """Tell whether the rows have the keys of the packets at index."""
        heads = self.heads.take(slots, axis=0)
        low, high = keyed.low.take(index, axis=0), keyed.high.take(index, axis=0)
        differ = heads[:, 1] ^ keyed.rest[index]
        for k in range(2):
            differ |= heads[:, 2 + k] ^ low[:, k]
            differ |= heads[:, 4 + k] ^ high[:, k]
        return not differ.any()

    def turn(self, slots: I64) -> None:
        """Swap the low and the high end of rows."""
        low, high, rest = self._keys(slots)
        self.low[slots], self.high[slots] = high, low
        self.rest[slots] = (
            (rest >> np.uint64(16) & np.uint64(0xFFFF)) << np.uint64(32)
            | (rest >> np.uint64(32)) << np.uint64(16)
            | rest & np.uint64(0xFFFF)
        )
        self.ints[slots, LOW] = 1 - self.ints[slots, LOW]
        for slot in slots.tolist():
            if slot in self.holes:
                self.holes[slot] = self.holes[slot][::-1]

    def _keys(self, slots: I64) -> tuple[U64, U64, U64]:
        """Return low and high end and rest of rows."""
        heads = self.heads.take(slots, axis=0)
        return heads[:, 2:4], heads[:, 4:6], heads[:, 1]

    def payload(self, slots: I64, side: int) -> I64:
        """Return the payload bytes of a side."""
        ints = self.ints[slots]
        return outcome.payload(ints, self._proto(slots), side)

    def _proto(self, slots: I64) -> Array:
        return (self.rest[slots] >> np.uint64(8)).astype(np.uint8)

    def records(self, slots: I64, told: I64, lan: Lan) -> Conns:
        """Return finished connections as records."""
        ints = self.ints[slots]
        low, high, rest = self._keys(slots)
        low_port, high_port, proto = keys.unpack(rest)
        forward = ints[:, LOW] != 0
        orig, resp = keys.picked(forward, low, high), keys.picked(forward, high, low)
        both = np.concatenate((orig, resp))
        local = lan.local(both) | UNROUTED.contains(both)
        duration = np.maximum(ints[:, LAST] - ints[:, TS], 0) / NS
        sent, received = outcome.payload(ints, proto, ORIG), outcome.payload(ints, proto, RESP)
        history = self.history[slots]
        instant = duration <= 0
        records = Conns(
            uid=self.uid[slots].astype(_UID),
            ts=ints[:, TS],
            orig=orig,
            resp=resp,
            orig_p=np.where(forward, low_port, high_port),
            resp_p=np.where(forward, high_port, low_port),
            proto=proto,
            service=self.service[slots],
            duration=duration,
            orig_bytes=np.where(instant, -1, sent),
            resp_bytes=np.where(instant, -1, received),
            conn_state=outcome.states(ints, proto, sent + received == 0, history),
            local_orig=local[: len(slots)],
            local_resp=local[len(slots) :],
            missed_bytes=ints[:, MISSED],
            history=history,
            orig_pkts=ints[:, ORIG + PKTS],
            orig_ip_bytes=ints[:, ORIG + IPB],
            resp_pkts=ints[:, RESP + PKTS],
            resp_ip_bytes=ints[:, RESP + IPB],
            orig_mac=ints[:, ORIG + MAC].astype(np.uint64),
            resp_mac=ints[:, RESP + MAC].astype(np.uint64),
            host=self.host[slots],
            tunnel_parents=np.zeros(len(slots), dtype=f"S{PARENTS_BYTES}"),
            piece=np.zeros(len(slots), dtype=np.int32),
            final=np.ones(len(slots), dtype=np.bool_),
            age=duration,
            refused=service.refused(ints[:, SNIFF]),
            told=told,
        )
        self.parents.tell(slots, records)
        return records

    def name(self, slots: I64) -> None:
        """Give rows their uids, from their keys and when they began."""
        begin, gen = self.ints[slots, TS], self.ints[slots, GEN]
        self.uid[slots] = keys.uids(*self._keys(slots), begin, gen, self._seed)

    def slices(self, slots: I64, whole: Conns, told: I64, final: Bool) -> Conns:
        """Return what connections did since they last spoke; whole: their records."""
        ints = self.ints[slots]
        _, _, proto = keys.unpack(self.rest[slots])
        piece = ints[:, PIECE]
        duration = np.maximum(ints[:, LAST] - ints[:, OPENED], 0) / NS
        unset = (piece == 0) & (duration <= 0)  # as in the record that it would be
        sent = np.maximum(outcome.payload(ints, proto, ORIG) - ints[:, ORIG + P_BYTES], 0)
        received = np.maximum(outcome.payload(ints, proto, RESP) - ints[:, RESP + P_BYTES], 0)
        return replace(
            whole,
            service=self.service[slots],
            tunnel_parents=np.zeros(len(slots), dtype=f"S{PARENTS_BYTES}"),
            duration=duration,
            orig_bytes=np.where(unset, -1, sent),
            resp_bytes=np.where(unset, -1, received),
            missed_bytes=whole.missed_bytes - ints[:, P_MISSED],
            orig_pkts=whole.orig_pkts - ints[:, ORIG + P_PKTS],
            orig_ip_bytes=whole.orig_ip_bytes - ints[:, ORIG + P_IPB],
            resp_pkts=whole.resp_pkts - ints[:, RESP + P_PKTS],
            resp_ip_bytes=whole.resp_ip_bytes - ints[:, RESP + P_IPB],
            piece=piece.astype(np.int32),
            final=final,
            told=told,
        )

    def spoken(self, slots: I64) -> None:
        """Note that the slices of these rows were told."""
        for side in (ORIG, RESP):
            self.ints[slots, side + P_BYTES] = self.payload(slots, side)
            self.ints[slots, side + P_PKTS] = self.ints[slots, side + PKTS]
            self.ints[slots, side + P_IPB] = self.ints[slots, side + IPB]
        self.ints[slots, P_MISSED] = self.ints[slots, MISSED]
        self.ints[slots, PIECE] += 1
        self.due[slots] = NEVER


def _heads(rows: int) -> U64:
    """Return heads of free rows, each at the begin of a line of the cache."""
    spare = np.zeros(8 * rows + 7, dtype=np.uint64)
    skip = -int(spare.__array_interface__["data"][0]) % 64 // 8
    heads = spare[skip : skip + 8 * rows].reshape(rows, 8)
    heads[:, 6:] = NEVER
    return heads


def _whole_blocks(rows: int) -> int:
    return -(-rows // _BLOCK) * _BLOCK

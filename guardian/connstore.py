"""The rows of the connection table: where they lie, and what they say as Conns.

Integers lie in one int64[rows, WIDTH] (connstate names its columns), so that a row is
taken out and put back in one piece; what is searched by value (deadlines) and what is
written once (keys) has arrays of its own. Rows grow as they are needed and are never given back.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from guardian import keys
from guardian.addresses import Lan, Prefixes
from guardian.connstate import (
    ACK,
    BYTES,
    CLOSED_SIDE,
    DEADLINE,
    DUE,
    ESTABLISHED,
    FIN,
    GEN,
    HISTORY,
    HOLES,
    HOST,
    INACTIVE,
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
    PARTIAL_SIDE,
    PIECE,
    PKTS,
    PREV,
    RESET,
    RESP,
    SEQ,
    SERVICE,
    SLOT,
    STATE,
    SYN_ACK_SENT,
    SYN_SENT,
    TS,
    WIDTH,
    Row,
)  # fmt: skip
from guardian.const import HISTORY_BYTES, HOST_BYTES, NS, PARENTS_BYTES, SERVICE_BYTES
from guardian.parents import Parents
from guardian.quic import Hellos
from guardian.tables import CONN_STATES, I64, Array, Bool, Conns

_SPARE = 8_192
"""Rows beyond a table's capacity: it overshoots a little, and slices that are due lie in rows."""
_BLOCK = 256
"""Rows that are looked at together for whether one is over or due."""
_TCP, _UDP = 6, 17
_UID = Conns.blank(0).uid.dtype
(_OTH, _S0, _S1, _SF, _REJ, _S2, _S3, _RSTO, _RSTR, _RSTOS0, _RSTRH, _SH, _SHR) = range(
    len(CONN_STATES)
)
_SYN_THEN_RST = re.compile(rb"\^?S[^HAFGIQ]*R.*")


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
        self.due = np.full(n, NEVER, dtype=np.int64)
        self.deadline = np.full(n, NEVER, dtype=np.int64)
        self._soonest = np.full(n // _BLOCK, NEVER, dtype=np.int64)
        """Of each block of rows a moment before which none of them is over or due."""
        self.history = np.zeros(n, dtype=f"S{HISTORY_BYTES}")
        self.letters = np.zeros(n, dtype=np.int64)
        """How many letters each history has."""
        self.uid = np.zeros(n, dtype=keys.UID)
        self.service = np.zeros(n, dtype=f"S{SERVICE_BYTES}")
        self.host = np.zeros(n, dtype=f"S{HOST_BYTES}")
        self.hash = np.zeros(n, dtype=np.uint64)
        self.low = np.zeros((n, 2), dtype=np.uint64)
        self.high = np.zeros((n, 2), dtype=np.uint64)
        self.rest = np.zeros(n, dtype=np.uint64)
        self.holes: dict[int, tuple[list[tuple[int, int]], list[tuple[int, int]]]] = {}
        self.parents = Parents()
        self.hellos = Hellos()
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
        for name in (
            "ints", "due", "deadline", "history", "letters", "uid", "service", "host", "hash",
            "low", "high", "rest",
        ):  # fmt: skip
            array = getattr(self, name)
            bigger = np.zeros((new, *array.shape[1:]), dtype=array.dtype)
            bigger[:old] = array
            setattr(self, name, bigger)
        self.due[old:] = NEVER
        self.deadline[old:] = NEVER
        more = np.full((new - old) // _BLOCK, NEVER, dtype=np.int64)
        self._soonest = np.append(self._soonest, more)
        free = np.zeros(new, dtype=np.int64)
        free[: new - old] = np.arange(new - 1, old - 1, -1)
        free[new - old : new - old + self._left] = self._free[: self._left]
        self._free, self._left = free, self._left + new - old

    def wake(self, slots: I64) -> None:
        """Note that rows may be over or due sooner than was known."""
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

    def same_keys(self, slots: I64, keyed: keys.Keys, index: I64) -> bool:
        """Tell whether the rows have the keys of the packets at index."""
        return all(
            (mine.take(slots, axis=0) == theirs.take(index, axis=0)).all()
            for mine, theirs in (
                (self.rest, keyed.rest), (self.low, keyed.low), (self.high, keyed.high)
            )
        )  # fmt: skip

    def turn(self, slots: I64) -> None:
        """Swap the low and the high end of rows."""
        low = self.low[slots]
        self.low[slots] = self.high[slots]
        self.high[slots] = low
        rest = self.rest[slots]
        self.rest[slots] = (
            (rest >> np.uint64(16) & np.uint64(0xFFFF)) << np.uint64(32)
            | (rest >> np.uint64(32)) << np.uint64(16)
            | rest & np.uint64(0xFFFF)
        )
        self.ints[slots, LOW] = 1 - self.ints[slots, LOW]
        for slot in slots.tolist():
            if slot in self.holes:
                self.holes[slot] = self.holes[slot][::-1]

    def payload(self, slots: I64, side: int) -> I64:
        """Return the payload bytes of a side, TCP by sequence numbers (see tcp.size)."""
        ints = self.ints[slots]
        return _payload(ints, self._proto(slots), side)

    def _proto(self, slots: I64) -> Array:
        return (self.rest[slots] >> np.uint64(8)).astype(np.uint8)

    def records(self, slots: I64, told: I64, lan: Lan) -> Conns:
        """Return finished connections as records."""
        ints = self.ints[slots]
        low, high, rest = (a.take(slots, axis=0) for a in (self.low, self.high, self.rest))
        low_port, high_port, proto = keys.unpack(rest)
        forward = ints[:, LOW] != 0
        orig, resp = keys.picked(forward, low, high), keys.picked(forward, high, low)
        both = np.concatenate((orig, resp))
        local = lan.local(both) | UNROUTED.contains(both)
        duration = np.maximum(ints[:, LAST] - ints[:, TS], 0) / NS
        sent, received = _payload(ints, proto, ORIG), _payload(ints, proto, RESP)
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
            conn_state=_states(ints, proto, sent + received == 0, history),
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
            told=told,
        )
        self.parents.tell(slots, records)
        return records

    def name(self, slots: I64) -> None:
        """Give rows their uids, from their keys and when they began."""
        ints = self.ints[slots]
        self.uid[slots] = keys.uids(
            self.low[slots], self.high[slots], self.rest[slots], ints[:, TS], ints[:, GEN],
            self._seed,
        )  # fmt: skip

    def slices(self, slots: I64, whole: Conns, told: I64, final: Bool) -> Conns:
        """Return what connections did since they last spoke; whole: their records."""
        ints = self.ints[slots]
        _, _, proto = keys.unpack(self.rest[slots])
        piece = ints[:, PIECE]
        duration = np.maximum(ints[:, LAST] - ints[:, OPENED], 0) / NS
        unset = (piece == 0) & (duration <= 0)  # as in the record that it would be
        sent = np.maximum(_payload(ints, proto, ORIG) - ints[:, ORIG + P_BYTES], 0)
        received = np.maximum(_payload(ints, proto, RESP) - ints[:, RESP + P_BYTES], 0)
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


def _whole_blocks(rows: int) -> int:
    return -(-rows // _BLOCK) * _BLOCK


def _payload(ints: I64, proto: Array, side: int) -> I64:
    peer = ORIG + RESP - side
    top = np.maximum(ints[:, side + SEQ], ints[:, side + ACK])
    size = np.maximum(top - 1 - ((ints[:, side + FIN] != 0) & (top > 1)), 0)
    aborted = (
        (ints[:, side + PREV] == SYN_SENT)
        & (ints[:, side + STATE] == RESET)
        & (ints[:, peer + STATE] == INACTIVE)
        & (ints[:, side + ACK] != 0)
        & (ints[:, side + ACK] != 1)
    )
    size[aborted] = 0
    return np.where(proto == _TCP, size, ints[:, side + BYTES])


def _states(ints: I64, proto: Array, no_bytes: Bool, history: Array) -> Array:
    """Return Zeek's conn_state from the states of both sides."""
    o, r = ints[:, ORIG + STATE], ints[:, RESP + STATE]
    o_off, r_off = (o == INACTIVE) | (o == PARTIAL_SIDE), (r == INACTIVE) | (r == PARTIAL_SIDE)
    refused = (o == SYN_SENT) | (o == SYN_ACK_SENT) | ((o == RESET) & no_bytes)
    tcp = np.select(
        [
            r == RESET,
            o == RESET,
            (o == CLOSED_SIDE) & (r == CLOSED_SIDE),
            o == CLOSED_SIDE,
            r == CLOSED_SIDE,
            (o == SYN_SENT) & (r == INACTIVE),
            (o == ESTABLISHED) & (r == ESTABLISHED),
        ],
        [
            np.where(refused, _REJ, np.where(o_off, _RSTRH, _RSTR)),
            np.where(r_off, _OTH, _RSTO),
            _SF,
            np.where(r_off, _SH, _S2),
            np.where(o_off, _SHR, _S3),
            _S0,
            _S1,
        ],
        _OTH,
    )
    for row in np.flatnonzero((proto == _TCP) & (o == RESET) & (r != RESET) & r_off).tolist():
        if _SYN_THEN_RST.fullmatch(history[row]):
            tcp[row] = _RSTOS0
    asks, answers = ints[:, ORIG + PKTS] > 0, ints[:, RESP + PKTS] > 0
    udp = np.where(asks, np.where(answers, _SF, _S0), np.where(answers, _SHR, _OTH))
    state = np.where(proto == _TCP, tcp, np.where(proto == _UDP, udp, _OTH))
    return state.astype(np.uint8)

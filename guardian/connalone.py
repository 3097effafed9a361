"""Rows handled one by one: connections whose packets need their order.

TCP with its control packets, and whatever meets a timeout or a slice's boundary in the middle
of a batch. Rows are taken out of the store, changed by events, and put back.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from guardian import events, history, looks, reassembly, service, tcp
from guardian.connstate import (
    BORN,
    BYTES,
    DEADLINE,
    DNS,
    DUE,
    GEN,
    HOLES,
    HOST,
    IDLE,
    IPB,
    LAST,
    LOW,
    MAC,
    MISSED,
    N_CSUM,
    NEVER,
    OPENED,
    ORIG,
    P_BYTES,
    P_IPB,
    P_MISSED,
    P_PKTS,
    PARTIAL,
    PIECE,
    PKTS,
    RESP,
    SEEN,
    SERIAL,
    SERVICE,
    SLOT,
    SNIFF,
    TS,
    Row,
)  # fmt: skip
from guardian.connstore import Store
from guardian.const import NS, SLICE_FIRST_NS, SLICE_NEXT_NS
from guardian.keys import Keys
from guardian.parents import Shifts
from guardian.tables import I64, U8, Bool, Packets

IDLE_NS = 60 * NS
"""Inactivity allowed for UDP, ICMP and unknown protocols."""
DNS_STEP_NS, DNS_IDLE_NS = 10 * NS, 9 * NS
"""A DNS flow is looked at every 10 s from its start and is over if it was idle for 9 s."""
_TCP, _UDP, _ICMP, _ICMP6 = 6, 17, 1, 58

_EACH = ("place", "first", "count", "index", "low", "ts", "tick", "flags", "seq", "ack", "length",
         "captured", "window", "ip_len", "bad", "mac")  # fmt: skip
BeginOne = Callable[[Packets, Keys, I64, int, int], int]


def piece_at(born: I64, tick: I64) -> I64:
    """Return the number of the slice that holds tick, for connections born at some moment."""
    number: I64 = (tick - born + (SLICE_NEXT_NS - SLICE_FIRST_NS)) // SLICE_NEXT_NS
    return number


def slice_begins(born: I64, place: I64, tick: I64) -> Bool:
    """Return bool[n]: the packet is in another slice than the one before it of its connection.

    born: of connections; place: whose each packet is, rising; tick: rising for each.
    """
    begins = np.zeros(len(place), dtype=np.bool_)
    first = np.flatnonzero(np.append(True, place[1:] != place[:-1]))
    last = np.append(first[1:], len(place)) - 1
    of = born[place[first]]
    cut = piece_at(of, tick[first]) != piece_at(of, tick[last])  # few are
    if cut.any():
        rows = np.flatnonzero(np.repeat(cut, last - first + 1))
        piece = piece_at(born[place[rows]], tick[rows])
        begins[rows[1:]] = (piece[1:] != piece[:-1]) & (place[rows[1:]] == place[rows[:-1]])
    return begins


def boundary(born: I64, tick: I64) -> I64:
    """Return when the slice that holds tick ends."""
    ends: I64 = born + SLICE_FIRST_NS + piece_at(born, tick) * SLICE_NEXT_NS
    return ends


def deadline(row: Row, proto: int) -> int:
    """Return the clock at which a connection is over if no packet comes."""
    if proto == _TCP:
        return tcp.deadline(row)
    if row[DNS]:
        looks = -((row[BORN] - row[SEEN] - DNS_IDLE_NS) // DNS_STEP_NS)
        return int(row[BORN] + looks * DNS_STEP_NS)
    return int(row[SEEN] + row[IDLE])


class Alone:
    """One batch's events; afterwards says which slots hold snapshots and ended rows."""

    def __init__(
        self, store: Store, packets: Packets, keyed: Keys, clock: I64, data: U8, serial: int,
        begin_one: BeginOne, shifts: Shifts | None, *, cut_is_gap: bool,
    ) -> None:  # fmt: skip
        self.snapshots: I64 = np.zeros(0, dtype=np.int64)
        """Slots that hold a connection as it was when its slice was due."""
        self.ended: list[tuple[int, int]] = []
        """Slots of connections that ended, and when; they are no longer under their key."""
        self.begun: list[tuple[int, int]] = []
        """The packets with which others began on their keys, in order for each, and their slots."""
        self._store = store
        self._packets = packets
        self._keyed = keyed
        self._clock = clock
        self._data = data
        self._serial = serial
        self._begin_one = begin_one
        self._shifts = shifts
        self._captured = packets.payload_cap if cut_is_gap else packets.payload_len
        self._out: list[tuple[Row, int]] = []
        self._ghosts: list[Row] = []

    def run(self, slots: I64, protos: list[int], index: I64, columns: events.Lists) -> None:
        """Handle events: `place` says whose among slots, `first` where its packets are in index."""
        rows = self._store.load(slots)
        self._index = index
        each = zip(*(columns[name] for name in _EACH), strict=True)
        for k, (g, at, count, i, low, ts, tick, flags, seq, *more) in enumerate(each):
            row, proto = rows[g], protos[g]
            if row[SERIAL] != self._serial + i:
                fresh = self._check(row, proto, tick, flags, seq, i)
                if fresh is not None:
                    self._out.append((row, proto))
                    row = rows[g] = fresh
            self._shift(row, i)
            if count > 1:
                if not self._run(row, columns, k):
                    for j in index[at : at + count].tolist():
                        row = rows[g] = self._step(row, proto, j)
            else:
                side = ORIG if low == row[LOW] else RESP
                self._one(row, proto, side, i, ts, tick, flags, seq, *more)
        self._out.extend(zip(rows, protos, strict=True))
        ended = {slot for slot, _ in self.ended}
        for row, proto in self._out:
            if row[SLOT] not in ended:
                row[DEADLINE] = deadline(row, proto)
        if self._ghosts:
            self.snapshots = self._store.allocate(len(self._ghosts))
            sources = np.array([row[SLOT] for row in self._ghosts], dtype=np.int64)
            self._store.copy_keys(sources, self.snapshots)
            for row, slot in zip(self._ghosts, self.snapshots.tolist(), strict=True):
                row[SLOT] = slot
        self._store.save([row for row, _ in self._out] + self._ghosts)

    def _check(self, row: Row, proto: int, tick: int, flags: int, seq: int, i: int) -> Row | None:
        """Before a packet: end the row if its time has come, or tell its slice.

        Returns the row of the new connection that the packet begins, if it does.
        """
        if tick - row[BORN] >= SLICE_FIRST_NS:  # no deadline, no boundary is sooner
            end = deadline(row, proto)
            if end <= tick:
                return self._replace(row, end, i)
        if proto == _TCP and flags & tcp.F_SYN and tcp.is_reuse(row, flags, seq):
            return self._replace(row, tick + 1, i)
        if row[DUE] <= tick:
            self._snapshot(row)
        return None

    def _replace(self, row: Row, told: int, i: int) -> Row:
        self.ended.append((row[SLOT], told))
        slot = self._begin_one(self._packets, self._keyed, self._clock, i, self._serial)
        self.begun.append((i, slot))
        one = np.array([slot], dtype=np.int64)
        if self._store.ints[slot, TS] == row[TS]:
            self._store.ints[slot, GEN] = row[GEN] + 1
            self._store.name(one)
        return self._store.load(one)[0]

    def _shift(self, row: Row, i: int) -> None:
        """Before a packet: note the tunnels by which it came."""
        if self._shifts is not None:
            first = row[SERIAL] == self._serial + i
            if self._store.parents.shift(row[SLOT], self._shifts.path[i], first):
                history.limit(row)

    def _snapshot(self, row: Row) -> None:
        """Keep the row as it is now in a slot of its own, and open its next slice."""
        copy = row[:]
        copy[HOLES] = None
        self._ghosts.append(copy)
        for side in (ORIG, RESP):
            row[side + P_PKTS] = row[side + PKTS]
            row[side + P_IPB] = row[side + IPB]
            # Only one of the two counts bytes: BYTES stays 0 for TCP, SEQ for others.
            row[side + P_BYTES] = row[side + BYTES] or reassembly.size(row, side)
        row[P_MISSED] = row[MISSED]
        row[PIECE] += 1
        row[DUE] = NEVER

    def _run(self, row: Row, columns: events.Lists, k: int) -> bool:
        """Apply a run of plain packets as one, if it may be."""
        tick, end = columns["tick"][k], columns["tick_end"][k]
        if end - row[BORN] >= SLICE_FIRST_NS and tcp.deadline(row) <= end:
            return False
        due = row[DUE] if row[DUE] != NEVER else self._due(row, tick)
        if due <= end or not events.apply(row, columns, k, bool(row[LOW])):
            return False
        if row[DUE] == NEVER:
            row[DUE], row[OPENED] = due, columns["ts"][k]
        if columns["bytes_l"][k] or columns["bytes_h"][k]:
            memory = row[SNIFF]
            if service.hungry_one(memory, True) or service.hungry_one(memory, False):
                self._sniff_run(row, columns["first"][k], columns["count"][k])
        return True

    def _due(self, row: Row, tick: int) -> int:
        since = tick - row[BORN] - SLICE_FIRST_NS
        steps = 0 if since < 0 else since // SLICE_NEXT_NS + 1
        return int(row[BORN] + SLICE_FIRST_NS + steps * SLICE_NEXT_NS)

    def _sniff_run(self, row: Row, first: int, count: int) -> None:
        members = self._index[first : first + count]
        for i in members[self._packets.payload_cap[members] > 0].tolist():
            low = int(self._keyed.low_sends[i])
            self._sniff(row, ORIG if low == row[LOW] else RESP, i)
            if not (service.hungry_one(row[SNIFF], True) or service.hungry_one(row[SNIFF], False)):
                break

    def _sniff(self, row: Row, side: int, i: int) -> None:
        if not service.hungry_one(row[SNIFF], side == ORIG):
            return
        known = (row[SNIFF], row[SERVICE], row[HOST], row[IDLE])
        row[SNIFF], row[SERVICE], row[HOST], row[IDLE] = looks.look(
            self._store.hellos, known, row[PARTIAL], side == ORIG, self._packets, self._data, i
        )

    def _step(self, row: Row, proto: int, i: int) -> Row:
        """Handle a packet by its number, as the events of one packet are handled."""
        p = self._packets
        tick, flags, seq = int(self._clock[i]), int(p.flags[i]), int(p.seq[i])
        if row[SERIAL] != self._serial + i:
            fresh = self._check(row, proto, tick, flags, seq, i)
            if fresh is not None:
                self._out.append((row, proto))
                row = fresh
                self._shift(row, i)
        side = ORIG if int(self._keyed.low_sends[i]) == row[LOW] else RESP
        self._one(
            row, proto, side, i, int(p.ts[i]), tick, flags, seq, int(p.ack[i]),
            int(p.payload_len[i]), int(self._captured[i]), int(p.window[i]), int(p.ip_len[i]),
            bool(p.bad_csum[i]), int(p.src_mac[i]),
        )  # fmt: skip
        return row

    def _one(
        self, row: Row, proto: int, side: int, i: int, ts: int, tick: int, flags: int, seq: int,
        ack: int, length: int, captured: int, window: int, ip_len: int, bad: int, mac: int,
    ) -> None:  # fmt: skip
        if row[DUE] == NEVER and not bad:
            row[DUE], row[OPENED] = self._due(row, tick), ts
        if proto == _TCP:
            tcp.packet(row, side, ts, tick, flags, seq, ack, length, captured, window, ip_len,
                       bool(bad), mac)  # fmt: skip
        elif bad:
            if proto == _UDP:
                history.scaled(row, side, N_CSUM, b"C")
        else:
            row[LAST] = max(row[LAST], ts)
            row[SEEN] = tick
            row[side + PKTS] += 1
            row[side + IPB] += ip_len
            if not row[side + MAC]:
                row[side + MAC] = mac
            if proto == _UDP:
                history.once(row, side, history.B_DATA, b"D")
            if proto in (_UDP, _ICMP, _ICMP6):
                row[side + BYTES] += length
        if captured > 0 and not bad and length:
            self._sniff(row, side, i)

"""Packets -> connections: finished records and slices, whatever the cut into batches.

Packets are sorted by key. What is plain (UDP, ICMP, a lone SYN) is added up by column for all
connections at once; what needs its order (TCP's control packets, timeouts in the middle of a
batch) goes by events through tcp.packet. A moment of the clock decides, never a batch: a
connection is over at its deadline, a slice is due at its boundary, and a full table is trimmed
after every EVICT_EVERY-th packet since the start.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from guardian import events, ftpdata, keys, parents, ports, rounds, service, singles, stateless, tcp
from guardian.addresses import Lan
from guardian.connalone import IDLE_NS, Alone, slice_begins
from guardian.connstate import (
    BORN,
    DNS,
    GEN,
    IDLE,
    LAST,
    LOW,
    NEVER,
    OPENED,
    ORIG,
    PKTS,
    REAS,
    RESP,
    SEEN,
    SERIAL,
    SNIFF,
    TRIM,
    TS,
)  # fmt: skip
from guardian.connstore import Store
from guardian.const import MAX_CONNS
from guardian.ftpdata import Announced
from guardian.keys import Groups, Keys
from guardian.slotindex import SlotIndex
from guardian.tables import I64, U8, U64, Bool, Conns, Decoded, Packets

EVICT_EVERY = 4_096
"""Packets between two looks at a full table: it overshoots its capacity by this at most."""

_TCP, _UDP, _ICMP, _ICMP6 = 6, 17, 1, 58
_FAR = 1 << 62
_NOTHING = Conns.empty()
_AT_ONCE = 2_048
"""Connections told in one go: more no longer fit a cache."""


@dataclass(frozen=True)
class Told:
    """What a step hands out, both in the order of (told, ts, uid)."""

    records: Conns
    slices: Conns


class ConnTable:
    """The living connections.

    lan says which addresses are local; capacity is the number of living connections kept;
    seed makes uids, and two tables with the same seed give the same uids; by which words keys are
    hashed nobody knows. With cut_is_gap, payload that a short capture left out is missed, as Zeek
    has it; a live capture cuts frames on purpose and goes by the lengths in the headers.
    """

    def __init__(
        self, lan: Lan, capacity: int = MAX_CONNS, seed: int = 0, *, cut_is_gap: bool = True
    ) -> None:
        self.lan = lan
        self.capacity = capacity
        self._cut_is_gap = cut_is_gap
        self.evicted = 0
        """Connections that were ended because the table was full."""
        self._seed = seed
        # Known words would let a sender choose which keys share a place of the index.
        self._words = keys.seeds(secrets.randbits(256))
        self._store = Store(capacity, seed)
        self._index = SlotIndex()
        self._now = self._latest = -(1 << 62)
        self._count = 0
        self._highest: I64 = np.zeros(0, dtype=np.int64)
        self._announced = Announced()
        self._snapshots: list[tuple[I64, I64]] = []
        """Slots that hold connections as they were when their slices were due, and when."""
        self._records: list[Conns] = []
        self._slices: list[Conns] = []

    @property
    def live(self) -> int:
        """Connections that are not over."""
        return len(self._index)

    def step(self, decoded: Decoded) -> Told:
        """Take a batch of packets (or none: a tick) and the clock; return what is due by then.

        Malformed or hostile packets raise nothing.
        """
        packets, all_packets = parents.to_group(decoded.packets)
        n = len(packets)
        if n:
            clock = _highest(packets.ts, self._now)
            for begin, end in self._pieces(n, parents.cuts(packets, clock)):
                part = slice(begin, end)
                whole = begin == 0 and end == n
                chosen = packets if whole else packets.take(part)
                self._take(chosen, all_packets, clock[part], decoded.data)
                if self._count % EVICT_EVERY == 0:
                    self._evict(int(clock[end - 1]))
            self._now = int(clock[-1])
        self._now = max(self._now, decoded.now)
        self._sweep(self._now)
        return self._tell(self._now)

    def finish(self) -> Told:
        """End all connections at the end of the input."""
        slots = self._index.slots()
        self._end(slots, np.full(len(slots), self._now, dtype=np.int64))
        return self._tell(NEVER)

    def _pieces(self, n: int, cuts: list[int]) -> list[tuple[int, int]]:
        """Cut a batch at every EVICT_EVERY-th packet, if the table could become full, and at
        cuts."""
        bounds = {0, *cuts, n}
        if len(self._index) + n > self.capacity:
            bounds.update(range(EVICT_EVERY - self._count % EVICT_EVERY, n, EVICT_EVERY))
        return list(pairwise(sorted(bounds)))

    # --- a batch ---------------------------------------------------------------------------

    def _take(self, packets: Packets, all_packets: Packets, clock: I64, data: U8) -> None:
        """Take packets; those that came through tunnels name their carriers in all_packets."""
        store, serial = self._store, self._count
        self._count += len(packets)
        self._highest = _highest(packets.ts, self._latest)
        self._latest = int(self._highest[-1])
        keyed, order, groups, slots = self._met(packets, clock)
        self._announced.hear(packets, clock, data, serial)
        new = slots < 0
        if new.any():
            slots[new] = self._begin(packets, keyed, clock, groups.leaders[new], serial)
        shifts = parents.shifts(store.parents, packets, all_packets, order, groups, slots, new)
        leaders = groups.leaders
        proto = packets.proto[leaders]
        left = ~self._open(packets, keyed, clock, groups, slots, new)[groups.number]
        stream, simple = proto == _TCP, proto != _TCP
        if simple.any():
            simple &= ~np.logical_or.reduceat(packets.bad_csum[order], groups.first)
        if shifts is not None:
            simple &= ~shifts.changing
            stream &= ~shifts.changing
        done = singles.advance(
            store, slots, stream & ~new, groups, order, packets, keyed.low_sends, clock, left,
            cut_is_gap=self._cut_is_gap,
        )  # fmt: skip
        if simple.any():
            mine, index, place = groups.members(order, simple)
            added, snapshots = stateless.advance(
                store, packets, keyed, clock, data, slots[simple], index, place
            )
            self._keep(snapshots)
            left[mine[added]] = False
        index, place = order[left], groups.number[left]
        alone = None
        if len(index):
            mine = np.arange(len(slots))
            if done.any():  # few are left
                mine, place = np.unique(place, return_inverse=True)
            low = keyed.low_sends[index]
            opens = slice_begins(store.ints[slots[mine], BORN], place, clock[index])
            if shifts is not None:
                opens |= shifts.differs[left]
            cut = events.cut(index, place, low, packets, clock, opens, cut_is_gap=self._cut_is_gap)
            left, snapshots = rounds.advance(store, slots[mine], stream[mine], cut, packets, data)
            self._keep(snapshots)
            if left.any():
                happened = cut.some(left)
                some, happened["place"] = np.unique(happened["place"], return_inverse=True)
                whose = mine[some]
                alone = Alone(
                    store, packets, keyed, clock, data, serial, self._begin_one, shifts,
                    cut_is_gap=self._cut_is_gap,
                )  # fmt: skip
                alone.run(slots[whose], proto[whose].tolist(), index, events.lists(happened))
        self._note_tunnels(packets, all_packets, keyed, order, groups, slots, alone)
        if alone is not None:
            self._from_alone(alone)
        store.wake(slots[~done])

    def _met(self, packets: Packets, clock: I64) -> tuple[Keys, I64, Groups, I64]:
        """Return what _group() does, after connections that are over by their first packets have
        ended, and slices that are due by then are kept."""
        store = self._store
        keyed, order, groups, slots = self._group(packets)
        tick_first = clock[groups.leaders]

        old = np.flatnonzero(slots >= 0)
        over = store.deadline[slots[old]] <= tick_first[old]
        ended = slots[old[over]]
        if len(ended):
            self._end(ended, store.deadline[ended])
            slots[old[over]] = -1
            old = old[~over]
        due = slots[old[store.due[slots[old]] <= tick_first[old]]]
        if len(due):
            self._keep(store.snapshot(due))
        return keyed, order, groups, slots

    def _note_tunnels(
        self, packets: Packets, all_packets: Packets, keyed: Keys, order: I64, groups: Groups,
        slots: I64, alone: Alone | None,
    ) -> None:  # fmt: skip
        """Note by which connections the packets came, and what they carry."""
        if not packets.carrier.any() and not packets.carries.any():
            return
        # On one key several connections may have begun: each packet belongs to the latest.
        place, each = np.empty((2, len(order)), dtype=np.int64)
        place[order] = np.arange(len(order))
        begins = np.zeros(len(order), dtype=np.int64)
        begins[groups.first], each[groups.first] = groups.first, slots
        for i, slot in alone.begun if alone is not None else ():
            begins[place[i]], each[place[i]] = place[i], slot
        each = each[np.maximum.accumulate(begins)][place]

        def uid_of(hashes: U64) -> list[bytes]:
            found = self._slots(hashes)
            uids = self._store.uid[found].tolist()
            return [uid if slot >= 0 else b"" for uid, slot in zip(uids, found, strict=True)]

        parents.note(
            self._store.parents, packets, all_packets, keyed=keyed, slots=each, uid_of=uid_of,
            words=self._words, seed=self._seed,
        )  # fmt: skip

    def _slots(self, hashes: U64) -> I64:
        """Return the slot of each key, -1 for none."""
        return self._index.find(hashes, self._store.hash)

    def _group(self, packets: Packets) -> tuple[Keys, I64, Groups, I64]:
        """Return the packets' keys, their order by key, the groups, and each group's slot or -1."""
        while True:
            keyed = keys.of(packets, self._words)
            order = keys.sort(keyed.hash)
            groups = Groups.of(keyed, order)
            if groups is not None:
                slots = self._slots(groups.hashes)
                old = slots >= 0
                if self._store.same_keys(slots[old], keyed, groups.leaders[old]):
                    return keyed, order, groups, slots
            self._rehash()  # two keys have one hash

    def _rehash(self) -> None:
        """Take other words for the hash, and put all rows under their new hashes."""
        self._words = keys.seeds(secrets.randbits(256))
        store = self._store
        slots = self._index.slots()
        hashes, turn = keys.again(
            store.low[slots], store.high[slots], store.rest[slots], self._words
        )
        store.hash[slots] = hashes
        store.turn(slots[turn])
        self._index.clear()
        self._index.add(hashes, slots, store.hash)

    def _begin(self, packets: Packets, keyed: Keys, clock: I64, index: I64, serial: int) -> I64:
        """Make rows for connections whose first packets are at index; return their slots."""
        n = len(index)
        slots = self._store.allocate(n)
        proto, ts = packets.proto[index], packets.ts[index]
        sport, dport = packets.sport[index], packets.dport[index]
        turned = ports.turned(proto, packets.flags[index], sport, dport)
        rows = np.flatnonzero(turned)
        if len(rows):
            turned[rows] = ~self.lan.multicast(packets.dst[index[rows]])
        ints = np.zeros((n, self._store.ints.shape[1]), dtype=np.int64)
        ints[:, TS] = ints[:, LAST] = ints[:, OPENED] = ts
        ints[:, BORN] = ints[:, SEEN] = clock[index]
        ints[:, IDLE] = IDLE_NS
        ints[:, LOW] = keyed.low_sends[index] ^ turned
        ints[:, DNS] = ports.is_dns(proto, np.where(turned, sport, dport))
        ints[:, SERIAL] = serial + index
        # A late packet may bear the time of one that began a connection before.
        ints[:, GEN] = np.where(ts < self._highest[index], serial + index + 1, 0)
        for side in (ORIG, RESP):
            ints[:, side + REAS] = ints[:, side + TRIM] = 1
        store = self._store
        store.ints[slots] = ints
        store.history[slots] = np.where(turned, b"^", b"")
        store.letters[slots] = turned
        store.service[slots] = b""
        store.host[slots] = b""
        store.put_keys(slots, keyed, index, clock[index] + IDLE_NS)
        store.name(slots)
        self._index.add(keyed.hash[index], slots, store.hash)
        if self._announced:
            awaited = slots[self._announced.awaits(packets, clock, index, turned, serial)]
            store.service[awaited] = ftpdata.NAME
            store.ints[awaited, SNIFF] = service.settled(0)
        return slots

    def _open(
        self, packets: Packets, keyed: Keys, clock: I64, groups: Groups, slots: I64, new: Bool
    ) -> Bool:
        """Open the new connections of which a batch has a SYN alone; return bool[groups], which."""
        syn = _lone_syns(packets, groups, new)
        if syn.any():
            index = groups.leaders[syn]
            opening = events.of_packets(index, keyed.low_sends[index], packets, clock)
            rounds.open_all(self._store, slots[syn], opening)
        return syn

    def _begin_one(self, packets: Packets, keyed: Keys, clock: I64, index: int, serial: int) -> int:
        one = np.array([index], dtype=np.int64)
        self._index.remove(keyed.hash[one], self._store.hash)
        return int(self._begin(packets, keyed, clock, one, serial)[0])

    # --- telling ---------------------------------------------------------------------------

    def _from_alone(self, alone: Alone) -> None:
        """Take over what was begun, said and ended while rows were handled alone."""
        store = self._store
        self._keep(alone.snapshots)
        if alone.ended:
            slots = np.array([slot for slot, _ in alone.ended], dtype=np.int64)
            told = np.array([told for _, told in alone.ended], dtype=np.int64)
            self._record(slots, told)
            store.release(slots)

    def _keep(self, slots: I64) -> None:
        """Keep connections as they were when their slices were due, to be told together."""
        if len(slots):
            store = self._store
            self._snapshots.append((slots, store.due[slots]))
            store.due[slots] = store.deadline[slots] = NEVER

    def _tell_snapshots(self) -> None:
        if not self._snapshots:
            return
        slots, told = (np.concatenate(parts) for parts in zip(*self._snapshots, strict=True))
        self._snapshots = []
        store = self._store
        whole = store.records(slots, told, self.lan)
        final = np.zeros(len(slots), dtype=np.bool_)
        self._slices.append(store.slices(slots, whole, told, final))
        store.release(slots)

    def _end(self, slots: I64, told: I64) -> None:
        """End connections: their last slices, their records, their rows."""
        for at in range(0, len(slots), _AT_ONCE):
            self._record(slots[at : at + _AT_ONCE], told[at : at + _AT_ONCE])
        self._index.remove(self._store.hash[slots], self._store.hash)
        self._store.release(slots)

    def _record(self, slots: I64, told: I64) -> None:
        store = self._store
        whole = store.records(slots, told, self.lan)
        self._records.append(whole)
        due = store.due[slots]
        untold = due != NEVER
        if untold.any():
            when, end = due[untold], told[untold]
            self._slices.append(
                store.slices(
                    slots[untold],
                    whole if untold.all() else whole.take(untold),
                    np.minimum(when, end),
                    when >= end,
                )
            )

    def _sweep(self, now: int) -> None:
        store = self._store
        over = store.over(now)
        if len(over):
            self._end(over, store.deadline[over])
        due = store.late(now)
        if len(due):
            self._keep(store.snapshot(due))
        store.swept(now)
        self._tell_snapshots()

    def _evict(self, now: int) -> None:
        """Trim the table: of unanswered ones, single exchanges and sessions the most numerous kind
        gives first, of it the longest silent. A flood is most of its kind, whichever that is."""
        self._sweep(now)
        excess = len(self._index) - self.capacity
        if excess <= 0:
            return
        slots = np.flatnonzero(self._store.deadline != NEVER)
        ints = self._store.ints
        kind = np.minimum(ints[slots, ORIG + PKTS], ints[slots, RESP + PKTS]).clip(0, 2)
        parts = [slots[kind == k] for k in range(3)]
        leave = _shares([len(part) for part in parts], self.capacity)
        going = np.concatenate(
            [
                _oldest(self._store, part, len(part) - stay)
                for part, stay in zip(parts, leave, strict=True)
            ]
        )
        self.evicted += excess
        # Told just after this moment, when all that was due at it is known.
        self._end(going, np.full(excess, now + 1, dtype=np.int64))

    def _tell(self, now: int) -> Told:
        records, self._records = _due(self._records, now)
        slices, self._slices = _due(self._slices, now)
        return Told(records, slices)


def _lone_syns(packets: Packets, groups: Groups, new: Bool) -> Bool:
    """Return bool[groups]: a new connection's only packet is a SYN as it should be."""
    lone: Bool = new & (groups.count == 1)
    some = np.flatnonzero(lone)
    index = groups.leaders[some]
    syn = (packets.proto[index] == _TCP) & ~packets.bad_csum[index]
    syn &= (packets.flags[index] & 0x17) == tcp.F_SYN
    lone[some] = syn & (packets.window[index] > 0) & (packets.payload_len[index] == 0)
    return lone


def _highest(ts: I64, before: int) -> I64:
    """Return the highest of the times up to each, and before them."""
    if len(ts) and int(ts[0]) >= before and (ts[1:] >= ts[:-1]).all():
        return ts  # as they mostly are: looking costs a fifth of accumulating
    highest: I64 = np.maximum.accumulate(np.maximum(ts, before))
    return highest


def _shares(counts: list[int], room: int) -> list[int]:
    """Return how many of each kind stay: the most numerous gives first."""
    stay = [0] * len(counts)
    for left, k in zip(range(len(counts), 0, -1), np.argsort(counts, kind="stable"), strict=True):
        stay[k] = min(counts[k], room // left)
        room -= stay[k]
    return stay


def _oldest(store: Store, slots: I64, n: int) -> I64:
    """Return the n rows seen longest ago, the one begun first where two were seen together."""
    if n == 0:
        return slots[:0]
    seen = store.ints[slots, SEEN]
    candidates = slots[seen <= np.partition(seen, n - 1)[n - 1]]
    order = np.lexsort((store.ints[candidates, SERIAL], store.ints[candidates, SEEN]))
    oldest: I64 = candidates[order[:n]]
    return oldest


def _due(parts: list[Conns], now: int) -> tuple[Conns, list[Conns]]:
    """Return the rows that are due, in the order of (told, ts, uid), and the others."""
    if not parts:
        return _NOTHING, []
    rows = parts[0] if len(parts) == 1 else Conns.concat(parts)
    parts.clear()  # rows are wide
    ready = rows.told <= now
    later = [] if ready.all() else [rows.take(~ready)]
    rows = rows if ready.all() else rows.take(ready)
    return rows.take(np.lexsort((rows.uid, rows.ts, rows.told))), later

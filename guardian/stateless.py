"""Connections whose packets need no order: UDP, ICMP and whatever has no states, by column.

What such a connection is follows from sums, from who spoke first, and from when.
"""

from __future__ import annotations

import numpy as np

from guardian import looks
from guardian.connalone import DNS_IDLE_NS, DNS_STEP_NS, boundary, slice_begins
from guardian.connstate import (
    BORN,
    BYTES,
    DNS,
    IDLE,
    IPB,
    LAST,
    LOW,
    MAC,
    NEVER,
    OPENED,
    ORIG,
    PKTS,
    RESP,
    SEEN,
    SEENHIST,
)
from guardian.connstore import Store
from guardian.history import B_DATA
from guardian.keys import Keys
from guardian.tables import I64, U8, Bool, Packets

LEAST = 24
"""Adding by column costs as much as this many packets one by one; fewer are left alone."""
_UDP, _ICMP, _ICMP6 = 17, 1, 58
_FAR = 1 << 62


def advance(
    store: Store, packets: Packets, keyed: Keys, clock: I64, data: U8,
    slots: I64, index: I64, place: I64,
) -> tuple[Bool, I64]:  # fmt: skip
    """Add packets slice by slice, where slices of rows are due among them.

    index: the packets, sorted by connection and time; place: whose of slots. Return bool[index],
    which were added, and slots that hold rows as they were when their slices were due.
    """
    tick = clock[index]
    breaks = slice_begins(store.ints[slots, BORN], place, tick)
    breaks[0] = True
    breaks[1:] |= place[1:] != place[:-1]
    first = np.flatnonzero(breaks)
    stop = np.append(first[1:], len(index))
    cursor = np.searchsorted(place[first], np.arange(len(slots)))
    end = np.append(cursor[1:], len(first))
    going = np.arange(len(slots))
    added = np.zeros(len(index), dtype=np.bool_)
    snapshots = [np.zeros(0, dtype=np.int64)]
    while len(going):
        part = cursor[going]
        if int((stop[part] - first[part]).sum()) < LEAST:
            break
        going = going[tick[stop[part] - 1] < store.deadline[slots[going]]]
        part = cursor[going]
        mine = slots[going]
        due = store.due[mine] <= tick[first[part]]
        if due.any():
            snapshots.append(store.snapshot(mine[due]))
        count = stop[part] - first[part]
        begins = np.cumsum(count) - count
        whose = np.repeat(np.arange(len(going)), count)
        at = np.arange(len(whose)) - begins[whose] + first[part][whose]
        if len(at):
            add(store, packets, keyed, clock, data, mine, index[at], whose, begins)
            added[at] = True
        cursor[going] += 1
        going = going[cursor[going] < end[going]]
    return added, np.concatenate(snapshots)


def add(
    store: Store, packets: Packets, keyed: Keys, clock: I64, data: U8,
    slots: I64, index: I64, place: I64, begins: I64,
) -> None:  # fmt: skip
    """Add the packets at index to rows: sums, first letters, clocks.

    place: whose of slots each is; begins: where each row's packets begin.
    """
    ints = store.ints
    asks = keyed.low_sends[index] == (ints[slots, LOW] != 0)[place]
    at = np.arange(len(index))
    ts, ip_len = packets.ts[index], packets.ip_len[index]
    udp = packets.proto[index[begins]] == _UDP
    proto = packets.proto[index]
    counted = (proto == _UDP) | (proto == _ICMP) | (proto == _ICMP6)
    length = np.where(counted, packets.payload_len[index], 0)
    firsts = []
    for side, sent in ((ORIG, asks), (RESP, ~asks)):
        earliest = np.minimum.reduceat(np.where(sent, at, _FAR), begins)
        active = earliest < _FAR
        first = np.where(active, earliest, 0)
        ints[slots, side + PKTS] += np.add.reduceat(sent.astype(np.int64), begins)
        ints[slots, side + IPB] += np.add.reduceat(np.where(sent, ip_len, 0), begins)
        ints[slots, side + BYTES] += np.add.reduceat(np.where(sent, length, 0), begins)
        unseen = active & (ints[slots, side + MAC] == 0)
        mac = packets.src_mac[index[first[unseen]]]
        ints[slots[unseen], side + MAC] = mac.astype(np.int64)
        bit = B_DATA if side == ORIG else B_DATA << 16
        letter = active & udp & (ints[slots, SEENHIST] & bit == 0)
        ints[slots[letter], SEENHIST] |= bit
        firsts.append(np.where(letter, earliest, _FAR))
    asked, answered = firsts
    for early in (True, False):
        for when, other, letter in ((asked, answered, b"D"), (answered, asked, b"d")):
            store.write(slots[(when < _FAR) & ((when < other) == early)], letter)

    opens = store.due[slots] == NEVER
    if opens.any():
        fresh, tick = slots[opens], clock[index[begins[opens]]]
        ints[fresh, OPENED] = ts[begins[opens]]
        store.due[fresh] = boundary(ints[fresh, BORN], tick)
    last = np.append(begins[1:], len(index)) - 1
    ints[slots, LAST] = np.maximum(ints[slots, LAST], np.maximum.reduceat(ts, begins))
    ints[slots, SEEN] = clock[index[last]]
    looks.look_all(store, packets, data, slots[place], index, asks)
    _renew(store, slots)


def _renew(store: Store, slots: I64) -> None:
    """Set the deadlines of rows from when they were last seen."""
    born, seen = store.ints[slots, BORN], store.ints[slots, SEEN]
    steps = (seen - born + DNS_IDLE_NS + DNS_STEP_NS - 1) // DNS_STEP_NS
    store.deadline[slots] = np.where(
        store.ints[slots, DNS] != 0,
        born + steps * DNS_STEP_NS,
        seen + store.ints[slots, IDLE],
    )

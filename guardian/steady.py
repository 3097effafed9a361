"""Runs of established TCP connections applied to all rows at once.

Most packets belong to connections where nothing happens but data. What events.apply does to
one row is done here by column, for rows whose whole batch is one run; a row where anything is
out of the ordinary is left alone, and events.apply or tcp.packet takes it.
"""

from __future__ import annotations

import numpy as np

from guardian import looks, service
from guardian.connalone import boundary
from guardian.connstate import (
    ACK,
    BORN,
    CLOSING,
    DEFER,
    ESTABLISHED,
    HIGH,
    IDLE,
    IPB,
    LAST,
    LOW,
    MAC,
    NEVER,
    OPENED,
    ORIG,
    PARTIAL_SIDE,
    PKTS,
    REAS,
    RESP,
    SEEN,
    SEENHIST,
    SEQ,
    SKIP,
    SNIFF,
    START,
    STATE,
    TRIM,
)  # fmt: skip
from guardian.connstore import Store
from guardian.events import FAR, Columns
from guardian.history import B_ACK, B_DATA
from guardian.reassembly import HELD_BYTES, UNACKED_BYTES
from guardian.tables import I64, U8, Array, Bool, Packets


def advance(
    store: Store, slots: I64, calm: Bool, events: Columns,
    packets: Packets, data: U8, index: I64, low: Bool,
) -> Bool:  # fmt: skip
    """Apply the events of rows that have but one, a run; return bool[slots]: whose were.

    calm: no deadline and no slice's boundary of the row lies within the batch; index: the packets
    that the events were cut from, low: which of them the low end sent.
    """
    done = np.zeros(len(slots), dtype=np.bool_)
    place = events["place"]
    lone = (np.bincount(place, minlength=len(slots)) == 1) & calm
    picked = np.flatnonzero(lone[place] & ~events["single"])
    if len(picked):
        mine = {name: column[picked] for name, column in events.items()}
        done[mine["place"]] = _apply(store, slots[mine["place"]], mine, packets, data, index, low)
    return done


def _signed(difference: Array) -> Array:
    return ((difference + 0x80000000) & 0xFFFFFFFF) - 0x80000000


def _write(
    store: Store, row: Array, slot: int, at: int, firsts: tuple[dict[int, Array], ...]
) -> None:
    """Write the letters of data and pure acknowledgements that come for the first time."""
    order = []
    for (bit, letter), first in zip(((B_DATA, b"D"), (B_ACK, b"A")), firsts, strict=True):
        for side, mask, text in ((ORIG, bit, letter), (RESP, bit << 16, letter.lower())):
            if first[side][at] < FAR and not row[SEENHIST] & mask:
                row[SEENHIST] |= mask
                order.append((int(first[side][at]), text))
    store.history[slot] += b"".join(text for _, text in sorted(order))


def _look(
    store: Store, slots: I64, picked: Bool, events: Columns,
    packets: Packets, data: U8, index: I64, low: Bool,
) -> None:  # fmt: skip
    """Look into the payloads of the picked rows' packets."""
    rows = np.flatnonzero(picked)
    if not len(rows):
        return
    count = events["count"][rows]
    whose = np.repeat(slots[rows], count)
    step = np.arange(len(whose)) - np.repeat(np.cumsum(count) - count, count)
    at = np.repeat(events["first"][rows], count) + step
    asks = low[at] == (store.ints[whose, LOW] != 0)
    looks.look_all(store, packets, data, whose, index[at], asks)


def _apply(
    store: Store, slots: I64, events: Columns,
    packets: Packets, data_bytes: U8, index: I64, low: Bool,
) -> Bool:  # fmt: skip
    rows = store.ints[slots]
    forward = rows[:, LOW] != 0

    def sides(name: str) -> dict[int, Array]:
        low, high = events[name + "_l"].astype(np.int64), events[name + "_h"].astype(np.int64)
        return {ORIG: np.where(forward, low, high), RESP: np.where(forward, high, low)}

    pkts, sent, seq, ack = sides("pkts"), sides("bytes"), sides("seq"), sides("ack")
    data, pure, first, mac = sides("data"), sides("pure"), sides("first"), sides("mac")
    ok = (rows[:, CLOSING] == 0) & (rows[:, DEFER] == 0)
    news, hungry = np.zeros((2, len(rows)), dtype=np.bool_)
    top, acked = {}, {}
    for side, peer, bits in ((ORIG, RESP, 1), (RESP, ORIG, 1 << 16)):
        state, before = rows[:, side + STATE], rows[:, side + SEQ]
        ok &= (state == ESTABLISHED) | (state == PARTIAL_SIDE)
        ok &= (rows[:, side + SKIP] == 0) & (rows[:, side + REAS] == before)
        top[side] = before + sent[side]
        crowded = (rows[:, side + ACK] <= 1) & (top[side] > UNACKED_BYTES)
        crowded |= top[side] - rows[:, side + TRIM] > HELD_BYTES
        ok &= ~crowded | (sent[side] == 0)
        known = rows[:, peer + ACK]
        acked[peer] = known + _signed(ack[side] - rows[:, peer + START] - known)
        fits = (seq[side] - rows[:, side + START] - before) & 0xFFFFFFFF == 0
        fits &= (acked[peer] >= 0) & (ack[side] != 0)
        fits &= (rows[:, side + MAC] != 0) | (mac[side] == 0)
        ok &= fits | (pkts[side] == 0)
        unwritten = (data[side] < FAR) & (rows[:, SEENHIST] & (B_DATA * bits) == 0)
        unwritten |= (pure[side] < FAR) & (rows[:, SEENHIST] & (B_ACK * bits) == 0)
        news |= unwritten
        hungry |= service.hungry(rows[:, SNIFF], np.full(len(rows), side == ORIG)) & (
            sent[side] > 0
        )
    asks_first = first[ORIG] < first[RESP]
    start = np.where(asks_first, rows[:, RESP + START], rows[:, ORIG + START])
    reach = np.where(asks_first, rows[:, RESP + SEQ], rows[:, ORIG + SEQ])
    ok &= _signed(events["lead_ack"].astype(np.int64) - start - reach) <= 0

    for side, peer in ((ORIG, RESP), (RESP, ORIG)):
        rows[:, side + SEQ] = rows[:, side + REAS] = top[side]
        higher = np.maximum(rows[:, side + HIGH], top[side])
        rows[:, side + HIGH] = np.where(sent[side] > 0, higher, rows[:, side + HIGH])
        heard = pkts[peer] > 0
        for number in (ACK, TRIM):
            least = rows[:, side + number]
            rows[:, side + number] = np.where(heard, np.maximum(least, acked[side]), least)
        rows[:, side + PKTS] += pkts[side]
    for side, more in sides("ipb").items():
        rows[:, side + IPB] += more
    rows[:, LAST] = np.maximum(rows[:, LAST], events["ts_max"])
    rows[:, SEEN] = events["tick_end"]
    opens = store.due[slots] == NEVER
    rows[opens, OPENED] = events["ts"][opens]

    for at in np.flatnonzero(news & ok).tolist():
        _write(store, rows[at], int(slots[at]), at, (data, pure))
    target = slots[ok]
    store.ints[target] = rows[ok]
    due = np.where(opens, boundary(rows[:, BORN], events["tick"]), store.due[slots])
    store.due[target] = due[ok]
    _look(store, slots, hungry & ok, events, packets, data_bytes, index, low)
    store.deadline[target] = store.ints[target, SEEN] + store.ints[target, IDLE]
    applied: Bool = ok
    return applied

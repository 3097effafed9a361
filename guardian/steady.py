"""Runs of plain data of many TCP connections at once.

Most packets belong to connections where nothing happens but data. What events.apply does to
one row is done here by column.
"""

from __future__ import annotations

import numpy as np

from guardian import looks, service, tcp
from guardian.connstate import (
    ACK,
    ATTEMPT,
    CLOSED_SIDE,
    CLOSING,
    DEFER,
    ESTABLISHED,
    FINSEQ,
    HIGH,
    IDLE,
    INACTIVE,
    IPB,
    LAST,
    LOW,
    MAC,
    ORIG,
    PARTIAL_SIDE,
    PKTS,
    REAS,
    RESP,
    SEEN,
    SEENHIST,
    SEQ,
    SNIFF,
    START,
    STATE,
    TRIM,
)  # fmt: skip
from guardian.connstore import Store
from guardian.events import FAR, Cut, wrapped
from guardian.handshakes import in_order
from guardian.history import B_ACK, B_DATA
from guardian.reassembly import HELD_BYTES, UNACKED_BYTES
from guardian.tables import I64, U8, Array, Bool, Packets

_ONCE = ((ORIG, B_DATA, "data", b"D"), (RESP, B_DATA << 16, "data", b"d"),
         (ORIG, B_ACK, "pure", b"A"), (RESP, B_ACK << 16, "pure", b"a"))  # fmt: skip
_BOTH = (B_DATA | B_ACK) * 0x10001


def run(  # noqa: PLR0915 (one column after the other)
    store: Store, slots: I64, at: I64, events: Cut
) -> Bool:
    """Apply run at[k] to row slots[k]; return bool[k]: whose it could. No slot twice.

    A row that is refused is not changed.
    """
    rows = store.ints[slots]
    forward = rows[:, LOW] != 0

    def sides(name: str) -> dict[int, Array]:
        low = events[name + "_l"][at].astype(np.int64, copy=False)
        high = events[name + "_h"][at].astype(np.int64, copy=False)
        return {ORIG: np.where(forward, low, high), RESP: np.where(forward, high, low)}

    pkts, sent, seq, ack = sides("pkts"), sides("bytes"), sides("seq"), sides("ack")
    first, mac = sides("first"), sides("mac")
    ack1 = sides("ack1")
    ok = rows[:, DEFER] == 0
    over, top, acked = {}, {}, {}
    every = slice(None)
    for side, peer in ((ORIG, RESP), (RESP, ORIG)):
        state, before = rows[:, side + STATE], rows[:, side + SEQ]
        over[side] = state == CLOSED_SIDE
        ok &= (state == ESTABLISHED) | (state == PARTIAL_SIDE) | (over[side] & (sent[side] == 0))
        ok &= in_order(rows, every, side)
        top[side] = before + sent[side]
        crowded = top[side] - rows[:, side + TRIM] > HELD_BYTES
        much = np.flatnonzero((rows[:, side + ACK] <= 1) & (top[side] > UNACKED_BYTES))
        if len(much):
            low = forward[much] == (side == ORIG)
            answered = wrapped(ack1[side][much] - rows[much, side + START]) > 1
            crowded[much] |= before[much] + _lead(events, at[much], low, answered) > UNACKED_BYTES
        ok &= ~crowded | (sent[side] == 0)
        known = rows[:, peer + ACK]
        acked[peer] = known + wrapped(ack[side] - rows[:, peer + START] - known)
        fits = (seq[side] - rows[:, side + START] - before) & 0xFFFFFFFF == 0
        fits &= (acked[peer] >= 0) & (ack[side] != 0)
        fits &= (rows[:, side + MAC] != 0) | (mac[side] == 0)
        ok &= fits | (pkts[side] == 0)
    asks_first = first[ORIG] < first[RESP]
    start = np.where(asks_first, rows[:, RESP + START], rows[:, ORIG + START])
    reach = np.where(asks_first, rows[:, RESP + SEQ], rows[:, ORIG + SEQ])
    ok &= wrapped(events["lead_ack"][at].astype(np.int64) - start - reach) <= 0

    for side, peer in ((ORIG, RESP), (RESP, ORIG)):
        grew = sent[side] > 0
        rows[:, side + SEQ] = top[side]
        rows[:, side + REAS] = np.where(grew, top[side], rows[:, side + REAS])
        higher = np.maximum(rows[:, side + HIGH], top[side])
        rows[:, side + HIGH] = np.where(grew, higher, rows[:, side + HIGH])
        least = np.where(pkts[peer] > 0, acked[side], 0)
        rows[:, side + ACK] = np.maximum(rows[:, side + ACK], least)
        least = np.where(over[side], np.minimum(least, rows[:, side + FINSEQ] - 1), least)
        rows[:, side + TRIM] = np.maximum(rows[:, side + TRIM], least)
        rows[:, side + PKTS] += pkts[side]
    for side, more in sides("ipb").items():
        rows[:, side + IPB] += more
    alive = ~(over[ORIG] & over[RESP])  # what comes after both ends is no longer its time
    later = np.maximum(rows[:, LAST], events["ts_max"][at])
    rows[:, LAST] = np.where(alive, later, rows[:, LAST])
    rows[:, SEEN] = np.where(alive, events["tick_end"][at], rows[:, SEEN])
    if ok.all():
        store.ints[slots] = rows
    else:
        store.ints[slots[ok]] = rows[ok]
    news = np.flatnonzero(ok & (rows[:, SEENHIST] & _BOTH != _BOTH))
    if len(news):
        _write(store, slots[news], at[news], events, forward[news])
    took: Bool = ok
    return took


def _lead(events: Cut, at: I64, low: Bool, answered: Bool) -> I64:
    """Return the bytes that were in flight from the low end or the high one of each run."""
    leads = events.leads(at)
    one, two = (np.where(low, leads[f"{n}_l"], leads[f"{n}_h"]) for n in ("lead1", "lead2"))
    lead: I64 = np.where(answered, one, two)
    return lead


def _write(store: Store, slots: I64, at: I64, events: Cut, forward: Bool) -> None:
    """Write the letters of data and pure acknowledgements that come for the first time."""
    seen = store.ints[slots, SEENHIST]
    firsts = events.firsts(at)
    when = np.empty((len(_ONCE), len(slots)), dtype=np.int64)
    for k, (side, mask, name, _) in enumerate(_ONCE):
        low = forward if side == ORIG else ~forward
        first = np.where(low, firsts[f"{name}_l"], firsts[f"{name}_h"])
        when[k] = np.where(seen & mask, FAR, first)
        seen |= np.where(when[k] < FAR, mask, 0)
    store.ints[slots, SEENHIST] = seen
    letters = np.array([letter for *_, letter in _ONCE])
    for k in np.argsort(when, axis=0):
        some = when[k, np.arange(len(slots))] < FAR
        if not some.any():
            break
        store.write(slots[some], letters[k[some]])


def look(store: Store, slots: I64, at: I64, events: Cut, packets: Packets, data: U8) -> I64:
    """Look into the payloads of the events' packets where the service is not known; return whose,
    since a service may allow a longer silence."""
    memory = store.ints[slots, SNIFF]
    carry = (events["bytes_l"][at] > 0) | (events["bytes_h"][at] > 0)
    asking = np.ones(len(slots), dtype=np.bool_)
    hungry = service.hungry(memory, asking) | service.hungry(memory, ~asking)
    rows = np.flatnonzero(carry & hungry)
    if not len(rows):
        return rows
    which, _ = events.members(at[rows])
    whose = np.repeat(slots[rows], events["count"][at[rows]])
    asks = events.order.low[which] == (store.ints[whose, LOW] != 0)
    looks.look_all(store, packets, data, whose, events.order.index[which], asks)
    looked: I64 = slots[rows]
    return looked


def renew(store: Store, slots: I64) -> None:
    """Set the deadlines of rows; says what tcp.deadline says of one."""
    rows = store.ints
    seen, closing = rows[slots, SEEN], rows[slots, CLOSING]
    end = seen + rows[slots, IDLE]
    attempt = rows[slots, ATTEMPT]
    begun = (rows[slots, RESP + STATE] == INACTIVE) & (attempt != 0)
    end = np.where(begun, np.minimum(end, attempt + tcp.ATTEMPT_NS), end)
    store.deadline[slots] = np.where(closing != 0, closing + tcp.CLOSE_NS, end)

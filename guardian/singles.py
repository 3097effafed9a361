"""Single packets of plain data of many TCP connections at once.

Where a batch brings a packet or two of each of many connections, what is done once for a
connection and batch is done for every packet. So here a packet is no event: it takes the front of
its connection's row, and puts it back. What steady.run does to a run is done here to a run of one.
"""

from __future__ import annotations

import numpy as np

from guardian import service
from guardian.connalone import boundary
from guardian.connstate import (
    ACK,
    BORN,
    CLOSING,
    DEFER,
    FIN,
    FRONT,
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
from guardian.history import B_ACK, B_DATA
from guardian.keys import Groups
from guardian.reassembly import HELD_BYTES, UNACKED_BYTES
from guardian.tables import I64, Bool, Packets
from guardian.tcp import F_ACK, F_FIN, F_RST, F_SYN

MOST = 3
"""Packets of a connection in a batch: more are better taken as runs."""
LEAST = 512
"""Connections with so few packets that a batch must have for this to pay."""
AT_ONCE = 2_048
"""Rows that are taken at once: more no longer fit a cache."""
_SETTLED = service.settled(0)


def advance(
    store: Store, slots: I64, tried: Bool, groups: Groups, order: I64, packets: Packets,
    low_sends: Bool, clock: I64, left: Bool, *, cut_is_gap: bool,
) -> Bool:  # fmt: skip
    """Take the packets of groups that have few, while they are plain, out of left, bool[order];
    return bool[groups], of which none is left.

    slots: of the groups; tried: those that have a living TCP connection.
    """
    over = np.zeros(len(slots), dtype=np.bool_)
    going = np.flatnonzero(tried & (groups.count <= MOST))
    if len(going) < LEAST:
        return over
    plain = _plain(packets, cut_is_gap=cut_is_gap)
    for rank in range(MOST):
        at = groups.first[going] + rank
        which = order[at]
        some = plain[which]
        if not some.all():
            going, at, which = going[some], at[some], which[some]
        mine = slots[going]
        took = [
            _take(store, mine[k : k + AT_ONCE], which[k : k + AT_ONCE], packets, low_sends, clock)
            for k in range(0, len(mine), AT_ONCE)
        ]
        if not took:
            break
        done = np.concatenate(took)
        left[at[done]] = False
        going = going[done]
        last = groups.count[going] == rank + 1
        over[going[last]] = True
        going = going[~last]
    return over


def _plain(packets: Packets, *, cut_is_gap: bool) -> Bool:
    """Return which packets only carry data, or acknowledge."""
    plain: Bool = packets.flags & (F_SYN | F_FIN | F_RST | F_ACK) == F_ACK
    plain &= ~packets.bad_csum
    plain &= packets.window != 0
    if cut_is_gap:
        plain &= packets.payload_cap >= packets.payload_len
    return plain


def _take(  # noqa: PLR0915 (one column after the other)
    store: Store, slots: I64, index: I64, packets: Packets, low_sends: Bool, clock: I64
) -> Bool:
    """Apply packet index[k] to row slots[k]; return bool[k]: whose it could. No slot twice.

    A row that is refused is not changed.
    """
    rows = store.fronts(slots)
    flat = rows.reshape(-1)
    asks = low_sends[index] == (rows[:, LOW] != 0)
    begin = np.arange(0, len(flat), FRONT)
    # Where the block of the sender begins in the flat rows, and that of its peer.
    mine = begin + np.where(asks, ORIG, RESP)
    peer = begin + np.where(asks, RESP, ORIG)

    def of(block: I64, column: int) -> I64:
        return flat[column:].take(block)

    # As steady.run says, of states, of order, of numbers. What must be nought is gathered in odd.
    odd = rows[:, DEFER] | rows[:, CLOSING]
    for side in (ORIG, RESP):
        odd |= rows[:, side + FIN] | rows[:, side + SKIP]
        odd |= rows[:, side + REAS] ^ rows[:, side + SEQ]
        odd |= (rows[:, side + STATE] - PARTIAL_SIDE) >> 1  # that, or ESTABLISHED, which is next
    before, length = of(mine, SEQ), packets.payload_len[index]
    odd |= (packets.seq[index] - of(mine, START) - before) & 0xFFFFFFFF
    ack = packets.ack[index].astype(np.int64)
    since, known = ack - of(peer, START), of(peer, ACK)
    acked = known + (since - known).astype(np.int32)
    ok: Bool = (odd == 0) & (ack != 0) & (acked >= 0)
    ok &= (since - of(peer, SEQ)).astype(np.int32) <= 0
    top = before + length
    grew = length > 0
    much = np.flatnonzero((top > UNACKED_BYTES) & grew)
    if len(much):
        crowded = top[much] - of(mine[much], TRIM) > HELD_BYTES
        ok[much] &= ~crowded & (of(mine[much], ACK) > 1)
    unsettled = np.flatnonzero((rows[:, SNIFF] & _SETTLED == 0) & grew)
    if len(unsettled):  # to be looked into
        ok[unsettled] &= ~service.hungry(rows[unsettled, SNIFF], asks[unsettled])
    tick, due, idle = clock[index], store.due[slots], rows[:, IDLE]
    ok &= np.minimum(due, rows[:, SEEN] + idle) > tick

    ts = packets.ts[index]
    flat[SEQ:][mine] = flat[REAS:][mine] = top
    high = of(mine, HIGH)
    flat[HIGH:][mine] = np.where(grew, np.maximum(high, top), high)
    flat[ACK:][peer] = np.maximum(known, acked)
    flat[TRIM:][peer] = np.maximum(of(peer, TRIM), acked)
    flat[PKTS:][mine] = of(mine, PKTS) + 1
    flat[IPB:][mine] = of(mine, IPB) + packets.ip_len[index]
    nameless = np.flatnonzero(of(mine, MAC) == 0)
    if len(nameless):
        flat[MAC:][mine[nameless]] = packets.src_mac[index[nameless]].astype(np.int64)
    rows[:, LAST] = np.maximum(rows[:, LAST], ts)
    rows[:, SEEN] = tick
    bit = np.where(grew, B_DATA, B_ACK) << np.where(asks, 0, 16)
    news = ok & (rows[:, SEENHIST] & bit == 0)
    rows[:, SEENHIST] |= bit
    opens = np.flatnonzero(ok & (due == NEVER))
    if len(opens):
        rows[opens, OPENED] = ts[opens]
        when = boundary(rows[opens, BORN], tick[opens])
        store.due[slots[opens]] = when
        store.wake(slots[opens], when)
    end = tick + idle
    if ok.all():
        store.put_fronts(slots, rows)
        store.deadline[slots] = end
    else:
        some = np.flatnonzero(ok)
        store.put_fronts(slots[some], rows.take(some, axis=0))
        store.deadline[slots[some]] = end[some]
    if news.any():
        letter = np.where(grew[news], b"D", b"A")
        store.write(slots[news], np.where(asks[news], letter, np.char.lower(letter)))
    return ok

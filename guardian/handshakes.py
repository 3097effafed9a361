"""Handshakes and closes of many TCP connections at once, where they go as they should.

What tcp.packet does to one row is done here by column for a SYN, its answer (SYN-ACK or RST), a
FIN and a RST in order. Each function takes event at[k] for row slots[k], and returns bool[k]:
whose it took. What it refuses it has not changed.
"""

from __future__ import annotations

import numpy as np

from guardian.connstate import (
    ACK,
    ATTEMPT,
    CLOSED,
    CLOSED_SIDE,
    CLOSING,
    DEFER,
    EOF,
    ESTABLISHED,
    FIN,
    FINSEQ,
    FIRST,
    H_FIN,
    H_RST,
    HIGH,
    IDLE,
    INACTIVE,
    IPB,
    LAST,
    LOW,
    MAC,
    ORIG,
    PARTIAL,
    PARTIAL_SIDE,
    PKTS,
    PREV,
    REAS,
    RESET,
    RESP,
    SEEN,
    SEENHIST,
    SEQ,
    SKIP,
    START,
    STATE,
    SYN_ACK_SENT,
    SYN_SENT,
    TRIM,
)  # fmt: skip
from guardian.connstore import Store
from guardian.events import Columns, wrapped
from guardian.history import B_ACK, B_DATA, B_FIN, B_RST, B_SYN
from guardian.reassembly import HELD_BYTES, UNACKED_BYTES
from guardian.tables import I64, Array, Bool
from guardian.tcp import F_ACK, F_RST, F_SYN, TCP_IDLE_NS


def _count(rows: Array, side: Array | int, events: Columns, at: I64) -> None:
    """Count the packet for its side, and note when it was seen."""
    every = np.arange(len(rows))
    rows[every, side + PKTS] += 1
    rows[every, side + IPB] += events["ip_len"][at]
    mac = rows[every, side + MAC]
    rows[every, side + MAC] = np.where(mac != 0, mac, events["mac"][at].astype(np.int64))
    rows[:, LAST] = np.maximum(rows[:, LAST], events["ts"][at])
    rows[:, SEEN] = events["tick"][at]


def open_(store: Store, slots: I64, at: I64, events: Columns) -> Bool:
    """The first packet of a connection is a SYN of its originator."""
    rows = store.ints[slots]
    ok: Bool = (events["flags"][at] & F_ACK == 0) & (events["length"][at] == 0)
    ok &= (rows[:, FIRST] == 0) & (rows[:, SEENHIST] == 0) & (rows[:, ORIG + STATE] == INACTIVE)
    ok &= events["low"][at] == (rows[:, LOW] != 0)
    rows, slots, at = rows[ok], slots[ok], at[ok]
    _count(rows, ORIG, events, at)
    rows[:, ORIG + STATE] = SYN_SENT
    rows[:, ORIG + START] = events["seq"][at]
    rows[:, ORIG + SEQ] = 1
    rows[:, SEENHIST] = B_SYN
    rows[:, FIRST] = 1
    rows[:, ATTEMPT] = events["tick"][at]
    store.ints[slots] = rows
    store.write(slots, b"S")
    return ok


def first(store: Store, slots: I64, at: I64, events: Columns) -> Bool:
    """The first packet is no SYN: data or an acknowledgement, a SYN-ACK, a RST.

    So begin connections that were there before the capture, and floods of such packets.
    """
    rows = store.ints[slots]
    flags, length = events["flags"][at], events["length"][at].astype(np.int64)
    syn, rst, acks = (flags & bit != 0 for bit in (F_SYN, F_RST, F_ACK))
    ok: Bool = (rows[:, FIRST] == 0) & (rows[:, SEENHIST] == 0) & (events["count"][at] == 1)
    ok &= (rows[:, ORIG + STATE] == INACTIVE) & (rows[:, RESP + STATE] == INACTIVE)
    ok &= (length == 0) | (~(syn | rst) & (length <= UNACKED_BYTES))
    rows, slots, at, length = rows[ok], slots[ok], at[ok], length[ok]
    syn, rst, acks = syn[ok], rst[ok], acks[ok]
    every = np.arange(len(rows))
    asks = events["low"][at] == (rows[:, LOW] != 0)
    side = np.where(asks, ORIG, RESP)
    peer = ORIG + RESP - side
    _count(rows, side, events, at)
    rows[:, FIRST] = np.where(asks, 1, 2)
    rows[:, PARTIAL] = asks | ~syn
    seq = events["seq"][at].astype(np.int64)
    rows[every, side + START] = np.where(syn, seq, (seq - 1) & 0xFFFFFFFF)
    rows[every, side + SEQ] = 1 + length
    rows[every, side + REAS] = 1 + length
    rows[every, side + HIGH] = np.where(length > 0, 1 + length, 0)
    ack = events["ack"][at].astype(np.int64)
    rows[every, peer + START] = np.where(acks, (ack - 1) & 0xFFFFFFFF, 0)
    rows[every, side + STATE] = np.select(
        [syn & asks, syn, rst], [SYN_ACK_SENT, ESTABLISHED, RESET], PARTIAL_SIDE
    )
    half = syn & asks
    rows[:, ATTEMPT] = np.where(half, rows[:, SEEN], 0)
    rows[:, IDLE] = np.where(half, rows[:, IDLE], np.maximum(rows[:, IDLE], TCP_IDLE_NS))
    rows[every, side + H_RST] = rst
    rows[every, side + EOF] = rows[every, side + CLOSED] = rst
    rows[:, CLOSING] = np.where(rst, rows[:, SEEN], 0)
    bit = np.select([syn, rst, length > 0, acks], [B_SYN, B_RST, B_DATA, B_ACK], 0)
    rows[:, SEENHIST] = bit << np.where(asks, 0, 16)
    store.ints[slots] = rows
    letter = np.select([syn, rst, length > 0], [b"H", b"R", b"D"], b"A")
    letter = np.where(asks, letter, np.char.lower(letter))
    store.write(slots[bit != 0], letter[bit != 0])
    return ok


def answer(store: Store, slots: I64, at: I64, events: Columns) -> Bool:
    """The responder answers a SYN with a SYN-ACK, or refuses by a RST."""
    rows = store.ints[slots]
    flags, ack, seq = events["flags"][at], events["ack"][at], events["seq"][at].astype(np.int64)
    syn = flags & F_SYN != 0
    acks = flags & F_ACK != 0
    ok: Bool = (acks | ~syn) & (events["length"][at] == 0) & (rows[:, PARTIAL] == 0)
    ok &= events["low"][at] == (rows[:, LOW] == 0)
    ok &= (rows[:, ORIG + STATE] == SYN_SENT) & (rows[:, FIRST] == 1) & (rows[:, ORIG + SEQ] == 1)
    ok &= ~acks | (wrapped(ack - rows[:, ORIG + START]) == 1)
    ok &= (rows[:, ORIG + CLOSED] == 0) & (rows[:, CLOSING] == 0) & (rows[:, ORIG + FIN] == 0)
    ok &= rows[:, RESP + PKTS] == 0
    rows, slots, at, syn, seq = rows[ok], slots[ok], at[ok], syn[ok], seq[ok]
    _count(rows, RESP, events, at)
    rows[:, RESP + START] = np.where(syn, seq, (seq - 1) & 0xFFFFFFFF)
    rows[:, RESP + SEQ] = 1
    rows[:, SEENHIST] |= np.where(syn, B_SYN << 16, B_RST << 16)
    rows[:, RESP + STATE] = np.where(syn, ESTABLISHED, RESET)
    rows[:, RESP + H_RST] = np.where(syn, 0, 1)
    rows[:, IDLE] = np.maximum(rows[:, IDLE], TCP_IDLE_NS)
    rows[:, FIRST] |= 2
    rows[:, PARTIAL] = ~syn
    rows[:, RESP + EOF] = rows[:, RESP + CLOSED] = ~syn
    rows[:, CLOSING] = np.where(syn, 0, rows[:, SEEN])
    shaken = rows[syn]
    shaken[:, ORIG + ACK] = 1
    shaken[:, ORIG + PREV] = SYN_SENT
    shaken[:, ORIG + STATE] = ESTABLISHED
    rows[syn] = shaken
    store.ints[slots] = rows
    store.write(slots, np.where(syn, b"h", b"r"))
    return ok


def end(store: Store, slots: I64, at: I64, events: Columns) -> Bool:
    """A side of an established connection ends in order, by FIN or by RST."""
    rows = store.ints[slots]
    every = np.arange(len(rows))
    asks = events["low"][at] == (rows[:, LOW] != 0)
    side = np.where(asks, ORIG, RESP)
    peer = ORIG + RESP - side
    flags, length = events["flags"][at], events["length"][at].astype(np.int64)
    rst, acks = flags & F_RST != 0, flags & F_ACK != 0
    top, bound, known = rows[every, side + SEQ], rows[every, peer + SEQ], rows[every, peer + ACK]
    ack = events["ack"][at].astype(np.int64)
    acked = known + wrapped(ack - rows[every, peer + START] - known)
    over = rows[every, peer + STATE] == CLOSED_SIDE
    letter = np.where(rst, B_RST, B_FIN) << np.where(asks, 0, 16)

    ok: Bool = (rows[:, CLOSING] == 0) & (rows[:, DEFER] == 0) & (rows[:, SEENHIST] & letter == 0)
    ok &= (rows[every, side + STATE] == ESTABLISHED) & (rows[:, FIRST] == 3)
    ok &= (rows[every, peer + STATE] == ESTABLISHED) | over
    ok &= in_order(rows, every, side) & in_order(rows, every, peer)
    ok &= (events["seq"][at] - rows[every, side + START] - top) & 0xFFFFFFFF == 0
    ok &= ~acks | ((acked >= 0) & (acked <= bound) & (ack != 0))
    ok &= rows[every, side + ACK] <= top
    end_ = top + length
    crowded = (rows[every, side + ACK] <= 1) & (end_ > UNACKED_BYTES)
    crowded |= end_ - rows[every, side + TRIM] > HELD_BYTES
    ok &= (length == 0) | ~(crowded | rst)
    heard = np.where(over, np.minimum(acked, rows[every, peer + FINSEQ] - 1), acked)
    trim = np.where(acks, np.maximum(rows[every, peer + TRIM], heard), rows[every, peer + TRIM])
    ok &= rst | (rows[every, peer + HIGH] <= trim)  # else the close waits

    rows, slots, at, side, peer = rows[ok], slots[ok], at[ok], side[ok], peer[ok]
    every, rst, end_, top = every[: len(rows)], rst[ok], end_[ok], top[ok]
    _count(rows, side, events, at)
    rows[every, side + SEQ] = np.where(rst, top, end_ + 1)
    rows[every, side + REAS] = end_
    high = rows[every, side + HIGH]
    rows[every, side + HIGH] = np.where(length[ok] > 0, np.maximum(high, end_), high)
    rows[every, peer + ACK] = np.where(acks[ok] & ~rst, np.maximum(known[ok], acked[ok]), known[ok])
    rows[every, peer + TRIM] = trim[ok]
    rows[every, side + np.where(rst, H_RST, H_FIN)] = end_
    rows[every, side + FIN] = ~rst
    rows[every, side + FINSEQ] = np.where(rst, rows[every, side + FINSEQ], end_ + 1)
    rows[every, side + PREV] = ESTABLISHED
    rows[every, side + STATE] = np.where(rst, RESET, CLOSED_SIDE)
    rows[every, side + EOF] = rows[every, side + CLOSED] = 1
    rows[:, CLOSING] = np.where(rst | over[ok], rows[:, SEEN], 0)
    rows[:, FIRST] |= np.where(side == ORIG, 1, 2)
    rows[:, SEENHIST] |= letter[ok]
    store.ints[slots] = rows
    store.write(slots, np.where(side == ORIG, np.where(rst, b"R", b"F"), np.where(rst, b"r", b"f")))
    return ok


def in_order(rows: Array, every: I64 | slice, side: Array | int) -> Bool:
    """Return bool[rows]: nothing of the side is missing, and if it closed, that is done with."""
    over = rows[every, side + STATE] == CLOSED_SIDE
    done = (rows[every, side + EOF] != 0) & (rows[every, side + CLOSED] != 0)
    fits = rows[every, side + REAS] == rows[every, side + SEQ] - over
    fits &= (rows[every, side + SKIP] == 0) & ((rows[every, side + FIN] != 0) == over)
    whole: Bool = fits & (~over | (done & (rows[every, side + FINSEQ] == rows[every, side + SEQ])))
    return whole

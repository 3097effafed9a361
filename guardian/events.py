"""The packets of some connections as events: control packets one by one, plain runs as one.

A run is a stretch of one connection's packets that only move data forward: in order, without
control flags, acknowledging nothing that was not seen. What a run does to a connection
follows from a few sums, so that Python handles a run where it would handle each packet.
Whether it may (the state of the connection, the numbers it begins with) apply() finds out.
"""

from __future__ import annotations

import numpy as np

from guardian.connstate import (
    ACK,
    CLOSING,
    DEFER,
    ESTABLISHED,
    HIGH,
    IPB,
    LAST,
    MAC,
    ORIG,
    PARTIAL_SIDE,
    PKTS,
    REAS,
    RESP,
    SEEN,
    SEENHIST,
    SEQ,
    SKIP,
    START,
    STATE,
    TRIM,
    Row,
)  # fmt: skip
from guardian.history import B_ACK, B_DATA, once
from guardian.reassembly import HELD_BYTES, UNACKED_BYTES
from guardian.tables import I64, U32, Array, Bool, Packets
from guardian.tcp import F_ACK, signed

FAR = 1 << 62
_CONTROL = 1 | 2 | 4


Columns = dict[str, Array]
Lists = dict[str, list[int]]


def cut(  # noqa: PLR0915 (one column after the other)
    index: I64,
    place: I64,
    low: Bool,
    packets: Packets,
    clock: I64,
    piece: I64,
    *,
    cut_is_gap: bool,
) -> Columns:
    """Cut packets, sorted by connection and time, into events; return columns of events.

    index: the packets; place: the number of each one's connection; piece: the slice in which
    each lies, for a run ends with a slice. A column with two values, for the low and the high end
    of the key, has _l and _h in its name; `single` marks the packets that are no part of a run
    whatever is around them.
    """
    m = len(index)
    at = np.arange(m)
    seq, ack = packets.seq[index], packets.ack[index]
    flags = packets.flags[index]
    length = packets.payload_len[index]
    captured = packets.payload_cap[index] if cut_is_gap else length
    ip_len = packets.ip_len[index]
    window = packets.window[index]
    bad = packets.bad_csum[index]
    tick = clock[index]
    single = (
        (flags & (_CONTROL | F_ACK) != F_ACK)
        | bad
        | (window == 0)
        | (captured < length)
        | (packets.proto[index] != 6)
    )
    same, opposite = _before(at, low)
    breaks = single.copy()
    breaks[0] = True
    breaks[1:] |= single[:-1] | (place[1:] != place[:-1]) | (piece[1:] != piece[:-1])
    start = np.maximum.accumulate(np.where(breaks, at, 0))
    end_seq = (seq + length.astype(np.uint32)).astype(np.uint32)
    odd = (same >= start) & ((seq != end_seq[same]) | (_ahead(ack, ack[same]) < 0))
    odd |= (opposite >= start) & (_ahead(ack, end_seq[opposite]) > 0)
    breaks |= odd
    breaks[1:] |= odd[:-1]

    first = np.flatnonzero(breaks)
    run = np.cumsum(breaks) - 1
    stop = np.append(first[1:], m)
    high = ~low
    data = length > 0
    columns: Columns = {
        "place": place[first],
        "single": single[first],
        "first": first,
        "count": stop - first,
        "captured": captured[first],
        **of_packets(index[first], low[first], packets, clock),
    }
    columns["ts_max"] = np.maximum.reduceat(packets.ts[index], first)
    columns["tick_end"] = tick[stop - 1]
    for name, side in (("l", low), ("h", high)):
        earliest = np.minimum.reduceat(np.where(side, at, FAR), first)
        latest = np.maximum.reduceat(np.where(side, at, 0), first)
        begin = np.minimum(earliest, m - 1)
        columns[f"first_{name}"] = earliest
        columns[f"seq_{name}"] = seq[begin]
        columns[f"ack_{name}"] = ack[latest]
        columns[f"pkts_{name}"] = np.add.reduceat(side.astype(np.int64), first)
        columns[f"ipb_{name}"] = np.add.reduceat(np.where(side, ip_len, 0), first)
        columns[f"bytes_{name}"] = np.add.reduceat(np.where(side, length, 0), first)
        columns[f"data_{name}"] = np.minimum.reduceat(np.where(side & data, at, FAR), first)
        columns[f"pure_{name}"] = np.minimum.reduceat(np.where(side & ~data, at, FAR), first)
        columns[f"mac_{name}"] = packets.src_mac[index[begin]]
    # Bytes of an end before the other's first packet, and before its first acknowledgement beyond
    # that packet's: how much may have been in flight without any.
    ends = stop - 1
    for name, side, other in (("l", low, "h"), ("h", high, "l")):
        sent = np.cumsum(np.where(side, length, 0))
        base = sent[first] - np.where(side[first], length[first], 0)
        spoke = columns[f"first_{other}"]
        opening = ack[np.minimum(spoke, m - 1)][run]
        raised = np.minimum.reduceat(np.where(~side & (ack != opening), at, FAR), first)
        columns[f"ack1_{name}"] = ack[np.minimum(spoke, m - 1)]
        columns[f"lead1_{name}"] = sent[np.minimum(spoke, ends)] - base
        columns[f"lead2_{name}"] = sent[np.minimum(raised, ends)] - base
    # The last acknowledgement before the other end spoke: it may not pass what was known.
    turn = np.maximum(columns["first_l"], columns["first_h"])
    columns["lead_ack"] = ack[np.minimum(turn, stop) - 1]
    return columns


def of_packets(index: I64, low: Bool, packets: Packets, clock: I64) -> Columns:
    """Return what an event says of its first packet; low: bool[index], which the low end sent."""
    return {
        "index": index,
        "low": low,
        "ts": packets.ts[index],
        "tick": clock[index],
        "flags": packets.flags[index],
        "seq": packets.seq[index],
        "ack": packets.ack[index],
        "length": packets.payload_len[index],
        "window": packets.window[index],
        "ip_len": packets.ip_len[index],
        "bad": packets.bad_csum[index],
        "mac": packets.src_mac[index],
    }


def lists(columns: Columns) -> Lists:
    """Return the events' columns as lists, for Python to walk over."""
    return {name: column.tolist() for name, column in columns.items()}


def _before(at: I64, low: Bool) -> tuple[I64, I64]:
    """Return for each packet the one before it from its own end, and from the other; -1: none."""
    last_low = np.maximum.accumulate(np.where(low, at, -1))
    last_high = np.maximum.accumulate(np.where(low, -1, at))
    before_low = np.concatenate(([-1], last_low[:-1]))
    before_high = np.concatenate(([-1], last_high[:-1]))
    return np.where(low, before_low, before_high), np.where(low, before_high, before_low)


def wrapped(difference: Array) -> Array:
    """Return differences of sequence numbers as signed 32-bit numbers."""
    return ((difference + 0x80000000) & 0xFFFFFFFF) - 0x80000000


def _ahead(a: U32, b: U32) -> Array:
    return (a - b).view(np.int32)


def apply(  # noqa: PLR0911, PLR0912 (each refusal has its own reason)
    row: Row, events: Lists, k: int, low: bool
) -> bool:
    """Apply run k; low: the originator is the low end. Return false where it must go one by one.

    A run that is refused has changed nothing.
    """
    if row[CLOSING] or row[DEFER]:
        return False
    for side in (ORIG, RESP):
        if row[side + STATE] not in (ESTABLISHED, PARTIAL_SIDE) or row[side + SKIP]:
            return False
        if row[side + REAS] != row[side + SEQ]:
            return False
    sides = ((ORIG, "l"), (RESP, "h")) if low else ((ORIG, "h"), (RESP, "l"))
    marks = []
    for (side, name), (peer, _) in (sides, sides[::-1]):
        if not events["pkts_" + name][k]:
            continue
        top = row[side + SEQ]
        if (events["seq_" + name][k] - row[side + START] - top) & 0xFFFFFFFF:
            return False
        sent = events["bytes_" + name][k]
        if sent:
            if row[side + ACK] <= 1:
                answered = signed(events["ack1_" + name][k] - row[side + START]) > 1
                lead = events[("lead1_" if answered else "lead2_") + name][k]
                if top + lead > UNACKED_BYTES:
                    return False
            if top + sent - row[side + TRIM] > HELD_BYTES:
                return False
        known = row[peer + ACK]
        acked = known + signed(events["ack_" + name][k] - row[peer + START] - known)
        if acked < 0 or events["ack_" + name][k] == 0:
            return False
        marks.append((side, peer, name, top + sent, acked))
    _, peer, _, _, _ = _leading(marks, events, k)
    known = row[peer + SEQ]
    if signed(events["lead_ack"][k] - row[peer + START] - known) > 0:
        return False

    order = []
    for side, peer, name, top, acked in marks:
        row[side + SEQ] = row[side + REAS] = top
        if events["bytes_" + name][k]:
            row[side + HIGH] = max(row[side + HIGH], top)
        row[peer + ACK] = max(row[peer + ACK], acked)
        row[peer + TRIM] = max(row[peer + TRIM], acked)
        row[side + PKTS] += events["pkts_" + name][k]
        row[side + IPB] += events["ipb_" + name][k]
        if not row[side + MAC]:
            row[side + MAC] = events["mac_" + name][k]
        order.append((events["data_" + name][k], side, B_DATA, b"D"))
        order.append((events["pure_" + name][k], side, B_ACK, b"A"))
    if row[SEENHIST] & _BOTH != _BOTH:
        for when, side, bit, letter in sorted(order):
            if when < FAR:
                once(row, side, bit, letter)
    row[LAST] = max(row[LAST], events["ts_max"][k])
    row[SEEN] = events["tick_end"][k]
    return True


_BOTH = (B_DATA | B_ACK) * 0x10001


def _leading(
    marks: list[tuple[int, int, str, int, int]], events: Lists, k: int
) -> tuple[int, int, str, int, int]:
    """Return the side that speaks first in run k."""
    if len(marks) == 1:
        return marks[0]
    first, second = marks
    return first if events["first_" + first[2]][k] < events["first_" + second[2]][k] else second

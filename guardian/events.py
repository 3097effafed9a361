"""The packets of some connections as events: control packets one by one, plain runs as one.

A run is a stretch of one connection's packets that only move data forward: in order, without
control flags, acknowledging nothing that was not seen. What a run does to a connection
follows from a few sums, so that Python handles a run where it would handle each packet.
Whether it may (the state of the connection, the numbers it begins with) apply() finds out.
"""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Sorted:
    """Packets sorted by connection and time."""

    index: I64
    """Which they are."""
    low: Bool
    """The low end of the key sent it."""
    ack: U32
    length: I64


class Cut(Columns):
    """Columns of events, and the packets that they were cut from.

    What few events are asked for is not made for all: firsts() and leads().
    """

    def __init__(self, columns: Columns, order: Sorted) -> None:
        super().__init__(columns)
        self.order = order

    def members(self, at: I64) -> tuple[I64, I64]:
        """Return where the packets of events lie in the order, and where each event's begin among
        those."""
        first, count = self["first"][at], self["count"][at]
        begins = np.cumsum(count) - count
        which = np.arange(int(count.sum())) + np.repeat(first - begins, count)
        return which, begins

    def firsts(self, at: I64) -> Columns:
        """Return of events where each end first sent data, and a packet without, FAR for never."""
        which, begins = self.members(at)
        low, data = self.order.low[which], self.order.length[which] > 0
        found: Columns = {}
        for name, side in (("l", low), ("h", ~low)):
            for kind, mine in (("data", side & data), ("pure", side & ~data)):
                where = np.where(mine, which, FAR)
                found[f"{kind}_{name}"] = np.minimum.reduceat(where, begins)
        return found

    def leads(self, at: I64) -> Columns:
        """Return of events the bytes of an end before the other's first packet, and before its
        first acknowledgement beyond that packet's: how much may have been in flight without any."""
        which, begins = self.members(at)
        first, count = self["first"][at], self["count"][at]
        last = begins + count - 1
        low, ack, length = (
            column[which] for column in (self.order.low, self.order.ack, self.order.length)
        )
        place = np.arange(len(which))
        found: Columns = {}
        for name, side, other in (("l", low, "h"), ("h", ~low, "l")):
            size = np.where(side, length, 0)
            sent = np.cumsum(size)
            base = sent[begins] - size[begins]
            opening = np.repeat(self[f"ack1_{name}"][at], count)
            raised = np.where(~side & (ack != opening), place, FAR)
            raised = np.minimum.reduceat(raised, begins)
            spoke = self[f"first_{other}"][at] - first + begins
            found[f"lead1_{name}"] = sent[np.minimum(spoke, last)] - base
            found[f"lead2_{name}"] = sent[np.minimum(raised, last)] - base
        return found

    def some(self, mask: Bool) -> Columns:
        """Return all columns of some events, those that are made on demand, too."""
        at = np.flatnonzero(mask)
        columns = {name: column[at] for name, column in self.items()}
        return {**columns, **self.firsts(at), **self.leads(at)}


def cut(
    index: I64,
    place: I64,
    low: Bool,
    packets: Packets,
    clock: I64,
    opens: Bool,
    *,
    cut_is_gap: bool,
) -> Cut:
    """Cut packets, sorted by connection and time, into events; return columns of events.

    index: the packets; place: the number of each one's connection; opens: those that are in
    another slice than the one before, for a run ends with a slice. A column with two values, for
    the low and the high end of the key, has _l and _h in its name; `single` marks the packets that
    are no part of a run whatever is around them.
    """
    m = len(index)
    seq, ack = packets.seq.take(index), packets.ack.take(index)
    length = packets.payload_len.take(index)
    captured = packets.payload_cap.take(index) if cut_is_gap else length
    single = packets.flags.take(index) & (_CONTROL | F_ACK) != F_ACK
    single |= packets.bad_csum.take(index)
    single |= packets.window.take(index) == 0
    single |= packets.proto.take(index) != 6
    single |= captured < length
    breaks = single | opens
    breaks[0] = True
    breaks[1:] |= single[:-1]
    breaks[1:] |= place[1:] != place[:-1]

    # Each end's packets for themselves, and what the other end had sent before each.
    ends = (np.flatnonzero(low), np.flatnonzero(~low))
    run = np.cumsum(breaks)
    start = np.flatnonzero(breaks).take(run - 1)
    after = seq + length.astype(np.uint32)
    odd = np.empty(m, dtype=np.bool_)
    for mine, others in (ends, ends[::-1]):
        odd[mine] = _odd(mine, others, run, start, seq, after, ack)
    breaks |= odd
    breaks[1:] |= odd[:-1]

    first = np.flatnonzero(breaks)
    stop = np.append(first[1:], m)
    columns: Columns = {
        "place": place[first],
        "single": single[first],
        "first": first,
        "count": stop - first,
        "captured": captured[first],
        **of_packets(index[first], low[first], packets, clock),
    }
    columns["tick_end"] = clock[index[stop - 1]]
    in_time = packets.ts is clock or np.array_equal(packets.ts, clock)
    columns["ts_max"] = (
        columns["tick_end"] if in_time else np.maximum.reduceat(packets.ts.take(index), first)
    )
    lows = np.append(0, np.cumsum(low))
    from_low, upto_low = lows[first], lows[stop]
    sides = (("l", ends[0], from_low, upto_low), ("h", ends[1], first - from_low, stop - upto_low))
    for name, mine, begin, end in sides:
        where = np.append(mine, FAR)
        earliest = where[begin]
        columns[f"first_{name}"] = earliest = np.where(earliest < stop, earliest, FAR)
        columns[f"pkts_{name}"] = pkts = end - begin
        columns[f"ack_{name}"] = ack[np.where(pkts > 0, where[end - 1], 0)]
        opening = np.minimum(earliest, m - 1)
        columns[f"seq_{name}"] = seq[opening]
        columns[f"mac_{name}"] = packets.src_mac[index[opening]]
        columns[f"ack1_{'h' if name == 'l' else 'l'}"] = ack[opening]
        for amount, each in (("bytes", length.take(mine)), ("ipb", packets.ip_len[index[mine]])):
            total = np.append(0, np.cumsum(each))
            columns[f"{amount}_{name}"] = total[end] - total[begin]
    # The last acknowledgement before the other end spoke: it may not pass what was known.
    turn = np.maximum(columns["first_l"], columns["first_h"])
    columns["lead_ack"] = ack[np.minimum(turn, stop) - 1]
    return Cut(columns, Sorted(index, low, ack, length))


def _odd(mine: I64, others: I64, run: I64, start: I64, seq: U32, after: U32, ack: U32) -> Bool:
    """Return whose of an end's packets do not follow on what both ends sent before in their run."""
    a, r = ack.take(mine), run.take(mine)
    odd: Bool = np.zeros(len(mine), dtype=np.bool_)
    odd[1:] = seq.take(mine[1:]) != after.take(mine[:-1])
    odd[1:] |= _ahead(a[1:], a[:-1]) < 0
    odd[1:] &= r[1:] == r[:-1]
    before = np.append(others, -1).take(mine - np.arange(len(mine)) - 1)
    odd |= (before >= start.take(mine)) & (_ahead(a, after.take(before)) > 0)
    return odd


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

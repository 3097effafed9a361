"""Slices of log records: what a live connection would have said, cut from its finished record."""

from __future__ import annotations

import numpy as np

from guardian.const import MAX_SLICES_PER_RECORD, NS, SLICE_FIRST_NS, SLICE_NEXT_NS
from guardian.tables import CONN_STATES, F64, I64, Bool, Conns

_FIRST = SLICE_FIRST_NS / NS
_NEXT = SLICE_NEXT_NS / NS
_CHUNK = 1 << 18
"""Slices looked at together: a log full of day-long records takes tens of megabytes, not more."""

_TCP = 6
_STATE = {name: index for index, name in enumerate(CONN_STATES)}
_OPENED = np.array([_STATE[s] for s in ("S1", "SF", "S2", "S3", "RSTO", "RSTR")])
"""TCP states of a connection that was established: S1 until it ends."""
_CLOSED = np.array([_STATE[s] for s in ("SF", "REJ", "RSTO", "RSTR", "RSTOS0", "RSTRH")])
"""TCP states of a connection that is over, and is told so after _CLOSE."""
_CLOSE = 5.0
"""Seconds that a closed connection waits for stragglers, as in tcp.py."""
_FRONT_TCP, _FRONT = 5, 2
"""Packets each way, but at most half of them, that go into the first slice: handshake and first
words. In 699 long connections of 25 sources this halves the error of the first slice's packets
(mean factor for TCP of 15 to 65 s: 2.1 where an even spread has 4.5; over 300 s 2.0, not 6.0)."""
_BURST_TCP = 2
"""Packets of the side that sent more come so many at a time: a keep-alive and its confirmation."""
_ENDINGS = np.frombuffer(b"FfRr", dtype=np.uint8)


def cut(records: Conns) -> tuple[Conns, I64]:
    """Cut finished records into slices; return them and each one's index into records.

    A record of at most 5 s is one slice, equal to it. A longer one is cut at 5 s and then every
    60 s, up to MAX_SLICES_PER_RECORD; the last slice takes what is left. This is approximate: a
    log does not say when the packets came. A few are taken to be the greeting (_FRONT), the others
    spread evenly over the time, the last at the end; bytes go with the packets. The parts are
    integers and sum exactly to the record. A slice without packets is not made; every record has
    one.

    Until its last slice, a TCP connection that was established is S1 and its history has no end.
    `told` is the slice's boundary, as for packets, or the end of a closed TCP connection if that
    is earlier. The slices come in the order of (told, ts, uid).
    """
    n = len(records)
    count = np.ones(n, dtype=np.int64)
    long = (records.duration > _FIRST) & (records.orig_pkts + records.resp_pkts > 0)
    whole = np.ceil((records.duration[long] - _FIRST) / _NEXT)
    count[long] += np.clip(whole, 1, MAX_SLICES_PER_RECORD - 1).astype(np.int64)
    parts, parents = [], []
    for begin, end in _chunks(count):
        part, parent = _cut(records.take(slice(begin, end)), count[begin:end])
        parts.append(part)
        parents.append(parent + begin)
    if not parts:
        return Conns.empty(), np.zeros(0, dtype=np.int64)
    slices, parent = Conns.concat(parts), np.concatenate(parents)
    order = np.lexsort((slices.uid, slices.ts, slices.told))
    return slices.take(order), parent[order]


def _chunks(count: I64) -> list[tuple[int, int]]:
    """Return ranges of records whose slices together are about _CHUNK."""
    if not len(count):
        return []
    group = (np.cumsum(count) - count) // _CHUNK
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    ends = np.append(starts[1:], len(count))
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def _cut(records: Conns, count: I64) -> tuple[Conns, I64]:
    parent = np.repeat(np.arange(len(records)), count)
    first = np.cumsum(count) - count
    number = np.arange(len(parent)) - first[parent]
    last = number == count[parent] - 1
    duration = records.duration[parent]
    begin = np.where(number == 0, 0.0, _FIRST + _NEXT * (number - 1))
    bound = _FIRST + _NEXT * number
    end = np.where(last, duration, bound)
    done = np.where(last, 1.0, end / np.where(duration > 0, duration, 1.0))

    orig_to, resp_to = _packets(records, parent, last, done)
    orig, resp = _steps(orig_to, number), _steps(resp_to, number)
    kept = (orig + resp > 0) | (number == 0)
    both = _share(orig_to + resp_to, (records.orig_pkts + records.resp_pkts)[parent])
    orig_done = _share(orig_to, records.orig_pkts[parent])
    resp_done = _share(resp_to, records.resp_pkts[parent])

    out = records.take(parent)
    out.tunnel_parents[:] = b""  # in records alone
    single = count[parent] == 1
    out.orig_pkts[:], out.resp_pkts[:] = orig, resp
    for name, share in (
        ("orig_bytes", orig_done),
        ("orig_ip_bytes", orig_done),
        ("resp_bytes", resp_done),
        ("resp_ip_bytes", resp_done),
        ("missed_bytes", both),
    ):
        column = getattr(out, name)
        column[:] = np.where(column > 0, _steps(_part(column, share, last), number), column)

    spaced = np.maximum(orig + resp, 1)
    gap = (end - begin) / spaced
    out.duration[:] = np.where(single, duration, gap * (spaced - 1))
    lag = np.where(number == 0, gap, np.where(last, 0.0, gap / 2))
    out.age[:] = np.where(single, duration, end - lag)
    _so_far(out, ~last)
    _tell(out, bound, last, duration)

    kept_parent = parent[kept]
    out = out.take(kept)
    fresh = np.flatnonzero(np.diff(kept_parent, prepend=-1))
    sizes = np.diff(np.append(fresh, len(kept_parent)))
    out.piece[:] = np.arange(len(kept_parent)) - np.repeat(fresh, sizes)
    out.final[:] = False
    out.final[fresh + sizes - 1] = True
    return out, kept_parent


def _packets(records: Conns, parent: I64, last: Bool, done: F64) -> tuple[I64, I64]:
    """Return the packets of originator and responder up to the end of each slice.

    The side that sent more is spread over the time, the other goes with it. The first packet of
    the record is in the first slice, the last one in the last.
    """
    sent, received = records.orig_pkts, records.resp_pkts
    tcp = records.proto == _TCP
    most, least = np.maximum(sent, received), np.minimum(sent, received)
    front = np.minimum(most // 2, np.where(tcp, _FRONT_TCP, _FRONT))[parent]
    burst = np.where(tcp, _BURST_TCP, 1)[parent]
    spread = _part(most[parent] - front, done, last) // burst * burst
    high = np.maximum(most - 1, 1)[parent]
    most_to = np.where(last, most[parent], np.clip(front + spread, 1, high))

    low = np.where(sent < received, np.minimum(sent, 1), 0)[parent]
    high = (least - ((most == 1) & (least == 1)))[parent]
    share = most_to / np.maximum(most[parent], 1)
    least_to = _part(least[parent], share, last)
    least_to = np.where(last, least_to, np.clip(least_to, low, high))

    leads = (sent >= received)[parent]
    return np.where(leads, most_to, least_to), np.where(leads, least_to, most_to)


def _share(so_far: I64, whole: I64) -> F64:
    """Return the share of the packets that have passed; all at once where none were counted."""
    return np.where(whole > 0, so_far / np.maximum(whole, 1), 1.0)


def _part(whole: I64, share: F64, last: Bool) -> I64:
    """Return the whole part of an amount that has passed; all of it at the end."""
    # A third of three is one, whatever the float says; where floats round, above 2**53, the sum
    # stays exact, since the last slice has what is left.
    part = np.minimum(np.floor(whole * share + 1e-6), 2.0**62).astype(np.int64)
    return np.where(last, whole, np.clip(part, 0, np.maximum(whole, 0)))


def _steps(so_far: I64, number: I64) -> I64:
    """Return what each slice adds to the sum so far of its record."""
    before = np.concatenate([[0], so_far[:-1]])
    return so_far - np.where(number == 0, 0, before)


def _so_far(out: Conns, going: Bool) -> None:
    """Take the end of a TCP connection out of the slices before it."""
    tcp = going & (out.proto == _TCP)
    out.conn_state[tcp & np.isin(out.conn_state, _OPENED)] = _STATE["S1"]
    rows = np.flatnonzero(tcp)
    for text in set(out.history[rows].tolist()):
        shorter = bytes(c for c in text if c not in _ENDINGS)
        out.history[rows[out.history[rows] == text]] = shorter


def _tell(out: Conns, bound: F64, last: Bool, duration: F64) -> None:
    """Set told: the boundary, or the end of a TCP connection that closed before it."""
    closed = last & (out.proto == _TCP) & np.isin(out.conn_state, _CLOSED)
    at = np.where(closed, np.minimum(duration + _CLOSE, bound), bound)
    # Under the cap of slices the last one may end long after its boundary.
    at = np.where(last, np.maximum(at, duration), at)
    out.told[:] = out.ts + np.rint(at * NS).astype(np.int64)

"""What arrived of each side's bytes, by numbers alone: gaps, and whether a close must wait."""

from __future__ import annotations

from guardian.connstate import (
    ACK,
    CLOSED,
    CLOSED_SIDE,
    CLOSING,
    DEFER,
    EOF,
    ESTABLISHED,
    FIN,
    FINSEQ,
    HIGH,
    HOLES,
    INACTIVE,
    LOW,
    MISSED,
    N_GAP,
    ORIG,
    PARTIAL,
    PREV,
    REAS,
    RESET,
    RESP,
    SEEN,
    SEQ,
    SKIP,
    STATE,
    SYN_SENT,
    TRIM,
    Row,
    other,
)
from guardian.history import scaled

UNACKED_BYTES = 16_384
"""Bytes in flight without any acknowledgement seen, after which none is expected."""
HELD_BYTES = 10 << 20
"""Bytes held for reassembly, after which Zeek (and we) give up on the side."""
MAX_HOLES = 64
"""Separate pieces above a hole kept for a side; more means loss beyond counting exactly."""


def size(row: Row, side: int) -> int:
    """Return the payload bytes of a side by sequence numbers."""
    if (
        row[side + PREV] == SYN_SENT
        and row[side + STATE] == RESET
        and row[other(side) + STATE] == INACTIVE
        and row[side + ACK] not in (0, 1)
    ):
        return 0  # a half-open connection was found and aborted: the numbers mislead
    top = max(row[side + SEQ], row[side + ACK])
    return int(max(top - 1 - (row[side + FIN] and top > 1), 0))


def _clean(row: Row, side: int) -> bool:
    state = row[side + STATE]
    return bool(state == ESTABLISHED or (state == CLOSED_SIDE and row[side + PREV] == ESTABLISHED))


def _gap(row: Row, side: int, length: int) -> None:
    if _clean(row, ORIG) and _clean(row, RESP):
        scaled(row, side, N_GAP, b"G")
        row[MISSED] += length


def _holes(row: Row, side: int) -> list[tuple[int, int]]:
    """Return the pieces of a side above its first hole, in order, to be changed in place."""
    if row[HOLES] is None:
        row[HOLES] = ([], [])
    pieces: list[tuple[int, int]] = row[HOLES][(side == ORIG) ^ row[LOW]]
    return pieces


def _deliver(row: Row, side: int) -> None:
    """Deliver the pieces that now follow on."""
    if row[HOLES] is None:
        return
    pieces = _holes(row, side)
    done = 0
    for start, end in pieces:
        if start > row[REAS + side]:
            break
        row[REAS + side] = max(row[REAS + side], end)
        done += 1
    del pieces[:done]


def data(row: Row, side: int, start: int, length: int) -> None:
    """Take payload of a side by its first number."""
    if row[side + SKIP]:
        return
    end = start + length
    start = max(start, row[side + ACK], row[side + TRIM])
    if end <= start:
        return
    row[side + HIGH] = max(row[side + HIGH], end)
    delivered = row[side + REAS]
    unacked = row[side + ACK] <= 1
    if start <= delivered:
        if end > delivered:
            row[side + REAS] = end
            _deliver(row, side)
            if unacked and size(row, side) > UNACKED_BYTES:
                row[side + TRIM] = max(row[side + TRIM], row[side + REAS])
    else:
        _hold(_holes(row, side), start, end)
    if (
        (unacked and row[side + HIGH] - row[side + REAS] > UNACKED_BYTES)
        or (row[side + HIGH] - row[side + TRIM] > HELD_BYTES and _held(row, side) > HELD_BYTES)
        or (row[HOLES] is not None and len(_holes(row, side)) > MAX_HOLES)
    ):
        row[side + SKIP] = 1
        row[side + HIGH] = row[side + TRIM]
        _holes(row, side).clear()


def _held(row: Row, side: int) -> int:
    """Return the bytes held: delivered but not acknowledged, and above a hole."""
    pieces = _holes(row, side)
    below: int = max(row[side + REAS] - row[side + TRIM], 0)
    return below + sum(end - start for start, end in pieces)


def _hold(pieces: list[tuple[int, int]], start: int, end: int) -> None:
    """Add a piece, keeping the list sorted and its pieces apart."""
    kept = []
    for low, high in pieces:
        if high < start or low > end:
            kept.append((low, high))
        else:
            start, end = min(start, low), max(end, high)
    kept.append((start, end))
    kept.sort()
    pieces[:] = kept


def acknowledged(row: Row, side: int, acked: int) -> None:
    """The other side acknowledged data of this side up to a number."""
    if row[side + FIN] and acked >= row[side + FINSEQ]:
        acked = row[side + FINSEQ] - 1
    if acked <= row[side + TRIM]:
        return
    if acked > row[side + REAS]:
        _missed(row, side, acked)
    row[side + TRIM] = acked
    _deliver(row, side)
    check_eof(row, side)


def _missed(row: Row, side: int, acked: int) -> None:
    if acked <= 2 and row[PARTIAL]:
        return  # the made-up SYN, or a keep-alive that was the first packet seen
    if not row[side + SKIP]:
        pieces = _holes(row, side) if row[HOLES] is not None else []
        while pieces and pieces[0][0] < acked:
            _gap(row, side, pieces[0][0] - row[side + REAS])
            row[side + REAS] = pieces[0][0]
            _deliver(row, side)
        if acked > row[side + REAS]:
            _gap(row, side, acked - row[side + REAS])
    row[side + REAS] = max(row[side + REAS], acked)


def _pending(row: Row, side: int) -> bool:
    """Tell whether data of the side is missing before its end."""
    if row[side + SKIP]:
        return False
    behind = row[side + SEQ] - row[side + REAS]
    if behind < 0:
        return False
    if behind > 1:
        return True
    peer = other(side)
    return bool(row[side + STATE] != RESET and row[peer + HIGH] > row[peer + TRIM])


def check_eof(row: Row, side: int) -> None:
    """Note the end of a side once all before it is there; a close that waited goes on."""
    if row[side + EOF] or not (row[side + FIN] or row[side + STATE] in (CLOSED_SIDE, RESET)):
        return
    if not _pending(row, side):
        row[side + EOF] = 1
        if row[DEFER]:
            close(row, side)
            row[DEFER] = 0


def close(row: Row, side: int) -> None:
    """Close a side, or wait for its data; the connection closes with both, a RST or silence."""
    if _pending(row, side):
        row[DEFER] = 1
        return
    row[DEFER] = 0
    if row[side + CLOSED]:
        return
    row[side + CLOSED] = 1
    peer = other(side)
    if row[side + STATE] == RESET or row[peer + CLOSED] or row[peer + STATE] == INACTIVE:
        row[CLOSING] = row[SEEN]

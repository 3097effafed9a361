"""TCP as Zeek sees it: one packet at a time, on one row of connection state.

The theory. Each side is in one of seven states: INACTIVE (nothing seen), SYN_SENT,
SYN_ACK_SENT (the originator began with a SYN-ACK), PARTIAL_SIDE (data without a SYN),
ESTABLISHED, CLOSED_SIDE (a FIN), RESET. Control packets move them; conn_state is read from
the two at the end. Bytes are counted by sequence number, from the highest seen or
acknowledged. Data that arrives in order is delivered; what is above a hole waits; an
acknowledgement that passes a hole makes it a content gap (history G, missed_bytes), but
only where both sides are established or closed from there. A close waits while data of
that side is missing. The names of Zeek's timers are in the constants below.

Runs of plain data packets take apply_run, which must say the same as packet() for each.
"""

from __future__ import annotations

from guardian.connstate import (
    ACK,
    ATTEMPT,
    BORN,
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
    H_SYN,
    HIGH,
    HISTORY,
    HOLES,
    IDLE,
    INACTIVE,
    IPB,
    LAST,
    LOW,
    MAC,
    MISSED,
    N_CSUM,
    N_GAP,
    N_RXMT,
    N_ZERO,
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
    SIDE,
    SKIP,
    START,
    STATE,
    SYN_ACK_SENT,
    SYN_SENT,
    TRIM,
    Row,
    other,
)  # fmt: skip
from guardian.const import HISTORY_BYTES, NS

F_FIN, F_SYN, F_RST, F_ACK = 1, 2, 4, 16

ATTEMPT_NS = 5 * NS
"""A SYN without answer is over after this (Zeek's tcp_attempt_delay)."""
CLOSE_NS = 5 * NS
"""A closed connection waits this long for stragglers (tcp_close_delay)."""
SETUP_IDLE_NS = 60 * NS
"""Inactivity allowed before the handshake is done."""
TCP_IDLE_NS = 300 * NS
"""Inactivity allowed after it (tcp_inactivity_timeout)."""
LINGER_FIRST_NS, LINGER_STEP_NS = 5 * NS, 6 * NS
"""A half-closed connection is looked at 5 s after its start (tcp_SYN_timeout) and then every
6 s (tcp_session_timer), and is over if it was idle for 5 s (tcp_connection_linger)."""
JUMP = 1 << 20
"""A SYN or RST whose sequence number is further off than this is not believed."""
UNACKED_BYTES = 16_384
"""Bytes in flight without any acknowledgement seen, after which none is expected."""
HELD_BYTES = 10 << 20
"""Bytes held for reassembly, after which Zeek (and we) give up on the side."""
MAX_HOLES = 64
"""Separate pieces above a hole kept for a side; more means loss beyond counting exactly."""

_POWERS = frozenset(10**k for k in range(19))
_HANDSHAKE = (INACTIVE, SYN_SENT, SYN_ACK_SENT)
_LETTERS = {letter: (letter, letter.lower()) for letter in (b"S", b"H", b"A", b"D", b"F", b"R",
            b"C", b"G", b"T", b"W", b"I", b"Q")}  # fmt: skip
# Bits in SEENHIST; the responder's are shifted by 16.
B_SYN, _B_FIN, _B_RST, _B_FINRST, B_DATA, B_ACK, _B_MULTI = 1, 2, 4, 8, 16, 32, 64


def signed(value: int) -> int:
    """Return a difference of sequence numbers as a signed 32-bit number."""
    return ((value + 0x80000000) & 0xFFFFFFFF) - 0x80000000


def write(row: Row, side: int, letter: bytes) -> None:
    """Append a letter to the history, in the case of the side."""
    if len(row[HISTORY]) < HISTORY_BYTES:
        row[HISTORY] += _LETTERS[letter][side != ORIG]


def once(row: Row, side: int, bit: int, letter: bytes) -> bool:
    """Append a letter the first time; return whether it was there before."""
    mask = bit if side == ORIG else bit << 16
    if row[SEENHIST] & mask:
        return True
    row[SEENHIST] |= mask
    write(row, side, letter)
    return False


def scaled(row: Row, side: int, counter: int, letter: bytes) -> None:
    """Count an event and append its letter at the 1st, 10th, 100th ... time."""
    row[side + counter] += 1
    if row[side + counter] in _POWERS:
        write(row, side, letter)


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


def deadline(row: Row) -> int:
    """Return the clock at which the connection is over if no packet comes."""
    if row[CLOSING]:
        return int(row[CLOSING] + CLOSE_NS)
    end = row[SEEN] + row[IDLE]
    orig, resp = row[ORIG + STATE], row[RESP + STATE]
    if resp == INACTIVE:
        if orig == INACTIVE:  # nothing but bad checksums
            end = min(end, row[BORN] + LINGER_FIRST_NS + LINGER_STEP_NS)
        elif orig in (SYN_SENT, SYN_ACK_SENT) and row[ATTEMPT]:
            end = min(end, row[ATTEMPT] + ATTEMPT_NS)
    if (row[ORIG + CLOSED] or row[RESP + CLOSED]) and (
        RESET in (orig, resp) or INACTIVE in (orig, resp)
    ):
        looks = (row[SEEN] - row[BORN]) // LINGER_STEP_NS + 1
        end = min(end, row[BORN] + LINGER_FIRST_NS + looks * LINGER_STEP_NS)
    return int(end)


def is_reuse(row: Row, flags: int, seq: int) -> bool:
    """Tell whether a packet begins a new connection on the key of a living one."""
    if not flags & F_SYN:
        return False
    side = ORIG
    if flags & F_ACK:
        if row[ORIG + STATE] != INACTIVE:
            return False
        side = RESP
    if row[ORIG + CLOSED] and row[RESP + CLOSED]:
        return True
    if seq == row[side + START]:
        return False
    reversal = (  # the SYN of a SYN-ACK that overtook it
        not flags & F_ACK
        and row[ORIG + STATE] == SYN_ACK_SENT
        and row[RESP + STATE] == INACTIVE
        and seq == row[RESP + START]
    )
    return not reversal


def packet(  # noqa: PLR0912, PLR0915 (one step after the other, as Zeek takes them)
    row: Row, side: int, ts: int, clock: int, flags: int, seq: int, ack: int,
    length: int, captured: int, window: int, ip_len: int, bad: bool, mac: int,
) -> None:  # fmt: skip
    """Apply one packet of the side to the row; bad: its checksum is wrong."""
    if bad:
        scaled(row, side, N_CSUM, b"C")
        return
    peer = other(side)
    syn, fin, rst, acks = flags & F_SYN, flags & F_FIN, flags & F_RST, flags & F_ACK
    bit = 1 if side == ORIG else 2
    if not row[FIRST] & bit:
        if side == ORIG:
            row[PARTIAL] = int(not syn or bool(acks))
        elif not row[PARTIAL]:
            row[PARTIAL] = int(not syn)
    segment = (0 if rst else length) + bool(syn) + bool(fin)
    _begin(row, side, syn, seq, segment)
    base = row[side + START]
    relative = row[side + SEQ] + signed(seq - base - row[side + SEQ])
    _letters(row, side, flags, relative, length)
    if window == 0 and not rst and row[peer + STATE] != CLOSED_SIDE and row[side + STATE] != RESET:
        scaled(row, side, N_ZERO, b"W")
    if not (row[ORIG + CLOSED] and row[RESP + CLOSED]):
        row[LAST] = max(row[LAST], ts)
        row[SEEN] = clock
    if fin:
        row[side + FIN] = 1
        row[side + FINSEQ] = relative + segment
    acked = 0
    if acks:
        if row[peer + STATE] == INACTIVE:
            acked = 1
            row[peer + START] = (ack - 1) & 0xFFFFFFFF
            row[peer + ACK] = row[peer + SEQ] = 0
        else:
            known = row[peer + ACK]
            acked = known + signed(ack - row[peer + START] - known)
            if acked < 0:
                acked = 0
            elif not rst and acked > known and not (ack == 0 and acked - known > JUMP):
                row[peer + ACK] = acked
    _advance(row, side, syn, fin, rst, signed(seq + segment - base - row[side + SEQ]), length)
    before = row[LOW]
    closing = _move(row, side, clock, syn, fin, rst, acks, length)
    if row[LOW] != before:  # the roles were flipped
        side, peer = peer, side
    if acks:
        _acknowledged(row, peer, acked)
    row[FIRST] |= 1 if side == ORIG else 2
    if length and not rst and relative >= 0 and captured >= length:
        _data(row, side, relative + 1 if syn else relative, length)
    _check_eof(row, side)
    if closing:
        _close(row, side)
    row[side + PKTS] += 1
    row[side + IPB] += ip_len
    if not row[side + MAC]:
        row[side + MAC] = mac


def _begin(row: Row, side: int, syn: int, seq: int, segment: int) -> None:
    """Set where a side's sequence numbers start."""
    state = row[side + STATE]
    if state == INACTIVE:
        if not syn:  # number as though there had been a SYN
            row[side + START] = (seq - 1) & 0xFFFFFFFF
            row[side + ACK] = 0
            row[side + SEQ] = 1
            return
    elif not syn:
        return
    elif state in (SYN_SENT, SYN_ACK_SENT):
        if seq == row[side + START]:
            return
    elif state == CLOSED_SIDE or (state == RESET and row[side + PREV] != INACTIVE):
        return
    row[side + START] = seq
    row[side + ACK] = 0
    row[side + SEQ] = segment


def _letters(row: Row, side: int, flags: int, relative: int, length: int) -> None:
    control = flags & (F_SYN | F_FIN | F_RST)
    if control == 0:
        if length:
            once(row, side, B_DATA, b"D")
        elif flags & F_ACK:
            once(row, side, B_ACK, b"A")
    elif control == F_SYN:
        letter = b"H" if flags & F_ACK else b"S"
        if once(row, side, B_SYN, letter) and relative != row[side + H_SYN]:
            write(row, side, letter)
        row[side + H_SYN] = relative
    elif control == F_FIN:
        if once(row, side, _B_FIN, b"F") and relative + length != row[side + H_FIN]:
            write(row, side, b"F")
        row[side + H_FIN] = relative + length
    elif control == F_RST:
        if once(row, side, _B_RST, b"R") and relative != row[side + H_RST]:
            write(row, side, b"R")
        row[side + H_RST] = relative
    elif control & F_FIN and control & F_RST:
        once(row, side, _B_FINRST, b"I")
    else:
        once(row, side, _B_MULTI, b"Q")


def _advance(row: Row, side: int, syn: int, fin: int, rst: int, ahead: int, length: int) -> None:
    """Move the highest sequence number sent; ahead: how far the packet's end is beyond it."""
    if (syn or rst) and abs(ahead) > JUMP:
        return
    if fin and row[side + SEQ] == 1:
        row[side + SEQ] += ahead & 0xFFFFFFFF  # only SYN and FIN of a long connection were seen
    elif row[side + STATE] == RESET:
        return
    elif ahead > 0:
        row[side + SEQ] += ahead
    elif length:
        scaled(row, side, N_RXMT, b"T")


def _enter(row: Row, side: int, state: int) -> None:
    old = row[side + STATE]
    if state == old:
        return
    if (
        state not in _HANDSHAKE
        and old in _HANDSHAKE
        and row[other(side) + STATE] in _HANDSHAKE
        and row[IDLE] < TCP_IDLE_NS
    ):
        row[IDLE] = TCP_IDLE_NS
    row[side + PREV] = old
    row[side + STATE] = state


def _move(
    row: Row, side: int, clock: int, syn: int, fin: int, rst: int, acks: int, length: int
) -> bool:
    """Move the states of both sides; return whether this side now closes."""
    state = row[side + STATE]
    if state in (ESTABLISHED, PARTIAL_SIDE):  # the frequent ones first
        if not (syn or fin or rst):
            return False
        return _move_established(row, side, syn, fin, rst, acks)
    if state == INACTIVE:
        return _move_inactive(row, side, clock, syn, fin, rst, acks, length)
    if state in (SYN_SENT, SYN_ACK_SENT):
        if fin:
            _enter(row, side, CLOSED_SIDE)
        if rst:
            _enter(row, side, RESET)
        return bool(fin or rst)
    if state == CLOSED_SIDE and rst and row[other(side) + STATE] != CLOSED_SIDE:
        _enter(row, side, RESET)
        return not row[side + CLOSED]
    return False


def _move_established(row: Row, side: int, syn: int, fin: int, rst: int, acks: int) -> bool:
    peer = other(side)
    if syn and not acks and row[side + STATE] == PARTIAL_SIDE and row[peer + STATE] == INACTIVE:
        _enter(row, side, SYN_SENT)
    if fin and not rst:
        _enter(row, side, CLOSED_SIDE)
        if row[peer + STATE] == RESET and row[peer + PREV] == CLOSED_SIDE:
            _enter(row, peer, CLOSED_SIDE)  # FIN then RST was a normal end after all
    if rst:
        _enter(row, side, RESET)
    return bool(fin or rst)


def _move_inactive(
    row: Row, side: int, clock: int, syn: int, fin: int, rst: int, acks: int, length: int
) -> bool:
    peer = other(side)
    if syn:
        if side == ORIG:
            _enter(row, side, SYN_ACK_SENT if acks else SYN_SENT)
            row[ATTEMPT] = clock
        else:
            if not acks and row[peer + STATE] == SYN_ACK_SENT:
                flip(row)  # the SYN-ACK overtook the SYN
                row[PARTIAL] = 0
                side, peer = peer, side
                _enter(row, peer, ESTABLISHED)
                row[FIRST] |= 1
            if row[peer + STATE] == SYN_SENT:
                _enter(row, peer, ESTABLISHED)
            _enter(row, side, ESTABLISHED)
    if fin:
        _enter(row, side, CLOSED_SIDE)
    if rst:
        _enter(row, side, RESET)
    if row[side + STATE] == INACTIVE:
        if side == RESP and length == 0 and row[ORIG + STATE] == SYN_SENT:
            pass  # an acknowledgement before the SYN-ACK does not make it partial
        elif acks and row[peer + STATE] == ESTABLISHED:
            _enter(row, side, ESTABLISHED)  # the SYN was missed, the rest of the handshake not
            row[PARTIAL] = 0
            row[FIRST] |= 1 if side == ORIG else 2
        else:
            _enter(row, side, PARTIAL_SIDE)
    return bool(fin or rst)


def flip(row: Row) -> None:
    """Swap originator and responder of a row."""
    row[ORIG:RESP], row[RESP : RESP + SIDE] = row[RESP : RESP + SIDE], row[ORIG:RESP]
    row[LOW] = 1 - row[LOW]
    row[FIRST] = (row[FIRST] & 1) << 1 | row[FIRST] >> 1
    row[PARTIAL] = 0
    if len(row[HISTORY]) < HISTORY_BYTES:
        row[HISTORY] += b"^"


# --- reassembly, by numbers alone --------------------------------------------------------


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


def _data(row: Row, side: int, start: int, length: int) -> None:
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


def _acknowledged(row: Row, side: int, acked: int) -> None:
    """The other side acknowledged data of this side up to a number."""
    if row[side + FIN] and acked >= row[side + FINSEQ]:
        acked = row[side + FINSEQ] - 1
    if acked <= row[side + TRIM]:
        return
    if acked > row[side + REAS]:
        _missed(row, side, acked)
    row[side + TRIM] = acked
    _deliver(row, side)
    _check_eof(row, side)


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


def _check_eof(row: Row, side: int) -> None:
    if row[side + EOF] or not (row[side + FIN] or row[side + STATE] in (CLOSED_SIDE, RESET)):
        return
    if not _pending(row, side):
        row[side + EOF] = 1
        if row[DEFER]:
            _close(row, side)
            row[DEFER] = 0


def _close(row: Row, side: int) -> None:
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

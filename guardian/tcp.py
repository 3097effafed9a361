"""TCP as Zeek sees it: one packet at a time, on one row of connection state.

The theory. Each side is in one of seven states: INACTIVE (nothing seen), SYN_SENT,
SYN_ACK_SENT (the originator began with a SYN-ACK), PARTIAL_SIDE (data without a SYN),
ESTABLISHED, CLOSED_SIDE (a FIN), RESET. Control packets move them; conn_state is read from
the two at the end. Bytes are counted by sequence number, from the highest seen or
acknowledged. Data that arrives in order is delivered; what is above a hole waits; an
acknowledgement that passes a hole makes it a content gap (history G, missed_bytes), but
only where both sides are established or closed from there. A close waits while data of
that side is missing. The names of Zeek's timers are in the constants below.

Runs of plain data packets go through events.apply or steady.advance, which must say the same as
packet() for each.
"""

from __future__ import annotations

from guardian.connstate import (
    ACK,
    ATTEMPT,
    BLOCKS,
    BORN,
    CLOSED,
    CLOSED_SIDE,
    CLOSING,
    ESTABLISHED,
    FIN,
    FINSEQ,
    FIRST,
    H_FIN,
    H_RST,
    H_SYN,
    HISTORY,
    IDLE,
    INACTIVE,
    IPB,
    LAST,
    LOW,
    MAC,
    N_CSUM,
    N_RXMT,
    N_ZERO,
    ORIG,
    PARTIAL,
    PARTIAL_SIDE,
    PKTS,
    PREV,
    RESET,
    RESP,
    SEEN,
    SEQ,
    START,
    STATE,
    SYN_ACK_SENT,
    SYN_SENT,
    Row,
    other,
)
from guardian.const import HISTORY_BYTES, NS
from guardian.history import (
    B_ACK,
    B_DATA,
    B_FIN,
    B_FINRST,
    B_MULTI,
    B_RST,
    B_SYN,
    once,
    scaled,
    write,
)
from guardian.reassembly import acknowledged, check_eof, close, data

F_FIN, F_SYN, F_RST, F_ACK = 1, 2, 4, 16

ATTEMPT_NS = 5 * NS
"""A SYN without answer is over after this (Zeek's tcp_attempt_delay)."""
CLOSE_NS = 5 * NS
"""A closed connection waits this long for stragglers (tcp_close_delay)."""
TCP_IDLE_NS = 300 * NS
"""Inactivity allowed after it (tcp_inactivity_timeout)."""
LINGER_FIRST_NS, LINGER_STEP_NS = 5 * NS, 6 * NS
"""A half-closed connection is looked at 5 s after its start (tcp_SYN_timeout) and then every
6 s (tcp_session_timer), and is over if it was idle for 5 s (tcp_connection_linger)."""
JUMP = 1 << 20
"""A SYN or RST whose sequence number is further off than this is not believed."""
_HANDSHAKE = (INACTIVE, SYN_SENT, SYN_ACK_SENT)


def signed(value: int) -> int:
    """Return a difference of sequence numbers as a signed 32-bit number."""
    return ((value + 0x80000000) & 0xFFFFFFFF) - 0x80000000


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
        acknowledged(row, peer, acked)
    row[FIRST] |= 1 if side == ORIG else 2
    if length and not rst and relative >= 0 and captured >= length:
        data(row, side, relative + 1 if syn else relative, length)
    check_eof(row, side)
    if closing:
        close(row, side)
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
        if once(row, side, B_FIN, b"F") and relative + length != row[side + H_FIN]:
            write(row, side, b"F")
        row[side + H_FIN] = relative + length
    elif control == F_RST:
        if once(row, side, B_RST, b"R") and relative != row[side + H_RST]:
            write(row, side, b"R")
        row[side + H_RST] = relative
    elif control & F_FIN and control & F_RST:
        once(row, side, B_FINRST, b"I")
    else:
        once(row, side, B_MULTI, b"Q")


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
    for one, two in BLOCKS:
        row[one], row[two] = row[two], row[one]
    row[LOW] = 1 - row[LOW]
    row[FIRST] = (row[FIRST] & 1) << 1 | row[FIRST] >> 1
    row[PARTIAL] = 0
    if len(row[HISTORY]) < HISTORY_BYTES:
        row[HISTORY] += b"^"

"""Where a connection's state lies in its row of the table.

A row is a list of integers: what both sides share, and two blocks for the originator (at ORIG)
and the responder (at RESP), so that a flip of the roles swaps blocks. First comes what a packet of
data reads and writes, of both sides: the front of a row, which is taken out alone where a million
rows are met at random. Sequence numbers are unwrapped and relative to START (the SYN's): the first
payload byte has number 1. Times are ns.

When a row is handled alone it carries five more values, which the table keeps apart.
"""

from __future__ import annotations

from typing import Any

Row = list[Any]

# The front: what both sides share.
(
    LAST,  # latest packet's time
    SEEN,  # the clock at the latest packet that counted
    IDLE,  # inactivity allowed
    SEENHIST,  # letters in the history that come once: bits by side
    LOW,  # 1: the originator is the low end of the key
    SNIFF,  # what the service detection remembers
    BORN,  # the clock at the first packet: timers and slices count from here
    OPENED,  # time of the open slice's first packet
    DEFER,  # TCP: a close waits for data that was not seen
    CLOSING,  # TCP: the clock at the close, 0 before
    ATTEMPT,  # TCP: the clock at the first SYN of the originator
    FIRST,  # TCP: 1 a packet of the originator was seen, 2 of the responder
) = range(12)

ORIG = 12
SIDE = 15
RESP = ORIG + SIDE
FRONT = RESP + SIDE
"""How many columns the front has."""

# The front: one side.
(
    PKTS,
    IPB,
    MAC,
    STATE,
    START,
    SEQ,  # one past the highest sequence number sent
    ACK,  # highest acknowledgement by the other side
    REAS,  # all below was delivered in order
    TRIM,  # all below was acknowledged
    HIGH,  # end of the highest data held
    SKIP,  # no longer reassembled
    FIN,  # a FIN was sent
    FINSEQ,
    CLOSED,  # the close of this side was reported
    EOF,
) = range(SIDE)

# The rest: one side. The two blocks lie SIDE apart, too.
(
    BYTES,  # payload bytes, not TCP
    PREV,
    H_SYN,  # sequence numbers of the last SYN, FIN, RST in the history
    H_FIN,
    H_RST,
    N_RXMT,  # events that the history writes at 1, 10, 100 ...
    N_ZERO,
    N_CSUM,
    N_GAP,
    P_PKTS,  # as last told in a slice
    P_IPB,
    P_BYTES,
) = range(2 * SIDE, 2 * SIDE + 12)
_END = P_BYTES + 1

# The rest: what both sides share, between the blocks of the sides and behind them.
(
    TS,  # first packet's time
    PIECE,  # slices told so far
    MISSED,  # bytes in content gaps
) = range(ORIG + _END, RESP + 2 * SIDE)
(
    PARTIAL,  # TCP: the first packets were no handshake
    DNS,  # UDP to a DNS port: shorter expiry
    GEN,  # tells apart connections of one key that began at the same moment
    SERIAL,  # number of the first packet among all packets
    P_MISSED,  # MISSED as last told in a slice
) = range(RESP + _END, RESP + _END + 5)

WIDTH = RESP + _END + 5

BLOCKS = (
    (slice(ORIG, RESP), slice(RESP, FRONT)),
    (slice(ORIG + 2 * SIDE, ORIG + _END), slice(RESP + 2 * SIDE, RESP + _END)),
)
"""The blocks of the originator, and the responder's beside each."""

# What a row carries besides when it is handled alone.
(DUE, DEADLINE, HISTORY, SERVICE, HOST, HOLES, SLOT) = range(WIDTH, WIDTH + 7)
NEVER = (1 << 63) - 1
"""DUE of a connection that has nothing to tell."""

# States of one side of a TCP connection; not TCP is always INACTIVE.
INACTIVE, SYN_SENT, SYN_ACK_SENT, PARTIAL_SIDE, ESTABLISHED, CLOSED_SIDE, RESET = range(7)


def other(side: int) -> int:
    """Return RESP for ORIG and ORIG for RESP."""
    return ORIG + RESP - side

"""Where a connection's state lies in its row of the table.

A row is a list of integers: what both sides share, then one block for the originator
(at ORIG) and one for the responder (at RESP), so that a flip of the roles swaps two
blocks. Sequence numbers are unwrapped and relative to START (the SYN's): the first
payload byte has number 1. Times are ns.

When a row is handled alone it carries five more values, which the table keeps apart.
"""

from __future__ import annotations

from typing import Any

Row = list[Any]

# What both sides share.
(
    TS,  # first packet's time
    BORN,  # the clock at the first packet: timers and slices count from here
    LAST,  # latest packet's time
    SEEN,  # the clock at the latest packet that counted
    IDLE,  # inactivity allowed
    PIECE,  # slices told so far
    SEENHIST,  # letters in the history that come once: bits by side
    MISSED,  # bytes in content gaps
    LOW,  # 1: the originator is the low end of the key
    SNIFF,  # what the service detection remembers
    PARTIAL,  # TCP: the first packets were no handshake
    FIRST,  # TCP: 1 a packet of the originator was seen, 2 of the responder
    CLOSING,  # TCP: the clock at the close, 0 before
    DEFER,  # TCP: a close waits for data that was not seen
    ATTEMPT,  # TCP: the clock at the first SYN of the originator
    DNS,  # UDP to a DNS port: shorter expiry
    GEN,  # tells apart connections of one key that began at the same moment
    SERIAL,  # number of the first packet among all packets
    OPENED,  # time of the open slice's first packet
    P_MISSED,  # MISSED as last told in a slice
) = range(20)
SHARED = 20

# One side.
(
    PKTS,
    IPB,
    BYTES,  # payload bytes, not TCP
    MAC,
    STATE,
    PREV,
    START,
    SEQ,  # one past the highest sequence number sent
    ACK,  # highest acknowledgement by the other side
    FIN,  # a FIN was sent
    FINSEQ,
    CLOSED,  # the close of this side was reported
    H_SYN,  # sequence numbers of the last SYN, FIN, RST in the history
    H_FIN,
    H_RST,
    N_RXMT,  # events that the history writes at 1, 10, 100 ...
    N_ZERO,
    N_CSUM,
    N_GAP,
    REAS,  # all below was delivered in order
    TRIM,  # all below was acknowledged
    HIGH,  # end of the highest data held
    SKIP,  # no longer reassembled
    EOF,
    P_PKTS,  # as last told in a slice
    P_IPB,
    P_BYTES,
) = range(27)
SIDE = 27

ORIG = SHARED
RESP = SHARED + SIDE
WIDTH = SHARED + 2 * SIDE

# What a row carries besides when it is handled alone.
(DUE, DEADLINE, HISTORY, SERVICE, HOST, HOLES, SLOT) = range(WIDTH, WIDTH + 7)
NEVER = (1 << 63) - 1
"""DUE of a connection that has nothing to tell."""

# States of one side of a TCP connection; not TCP is always INACTIVE.
INACTIVE, SYN_SENT, SYN_ACK_SENT, PARTIAL_SIDE, ESTABLISHED, CLOSED_SIDE, RESET = range(7)


def other(side: int) -> int:
    """Return RESP for ORIG and ORIG for RESP."""
    return ORIG + RESP - side

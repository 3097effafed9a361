"""What rows of the connection table amount to: payload bytes of a side, and Zeek's conn_state."""

from __future__ import annotations

import re

import numpy as np

from guardian.connstate import (
    ACK,
    BYTES,
    CLOSED_SIDE,
    ESTABLISHED,
    FIN,
    INACTIVE,
    ORIG,
    PARTIAL_SIDE,
    PKTS,
    PREV,
    RESET,
    RESP,
    SEQ,
    STATE,
    SYN_ACK_SENT,
    SYN_SENT,
)  # fmt: skip
from guardian.tables import CONN_STATES, I64, Array, Bool

_TCP, _UDP = 6, 17
(_OTH, _S0, _S1, _SF, _REJ, _S2, _S3, _RSTO, _RSTR, _RSTOS0, _RSTRH, _SH, _SHR) = range(
    len(CONN_STATES)
)
_SYN_THEN_RST = re.compile(rb"\^?S[^HAFGIQ]*R.*")


def payload(ints: I64, proto: Array, side: int) -> I64:
    """Return the payload bytes of a side, TCP by sequence numbers (see reassembly.size)."""
    peer = ORIG + RESP - side
    top = np.maximum(ints[:, side + SEQ], ints[:, side + ACK])
    size = np.maximum(top - 1 - ((ints[:, side + FIN] != 0) & (top > 1)), 0)
    aborted = (
        (ints[:, side + PREV] == SYN_SENT)
        & (ints[:, side + STATE] == RESET)
        & (ints[:, peer + STATE] == INACTIVE)
        & (ints[:, side + ACK] != 0)
        & (ints[:, side + ACK] != 1)
    )
    size[aborted] = 0
    return np.where(proto == _TCP, size, ints[:, side + BYTES])


def states(ints: I64, proto: Array, no_bytes: Bool, history: Array) -> Array:
    """Return Zeek's conn_state from the states of both sides."""
    o, r = ints[:, ORIG + STATE], ints[:, RESP + STATE]
    o_off, r_off = (o == INACTIVE) | (o == PARTIAL_SIDE), (r == INACTIVE) | (r == PARTIAL_SIDE)
    refused = (o == SYN_SENT) | (o == SYN_ACK_SENT) | ((o == RESET) & no_bytes)
    tcp = np.select(
        [
            r == RESET,
            o == RESET,
            (o == CLOSED_SIDE) & (r == CLOSED_SIDE),
            o == CLOSED_SIDE,
            r == CLOSED_SIDE,
            (o == SYN_SENT) & (r == INACTIVE),
            (o == ESTABLISHED) & (r == ESTABLISHED),
        ],
        [
            np.where(refused, _REJ, np.where(o_off, _RSTRH, _RSTR)),
            np.where(r_off, _OTH, _RSTO),
            _SF,
            np.where(r_off, _SH, _S2),
            np.where(o_off, _SHR, _S3),
            _S0,
            _S1,
        ],
        _OTH,
    )
    for row in np.flatnonzero((proto == _TCP) & (o == RESET) & (r != RESET) & r_off).tolist():
        if _SYN_THEN_RST.fullmatch(history[row]):
            tcp[row] = _RSTOS0
    asks, answers = ints[:, ORIG + PKTS] > 0, ints[:, RESP + PKTS] > 0
    udp = np.where(asks, np.where(answers, _SF, _S0), np.where(answers, _SHR, _OTH))
    state = np.where(proto == _TCP, tcp, np.where(proto == _UDP, udp, _OTH))
    return state.astype(np.uint8)

"""A connection's history: letters of what happened, in Zeek's order and with its repetitions."""

from __future__ import annotations

from guardian.connstate import HISTORY, ORIG, SEENHIST, Row
from guardian.const import HISTORY_BYTES

_POWERS = frozenset(10**k for k in range(19))
_LETTERS = {letter: (letter, letter.lower()) for letter in (b"S", b"H", b"A", b"D", b"F", b"R",
            b"C", b"G", b"T", b"W", b"I", b"Q")}  # fmt: skip
# Bits in SEENHIST; the responder's are shifted by 16.
B_SYN, B_FIN, B_RST, B_FINRST, B_DATA, B_ACK, B_MULTI = 1, 2, 4, 8, 16, 32, 64


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


def limit(row: Row) -> None:
    """Append an X, as Zeek does where it gives up to follow something of the connection."""
    if len(row[HISTORY]) < HISTORY_BYTES:
        row[HISTORY] += b"X"


def scaled(row: Row, side: int, counter: int, letter: bytes) -> None:
    """Count an event and append its letter at the 1st, 10th, 100th ... time."""
    row[side + counter] += 1
    if row[side + counter] in _POWERS:
        write(row, side, letter)

"""The server name that a TLS ClientHello asks for."""

from __future__ import annotations

import struct

_PAIR = struct.Struct(">HH").unpack_from


def server_name(record: bytes) -> bytes:
    """Return the name in a record that begins with a ClientHello, empty if it has none.

    A hello that goes on in the next segment is read as far as it is there.
    """
    at = 5 + 4 + 2 + 32  # record, handshake, version, random
    at += 1 + _number(record, at, 1)  # session
    at += 2 + _number(record, at, 2)  # cipher suites
    at += 1 + _number(record, at, 1)  # compression
    end = min(at + 2 + _number(record, at, 2), len(record))
    at += 2
    while at + 4 <= end:
        kind, size = _PAIR(record, at)
        at += 4
        if kind == 0:
            length = _number(record, at + 3, 2)
            name = record[at + 5 : at + 5 + length]
            return name if record[at + 2 : at + 3] == b"\x00" and len(name) == length else b""
        at += size
    return b""


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big")

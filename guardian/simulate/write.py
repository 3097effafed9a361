"""Classic pcap, microseconds, Ethernet: a header and records, written a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct, pack
from typing import BinaryIO

SNAPLEN = 262_144
RECORD = Struct("<IIII")


def pcap_header() -> bytes:
    return pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, SNAPLEN, 1)


def write_packets(file: BinaryIO, packets: Iterable[tuple[int, bytes]]) -> int:
    """Write (microseconds, frame) records; return the bytes written."""
    parts: list[bytes] = []
    head = RECORD.pack
    for us, frame in packets:
        size = len(frame)
        parts.append(head(us // 1_000_000, us % 1_000_000, size, size))
        parts.append(frame)
    return file.write(b"".join(parts))

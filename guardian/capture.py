"""Captures on disk or on standard input -> Frames.

Classic pcap is read here, pcapng in pcapng.py. The record headers are walked
once for their offsets; all fields are then gathered as columns. What came
before a fault is always handed out, the fault is raised last.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from guardian import pcapwalk, zeeklog
from guardian.const import BATCH_FRAMES, MAX_FRAME_BYTES, NS
from guardian.errors import InputError
from guardian.feed import GZIP_MAGIC, LEAST_BYTES, Feed, head, label, opened
from guardian.frames import cut_batches, rows_at
from guardian.pcapng import SECTION_MAGIC, read_pcapng
from guardian.tables import Frames

PCAP_MAGICS = {
    b"\xd4\xc3\xb2\xa1": ("<", 1_000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\xc3\xd4": (">", 1_000),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
"""The first four bytes -> byte order, and nanoseconds in a unit of the fraction."""

LINK_MASK = 0x03FF_FFFF
"""The link type without the bits above it, which tell of a frame check sequence."""

_CONVERT = "write it as pcap with `editcap -F pcap`"

OTHER_FORMATS = (
    (b"\x34\xcd\xb2\xa1", f"is a pcap of the modified (Kuznetzov) kind: {_CONVERT}"),
    (b"\xa1\xb2\xcd\x34", f"is a pcap of the modified (Kuznetzov) kind: {_CONVERT}"),
    (b"snoop\x00\x00\x00", f"is a snoop capture: {_CONVERT}"),
    (b"RTSS", f"is a Network Monitor capture: {_CONVERT}"),
    (b"GMBU", f"is a Network Monitor capture: {_CONVERT}"),
    (b"PK\x03\x04", "is a zip archive: unpack it first"),
    (b"\xfd7zXZ\x00", "is compressed with xz: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd: unpack it first"),
    (b"BZh", "is compressed with bzip2: unpack it first"),
)
"""What people hand in by mistake."""

WANTED = "give a .pcap, a .pcapng or a Zeek conn.log (TSV, JSON or CSV, .gz too)"


def sniff(path: str | Path) -> str:
    """Return what an input is by its first bytes: `pcap`, `pcapng` or `log`.

    `-` is standard input, which keeps its bytes. Raises InputError for what is
    none of these, is empty or cannot be opened.
    """
    with opened(path) as stream:
        return _kind(stream, label(path))


def _kind(stream: io.BufferedReader, name: str) -> str:
    try:
        first = head(stream)
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}") from error
    if not first:
        packed = stream.peek(2)[:2] == GZIP_MAGIC
        what = "holds nothing that gzip can unpack" if packed else "is empty"
        raise InputError(f"{name} {what}: {WANTED}")
    if first[:4] in PCAP_MAGICS:
        return "pcap"
    if first[:4] == SECTION_MAGIC:
        return "pcapng"
    for magic, what in OTHER_FORMATS:
        if first.startswith(magic):
            raise InputError(f"{name} {what}; then {WANTED}")
    if zeeklog.sniff(first) is not None:
        return "log"
    raise InputError(f"{name} is neither a capture nor a connection log: {WANTED}")


def read_frames(path: str | Path, batch: int = BATCH_FRAMES) -> Iterator[Frames]:
    """Yield the frames of a pcap or pcapng (.gz too, `-` is standard input), in order.

    A batch has at most `batch` frames, all of one link type. Raises InputError
    where the input is no capture, and, after all that could be read, where it is
    cut off or damaged.
    """
    name = label(path)
    with opened(path) as stream:
        kind = _kind(stream, name)
        if kind == "log":
            raise InputError(f"{name} is a connection log and holds no packets: give a capture")
        feed = Feed(stream, LEAST_BYTES) if kind == "pcap" else Feed(stream)
        try:
            yield from (read_pcap if kind == "pcap" else read_pcapng)(feed, name, batch)
        finally:
            feed.close()


def read_pcap(feed: Feed, name: str, batch: int) -> Iterator[Frames]:
    """Yield the frames of a classic pcap; raises InputError last where it is faulty."""
    while feed.size < 24 and feed.more(0):
        pass
    if feed.size < 24:
        raise InputError(f"{name} ends within its file header: it holds no packets")
    order, unit = PCAP_MAGICS[feed.data[:4].tobytes()]
    link = struct.unpack_from(order + "I", feed.data.data, 20)[0] & LINK_MASK
    packets, now, used, trouble = 0, 0, 24, ""
    while True:
        offsets, stop = pcapwalk.offsets(feed.data, feed.size, used, order)
        feed.fit(len(offsets), batch)
        fields = rows_at(feed.data, offsets, 16).view(order + "u4")
        caplen = fields[:, 2].astype(np.int64)
        wrong = caplen > MAX_FRAME_BYTES
        if wrong.any():
            first = int(wrong.argmax())
            stop = int(offsets[first])
            offsets, fields, caplen = offsets[:first], fields[:first], caplen[:first]
        ts = fields[:, 0].astype(np.int64) * NS + fields[:, 1].astype(np.int64) * unit
        wirelen = fields[:, 3].astype(np.int64)
        for frames in cut_batches(
            feed.data,
            start=offsets + 16,
            caplen=caplen,
            wirelen=wirelen,
            ts=ts,
            link=link,
            now=now,
            batch=batch,
        ):
            yield frames
            now = frames.now
        packets += len(offsets)
        used = stop
        if feed.size - stop >= 12:
            claimed = struct.unpack_from(order + "I", feed.data.data, stop + 8)[0]
            if claimed > MAX_FRAME_BYTES:
                trouble = f"damaged after packet {packets} at byte {feed.at + stop} " + (
                    f"(the next one claims {claimed} bytes)"
                )
                break
        if not feed.more(used):
            if feed.fault:
                trouble = f"damaged after packet {packets} ({feed.fault})"
            elif feed.size:
                trouble = f"cut off after packet {packets} at byte {feed.at + feed.size}"
            break
        used = 0
    if trouble:
        raise InputError(f"{name}: {trouble}; the packets before it were read")

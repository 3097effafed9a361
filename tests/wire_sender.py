"""Send a capture's frames at a rate, some hundred thousand a second: sendmmsg(2) on numpy arrays.

`python -m tests.wire_sender INTERFACE FILE.pcap RATE SECONDS`, RATE 0 being as fast as it goes.
Loops over the capture. Says `ready`, waits for a line, sends, and prints frames and seconds.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys
import time
from pathlib import Path

import numpy as np

from guardian.capture import read_frames
from tests.bench_pcap import Array

BATCH = 64
"""Frames handed to the kernel at once; at 25 thousand a second, a burst of 2.5 ms."""
SLICE_S = 0.0005
"""Shorter waits are spent waiting actively."""

_QDISC_BYPASS = 20
_IOVEC = np.dtype([("base", "<u8"), ("size", "<u8")])
_MESSAGE = np.dtype([
    ("name", "<u8"), ("name_size", "<u8"), ("vector", "<u8"), ("vectors", "<u8"),
    ("control", "<u8"), ("control_size", "<u8"), ("flags", "<u8"), ("sent", "<u8"),
])  # fmt: skip
"""struct mmsghdr of a 64-bit system."""


def loaded(path: Path) -> tuple[Array, Array, Array]:
    """Return the frames' bytes, the vectors into them, and the messages."""
    batches = list(read_frames(path))
    data = np.concatenate(
        [b.data[int(b.start[0]) : int((b.start + b.caplen)[-1])] for b in batches]
    )
    start, base = [], 0
    for b in batches:
        start.append(b.start - b.start[0] + base)
        base += int((b.start + b.caplen)[-1] - b.start[0])
    vectors = np.zeros(sum(len(s) for s in start), dtype=_IOVEC)
    vectors["base"] = np.concatenate(start) + data.ctypes.data
    vectors["size"] = np.concatenate([b.caplen for b in batches])
    messages = np.zeros(len(vectors), dtype=_MESSAGE)
    messages["vector"] = vectors.ctypes.data + 16 * np.arange(len(vectors))
    messages["vectors"] = 1
    return data, vectors, messages


def main() -> None:
    name, path, rate, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    data, vectors, messages = loaded(path)
    libc = ctypes.CDLL(None, use_errno=True)
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(263, _QDISC_BYPASS, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 23)
    sock.bind((name, 0))
    print("ready", flush=True)
    sys.stdin.readline()
    sent = at = 0
    begun = time.perf_counter()
    end = begun + float(seconds)
    moment = begun
    while moment < end:
        ahead = begun + sent / rate - moment if rate else 0.0
        if ahead > SLICE_S:
            time.sleep(ahead - SLICE_S / 2)
        elif ahead <= 0:
            size = min(BATCH, len(messages) - at)
            address = messages.ctypes.data + _MESSAGE.itemsize * at
            done = libc.sendmmsg(sock.fileno(), ctypes.c_void_p(address), size, 0)
            if done < 0:
                fault = ctypes.get_errno()
                raise OSError(fault, os.strerror(fault))
            sent += done
            at = (at + done) % len(messages)
        moment = time.perf_counter()
    print(sent, moment - begun, len(data) / len(vectors), flush=True)


if __name__ == "__main__":
    main()

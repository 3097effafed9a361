"""Run inside a network namespace by test_ring: write what a Ring saw to a file.

`python -m tests.ring_reader INTERFACE OUT.npz SNAPLEN`: says `ready`, reads until standard
input ends and nothing more comes, says `lost` and `back` as the interface goes and comes.
"""

from __future__ import annotations

import select
import sys
import time

import numpy as np

from guardian.errors import CaptureError
from guardian.ring import Ring
from guardian.tables import Frames

QUIET_S = 0.5


def say(word: str) -> None:
    print(word, flush=True)


def reopen(interface: str, snaplen: int) -> Ring:
    """Wait until the interface is up again."""
    while True:
        time.sleep(0.05)
        ring = Ring(interface, snaplen=snaplen)
        try:
            ring.read(0.05)
        except CaptureError:
            ring.close()
        else:
            say("back")
            return ring


def main() -> None:
    interface, out, snaplen = sys.argv[1], sys.argv[2], int(sys.argv[3])
    ring = Ring(interface, snaplen=snaplen)
    say("ready")
    batches: list[Frames] = []
    ended = False
    while True:
        readable, _, _ = select.select([ring] if ended else [ring, sys.stdin], [], [], QUIET_S)
        ended = ended or sys.stdin in readable
        try:
            frames = ring.read(0.0 if readable else QUIET_S)
        except CaptureError as error:
            say(f"lost {error}")
            ring.close()
            ring = reopen(interface, snaplen)
            continue
        batches.append(frames)
        if ended and not len(frames) and not readable:
            break
    packets, drops = ring.drops()
    ring.close()
    bodies = [
        f.data[start : start + size]
        for f in batches
        for start, size in zip(f.start, f.caplen, strict=True)
    ]
    np.savez(
        out,
        data=np.concatenate([np.zeros(0, dtype=np.uint8), *bodies]),
        caplen=np.concatenate([f.caplen for f in batches]),
        wirelen=np.concatenate([f.wirelen for f in batches]),
        ts=np.concatenate([f.ts for f in batches]),
        csum_valid=np.concatenate([f.csum_valid for f in batches]),
        nows=np.array([f.now for f in batches]),
        wall=np.array([time.time_ns()]),
        counts=np.array([packets, drops]),
    )


if __name__ == "__main__":
    main()

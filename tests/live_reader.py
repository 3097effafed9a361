"""Run inside a network namespace by test_watch: write what a LiveCapture saw to a file.

`python -m tests.live_reader SETTINGS OUT.npz`: SETTINGS is JSON of [capture]. Says `ready`, reads
until standard input ends and nothing more comes; a line `pause` or `go` there stops and starts it.
The log goes to standard error.
"""

from __future__ import annotations

import json
import logging
import select
import sys
import time
from pathlib import Path

import numpy as np

from guardian import config, live
from guardian.errors import GuardianError
from guardian.tables import Frames
from tests.ring_reader import QUIET_S, say


def settings_of(text: str) -> config.CaptureSettings:
    given = json.loads(text)
    given["interface"] = tuple(given["interface"])
    return config.CaptureSettings(**given)


def orders() -> str:
    """Return a line of standard input if there is one; `end` at its end."""
    readable, _, _ = select.select([sys.stdin], [], [], 0)
    return (sys.stdin.readline().strip() or "end") if readable else ""


def watch(capture: live.LiveCapture) -> list[Frames]:
    batches: list[Frames] = []
    quiet_since = time.monotonic()
    ended = False
    while not ended or time.monotonic() - quiet_since < QUIET_S:
        order = "" if ended else orders()
        ended = ended or order == "end"
        if order == "pause":
            say("paused")
            assert sys.stdin.readline() == "go\n"
        frames = capture.read(0.1)
        if frames is not None:
            batches.append(frames)
            if len(frames):
                quiet_since = time.monotonic()
        capture.tell_drops()
        capture.refresh()
    return [*batches, *capture.rest()]


def main() -> int:
    logging.basicConfig(format="%(message)s")
    live.REOPEN_S = 0.2
    try:
        capture = live.LiveCapture(settings_of(sys.argv[1]))
    except GuardianError as error:
        say(f"{type(error).__name__} {error}")
        return 1
    say("ready")
    batches = watch(capture)
    drops = capture.drops_by_interface()
    capture.close()
    bodies = [
        f.data[start : start + size]
        for f in batches
        for start, size in zip(f.start, f.caplen, strict=True)
    ]
    np.savez(
        Path(sys.argv[2]),
        data=np.concatenate([np.zeros(0, dtype=np.uint8), *bodies]),
        caplen=np.concatenate([f.caplen for f in batches]),
        wirelen=np.concatenate([f.wirelen for f in batches]),
        ts=np.concatenate([f.ts for f in batches]),
        csum_valid=np.concatenate([f.csum_valid for f in batches]),
        links=np.array(sorted({f.link for f in batches if len(f)})),
        nows=np.array([f.now for f in batches]),
        latest=np.array([int(f.ts.max()) if len(f) else 0 for f in batches]),
        drops=np.array(list(drops.values())),
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

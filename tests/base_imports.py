"""What the base install may import. Run with the base venv's Python, where nothing else is.

`python -m tests.base_imports` walks the command line and the daemon's path, runs a pipeline, and
fails where a workstation library was loaded, or where the daemon's path loaded more than it may.
"""

from __future__ import annotations

import subprocess
import sys

WORKSTATION = ("tensorflow", "keras", "pandas", "sklearn", "matplotlib")
NOT_ON_THE_HOT_PATH = (*WORKSTATION, "scapy", "sqlite_utils")

HOT = "guardian.daemon"
ALL = "guardian.cli"
STEP = """
import time
import numpy as np
from guardian.config import Settings
from guardian.runtime import load_bundle, open_pipeline
from guardian.tables import Frames
pipeline = open_pipeline(Settings(), load_bundle(Settings()), live=True)
z = np.zeros(1, np.int64)
arp = np.frombuffer(bytes.fromhex("ffffffffffff0200000000010806" "0001080006040001"
    "020000000001c0a8010a000000000000c0a80101"), np.uint8)
frame = Frames(arp, z, z + 42, z + 42, z + time.time_ns(), 1, z == 0, time.time_ns())
pipeline.step(frame)
pipeline.finish()
assert pipeline.counts.packets == 1
"""


def loaded(work: str, names: tuple[str, ...]) -> list[str]:
    """Return which of names are in sys.modules after a fresh interpreter did some work."""
    program = f"{work}\nimport sys; print(*[n for n in {names!r} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def main() -> int:
    works = {HOT: f"import {HOT}", ALL: f"import {ALL}", "a running pipeline": STEP}
    wrong = {name: loaded(work, NOT_ON_THE_HOT_PATH) for name, work in works.items()}
    for name, found in wrong.items():
        if found:
            print(f"{name} imports {', '.join(found)}", file=sys.stderr)
    if not any(wrong.values()):
        print(f"{', '.join(works)}: none imports {', '.join(NOT_ON_THE_HOT_PATH)}")
    return int(any(wrong.values()))


if __name__ == "__main__":
    raise SystemExit(main())

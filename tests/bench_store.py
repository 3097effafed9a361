"""What the database writes to the disk in a day of a simulated home, in bytes.

    python -m tests.bench_store [--hours 24] [--commit 30] [--home FILE.pcap] [--level 0]

The quiet home of the simulator passes through the pipeline in steps of ten seconds of its own
time, as the daemon's clock ticks, and the store commits as the daemon does. Counted is what the
process hands to the kernel while the store works (wchar of /proc/self/io): the WAL, the pages that
checkpoints carry into the file, and the lock file's notes. The database lies in a folder of its own
and is opened as `guardian run` opens it; no broker.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from guardian import capture
from guardian.config import Settings
from guardian.const import NS
from guardian.record import Recorder
from guardian.runtime import load_bundle, open_pipeline
from guardian.simulate import SCENARIOS, simulate
from guardian.store import Store
from guardian.tables import Frames

STEP_NS = 10 * NS


def written() -> int:
    """Return the bytes that this process has written so far."""
    for line in Path("/proc/self/io").read_text(encoding="ascii").splitlines():
        if line.startswith("wchar:"):
            return int(line.split()[1])
    raise KeyError("wchar")


def ticks(path: Path) -> Iterator[Frames]:
    """Yield a capture in steps of STEP_NS; one without packets only moves the clock."""
    clock = 0
    for frames in capture.read_frames(path):
        clock = clock or int(frames.ts[0]) // STEP_NS * STEP_NS
        at = 0
        while at < len(frames):
            clock += STEP_NS
            to = at + int(np.searchsorted(np.maximum.accumulate(frames.ts[at:]), clock))
            if to == len(frames):
                clock -= STEP_NS  # the next block may have more of this step
                yield part(frames, slice(at, to), int(frames.ts[to - 1]))
                break
            yield part(frames, slice(at, to), clock)
            at = to


def part(frames: Frames, rows: slice, now: int) -> Frames:
    columns = ("start", "caplen", "wirelen", "ts", "csum_valid")
    return replace(frames, now=now, **{name: getattr(frames, name)[rows] for name in columns})


def day(home: Path, db: Path, settings: Settings) -> dict[str, float]:
    """Run a capture into a database; return what it cost."""
    pipeline = open_pipeline(settings, load_bundle(settings), live=True, seed=1)
    before = written()
    store = Store(
        db, drop_box=True, commit_s=settings.store.commit_s, max_mib=settings.store.max_mib,
        privacy=pipeline.privacy,
    )  # fmt: skip
    recorder = Recorder(store, pipeline)
    total, first, last, commits, cpu = written() - before, 0, 0, 0, 0.0
    for frames in ticks(home):
        step = pipeline.step(frames)
        first, last = first or step.now, step.now
        before, begun = written(), time.process_time()
        commits += recorder.add(step)
        cpu += time.process_time() - begun
        total += written() - before
    step = pipeline.finish()
    before = written()
    recorder.add(step)
    store.close(last)
    total += written() - before
    hours = (last - first) / NS / 3600
    return {
        "hours": hours,
        "packets": pipeline.counts.packets,
        "connections": pipeline.counts.connections,
        "commits": commits,
        "bytes": total,
        "bytes_a_day": total * 24 / hours,
        "file": db.stat().st_size,
        "cpu_s": cpu,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--commit", type=float, default=Settings().store.commit_s)
    parser.add_argument("--level", type=int, default=0)
    parser.add_argument("--home", type=Path)
    given = parser.parse_args()
    settings = Settings()
    settings = replace(
        settings,
        store=replace(settings.store, commit_s=given.commit),
        privacy=replace(settings.privacy, level=given.level),
    )
    with tempfile.TemporaryDirectory() as folder:
        home = given.home
        if home is None:
            home = Path(folder) / "home.pcap"
            simulate(SCENARIOS["quiet"](hours=given.hours), home)
        found = day(home, Path(folder) / "guardian.db", settings)
    print(
        f"{found['hours']:.1f} h of a quiet home, {found['packets']:,.0f} packets, "
        f"{found['connections']:,.0f} connections; commits every {given.commit:g} s\n"
        f"written: {found['bytes'] / 1e6:,.1f} MB in {found['commits']:,.0f} commits, "
        f"{found['bytes_a_day'] / 1e6:,.1f} MB a day; the file is {found['file'] / 1e6:,.1f} MB, "
        f"the store took {found['cpu_s']:.1f} s of CPU"
    )


if __name__ == "__main__":
    main()

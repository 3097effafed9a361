"""The daemon without its interface, in a process of its own that is made to be killed.

Pipeline, recorder, store and publisher are the real ones, in the order of the daemon's loop; only
the frames come from captures. What was handed over is noted in a file that a kill does not undo.
"""

from __future__ import annotations

import argparse
import os
import signal
import sqlite3
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from guardian import daemon, outbox, record, store
from guardian.config import (
    AlertsSettings,
    CaptureSettings,
    MqttSettings,
    Settings,
    StoreSettings,
)
from guardian.errors import GuardianError
from guardian.pipeline import Pipeline, Step
from guardian.polling import Polling
from guardian.publish import Publisher
from guardian.record import Recorder
from guardian.runtime import load_bundle, open_pipeline
from guardian.store import Store
from guardian.tables import Frames
from tests.torture import powercut
from tests.torture.traffic import rounds

BATCH = 150
PROGRESS = struct.Struct("=qqq")
"""Round, packet time (ns), and connections that the store has taken in all after this step."""


def note_what_is_durable(db: Path) -> None:
    """Note after each durable transaction how much of the WAL a power cut cannot take back."""
    real = outbox.on_disk

    @contextmanager
    def noted(connection: sqlite3.Connection, durable: bool) -> Iterator[None]:
        with real(connection, durable):
            if durable:
                assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
            yield
            if durable:
                powercut.note_durable(db)

    vars(outbox)["on_disk"] = vars(store)["on_disk"] = noted


class Played:
    """Captures in the place of an interface, for a whole daemon."""

    drops = 0

    def __init__(self, frames: Iterator[tuple[int, Frames]]) -> None:
        self._frames = frames
        self.round = 0

    def read(self, _: float) -> Frames | None:
        self.round, frames = next(self._frames)
        return frames

    def rest(self) -> list[Frames]:
        return []

    def refresh(self) -> None: ...

    def tell_drops(self) -> None: ...

    def close(self) -> None: ...

    def drops_by_interface(self) -> dict[str, int]:
        return {"lo": 0}

    def up_by_interface(self) -> dict[str, bool]:
        return {"lo": True}


def run_daemon(args: argparse.Namespace, mqtt: MqttSettings, progress: int) -> int:
    """Run a whole daemon on the captures; its steps are noted as they are recorded."""
    source = Played(rounds(args.captures, args.begin, BATCH))
    vars(daemon)["LiveCapture"] = lambda _: source
    recorded = Recorder.add

    def add(self: Recorder, step: Step) -> bool:
        taken = self._store._taken
        if not os.fstat(progress).st_size:
            os.write(progress, PROGRESS.pack(args.begin, step.now, taken))
        os.write(progress, PROGRESS.pack(source.round, step.now, taken + len(step.records)))
        return recorded(self, step)

    vars(record)["Recorder"].add = add
    # What is played is half a year old by the clock on the wall: nothing goes for its age.
    vars(store)["Store"].prune = lambda *_: 0
    settings = Settings(
        capture=CaptureSettings(interface=("lo",)),
        alerts=AlertsSettings(a_week=0),
        store=StoreSettings(path=str(args.db), commit_s=args.commit_s),
        mqtt=mqtt,
    )
    return daemon.Daemon(settings).run()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("db", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("captures", type=Path, nargs="*")
    parser.add_argument("--progress", type=Path, required=True)
    parser.add_argument("--begin", type=int, default=0)
    parser.add_argument("--commit-s", type=float, default=60.0)
    parser.add_argument("--daemon", action="store_true", help="a whole daemon, not its parts")
    parser.add_argument("--drain", action="store_true", help="only send what waits, then end")
    args = parser.parse_args()
    over = False

    def stop(*_: object) -> None:
        nonlocal over
        over = True

    signal.signal(signal.SIGTERM, stop)
    settings = Settings(alerts=AlertsSettings(a_week=0))
    progress = os.open(args.progress, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    note_what_is_durable(args.db)
    mqtt = MqttSettings(host="127.0.0.1", port=args.port)
    if args.daemon:
        return run_daemon(args, mqtt, progress)
    with (
        Store(args.db, commit_s=args.commit_s) as written,
        Publisher(mqtt, written, backoff_s=(0.05, 0.2)) as publisher,
    ):
        if args.drain:
            while written.outbox.waiting() and not over:
                publisher.step(time.time_ns())
                time.sleep(0.005)
            return 0
        pipeline: Pipeline = open_pipeline(settings, load_bundle(settings), live=True, seed=7)
        recorder = Recorder(written, pipeline, publisher)
        Polling(written, pipeline).restore(written.last_commit)
        offered = written._taken
        os.write(progress, PROGRESS.pack(args.begin, written.last_commit, offered))
        for number, frames in rounds(args.captures, args.begin, BATCH):
            step = pipeline.step(frames)
            offered += len(step.records)
            os.write(progress, PROGRESS.pack(number, step.now, offered))
            try:
                recorder.add(step)
                publisher.step(step.now)
            except GuardianError as error:
                print(error, flush=True)
            if over:
                return 0
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

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

from guardian import outbox, store
from guardian.config import AlertsSettings, MqttSettings, Settings
from guardian.errors import GuardianError
from guardian.pipeline import Pipeline
from guardian.polling import Polling
from guardian.publish import Publisher
from guardian.record import Recorder
from guardian.runtime import load_bundle, open_pipeline
from guardian.store import Store
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


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("db", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("captures", type=Path, nargs="*")
    parser.add_argument("--progress", type=Path, required=True)
    parser.add_argument("--begin", type=int, default=0)
    parser.add_argument("--commit-s", type=float, default=60.0)
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

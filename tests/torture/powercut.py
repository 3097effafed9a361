"""A power cut: the database as it lies on the disk, its WAL cut at an arbitrary byte.

What SQLite and Guardian have put on the disk for certain stays: the part of the WAL that is already
in the database file, and all up to the last transaction that was written durably. Beyond it
anything may be missing, or be noise where the last sector was half written.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import struct
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from guardian.store import Store

_FRAME_HEADER, _WAL_HEADER = 24, 32
_PAGE_AT, _FRAMES_AT, _BACKFILL_AT = 14, 16, 96
"""Offsets in the WAL's index; see SQLite's walformat."""
DURABLE = ".durable"


def copied(db: Path, folder: Path) -> Path:
    """Copy a database that nobody has open, with its WAL, its index and the lock file's note."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for suffix in ("", "-wal", "-shm", ".lock", DURABLE):
        source = db.with_name(db.name + suffix)
        if source.exists():
            shutil.copy(source, folder / source.name)
    return folder / db.name


def whole(db: Path) -> None:
    """Assert that a database opens clean, and that what belongs together is together."""
    if not db.exists():
        return  # killed before the first byte
    with closing(sqlite3.connect(db)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return  # killed before the tables were there: the next start makes them
        events = connection.execute(
            "SELECT incident, change, severity FROM incident_events WHERE change = 'opened' "
            "OR change = 'escalated' ORDER BY id"
        ).fetchall()
        messages = [
            json.loads(payload)
            for (payload,) in connection.execute(
                "SELECT payload FROM outbox WHERE kind = 'incident' ORDER BY seq"
            )
        ]
        told = [
            (m["id"], m["event_type"], m["severity"])
            for m in messages
            if m["event_type"] in ("opened", "escalated")
        ]
        assert events == told, "an incident and its message are written together"
        known = {row for (row,) in connection.execute("SELECT id FROM incidents")}
        assert {m["id"] for m in messages} <= known


def announced_is_there(db: Path, heard: Sequence[str], where: str = "") -> None:
    """Assert that all that a hub heard (its payloads, sorted) is in the database."""
    if not heard:
        return
    with closing(sqlite3.connect(db)) as connection:
        written = {
            json.dumps(json.loads(payload), sort_keys=True)
            for (payload,) in connection.execute("SELECT payload FROM outbox")
        }
    missing = [n for n, key in enumerate(heard) if key not in written]
    assert not missing, f"heard as number {missing} of {len(heard)} and not there; {where}"


def cut_and_look(
    db: Path, folder: Path, chance: random.Random, *, announced: Sequence[str]
) -> bool:
    """Cut the WAL of a copy, assert that all is well; return whether something was undone."""
    copy = copied(db, folder)
    wal, shm = copy.with_name(copy.name + "-wal"), copy.with_name(copy.name + "-shm")
    if not wal.exists() or wal.stat().st_size <= _WAL_HEADER or not shm.exists():
        return False
    before = _last_commit(copy)
    copy = copied(db, folder)
    page, frames, backfilled = index(shm)
    size = _FRAME_HEADER + page
    low = _WAL_HEADER + max(backfilled, durable_frames(copy)) * size
    at = chance.randint(low, max(low, _WAL_HEADER + frames * size))
    raw = wal.read_bytes()[:at]
    if chance.random() < 0.5:  # the rest of the sector, or more, is noise
        raw += chance.randbytes(chance.choice((7, 512, 4_096, 20_000)))
    wal.write_bytes(raw)
    shm.unlink()
    whole(copy)
    where = f"cut at {at}, not before {low}; {frames} frames, {backfilled} in the database"
    announced_is_there(copy, announced, where)
    after = _last_commit(copy)
    with Store(copy) as store:
        assert store.ended in ("unclean", "new")
    return after != before


def index(shm: Path) -> tuple[int, int, int]:
    """Return (page size, valid frames, frames that are in the database) of a WAL's index."""
    raw = shm.read_bytes()
    page = struct.unpack_from("=H", raw, _PAGE_AT)[0]
    frames = struct.unpack_from("=I", raw, _FRAMES_AT)[0]
    return page, frames, struct.unpack_from("=I", raw, _BACKFILL_AT)[0]


def _salts(wal: Path) -> bytes:
    """Return what tells one beginning of a WAL from the next."""
    with wal.open("rb") as file:
        return file.read(_WAL_HEADER)[16:24]


def note_durable(db: Path) -> None:
    """Note beside a database how many frames of its WAL are on the disk for certain: all."""
    wal, shm = db.with_name(db.name + "-wal"), db.with_name(db.name + "-shm")
    noted = struct.pack("=8sI", _salts(wal), index(shm)[1])
    # One write over what stands there: a kill must not leave an empty note behind.
    fd = os.open(db.with_name(db.name + DURABLE), os.O_WRONLY | os.O_CREAT, 0o600)
    os.pwrite(fd, noted, 0)
    os.close(fd)


def durable_frames(db: Path) -> int:
    """Return the last number noted, 0 where the WAL began anew since."""
    note, wal = db.with_name(db.name + DURABLE), db.with_name(db.name + "-wal")
    raw = note.read_bytes() if note.exists() else b""
    if len(raw) != 12 or raw[:8] != _salts(wal):
        return 0
    return int(struct.unpack_from("=I", raw, 8)[0])


def _last_commit(db: Path) -> str:
    with closing(sqlite3.connect(db)) as connection:
        try:
            rows = connection.execute("SELECT value FROM meta WHERE key = 'last_commit'")
            return str(rows.fetchone())
        except sqlite3.OperationalError:
            return ""  # no tables yet

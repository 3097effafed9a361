"""The home's own weeks for the workstation: a copy of the database without what is for others."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

from guardian.const import NS
from guardian.discovery import DRILL_MAC
from guardian.errors import GuardianError
from guardian.schema import FILE_MODE, make_file, open_reader

KEEP = 2
"""Copies that stay: the last one, and the one that may be under way to the workstation."""
EVERY_NS = int(6.5 * 86_400) * NS
"""A timer that looks nightly then makes one a week, whatever minute it starts in."""
LEFT_OUT = ("outbox", "commands", "scores")
"""Tables that teach nothing: messages for the broker, wishes, connections that still live. Neither
do the connections of fire drills."""


def lay_out(database: Path, folder: Path, now: int) -> Path | None:
    """Write a copy of the database into the folder; None where the last one is young enough.

    It is what `guardian train FILE` reads: connections, devices, incidents and what was said of
    them. It never holds a message or a password. Raises StoreError where the database cannot be
    read, GuardianError where the copy cannot be written.
    """
    copies = sorted(folder.glob("guardian-*.db"))
    if copies and now - copies[-1].stat().st_mtime_ns < EVERY_NS:
        return None
    target = folder / f"guardian-{time.strftime('%Y%m%d', time.gmtime(now / NS))}.db"
    fresh = folder / ".fresh.db"
    try:
        folder.mkdir(mode=0o750, exist_ok=True)
        with closing(open_reader(database)) as source:
            _room(source, folder)
            fresh.unlink(missing_ok=True)
            make_file(fresh, FILE_MODE)
            with closing(sqlite3.connect(fresh, isolation_level=None)) as copy:
                # In one step: the daemon writes on, and would make a copy in steps begin again.
                source.backup(copy)
                _strip(copy)
        os.utime(fresh, ns=(now, now))
        fresh.replace(target)
        for old in sorted(folder.glob("guardian-*.db"))[:-KEEP]:
            old.unlink()
    except (OSError, sqlite3.Error) as error:
        with suppress(OSError):
            fresh.unlink()
        raise GuardianError(
            f"cannot lay the home's traffic into {folder} ({error}): check its rights and the disk"
        ) from error
    return target


def _room(source: sqlite3.Connection, folder: Path) -> None:
    """Raise OSError where the copy, and the same again for tidying it, has no room."""
    (pages,), (size,) = (
        source.execute(f"PRAGMA {k}").fetchone() for k in ("page_count", "page_size")
    )
    free = shutil.disk_usage(folder).free
    if free < 2 * pages * size + (64 << 20):
        raise OSError(f"only {free >> 20:,} MiB are free there")


def _strip(copy: sqlite3.Connection) -> None:
    copy.execute("PRAGMA journal_mode = DELETE")
    for table in LEFT_OUT:
        copy.execute(f"DELETE FROM {table}")
    copy.execute("DELETE FROM connections WHERE device = ?", (DRILL_MAC,))
    copy.execute("VACUUM")

"""`guardian backup`: a copy of the database, whole and of one moment, while the daemon writes."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import click

from guardian.schema import DIR_MODE, StoreError, check_ours, copy_to, must_exist, no_right

KEEP = 7
"""Backups that stay by default: a week of nights."""


def run(db: Path, folder: Path | None, keep: int) -> None:
    """Make a backup and say where it lies. Raises StoreError with a sentence."""
    where, gone = backup(db, folder or db.parent / "backups", keep)
    more = f"; {gone} older removed" if gone else ""
    click.echo(f"{where} ({where.stat().st_size / 1e6:,.1f} MB){more}")


def backup(db: Path, folder: Path, keep: int = KEEP) -> tuple[Path, int]:
    """Copy a database into a folder and keep the newest `keep` copies there.

    Returns the copy and how many older ones were removed. Raises StoreError with a sentence; then
    what was there before stays.
    """
    must_exist(db)
    if not os.access(db, os.R_OK):
        raise no_right(db, "read")
    try:
        folder.mkdir(mode=DIR_MODE, parents=True, exist_ok=True)
        _room(db, folder)
        for left in folder.glob(f"{db.stem}-*.db.part"):
            left.unlink()
        target = _free_name(db, folder)
        with closing(_open(db)) as source:
            check_ours(source, db)
            # In one step: the daemon writes on, and would make a copy in steps begin again.
            copy_to(source, target)
        return target, _thin_out(db, folder, keep)
    except (OSError, sqlite3.Error) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise StoreError(
            f"cannot back up {db} to {folder} ({why}): check the folder's rights and the disk, or "
            "give another folder with --to"
        ) from error


def _open(db: Path) -> sqlite3.Connection:
    uri = db.absolute().as_uri() + "?mode=ro"
    if not db.with_name(db.name + "-wal").exists() and not os.access(db.parent, os.W_OK):
        uri += "&immutable=1"
    return sqlite3.connect(uri, uri=True, isolation_level=None)


def _room(db: Path, folder: Path) -> None:
    disk = os.statvfs(folder)
    free, needed = disk.f_bavail * disk.f_frsize, db.stat().st_size
    wal = db.with_name(db.name + "-wal")
    needed += wal.stat().st_size if wal.exists() else 0
    if free < needed:
        raise StoreError(
            f"no room in {folder} for a copy of {db} ({needed / 1e6:,.0f} MB, {free / 1e6:,.0f} MB "
            "are free): make room, or give another folder with --to"
        )


def _free_name(db: Path, folder: Path) -> Path:
    at = time.time()
    while True:  # two within a second get names of their own
        target = folder / f"{db.stem}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(at))}.db"
        if not target.exists():
            return target
        at += 1


def _thin_out(db: Path, folder: Path, keep: int) -> int:
    ours = re.compile(re.escape(db.stem) + r"-\d{8}-\d{6}\.db")
    found = (file for file in folder.iterdir() if ours.fullmatch(file.name))
    # By age and not by name: the clock may have been set back.
    copies = sorted(found, key=lambda file: (file.stat().st_mtime_ns, file.name))
    for old in copies[:-keep]:
        old.unlink()
    return max(0, len(copies) - keep)

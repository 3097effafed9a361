"""Transactions that end whatever happens, and SQLite's errors as sentences."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from guardian.schema import StoreError

_DAMAGE = ("malformed", "not a database", "disk image", "file is encrypted")


def damaged(error: BaseException) -> bool:
    """Return whether an error says that the file itself is spoiled, not the disk or its rights."""
    return isinstance(error, sqlite3.DatabaseError) and any(word in str(error) for word in _DAMAGE)


@contextmanager
def sentences(path: str | Path) -> Iterator[None]:
    """Raise what SQLite says as a StoreError that names the file and what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(
            f"cannot write the database {path} ({error}): check that the disk has room "
            "and no other program holds the file"
        ) from error


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Write all of what is done within, or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        # After some errors (a full disk) SQLite has rolled back by itself.
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise

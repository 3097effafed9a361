"""One writer for each database: two daemons would tell everything twice."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from guardian.schema import StoreError


class WriterLock:
    """A lock file beside the database, held while it is open.

    Not a lock on the database itself: closing that descriptor would drop SQLite's own locks. The
    kernel releases it with the process, however that ends.
    """

    def __init__(self, database: Path) -> None:
        """Raises StoreError where another process writes this database, or none can be made."""
        path = database.with_name(f"{database.name}.lock")
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise StoreError(
                f"another guardian writes {database}: stop it first, or give --db another file"
            ) from error

    def release(self) -> None:
        os.close(self._file)

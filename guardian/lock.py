"""One writer for each database: two daemons would tell everything twice.

The lock file also carries how many connections its writer had taken, so that after a kill the next
one can say how many were not yet written.
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

from guardian.schema import StoreError

_NOTE = struct.Struct("=36sQ")
"""The machine's boot, and the connections taken since the database began."""
_BOOT = Path("/proc/sys/kernel/random/boot_id")


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
        self._boot = _boot()
        self.noted = self._noted()
        """Connections that the last writer had taken; None where the machine went down since, or
        nobody noted any: what the file says then may be old."""

    def _noted(self) -> int | None:
        try:
            boot, taken = _NOTE.unpack(os.pread(self._file, _NOTE.size, 0))
        except (OSError, struct.error):
            return None
        return int(taken) if boot == self._boot and boot.strip(b"\0") else None

    def note(self, taken: int) -> None:
        """Note how many connections were taken: a plain write, which a kill does not undo."""
        try:
            os.pwrite(self._file, _NOTE.pack(self._boot, taken), 0)
        except OSError:
            return  # a full disk is told by the commit; here only a count is less sure

    def release(self) -> None:
        os.close(self._file)


def _boot() -> bytes:
    try:
        return _BOOT.read_bytes().strip()[:36].ljust(36, b"\0")
    except OSError:
        return bytes(36)

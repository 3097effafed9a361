"""The database's tables: migrations, opening for writing and for reading, the document.

The comments in the statements are the documentation, too: `python -m guardian.schema
docs/database.md` writes them there, and a test keeps the two equal.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from guardian.errors import GuardianError
from guardian.migrations import COMMANDS, MIGRATIONS

__all__ = ["COMMANDS", "MIGRATIONS", "StoreError", "open_reader", "open_writer"]

APPLICATION_ID = 0x47554152
"""`GUAR` in the header of the file: this database is Guardian's."""

FILE_MODE = 0o640
"""The daemon writes, its group reads."""

DIR_MODE = 0o750

BUSY_S = 5.0
"""Seconds to wait for another writer. Readers never block the daemon (WAL)."""

WAL_BYTES = 16 << 20
"""The WAL file is cut back to this after a checkpoint, so that one burst does not stay."""


WRITER_BUSY_S = 1.0
"""Seconds that the daemon waits for another writer before it goes on watching and tries later."""


class StoreError(GuardianError):
    """A database that cannot be opened, read or written."""


class DamagedError(StoreError):
    """A file that is no sound database any more."""


def statements(script: str) -> list[str]:
    """Split a script into its statements (a semicolon in a comment ends none)."""
    out, current = [], ""
    for part in script.split(";")[:-1]:
        current += part + ";"
        if sqlite3.complete_statement(current):
            out.append(current.strip())
            current = ""
    return out


def make_file(path: Path, mode: int) -> None:
    """Create an empty file with exactly these rights; a file that is there is left alone.

    Root gives it to the owner of the folder, or the daemon could not write it later.
    """
    try:
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW, mode)
    except FileExistsError:
        return
    try:
        os.fchmod(fd, mode)
        if os.geteuid() == 0:
            folder = path.parent.stat()
            os.fchown(fd, folder.st_uid, folder.st_gid)
    finally:
        os.close(fd)


def open_writer(path: Path, migrations: Sequence[str] = MIGRATIONS) -> sqlite3.Connection:
    """Open or create the database for writing and bring it to the newest version.

    Raises StoreError with a sentence where the file cannot be used.
    """
    check_place(path)
    try:
        make_file(path, FILE_MODE)
        db = sqlite3.connect(path, timeout=WRITER_BUSY_S, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise _no_way(path, error) from error
    try:
        _prepare(db, path, migrations)
    except sqlite3.Error as error:
        db.close()
        raise _unusable(path, error) from error
    except BaseException:
        db.close()
        raise
    return db


def check_place(path: Path) -> None:
    """Make the folder of a database. Raises StoreError where no database can be there."""
    try:
        path.parent.mkdir(mode=DIR_MODE, parents=True, exist_ok=True)
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            raise StoreError(f"{path} is no file: give the database another path with --db")
    except OSError as error:
        raise _no_way(path, error) from error


def _no_way(path: Path, error: Exception) -> StoreError:
    return StoreError(
        f"cannot open the database {path} for writing ({_short(error)}): "
        "check the folder and its rights, or give another file with --db"
    )


def _prepare(db: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        # Both must be set before the first table is made.
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    check_ours(db, path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA foreign_keys = ON")
    db.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
    migrate(db, path, migrations)


def check_ours(db: sqlite3.Connection, path: Path) -> None:
    """Raise StoreError where the file is another program's database."""
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreError(f"{path} is not a database of Guardian's: give another file with --db")


def version(db: sqlite3.Connection) -> int:
    """Return the version of the database's tables."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def migrate(db: sqlite3.Connection, path: Path, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Bring the database to the newest version, each step in one transaction.

    An older database is first copied to `NAME.vN.bak`. Raises StoreError where the database
    is newer than this Guardian.
    """
    found = version(db)
    _refuse_newer(path, found, len(migrations))
    if 0 < found < len(migrations):
        copy_to(db, path.with_name(f"{path.name}.v{found}.bak"))
    for number in range(found, len(migrations)):
        db.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have migrated while this one waited for the lock.
            if version(db) == number:
                for statement in statements(migrations[number]):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {number + 1}")
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")


def copy_to(db: sqlite3.Connection, target: Path) -> None:
    """Copy a database, as it is at this moment, into one file that is on the disk when this
    returns and is sound; an older one of the name stays until then.

    Raises OSError or sqlite3.Error.
    """
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    try:
        make_file(part, FILE_MODE)
        with closing(sqlite3.connect(part, isolation_level=None)) as copy:
            db.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a WAL beside it
            found = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(f"the copy is damaged: {found}")
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def must_exist(path: Path) -> None:
    """Raise StoreError where there is no database, or no right to look."""
    try:
        path.stat()
    except PermissionError as error:
        raise no_right(path, "read") from error
    except OSError as error:
        raise StoreError(
            f"there is no database at {path} yet: start the daemon (guardian run), "
            "or give a database with --db FILE"
        ) from error
    if path.is_dir():
        raise StoreError(f"{path} is a folder: give the database in it with --db")


def no_right(path: Path, what: str) -> StoreError:
    """Return the error of someone outside the group."""
    return StoreError(
        f"no right to {what} {path}: join the group guardian (sudo usermod -aG guardian $USER, "
        "then log in again) or use sudo"
    )


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the database for reading, while the daemon writes or not.

    A member of the group cannot write the folder. While the daemon runs, -wal and -shm are
    there and readable; after a clean stop there is no WAL and the file is read as it lies.
    """
    must_exist(path)
    uri = path.absolute().as_uri() + "?mode=ro"
    if not path.with_name(path.name + "-wal").exists() and not os.access(path.parent, os.W_OK):
        uri += "&immutable=1"
    try:
        db = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None)
    except sqlite3.Error as error:
        raise _unusable(path, error) from error
    try:
        _check_version(db, path)
    except sqlite3.Error as error:
        db.close()
        raise _unusable(path, error) from error
    except StoreError:
        db.close()
        raise
    return db


def _refuse_newer(path: Path, found: int, known: int) -> None:
    if found > known:
        raise StoreError(
            f"{path} was written by a newer Guardian (tables of version {found}, this one knows "
            f"{known}): upgrade Guardian, or give another file with --db"
        )


def _check_version(db: sqlite3.Connection, path: Path) -> None:
    check_ours(db, path)
    found = version(db)
    _refuse_newer(path, found, len(MIGRATIONS))
    if found != len(MIGRATIONS):
        raise StoreError(
            f"{path} has tables of version {found}, this Guardian reads {len(MIGRATIONS)}: "
            "start the daemon of the same Guardian once, it converts them"
        )


def _unusable(path: Path, error: Exception) -> StoreError:
    text = _short(error)
    if not os.access(path, os.R_OK):
        return no_right(path, "read")
    if "locked" in text:
        return StoreError(f"{path} is locked by another program ({text}): try again when it ended")
    if type(error) is not sqlite3.DatabaseError:
        return StoreError(f"cannot use the database {path} ({text}): check its rights and the disk")
    return DamagedError(
        f"{path} is damaged or no database ({text}): move it aside and start again, "
        "or restore a backup"
    )


def _short(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def document() -> str:
    """Return the tables as Markdown, the generated part of docs/database.md."""
    # sqlite-utils reads back what SQLite made of the scripts; it stays out of the daemon.
    import sqlite_utils  # noqa: PLC0415

    memory = sqlite3.connect(":memory:")
    try:
        for script in MIGRATIONS:
            memory.executescript(script)
        db = sqlite_utils.Database(memory)
        lines = [f"Version {len(MIGRATIONS)}.", ""]
        for table in db.tables:
            if table.name.startswith("sqlite_"):
                continue
            notes = _comments(table.schema)
            lines += [f"### {table.name}", "", notes["CREATE"].capitalize() + ".", ""]
            lines += ["| column | type | meaning |", "|---|---|---|"]
            for column in table.columns:
                key = ", key" if column.is_pk else ""
                lines.append(f"| {column.name} | {column.type}{key} | {notes[column.name]} |")
            lines.append("")
    finally:
        memory.close()
    return "\n".join(lines)


def _comments(sql: str) -> dict[str, str]:
    return dict(re.findall(r"^\s*(\w+).*?-- (.*)$", sql, flags=re.MULTILINE))


MARK = "<!-- python -m guardian.schema docs/database.md writes what follows -->\n"


def main(path: Path) -> None:
    """Write the tables into the document, below the mark."""
    text = path.read_text(encoding="utf-8")
    path.write_text(text.partition(MARK)[0] + MARK + "\n" + document(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

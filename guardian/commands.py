"""What the user tells the daemon: rows in a small database that the group may write.

The daemon's own database is read-only for the group `guardian`. Beside it lies
`NAME-commands.db`, mode 0660: the command line appends rows there, the daemon takes them over
into its own `commands` table and removes them. Its journal is made once and then only
truncated, so that a member of the group needs no right to write the folder.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import sqlite3
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from guardian.const import MAX_NAME
from guardian.schema import (
    BUSY_S,
    COMMANDS,
    StoreError,
    make_file,
    must_exist,
    no_right,
    statements,
)

Kind = Literal[
    "allow",
    "snooze",
    "feedback",
    "name",
    "undo",
    "forget",
    "link",
    "unlink",
    "unlearn",
    "budget",
    "drill",
    "install",
    "rollback",
]
KINDS: tuple[str, ...] = get_args(Kind)

ANSWERS = ("this-was-me", "fine", "bad")
"""What `guardian feedback` may say of an incident."""

MAX_ARGS = 4_096
"""Characters of a command's arguments; the rows come from outside the daemon."""

MAX_TEXT = 256
"""Characters of one text in them."""

MAX_TAKEN = 256
"""Commands taken over at once; the rest waits for the next poll."""

DROP_MODE = 0o660


@dataclass(frozen=True)
class Command:
    """One wish of the user's. Arguments are checked: see `check`.

    allow: device, peer, cause (each text or null, not all null), until (ns or null).
    snooze: device, until (ns). feedback: incident, answer. name: device, name.
    undo: command, the id of an allow, a snooze or a feedback. forget: device.
    link: device, old, the keys of a device and of the earlier one that it is. unlink: device.
    unlearn: device (empty: all).
    budget: a_week (0: no limit). install: anyway (true asks for no rehearsal). drill and rollback
    take none.
    """

    id: str
    created: int
    author: str
    kind: Kind
    args: dict[str, Any]


def drop_path(db: Path) -> Path:
    """Return the path of the drop-box of a database."""
    return db.with_name(f"{db.stem}-commands.db")


def new(kind: Kind, args: dict[str, Any], now: int) -> Command:
    """Return a new command of the person who runs this process."""
    try:
        author = getpass.getuser()
    except (KeyError, OSError):
        author = str(os.getuid())
    return Command(secrets.token_hex(8), now, author, kind, args)


_TEXTS: dict[str, tuple[str, ...]] = {
    "allow": ("device", "peer", "cause"),
    "snooze": ("device",),
    "feedback": ("incident", "answer"),
    "name": ("device", "name"),
    "undo": ("command",),
    "forget": ("device",),
    "link": ("device", "old"),
    "unlink": ("device",),
    "unlearn": ("device",),
    "budget": (),
    "drill": (),
    "install": (),
    "rollback": (),
}

MAX_BUDGET = 10_000
"""Alerts a week, as in the settings."""


def check(kind: str, args: Any) -> str | None:
    """Return what is wrong with a command from outside, None where it is right."""
    if kind not in KINDS:
        return "unknown kind of command"
    if not isinstance(args, dict):
        return "arguments are no object"
    allow = kind == "allow"
    given = [args.get(key) for key in _TEXTS[kind]]
    until = args.get("until")
    timed = type(until) is int and 0 <= until < 1 << 63
    a_week = args.get("a_week")
    wrong = (
        (any(isinstance(v, str) and len(v) > MAX_TEXT for v in given), "a text is too long"),
        (
            not all(isinstance(v, str) or (allow and v is None) for v in given),
            "needs texts: " + ", ".join(_TEXTS[kind]),
        ),
        (
            kind in {"allow", "snooze"} and not timed and not (allow and until is None),
            "until is no time in nanoseconds",
        ),
        (
            kind == "budget" and not (type(a_week) is int and 0 <= a_week <= MAX_BUDGET),
            f"a_week is no number from 0 to {MAX_BUDGET:,}",
        ),
        (allow and not any(given), "allows everything: name a device, a peer or a cause"),
        (
            kind == "feedback" and args.get("answer") not in ANSWERS,
            "answer is none of " + ", ".join(ANSWERS),
        ),
    )
    return next((sentence for is_wrong, sentence in wrong if is_wrong), None)


def clean_name(name: str) -> str:
    """Return a name that is safe to print and to publish, at most MAX_NAME characters."""
    return "".join(c for c in name if c.isprintable())[:MAX_NAME].strip()


def make_drop(path: Path) -> None:
    """Make the drop-box and its journal with rights for the group, where they are not there.

    Raises StoreError where something else lies at the path.
    """
    for file in (path, path.with_name(path.name + "-journal")):
        if file.is_symlink() or (file.exists() and not stat.S_ISREG(file.stat().st_mode)):
            raise StoreError(f"{file} is no plain file: remove it, Guardian makes its own")
        make_file(file, DROP_MODE)
    db = _open(path)
    try:
        if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in statements(COMMANDS):
                db.execute(statement)
    finally:
        db.close()


def _open(path: Path) -> sqlite3.Connection:
    uri = path.absolute().as_uri() + "?mode=rw"
    db = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None)
    db.execute("PRAGMA journal_mode = TRUNCATE")
    return db


def give(db_path: Path, command: Command) -> None:
    """Write a command where the daemon of this database finds it.

    That is the drop-box; a database without one (made by a replay) takes it itself.
    Raises StoreError with a sentence where that is not allowed.
    """
    must_exist(db_path)
    drop = drop_path(db_path)
    target = drop if drop.exists() else db_path
    try:
        if target is drop:
            db = _open(target)
        else:
            db = sqlite3.connect(target, timeout=BUSY_S, isolation_level=None)
        try:
            db.execute(
                "INSERT INTO commands (id, created, author, kind, args) VALUES (?, ?, ?, ?, ?)",
                (command.id, command.created, command.author, command.kind,
                 json.dumps(command.args)),
            )  # fmt: skip
        finally:
            db.close()
    except sqlite3.Error as error:
        if not os.access(target, os.W_OK):
            raise no_right(target, "write") from error
        raise StoreError(f"cannot write {target} ({error}): start the daemon once") from error


def waiting(db_path: Path) -> int:
    """Return how many commands lie in the drop-box of a database; 0 where nobody may look."""
    drop = drop_path(db_path)
    if not drop.exists():
        return 0
    try:
        db = sqlite3.connect(drop.absolute().as_uri() + "?mode=ro", uri=True, timeout=BUSY_S)
        try:
            return int(db.execute("SELECT count(*) FROM commands").fetchone()[0])
        finally:
            db.close()
    except sqlite3.Error:
        return 0


class DropBox:
    """The daemon's side of the drop-box. Its rows are untrusted."""

    def __init__(self, path: Path) -> None:
        make_drop(path)
        self._db = _open(path)

    def read(self) -> list[tuple[int, tuple[str, int, str, str, str]]]:
        """Return (row, (id, created, author, kind, args)) of what waits, oldest first."""
        rows = self._db.execute(
            "SELECT rowid, substr(id, 1, 64), created, substr(author, 1, 64), substr(kind, 1, 16),"
            f" substr(args, 1, {MAX_ARGS + 1}) FROM commands ORDER BY rowid LIMIT {MAX_TAKEN}"
        ).fetchall()
        return [
            (row, (str(i), c if isinstance(c, int) else 0, str(a), str(k), str(j)))
            for row, i, c, a, k, j in rows
        ]

    def remove(self, rows: list[int]) -> None:
        """Remove rows that stand in the daemon's own database now."""
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("DELETE FROM commands WHERE rowid = ?", ((row,) for row in rows))
        self._db.execute("COMMIT")

    def close(self) -> None:
        self._db.close()

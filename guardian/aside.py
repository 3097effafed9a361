"""A damaged database is moved aside and told; what can still be read goes into the new one."""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from guardian.addresses import mac_pack, pack
from guardian.schema import DamagedError
from guardian.told import incident_of
from guardian.transact import damaged, transaction

log = logging.getLogger("guardian.store")

CHECKED_BYTES = 64 << 20
"""A file up to this is read through after a run that was cut off: two seconds on an SD card."""

FACTS = ("installation", "budget", "alerts_a_week", "privacy_level", "connections_taken")
"""What is taken over of the facts."""


def check(db: sqlite3.Connection, path: Path) -> None:
    """Read a database through that a run left without closing it. Raises DamagedError."""
    try:
        ended = db.execute("SELECT value FROM meta WHERE key = 'ended'").fetchone()
        if ended != ("unclean",) or path.stat().st_size > CHECKED_BYTES:
            return
        found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        if not damaged(error):
            raise
        found = str(error)
    if found != "ok":
        raise DamagedError(f"{path} is damaged ({found}): restore a backup")


def move(path: Path) -> Path:
    """Move a database with its WAL aside and return where it is; only the last one is kept."""
    for old in path.parent.glob(f"{path.name}.damaged-*"):
        old.unlink(missing_ok=True)
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    for end in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            path.with_name(path.name + end).rename(aside.with_name(aside.name + end))
    return aside


def salvage(aside: Path, db: sqlite3.Connection) -> dict[str, int]:
    """Copy what can be read and makes sense from a damaged file; return how many rows of each
    table."""
    out: dict[str, int] = {}
    with suppress(sqlite3.Error), closing(sqlite3.connect(aside, isolation_level=None)) as old:
        old.row_factory = sqlite3.Row
        for table, sound in _TABLES.items():
            rows = _readable(old, table, sound)
            if not rows:
                continue
            wanted = {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
            columns = [name for name in rows[0] if name in wanted]
            marks = ", ".join("?" * len(columns))
            with transaction(db):
                db.executemany(
                    f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}) VALUES ({marks})",
                    ([row[name] for name in columns] for row in rows),
                )
            out[table] = len(rows)
    return out


def _readable(
    old: sqlite3.Connection, table: str, sound: Callable[[dict[str, Any]], bool]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    with suppress(sqlite3.Error):
        for row in old.execute(f"SELECT * FROM {table}"):
            one = dict(row)
            with suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
                if sound(one):
                    rows.append(one)
    return rows


def _fact(row: dict[str, Any]) -> bool:
    return row["key"] in FACTS and isinstance(row["value"], str)


def _device(row: dict[str, Any]) -> bool:
    for text in json.loads(row["addresses"]):
        pack(text)
    if row["mac"]:
        mac_pack(row["mac"])
    return row["key"] in {row["mac"], f"ip:{row['key'][3:]}"} and _times(
        row["first_seen"], row["last_seen"]
    )


def _kin(row: dict[str, Any]) -> bool:
    return isinstance(row["key"], str) and isinstance(json.loads(row["names"]), list)


def _command(row: dict[str, Any]) -> bool:
    return row["result"] == "ok" and isinstance(json.loads(row["args"]), dict)


def _incident(row: dict[str, Any]) -> bool:
    return bool(incident_of(row).id) and _times(row["opened"], row["updated"])


def _times(*times: Any) -> bool:
    return all(type(at) is int and at >= 0 for at in times)


_TABLES: dict[str, Callable[[dict[str, Any]], bool]] = {
    "meta": _fact,
    "devices": _device,
    "kin": _kin,
    "incidents": _incident,
    "commands": _command,
}
"""What is worth taking over: what the user said, who is at home, what was told."""

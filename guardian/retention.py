"""What goes from the database by age, in small steps that never hold up the daemon."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from guardian.const import MAX_DEVICES, NS
from guardian.outbox import KEEP_SENT_NS

DAY_NS = 24 * 3600 * NS

STEP_ROWS = 2_000
"""Rows that one step deletes from a table: some milliseconds, also on an SD card."""

STEP_PAGES = 1_000
"""Pages (4 KiB) that one step gives back to the disk."""

FREE_SHARE = 0.1
"""Free pages are given back only beyond this share: the rest is used again by new rows, and
moving it would wear the card."""


@dataclass(frozen=True)
class Retention:
    """Days that rows stay."""

    connections: float = 30
    incidents: float = 365
    devices: float = 365
    """Days since last seen; a device that the user named stays."""


def prune(db: sqlite3.Connection, now: int, keep: Retention) -> int:
    """Delete up to STEP_ROWS outdated rows of each table; return how many rows went.

    Call again soon while it returns more than 0. `now` is the wall clock, ns.
    """
    conns = now - int(keep.connections * DAY_NS)
    incidents = now - int(keep.incidents * DAY_NS)
    devices = now - int(keep.devices * DAY_NS)
    steps = (
        ("connections", "id", "ts < ? ORDER BY ts", conns),
        ("scores", "uid", "ts < ?", conns),
        ("incidents", "id", "updated < ? AND closed IS NOT NULL ORDER BY updated", incidents),
        ("outbox", "seq", "sent < ? ORDER BY seq", now - KEEP_SENT_NS),
        # An allowance stays as long as it holds, and without an end for good. What was refused may
        # be no JSON.
        ("commands", "rowid", "done < ?1 AND CASE WHEN kind = 'allow' AND result = 'ok' "
         "THEN coalesce(json_extract(args, '$.until'), 1 << 62) ELSE 0 END < ?1", incidents),
        ("devices", "key", "last_seen < ? AND user_name IS NULL", devices),
    )  # fmt: skip
    gone = 0
    for table, key, condition, limit in steps:
        # Table, key and condition are the literals above.
        sql = f"DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} WHERE {condition} LIMIT ?)"  # noqa: E501
        gone += db.execute(sql, (limit, STEP_ROWS)).rowcount
    gone += _surplus_devices(db)
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    free = db.execute("PRAGMA freelist_count").fetchone()[0]
    if free > max(STEP_PAGES, FREE_SHARE * pages):
        # A page per step and no column: only executescript steps to the end.
        db.executescript(f"PRAGMA incremental_vacuum({STEP_PAGES})")
    return gone


def _surplus_devices(db: sqlite3.Connection) -> int:
    """Invented MACs must not fill the disk: beyond MAX_DEVICES those longest unseen go."""
    total = db.execute("SELECT count(*) FROM devices WHERE user_name IS NULL").fetchone()[0]
    if total <= MAX_DEVICES:
        return 0
    return db.execute(
        "DELETE FROM devices WHERE key IN (SELECT key FROM devices WHERE user_name IS NULL "
        "ORDER BY last_seen LIMIT ?)",
        (min(total - MAX_DEVICES, STEP_ROWS),),
    ).rowcount

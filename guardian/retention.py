"""What goes from the database by age and by size, in small steps that never hold up the daemon."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from guardian.const import MAX_DEVICES, NS
from guardian.outbox import KEEP_SENT_NS
from guardian.schema import WAL_BYTES

DAY_NS = 24 * 3600 * NS

STEP_ROWS = 2_000
"""Rows that one step deletes from a table: some milliseconds, also on an SD card."""

STEP_PAGES = 1_000
"""Pages (4 KiB) that one step gives back to the disk."""

FREE_SHARE = 0.1
"""Free pages are given back only beyond this share: the rest is used again by new rows, and
moving it would wear the card."""


KEEP_SHARE = 0.9
"""Of the limit: the rest is for what comes until the next look."""

ROWS_PER_PAGE = 8
"""Connections that fit into a page with their index, at the least."""

SPARE_PAGES = 64
"""For incidents, messages and devices of one commit."""


@dataclass(frozen=True)
class Retention:
    """Days that rows stay."""

    connections: float = 30
    incidents: float = 365
    devices: float = 365
    """Days since last seen; a device that the user named stays."""
    max_bytes: int = 0
    """The most that the file and its WAL take; beyond it connections go before their time, the
    oldest first. 0: no limit."""


def prune(db: sqlite3.Connection, now: int, keep: Retention) -> int:
    """Delete up to STEP_ROWS outdated rows of each table; return how many rows went.

    Call again soon while it returns more than 0. `now` is the wall clock, ns.
    """
    conns = now - int(keep.connections * DAY_NS)
    incidents = now - int(keep.incidents * DAY_NS)
    devices = now - int(keep.devices * DAY_NS)
    steps = (
        ("connections", "id", "ts < :at ORDER BY ts", conns),
        ("scores", "uid", "ts < :at", conns),
        ("incidents", "id", "updated < :at AND closed IS NOT NULL ORDER BY updated", incidents),
        ("outbox", "seq", "sent < :at ORDER BY seq", now - KEEP_SENT_NS),
        # An allowance stays as long as it holds, and without an end for good. What was refused may
        # be no JSON.
        ("commands", "rowid", "done < :at AND CASE WHEN kind = 'allow' AND result = 'ok' "
         "THEN coalesce(json_extract(args, '$.until'), 1 << 62) ELSE 0 END < :at", incidents),
        ("devices", "key", "last_seen < :at AND user_name IS NULL", devices),
        ("totals", "hour", "hour < :at", incidents),
        ("pasts", "device", "at < :at", devices),
        ("changes", "at", "at < :at", incidents),
    )  # fmt: skip
    gone = 0
    for table, key, condition, limit in steps:
        # Table, key and condition are the literals above.
        sql = f"DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} WHERE {condition} LIMIT :rows)"  # noqa: E501
        gone += db.execute(sql, {"at": limit, "rows": STEP_ROWS}).rowcount
    gone += _surplus_devices(db)
    db.execute(
        "DELETE FROM kin WHERE key NOT IN (SELECT key FROM devices) "
        "AND (state <> 'linked' OR same_as NOT IN (SELECT key FROM devices))"
    )
    for table in ("pasts", "changes"):
        db.execute(f"DELETE FROM {table} WHERE device NOT IN (SELECT key FROM devices)")
    gone += _beyond(db, most_pages(db, keep), STEP_ROWS)
    _give_back(db, most_pages(db, keep))
    return gone


def most_pages(db: sqlite3.Connection, keep: Retention) -> int:
    """Return how many pages the file may have, room for the WAL left out; 0 for no limit."""
    size = int(db.execute("PRAGMA page_size").fetchone()[0])
    return max(1, (keep.max_bytes - WAL_BYTES) // size) if keep.max_bytes else 0


def make_room(db: sqlite3.Connection, keep: Retention, rows: int) -> int:
    """Delete oldest connections so that so many new rows fit below the limit; return how many.

    Called before a commit: what comes quicker than prune() is called must not pass the limit.
    """
    most = most_pages(db, keep)
    if not most:
        return 0
    gone = _beyond(db, most - rows // ROWS_PER_PAGE - SPARE_PAGES, rows + STEP_ROWS)
    db.execute(f"PRAGMA max_page_count = {most}")  # what stands beyond all sums: no page more
    return gone


def _beyond(db: sqlite3.Connection, most: int, rows: int) -> int:
    """Delete up to `rows` of the oldest connections, else of ended incidents, where more than
    nine tenths of `most` pages are in use."""
    if not most or _used(db) <= KEEP_SHARE * most:
        return 0
    gone = db.execute(
        "DELETE FROM connections WHERE id IN (SELECT id FROM connections ORDER BY ts LIMIT ?)",
        (rows,),
    ).rowcount
    if gone:
        return gone
    return db.execute(
        "DELETE FROM incidents WHERE id IN (SELECT id FROM incidents WHERE closed IS NOT NULL "
        "ORDER BY updated LIMIT ?)",
        (max(1, rows // 100),),
    ).rowcount


def _used(db: sqlite3.Connection) -> int:
    pages = int(db.execute("PRAGMA page_count").fetchone()[0])
    return pages - int(db.execute("PRAGMA freelist_count").fetchone()[0])


def _give_back(db: sqlite3.Connection, most: int) -> None:
    """Give free pages back to the disk: a step of them where many are free, all beyond a limit."""
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    free = db.execute("PRAGMA freelist_count").fetchone()[0]
    step = STEP_PAGES if free > max(STEP_PAGES, FREE_SHARE * pages) else 0
    if most and pages > most:
        step = max(step, min(free, pages - most))
    if step:
        # A page per step and no column: only executescript steps to the end.
        db.executescript(f"PRAGMA incremental_vacuum({step})")


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

"""The connections of a database as the records they were: for rehearsals and for training."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from guardian.addresses import pack
from guardian.const import NS
from guardian.discovery import DRILL_MAC
from guardian.tables import CONN_STATES, Conns

_MAGIC = b"SQLite format 3\0"


def is_database(path: Path) -> bool:
    """Tell by its first bytes whether a file is an SQLite database."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def lived(db: sqlite3.Connection, where: str = "", args: Sequence[object] = ()) -> sqlite3.Cursor:
    """Return the connections that devices of the home made: no fire drill's.

    `where` goes on after a condition, as in `AND ts > ? ORDER BY ts`.
    """
    return db.execute(f"SELECT * FROM connections WHERE device <> ? {where}", (DRILL_MAC, *args))


def sides_of(row: sqlite3.Row, owner: dict[str, str]) -> tuple[str, str]:
    """Return the keys of the devices of the home on either side, empty for none."""
    orig = owner.get(row["orig_h"], "") if row["local_orig"] else ""
    resp = owner.get(row["resp_h"], "") if row["local_resp"] else ""
    if row["device"] and row["device"] not in (orig, resp):
        # Its address is another's by now: the row itself knows best.
        if row["local_orig"]:
            orig = row["device"]
        else:
            resp = row["device"]
    return orig, "" if resp == orig else resp


_COUNTS = (
    "missed_bytes", "orig_pkts", "orig_ip_bytes", "resp_pkts", "resp_ip_bytes", "ts", "orig_p",
    "resp_p", "proto", "duration", "local_orig", "local_resp",
)  # fmt: skip


def conns_of(rows: Sequence[sqlite3.Row]) -> Conns:
    """Return the rows as finished records."""
    blank = Conns.blank(len(rows))
    states = {name: k for k, name in enumerate(CONN_STATES)}
    for name in _COUNTS:
        getattr(blank, name)[:] = [row[name] for row in rows]
    for name in ("orig_bytes", "resp_bytes"):
        getattr(blank, name)[:] = [-1 if row[name] is None else row[name] for row in rows]
    for name in ("uid", "service", "history", "host"):
        getattr(blank, name)[:] = [row[name].encode("ascii", "replace") for row in rows]
    packed = {text: pack(text) for row in rows for text in (row["orig_h"], row["resp_h"])}
    blank.orig[:] = [packed[row["orig_h"]] for row in rows]
    blank.resp[:] = [packed[row["resp_h"]] for row in rows]
    blank.conn_state[:] = [states.get(row["conn_state"], 0) for row in rows]
    blank.age[:] = blank.duration
    blank.final[:] = True
    blank.told[:] = blank.ts + np.rint(blank.duration * NS).astype(np.int64)
    return blank

"""Takes out of a database what a privacy level that was raised no longer allows."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable
from typing import Any

from guardian.outbox import encode
from guardian.privacy import COUNTERS, NO_HOSTS, NO_REMOTE, Privacy
from guardian.storerows import evidence_of
from guardian.told import incident_of
from guardian.totals import AMOUNTS, HOUR_NS
from guardian.transact import transaction

log = logging.getLogger("guardian.store")

_BLANK = (
    "UPDATE connections SET {0}_h = CASE WHEN instr({0}_h, ':') THEN '::' ELSE '0.0.0.0' END "
    "WHERE NOT local_{0}"
)


STEPS = 50_000
"""Steps of SQLite's between two calls of `alive`, some hundredths of a second."""


def scrub(
    db: sqlite3.Connection, privacy: Privacy, alive: Callable[[], object] | None = None
) -> None:
    """Reduce all that is stored to the level, and write the file anew so that nothing stays in
    its unused parts. Takes seconds for a small file, a minute or more for a gigabyte; `alive` is
    called all the while.
    """

    def going_on() -> int:
        if alive is not None:
            alive()
        return 0  # anything else would end it

    db.set_progress_handler(going_on, STEPS)
    try:
        _scrub(db, privacy)
    finally:
        db.set_progress_handler(None, STEPS)


def _scrub(db: sqlite3.Connection, privacy: Privacy) -> None:
    with transaction(db):
        if privacy.level >= NO_HOSTS:
            _no_hosts(db, privacy)
        if privacy.level >= NO_REMOTE:
            db.execute("DELETE FROM pasts")  # they know whom a device called
            for side in ("orig", "resp"):
                db.execute(_BLANK.format(side))
        if privacy.level >= COUNTERS:
            _counters(db)
    try:
        db.execute("VACUUM")
    except sqlite3.OperationalError as error:
        log.warning(
            "unused parts of the database may still hold what was taken out (%s): make room and "
            "start again, or begin a new database", error,
        )  # fmt: skip
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _no_hosts(db: sqlite3.Connection, privacy: Privacy) -> None:
    db.execute("UPDATE connections SET host = '' WHERE host <> ''")
    learned = dict(db.execute("SELECT key, learned FROM devices WHERE learned <> ''").fetchall())
    named = dict(db.execute("SELECT key, user_name FROM devices WHERE user_name <> ''").fetchall())
    db.execute("UPDATE devices SET learned = ''")
    db.execute("UPDATE kin SET names = '[]'")
    # Why a device may be an earlier one: "(NAME)" and what follows.
    db.execute(
        "UPDATE kin SET reason = substr(reason, 1, instr(reason, ' (') - 1) "
        "WHERE instr(reason, ' (')"
    )
    cursor = db.execute("SELECT * FROM incidents")
    columns = [column[0] for column in cursor.description]
    for row in cursor.fetchall():
        _incident(db, privacy, dict(zip(columns, row, strict=True)), named)
    db.execute("DELETE FROM outbox WHERE sent IS NOT NULL OR kind <> 'incident'")
    waiting = db.execute("SELECT seq, payload FROM outbox").fetchall()
    gone = set(learned.values())
    db.executemany(
        "UPDATE outbox SET payload = ? WHERE seq = ?",
        ((_payload(privacy, payload, gone), seq) for seq, payload in waiting),
    )


def _incident(
    db: sqlite3.Connection, privacy: Privacy, row: dict[str, Any], named: dict[str, str]
) -> None:
    old = row["name"]
    new = named.get(row["device"]) or row["ip"] or row["mac"]
    if old not in ("", new):
        for column in ("explanation", "advice"):
            row[column] = row[column].replace(old, new)
    row["name"] = new
    less = privacy.incident(incident_of(row))
    db.execute(
        "UPDATE incidents SET name = ?, explanation = ?, advice = ?, evidence = ? WHERE id = ?",
        (new, less.explanation, less.advice, evidence_of(less), less.id),
    )


def _payload(privacy: Privacy, payload: str, names: set[str]) -> str:
    """Return what waits for the broker, without what may not be told any more."""
    told = json.loads(payload)
    device = told.get("device") or {}
    hosts = {peer.get("host", "") for peer in told.get("peers", ())} - {""}
    if device.get("name") in names:
        old, device["name"] = device["name"], device.get("ip") or device.get("mac")
        for key in ("explanation", "advice"):
            told[key] = str(told.get(key, "")).replace(old, device["name"])
    own = device.get("ip") or ""
    for key in ("explanation", "advice"):
        told[key] = privacy.text(str(told.get(key, "")), hosts, own)
    for feature in told.get("features", ()):
        feature["text"] = privacy.text(str(feature.get("text", "")), hosts, own)
    for peer in told.get("peers", ()):
        peer["ip"], peer["host"] = privacy.place(peer["ip"]), ""
    if not privacy.rows:
        told["peers"] = []
    return encode(told)


def _counters(db: sqlite3.Connection) -> None:
    amounts = ", ".join(f"sum(coalesce({name}, 0))" for name in AMOUNTS)
    ended = (
        f"ts + CAST(duration * 1e9 AS INTEGER) - (ts + CAST(duration * 1e9 AS INTEGER)) % {HOUR_NS}"
    )
    db.execute(
        f"INSERT OR REPLACE INTO totals (hour, device, verdict, connections, {', '.join(AMOUNTS)}) "
        f"SELECT {ended}, device, verdict, sum(count), {amounts} FROM connections GROUP BY 1, 2, 3"
    )
    for table in ("connections", "scores"):
        db.execute(f"DELETE FROM {table}")

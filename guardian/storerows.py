"""How devices, connections and incidents stand in their tables; inside the caller's transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from guardian.commands import clean_name
from guardian.connrows import COLUMNS, ConnRows
from guardian.devices import Device
from guardian.incidents import Incident, IncidentEvent
from guardian.outbox import encodable, encode
from guardian.verdicts import VERDICTS

_INCIDENT = (
    "id", "device", "mac", "ip", "name", "opened", "updated", "closed", "severity", "cause",
    "label", "speaker", "score", "explanation", "advice", "evidence", "count", "bundle",
)  # fmt: skip


def write_devices(db: sqlite3.Connection, devices: Iterable[Device]) -> None:
    """Write devices; a name once learned stays where none is known now."""
    db.executemany(
        "INSERT INTO devices (key, mac, learned, addresses, gateway, first_seen, last_seen) "
        "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
        "learned = CASE excluded.learned WHEN '' THEN learned ELSE excluded.learned END, "
        "addresses = excluded.addresses, gateway = excluded.gateway, "
        "first_seen = min(first_seen, excluded.first_seen), "
        "last_seen = max(last_seen, excluded.last_seen)",
        (
            (d.key, d.mac, clean_name(d.name), encode(d.addresses), int(d.gateway),
             d.first_seen, d.last_seen)
            for d in devices
        ),
    )  # fmt: skip


def write_kin(db: sqlite3.Connection, devices: Iterable[Device], *, names: bool) -> None:
    """Write how devices show themselves; with `names`, also what they call themselves."""
    db.executemany(
        "INSERT INTO kin (key, fingerprint, names, state, reason, at) VALUES (?, ?, ?, '', '', 0) "
        "ON CONFLICT (key) DO UPDATE SET fingerprint = excluded.fingerprint, names = excluded.names"
        " WHERE fingerprint <> excluded.fingerprint OR names <> excluded.names",
        (
            (d.key, d.fingerprint, encode(d.heard if names else ()))
            for d in devices
            if d.fingerprint or d.heard
        ),
    )


def read_devices(db: sqlite3.Connection) -> list[Device]:
    """Return the devices that are known, the one seen last at the end; those that are linked to an
    earlier one are part of it."""
    rows = db.execute(
        "SELECT d.key, mac, addresses, learned, gateway, first_seen, last_seen, "
        "coalesce(fingerprint, ''), coalesce(names, '[]') FROM devices d LEFT JOIN kin k "
        "ON k.key = d.key WHERE coalesce(state, '') <> 'linked' ORDER BY last_seen, d.key"
    ).fetchall()
    return [
        Device(
            i, key, mac, tuple(json.loads(addresses)), name, bool(gateway), first, last,
            fingerprint, tuple(json.loads(names)),
        )
        for i, (key, mac, addresses, name, gateway, first, last, fingerprint, names)
        in enumerate(rows)
    ]  # fmt: skip


def write_conns(db: sqlite3.Connection, conns: ConnRows, now: int) -> None:
    """Write finished connections and the scores of living ones.

    A connection that stands there already (the same uid and beginning: a capture that is replayed
    again) is replaced.
    """
    change = ", ".join(f"{c} = excluded.{c}" for c in COLUMNS if c not in {"ts", "uid"})
    db.executemany(
        f"INSERT INTO connections ({', '.join(COLUMNS)}) VALUES ({_marks(COLUMNS)}) "
        f"ON CONFLICT (ts, uid) DO UPDATE SET {change}",
        conns.rows,
    )
    db.executemany(
        "INSERT OR REPLACE INTO scores (uid, ts, device, anomaly, threat, label, verdict) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            (uid, now, b.device, b.anomaly, b.threat, b.label, VERDICTS[b.verdict])
            for uid, b in conns.changed.items()
            if b.verdict  # what is benign so far spares the card a page in each commit
        ),
    )
    db.executemany("DELETE FROM scores WHERE uid = ?", ((uid,) for uid in conns.ended))


def write_incidents(
    db: sqlite3.Connection,
    incidents: Iterable[Incident],
    events: Iterable[IncidentEvent],
    bundle: str,
) -> None:
    """Write incidents as they are now, and their changes; a change told twice stands there once."""
    change = ", ".join(f"{c} = excluded.{c}" for c in _INCIDENT[5:] if c != "bundle")
    db.executemany(
        f"INSERT INTO incidents ({', '.join(_INCIDENT)}) VALUES ({_marks(_INCIDENT)}) "
        f"ON CONFLICT (id) DO UPDATE SET {change}",
        (_incident_row(i, bundle) for i in incidents),
    )
    db.executemany(
        "INSERT OR IGNORE INTO incident_events (incident, at, change, severity, score) "
        "VALUES (?, ?, ?, ?, ?)",
        (
            (e.incident.id, e.incident.updated, e.change, e.incident.severity, e.incident.score)
            for e in events
        ),
    )


def _marks(columns: tuple[str, ...]) -> str:
    return ", ".join("?" * len(columns))


def _incident_row(i: Incident, bundle: str) -> tuple[Any, ...]:
    return (
        i.id, i.device.mac or f"ip:{i.device.ip}", i.device.mac, i.device.ip,
        encodable(i.device.name), i.opened, i.updated, i.closed, i.severity, i.cause, i.label,
        i.speaker, i.score, encodable(i.explanation), encodable(i.advice), evidence_of(i),
        i.count, bundle,
    )  # fmt: skip


def evidence_of(incident: Incident) -> str:
    """Return an incident's features, peers and example connections as the column has them."""
    whole = incident.as_json()
    return encode({key: whole[key] for key in ("features", "peers", "connections")})

"""SQLite: what the pipeline found, batched, an incident and its message in one transaction.

One process and one thread write (the daemon or a replay); any number read. docs/database.md
has the tables and who may do what.
"""

from __future__ import annotations

import json
import logging
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from guardian.commands import MAX_ARGS, Command, DropBox, check, clean_name, drop_path
from guardian.connrows import COLUMNS, VERDICTS, ConnRows, Scored
from guardian.const import MAX_DEVICES, NS
from guardian.devices import Device
from guardian.incidents import (
    DeviceRef,
    Example,
    FeatureEvidence,
    Incident,
    IncidentEvent,
    Peer,
)
from guardian.lock import WriterLock
from guardian.outbox import Message, Outbox, encodable, encode, on_disk
from guardian.retention import Retention, prune
from guardian.rules import Rule, holding
from guardian.schema import StoreError, default_path, open_writer
from guardian.tables import Conns

__all__ = ["VERDICTS", "Scored", "Store", "StoreError", "default_path", "incident_of"]

log = logging.getLogger("guardian.store")

COMMIT_S = 5.0
"""Seconds. Plain rows are written so often: at most this is lost by a power cut, and an SD card
gets one write in place of hundreds. An incident is written at once."""

IDLE_NS = 60 * NS
"""Where nothing happened, last_commit is written this often: readers see that we run."""

NEW_NS = 2 * NS
"""A device that was never seen is written this soon, so that its user can name it."""

SEEN_NS = 60 * NS
"""A device's last_seen is written at most this often."""


class Store:
    """The database, opened for writing. Close it; then the next start knows it ended well."""

    def __init__(
        self,
        path: Path,
        *,
        drop_box: bool = False,
        commit_s: float = COMMIT_S,
        connections_days: float = 30,
        incidents_days: float = 365,
    ) -> None:
        """Open or create the database at `path`.

        `drop_box` makes the file beside it in which the group leaves commands (the daemon's
        business; a replay needs none). Raises StoreError with a sentence.
        """
        self.path = path
        self.keep = Retention(connections_days, incidents_days)
        self._db = open_writer(path)
        self._drop: DropBox | None = None
        try:
            self._lock = WriterLock(path)
        except BaseException:
            self._db.close()
            raise
        try:
            with self._errors():
                self.outbox = Outbox(self._db)
                self._known = {key for (key,) in self._db.execute("SELECT key FROM devices")}
                ended = self._meta("ended")
                self.ended = ended or "new"
                """How the last run ended: `new`, `clean`, or `unclean` (killed, power cut)."""
                self.last_commit = int(self._meta("last_commit") or 0)
                """ns, 0 for a new database."""
                self._set_meta("ended", "unclean")
                if self._meta("installation") is None:
                    self._set_meta("installation", secrets.token_hex(4))
                self._count_lost()
                self.installation = self._meta("installation") or ""
                """Eight random hex digits that name this Guardian; stays with the database."""
                if drop_box:
                    self._drop = DropBox(drop_path(path))
        except BaseException:
            self._db.close()
            self._lock.release()
            raise
        self.bundle = ""
        """Digest of the models at work, written into incidents; see add_bundle."""
        self._commit_ns = int(commit_s * NS)
        self._tried = self._now = 0
        self._failing = False
        self._urgent = False
        self._newcomers = False
        self._conns = ConnRows()
        self._devices: dict[str, Device] = {}
        self._written: dict[str, Device] = {}
        self._incidents: dict[str, Incident] = {}
        self._events: list[IncidentEvent] = []
        self._messages: list[tuple[int, Message]] = []

    def _count_lost(self) -> None:
        """See how many connections the last writer had taken and not yet written, and say so."""
        written, noted = int(self._meta("connections_taken") or 0), self._lock.noted
        self.lost = None if noted is None else max(0, noted - written)
        """Connections that were lost with the last run; None where that is not known."""
        if self.ended != "unclean":
            self.lost = 0
        elif self.lost is None:
            log.warning(
                "the last run was cut off with the machine: connections of its last seconds may be "
                "missing"
            )
        elif self.lost:
            total = int(self._meta("lost_connections") or 0) + self.lost
            log.warning(
                "the last run was cut off: %s connections of its last seconds were not yet written "
                "(%s since the database began)",
                f"{self.lost:,}", f"{total:,}",
            )  # fmt: skip
            self._set_meta("lost_connections", str(total))
        self._taken = max(written, noted or 0)
        self._set_meta("connections_taken", str(self._taken))
        self._lock.note(self._taken)

    # --- what the pipeline found --------------------------------------------

    def add(
        self,
        *,
        records: Conns,
        scored: Scored,
        devices: Iterable[Device] = (),
        events: Sequence[IncidentEvent] = (),
        messages: Iterable[Message] = (),
        now: int,
    ) -> bool:
        """Take what a step found, and commit when it is time; return whether it committed.

        `records` are finished connections, `scored` the step's slices; `devices` may be all or
        the changed ones. `messages` are what the hub shall get for `events`: they are committed
        in the same transaction, and at once where an incident opened, escalated or closed.
        Send nothing that is not committed: take it from the outbox. `now` is ns.
        Raises StoreError where writing fails; all is kept and tried again COMMIT_S later.
        """
        self._now = now
        for device in devices:
            self._device(device)
        self._conns.add(records, scored, self._known)
        if len(records):
            self._taken += len(records)
            self._lock.note(self._taken)
        for event in events:
            self._incidents[event.incident.id] = event.incident
            if event.change != "updated":
                self._events.append(event)
                self._urgent = True
        for message in messages:
            self._messages.append((now, message))
            self._urgent = True
        # Nothing to write spares the card; but once a minute the file shows that we live. A clock
        # that was set back is due, too.
        pause = self._commit_ns if self._waiting() else max(self._commit_ns, IDLE_NS)
        if self._newcomers:
            pause = min(pause, NEW_NS)
        due = not 0 <= now - self._tried < pause
        if due or (self._urgent and not self._failing):
            self.commit(now)
            return True
        return False

    def _device(self, device: Device) -> None:
        old = self._devices.get(device.key) or self._written.get(device.key)
        self._newcomers |= device.key not in self._known
        self._known.add(device.key)
        if (
            old is None
            or device.last_seen - old.last_seen >= SEEN_NS
            or (device.name, device.addresses, device.gateway)
            != (old.name, old.addresses, old.gateway)
        ):
            self._devices[device.key] = device

    def _waiting(self) -> bool:
        return bool(self._conns.waiting() or self._devices or self._incidents or self._messages)

    def commit(self, now: int) -> None:
        """Write all that waits in one transaction. Raises StoreError and keeps it on failure."""
        self._tried, self._failing = now, True
        # What a person is told must not be undone by a power cut: it is on the disk before it is
        # sent. Plain rows may wait for the next time.
        durable = bool(self._events or self._messages)
        with self._errors(), on_disk(self._db, durable), self._transaction():
            self._write_devices()
            self._write_conns(now)
            self._write_incidents()
            dropped = self.outbox.put(self._messages)
            if dropped:
                total = int(self._meta("dropped_messages") or 0) + dropped
                self._set_meta("dropped_messages", str(total))
                log.warning(
                    "the broker is away for long: %d old messages were dropped (%d in all)",
                    dropped, total,
                )  # fmt: skip
            self._set_meta("connections_taken", str(self._taken))
            self._set_meta("last_commit", str(now))
        self._failing = self._urgent = self._newcomers = False
        self.last_commit = now
        self._conns.committed()
        self._written.update(self._devices)
        while len(self._written) > MAX_DEVICES:
            self._known.discard(oldest := next(iter(self._written)))
            del self._written[oldest]
        self._devices, self._incidents, self._events, self._messages = {}, {}, [], []

    def _write_devices(self) -> None:
        self._db.executemany(
            "INSERT INTO devices (key, mac, learned, addresses, gateway, first_seen, last_seen) "
            "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
            "learned = CASE excluded.learned WHEN '' THEN learned ELSE excluded.learned END, "
            "addresses = excluded.addresses, gateway = excluded.gateway, "
            "first_seen = min(first_seen, excluded.first_seen), "
            "last_seen = max(last_seen, excluded.last_seen)",
            (
                (d.key, d.mac, clean_name(d.name), encode(d.addresses), int(d.gateway),
                 d.first_seen, d.last_seen)
                for d in self._devices.values()
            ),
        )  # fmt: skip

    def _write_conns(self, now: int) -> None:
        marks = ", ".join("?" * len(COLUMNS))
        self._db.executemany(
            f"INSERT INTO connections ({', '.join(COLUMNS)}) VALUES ({marks})", self._conns.rows
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO scores (uid, ts, device, anomaly, threat, label, verdict) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (uid, now, b.device, b.anomaly, b.threat, b.label, VERDICTS[b.verdict])
                for uid, b in self._conns.changed.items()
            ),
        )
        self._db.executemany(
            "DELETE FROM scores WHERE uid = ?", ((uid,) for uid in self._conns.ended)
        )

    def _write_incidents(self) -> None:
        columns = (
            "id", "device", "mac", "ip", "name", "opened", "updated", "closed", "severity", "cause",
            "label", "speaker", "score", "explanation", "advice", "evidence", "count", "bundle",
        )  # fmt: skip
        change = ", ".join(f"{c} = excluded.{c}" for c in columns[5:] if c != "bundle")
        self._db.executemany(
            f"INSERT INTO incidents ({', '.join(columns)}) "
            f"VALUES ({', '.join('?' * len(columns))}) ON CONFLICT (id) DO UPDATE SET {change}",
            (self._incident_row(i) for i in self._incidents.values()),
        )
        self._db.executemany(
            "INSERT INTO incident_events (incident, at, change, severity, score) "
            "VALUES (?, ?, ?, ?, ?)",
            (
                (e.incident.id, e.incident.updated, e.change, e.incident.severity, e.incident.score)
                for e in self._events
            ),
        )

    def _incident_row(self, i: Incident) -> tuple[Any, ...]:
        whole = i.as_json()
        evidence = {key: whole[key] for key in ("features", "peers", "connections")}
        return (
            i.id, i.device.mac or f"ip:{i.device.ip}", i.device.mac, i.device.ip,
            encodable(i.device.name), i.opened, i.updated, i.closed, i.severity, i.cause, i.label,
            i.speaker, i.score, encodable(i.explanation), encodable(i.advice), encode(evidence),
            i.count, self.bundle,
        )  # fmt: skip

    def add_bundle(self, digest: str, name: str, manifest: Mapping[str, Any], now: int) -> None:
        """Note the bundle whose models judge from now on."""
        self.bundle = digest
        with self._errors():
            self._db.execute(
                "INSERT INTO bundles (digest, name, first_used, last_used, manifest) "
                "VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (digest) DO UPDATE SET last_used = excluded.last_used",
                (digest, name, now, now, encode(dict(manifest))),
            )

    def devices(self) -> list[Device]:
        """Return the devices that are known, the one seen last at the end."""
        with self._errors():
            rows = self._db.execute(
                "SELECT key, mac, addresses, learned, gateway, first_seen, last_seen "
                "FROM devices ORDER BY last_seen, key"
            ).fetchall()
        return [
            Device(i, key, mac, tuple(json.loads(addresses)), name, bool(gateway), first, last)
            for i, (key, mac, addresses, name, gateway, first, last) in enumerate(rows)
        ]

    def open_incidents(self) -> list[Incident]:
        """Return the incidents that are open, oldest first; after a crash, those of that run."""
        with self._errors():
            cursor = self._db.execute(
                "SELECT * FROM incidents WHERE closed IS NULL ORDER BY opened, id"
            )
            names = [c[0] for c in cursor.description]
            return [incident_of(dict(zip(names, row, strict=True))) for row in cursor]

    def untold(self) -> dict[str, bool]:
        """Return the open incidents that nobody was told of: snoozed, or held back (true)."""
        with self._errors():
            rows = self._db.execute(
                "SELECT id, EXISTS (SELECT 1 FROM incident_events WHERE incident = incidents.id "
                "AND change = 'held') FROM incidents WHERE closed IS NULL AND NOT EXISTS "
                "(SELECT 1 FROM incident_events WHERE incident = incidents.id "
                "AND change = 'opened')"
            )
            return {name: bool(held) for name, held in rows}

    def told(self, since: int) -> list[int]:
        """Return when incidents were told since a moment, ns."""
        with self._errors():
            rows = self._db.execute(
                "SELECT at FROM incident_events WHERE change = 'opened' AND at >= ?", (since,)
            )
            return [at for (at,) in rows]

    def note_limit(self, a_week: int) -> None:
        """Note how many incidents a week may be told, for those who read."""
        with self._errors():
            self._set_meta("alerts_a_week", str(a_week))

    # --- what the user wants -------------------------------------------------

    def poll_commands(self, now: int) -> list[Command]:
        """Return the commands that wait, oldest first, each until mark_done is called.

        Rows that are no valid command are marked as refused.
        """
        with self._errors():
            if self._drop is not None:
                self._take_over(self._drop)
            rows = self._db.execute(
                "SELECT id, created, author, kind, args FROM commands WHERE done IS NULL "
                "ORDER BY created, id"
            ).fetchall()
        out = []
        for name, created, author, kind, text in rows:
            try:
                args = json.loads(text) if len(text) <= MAX_ARGS else None
            except (ValueError, RecursionError):
                args = None
            wrong = check(kind, args)
            if wrong or args is None:
                log.warning("a command of %r was refused: %s", author, wrong)
                self.mark_done(name, now, f"refused: {wrong}")
            else:
                out.append(Command(name, created, author, kind, args))
        return out

    def _take_over(self, drop: DropBox) -> None:
        try:
            rows = drop.read()
            if rows:
                with self._transaction():
                    self._db.executemany(
                        "INSERT OR IGNORE INTO commands (id, created, author, kind, args) "
                        "VALUES (?, ?, ?, ?, ?)",
                        (row for _, row in rows),
                    )
                drop.remove([number for number, _ in rows])
        except sqlite3.Error as error:
            # The group can write that file: what is wrong with it must not stop the daemon.
            log.warning("cannot read the commands in %s: %s", drop_path(self.path), error)

    def mark_done(self, command: str, now: int, result: str = "ok") -> None:
        """Note that the command with this id was taken, or why it was refused."""
        with self._errors():
            self._db.execute(
                "UPDATE commands SET done = ?, result = ? WHERE id = ?", (now, result, command)
            )

    def rules(self, now: int) -> list[Rule]:
        """Return what the user said that holds at `now`, oldest first."""
        with self._errors():
            return holding(self._db, now)

    def undo(self, command: str) -> bool:
        """Take back an allow, a snooze or a feedback; false where none of that id holds.

        With a snooze go the earlier ones of its device, with a feedback those of its incident.
        """
        with self._errors(), self._transaction():
            row = self._db.execute(
                "SELECT kind, args FROM commands WHERE id = ? AND result = 'ok' "
                "AND kind IN ('allow', 'snooze', 'feedback')",
                (command,),
            ).fetchone()
            if row is None:
                return False
            kind, args = row[0], json.loads(row[1])
            field = {"snooze": "device", "feedback": "incident"}.get(kind)
            if field is None:
                self._db.execute("UPDATE commands SET result = 'undone' WHERE id = ?", (command,))
            else:
                self._db.execute(
                    "UPDATE commands SET result = 'undone' WHERE kind = ? AND result = 'ok' "
                    "AND json_extract(args, ?) = ?",
                    (kind, f"$.{field}", args[field]),
                )
            if kind == "feedback":
                self._db.execute(
                    "UPDATE incidents SET feedback = NULL WHERE id = ?", (args["incident"],)
                )
        return True

    def name_device(self, key: str, name: str) -> bool:
        """Give a device the user's name (empty: take it away); false where it is unknown."""
        with self._errors():
            cursor = self._db.execute(
                "UPDATE devices SET user_name = ? WHERE key = ?", (clean_name(name) or None, key)
            )
        return cursor.rowcount > 0

    def names(self) -> dict[str, str]:
        """Return the user's names by device key."""
        with self._errors():
            rows = self._db.execute("SELECT key, user_name FROM devices WHERE user_name <> ''")
            return dict(rows.fetchall())

    def set_feedback(self, incident: str, answer: str) -> bool:
        """Note what the user says of an incident; false where it is unknown."""
        with self._errors():
            cursor = self._db.execute(
                "UPDATE incidents SET feedback = ? WHERE id = ?", (answer, incident)
            )
        return cursor.rowcount > 0

    # --- upkeep --------------------------------------------------------------

    def prune(self, now: int) -> int:
        """Delete some outdated rows (see retention.prune); return how many. `now`: wall clock.

        Call it once a minute, and soon again while it returns more than 0.
        """
        with self._errors():
            return prune(self._db, now, self.keep)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close(self._now)

    def close(self, now: int) -> None:
        """Write what waits and close the database; the drop-box stays."""
        try:
            self.commit(now)
            with self._errors():
                self._set_meta("ended", "clean")
        finally:
            self._db.close()
            self._lock.release()
            if self._drop is not None:
                self._drop.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            # After some errors (a full disk) SQLite has rolled back by itself.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(
                f"cannot write the database {self.path} ({error}): check that the disk has room "
                "and no other program holds the file"
            ) from error

    def _meta(self, key: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def _set_meta(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))


def incident_of(row: Mapping[str, Any]) -> Incident:
    """Return the incident of a row of the incidents table."""
    evidence = json.loads(row["evidence"])
    return Incident(
        id=row["id"],
        device=DeviceRef(row["mac"], row["ip"], row["name"]),
        features=tuple(FeatureEvidence(**f) for f in evidence["features"]),
        peers=tuple(Peer(**p) for p in evidence["peers"]),
        connections=tuple(Example(**c) for c in evidence["connections"]),
        **{
            key: row[key]
            for key in (
                "opened", "updated", "closed", "severity", "cause", "label", "speaker", "score",
                "explanation", "advice", "count",
            )
        },
    )  # fmt: skip

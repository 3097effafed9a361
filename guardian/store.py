"""SQLite: what the pipeline found, batched, an incident and its message in one transaction.

One process and one thread write (the daemon or a replay); any number read. docs/database.md
has the tables and who may do what.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from guardian.commands import DropBox, drop_path
from guardian.connrows import ConnRows, Scored
from guardian.const import MAX_DEVICES, NS
from guardian.devices import Device
from guardian.incidents import Incident, IncidentEvent
from guardian.lock import WriterLock
from guardian.outbox import Message, Outbox, encode, on_disk
from guardian.retention import Retention, prune
from guardian.said import Said
from guardian.schema import StoreError, default_path, open_writer
from guardian.storerows import write_conns, write_devices, write_incidents
from guardian.tables import Conns
from guardian.told import Told, incident_of
from guardian.verdicts import VERDICTS

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


class Store(Said, Told):
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
                self._db.execute("DELETE FROM scores")  # no connection lives on from before
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

    def forget_device(self, key: str) -> None:
        """Remove a device; incidents and connections stay until their age."""
        super().forget_device(key)
        for kept in (self._devices, self._written):
            kept.pop(key, None)
        self._known.discard(key)

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
            write_devices(self._db, self._devices.values())
            write_conns(self._db, self._conns, now)
            write_incidents(self._db, self._incidents.values(), self._events, self.bundle)
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

"""SQLite: what the pipeline found, batched, an incident and its message in one transaction.

One process and one thread write (the daemon or a replay); any number read. docs/database.md
has the tables and who may do what.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from guardian import aside
from guardian.commands import DropBox, drop_path
from guardian.connrows import ConnRows, Scored
from guardian.const import MAX_DEVICES, NS
from guardian.devices import Device
from guardian.incidents import Incident, IncidentEvent
from guardian.lock import WriterLock
from guardian.outbox import MAX_WAITING, Message, Outbox, encode, on_disk
from guardian.privacy import Privacy
from guardian.remembered import Remembered
from guardian.retention import Retention, make_room, prune
from guardian.said import Said
from guardian.schema import DamagedError, StoreError, check_place, open_writer
from guardian.scrub import scrub
from guardian.storerows import (
    read_devices,
    write_conns,
    write_devices,
    write_incidents,
    write_kin,
)
from guardian.tables import Conns
from guardian.told import Told, incident_of
from guardian.totals import Totals
from guardian.transact import damaged
from guardian.verdicts import VERDICTS

__all__ = ["VERDICTS", "Scored", "Store", "StoreError", "incident_of"]

log = logging.getLogger("guardian.store")

COMMIT_S = 5.0
"""Seconds. Plain rows are written so often: at most this is lost by a power cut, and an SD card
gets one write in place of hundreds. An incident is written at once."""

IDLE_NS = 60 * NS
"""Where nothing happened, last_commit is written this often: readers see that we run."""

NEW_NS = 2 * NS
"""A device that was never seen is written this soon, so that its user can name it."""

SEEN_NS = 300 * NS
"""A device's last_seen is written at most this often, that of all devices at the same moment: one
page for all."""


class Store(Said, Told, Remembered):
    """The database, opened for writing. Close it; then the next start knows it ended well."""

    def __init__(
        self,
        path: Path,
        *,
        drop_box: bool = False,
        commit_s: float = COMMIT_S,
        connections_days: float = 30,
        incidents_days: float = 365,
        max_mib: int = 0,
        privacy: Privacy | None = None,
        rescue: bool = False,
    ) -> None:
        """Open or create the database at `path`.

        `drop_box` makes the file beside it in which the group leaves commands (the daemon's
        business; a replay needs none). `max_mib` limits file and WAL (0: no limit). What is stored
        of a lower `privacy` level is taken out first. With `rescue` a damaged file is moved aside
        and a new one begun; without it, and where nothing helps, StoreError is raised.
        """
        self.path = path
        self.keep = Retention(connections_days, incidents_days, max_bytes=max_mib << 20)
        self._privacy = privacy or Privacy()
        self._rescue = rescue
        self._drop: DropBox | None = None
        check_place(path)
        self._lock = WriterLock(path)
        try:
            self._open_file()
            try:
                with self._errors():
                    self._count_lost()
                    if drop_box:
                        self._drop = DropBox(drop_path(path))
            except BaseException:
                self._db.close()
                raise
        except BaseException:
            self._lock.release()
            raise
        self.bundle = ""
        """Digest of the models at work, written into incidents; see add_bundle."""
        self._bundle: tuple[str, str, int, int, str] | None = None
        self._commit_ns = int(commit_s * NS)
        self._tried = self._now = 0
        self._failing = False
        self._urgent = False
        self._newcomers = False
        self._conns = ConnRows()
        self._totals = Totals()
        self._devices: dict[str, Device] = {}
        self._written: dict[str, Device] = {}
        self._incidents: dict[str, Incident] = {}
        self._events: list[IncidentEvent] = []
        self._messages: list[tuple[int, Message]] = []

    def _open_file(self) -> None:
        """Open the database; where that may be, a damaged one goes aside and a new one is begun."""
        try:
            self._connect()
        except DamagedError as error:
            if not self._rescue:
                raise
            # Without the advice for who must help themselves.
            self._begin_anew(str(error).partition("): ")[0].removesuffix(")") + ")")

    def _begin_anew(self, why: str) -> None:
        """Move the file aside and begin a new one with what can be read of it. May raise."""
        where = aside.move(self.path)
        self._connect()
        with self._errors():
            kept = aside.salvage(where, self._db)
        self._connect()  # what was taken over counts as known
        said = ", ".join(f"{n:,} of {table}" for table, n in kept.items()) or "nothing"
        log.error(
            "%s; it lies at %s now and a new database was begun, with what could be read of it: %s",
            why, where, said,
        )  # fmt: skip
        self.ended = "damaged"

    def _connect(self) -> None:
        """Open the file, read what is known, and make it fit the privacy level."""
        if hasattr(self, "_db"):
            self._db.close()
        self._db = open_writer(self.path)
        try:
            aside.check(self._db, self.path)
            with self._errors():
                self._begin()
        except StoreError as error:
            self._db.close()
            if damaged(error.__cause__ or error):
                raise DamagedError(f"{self.path} is damaged ({error.__cause__})") from error
            raise
        except BaseException:
            self._db.close()
            raise

    def _begin(self) -> None:
        self.outbox = Outbox(self._db)
        self._known = {key: key for (key,) in self._db.execute("SELECT key FROM devices")}
        """Whose a MAC or address is; a linked one is the earlier device's."""
        self._known |= {k: old for k, (old, state, _) in self.kin().items() if state == "linked"}
        self.ended = self._meta("ended") or "new"
        """How the last run ended: `new`, `clean`, `unclean` (killed, power cut) or `damaged`."""
        self.last_commit = int(self._meta("last_commit") or 0)
        """ns, 0 for a new database."""
        self._set_meta("ended", "unclean")
        if self._meta("installation") is None:
            self._set_meta("installation", secrets.token_hex(4))
        self.installation = self._meta("installation") or ""
        """Eight random hex digits that name this Guardian; stays with the database."""
        self._db.execute("DELETE FROM scores")  # no connection lives on from before
        if self.ended == "new":
            self._set_meta("privacy_level", str(self._privacy.level))
        else:
            self._reduce()

    def _reduce(self, alive: Callable[[], object] | None = None) -> None:
        """Make what is stored fit the privacy level, where it rose since that was done last."""
        level = self._privacy.level
        before = int(self._meta("privacy_level") or 0)
        if level == before:
            return
        if level > before:
            log.warning(
                "the privacy level rose from %d to %d: what it no longer allows is taken out of "
                "%s; backups and other copies made before still hold it", before, level, self.path,
            )  # fmt: skip
            scrub(self._db, self._privacy, alive)
        self._set_meta("privacy_level", str(level))

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
        total = int(self._meta("lost_connections") or 0) + (self.lost or 0)
        if self.lost:
            log.warning(
                "the last run was cut off: %s connections of its last seconds were not yet written "
                "(%s since the database began)",
                f"{self.lost:,}", f"{total:,}",
            )  # fmt: skip
        self._taken = max(written, noted or 0)
        with self._transaction():  # or a kill here would count them twice
            self._set_meta("lost_connections", str(total))
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
        (self._conns if self._privacy.rows else self._totals).add(records, scored, self._known)
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
        self.unlearn(key)
        for kept in (self._devices, self._written):
            kept.pop(key, None)
        self._known.pop(key, None)

    def _device(self, device: Device) -> None:
        old = self._devices.get(device.key) or self._written.get(device.key)
        self._newcomers |= device.key not in self._known
        self._known[device.key] = device.key
        if (
            old is None
            or device.last_seen // SEEN_NS != old.last_seen // SEEN_NS
            or replace(device, index=0, first_seen=0, last_seen=0)
            != replace(old, index=0, first_seen=0, last_seen=0)
        ):
            self._devices[device.key] = device

    def _waiting(self) -> bool:
        return bool(
            self._conns.waiting() or self._totals.waiting()
            or self._devices or self._incidents or self._messages
        )  # fmt: skip

    def commit(self, now: int) -> None:
        """Write all that waits in one transaction. Raises StoreError and keeps it on failure."""
        self._tried, self._failing = now, True
        self._bound()
        try:
            with self._errors():
                self._write(now)
        except StoreError as error:
            if not (self._rescue and damaged(error.__cause__ or error)):
                raise
            self._begin_anew(f"{self.path} is damaged ({error.__cause__})")
            self._devices = self._written | self._devices
            with self._errors():
                self._note_bundle()
                self._write(now)
        self._failing = self._urgent = self._newcomers = False
        self.last_commit = now
        self._conns.committed()
        self._totals.committed()
        self._written.update(self._devices)
        while len(self._written) > MAX_DEVICES:
            self._known.pop(oldest := next(iter(self._written)), None)
            del self._written[oldest]
        self._devices, self._incidents, self._events, self._messages = {}, {}, [], []

    def _write(self, now: int) -> None:
        make_room(self._db, self.keep, len(self._conns.rows))
        # What a person is told must not be undone by a power cut: it is on the disk before it is
        # sent. Plain rows may wait for the next time.
        durable = bool(self._events or self._messages)
        with on_disk(self._db, durable), self._transaction():
            write_devices(self._db, self._devices.values())
            write_kin(self._db, self._devices.values(), names=self._privacy.names)
            write_conns(self._db, self._conns, now)
            self._totals.write(self._db)
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

    def _bound(self) -> None:
        """While the disk refuses, only so much waits in memory; the oldest goes."""
        for name in ("_events", "_messages"):
            setattr(self, name, getattr(self, name)[-MAX_WAITING:])
        for waiting in (self._incidents, self._devices):
            while len(waiting) > MAX_WAITING:
                waiting.pop(next(iter(waiting)))

    def add_bundle(self, digest: str, name: str, manifest: Mapping[str, Any], now: int) -> None:
        """Note the bundle whose models judge from now on."""
        self.bundle = digest
        self._bundle = (digest, name, now, now, encode(dict(manifest)))
        with self._errors():
            self._note_bundle()

    def _note_bundle(self) -> None:
        if self._bundle:
            self._db.execute(
                "INSERT INTO bundles (digest, name, first_used, last_used, manifest) "
                "VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (digest) DO UPDATE SET last_used = excluded.last_used",
                self._bundle,
            )

    def devices(self) -> list[Device]:
        """Return the devices that are known, the one seen last at the end."""
        with self._errors():
            return read_devices(self._db)

    def set_kin(self, new: str, old: str, state: str, now: int) -> None:
        """Note whether a device is an earlier one; what nobody judged counts for it, too."""
        super().set_kin(new, old, state, now)
        self._known[new] = old if state == "linked" else new

    # --- upkeep --------------------------------------------------------------

    def set_privacy(self, privacy: Privacy, now: int) -> None:
        """Keep what comes from now on by another level; `reduce` does the same to what is there.

        What waits is written first: `reduce` finds it. Raises StoreError, and nothing changed.
        """
        self.commit(now)
        self._privacy = privacy

    def reduce(self, alive: Callable[[], object]) -> None:
        """Take out what the privacy level no longer allows; nothing where that was done.

        A large file takes minutes (see scrub), in which `alive` is called. Raises StoreError; then
        call it again later.
        """
        with self._errors():
            self._reduce(alive)

    def prune(self, now: int) -> int:
        """Delete some outdated rows (see retention.prune); return how many. `now`: wall clock.

        Call it once a minute, and soon again while it returns more than 0.
        """
        with self._errors():
            return prune(self._db, now, self.keep)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close(self._now or self.last_commit)

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

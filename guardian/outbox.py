"""What waits for the broker, in order, in the same file as the incidents.

The rule of what is kept while the broker is away:

* a retained message (`state`) replaces an older waiting one of the same topic, since only the
  latest would be kept by the broker anyway;
* at most MAX_WAITING messages wait. Beyond that the oldest that is no incident goes, and only
  where nothing but incidents waits, the oldest incident. What went is counted.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from guardian.const import NS
from guardian.transact import sentences, transaction

Kind = Literal["incident", "event", "state"]

MAX_WAITING = 10_000
"""Messages that wait for a broker: a storm of 100 incidents a day for a month, at about 4 KB
each 40 MB, which the smallest SD card has."""

LATE_NS = 60 * NS
"""A message older than this when it is sent says `late: true`: a person should not take it for
what happens now."""

KEEP_SENT_NS = 7 * 24 * 3600 * NS
"""Incidents stay this long after the broker took them, to show that they were announced."""


@dataclass(frozen=True)
class Message:
    """One MQTT message. `payload` is JSON or plain text; an empty one removes a retained one."""

    topic: str
    payload: str
    kind: Kind
    qos: int = 1
    retain: bool = False


@dataclass(frozen=True)
class Waiting:
    """A message of the outbox that no broker acknowledged yet."""

    seq: int
    created: int
    tries: int
    message: Message

    def payload(self, now: int) -> str:
        """Return the payload as sent at `now` (ns): marked late or repeated where it is."""
        marks = {}
        if now - self.created > LATE_NS:
            marks["late"] = True
        if self.tries:
            marks["repeat"] = True
        if not marks or self.message.kind == "state":
            return self.message.payload
        return encode(json.loads(self.message.payload) | marks)


def encode(value: Any) -> str:
    """Return compact JSON in ASCII; a number that is not finite becomes null."""
    return json.dumps(_finite(value), separators=(",", ":"), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {encodable(str(key)): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def encodable(text: str) -> str:
    """Return text that SQLite and every JSON reader take: lone surrogates become `?`."""
    return text.encode("utf-8", "replace").decode()


@contextmanager
def on_disk(db: sqlite3.Connection, durable: bool) -> Iterator[None]:
    """Let a transaction within be on the disk once it is committed, where `durable`.

    Otherwise a power cut may undo it, never half: that spares an SD card most of its writes.
    """
    if durable:
        db.execute("PRAGMA synchronous = FULL")
    try:
        yield
    finally:
        if durable:
            db.execute("PRAGMA synchronous = NORMAL")


class Outbox:
    """The outbox table. `put` runs inside the store's transaction, the others commit at once.

    Those raise StoreError where the file cannot be read or written.
    """

    def __init__(self, db: sqlite3.Connection, limit: int = MAX_WAITING) -> None:
        self._db = db
        self._limit = limit
        self._path = db.execute("PRAGMA database_list").fetchone()[2]

    def _errors(self) -> AbstractContextManager[None]:
        return sentences(self._path)

    def put(self, messages: Iterable[tuple[int, Message]]) -> int:
        """Append (created ns, message) in order; return how many older ones went for it."""
        for created, m in messages:
            if m.kind == "state":
                self._db.execute(
                    "DELETE FROM outbox WHERE sent IS NULL AND kind = 'state' AND topic = ?",
                    (m.topic,),
                )
            self._db.execute(
                "INSERT INTO outbox (created, kind, topic, payload, qos, retain) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (created, m.kind, m.topic, m.payload, m.qos, int(m.retain)),
            )
        return self._trim()

    def _trim(self) -> int:
        excess = max(0, self.waiting() - self._limit)
        if excess:
            self._db.execute(
                "DELETE FROM outbox WHERE seq IN (SELECT seq FROM outbox WHERE sent IS NULL "
                "ORDER BY kind = 'incident', seq LIMIT ?)",
                (excess,),
            )
        return excess

    def waiting(self) -> int:
        """Return how many messages wait."""
        row = self._db.execute("SELECT count(*) FROM outbox WHERE sent IS NULL").fetchone()
        return int(row[0])

    def pending(self, after: int, limit: int) -> list[Waiting]:
        """Return up to `limit` waiting messages with seq above `after`, oldest first."""
        with self._errors():
            rows = self._db.execute(
                "SELECT seq, created, tries, topic, payload, kind, qos, retain FROM outbox "
                "WHERE sent IS NULL AND seq > ? ORDER BY seq LIMIT ?",
                (after, limit),
            ).fetchall()
        return [
            Waiting(seq, created, tries, Message(topic, payload, kind, qos, bool(retain)))
            for seq, created, tries, topic, payload, kind, qos, retain in rows
        ]

    def tried(self, seqs: Sequence[int]) -> None:
        """Note that these are handed to the broker now; call before sending them.

        Were it noted afterwards, or not yet on the disk, a crash or a power cut between would
        repeat a message without saying so.
        """
        with self._errors(), on_disk(self._db, bool(seqs)), transaction(self._db):
            self._db.executemany(
                "UPDATE outbox SET tries = tries + 1 WHERE seq = ?", ((seq,) for seq in seqs)
            )

    def sent(self, seqs: Sequence[int], now: int) -> None:
        """Note that the broker took these: incidents stay for a while, others go."""
        with self._errors(), transaction(self._db):
            for seq in seqs:
                self._db.execute("DELETE FROM outbox WHERE seq = ? AND kind <> 'incident'", (seq,))
                self._db.execute("UPDATE outbox SET sent = ? WHERE seq = ?", (now, seq))

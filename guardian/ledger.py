"""The open database, as those share it who write it: transactions, errors, facts."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager
from pathlib import Path

from guardian.transact import sentences, transaction


class Ledger:
    """A database opened for writing."""

    path: Path
    _db: sqlite3.Connection

    def _errors(self) -> AbstractContextManager[None]:
        """Raise what SQLite says as StoreError, a sentence."""
        return sentences(self.path)

    def _transaction(self) -> AbstractContextManager[None]:
        return transaction(self._db)

    def _meta(self, key: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def _set_meta(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))

    def fact(self, key: str) -> str:
        """Return a fact of the meta table; empty where it is not known."""
        with self._errors():
            return self._meta(key) or ""

    def set_fact(self, key: str, value: str) -> None:
        """Note a fact in the meta table."""
        with self._errors():
            self._set_meta(key, value)

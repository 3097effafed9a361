"""What devices were like, as the database keeps it over a restart; and how they changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from guardian.const import MAX_JUDGED
from guardian.ledger import Ledger
from guardian.outbox import encode


class Remembered(Ledger):
    """The pasts and the changes of habits in the database."""

    def save_pasts(self, pasts: Mapping[str, bytes], now: int) -> None:
        """Write some devices' pasts; of more than MAX_JUDGED the oldest go. Raises StoreError."""
        if not pasts:
            return
        with self._errors(), self._transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO pasts (device, at, past) VALUES (?, ?, ?)",
                [(key, now, past) for key, past in pasts.items()],
            )
            self._db.execute(
                "DELETE FROM pasts WHERE device NOT IN "
                "(SELECT device FROM pasts ORDER BY at DESC, device LIMIT ?)",
                (MAX_JUDGED,),
            )

    def pasts(self) -> dict[str, bytes]:
        """Return the pasts by key, the one written last at the end."""
        with self._errors():
            rows = self._db.execute("SELECT device, past FROM pasts ORDER BY at, device")
            return {key: past for key, past in rows if isinstance(past, bytes)}

    def unlearn(self, device: str = "") -> None:
        """Forget what a device was like; all of them where none is given."""
        with self._errors():
            for table in ("pasts", "changes"):
                self._db.execute(
                    f"DELETE FROM {table} WHERE device = :key OR :key = ''", {"key": device}
                )

    def note_change(self, device: str, at: int, features: list[dict[str, Any]]) -> bool:
        """Note that a device changed its habits; false where that is known."""
        with self._errors():
            cursor = self._db.execute(
                "INSERT OR IGNORE INTO changes (device, at, features) VALUES (?, ?, ?)",
                (device, at, encode(features)),
            )
        return cursor.rowcount > 0

    def changes(self, since: int) -> list[tuple[str, int, list[dict[str, Any]]]]:
        """Return (device, ns, features) of the changes since a moment, the latest first."""
        with self._errors():
            rows = self._db.execute(
                "SELECT device, at, features FROM changes WHERE at >= ? ORDER BY at DESC, device "
                "LIMIT ?",
                (since, MAX_JUDGED),
            )
            return [(device, at, json.loads(text)) for device, at, text in rows]

"""Connections as counts alone, by hour, device and verdict: what privacy level 3 keeps of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from guardian.connrows import Scored, home_of
from guardian.const import NS
from guardian.tables import Conns
from guardian.verdicts import VERDICTS

HOUR_NS = 3_600 * NS

MAX_SUMS = 4_096
"""Sums between two commits; beyond it devices (forged ones) are counted together."""

AMOUNTS = ("orig_bytes", "resp_bytes", "orig_pkts", "resp_pkts")


class Totals:
    """Counts that wait for the next commit."""

    def __init__(self) -> None:
        self._sums: dict[tuple[int, str, str], list[int]] = {}

    def add(self, records: Conns, scored: Scored, known: Mapping[str, str]) -> None:
        """Count the records of a step; `known` says which device a key is."""
        if not len(records):
            return
        judged = {
            uid: (scored.keys[device], VERDICTS[verdict])
            for uid, device, verdict in zip(
                scored.uid.tolist(), scored.device.tolist(), scored.verdict.tolist(), strict=True
            )
        }
        amounts = [getattr(records, name).tolist() for name in AMOUNTS]
        for i, (uid, ts, duration) in enumerate(
            zip(records.uid.tolist(), records.ts.tolist(), records.duration.tolist(), strict=True)
        ):
            device, verdict = judged.get(uid) or (home_of(records, i, known), "")
            ended = ts + int(duration * NS)
            key = (ended - ended % HOUR_NS, device, verdict)
            if key not in self._sums and len(self._sums) >= MAX_SUMS:
                key = (key[0], "", verdict)
            sums = self._sums.setdefault(key, [0] * (1 + len(AMOUNTS)))
            sums[0] += 1
            for at, values in enumerate(amounts, 1):
                sums[at] += max(0, values[i])

    def waiting(self) -> bool:
        return bool(self._sums)

    def write(self, db: sqlite3.Connection) -> None:
        """Add the counts to those that stand there, inside the caller's transaction."""
        columns = ("connections", *AMOUNTS)
        db.executemany(
            f"INSERT INTO totals (hour, device, verdict, {', '.join(columns)}) "
            f"VALUES (?, ?, ?{', ?' * len(columns)}) ON CONFLICT (hour, device, verdict) "
            f"DO UPDATE SET {', '.join(f'{c} = {c} + excluded.{c}' for c in columns)}",
            ([*key, *sums] for key, sums in self._sums.items()),
        )

    def committed(self) -> None:
        """Forget what stands in the database now."""
        self._sums.clear()

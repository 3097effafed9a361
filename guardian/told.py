"""What the database knows of incidents, for the run that takes them up again and for the hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from guardian.const import MAX_PEERS
from guardian.discovery import DRILL_MAC
from guardian.incidents import DeviceRef, Example, FeatureEvidence, Incident, Peer
from guardian.ledger import Ledger
from guardian.wishes import Allow


class Told(Ledger):
    """The incidents of the database."""

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
        """Return when incidents were told since a moment, ns; fire drills do not count."""
        with self._errors():
            rows = self._db.execute(
                "SELECT at FROM incident_events WHERE change = 'opened' AND at >= ? "
                "AND incident NOT IN (SELECT id FROM incidents WHERE mac = ?)",
                (since, DRILL_MAC),
            )
            return [at for (at,) in rows]

    def note_limit(self, a_week: int) -> None:
        """Note how many incidents a week may be told, for those who read."""
        with self._errors():
            self._set_meta("alerts_a_week", str(a_week))

    def last_incident(self, device: str, since: int) -> str:
        """Return the id of a device's open incident, else of its last one; empty for none."""
        with self._errors():
            row = self._db.execute(
                "SELECT id FROM incidents WHERE device = ? AND updated >= ? "
                "ORDER BY closed IS NULL DESC, updated DESC LIMIT 1",
                (device, since),
            ).fetchone()
        return str(row[0]) if row else ""

    def held_back(self, since: int) -> int:
        """Return how many incidents were held back since a moment, ns."""
        with self._errors():
            row = self._db.execute(
                "SELECT count(*) FROM incident_events WHERE change = 'held' AND at >= ?", (since,)
            ).fetchone()
        return int(row[0])

    def effect(self, allow: Allow) -> tuple[int, int, int]:
        """Return how many incidents there are, how many of them an allowance would have hidden
        whole, and how many in part. reading.effect tells more of each."""
        whole = part = total = 0
        with self._errors():
            for device, cause, text in self._db.execute(
                "SELECT device, cause, json_extract(evidence, '$.peers') FROM incidents"
            ):
                total += 1
                peers = json.loads(text or "[]")
                covered = [
                    allow.covers(device, (p["ip"], p["host"]), p["port"], cause, 0) for p in peers
                ] or [not allow.peer and allow.covers(device, (), 0, cause, 0)]
                # Beyond MAX_PEERS nobody kept whom it was about.
                known = not allow.peer or len(peers) < MAX_PEERS
                whole += all(covered) and known
                part += any(covered) and not (all(covered) and known)
        return total, whole, part

    def day_so_far(self, since: int) -> list[tuple[str, int, int]]:
        """Return (device, connections, bytes) of the connections that began since a moment, ns."""
        with self._errors():
            return self._db.execute(
                "SELECT device, sum(count), sum(orig_ip_bytes + resp_ip_bytes) FROM connections "
                "WHERE ts >= ? AND device <> '' GROUP BY device",
                (since,),
            ).fetchall()


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

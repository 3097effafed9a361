"""What the gateway had gathered against each record by the end: its evidence, as a score.

The gateway never judges by one record. Rows over the line add up against a device and against a
peer (guardian/evidence.py), plain rules bring the rows that they counted, and what belongs to an
open incident joins it. The score of a record is its own threat (0 to 1) plus the evidence that it
was part of, as a share of what opens an incident: below 1 while nothing is open, from 1 on in an
incident, and more with each further row. So what never comes to more than a row or two ranks low,
however sure the models are of it.
"""

from __future__ import annotations

from typing import Any

from guardian.alerts import IncidentTable
from guardian.evidence import Asked, step_up
from guardian.facts import Row
from guardian.homes import Home
from guardian.lifecycle import Open
from guardian.suspicion import UNUSUAL, Opening


class Gathering(IncidentTable):
    """Incidents that remember the evidence each record was part of."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gathered: dict[str, float] = {}
        """By uid: the most evidence, as a share of what opens an incident."""
        self._weight: dict[str, float] = {}
        """By incident."""

    def _evidence(
        self, device: str, home: Home, row: Row, line: float, asked: Asked, *rest: Any
    ) -> bool:
        joined = super()._evidence(device, home, row, line, asked, *rest)
        if not joined:
            self._note(row, min(1.0, home.suspicion.weight(row) / asked.level))
        return joined

    def _open(
        self, device: str, home: Home, opening: Opening, told: int, *, counter: str = ""
    ) -> None:
        known = self._incidents.get(device, {}).get(opening.cause)
        super()._open(device, home, opening, told, counter=counter)
        one = self._incidents.get(device, {}).get(opening.cause)
        if known is None and one is not None:
            self._joined(one, opening.rows)

    def _join(self, one: Open, rows: list[Row]) -> None:
        super()._join(one, rows)
        self._joined(one, rows)

    def _joined(self, one: Open, rows: list[Row]) -> None:
        if one.cause == UNUSUAL:
            return
        weight = self._weight.get(one.id, 0.0)
        opens = self.settings.evidence.open_at
        for row in rows:
            # A plain rule's row counts as one just over the line, whatever the models say of it.
            weight += step_up(max(row.level, self._line), self._line) / opens
        self._weight[one.id] = weight
        for row in rows:
            self._note(row, max(1.0, weight))

    def _note(self, row: Row, value: float) -> None:
        self.gathered[row.uid] = max(value, self.gathered.get(row.uid, 0.0))

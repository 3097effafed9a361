"""What the gateway had gathered against each record by the end: its evidence, as a score.

The gateway never judges by one record. Rows over the line add up against a device and against a
peer (guardian/evidence.py), plain rules bring the rows that they counted, and what belongs to an
open incident joins it. The evidence of a record is what it was part of, as a share of what opens an
incident: below 1 while nothing is open, from 1 on in an incident, and more with each further row.
So what never comes to more than a row or two ranks low, however sure the models are of it.

This is hindsight: an incident takes in earlier rows when it opens, so it is known at the end. The
daemon needs none of it and has plain incidents; `guardian score` and the evaluation have these.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from guardian.alerts import IncidentTable
from guardian.const import MAX_GATHERED
from guardian.evidence import Asked, step_up
from guardian.facts import Row
from guardian.homes import Home
from guardian.lifecycle import Open
from guardian.suspicion import UNUSUAL, Opening
from guardian.tables import F64, Array, Bool

OWN = 0.9
"""A score up to which a record outside of incidents has the probability that the models give."""
TOLD = 0.95
"""The least score of a record of an incident; all others are below."""
_MOST = 2.0
"""Most that a record outside of incidents comes to: the models' 1 and as much that adds up."""


class Part(NamedTuple):
    """What a record was part of."""

    evidence: float
    """The most there was, as a share of what opens an incident; from 1 on in an incident."""
    device: str = ""
    """Key of the incident's device; empty where no incident has it."""
    cause: str = ""


class Gathering(IncidentTable):
    """Incidents that remember the evidence each record was part of."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parts: dict[str, Part] = {}
        """By uid, of those that are part of anything."""
        self.unusual: set[str] = set()
        """Uids of records in an incident that only the autoencoder saw."""
        self._weight: dict[str, float] = {}
        """By incident."""

    def forget(self, uids: Iterable[str]) -> None:
        """Drop what is known of records; where too much is left, what came first."""
        for uid in uids:
            self.parts.pop(uid, None)
            self.unusual.discard(uid)
        while len(self.parts) > MAX_GATHERED:
            del self.parts[next(iter(self.parts))]

    def _evidence(
        self, device: str, home: Home, row: Row, line: float, asked: Asked, *rest: Any
    ) -> bool:
        joined = super()._evidence(device, home, row, line, asked, *rest)
        if not joined:
            self._note(row, Part(min(1.0, home.suspicion.weight(row) / asked.level)))
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
            self.unusual.update(row.uid for row in rows)
            return
        weight = self._weight.get(one.id, 0.0)
        opens = self.settings.evidence.open_at
        for row in rows:
            # A plain rule's row counts as one just over the line, whatever the models say of it.
            weight += step_up(max(row.level, self._line), self._line) / opens
        self._weight[one.id] = weight
        part = Part(max(1.0, weight), one.device, one.cause)
        for row in rows:
            self._note(row, part)

    def _note(self, row: Row, part: Part) -> None:
        known = self.parts.get(row.uid)
        if known is None or _rank(part) > _rank(known):
            self.parts[row.uid] = part


def _rank(part: Part) -> tuple[bool, float]:
    """An incident has at least 1 and what is in none at most that; of equals it says more."""
    return bool(part.cause), part.evidence


def names(uids: Array) -> list[str]:
    """Return uids as Row has them."""
    return [uid.decode("ascii", "replace") for uid in uids.tolist()]


def evidence_of(gathering: Gathering, uids: Array) -> F64:
    """Return float64[n]: the evidence that each record was part of, 0 where of none."""
    none = Part(0.0)
    return np.array([gathering.parts.get(uid, none).evidence for uid in names(uids)])


def told_of(gathering: Gathering, uids: Array) -> Bool:
    """Return bool[n]: an incident has the record, which not only the autoencoder saw."""
    none = Part(0.0)
    return np.array([bool(gathering.parts.get(uid, none).cause) for uid in names(uids)], np.bool_)


def score(threat: Array, evidence: F64, told: Bool) -> F64:
    """Return one number of what the models and the gathered evidence say, 0 to 1.

    total = threat + evidence. Outside of incidents it is the total up to OWN (where nothing was
    gathered, the models' probability), and rises by a twenty-fifth of what is above, to 0.944. Of
    what an incident has (`told`) it is 1 - 0.05 / (1 + ln total): 0.95 where one just opens, 0.985
    at ten times that, 0.991 at a hundred. Rises with both, never falls.
    """
    total = threat.astype(np.float64) + evidence
    above = np.clip(total, OWN, _MOST) - OWN
    alone = np.minimum(total, OWN) + above / 25.0
    return np.where(told, 1.0 - (1.0 - TOLD) / (1.0 + np.log(np.maximum(total, 1.0))), alone)

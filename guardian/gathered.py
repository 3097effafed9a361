"""What the gateway had gathered against each record by the end: its evidence, as a score.

The gateway never judges by one record. Rows over the line add up against a device and against a
peer (guardian/evidence.py), plain rules bring the rows that they counted, and what belongs to an
open incident joins it. The evidence of a record is what it was part of, as a share of what opens an
incident: below 1 while nothing is open, from 1 on in an incident, and more with each further row.
So what never comes to more than a row or two ranks low, however sure the models are of it.

This is hindsight: an incident takes in earlier rows when it opens, so it is known at the end. So is
with whom it was: where three rows of an incident are calls of one machine and port, further calls
of it are part of it that look like any other. Of C&C each is, of guesses and floods those between
the first and the last of these rows. The daemon needs none of it and has plain incidents; `guardian
score` and the evaluation have these.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from guardian.alerts import IncidentTable
from guardian.const import MAX_CALLED, MAX_GATHERED
from guardian.evidence import Asked, step_up
from guardian.facts import Row
from guardian.homes import Home
from guardian.lifecycle import Open
from guardian.routers import Address
from guardian.suspicion import UNUSUAL, Opening
from guardian.tables import F64, I64, U8, U16, U64, Array, Bool, Bytes

OWN = 0.9
"""A score up to which a record outside of incidents has the probability that the models give."""
TOLD = 0.95
"""The least score of a record of an incident; all others are below."""
_MOST = 2.0
"""Most that a record outside of incidents comes to: the models' 1 and as much that adds up."""

CALLS = 3
"""Rows of an incident that make all calls of a machine and port part of it: as few as open one."""
_ALWAYS, _MEANWHILE = frozenset({"c2"}), frozenset({"brute-force", "flood"})
"""Causes of which each such call is malicious, and those from the first to the last row."""
_SHARED = frozenset({"dns"})
"""Services that pass on what is malicious and what is not: a resolver is no controller."""

Call = tuple[Address, Address, int, int]
"""Originator, responder, its port, protocol."""


class Records(Protocol):
    """The columns of Conns that say which record it is, when it began, and who called whom."""

    @property
    def uid(self) -> Bytes: ...
    @property
    def ts(self) -> I64: ...
    @property
    def orig(self) -> U64: ...
    @property
    def resp(self) -> U64: ...
    @property
    def resp_p(self) -> U16: ...
    @property
    def proto(self) -> U8: ...


class Part(NamedTuple):
    """What a record was part of."""

    evidence: float
    """The most there was, as a share of what opens an incident; from 1 on in an incident."""
    device: str = ""
    """Key of the incident's device; empty where no incident has it."""
    cause: str = ""


_NONE = Part(0.0)


@dataclass
class _Calls:
    """The rows of incidents that are calls of one machine and port."""

    part: Part
    always: bool
    first: int
    last: int
    """When the first and the last of them began, ns."""
    rows: int = 0

    def part_of(self, ts: int, part: Part) -> Part:
        """Return what a call that began at a moment is part of; part where of nothing else."""
        has = self.rows >= CALLS and (self.always or self.first <= ts <= self.last)
        return self.part if has else part


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
        self._calls: dict[Call, _Calls] = {}

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
            if one.cause in _ALWAYS | _MEANWHILE and row.service not in _SHARED:
                self._called(row, part)

    def _called(self, row: Row, part: Part) -> None:
        """Count a call."""
        call = row.orig, row.resp, row.resp_p, row.proto
        known = self._calls.get(call)
        if known is None or (part.cause in _ALWAYS and not known.always):
            if len(self._calls) >= MAX_CALLED:
                return
            whole = part._replace(evidence=1.0)
            known = self._calls[call] = _Calls(whole, part.cause in _ALWAYS, row.ts, row.ts)
        known.rows += 1
        known.first, known.last = min(known.first, row.ts), max(known.last, row.ts)

    def parts_of(self, records: Records) -> list[Part]:
        """Return what each record was part of by now."""
        found = [self.parts.get(uid, _NONE) for uid in names(records.uid)]
        if not self._calls:
            return found
        calls = zip(
            map(tuple, records.orig.tolist()),
            map(tuple, records.resp.tolist()),
            records.resp_p.tolist(),
            records.proto.tolist(),
            strict=True,
        )
        out = []
        for part, call, ts in zip(found, calls, records.ts.tolist(), strict=True):
            known = None if part.cause else self._calls.get(call)
            out.append(part if known is None else known.part_of(ts, part))
        return out

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


def score_of(threat: Array, parts: list[Part]) -> F64:
    """Return float64[n]: score() of records that were part of these."""
    evidence = np.array([part.evidence for part in parts])
    return score(threat, evidence, np.array([bool(part.cause) for part in parts], np.bool_))


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

"""The rows of `guardian score`: held until nothing more is gathered against them, then judged.

An incident takes in earlier rows when it opens, and the last rows of a capture may open one. So
records wait as columns, up to MAX_LISTED of them, and come out in the order in which they came.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from guardian.bundle import Bundle
from guardian.const import MAX_LISTED
from guardian.gathered import Gathering, names, score_of
from guardian.pipeline import Step
from guardian.tables import F32, F64, I64, U8, U16, U64, Bytes, Table, col
from guardian.verdicts import VERDICTS

BENIGN, ANOMALY, ATTACK = (VERDICTS.index(name) for name in ("benign", "anomaly", "attack"))


@dataclass(frozen=True)
class Listed(Table):
    """Records with what is printed of them, each of its highest slice."""

    ts: I64 = col("i8")
    uid: Bytes = col("S24")
    device: Bytes = col("S48")
    """Key of the home device; that of the incident where one has the record."""
    orig: U64 = col("u8", 2)
    orig_p: U16 = col("u2")
    resp: U64 = col("u8", 2)
    resp_p: U16 = col("u2")
    proto: U8 = col("u1")
    service: Bytes = col("S32")
    conn_state: U8 = col("u1")
    anomaly: F32 = col("f4")
    threat: F64 = col("f8")
    label: U8 = col("u1")
    """Index into the bundle's classes; the cause of the incident where one has the record."""
    verdict: U8 = col("u1")
    """Index into VERDICTS."""


def listed(step: Step) -> Listed:
    """Return the records of a step with the models' own words."""
    records, verdicts = step.records, step.verdicts
    return Listed(
        records.ts, records.uid, verdicts.device, records.orig, records.orig_p, records.resp,
        records.resp_p, records.proto, records.service, records.conn_state, verdicts.anomaly,
        verdicts.threat.astype(np.float64), verdicts.label, verdicts.verdict,
    )  # fmt: skip


def judged(rows: Listed, gathering: Gathering, bundle: Bundle) -> Listed:
    """Return rows with what the gateway holds of them by now.

    An attack is what an incident has that models or plain rules saw, an anomaly what is over the
    bundle's line of anomaly or in an incident that only the autoencoder saw. A class that the
    bundle has not is no label.
    """
    parts = gathering.parts_of(rows)
    odd = np.array([uid in gathering.unusual for uid in names(rows.uid)], np.bool_)
    device, label = rows.device.copy(), rows.label.copy()
    verdict = np.where(odd | (rows.anomaly >= bundle.anomaly_threshold), ANOMALY, BENIGN)
    for k, part in enumerate(parts):
        if part.cause:
            verdict[k], device[k] = ATTACK, part.device.encode()
            if part.cause in bundle.classes:
                label[k] = bundle.classes.index(part.cause)
    threat = score_of(rows.threat, parts)
    return replace(
        rows, device=device, label=label, threat=threat, verdict=verdict.astype(np.uint8)
    )


class Waiting:
    """Rows that wait, at most `most` of them."""

    def __init__(self, gathering: Gathering, bundle: Bundle, most: int = MAX_LISTED) -> None:
        self._gathering = gathering
        self._bundle = bundle
        self._most = most
        self._parts: deque[Listed] = deque()
        self._rows = 0

    def add(self, rows: Listed) -> Iterator[Listed]:
        """Take rows; yield the oldest, judged by what is known now, where too many wait."""
        self._parts.append(rows)
        self._rows += len(rows)
        while self._rows > self._most:
            first = self._parts.popleft()
            self._rows -= len(first)
            yield self._judged(first)

    def rest(self) -> Iterator[Listed]:
        """Yield all that still wait."""
        while self._parts:
            yield self._judged(self._parts.popleft())
        self._rows = 0

    def _judged(self, rows: Listed) -> Listed:
        out = judged(rows, self._gathering, self._bundle)
        self._gathering.forget(names(rows.uid))
        return out

"""From the scores of slices to the verdict on a connection: its highest slice.

This is the one place where slices of a connection are compared. The database keeps what comes out
of here, the models' own words; `guardian score` goes on from them with what is known at the end
(guardian/hindsight.py).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from guardian.const import MAX_CONNS
from guardian.tables import F32, U8, Bool, Bytes, Conns, FeatureRows, Scores, Table, col

VERDICTS = ("benign", "anomaly", "attack")
"""Rising; Verdicts.verdict is an index into this."""

Best = tuple[int, float, float, int, bytes]
"""Verdict, threat, anomaly, label, key of the device: compared in this order."""
NO_SCORE: Best = (0, 0.0, 0.0, 0, b"")


@dataclass(frozen=True)
class Verdicts(Table):
    """The highest slice of each connection: by verdict, then threat, then anomaly.

    All columns are those of that one slice.
    """

    uid: Bytes = col("S24")
    anomaly: F32 = col("f4")
    """1.0 is the line."""
    threat: F32 = col("f4")
    label: U8 = col("u1")
    """The class that the classifier names most, an index into the bundle's classes."""
    device: Bytes = col("S48")
    """Key of the home device it was judged for; empty where it touches none."""
    scored: Bool = col("?")
    """A model saw it; false for traffic that belongs to no home device."""
    verdict: U8 = col("u1")
    """Index into VERDICTS."""


class VerdictTable:
    """Keeps the highest slices of connections that are still open; capped."""

    def __init__(
        self,
        anomaly_line: float,
        threat_line: float,
        key_of: Callable[[int], str] = str,
        capacity: int = 2 * MAX_CONNS,
    ) -> None:
        """key_of names a device by its index, at the moment of its slice."""
        self._anomaly_line = anomaly_line
        self._threat_line = threat_line
        self._key_of = key_of
        self._capacity = capacity
        self._open: OrderedDict[bytes, Best] = OrderedDict()
        self._changed: set[bytes] = set()

    def set_lines(self, anomaly_line: float, threat_line: float) -> None:
        """Judge by these from now on: another bundle's scores mean something else."""
        self._anomaly_line, self._threat_line = anomaly_line, threat_line

    def add(self, slices: Conns, rows: FeatureRows, scores: Scores) -> None:
        """Note the scores of a chunk of slices; rows.row indexes slices."""
        # A score that is no number counts as none: nothing compares above it, nothing breaks.
        anomaly = np.nan_to_num(scores.anomaly, nan=0.0, posinf=0.0, neginf=0.0)
        threat = np.nan_to_num(scores.threat, nan=0.0, posinf=0.0, neginf=0.0)
        verdict = np.where(anomaly >= self._anomaly_line, 1, 0)
        verdict = np.where(threat >= self._threat_line, 2, verdict).astype(np.uint8)
        keys = {i: self._key_of(i).encode() for i in np.unique(rows.device).tolist()}
        uids = slices.uid[rows.row].tolist()
        found = zip(
            verdict.tolist(),
            threat.tolist(),
            anomaly.tolist(),
            scores.label.tolist(),
            [keys[i] for i in rows.device.tolist()],
            strict=True,
        )
        known, changed = self._open, self._changed
        for uid, one in zip(uids, found, strict=True):
            best = known.get(uid)
            # Of equals the same one counts in whatever order they come.
            if best is None or one > best:
                known[uid] = one
                changed.add(uid)
        while len(self._open) > self._capacity:
            self._changed.discard(self._open.popitem(last=False)[0])

    def take(self, records: Conns) -> Verdicts:
        """Return the verdicts on finished records, in their order, and forget them."""
        uids = records.uid.tolist()
        self._changed.difference_update(uids)
        return _table(records.uid, [self._open.pop(uid, NO_SCORE) for uid in uids])

    def living(self) -> Verdicts:
        """Return the connections that are open and whose highest slice changed since last asked."""
        uids, self._changed = sorted(self._changed), set()
        return _table(np.array(uids, "S24"), [self._open[uid] for uid in uids])


def _table(uid: Bytes, found: list[Best]) -> Verdicts:
    if not found:
        return Verdicts.empty()
    verdict, threat, anomaly, label, device = zip(*found, strict=True)
    keys = np.array(device, "S48")
    return Verdicts(
        uid=uid,
        anomaly=np.array(anomaly, "f4"),
        threat=np.array(threat, "f4"),
        label=np.array(label, "u1"),
        device=keys,
        scored=keys != b"",
        verdict=np.array(verdict, "u1"),
    )

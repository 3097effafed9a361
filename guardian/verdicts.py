"""From the scores of slices to the verdict on a connection: its highest slice.

This is the one place where slices of a connection are compared: `guardian score` prints what comes
out of here, and the database keeps the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from guardian.const import MAX_CONNS
from guardian.tables import F32, I32, U8, Bool, Bytes, Conns, FeatureRows, Scores, Table, col

VERDICTS = ("benign", "anomaly", "attack")
"""Rising; Verdicts.verdict is an index into this."""

Best = tuple[int, float, float, int, bytes]
"""Verdict, threat, anomaly (the order of comparison), label, key of the device."""
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


def highest(uid: Bytes, verdict: U8, threat: F32, anomaly: F32) -> I32:
    """Return the rows of the highest slice of each uid: by verdict, then threat, then anomaly."""
    if not len(uid):
        return np.zeros(0, np.int32)
    order = np.lexsort((anomaly, threat, verdict, uid))
    last = np.ones(len(order), np.bool_)
    last[:-1] = uid[order[1:]] != uid[order[:-1]]
    return order[last].astype(np.int32)


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
        self._changed: dict[bytes, None] = {}

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
        uid = slices.uid[rows.row]
        some = highest(uid, verdict, threat, anomaly)
        known = {i: self._key_of(i).encode() for i in np.unique(rows.device[some]).tolist()}
        for name, *values, device in zip(
            uid[some].tolist(),
            verdict[some].tolist(),
            threat[some].tolist(),
            anomaly[some].tolist(),
            scores.label[some].tolist(),
            rows.device[some].tolist(),
            strict=True,
        ):
            one: Best = (*values, known[device])
            best = self._open.get(name)
            if best is None or one[:3] > best[:3]:
                self._open[name] = one
                self._changed[name] = None
        while len(self._open) > self._capacity:
            self._changed.pop(self._open.popitem(last=False)[0], None)

    def take(self, records: Conns) -> Verdicts:
        """Return the verdicts on finished records, in their order, and forget them."""
        found = []
        for uid in records.uid.tolist():
            found.append((uid, self._open.pop(uid, NO_SCORE)))
            self._changed.pop(uid, None)
        return _table(found)

    def living(self) -> Verdicts:
        """Return the connections that are open and whose highest slice changed since last asked."""
        changed, self._changed = self._changed, {}
        return _table((uid, self._open[uid]) for uid in changed)


def _table(found: Iterable[tuple[bytes, Best]]) -> Verdicts:
    pairs = list(found)
    out = Verdicts.blank(len(pairs))
    if pairs:
        verdict, threat, anomaly, label, device = zip(*(best for _, best in pairs), strict=True)
        out.uid[:] = [uid for uid, _ in pairs]
        out.anomaly[:], out.threat[:], out.verdict[:] = anomaly, threat, verdict
        out.label[:], out.device[:] = label, device
        out.scored[:] = out.device != b""
    return out

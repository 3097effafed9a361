"""From the scores of slices to the verdict on a connection: its highest slice."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from guardian.const import MAX_CONNS
from guardian.tables import F32, I32, U8, Bool, Conns, FeatureRows, Scores, Table, col

VERDICTS = ("benign", "anomaly", "attack")
NO_SCORE = (0.0, 0.0, 0, -1)


@dataclass(frozen=True)
class Verdicts(Table):
    """One row per record: the highest anomaly and threat of its slices."""

    anomaly: F32 = col("f4")
    threat: F32 = col("f4")
    label: U8 = col("u1")
    """Class at the highest threat, an index into the bundle's classes."""
    device: I32 = col("i4")
    """The home device it was judged for; -1 where it touches none."""
    scored: Bool = col("?")
    """A model saw it; false for traffic that belongs to no home device."""
    verdict: U8 = col("u1")
    """Index into VERDICTS."""


class VerdictTable:
    """Keeps the highest scores of connections that are still open; capped."""

    def __init__(self, anomaly_line: float, threat_line: float, capacity: int = 2 * MAX_CONNS):
        self._anomaly_line = anomaly_line
        self._threat_line = threat_line
        self._capacity = capacity
        self._open: OrderedDict[bytes, tuple[float, float, int, int]] = OrderedDict()

    def add(self, slices: Conns, rows: FeatureRows, scores: Scores) -> None:
        """Note the scores of a chunk of slices; rows.row indexes slices."""
        uids: Sequence[bytes] = slices.uid[rows.row].tolist()
        columns = zip(
            uids,
            scores.anomaly.tolist(),
            scores.threat.tolist(),
            scores.label.tolist(),
            rows.device.tolist(),
            strict=True,
        )
        for uid, anomaly, threat, label, device in columns:
            best = self._open.get(uid)
            if best is None:
                self._open[uid] = (anomaly, threat, label, device)
            elif threat > best[1]:
                self._open[uid] = (max(anomaly, best[0]), threat, label, device)
            elif anomaly > best[0]:
                self._open[uid] = (anomaly, *best[1:])
        while len(self._open) > self._capacity:
            self._open.popitem(last=False)

    def take(self, records: Conns) -> Verdicts:
        """Return the verdicts on finished records and forget them."""
        found = [self._open.pop(uid, NO_SCORE) for uid in records.uid.tolist()]
        if not found:
            return Verdicts.empty()
        anomaly, threat, label, device = (np.array(column) for column in zip(*found, strict=True))
        verdict = np.where(anomaly >= self._anomaly_line, 1, 0)
        verdict = np.where(threat >= self._threat_line, 2, verdict)
        return Verdicts(
            anomaly=anomaly.astype(np.float32),
            threat=threat.astype(np.float32),
            label=label.astype(np.uint8),
            device=device.astype(np.int32),
            scored=device >= 0,
            verdict=verdict.astype(np.uint8),
        )

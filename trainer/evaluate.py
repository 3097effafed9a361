"""Two bundles on the same captures by record: what a promotion rests on (promote.py).

A record counts with the highest score of its slices, as in the database. Lines for recall are
set on the pooled benign records of captures left out, each capture weighing alike. What a bundle
is worth to a person is judged in trainer.trial.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from guardian import bundle as bundles
from guardian.scoring import Pair
from guardian.tables import F64, Array
from trainer import calibrate, catalogue, metrics
from trainer.catalogue import Source
from trainer.streams import Stream, sequences

Incidents = Callable[[Path, tuple[str, ...]], int]
"""Counts the incidents that the gateway opens on a capture with this LAN (see opened.py)."""

FEW = 100
"""Below this many records a figure is told as k of n."""


@dataclass(frozen=True)
class Judged:
    """The records of one source; every column has one value a record."""

    source: Source
    label: Array
    scores: Mapping[str, F64]
    """By scorer: `threat`, `anomaly` (and the same of other forms)."""
    hours: float
    """Hours that the captures of the source last, together."""
    incidents: int | None = None

    def of(self, name: str, hit: Array) -> F64:
        out: F64 = self.scores[name][hit]
        return out


@dataclass(frozen=True)
class Judge:
    """The models that judge: one pair of them, or several forms by suffix."""

    pairs: Mapping[str, Pair]
    error_line: float
    """Reconstruction error at which `anomaly` is 1."""
    window: int
    incidents: Incidents | None = None


def judge(source: Source, data: Path, by: Judge) -> Judged:
    """Score all records of a source."""
    parts: list[tuple[Array, dict[str, F64]]] = []
    hours, opened = 0.0, 0
    for path, stream in catalogue.streams(source, data):
        if not len(stream):
            continue
        parts.append(records(stream, by))
        told = stream.slices.told
        hours += float(told.max() - stream.slices.ts.min()) / 3.6e12
        opened += by.incidents(path, source.lan) if by.incidents is not None else 0
    label = np.concatenate([label for label, _ in parts])
    names = parts[0][1].keys()
    scores = {name: np.concatenate([found[name] for _, found in parts]) for name in names}
    return Judged(source, label, scores, hours, opened if by.incidents is not None else None)


def records(stream: Stream, by: Judge) -> tuple[Array, dict[str, F64]]:
    """Return the label and the highest scores of each record that touches a home device."""
    _, first, record = np.unique(stream.slices.uid, return_index=True, return_inverse=True)
    touched = np.zeros(len(first), dtype=np.bool_)
    names = [f"{what}{suffix}" for suffix in by.pairs for what in ("threat", "anomaly")]
    best = {name: np.zeros(len(first)) for name in names}
    for chunk in sequences(stream, by.window):
        rows = record[chunk.at]
        touched[rows] = True
        seqs = chunk.sequences
        for suffix, pair in by.pairs.items():
            for part, probability, error, _ in pair.infer(seqs.x, seqs.length):
                np.maximum.at(best[f"threat{suffix}"], rows[part], 1 - probability[:, 0])
                np.maximum.at(best[f"anomaly{suffix}"], rows[part], error / by.error_line)
    label = stream.label[first]
    keep = touched & (label >= 0)
    return label[keep], {name: values[keep] for name, values in best.items()}


# --- figures -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Pool:
    """Benign records of captures left out, each capture weighing alike."""

    scores: Mapping[str, F64]
    weight: F64

    @classmethod
    def of(cls, judged: Sequence[Judged]) -> Pool:
        quiet = [(j, j.label == 0) for j in judged if (j.label == 0).any()]
        names = quiet[0][0].scores.keys()
        return cls(
            {name: np.concatenate([j.of(name, hit) for j, hit in quiet]) for name in names},
            np.concatenate([np.full(int(hit.sum()), 1.0 / hit.sum()) for _, hit in quiet]),
        )

    def line(self, name: str, share: float) -> float:
        """Return the score that at most this share of the benign records reach."""
        return calibrate.threshold(self.scores[name], share, self.weight)


def attack_row(judged: Judged, pool: Pool, threat_line: float) -> dict[str, Any]:
    """Return the figures of a source's malicious records."""
    hit = judged.label > 0
    n = int(hit.sum())
    row: dict[str, Any] = {"capture": judged.source.name, "records": n}
    for name in judged.scores:
        scores = judged.of(name, hit)
        row[name] = {
            "auc": metrics.auc(pool.scores[name], scores, pool.weight),
            "found_at_1%": metrics.found(scores, pool.line(name, 0.01)),
            "found_at_0.1%": metrics.found(scores, pool.line(name, 0.001)),
        }
        own = judged.of(name, judged.label == 0)
        if len(own) >= FEW:
            row[name]["auc_own_benign"] = metrics.auc(own, scores)
    row["found_at_shipped_line"] = metrics.found(judged.of("threat", hit), threat_line)
    row["anomalies"] = metrics.found(judged.of("anomaly", hit), 1.0)
    row["incidents"] = judged.incidents
    return row


def pair_of(bundle: bundles.Bundle) -> Pair:
    """Return the models of a bundle."""
    return Pair(
        bundle.scaler,
        bundle.autoencoder,
        bundle.classifier,
        (bundle.window, len(bundle.features)),
        len(bundle.classes),
    )

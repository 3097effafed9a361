"""The table by capture left out of training: what the models are worth where nothing was seen.

A record counts with the highest score of its slices, as in `guardian score`. Lines for recall are
set on the pooled benign records of captures left out, each capture weighing alike, and beside
every model stand the two plainest counters: connections and destinations a minute.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from guardian import bundle as bundles
from guardian.scoring import Pair
from guardian.tables import F64, Array
from trainer import calibrate, catalogue, metrics
from trainer.catalogue import Source
from trainer.streams import Stream, graft, sequences

Echo = Callable[[str], None]
Incidents = Callable[[Path, tuple[str, ...]], int]
"""Counts the incidents that the gateway opens on a capture with this LAN (see opened.py)."""

COUNTERS = ("conns a minute", "peers a minute")
PLACEBOS = 60
PLACEBO_SLICES = 100
FEW = 100
"""Below this many records a figure is told as k of n."""


@dataclass(frozen=True)
class Judged:
    """The records of one source; every column has one value a record."""

    source: Source
    label: Array
    scores: Mapping[str, F64]
    """By scorer: `threat`, `anomaly` (and the same of other forms), COUNTERS."""
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
    best = {name: np.zeros(len(first)) for name in (*names, *COUNTERS)}
    for chunk in sequences(stream, by.window):
        rows = record[chunk.at]
        touched[rows] = True
        seqs = chunk.sequences
        for suffix, pair in by.pairs.items():
            for part, probability, error, _ in pair.infer(seqs.x, seqs.length):
                np.maximum.at(best[f"threat{suffix}"], rows[part], 1 - probability[:, 0])
                np.maximum.at(best[f"anomaly{suffix}"], rows[part], error / by.error_line)
    _count(stream, record, best)
    label = stream.label[first]
    keep = touched & (label >= 0)
    return label[keep], {name: values[keep] for name, values in best.items()}


def _count(stream: Stream, record: Array, best: dict[str, F64]) -> None:
    """Fill in the plain counters: at a connection's first slice, of the side that opened it (of
    the other one, where only that is at home)."""
    fresh = np.flatnonzero(stream.slices.piece == 0)
    outbound = stream.orig_device[fresh] >= 0
    device = np.where(outbound, stream.orig_device[fresh], stream.resp_device[fresh])
    peer = np.where(outbound[:, None], stream.slices.resp[fresh], stream.slices.orig[fresh])
    _, key = np.unique(peer, axis=0, return_inverse=True)
    counts = metrics.per_minute(device, stream.slices.told[fresh], key.reshape(-1))
    for name, values in zip(COUNTERS, counts, strict=True):
        np.maximum.at(best[name], record[fresh], values)


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


def benign_row(judged: Judged, pool: Pool, threat_line: float) -> dict[str, Any]:
    """Return the false positives of a source's benign records."""
    hit = judged.label == 0
    threat, anomaly = judged.of("threat", hit), judged.of("anomaly", hit)
    return {
        "capture": judged.source.name,
        "records": int(hit.sum()),
        "hours": round(judged.hours, 1),
        "reach_threat": metrics.found(threat, threat_line),
        "reach_anomaly": metrics.found(anomaly, 1.0),
        "reach_pooled_1%": metrics.found(threat, pool.line("threat", 0.01)),
        "highest_threat": float(threat.max()),
        "incidents": judged.incidents,
    }


def shipped(
    folder: Path,
    data: Path,
    echo: Echo,
    incidents: Incidents | None = None,
    others: Mapping[str, Pair] | None = None,
) -> tuple[dict[str, Any], list[Judged]]:
    """Judge a bundle on the captures that are for evaluation alone.

    `others` are further forms of the same models, by suffix. Returns the report and what was
    judged, for those who pool further captures.
    """
    bundle = bundles.load(folder)
    by = Judge(
        {"": pair_of(bundle), **(others or {})}, bundle.error_threshold, bundle.window, incidents
    )
    judged = []
    begun = time.monotonic()
    sources = catalogue.of("evaluate")
    for number, source in enumerate(sources, 1):
        judged.append(judge(source, data, by))
        spent = time.monotonic() - begun
        echo(
            f"{source.name}: {len(judged[-1].label):,} records; {number} of {len(sources)}, "
            f"about {spent / number * (len(sources) - number):.0f} s left"
        )
    pool = Pool.of(judged)
    line = bundle.threat_threshold
    lines = {
        "reach_pooled_1%": pool.line("threat", 0.01),
        "reach_pooled_0.1%": pool.line("threat", 0.001),
        "reach_threat": line,
    }
    report = {
        "placebo": placebo(judged, data, by, lines),
        "bundle": {"name": bundle.name, "version": bundle.version, "digest": bundle.digest},
        "benign": [benign_row(j, pool, line) for j in judged if (j.label == 0).any()],
        "attacks": [attack_row(j, pool, line) for j in judged if (j.label > 0).any()],
        "not_judged": [j.source.name for j in judged if not len(j.label)],
    }
    return report, judged


def pair_of(bundle: bundles.Bundle) -> Pair:
    """Return the models of a bundle."""
    return Pair(
        bundle.scaler,
        bundle.autoencoder,
        bundle.classifier,
        (bundle.window, len(bundle.features)),
        len(bundle.classes),
    )


def placebo(judged: Sequence[Judged], data: Path, by: Judge, lines: Mapping[str, float]) -> Any:
    """Put stretches of one left-out device's benign traffic into the life of another's, as a new
    app or an update would come, and return how many of these records reach each line.

    What fires here is the insertion, not malice: no detection by context counts for more.
    """
    rng = np.random.default_rng(0)
    quiet = [j.source for j in judged if (j.label == 0).sum() >= FEW and j.hours > 0.1]
    pool = [stream for s in quiet if "*/*" not in s.pattern for _, stream in _streams(s, data)]
    threats = []
    for _ in range(PLACEBOS):
        host, guest = (pool[k] for k in rng.choice(len(pool), 2, replace=False))
        mine, yours = busiest(host), busiest(guest)
        rows = np.flatnonzero((guest.orig_device == yours) | (guest.resp_device == yours))
        begin = int(rng.integers(0, max(1, len(rows) - PLACEBO_SLICES)))
        part = guest.take(rows[begin : begin + PLACEBO_SLICES])
        told = host.slices.told
        start = int(told[0] + rng.uniform(0.3, 0.9) * (told[-1] - told[0]))
        # Marked, so that they are told apart from the host's own; their label stays benign here.
        marked = replace(part, label=np.ones(len(part), dtype=np.int8))
        mixed = graft(host, mine, marked, yours, start - int(part.slices.told[0]))
        label, found = records(mixed, by)
        threats.append(found["threat"][label == 1])
    threat = np.concatenate(threats)
    return {
        "grafts": PLACEBOS,
        "records": len(threat),
        **{name: metrics.found(threat, line) for name, line in lines.items()},
    }


def _streams(source: Source, data: Path) -> list[tuple[Path, Stream]]:
    return [(p, s) for p, s in catalogue.streams(source, data) if len(s) >= PLACEBO_SLICES]


def busiest(stream: Stream) -> int:
    """Return the device that originates most slices."""
    known = stream.orig_device[stream.orig_device >= 0]
    return int(np.bincount(known).argmax())


def write(report: dict[str, Any], text: str, out: Path) -> None:
    """Write report.md and report.json."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.md").write_text(text, encoding="utf-8")
    plain = json.dumps(report, indent=1, default=float)
    (out / "report.json").write_text(plain + "\n", encoding="utf-8")

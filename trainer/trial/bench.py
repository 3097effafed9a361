"""A stream through the gateway's own stages, scored by a bundle and by its rivals at once.

What Pipeline does with slices is done here with a parsed stream, so that a capture is parsed once,
grafts can be judged, and each sequence is handed to all scorers. A test holds it to Pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from guardian.addresses import Lan
from guardian.alerts import AlertSettings, Ruler
from guardian.arpwatch import Finding
from guardian.bundle import Bundle
from guardian.const import ROWS_PER_CHUNK
from guardian.devices import DeviceTable
from guardian.evidence import EvidenceSettings
from guardian.features import FeatureExtractor
from guardian.gathered import Gathering, score_of
from guardian.incidents import IncidentEvent
from guardian.scoring import Scorer
from guardian.sequences import SequenceTable
from guardian.tables import F64, I32, I64, Array, Scores, Sequences
from trainer.streams import Stream

BySequence = Callable[[Sequences], F64]
"""Sequences -> a score of each, float64[m]; higher is worse."""
BySlice = Callable[[Stream], F64]
"""A stream -> a score of each slice, float64[n]; -inf where it has none."""


@dataclass(frozen=True)
class Rivals:
    """What a bundle is compared with, by name."""

    by_sequence: Mapping[str, BySequence] = field(default_factory=dict)
    by_slice: Mapping[str, BySlice] = field(default_factory=dict)
    lines: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Of those by sequence that give probabilities: the line, and the answer to ordinary traffic.
    What they say is also added up as the gateway does, without plain rules: a scorer more each."""


GATEWAY, MODELS = "gateway", "models alone"
"""Whose incidents: with the plain counters, as shipped, and without."""
GATHERED = {GATEWAY: "evidence", MODELS: "evidence of models"}
"""Scorers: the threat of a record with the evidence that each gathered against it, as `guardian
score` prints it."""
ADDED_UP = ", added up"
"""Ends the name of a rival whose words are added up in the same way."""


@dataclass(frozen=True)
class Opened:
    """An incident as it was opened. `at` is int64 nanoseconds of packet time."""

    device: str
    at: int
    cause: str
    speaker: str
    score: float
    uids: tuple[str, ...] = ()
    """Some of the connections that it rests on."""


@dataclass(frozen=True)
class Played:
    """What became of a stream. Columns have one row a record that touches a home device."""

    label: Array
    """int8[r]: class, -1 where nobody said."""
    uid: Array
    device: I32
    """int32[r]: the home device on the side that counts (the originator's first)."""
    ts: I64
    told: I64
    """int64[r]: when its first slice was due."""
    scores: Mapping[str, F64]
    """By scorer, the highest of the record's slices."""
    opened: Mapping[str, tuple[Opened, ...]]
    """By GATEWAY and MODELS."""
    lives: Mapping[str, tuple[int, int]]
    """First and last moment of each device that was judged, ns, by its key."""


@dataclass(frozen=True)
class Bench:
    """A bundle ready to judge, and its rivals."""

    bundle: Bundle
    scorer: Scorer
    ruler: Ruler
    rivals: Rivals = field(default_factory=Rivals)
    evidence: EvidenceSettings = field(default_factory=EvidenceSettings)
    """What the gateway asks."""

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        rivals: Rivals | None = None,
        *,
        evidence: EvidenceSettings | None = None,
    ) -> Bench:
        """Build the interpreters. Raises BundleError where the bundle does not run here."""
        scorer = Scorer(bundle)
        ruler = Ruler.of(bundle, scorer.score)
        return cls(bundle, scorer, ruler, rivals or Rivals(), evidence or EvidenceSettings())

    def play(self, stream: Stream, devices: DeviceTable, arps: Sequence[Finding] = ()) -> Played:
        """Judge a stream whose slices come in the order they were told, and what its ARP gave
        away in between."""
        lan = Lan(stream.lan)
        extractor = FeatureExtractor(lan, utc_offset_s=stream.utc_offset_s)
        table = SequenceTable(self.bundle.window, len(self.bundle.features))
        incidents = {
            name: Gathering(
                self.ruler, devices, lan, AlertSettings(self.evidence, counters=counters)
            )
            for name, counters in ((GATEWAY, True), (MODELS, False))
        }
        opened: dict[str, list[Opened]] = {name: [] for name in incidents}
        others = {
            name: Gathering(
                replace(self.ruler, threat_line=line, ordinary_threat=ordinary), devices, lan,
                AlertSettings(counters=False),
            )
            for name, (line, ordinary) in self.rivals.lines.items()
        }  # fmt: skip
        _, first, record = np.unique(stream.slices.uid, return_index=True, return_inverse=True)
        record = record.reshape(-1)
        best: dict[str, F64] = {}
        touched = np.zeros(len(first), dtype=np.bool_)
        for k, end, finding in _parts(stream, arps):
            for name, incident_table in incidents.items():
                if finding is not None:
                    opened[name] += _opened(incident_table.arp(finding))
            part = stream.take(slice(k, end))
            if not len(part):
                continue
            rows = extractor.step(part.slices, part.orig_device, part.resp_device)
            sequences = table.step(rows)
            scores = self.scorer.score(sequences)
            at = record[sequences.row + k]
            if not len(sequences):
                continue
            touched[at] = True
            values_of = self._all(sequences, scores)
            for name, values in values_of.items():
                column = best.setdefault(name, np.full(len(first), -np.inf))
                np.maximum.at(column, at, values)
            now = int(part.slices.told[-1])
            for name, incident_table in incidents.items():
                opened[name] += _opened(incident_table.step(part.slices, rows, scores, now))
            for name, other in others.items():
                theirs = replace(scores, threat=values_of[name].astype(np.float32))
                other.step(part.slices, rows, theirs, now)
        for name, by_slice in self.rivals.by_slice.items():
            column = best.setdefault(name, np.full(len(first), -np.inf))
            np.maximum.at(column, record, by_slice(stream))
        records = stream.slices.take(first)
        if "threat" in best:
            for name, table_ in incidents.items():
                best[GATHERED[name]] = score_of(best["threat"], table_.parts_of(records))
            for name, table_ in others.items():
                best[name + ADDED_UP] = score_of(best[name], table_.parts_of(records))
        side = np.where(stream.orig_device >= 0, stream.orig_device, stream.resp_device)[first]
        keep = touched & (side >= 0)
        return Played(
            stream.label[first][keep],
            records.uid[keep],
            side[keep],
            stream.slices.ts[first][keep],
            stream.slices.told[first][keep],
            {name: values[keep] for name, values in best.items()},
            {name: tuple(events) for name, events in opened.items()},
            _lives(stream, devices),
        )

    def _all(self, sequences: Sequences, scores: Scores) -> dict[str, F64]:
        out = {
            "threat": scores.threat.astype(np.float64),
            "anomaly": scores.anomaly.astype(np.float64),
        }
        return out | {name: rival(sequences) for name, rival in self.rivals.by_sequence.items()}


def _parts(stream: Stream, arps: Sequence[Finding]) -> Iterator[tuple[int, int, Finding | None]]:
    """Yield (begin, end) of each part of a stream, with the finding that comes before it."""
    cuts = [(int(np.searchsorted(stream.slices.told, one.told)), one) for one in arps]
    begin: int = 0
    before: Finding | None = None
    for cut, one in (*cuts, (len(stream), None)):
        yield begin, min(cut, begin + ROWS_PER_CHUNK), before
        for k in range(begin + ROWS_PER_CHUNK, cut, ROWS_PER_CHUNK):
            yield k, min(cut, k + ROWS_PER_CHUNK), None
        begin, before = cut, one


def _opened(events: Iterable[IncidentEvent]) -> list[Opened]:
    """Return the incidents that opened."""
    out = []
    for event in events:
        if event.change in ("opened", "held"):
            one = event.incident
            key = one.device.mac or f"ip:{one.device.ip}"
            uids = tuple(c.uid for c in one.connections)
            out.append(Opened(key, one.opened, one.cause, one.speaker, one.score, uids))
    return out


def _lives(stream: Stream, devices: DeviceTable) -> dict[str, tuple[int, int]]:
    """Return when each device was first and last judged."""
    out: dict[str, tuple[int, int]] = {}
    for side in (stream.orig_device, stream.resp_device):
        for device in np.unique(side[side >= 0]).tolist():
            rows = side == device
            first, last = int(stream.slices.ts[rows].min()), int(stream.slices.told[rows].max())
            key = devices.key(device)
            known = out.get(key, (first, last))
            out[key] = (min(first, known[0]), max(last, known[1]))
    return out

"""The whole way from frames to incidents, one batch at a time, without I/O."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from guardian import slices
from guardian.addresses import Lan
from guardian.alerts import AlertSettings, IncidentTable, Ruler
from guardian.bundle import Bundle
from guardian.conns import ConnTable, Told
from guardian.const import ROWS_PER_CHUNK
from guardian.decode import Decoder
from guardian.devices import DeviceTable
from guardian.features import FeatureExtractor
from guardian.incidents import IncidentEvent
from guardian.scoring import Scorer
from guardian.sequences import SequenceTable
from guardian.tables import Conns, Decoded, FeatureRows, Frames, Scores
from guardian.verdicts import Verdicts, VerdictTable


@dataclass
class Counts:
    """What went through since the start; every number a person may ask for."""

    packets: int = 0
    connections: int = 0
    slices: int = 0
    sequences: int = 0
    malformed: int = 0
    bad_checksums: int = 0
    not_understood: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """What one batch brought."""

    records: Conns
    verdicts: Verdicts
    """One row per record, same order."""
    slices: Conns
    rows: FeatureRows
    """Rows of all slices of the step; without features, which would be large (x is empty)."""
    scores: Scores
    """One per row; without errors by feature."""
    events: list[IncidentEvent]
    now: int


class Pipeline:
    """Frames (or finished records of a Zeek log) in, records with verdicts and incidents out."""

    def __init__(
        self,
        bundle: Bundle,
        lan: Lan,
        devices: DeviceTable,
        *,
        ignore_checksums: bool = False,
        counters: bool = True,
        alerts_a_week: int = 0,
        utc_offset_s: int = 0,
        seed: int = 0,
        live: bool = False,
    ) -> None:
        self.bundle = bundle
        self.devices = devices
        self.conns = ConnTable(lan, seed=seed, cut_is_gap=not live)
        self.counts = Counts()
        self._decoder = Decoder(ignore_checksums=ignore_checksums)
        self._features = FeatureExtractor(lan, utc_offset_s=utc_offset_s)
        self._sequences = SequenceTable(bundle.window, len(bundle.features))
        self._scorer = Scorer(bundle)
        self._verdicts = VerdictTable(
            bundle.anomaly_threshold, bundle.threat_threshold, devices.key
        )
        self.incidents = IncidentTable(
            Ruler.of(bundle, self._scorer.score),
            devices,
            lan,
            AlertSettings(counters=counters, a_week=alerts_a_week),
        )

    @property
    def incomplete(self) -> int:
        """Datagrams whose fragments never all came, or still wait for the others."""
        return self._decoder.given_up + self._decoder.waiting

    def step(self, frames: Frames) -> Step:
        """Take a batch of frames; an empty one only moves the clock."""
        decoded = self._decoder.decode(frames)
        self._count(len(frames), decoded)
        self.devices.step(decoded)
        return self._told(self.conns.step(decoded), decoded.now)

    def step_records(self, records: Conns) -> Step:
        """Take finished records, as a Zeek log has them; their slices are cut from them."""
        self.devices.learn_from_conns(records)
        pieces, _ = slices.cut(records)
        now = int(pieces.told.max()) if len(pieces) else 0
        return self._told(Told(records, pieces), now)

    def finish(self) -> Step:
        """End the input: every connection that is still open becomes a record."""
        told = self.conns.finish()
        now = max([0, *told.records.told[-1:].tolist(), *told.slices.told[-1:].tolist()])
        step = self._told(told, now)
        return replace(step, events=[*step.events, *self.incidents.finish(now)])

    def living(self) -> Verdicts:
        """Return the connections still open whose highest slice changed since last asked."""
        return self._verdicts.living()

    def _count(self, frames: int, decoded: Decoded) -> None:
        self.counts.packets += frames
        self.counts.malformed += decoded.malformed
        self.counts.bad_checksums += int(np.count_nonzero(decoded.packets.bad_csum))
        for kind, number in decoded.not_understood.items():
            self.counts.not_understood[kind] = self.counts.not_understood.get(kind, 0) + number

    def _told(self, told: Told, now: int) -> Step:
        """Judge the slices that became due, then the records that ended."""
        self.counts.connections += len(told.records)
        self.counts.slices += len(told.slices)
        for index in self.devices.take_evicted():
            self._features.evict(index)
            self._sequences.evict(index)
        events: list[IncidentEvent] = []
        rows: list[FeatureRows] = []
        scores: list[Scores] = []
        for start in range(0, len(told.slices), ROWS_PER_CHUNK):
            chunk = told.slices.take(slice(start, start + ROWS_PER_CHUNK))
            events += self._judge(chunk, start, rows, scores)
        # Incidents close by the clock, also when nothing happens.
        events += self.incidents.tick(now)
        return Step(
            records=told.records,
            verdicts=self._verdicts.take(told.records),
            slices=told.slices,
            rows=FeatureRows.concat(rows),
            scores=Scores.concat(scores),
            events=events,
            now=now,
        )

    def _judge(
        self, chunk: Conns, start: int, all_rows: list[FeatureRows], all_scores: list[Scores]
    ) -> list[IncidentEvent]:
        originators, responders = self.devices.sides(chunk)
        rows = self._features.step(chunk, originators, responders)
        sequences = self._sequences.step(rows)
        scores = self._scorer.score(sequences)
        self.counts.sequences += len(sequences)
        self._verdicts.add(chunk, rows, scores)
        n = len(rows)
        nothing = np.zeros((n, 0), dtype=np.float32)
        all_rows.append(FeatureRows(nothing, rows.device, rows.row + start, rows.outbound))
        all_scores.append(
            Scores(scores.anomaly, scores.threat, scores.label, scores.probability, nothing)
        )
        return self.incidents.step(chunk, rows, scores, int(chunk.told[-1]))

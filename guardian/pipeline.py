"""The whole way from frames to incidents, one batch at a time, without I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from guardian import slices
from guardian.addresses import Lan
from guardian.alerts import AlertSettings, IncidentTable, Ruler
from guardian.arpwatch import ArpWatch, Finding
from guardian.bundle import Bundle
from guardian.conns import ConnTable, Told
from guardian.const import ROWS_PER_CHUNK
from guardian.decode import Decoder
from guardian.devices import DeviceTable
from guardian.errors import BundleError
from guardian.evidence import EvidenceSettings
from guardian.features import FeatureExtractor
from guardian.incidents import Incident, IncidentEvent
from guardian.privacy import Privacy
from guardian.scoring import Scorer
from guardian.sequences import SequenceTable
from guardian.shedding import Shedder
from guardian.tables import Conns, Decoded, FeatureRows, Frames, Scores, Sequences
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
    shed: int = 0
    """Slices of flooding devices that no model read, since many alike were read."""
    evicted: int = 0
    """Connections that were ended early since the table was full."""
    arp_unseen: int = 0
    """ARP packets of a flood of them, which no rule looked at."""
    not_understood: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """What one batch brought."""

    records: Conns
    verdicts: Verdicts
    """One row per record, same order."""
    slices: Conns
    """All that was seen, for what looks at it in memory; keep and tell the records instead, which
    are reduced to what the privacy level allows."""
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
        adapt: bool = True,
        utc_offset_s: int = 0,
        seed: int = 0,
        live: bool = False,
        privacy: Privacy | None = None,
        incidents: type[IncidentTable] = IncidentTable,
    ) -> None:
        """incidents: another table for who wants to know more of them (guardian/gathered.py)."""
        self.bundle = bundle
        self.privacy = privacy or Privacy(lan=lan)
        """What leaves here is reduced by this already."""
        self.devices = devices
        self.conns = ConnTable(lan, seed=seed, cut_is_gap=not live)
        self.counts = Counts()
        self._decoder = Decoder(ignore_checksums=ignore_checksums)
        self._arps = ArpWatch()
        self.features = FeatureExtractor(lan, utc_offset_s=utc_offset_s)
        self._sequences = SequenceTable(bundle.window, len(bundle.features))
        self._scorer = Scorer(bundle)
        # A replay has time: it judges everything.
        self._shedder = Shedder() if live else None
        self._lan = lan
        self._spare: Scorer | None = None
        self.fallen = ""
        """Why the bundle swapped in last no longer judges; empty where it does."""
        self._verdicts = VerdictTable(
            bundle.anomaly_threshold, bundle.threat_threshold, devices.key
        )
        self.incidents = incidents(
            Ruler.of(bundle, self._scorer.score),
            devices,
            lan,
            AlertSettings(
                EvidenceSettings().adapting(adapt), counters=counters, a_week=alerts_a_week
            ),
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
        evicted = self.conns.evicted
        told = self.conns.step(decoded)
        self.counts.evicted += self.conns.evicted - evicted
        arps = self._arps.step(decoded.arps)
        self.counts.arp_unseen = self._arps.unseen
        return self._told(told, decoded.now, arps)

    def step_records(self, records: Conns) -> Step:
        """Take finished records, as a Zeek log has them; their slices are cut from them."""
        self.devices.learn_from_conns(records)
        pieces, _ = slices.cut(records)
        now = int(pieces.told.max()) if len(pieces) else 0
        return self._told(Told(records, pieces), now)

    def swap(self, scorer: Scorer) -> None:
        """Let another bundle judge from the next batch on: the scorer is ready to run.

        Connections, devices and features go on; sequences, too, where they are of as many steps.
        The incidents begin anew and must be told what was open and what the user said, as after a
        restart; evidence that did not yet suffice adds up further where the classes are the same.
        Where the new models fail later, the ones before judge again, see `fallen`.
        """
        before, self._spare = self._scorer, None
        if scorer.bundle.window == before.bundle.window:
            self._spare = before
        else:
            self._sequences = SequenceTable(scorer.bundle.window, len(scorer.bundle.features))
        self._use(scorer)

    def _use(self, scorer: Scorer) -> None:
        self._scorer, self.bundle = scorer, scorer.bundle
        self._verdicts.set_lines(self.bundle.anomaly_threshold, self.bundle.threat_threshold)
        before = self.incidents
        self.incidents = type(before)(
            Ruler.of(self.bundle, scorer.score), self.devices, self._lan, before.settings
        )
        self.incidents.succeed(before)

    def _scored(self, sequences: Sequences) -> Scores:
        """Return the scores; models that were swapped in and fail are left for those before."""
        try:
            return self._scorer.score(sequences)
        except BundleError as error:
            if self._spare is None:
                raise
            self.fallen = str(error)
            spare, self._spare = self._spare, None
            self._use(spare)
            return self._scorer.score(sequences)

    def finish(self) -> Step:
        """End the input: every connection that is still open becomes a record."""
        told = self.conns.finish()
        now = max([0, *told.records.told[-1:].tolist(), *told.slices.told[-1:].tolist()])
        step = self._told(told, now)
        last = self.privacy.events(self.incidents.finish(now))
        return replace(step, events=[*step.events, *last])

    def shed(self) -> list[tuple[str, int]]:
        """Return (device's name, slices not judged since the start) of those that flooded, worst
        first."""
        shed = self._shedder.by_device if self._shedder is not None else {}
        worst = sorted(shed.items(), key=lambda item: -item[1])
        return [(self.devices.ref(index).name, count) for index, count in worst]

    def living(self) -> Verdicts:
        """Return the connections still open whose highest slice changed since last asked."""
        return self._verdicts.living()

    def open_incidents(self) -> list[Incident]:
        """Return the open incidents as they may be told, oldest first."""
        return [self.privacy.incident(incident) for incident in self.incidents.open()]

    def _count(self, frames: int, decoded: Decoded) -> None:
        self.counts.packets += frames
        self.counts.malformed += decoded.malformed
        self.counts.bad_checksums += decoded.bad_checksums
        for kind, number in decoded.not_understood.items():
            self.counts.not_understood[kind] = self.counts.not_understood.get(kind, 0) + number

    def _told(self, told: Told, now: int, arps: Sequence[Finding] = ()) -> Step:
        """Judge the slices that became due, with what ARP gave away between them, then the
        records that ended."""
        self.counts.connections += len(told.records)
        self.counts.slices += len(told.slices)
        for index in self.devices.take_evicted():
            self.features.evict(index)
            self._sequences.evict(index)
            if self._shedder is not None:
                self._shedder.evict(index)
        events: list[IncidentEvent] = []
        rows: list[FeatureRows] = []
        scores: list[Scores] = []
        start = 0
        for finding in (*arps, None):
            end = len(told.slices)
            if finding is not None:
                end = int(np.searchsorted(told.slices.told, finding.told))
            for first in range(start, end, ROWS_PER_CHUNK):
                chunk = told.slices.take(slice(first, min(end, first + ROWS_PER_CHUNK)))
                events += self._judge(chunk, first, rows, scores)
            start = max(start, end)
            if finding is not None:
                events += self.incidents.arp(finding)
        # Incidents close by the clock, also when nothing happens.
        events += self.incidents.tick(now)
        return Step(
            records=self.privacy.records(told.records),
            verdicts=self._verdicts.take(told.records),
            slices=told.slices,
            rows=FeatureRows.concat(rows),
            scores=Scores.concat(scores),
            events=self.privacy.events(events),
            now=now,
        )

    def _judge(
        self, chunk: Conns, start: int, all_rows: list[FeatureRows], all_scores: list[Scores]
    ) -> list[IncidentEvent]:
        originators, responders = self.devices.sides(chunk)
        if self._shedder is not None:
            before = self._shedder.shed
            originators, responders = self._shedder.sides(chunk, originators, responders)
            self.counts.shed += self._shedder.shed - before
        rows = self.features.step(chunk, originators, responders)
        sequences = self._sequences.step(rows)
        scores = self._scored(sequences)
        self.counts.sequences += len(sequences)
        self._verdicts.add(chunk, rows, scores)
        n = len(rows)
        nothing = np.zeros((n, 0), dtype=np.float32)
        all_rows.append(FeatureRows(nothing, rows.device, rows.row + start, rows.outbound))
        all_scores.append(
            Scores(scores.anomaly, scores.threat, scores.label, scores.probability, nothing)
        )
        named = self.privacy.unnamed(chunk)
        return self.incidents.step(named, rows, scores, int(chunk.told[-1]))

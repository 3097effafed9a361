"""From a step of the pipeline to the database: rows, incidents, messages for the hub."""

from __future__ import annotations

import numpy as np

from guardian.connrows import Scored
from guardian.const import NS
from guardian.devices import Device
from guardian.incidents import IncidentEvent
from guardian.pipeline import Pipeline, Step
from guardian.publish import Publisher
from guardian.store import Store
from guardian.tables import Conns

DEVICES_NS = 5 * NS
"""Between looks at devices that are already known."""


class Recorder:
    """Writes what a pipeline finds; the publisher, where there is one, words the messages."""

    def __init__(self, store: Store, pipeline: Pipeline, publisher: Publisher | None = None):
        self._store = store
        self._pipeline = pipeline
        self._publisher = publisher
        self._devices_known = 0
        self._devices_at = 0
        bundle = pipeline.bundle
        store.add_bundle(bundle.digest, f"{bundle.name} {bundle.version}", bundle.manifest, 0)

    def add(self, step: Step) -> bool:
        """Take a step; return whether it was committed. Raises StoreError."""
        messages = self._publisher.announce(step.events) if self._publisher is not None else []
        return self._store.add(
            records=step.records,
            scored=self._scored(step),
            devices=self._devices(step.now),
            events=step.events,
            messages=messages,
            now=step.now,
        )

    def _devices(self, now: int) -> list[Device]:
        """Return all devices where one is new or some time has passed, else none."""
        table = self._pipeline.devices
        if len(table) == self._devices_known and 0 <= now - self._devices_at < DEVICES_NS:
            return []
        self._devices_known, self._devices_at = len(table), now
        return table.devices()

    def tell(self, events: list[IncidentEvent], now: int) -> None:
        """Take what a wish of the user's changed. Raises StoreError."""
        if events:
            messages = self._publisher.announce(events) if self._publisher is not None else []
            self._store.add(
                records=Conns.empty(),
                scored=Scored.empty(),
                events=events,
                messages=messages,
                now=now,
            )

    def _scored(self, step: Step) -> Scored:
        bundle, devices = self._pipeline.bundle, self._pipeline.devices
        present, index = np.unique(step.rows.device, return_inverse=True)
        verdict = np.where(step.scores.anomaly >= bundle.anomaly_threshold, 1, 0)
        verdict[step.scores.threat >= bundle.threat_threshold] = 2
        return Scored(
            uid=step.slices.uid[step.rows.row],
            device=index.astype(np.int32),
            anomaly=step.scores.anomaly,
            threat=step.scores.threat,
            label=step.scores.label,
            verdict=verdict.astype(np.uint8),
            keys=[devices.key(i) for i in present.tolist()],
            classes=bundle.classes,
        )

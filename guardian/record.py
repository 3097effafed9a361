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
from guardian.verdicts import Verdicts

DEVICES_NS = 5 * NS
"""Between looks at devices that are already known."""


class Recorder:
    """Writes what a pipeline finds; the publisher, where there is one, words the messages."""

    def __init__(self, store: Store, pipeline: Pipeline, publisher: Publisher | None = None):
        self._store = store
        self._pipeline = pipeline
        self.publisher = publisher
        self._devices_known = 0
        self._devices_at = 0
        bundle = pipeline.bundle
        store.add_bundle(bundle.digest, f"{bundle.name} {bundle.version}", bundle.manifest, 0)

    def add(self, step: Step) -> bool:
        """Take a step; return whether it was committed. Raises StoreError."""
        messages = self.publisher.announce(step.events) if self.publisher is not None else []
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
            messages = self.publisher.announce(events) if self.publisher is not None else []
            self._store.add(
                records=Conns.empty(),
                scored=Scored.empty(),
                events=events,
                messages=messages,
                now=now,
            )

    def _scored(self, step: Step) -> Scored:
        """Return the verdicts on what ended, and on what lives on where they changed."""
        ended = step.verdicts.take(step.verdicts.scored)
        found = Verdicts.concat([ended, self._pipeline.living()])
        keys, index = np.unique(found.device, return_inverse=True)
        return Scored(
            uid=found.uid,
            device=index.astype(np.int32),
            anomaly=found.anomaly,
            threat=found.threat,
            label=found.label,
            verdict=found.verdict,
            keys=[key.decode("ascii", "replace") for key in keys.tolist()],
            classes=self._pipeline.bundle.classes,
        )

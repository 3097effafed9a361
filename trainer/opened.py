"""How many incidents the gateway would open on a capture: the whole pipeline, nothing muted."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from guardian.addresses import Lan
from guardian.bundle import Bundle
from guardian.devices import DeviceTable
from guardian.errors import InputError
from guardian.incidents import IncidentEvent
from guardian.pipeline import Pipeline
from guardian.source import silent, steps
from trainer.evaluate import Incidents


def opened_by(bundle: Bundle) -> Incidents:
    """Return the function that counts what a bundle's models open; plain counters are off."""

    def count(path: Path, lan: tuple[str, ...]) -> int:
        home = Lan(lan)
        pipeline = Pipeline(bundle, home, DeviceTable(home), ignore_checksums=True, counters=False)
        found: list[IncidentEvent] = []
        # A capture that is cut off gives what came before, here as in the table of records.
        with suppress(InputError):
            for step in steps(path, pipeline, home, silent):
                found += step.events
        found += pipeline.finish().events
        return sum(event.change == "opened" for event in found)

    return count

"""How many incidents the gateway would open on a capture: the whole pipeline, nothing muted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from guardian import capture, zeeklog
from guardian.addresses import Lan
from guardian.bundle import Bundle
from guardian.devices import DeviceTable
from guardian.errors import InputError
from guardian.pipeline import Pipeline, Step
from guardian.tables import Conns
from trainer.evaluate import Incidents


def opened_by(bundle: Bundle) -> Incidents:
    """Return the function that counts what a bundle's models open; plain counters are off."""

    def count(path: Path, lan: tuple[str, ...]) -> int:
        home = Lan(lan)
        pipeline = Pipeline(bundle, home, DeviceTable(home), ignore_checksums=True, counters=False)
        return sum(
            e.change == "opened" for step in _steps(path, pipeline, home) for e in step.events
        )

    return count


def _steps(path: Path, pipeline: Pipeline, home: Lan) -> Iterator[Step]:
    if capture.sniff(path) == "log":
        records = [batch.conns for batch in zeeklog.read(path, home)]
        yield pipeline.step_records(Conns.concat(records))
        return
    try:
        for frames in capture.read_frames(path):
            yield pipeline.step(frames)
    except InputError:
        pass  # a capture that is cut off gives what came before, here as in the records' table
    yield pipeline.finish()

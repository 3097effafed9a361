"""`guardian replay`: captures and logs through the daemon's pipeline."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import click

from guardian.addresses import Lan
from guardian.config import Settings
from guardian.errors import InputError
from guardian.incidents import Incident
from guardian.pipeline import Counts, Pipeline
from guardian.record import Recorder
from guardian.runtime import load_bundle, open_pipeline
from guardian.source import steps, teller, warn
from guardian.store import Store
from guardian.usercli import print_alerts


def replay(inputs: Sequence[Path], settings: Settings, *, db: Path | None, as_json: bool) -> None:
    """Replay inputs in the order given and print what was found.

    Raises InputError after printing where inputs were damaged; it names each.
    """
    begun = time.monotonic()
    pipeline = open_pipeline(settings, load_bundle(settings))
    incidents: dict[str, Incident] = {}
    faults: list[InputError] = []
    with ExitStack() as stack:
        recorder = None
        if db is not None:
            recorder = Recorder(stack.enter_context(Store(db, privacy=pipeline.privacy)), pipeline)
        for path in once(inputs):
            faults += run_input(path, pipeline, settings, incidents, recorder)
        step = pipeline.finish()
        for event in step.events:
            incidents[event.incident.id] = event.incident
        if recorder is not None:
            recorder.add(step)
    elapsed = time.monotonic() - begun
    found = sorted(incidents.values(), key=lambda incident: incident.opened)
    if as_json:
        click.echo(json.dumps(summary(pipeline.counts, pipeline, found, elapsed)))
    else:
        print_summary(pipeline.counts, pipeline, found, elapsed)
    if faults:
        raise InputError("; ".join(map(str, faults)))
    warn(pipeline.counts)


def once(inputs: Sequence[Path]) -> list[Path]:
    """Return the inputs, a file given twice once, and say so: it would count twice."""
    out: list[Path] = []
    seen: set[tuple[int, int]] = set()
    for path in inputs:
        try:
            stat = path.stat()
        except OSError:  # standard input, or what the reader will complain of
            out.append(path)
            continue
        if (stat.st_dev, stat.st_ino) in seen:
            click.echo(f"warning: {path} was given before and is read once", err=True)
            continue
        seen.add((stat.st_dev, stat.st_ino))
        out.append(path)
    return out


def run_input(
    path: Path,
    pipeline: Pipeline,
    settings: Settings,
    incidents: dict[str, Incident],
    recorder: Recorder | None,
) -> list[InputError]:
    """Run one input; return its faults, so that the next input and the end are still reached."""
    tell = teller()
    try:
        for step in steps(path, pipeline, Lan(settings.home.lan), tell):
            for event in step.events:
                incidents[event.incident.id] = event.incident
            if recorder is not None:
                recorder.add(step)
    except InputError as error:
        return [error]
    finally:
        tell("")
    return []


def summary(
    counts: Counts, pipeline: Pipeline, found: list[Incident], elapsed: float
) -> dict[str, object]:
    """Return the object of --json."""
    return {
        "packets": counts.packets,
        "connections": counts.connections,
        "devices": len(pipeline.devices.devices()),
        "sequences": counts.sequences,
        "alerts": [incident.as_json() for incident in found],
        "elapsed_s": round(elapsed, 3),
        "malformed": counts.malformed,
    }


def print_summary(
    counts: Counts, pipeline: Pipeline, found: list[Incident], elapsed: float
) -> None:
    """Print the same for a person."""
    click.echo(
        f"{counts.packets:,} packets, {counts.connections:,} connections, devices at home: "
        f"{len(pipeline.devices.devices())}; took {elapsed:.1f} s"
    )
    others = ", ".join(f"{n:,} {kind}" for kind, n in sorted(counts.not_understood.items()))
    if others:
        click.echo(f"not IP, or not understood: {others}")
    if counts.malformed:
        click.echo(f"malformed: {counts.malformed:,}")
    if pipeline.incomplete:
        click.echo(f"datagrams of which fragments are missing: {pipeline.incomplete:,}")
    if found:
        click.echo()
        print_alerts([incident.as_json() for incident in found], time.time())
    else:
        click.echo("No incidents.")

"""`guardian demo`: a simulated home with one infected device, from packets to the hub."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import click

from guardian import capture
from guardian.broker import check_broker
from guardian.config import Settings
from guardian.const import NS
from guardian.daemon import hub_states
from guardian.demohub import DemoHub, broker_settings
from guardian.discovery import Topics, slug
from guardian.drill import progress_bar
from guardian.errors import GuardianError
from guardian.incidents import IncidentEvent
from guardian.pipeline import Pipeline
from guardian.publish import Publisher, hub_messages, topics_of
from guardian.record import Recorder
from guardian.runtime import load_bundle, open_pipeline
from guardian.store import Store
from guardian.tell import cut, table, when
from guardian.usercli import print_alerts

SCENARIO = "infected"
INFECTED = "hall-camera"


def demo(keep: Path | None, broker: str | None, settings: Settings) -> None:
    """Simulate, watch, show; fail where anything but the infected device is reported.

    With a broker the hub is shown it all until Enter. Raises GuardianError where the result is not
    what it must be, so that the demo is a check.
    """
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        pcap, db = folder / "home.pcap", folder / "guardian.db"
        mqtt = replace(settings.mqtt, host="")
        if broker is not None:
            mqtt = broker_settings(broker, settings.mqtt)
            check_broker(mqtt)
        db.unlink(missing_ok=True)
        make(pcap)
        store = stack.enter_context(Store(db))
        publisher = stack.enter_context(Publisher(mqtt, store))
        pipeline = open_pipeline(settings, load_bundle(settings))
        recorder = Recorder(store, pipeline, publisher)
        hub = DemoHub(mqtt, pipeline, store, publisher, recorder) if broker is not None else None
        events = watch(pcap, pipeline, recorder, hub)
        show(pipeline, events)
        show_hub(pipeline, events, topics_of(mqtt, store.installation))
        if keep is not None:
            click.echo(f"\nKept: {pcap}, {db}. Try: guardian explain ID --db {db}")
        if hub is None:
            judge(pipeline, events)
        else:
            with hub.shown():
                judge(pipeline, events)
                hub.wait()


def make(pcap: Path) -> None:
    """Simulate the home into a capture."""
    from guardian.simulate import SCENARIOS, simulate  # noqa: PLC0415 - loads scapy

    begun = time.monotonic()
    scenario = SCENARIOS[SCENARIO]()
    summary = simulate(scenario, pcap, progress_bar("simulating"))
    click.echo(
        f"A home of {len(scenario.devices)} devices, {scenario.hours:g} hours, one of them "
        f"infected towards the end.\nSimulated {summary.packets:,} packets in "
        f"{time.monotonic() - begun:.1f} s."
    )


def watch(
    pcap: Path, pipeline: Pipeline, recorder: Recorder, hub: DemoHub | None
) -> list[IncidentEvent]:
    """Run the capture through the pipeline and into the database."""
    begun = time.monotonic()
    draw = progress_bar("watching")
    size = pcap.stat().st_size
    events: list[IncidentEvent] = []
    done = 0
    for frames in capture.read_frames(pcap):
        step = pipeline.step(frames)
        events += step.events
        recorder.add(step)
        if hub is not None:
            hub.saw(step)
        done += int(frames.caplen.sum()) + 16 * len(frames)
        draw(min(done / size, 1.0))
    step = pipeline.finish()
    events += step.events
    recorder.add(step)
    if hub is not None:
        hub.saw(step)
    draw(1.0)
    counts, bundle = pipeline.counts, pipeline.bundle
    click.echo(
        f"Watched them in {time.monotonic() - begun:.1f} s: {counts.connections:,} connections, "
        f"{counts.sequences:,} sequences scored by bundle {bundle.name} {bundle.version}."
    )
    return events


def show(pipeline: Pipeline, events: list[IncidentEvent]) -> None:
    """Print devices and incidents as a person would want them."""
    latest = {event.incident.id: event.incident for event in events}
    found = sorted(latest.values(), key=lambda incident: incident.opened)
    troubled = Counter(incident.device.mac for incident in found)
    now = pipeline_clock(pipeline)
    rows = []
    for device in pipeline.devices.devices():
        ref = pipeline.devices.ref(device.index)
        state = "gateway" if device.gateway else "quiet"
        if troubled[device.mac]:
            state = (
                f"{troubled[device.mac]} incidents" if troubled[device.mac] > 1 else "1 incident"
            )
        rows.append((ref.name, ref.ip, device.mac, when(device.last_seen / NS, now), state))
    click.echo("\nDevices\n")
    click.echo(table(("NAME", "ADDRESS", "MAC", "LAST SEEN", "STATE"), rows, (24, 26, 17, 17, 14)))
    click.echo("\nIncidents\n")
    if found:
        print_alerts([incident.as_json() for incident in found], now)
    else:
        click.echo("none")


def pipeline_clock(pipeline: Pipeline) -> float:
    """Return the last moment of the simulated day, epoch seconds."""
    return max((d.last_seen for d in pipeline.devices.devices()), default=0) / NS


def show_hub(pipeline: Pipeline, events: list[IncidentEvent], topics: Topics) -> None:
    """Print what Home Assistant would get, shortened."""
    told = [event for event in events if event.change in {"opened", "escalated"}]
    messages = hub_messages(topics, *hub_states(pipeline, 0), told)
    click.echo(f"\nWhat the hub gets over MQTT ({len(messages)} messages)\n")
    infected = {slug(event.incident.device.mac) for event in told}
    for message in messages:
        if message.kind == "incident" or any(name in message.topic for name in infected):
            click.echo(f"  {message.topic}\n    {cut(message.payload, 92)}")
    click.echo("  ... and the same of the gateway and of each quiet device")


def judge(pipeline: Pipeline, events: list[IncidentEvent]) -> None:
    """Raise GuardianError unless exactly the infected device was reported, by the models."""
    told = [event.incident for event in events]
    reported = {incident.device.name for incident in told}
    by_models = {i.device.name for i in told if i.speaker == "model" and i.cause != "unusual"}
    devices = len(pipeline.devices.devices())
    if reported != {INFECTED} or by_models != {INFECTED}:
        raise GuardianError(
            f"the demo failed: {INFECTED} is infected, reported were "
            f"{', '.join(sorted(reported)) or 'none'} (by the models: "
            f"{', '.join(sorted(by_models)) or 'none'}; {devices} devices known)"
        )
    click.echo(f"\nRight: {INFECTED} alone is infected, and the models said so.")

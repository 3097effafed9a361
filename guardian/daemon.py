"""`guardian run`: the ring, the pipeline, the store and the hub, until SIGTERM."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

from guardian import interfaces
from guardian.bundle import Bundle
from guardian.config import CaptureSettings, Settings
from guardian.const import NS
from guardian.discovery import DeviceState, GatewayState
from guardian.errors import ConfigError
from guardian.live import LiveCapture
from guardian.notify import Notifier
from guardian.pipeline import Pipeline
from guardian.polling import Polling
from guardian.publish import Publisher
from guardian.record import Recorder
from guardian.runtime import load_bundle, open_pipeline
from guardian.setback import SET_BACK_NS
from guardian.store import Store, StoreError

log = logging.getLogger("guardian")

TICK_S = 1.0
"""Seconds the ring may stay silent before an empty batch moves the clock."""
STATUS_S = 5.0
"""Seconds between status lines, and between looks at what the user wants."""
PRUNE_S = 600.0
"""Seconds between looks for outdated rows."""


class Daemon:
    """The interfaces, one pipeline, one database, one hub."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError where no interface is named."""
        if not settings.capture.interface:
            raise ConfigError(
                "no interface to watch: give -i IFACE or set [capture] interface; this machine "
                f"has {', '.join(interfaces.names())}"
            )
        self._settings = settings
        self._stopping = False

    def run(self) -> int:
        """Run until SIGTERM or SIGINT; return the exit status.

        Raises GuardianError where it cannot start.
        """
        logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)
        settings = self._settings
        bundle = load_bundle(settings)
        with ExitStack() as stack:
            notifier = Notifier()
            stack.callback(notifier.close)
            settings = self._settings = replace(settings, capture=once(settings.capture))
            live = LiveCapture(settings.capture)
            stack.callback(live.close)
            pipeline = self._pipeline(bundle)
            store = stack.enter_context(
                Store(
                    Path(settings.store.path),
                    drop_box=True,
                    commit_s=settings.store.commit_s,
                    connections_days=settings.store.connections_days,
                    incidents_days=settings.store.incidents_days,
                )
            )
            publisher = stack.enter_context(Publisher(settings.mqtt, store))
            self._listen()
            self._watch(notifier, live, pipeline, store, publisher)
            notifier.send("STOPPING=1")
        log.info("stopped after %s packets", f"{pipeline.counts.packets:,}")
        return 0

    def _pipeline(self, bundle: Bundle) -> Pipeline:
        names = self._settings.capture.interface
        for name in filter(interfaces.looks_like_wan, names):
            log.warning(
                "%s has a public address: it looks like the Internet side, where the whole home "
                "is one device; watch the LAN side instead",
                name,
            )
        return open_pipeline(
            self._settings,
            bundle,
            lan=tuple(dict.fromkeys(net for name in names for net in interfaces.lan(name))),
            gateway_macs=tuple(dict.fromkeys(filter(None, map(interfaces.mac, names)))),
            gateway_addresses=tuple(ip for name in names for ip in interfaces.addresses(name)),
            utc_offset_s=time.localtime().tm_gmtoff,
            seed=time.time_ns(),
            live=True,
        )

    def _listen(self) -> None:
        def stop(number: int, frame: FrameType | None) -> None:
            del number, frame
            self._stopping = True

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)

    def _watch(
        self,
        notifier: Notifier,
        live: LiveCapture,
        pipeline: Pipeline,
        store: Store,
        publisher: Publisher,
    ) -> None:
        """Loop until told to stop, then end every open connection and write all."""
        recorder = Recorder(store, pipeline, publisher)
        polling = Polling(store, pipeline)
        polling.restore(time.time_ns())
        name = ", ".join(self._settings.capture.interface)
        log.info(
            "watching %s with bundle %s %s", name, pipeline.bundle.name, pipeline.bundle.version
        )
        notifier.send("READY=1", f"STATUS=watching {name}")
        next_status = next_prune = time.monotonic()
        clock = 0
        while not self._stopping:
            frames = live.read(TICK_S)
            if frames is not None:
                if 0 < frames.now < clock - SET_BACK_NS:
                    pipeline = self._anew(pipeline, recorder, (clock - frames.now) // NS)
                    recorder = Recorder(store, pipeline, publisher)
                    polling = Polling(store, pipeline)
                    polling.restore(frames.now)
                step = pipeline.step(frames)
                clock = step.now
                with kept_going():
                    recorder.add(step)
            with kept_going():
                publisher.step(time.time_ns())
            # Fed here alone: a pipeline that hangs is restarted by systemd.
            notifier.send("WATCHDOG=1")
            moment = time.monotonic()
            if moment >= next_status:
                next_status = moment + STATUS_S
                with kept_going():
                    recorder.tell(polling.poll(time.time_ns()), time.time_ns())
                states = hub_states(pipeline, live.drops)
                publisher.update(*states)
                live.tell_drops()
                live.refresh()
                notifier.send(f"STATUS={status_line(states[0])}")
            if moment >= next_prune:
                next_prune = moment + PRUNE_S
                with kept_going():
                    store.prune(time.time_ns())
        for frames in live.rest():
            with kept_going():
                recorder.add(pipeline.step(frames))
        last = pipeline.finish()
        with kept_going():
            recorder.add(last)
            store.commit(last.now)
        publisher.update(*hub_states(pipeline, live.drops))
        live.tell_drops()

    def _anew(self, pipeline: Pipeline, recorder: Recorder, seconds: int) -> Pipeline:
        """End what runs and return a fresh pipeline: the clock was set back by so much."""
        log.warning(
            "the clock was set back by %s s: all open connections end here and a new watch begins; "
            "what was told in that time is dated ahead",
            f"{seconds:,}",
        )
        with kept_going():
            recorder.add(pipeline.finish())
        fresh = self._pipeline(pipeline.bundle)
        fresh.counts = pipeline.counts
        return fresh


def once(settings: CaptureSettings) -> CaptureSettings:
    """Return the settings without interfaces whose packets another one watched shows too."""
    names = list(settings.interface)
    for name, other in interfaces.seen_twice(names):
        if name in names and other in names:
            names.remove(name)
            log.warning(
                "%s is left out: %s is watched too and shows the same packets, which would count "
                "twice",
                name,
                other,
            )
    return replace(settings, interface=tuple(names))


@contextmanager
def kept_going() -> Iterator[None]:
    """Tell what the disk refuses and go on watching: the store keeps its rows and tries again."""
    try:
        yield
    except StoreError as error:
        log.warning("%s", error)


def hub_states(pipeline: Pipeline, drops: int) -> tuple[GatewayState, list[DeviceState]]:
    """Return what the hub shall show now."""
    threatened = pipeline.incidents.threatened()
    known = pipeline.devices.devices()
    gateway = GatewayState(
        packets=pipeline.counts.packets,
        connections=pipeline.counts.connections,
        drops=drops,
        devices=sum(not device.gateway for device in known),
        open_incidents=len(pipeline.incidents.open()),
        bundle=pipeline.bundle.version,
        macs=tuple(device.mac for device in known if device.gateway and device.mac),
    )
    states = []
    for device in known:
        if device.gateway:
            continue
        ref = pipeline.devices.ref(device.index)
        threat = (ref.mac or ref.ip) in threatened
        learning = pipeline.incidents.learning(device.index)
        states.append(
            DeviceState(
                key=device.key,
                mac=device.mac,
                name=ref.name,
                threat=threat,
                score=pipeline.incidents.score(device.index),
                state="alert" if threat else "learning" if learning else "quiet",
                ip=ref.ip,
            )
        )
    return gateway, states


def status_line(state: GatewayState) -> str:
    """Return systemd's status line."""
    return (
        f"{state.devices} devices, {state.packets:,} packets, {state.connections:,} connections, "
        f"{state.open_incidents} open incidents, {state.drops:,} drops"
    )

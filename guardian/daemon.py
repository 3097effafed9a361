"""`guardian run`: the ring, the pipeline, the store and the hub, until SIGTERM. SIGHUP reloads."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from guardian import interfaces, logs
from guardian.bundle import Bundle
from guardian.config import CaptureSettings, Settings
from guardian.const import NS
from guardian.discovery import GatewayState
from guardian.errors import ConfigError
from guardian.health import Health
from guardian.homenet import HomeNetworks
from guardian.hub import Hub, hub_states
from guardian.live import LiveCapture
from guardian.notify import Notifier
from guardian.outlets import Outlets
from guardian.parts import Parts
from guardian.pipeline import Pipeline
from guardian.polling import Polling
from guardian.publish import Publisher
from guardian.record import Recorder
from guardian.reload import Reloader
from guardian.runtime import daemon_bundle, open_pipeline
from guardian.setback import SET_BACK_NS
from guardian.store import Store, StoreError
from guardian.tables import Frames
from guardian.takeover import Takeover

__all__ = ["Daemon", "hub_states", "once", "status_line"]

log = logging.getLogger("guardian")

TICK_S = 1.0
"""Seconds the ring may stay silent before an empty batch moves the clock."""
STATUS_S = 5.0
"""Seconds between status lines, and between looks at what the user wants."""
OPEN_US = 1_800_000_000
"""Microseconds that systemd waits for a large database to be converted: half an hour."""
REPEAT_S = 600.0
"""Seconds until the same refusal of the disk's is told again."""
_refused: list[Any] = ["", 0.0]
"""What was told last, and when."""
AWAIT_S = 0.5
"""Seconds between looks for an interface that is not there yet."""
PRUNE_S = 600.0
"""Seconds between looks for outdated rows."""


class Daemon:
    """The interfaces, one pipeline, one database, one hub."""

    def __init__(
        self, settings: Settings, again: Callable[[], Settings] | None = None, file: str = ""
    ) -> None:
        """again reads the settings anew at SIGHUP; file is where they are from, for people.

        Raises ConfigError where no interface is named.
        """
        if not settings.capture.interface:
            raise ConfigError(
                "no interface to watch: give -i IFACE or set [capture] interface; this machine "
                f"has {', '.join(interfaces.names())}"
            )
        self._reloader = Reloader(settings, again, file)
        self._settings = settings
        self._stopping = self._hung_up = False

    def run(self) -> int:
        """Run until SIGTERM or SIGINT; return the exit status.

        Raises GuardianError where it cannot start.
        """
        settings = self._settings
        logs.begin()
        logs.set_levels(settings.log.level, settings.log.parts)
        bundle = daemon_bundle(settings)
        with ExitStack() as stack:
            notifier = Notifier()
            stack.callback(notifier.close)
            await_one(settings.capture.interface, notifier)
            settings = self._settings = replace(settings, capture=once(settings.capture))
            live = LiveCapture(settings.capture)
            stack.callback(live.close)
            pipeline = self._pipeline(bundle)
            # A conversion, or a privacy level that was raised, reads and writes all of the file.
            notifier.send(f"EXTEND_TIMEOUT_USEC={OPEN_US}", "STATUS=opening the database")
            store = stack.enter_context(
                Store(
                    Path(settings.store.path),
                    drop_box=True,
                    commit_s=settings.store.commit_s,
                    connections_days=settings.store.connections_days,
                    incidents_days=settings.store.incidents_days,
                    max_mib=settings.store.max_mib,
                    privacy=pipeline.privacy,
                    rescue=True,
                )
            )
            publisher = Publisher(settings.mqtt, store)
            parts = Parts(
                live, pipeline, store, publisher,
                Recorder(store, pipeline, publisher), Polling(store, pipeline),
                Outlets(settings.notify),
            )  # fmt: skip
            stack.callback(lambda: parts.publisher.close(time.time_ns()))
            stack.callback(lambda: parts.outlets.close())  # noqa: PLW0108 - another after a reload
            self._hub = Hub(parts, utc_offset_s=time.localtime().tm_gmtoff)
            self._models = Takeover(parts, settings)
            self._hub.ready = self._models.ready
            health = Health(store.path, settings.metrics)
            stack.callback(health.close)
            self._listen()
            self._watch(notifier, parts, health)
            notifier.send("STOPPING=1")
        log.info("stopped after %s packets", f"{parts.pipeline.counts.packets:,}")
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

        def hang_up(number: int, frame: FrameType | None) -> None:
            del number, frame
            self._hung_up = True

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        signal.signal(signal.SIGHUP, hang_up)

    def _watch(self, notifier: Notifier, parts: Parts, health: Health) -> None:
        """Loop until told to stop, then end every open connection and write all."""
        parts.polling.restore(time.time_ns())
        self._hub.begin(time.time_ns())
        self._models.begin()
        bundle = parts.pipeline.bundle
        home = self._home(parts)
        name = ", ".join(self._settings.capture.interface)
        log.info("watching %s with bundle %s %s", name, bundle.name, bundle.version)
        with kept_going():
            parts.store.commit(time.time_ns())  # whoever asks from now on finds it running
        notifier.send("READY=1", f"STATUS=watching {name}")
        next_status = next_prune = time.monotonic()
        clock = 0
        while not self._stopping:
            frames = parts.live.read(TICK_S)
            if frames is not None:
                if 0 < frames.now < clock - SET_BACK_NS:
                    self._anew(parts, (clock - frames.now) // NS)
                    parts.polling.restore(frames.now)
                    self._hub.begin(frames.now)
                    self._models.begin()
                    home = self._home(parts)
                clock = self._take(parts, frames)
                health.handled(frames)
            with kept_going():
                parts.recorder.tell(self._hub.step(time.time_ns()), time.time_ns())
                parts.publisher.step(time.time_ns())
            # Fed here alone: a pipeline that hangs is restarted by systemd.
            notifier.send("WATCHDOG=1")
            moment = time.monotonic()
            if self._hung_up:
                self._hung_up = False
                self._reload(notifier, parts)
                self._reduce(notifier, parts)
                health.soon()
                next_status = moment
            if moment >= next_status or self._hub.changed:
                next_status = moment + STATUS_S
                self._tell(notifier, parts, health, moment)
                parts.live.refresh()
                home.refresh(time.time_ns())
            if moment >= next_prune:
                next_prune = moment + PRUNE_S
                with kept_going():
                    if parts.store.prune(time.time_ns()):
                        next_prune = moment + STATUS_S  # there is more
                self._reduce(notifier, parts)  # what the disk refused earlier
        self._finish(parts)

    def _take(self, parts: Parts, frames: Frames) -> int:
        """Let a batch go all the way, then a fire drill's frames that are due; return the clock."""
        step = parts.pipeline.step(frames)
        if parts.pipeline.fallen:
            with kept_going():
                self._models.step()
        for batch in (None, *self._hub.drill.frames(step.now)):
            step = step if batch is None else parts.pipeline.step(batch)
            self._hub.saw(step)
            with kept_going():
                parts.recorder.add(step)
        return step.now

    def _tell(self, notifier: Notifier, parts: Parts, health: Health, moment: float) -> None:
        """Do what the user said, and tell how things are."""
        with kept_going():
            changed = parts.polling.poll(time.time_ns())
            parts.outlets.announce(changed)
            parts.recorder.tell(changed, time.time_ns())
            self._hub.look_around(time.time_ns())
            self._models.step()
        self._hub.changed = False
        states = self._hub.states(parts.live.drops, time.time_ns())
        parts.publisher.update(*states)
        parts.live.tell_drops()
        health.tell(parts, *states, self._reloader.state(), moment)
        notifier.send(f"STATUS={status_line(states[0])}")

    def _finish(self, parts: Parts) -> None:
        """Take what the rings still hold, end every open connection, write all."""
        for frames in parts.live.rest():
            self._take(parts, frames)
        last = parts.pipeline.finish()
        parts.outlets.announce(last.events)
        with kept_going():
            parts.recorder.add(last)
            parts.store.commit(last.now)
            parts.polling.keeper.keep(time.time_ns())
        parts.publisher.update(*self._hub.states(parts.live.drops, time.time_ns()))
        parts.live.tell_drops()
        self._models.close()

    def _reload(self, notifier: Notifier, parts: Parts) -> None:
        """Take up the settings as they are now, as far as that goes while we run."""
        notifier.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1_000}")
        with kept_going():
            self._reloader.reload(parts)
        # What is made anew later, is made from these.
        self._settings = replace(self._reloader.settings, capture=self._settings.capture)
        notifier.send("READY=1")

    def _reduce(self, notifier: Notifier, parts: Parts) -> None:
        """Take out of the database what the privacy level no longer allows, where it rose.

        Meanwhile the ring takes the packets; what does not fit is counted as dropped.
        """
        with kept_going():
            parts.store.reduce(lambda: notifier.send("WATCHDOG=1"))

    def _home(self, parts: Parts) -> HomeNetworks:
        return HomeNetworks(
            parts.pipeline.privacy.lan,
            parts.pipeline.devices,
            self._settings.capture.interface,
            named=bool(self._settings.home.lan),
        )

    def _anew(self, parts: Parts, seconds: int) -> None:
        """End what runs and begin with a fresh pipeline: the clock was set back by so much."""
        log.warning(
            "the clock was set back by %s s: all open connections end here and a new watch begins; "
            "what was told in that time is dated ahead",
            f"{seconds:,}",
        )
        with kept_going():
            parts.recorder.add(parts.pipeline.finish())
            parts.polling.keeper.keep(time.time_ns())
        fresh = self._pipeline(parts.pipeline.bundle)
        fresh.counts = parts.pipeline.counts
        parts.pipeline = fresh
        parts.recorder = Recorder(parts.store, fresh, parts.publisher)
        parts.polling = Polling(parts.store, fresh)


def await_one(names: Sequence[str], notifier: Notifier) -> None:
    """Wait until one of the interfaces is there, where systemd started us.

    At boot a bridge, a VLAN or a USB card may come late. systemd's own limit for a start ends this,
    and it tries anew; a person who mistyped a name is told at once.
    """
    told = False
    while notifier.present and not set(names) & set(interfaces.names()):
        if not told:
            log.warning("waiting for %s, which is not there yet", ", ".join(names))
            notifier.send(f"STATUS=waiting for {', '.join(names)}")
            told = True
        time.sleep(AWAIT_S)


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
    """Tell what the disk refuses and go on watching: the store keeps its rows and tries again.

    The same is told once in REPEAT_S: a full disk refuses each second.
    """
    try:
        yield
    except StoreError as error:
        said, at = _refused
        moment = time.monotonic()
        if str(error) != said or moment - at >= REPEAT_S:
            _refused[:] = [str(error), moment]
            log.warning("%s", error)


def status_line(state: GatewayState) -> str:
    """Return systemd's status line."""
    return (
        f"{state.devices} devices, {state.packets:,} packets, {state.connections:,} connections, "
        f"{state.open_incidents} open incidents, {state.drops:,} drops"
    )

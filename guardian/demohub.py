"""The demo's home on a real broker: shown as a daemon shows it, until Enter."""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

import click

from guardian.broker import wipe
from guardian.config import MqttSettings, NotifySettings
from guardian.discovery import removal
from guardian.errors import ConfigError, GuardianError
from guardian.hub import Hub
from guardian.outlets import Outlets
from guardian.pipeline import Pipeline, Step
from guardian.polling import Polling
from guardian.publish import Publisher
from guardian.record import Recorder
from guardian.store import Store

PREFIX = "guardian-demo"
"""Topics of its own: a Guardian that runs in this home is not disturbed, and no phone rings."""

BROKER_S = 20.0
"""Seconds that the demo waits for a broker."""

TICK_S = 0.2


def broker_settings(broker: str, settings: MqttSettings) -> MqttSettings:
    """Return the settings of the broker given as HOST[:PORT]. Raises ConfigError."""
    host, _, port = broker.partition(":")
    if not host or not (port or "1883").isdigit():
        raise ConfigError(f"{broker!r} is no broker: write HOST or HOST:PORT")
    return replace(settings, host=host, port=int(port or 1883), prefix=PREFIX)


@dataclass
class DemoHub:
    """What a daemon has for the hub, without its interface: the clock is the simulated one."""

    settings: MqttSettings
    pipeline: Pipeline
    store: Store
    publisher: Publisher
    recorder: Recorder
    polling: Polling = field(init=False)
    outlets: Outlets = field(init=False)
    hub: Hub = field(init=False)
    now: int = 0

    def __post_init__(self) -> None:
        self.polling = Polling(self.store, self.pipeline)
        self.outlets = Outlets(NotifySettings())
        self.hub = Hub(self)
        self.hub.begin(0)

    def saw(self, step: Step) -> None:
        """Take a step of the simulated day."""
        self.now = step.now
        self.hub.saw(step)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show it all, and take it off at the end. Raises GuardianError for want of a broker."""
        try:
            deadline = time.monotonic() + BROKER_S
            while not (self.publisher.connected and self.store.outbox.waiting() == 0):
                if time.monotonic() > deadline:
                    raise GuardianError("the broker did not take the messages: is it running?")
                self._tick(0.05)
            click.echo("\nSent to the broker.")
            yield
        finally:
            topics = self.publisher.topics
            everything = [
                topics.config(topics.gateway_id), topics.gateway, topics.models,
                *(m.topic for d in self.pipeline.devices.devices() for m in removal(topics, d.key)),
                topics.status,
            ]  # fmt: skip
            self.publisher.close(self.now)
            self.outlets.close()
            with suppress(GuardianError):  # a broker that went keeps nothing of ours to look at
                wipe(self.settings, everything)

    def wait(self) -> None:
        """Go on until Enter, Ctrl-C or the end of the input, and do what the hub says."""
        click.echo(
            f"Look at it in Home Assistant, where its buttons work, or listen to {PREFIX}/#.\n"
            "Enter takes it off again."
        )
        with suppress(KeyboardInterrupt):
            while not select.select([sys.stdin], [], [], 0)[0]:
                self._tick(TICK_S)

    def _tick(self, seconds: float) -> None:
        self.now += int(seconds * 1e9)
        for frames in self.hub.drill.frames(self.now):
            step = self.pipeline.step(frames)
            self.hub.saw(step)
            self.recorder.add(step)
        self.recorder.tell(self.hub.step(self.now), self.now)
        self.hub.look_around(self.now)
        self.publisher.update(*self.hub.states(0, self.now))
        self.publisher.step(self.now)
        time.sleep(seconds)

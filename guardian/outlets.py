"""Incidents on their way to the receivers beside the hub: a queue and a thread for each.

The daemon never waits for one. What a receiver does not take is tried again, in order, and marked
late; the queue is in memory, so what still waits when Guardian stops is lost (the database has it
all the same). The hub over MQTT is the one that loses nothing.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

from guardian import discovery
from guardian.config import NotifySettings
from guardian.discovery import Topics
from guardian.incidents import IncidentEvent

log = logging.getLogger("guardian.notify")

MAX_WAITING = 1_000
"""Incidents that wait for a receiver, 4 MB; the oldest goes first."""

BACKOFF_S = (5.0, 300.0)
"""Seconds between attempts, doubled from the first to the second."""

GIVE_UP_S = 86_400.0
"""An incident that could not be told for a day is not told any more."""

LATE_S = 60.0
"""As over MQTT."""

LINGER_S = 2.0
"""Seconds that a clean exit waits for what is on its way."""


class Failed(Exception):  # noqa: N818 - not an error of ours: the receiver's word
    """It was not taken. `again` tells whether it may be later."""

    def __init__(self, why: str, *, again: bool = True) -> None:
        super().__init__(why)
        self.again = again


class Receiver(Protocol):
    """Where incidents go."""

    name: str
    changes: tuple[str, ...]
    """Kinds of events that it gets."""

    def send(self, incident: dict[str, Any]) -> None:
        """Hand over one; raises Failed."""


class Outlet:
    """One receiver, its queue and its thread."""

    def __init__(self, receiver: Receiver, backoff_s: tuple[float, float] = BACKOFF_S) -> None:
        self._receiver, self._backoff_s = receiver, backoff_s
        self._waiting: deque[tuple[float, dict[str, Any]]] = deque()
        self._awake = threading.Condition()
        self._ending = False
        self._said = ""
        self.dropped = 0
        self._thread = threading.Thread(
            target=self._work, name=f"guardian-{receiver.name}", daemon=True
        )
        self._thread.start()

    def put(self, incident: dict[str, Any]) -> None:
        """Let an incident wait for its turn, where the receiver gets its kind."""
        if incident["event_type"] not in self._receiver.changes:
            return
        with self._awake:
            if len(self._waiting) >= MAX_WAITING:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append((time.monotonic(), incident))
            self._awake.notify()

    def _work(self) -> None:
        delay = self._backoff_s[0]
        while True:
            with self._awake:
                while not self._waiting and not self._ending:
                    self._awake.wait()
                if not self._waiting:
                    return
                since, incident = self._waiting[0]
            done = self._tried(since, incident)
            with self._awake:
                if done:
                    delay = self._backoff_s[0]
                    if self._waiting and self._waiting[0][1] is incident:
                        self._waiting.popleft()
                    continue
                if self._ending:
                    return
                self._awake.wait_for(lambda: self._ending, delay)
                delay = min(2 * delay, self._backoff_s[1])

    def _tried(self, since: float, incident: dict[str, Any]) -> bool:
        """Hand an incident over; true where it is done with, taken or given up."""
        age = time.monotonic() - since
        late = {"late": True} if age > LATE_S else {}
        try:
            self._receiver.send(incident | late)
        except Failed as fault:
            over = not fault.again or age > GIVE_UP_S
            what = "does not take an incident" if over else "is away; it is tried again"
            if str(fault) != self._said:
                log.warning("%s %s: %s", self._receiver.name, what, fault)
                self._said = str(fault)
            return over
        except Exception:
            # One receiver's fault must not end its thread, which nobody would see.
            log.exception("%s failed", self._receiver.name)
            return True
        if self._said:
            log.info("%s is back", self._receiver.name)
            self._said = ""
        return True

    def close(self, deadline: float) -> None:
        """End the thread; what still waits at the deadline (monotonic seconds) is lost."""
        with self._awake:
            self._ending = True
            self._awake.notify()
        self._thread.join(max(0.0, deadline - time.monotonic()))


class Outlets:
    """All receivers that are switched on; none by default, and then nothing happens."""

    def __init__(self, settings: NotifySettings, backoff_s: tuple[float, float] = BACKOFF_S):
        """Raises ConfigError where the settings cannot be right."""
        self._outlets: list[Outlet] = []
        if settings.webhook or settings.push or settings.syslog or settings.eve:
            from guardian.receivers import receivers  # noqa: PLC0415 - loaded where one is on

            self._outlets = [Outlet(one, backoff_s) for one in receivers(settings)]

    def announce(self, events: Iterable[IncidentEvent]) -> None:
        """Tell of events, where a person is to be told."""
        if not self._outlets:
            return
        for event in events:
            message = discovery.incident(Topics(""), event)
            if message is not None:
                incident = json.loads(message.payload)
                for outlet in self._outlets:
                    outlet.put(incident)

    def close(self) -> None:
        deadline = time.monotonic() + LINGER_S
        for outlet in self._outlets:
            outlet.close(deadline)
        self._outlets = []

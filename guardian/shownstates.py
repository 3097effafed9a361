"""The retained messages of a hub: what it shall show, and what of it it was told."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence

from guardian.discovery import DeviceState, GatewayState, Topics
from guardian.hubmessages import MAX_HUB_DEVICES, state_messages

log = logging.getLogger("guardian.publish")


class ShownStates:
    """At most MAX_HUB_DEVICES devices, and those with an open incident."""

    def __init__(self, topics: Topics, least_s: float) -> None:
        """least_s: seconds between states of which only figures changed."""
        self._topics = topics
        self._least_s = least_s
        self.wanted: dict[str, tuple[str, str]] = {}
        """Payload by topic, and what makes it urgent."""
        self.told: dict[str, tuple[str, str, float]] = {}
        """The same as it was told last, and at which monotonic second."""
        self.devices: set[str] = set()
        """Keys of the devices that are shown."""
        self.hidden = 0

    def update(
        self, gateway: GatewayState, devices: Sequence[DeviceState], *, commands: bool
    ) -> None:
        """Set what the hub shall show."""
        shown = self._choose(devices)
        self.wanted = {
            message.topic: (message.payload, urgency)
            for message, urgency in state_messages(self._topics, gateway, shown, commands=commands)
        }

    def _choose(self, devices: Sequence[DeviceState]) -> list[DeviceState]:
        chosen = []
        room = MAX_HUB_DEVICES - sum(d.key in self.devices for d in devices)
        for d in devices:
            if d.key not in self.devices and not d.threat:
                if room <= 0:
                    continue
                room -= 1
            chosen.append(d)
        hidden = len(devices) - len(chosen)
        if hidden and not self.hidden:
            log.warning("more than %d devices: new ones are not shown on the hub", MAX_HUB_DEVICES)
        self.hidden = hidden
        self.devices = {d.key for d in chosen}
        return chosen

    def forget(self, keys: Iterable[str]) -> None:
        """Let devices be no longer shown."""
        self.devices -= set(keys)

    def due(self, moment: float) -> Iterator[tuple[str, str]]:
        """Yield (topic, payload) of what the hub was not told, or not lately."""
        for topic, (payload, urgent) in self.wanted.items():
            told = self.told.get(topic)
            if told is not None:
                last, last_urgent, at = told
                if payload == last or (urgent == last_urgent and moment - at < self._least_s):
                    continue
            yield topic, payload
            self.told[topic] = (payload, urgent, moment)
        if len(self.told) > 2 * len(self.wanted):
            self.told = {t: told for t, told in self.told.items() if t in self.wanted}

    def again(self, topic: str = "") -> None:
        """Let a topic, or all of them, be told anew."""
        if topic:
            self.told.pop(topic, None)
        else:
            self.told.clear()

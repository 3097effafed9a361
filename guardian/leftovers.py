"""What an earlier run left on the broker of devices that are no longer known.

A device may go while the hub cannot be told: by its age in the database, or with a database that
was lost. Its retained messages would keep it on the hub for ever. So after each connection Guardian
listens for some seconds to the discovery messages that the broker keeps, and takes off those of its
own devices that it does not show.
"""

from __future__ import annotations

import json
from collections.abc import Container

from guardian.discovery import Topics

LISTEN_S = 10.0
"""Seconds for the broker to hand over what it keeps; the devices at home are known long before."""

MAX_HEARD = 2_048
"""Discovery messages of ours that are remembered; a hub shows 256 of our devices."""

MAX_BYTES = 65_536
"""A larger discovery message is none of ours."""


class Leftovers:
    """One connection's look at what the broker keeps."""

    def __init__(self, topics: Topics, moment: float) -> None:
        """`moment` is monotonic seconds."""
        self._topics = topics
        self._until = moment + LISTEN_S
        self._heard: set[str] = set()
        self.topic = topics.config("+")
        """What to subscribe to, and to leave again when done."""

    def mine(self, topic: str) -> bool:
        """Tell whether a topic is a discovery message."""
        head, _, tail = self.topic.partition("+")
        return topic.startswith(head) and topic.endswith(tail)

    def hear(self, topic: str, payload: bytes) -> None:
        """Take a discovery message of anybody."""
        if len(payload) > MAX_BYTES or len(self._heard) >= MAX_HEARD:
            return
        try:
            said = json.loads(payload)
            ours = said["o"]["name"] == "Guardian"
            # Another Guardian on the same broker has its own gateway.
            if ours and said["dev"]["via_device"] == self._topics.gateway_id:
                self._heard.add(topic)
        except (ValueError, LookupError, TypeError, RecursionError):
            return

    def due(self, moment: float) -> bool:
        """Tell whether it is time to look at what was heard."""
        return moment >= self._until

    def stale(self, shown: Container[str]) -> list[str]:
        """Return the topics to empty: what was heard and is not `shown`, with its states."""
        out = []
        head, _, tail = self.topic.partition("+")
        for topic in sorted(self._heard):
            if topic not in shown:
                slug = topic[len(head) : -len(tail)].removeprefix("guardian_")
                out += [topic, f"{self._topics.prefix}/device/{slug}/state"]
        return out

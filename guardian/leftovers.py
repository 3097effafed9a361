"""What an earlier run left on the broker: of devices no longer known, under topics no longer used.

A device may go while the hub cannot be told: by its age in the database, or with a database that
was lost. Its retained messages would keep it on the hub for ever, and so would those that were sent
before the settings named other topics. So after each connection Guardian listens for some seconds
to the discovery messages that the broker keeps, and takes off what is its own and not shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container
from typing import Any

from guardian.discovery import Topics

LISTEN_S = 10.0
"""Seconds for the broker to hand over what it keeps; the devices at home are known long before."""

MAX_HEARD = 2_048
"""Discovery messages of ours that are remembered; a hub shows 256 of our devices."""

MAX_BYTES = 65_536
"""A larger discovery message is none of ours."""

MAX_TOPIC = 256
"""Characters of a topic of ours; a longer one is none."""

_KEPT = re.compile(r"[^+#\0]+/(status|gateway/state|gateway/models|device/[a-z0-9_]+/state)")
"""Retained topics of a Guardian: a forged discovery message must not have others emptied."""


class Leftovers:
    """One connection's look at what the broker keeps."""

    def __init__(self, topics: Topics, moment: float, former: str = "") -> None:
        """`moment` is monotonic seconds, `former` the discovery prefix of an earlier run."""
        self._topics = topics
        self._until = moment + LISTEN_S
        self._heard: dict[str, set[str]] = {}
        """Topics of our discovery messages, with what they name."""
        self._others: set[str] = set()
        """Topics that another Guardian's discovery names."""
        places = dict.fromkeys((topics.discovery, former or topics.discovery))
        self.topics = [f"{place}/device/+/config" for place in places]
        """What to subscribe to, and to leave again when done."""

    def mine(self, topic: str) -> bool:
        """Tell whether a topic is a discovery message."""
        parts = (one.partition("+") for one in self.topics)
        return any(topic.startswith(head) and topic.endswith(tail) for head, _, tail in parts)

    def hear(self, topic: str, payload: bytes) -> None:
        """Take a discovery message of anybody."""
        if len(payload) > MAX_BYTES or len(self._heard) + len(self._others) >= MAX_HEARD:
            return
        try:
            said = json.loads(payload)
            if said["o"]["name"] != "Guardian":
                return
            device, named = said["dev"], _kept(said["cmps"])
            gateway = device.get("via_device") or device["ids"][0]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return
        if gateway == self._topics.gateway_id:
            # What we say ourselves is heard, too: it adds to what was there.
            self._heard.setdefault(topic, set()).update(named)
        else:
            self._others |= named

    @property
    def rival(self) -> bool:
        """Whether another Guardian speaks on the topics of this one."""
        return self._topics.status in self._others

    def due(self, moment: float) -> bool:
        """Tell whether it is time to look at what was heard."""
        return moment >= self._until

    def stale(self, shown: Container[str]) -> list[str]:
        """Return the topics to empty: what was heard and is not `shown`, with its states."""
        named = {topic for topics in self._heard.values() for topic in topics}
        kept = self._others | {self._topics.status}
        # First the discovery: the hub must not look for figures in an empty state.
        found = [*sorted(self._heard), *sorted(named)]
        return [topic for topic in found if topic not in kept and topic not in shown]


def _kept(parts: dict[str, Any]) -> set[str]:
    """Return the retained topics that the parts of a discovery message name."""
    topics = {part.get("state_topic") for part in parts.values()}
    return {t for t in topics if isinstance(t, str) and len(t) <= MAX_TOPIC and _KEPT.fullmatch(t)}

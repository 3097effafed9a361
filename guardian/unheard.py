"""What was sent while the hub did not listen, to be said again once it does.

The broker keeps no events for a hub that is away: Home Assistant comes with a clean session. After
a power cut the broker is back before Home Assistant is, and what waited for the broker would be
told to nobody. The hub's birth and last will (`homeassistant/status`) say when it listens.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from guardian.outbox import Waiting

MAX_UNHEARD = 200
"""Messages kept for a hub that is away, the newest, about 1 MB: two incidents a week are told by
default, and twenty new devices an hour at most."""

UNSURE_S = 3_600.0
"""Seconds that a message is kept while nothing was heard of the hub, which may be there all the
time: longer than a small machine needs to start Home Assistant."""

SETTLE_S = 2.0
"""Seconds between what describes the devices and the first event: a hub that has just started
listens to a device's topics a moment after it was described."""


class Unheard:
    """Messages of one connection that the hub may have missed."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, Waiting]] = deque(maxlen=MAX_UNHEARD)
        self._hub: bool | None = None
        """Whether the hub listens; None where nobody said."""
        self._came = False
        """It came, and was told nothing yet."""

    def sent(self, waiting: Waiting, moment: float) -> None:
        """Take note of a message that was handed to the broker at a monotonic moment."""
        if self._hub is not True and waiting.message.kind != "state":
            self._kept.append((moment, waiting))

    def said(self, payload: bytes, moment: float, *, retained: bool) -> None:
        """Take what the hub says of itself; what is retained may be of an earlier time."""
        if retained or payload not in (b"online", b"offline"):
            return
        self._came = payload == b"online"
        if self._came and self._hub is None:
            while self._kept and moment - self._kept[0][0] > UNSURE_S:
                self._kept.popleft()
        elif not self._came and self._hub is not False:
            self._kept.clear()  # it listened until now
            self._hub = False

    def take(self) -> list[Waiting]:
        """Return what to say again, in order and marked so, where the hub has come."""
        if not self._came:
            return []
        self._came, self._hub = False, True
        again = [replace(w, tries=max(1, w.tries)) for _, w in self._kept]
        self._kept.clear()
        return again

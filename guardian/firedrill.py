"""A fire drill: a harmless attack that enters the pipeline as frames, and never the wire.

A device that does not exist (DRILL_MAC) calls 120 addresses that nobody has (RFC 5737) for Telnet,
as a bot does. Its frames go the whole way of a real one: decoder, connections, features, models,
counters, incident, database, hub, phone. When a person was told, the incident is ended and the
device forgotten; the week's alerts do not count it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

import numpy as np

from guardian.checksum import sums
from guardian.const import NS
from guardian.discovery import DRILL_LAST, DRILL_MAC, DRILL_SAID
from guardian.feed import SPARE_BYTES
from guardian.incidents import IncidentEvent
from guardian.merge import LINK_ETHERNET
from guardian.pipeline import Pipeline
from guardian.polling import Polling
from guardian.store import Store
from guardian.tables import U8, Frames
from guardian.wishes import Allow

log = logging.getLogger("guardian.drill")

NAME = "Fire drill"
"""The drill's device as hub and phone call it."""

ADDRESS = "169.254.71.68"
"""Link-local, so at home in any home, and nobody's: a router hands out none of these."""

TARGETS = ("198.51.100.", "203.0.113.")
"""Networks kept for documents: nobody is there, even if a frame got out."""

SYNS, RATE = 120, 20.0
"""Calls, and calls a second: 100 unanswered in a minute of the clock are what the plain counter
asks for (counters.SWEEP_PEERS), wherever the models draw their line."""

ROOM_S = 15.0
"""Of the minute that must be left when it begins: the calls take 6 s and are told 5 s later."""

ROUNDS, AGAIN_S = 3, 15.0
"""On a machine so busy that the calls fall into two minutes of the clock, fewer than 100 stand in
each. So they are made again, where nobody was told so long after the last."""

GIVE_UP_S = 150.0
"""Nobody told after so long: the drill failed, and says so."""

SHOWN_S = 20.0
"""The device stays on the hub for so long after the alarm, for automations to look at it."""


def frame(number: int) -> U8:
    """Return uint8[54]: the Ethernet frame of one call, checksums right."""
    place = number % SYNS
    target = TARGETS[place % len(TARGETS)] + str(1 + place // len(TARGETS))
    ip = np.array(
        [0x45, 0, 0, 40, number >> 8, number & 255, 0x40, 0, 64, 6, 0, 0, *_four(ADDRESS),
         *_four(target)], dtype=np.uint8,
    )  # fmt: skip
    tcp = np.zeros(20, dtype=np.uint8)
    port = 40_000 + number
    tcp[:4] = port >> 8, port & 255, 0, 23
    tcp[4:8] = 0x47, 0x44, number >> 8, number & 255  # the first sequence number
    tcp[12:16] = 5 << 4, 0x02, 0xFF, 0xFF  # SYN, a window
    ip[10:12] = _checksum(ip)
    tcp[16:18] = _checksum(np.concatenate([ip[12:20], [0, 6, 0, 20], tcp]).astype(np.uint8))
    mac = [int(part, 16) for part in DRILL_MAC.split(":")]
    # To all: a router's MAC must not be learned from what is not real.
    head = np.array([*[0xFF] * 6, *mac, 8, 0], dtype=np.uint8)
    return np.concatenate([head, ip, tcp])


def _four(text: str) -> list[int]:
    return [int(part) for part in text.split(".")]


def _checksum(data: U8) -> tuple[int, int]:
    value = 0xFFFF - int(sums(data, np.array([0]), np.array([len(data)]))[0])
    return value >> 8, value & 255


def frames(first: int, last: int, now: int) -> Frames:
    """Return the calls first to last (exclusive), all stamped `now` (ns)."""
    rows = [frame(number) for number in range(first, last)]
    size = len(rows[0])
    lengths = np.full(len(rows), size, dtype=np.int64)
    return Frames(
        data=np.concatenate([*rows, np.zeros(SPARE_BYTES, dtype=np.uint8)]),
        start=np.arange(len(rows), dtype=np.int64) * size,
        caplen=lengths,
        wirelen=lengths,
        ts=np.full(len(rows), now, dtype=np.int64),
        link=LINK_ETHERNET,
        csum_valid=np.zeros(len(rows), dtype=np.bool_),
        now=now,
    )


class DrillParts(Protocol):
    """What a drill works with."""

    pipeline: Pipeline
    store: Store
    polling: Polling


class FireDrill:
    """One drill at a time. All moments are those of the pipeline's clock, ns."""

    def __init__(self, parts: DrillParts) -> None:
        self._parts = parts
        self._begun = self._sent = self._told_at = 0
        self._round_at = self._sent_at = 0
        self._wanted = False
        self._asked_at = 0
        self.last = 0
        """When a drill last worked, ns; 0 for never."""
        self.said = ""

    def begin(self) -> None:
        """Take up what an earlier run knew, and listen for the wish of a drill.

        One that a restart cut off is over: its device is forgotten here.
        """
        store = self._parts.store
        last = store.fact(DRILL_LAST)
        self.last = int(last) if last.isdecimal() else 0
        self.said = store.fact(DRILL_SAID)
        self._parts.polling.actions["drill"] = lambda _args, _now: self.start()
        if not self.running and self._parts.pipeline.devices.index(DRILL_MAC) >= 0:
            self._end(time.time_ns())

    @property
    def running(self) -> bool:
        return self._wanted or bool(self._begun)

    def start(self) -> None:
        """Ask for a drill. Raises KeyError where one runs."""
        if self.running:
            raise KeyError("a fire drill runs already")
        self._wanted, self._asked_at = True, 0
        self.said = "running"
        log.info("a fire drill begins")

    def frames(self, now: int) -> Iterable[Frames]:
        """Return the frames that are due by the clock of the batch that was just read."""
        room = 60 * NS - now % (60 * NS) >= ROOM_S * NS
        if self._wanted and room:
            self._wanted = False
            self._begun = self._round_at = now
            self._sent = 0
            self._parts.pipeline.devices.set_name(DRILL_MAC, NAME)
        if not self._begun or self._sent >= ROUNDS * SYNS:
            return []
        done = self._sent // SYNS * SYNS
        if self._sent and self._sent == done:
            if self._told_at or now - self._sent_at < AGAIN_S * NS or not room:
                return []
            self._round_at = now
        due = max(self._sent + 1, done + int((now - self._round_at) / NS * RATE))
        first, self._sent, self._sent_at = self._sent, min(done + SYNS, due), now
        return [frames(first, self._sent, now)]

    def heard(self, events: Iterable[IncidentEvent], now: int) -> None:
        """See in what just happened whether the alarm was raised."""
        if not self._begun or self._told_at:
            return
        for event in events:
            if event.incident.device.mac == DRILL_MAC and event.told and event.change == "opened":
                self._told_at = now
                self.last = time.time_ns()
                self._parts.store.name_device(DRILL_MAC, NAME)
                span = (now - self._begun) / NS
                self._parts.store.set_fact(DRILL_LAST, str(self.last))
                self._say(f"worked: told {span:.0f} s after the first frame")

    def step(self, now: int) -> list[IncidentEvent]:
        """End a drill that is over; return what that changed."""
        if self._wanted:
            self._asked_at = self._asked_at or now
            if now - self._asked_at >= GIVE_UP_S * NS:
                self._wanted = False
                self._say("failed: no interface is up, so nothing is watched")
        if not self._begun:
            return []
        if self._told_at:
            if now - self._told_at < SHOWN_S * NS:
                return []
        elif now - self._begun < GIVE_UP_S * NS:
            return []
        else:
            self._say(
                "failed: nobody was told; guardian alerts --held and guardian check tell more"
            )
        return self._end(now)

    def _end(self, now: int) -> list[IncidentEvent]:
        """Close the drill's incident and leave nothing of its device."""
        allow = Allow(device=DRILL_MAC, until=now + 1)
        events = self._parts.pipeline.incidents.apply(allow, now)
        self._parts.polling.count_told(now)
        self._parts.pipeline.devices.forget(DRILL_MAC)
        self._parts.store.forget_device(DRILL_MAC)
        self._begun = self._sent = self._told_at = 0
        return events

    def _say(self, what: str) -> None:
        when = datetime.fromtimestamp(time.time()).astimezone()
        self.said = f"{when:%Y-%m-%d %H:%M}: {what}"
        self._parts.store.set_fact(DRILL_SAID, self.said)
        log.info("the fire drill %s", what)

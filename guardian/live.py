"""The live interfaces as one source: each comes back by itself, drops are counted and told."""

from __future__ import annotations

import ipaddress
import logging
import select
import socket
import time
from collections.abc import Iterator
from typing import Protocol

from guardian import bpf, interfaces
from guardian.config import CaptureSettings
from guardian.errors import CaptureError, GuardianError
from guardian.merge import LINK_ETHERNET, LINK_RAW, Merge
from guardian.ring import Ring, is_ethernet
from guardian.tables import Frames
from guardian.thinning import Thinning

log = logging.getLogger("guardian.capture")

REOPEN_S = 5.0
"""Seconds between attempts to open an interface that went away."""
REST_S = 2.0
"""Seconds a clean stop spends at most on what the ring still holds."""
HELD_BYTES = 32 << 20
"""Bytes of an interface that wait for others to catch up: a gigabit line for the time of a tick.
Beyond it they wait in the ring."""
GATHER_S = 0.05
"""Seconds between two batches, so that many packets share what a batch costs; a fuller ring is read
sooner."""
GLANCE_S = 0.01
"""Seconds between looks at how full the rings are: a gigabit line fills a sixth of one in them."""
HELD_S = 0.05
"""Seconds until the next look at a silent interface while frames of others wait for it."""


class Source(Protocol):
    """What a Ring and a Sniffer have in common."""

    link: int
    ahead: int

    def fileno(self) -> int: ...
    def filling(self) -> bool: ...
    def read(self, timeout_s: float) -> Frames: ...
    def drops(self) -> tuple[int, int]: ...
    def restart_clock(self) -> None: ...
    def close(self) -> None: ...


def open_source(settings: CaptureSettings, number: int) -> Source:
    """Open the interface of that number. Raises CaptureError, or ConfigError for a bad filter."""
    name = settings.interface[number]
    ring = hasattr(socket, "AF_PACKET")
    if settings.backend == "sniffer" or (settings.backend == "auto" and not ring):
        if settings.fanout:
            raise CaptureError("the sniffer has no fanout: set [capture] fanout = 0")
        from guardian.sniffer import Sniffer  # noqa: PLC0415 - scapy only where there is no ring

        return Sniffer(
            name,
            snaplen=settings.snaplen,
            promiscuous=settings.promiscuous,
            text=settings.filter,
        )
    return Ring(
        name,
        ring_bytes=settings.ring_mib << 20,
        snaplen=settings.snaplen,
        promiscuous=settings.promiscuous,
        program=_program(settings, number),
        # A group belongs to one interface.
        fanout=settings.fanout + number if settings.fanout else 0,
    )


def _program(settings: CaptureSettings, number: int) -> bpf.Program:
    name = settings.interface[number]
    program = bpf.whole(settings.snaplen)
    if settings.filter:
        ethernet = is_ethernet(name)
        program = bpf.compiled(settings.filter, name, settings.snaplen, ethernet=ethernet)
    here = [ipaddress.ip_network(net) for net in interfaces.networks(name)]
    elsewhere = [
        net
        for other in settings.interface
        if other != name
        for net in map(ipaddress.ip_network, interfaces.networks(other))
        if not any(net.version == one.version and net.overlaps(one) for one in here)
    ]
    own = [address for one in settings.interface for address in interfaces.addresses(one)]
    return bpf.not_routed(elsewhere, own, program)


class Watch:
    """One interface, opened again when it went away."""

    def __init__(self, settings: CaptureSettings, number: int) -> None:
        self.name = settings.interface[number]
        self._settings, self._number = settings, number
        self.source: Source | None = None
        self._first: Frames | None = None
        self._retry_at = 0.0
        self._before = self._now = self._told = 0
        self._ahead_before = self._ahead_told = 0
        self._thinning = Thinning()
        self._left_before = 0

    def open(self) -> None:
        """Open it the first time; raises CaptureError, or ConfigError for a bad filter."""
        self.source = open_source(self._settings, self._number)

    def refilter(self) -> None:
        """Let the kernel's filter know the networks of the other interfaces as they are now."""
        if isinstance(self.source, Ring):
            try:
                self.source.set_filter(
                    self._thinning.program(_program(self._settings, self._number))
                )
            except (GuardianError, OSError) as error:
                log.warning("%s keeps its filter: %s", self.name, error)

    @property
    def drops(self) -> int:
        """Packets the kernel dropped since the start because the ring was full."""
        return self._before + self._now

    @property
    def unread(self) -> int:
        """Packets that came since the start and were not read: dropped, or (about) left out of a
        flood."""
        return self.drops + self._left_before + self._thinning.left_out

    @property
    def ahead(self) -> int:
        """Frames since the start whose stamp was ahead of the wall clock."""
        return self._ahead_before + (self.source.ahead if self.source else 0)

    def wait_s(self) -> float:
        """Return the seconds until the next attempt to open; 0 where it is open or due."""
        return 0.0 if self.source else max(0.0, self._retry_at - time.monotonic())

    def up(self) -> bool:
        """Tell whether it can be read, opening it where that is due."""
        if self.source is not None:
            return True
        if self.wait_s() > 0:
            return False
        self._retry_at = time.monotonic() + REOPEN_S
        source = None
        try:
            source = open_source(self._settings, self._number)
            # One that exists and is down can be opened, and says so when it is read.
            self._first = source.read(0.0)
        except GuardianError:
            if source is not None:
                source.close()
            return False
        self.source = source
        self._left_before += self._thinning.left_out
        self._thinning = Thinning()
        log.warning("%s is back", self.name)
        return True

    def read(self, timeout_s: float) -> Frames | None:
        """Return the next batch, an empty one as a tick, or None where the interface went away."""
        if self.source is None:
            return None
        if self._first is not None:
            frames, self._first = self._first, None
            return frames
        try:
            frames = self.source.read(timeout_s)
            self._now = self.source.drops()[1]
        except CaptureError as error:
            log.warning("%s; trying again every %.0f s", error, REOPEN_S)
            self.close()
            return None
        if isinstance(self.source, Ring) and self.source.link == LINK_ETHERNET:
            changes = self._thinning.look(frames, self.drops, time.monotonic())
            if changes:
                self.refilter()
            for words in changes:
                log.warning("%s: %s", self.name, words)
        return frames

    def tell(self) -> None:
        """Say in the log what was dropped, and which stamps were not believed, since the last."""
        if self.drops > self._told:
            log.warning(
                "%s: the kernel dropped %s packets (%s since the start): the ring is too small or "
                "this machine too slow; raise [capture] ring_mib",
                self.name,
                f"{self.drops - self._told:,}",
                f"{self.drops:,}",
            )
            self._told = self.drops
        if self.ahead > self._ahead_told:
            log.warning(
                "%s: %s frames were stamped ahead of the clock and count as of the moment before: "
                "the clock was set back, or the card stamps wrongly",
                self.name,
                f"{self.ahead - self._ahead_told:,}",
            )
            self._ahead_told = self.ahead

    def close(self) -> None:
        if self.source is not None:
            self._before += self._now
            self._now = 0
            self._ahead_before = self.ahead
            self.source.close()
            self.source = None
            self._retry_at = time.monotonic() + REOPEN_S


class LiveCapture:
    """All interfaces that are watched, their frames in order of time."""

    def __init__(self, settings: CaptureSettings) -> None:
        """Raises CaptureError where an interface cannot be opened, unless it is one of several
        and not there yet, as that of a tunnel may be."""
        self._watches = [Watch(settings, number) for number in range(len(settings.interface))]
        self._networks = self._networks_now()
        absent = []
        try:
            for watch in self._watches:
                try:
                    watch.open()
                except CaptureError as error:
                    absent.append(error)
                    if watch.name in interfaces.names() or len(absent) == len(self._watches):
                        raise
            self._fit()
        except GuardianError:
            self.close()
            raise
        for fault in absent:
            log.warning("%s; trying again every %.0f s", fault, REOPEN_S)
        self._merge = Merge(len(self._watches))
        self._wall = 0
        self._read_at = 0.0

    def _fit(self) -> None:
        """Raise CaptureError where the frames of an interface cannot go beside those of others."""
        for watch in self._watches if len(self._watches) > 1 else ():
            if watch.source is not None and watch.source.link not in (LINK_ETHERNET, LINK_RAW):
                raise CaptureError(
                    f"{watch.name} cannot be watched beside others (link type "
                    f"{watch.source.link}): watch it by a daemon of its own"
                )

    @property
    def drops(self) -> int:
        """Packets since the start that the kernel dropped because a ring was full, or (about) left
        out of a flood."""
        return sum(watch.unread for watch in self._watches)

    def drops_by_interface(self) -> dict[str, int]:
        """Return the same for each interface."""
        return {watch.name: watch.unread for watch in self._watches}

    def up_by_interface(self) -> dict[str, bool]:
        """Return for each interface whether it can be read now."""
        return {watch.name: watch.source is not None for watch in self._watches}

    def read(self, timeout_s: float) -> Frames | None:
        """Return the next batch, an empty one as a tick, or None while all interfaces are away."""
        up = [number for number, watch in enumerate(self._watches) if watch.up()]
        if not up:
            time.sleep(min(timeout_s, *(watch.wait_s() for watch in self._watches)))
            return None
        if timeout_s:
            self._gather()
        self._read_at = time.monotonic()
        if len(self._watches) == 1:
            self._set_back()
            frames = self._watches[0].read(timeout_s)
            self._read_at = time.monotonic()
            return frames
        room = [number for number in up if self._merge.held(number) < HELD_BYTES]
        self._wait(room, timeout_s)
        back = self._set_back()
        for number in room:
            frames = self._watches[number].read(0.0)
            if frames is not None:
                self._merge.put(number, frames)
        if back:
            return self._merge.restart()
        running = [number for number in up if self._watches[number].source is not None]
        return self._merge.take(running) if running else self._merge.rest()

    def _gather(self) -> None:
        """Let packets gather since the last read, while the rings have room."""
        while (left := self._read_at + GATHER_S - time.monotonic()) > 0:
            if any(watch.source is not None and watch.source.filling() for watch in self._watches):
                return
            time.sleep(min(left, GLANCE_S))

    def _waiting(self) -> int:
        """Return how many bytes of all interfaces wait to be put in order."""
        return sum(self._merge.held(number) for number in range(len(self._watches)))

    def _wait(self, numbers: list[int], timeout_s: float) -> None:
        """Wait until one of the interfaces has frames."""
        if self._waiting():
            timeout_s = min(timeout_s, HELD_S)
        poll = select.poll()
        for number in numbers:
            source = self._watches[number].source
            if source is not None:
                poll.register(source.fileno(), select.POLLIN)
        poll.poll(timeout_s * 1_000)
        self._read_at = time.monotonic()

    def _set_back(self) -> bool:
        """Tell whether the wall clock was set back, after which its times are compared anew."""
        wall, before = time.time_ns(), self._wall
        self._wall = wall
        if wall >= before:
            return False
        for watch in self._watches:
            if watch.source is not None:
                watch.source.restart_clock()
        return True

    def rest(self) -> Iterator[Frames]:
        """Yield what the rings still hold, for a stop that loses nothing."""
        deadline = time.monotonic() + REST_S
        while time.monotonic() < deadline:
            waiting = self._waiting()
            frames = self.read(0.0)
            if frames is not None and len(frames):
                yield frames
            elif self._waiting() == waiting:
                break
        last = self._merge.rest()
        if len(last):
            yield last

    def _networks_now(self) -> list[list[str]]:
        return [interfaces.networks(watch.name) for watch in self._watches]

    def refresh(self) -> None:
        """See whether the interfaces' networks changed, which the filters know; call at times."""
        now = self._networks_now()
        if now != self._networks and len(self._watches) > 1:
            self._networks = now
            for watch in self._watches:
                watch.refilter()

    def tell_drops(self) -> None:
        """Say in the log how many packets each interface dropped since this was last said."""
        for watch in self._watches:
            watch.tell()

    def close(self) -> None:
        for watch in self._watches:
            watch.close()

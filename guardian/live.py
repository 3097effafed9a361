"""The live interface as a source that comes back: gone and up again, drops counted and told."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from guardian.config import CaptureSettings
from guardian.errors import CaptureError
from guardian.ring import Ring
from guardian.tables import Frames

log = logging.getLogger("guardian.capture")

REOPEN_S = 5.0
"""Seconds between attempts to open an interface that went away."""
REST_S = 2.0
"""Seconds a clean stop spends at most on what the ring still holds."""


class LiveCapture:
    """A ring that is opened again when its interface went away."""

    def __init__(self, settings: CaptureSettings) -> None:
        """Raises CaptureError where the interface cannot be opened the first time."""
        self._settings = settings
        self._ring: Ring | None = self._open()
        self._retry_at = 0.0
        self._before = 0
        self._now = 0
        self._told = 0

    def _open(self) -> Ring:
        return Ring(
            self._settings.interface,
            ring_bytes=self._settings.ring_mib << 20,
            snaplen=self._settings.snaplen,
            promiscuous=self._settings.promiscuous,
        )

    @property
    def drops(self) -> int:
        """Packets the kernel dropped since the start because the ring was full."""
        return self._before + self._now

    def read(self, timeout_s: float) -> Frames | None:
        """Return the next batch, an empty one as a tick, or None while the interface is away."""
        if self._ring is None:
            moment = time.monotonic()
            if moment < self._retry_at:
                time.sleep(min(timeout_s, self._retry_at - moment))
                return None
            self._retry_at = moment + REOPEN_S
            try:
                self._ring = self._open()
            except CaptureError:
                return None
            log.warning("%s is back", self._settings.interface)
        try:
            frames = self._ring.read(timeout_s)
            self._now = self._ring.drops()[1]
        except CaptureError as error:
            log.warning("%s; trying again every %.0f s", error, REOPEN_S)
            self.close()
            return None
        return frames

    def rest(self) -> Iterator[Frames]:
        """Yield what the ring still holds, for a stop that loses nothing."""
        deadline = time.monotonic() + REST_S
        while time.monotonic() < deadline:
            frames = self.read(0.0)
            if frames is None or not len(frames):
                return
            yield frames

    def tell_drops(self) -> None:
        """Say in the log how many packets were dropped since this was last said."""
        if self.drops > self._told:
            log.warning(
                "the kernel dropped %s packets (%s since the start): the ring is too small or this "
                "machine too slow; raise [capture] ring_mib",
                f"{self.drops - self._told:,}",
                f"{self.drops:,}",
            )
            self._told = self.drops

    def close(self) -> None:
        if self._ring is not None:
            self._before += self._now
            self._now = 0
            self._ring.close()
            self._ring = None
            self._retry_at = time.monotonic() + REOPEN_S

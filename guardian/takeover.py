"""A bundle takes over in a running daemon, and gives way again where it fails."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from guardian.bundle import Bundle
from guardian.bundlehome import BundleHome
from guardian.bundleready import ReadyBundle
from guardian.config import Settings
from guardian.errors import GuardianError
from guardian.parts import Parts
from guardian.scoring import Scorer

log = logging.getLogger("guardian.bundle")


class Takeover:
    """The bundles of one daemon: the one at work, the one that lies ready."""

    def __init__(self, parts: Parts, settings: Settings) -> None:
        self._parts = parts
        self.ready = ReadyBundle(
            home_of(settings),
            Path(settings.store.path),
            fixed=bool(settings.model.bundle),
            counters=settings.model.counters,
            lan=settings.home.lan,
        )

    def begin(self) -> None:
        """Let commands reach us; call wherever the daemon makes its polling anew."""
        self.ready.attach(self._parts.polling)

    def step(self) -> None:
        """Do what is due: ask the trial, swap, go back. Raises StoreError."""
        pipeline = self._parts.pipeline
        fell = bool(pipeline.fallen)
        fresh = self.ready.step(pipeline)
        if fell:
            self._resume()
        if fresh is not None:
            self._swap(fresh)

    def _swap(self, fresh: Bundle) -> None:
        try:
            scorer = Scorer(fresh)
        except GuardianError as error:
            self.ready.failed(fresh, str(error))
            return
        self._parts.pipeline.swap(scorer)
        self._resume()
        log.info("bundle %s %s judges from now on", fresh.name, fresh.version)

    def _resume(self) -> None:
        """Tell the incidents, which begin anew, what was open and what the user said."""
        bundle = self._parts.pipeline.bundle
        name = f"{bundle.name} {bundle.version}"
        self._parts.store.add_bundle(bundle.digest, name, bundle.manifest, 0)
        self._parts.polling.resume(time.time_ns())

    def close(self) -> None:
        """End a trial that still runs; the daemon ends as it should."""
        self.ready.close()


def home_of(settings: Settings) -> BundleHome:
    """Return the folder of bundles that belongs to the settings."""
    return BundleHome.beside(settings.store.path, settings.model.key)

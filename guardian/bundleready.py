"""A bundle laid ready: looked at, tried and rehearsed beside the running daemon, then swapped in.

    ready = ReadyBundle(BundleHome.beside(db), db)
    ready.attach(polling)              `install` and `rollback` are commands from now on
    ready.look()                       what lies ready, for the hub's update entity
    fresh = ready.step(pipeline)       now and then; a bundle that shall judge from now on, or None

Nothing here waits: a child process tries the bundle (guardian/tryload.py), the daemon goes on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from guardian import bundle as bundles
from guardian.bundle import Bundle
from guardian.bundlehome import BundleHome
from guardian.const import NS
from guardian.errors import BundleError, GuardianError
from guardian.polling import Polling
from guardian.trial import Trial

log = logging.getLogger("guardian.bundle")

REHEARSED_S = 7 * 86_400
"""Seconds of the past that a bundle is rehearsed over."""
SETTLED_S = 600.0
"""Seconds that a new bundle must have run until it is no longer on trial."""
SUMMARY = 255
"""Characters that a hub shows of what is new."""


@dataclass(frozen=True)
class Ready:
    """What lies ready."""

    name: str
    version: str
    digest: str
    summary: str
    """What a person should know, at most SUMMARY characters; may have line breaks."""
    fault: str = ""
    """Why it cannot be installed; empty where it may be tried."""


class Judging(Protocol):
    """What a running pipeline tells of its bundle."""

    bundle: Bundle
    fallen: str


class ReadyBundle:
    """The bundle that lies ready, and the way from there into the pipeline."""

    def __init__(
        self,
        home: BundleHome,
        db: Path,
        *,
        fixed: bool = False,
        counters: bool = True,
        lan: Sequence[str] = (),
    ) -> None:
        """`fixed`: the settings name a bundle, so none is installed here."""
        self.home = home
        self._db, self._fixed, self._counters, self._lan = db, fixed, counters, tuple(lan)
        self._trial: Trial | None = None
        self._anyway = False
        self._next: Bundle | None = None
        self._using = ""
        self._since = time.monotonic()
        self._seen: tuple[tuple[int, int, int], Ready | None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a bundle is being tried now."""
        return self._trial is not None

    def attach(self, polling: Polling) -> None:
        """Let commands reach us."""
        polling.actions["install"] = self.install
        polling.actions["rollback"] = self.rollback

    def look(self) -> Ready | None:
        """Return what lies ready, None where nothing new does. Files are read when they changed."""
        path = self.home.ready / bundles.MANIFEST
        try:
            found = path.stat()
        except OSError:
            return None
        stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
        if self._seen is None or self._seen[0] != stamp:
            self._seen = (stamp, self._read())
        ready = self._seen[1]
        return None if ready is None or (ready.digest and ready.digest == self._using) else ready

    def _read(self) -> Ready | None:
        try:
            found = bundles.load(self.home.ready, key=self.home.key)
        except GuardianError as error:
            return Ready("", "", "", str(error)[:SUMMARY], str(error))
        last = self.home.last()
        if last.get("digest") == found.digest and last.get("what") == "refused":
            why = str(last.get("why", ""))
            return Ready(found.name, found.version, found.digest, why[:SUMMARY], why)
        return Ready(found.name, found.version, found.digest, summary(found))

    # --- commands ---------------------------------------------------------------

    def install(self, args: dict[str, Any], now: int) -> None:
        """Begin to try what lies ready; `anyway` asks for no rehearsal. Raises KeyError."""
        if self._fixed:
            raise KeyError("the settings name a bundle: empty [model] bundle to install others")
        if self._trial is not None:
            raise KeyError("a bundle is being tried already")
        ready = self.look()
        if ready is None:
            raise KeyError(f"no new bundle lies in {self.home.ready}")
        self._anyway = args.get("anyway") is True
        installed = self.home.current if self.home.current.is_dir() else None
        try:
            self._trial = Trial(
                self.home.ready,
                key=self.home.key,
                db=None if self._anyway else self._db,
                beside=installed,
                since=now - REHEARSED_S * NS,
                counters=self._counters,
                lan=self._lan,
            )
        except BundleError as error:
            raise KeyError(str(error)) from error
        log.info("trying the bundle that lies ready")

    def rollback(self, _args: dict[str, Any], _now: int) -> None:
        """Go back to the bundle before. Raises KeyError."""
        if self._fixed:
            raise KeyError("the settings name a bundle: empty [model] bundle to change it here")
        try:
            self._next = self.home.rollback("you asked for it")
        except BundleError as error:
            raise KeyError(str(error)) from error

    # --- as time passes -----------------------------------------------------------

    def step(self, judging: Judging) -> Bundle | None:
        """Return a bundle that shall judge from now on, or None. Never raises, never waits."""
        if judging.bundle.digest != self._using:
            self._using, self._since = judging.bundle.digest, time.monotonic()
        if judging.fallen:
            self._fell(judging)
        elif self.home.on_trial and time.monotonic() - self._since > SETTLED_S:
            self.home.settled()
        if self._trial is not None:
            self._ask(self._trial)
        fresh, self._next = self._next, None
        return fresh if fresh is not None and fresh.digest != self._using else None

    def _ask(self, trial: Trial) -> None:
        try:
            found = trial.answer()
            if found is None:
                return
            self._trial = None
            worse = list(found.get("rehearsal", {}).get("worse", ()))
            if worse:
                self._refused("; ".join(map(str, worse)), found)
                return
            fresh = self.home.install(str(found["digest"]))
        except (GuardianError, KeyError) as error:
            self._trial = None
            self._refused(str(error), {})
            return
        self.home.note("installed", "", fresh, rehearsal=found.get("rehearsal"))
        log.warning("bundle %s %s takes over", fresh.name, fresh.version)
        self._seen, self._next = None, fresh

    def _refused(self, why: str, found: dict[str, Any]) -> None:
        log.warning("the bundle that lies ready is not installed: %s", why)
        bundle = None
        try:
            bundle = bundles.load(self.home.ready, key=self.home.key)
        except GuardianError:
            log.debug("it cannot even be read")
        self.home.note("refused", why, bundle, rehearsal=found.get("rehearsal"))
        self._seen = None

    def failed(self, fresh: Bundle, why: str) -> None:
        """Take back a bundle that `step` returned and that could not take over."""
        log.warning("bundle %s could not take over: %s", fresh.version, why)
        self._back(fresh, why)

    def _fell(self, judging: Judging) -> None:
        """Take back a bundle whose models failed while they ran; the pipeline has left it."""
        why, judging.fallen = judging.fallen, ""
        log.warning("the bundle installed last failed (%s): the one before judges again", why)
        self._back(None, why)

    def _back(self, fresh: Bundle | None, why: str) -> None:
        try:
            self.home.rollback(why)
        except BundleError as error:
            log.warning("cannot go back on the disk: %s", error)
        self.home.note("refused", why, fresh)
        self._seen = None

    def close(self) -> None:
        """End the trial, if one runs; the daemon ends as it should."""
        if self._trial is not None:
            self._trial.close()
            self._trial = None
        self.home.settled()


def summary(bundle: Bundle) -> str:
    """Return what is new in a few words: when it was made, of what, how it is calibrated."""
    manifest = bundle.manifest
    said = manifest.get("summary")
    text = said if isinstance(said, str) and said else (
        f"Made {bundle.created[:10]} with Guardian {manifest.get('guardian', '?')}, "
        f"{bundle.classifier.form}; its lines were drawn on "
        f"{dict(manifest['thresholds']).get('calibrated_on', 'nothing that is told')}."
    )  # fmt: skip
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= SUMMARY else text[: SUMMARY - 1] + "…"

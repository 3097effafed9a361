"""The folder of bundles beside the database: what lies ready, what is installed, what was before.

bundles/ready/      laid there by a person or by the retraining; never changed by the daemon
bundles/current/    installed; the daemon loads it where the settings name no bundle
bundles/previous/   what stood in current before; absent where that was the shipped bundle
bundles/trial       current is new: its digest, and how often the daemon started since
bundles/last.json   what became of the last installation, for `guardian bundle status`
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardian import bundle as bundles
from guardian.bundle import Bundle
from guardian.errors import BundleError, GuardianError
from guardian.place import PREVIOUS, exchange, put

log = logging.getLogger("guardian.bundle")

READY = "ready"
CURRENT = "current"
TRIAL = "trial"
LAST = "last.json"
BACK = "rolled back"
"""What `note` says where the one before was taken again; of the others: installed, refused."""
MAX_NOTE = 65_536
"""Bytes of last.json; a rehearsal's sentences are in it."""
CRASHES = 2
"""Starts of the daemon with a new bundle, none of which lasted, after which it is taken back."""


@dataclass(frozen=True)
class BundleHome:
    """The folder and what may be done in it; the bundles of others are not trusted."""

    folder: Path
    key: str = ""
    """A minisign public key that a bundle must be signed with."""

    @classmethod
    def beside(cls, database: str | Path, key: str = "") -> BundleHome:
        """Return the one beside a daemon's database."""
        return cls(Path(database).parent / "bundles", key)

    @property
    def ready(self) -> Path:
        return self.folder / READY

    @property
    def current(self) -> Path:
        return self.folder / CURRENT

    @property
    def previous(self) -> Path:
        return self.folder / PREVIOUS

    def begin(self) -> Bundle:
        """Return the bundle that a starting daemon shall use: the installed one if it is sound and
        does not make the daemon fall, else the one before it, else the shipped one.
        """
        if self._crashed():
            log.warning("the daemon fell twice with the bundle installed last: it is taken back")
            with suppress(GuardianError):
                self.rollback("it made the daemon fall")
        return self.chosen()

    def chosen(self) -> Bundle:
        """Return the same without counting a start."""
        for place in (self.current, self.previous):
            if not _is_folder(place):
                if place == self.current:
                    break  # rolled back to the shipped one
                continue
            try:
                return bundles.load(place, key=self.key)
            except BundleError as error:
                log.warning("the bundle in %s is left out: %s", place, error)
        return bundles.load(bundles.default_path())

    def lay(self, folder: Path) -> None:
        """Lay a copy of a bundle ready; what lay there goes. Raises BundleError."""
        laid = self.folder / ".laid"
        try:
            shutil.rmtree(laid, ignore_errors=True)
            put(folder, laid, self.key)
            if os.geteuid() == 0:
                # The daemon's user must be able to read it, and to write beside it.
                owner = self.folder.parent.stat()
                for path in (self.folder, laid, *laid.iterdir()):
                    os.chown(path, owner.st_uid, owner.st_gid)
            if self.ready.exists():
                shutil.rmtree(self.ready)
            laid.rename(self.ready)
        except OSError as error:
            raise BundleError(
                f"cannot write {self.folder} ({error.strerror or error}): do it as the daemon's "
                "user, `sudo -u guardian`"
            ) from error

    def install(self, digest: str) -> Bundle:
        """Put what lies ready in place, if it still is the bundle of this digest, and return it.

        Raises BundleError; then nothing has changed.
        """
        fresh = self._copied(digest)
        try:
            if not _is_folder(self.current):
                # What was used so far is the shipped one: nothing must be left of older times.
                shutil.rmtree(self.previous, ignore_errors=True)
            put(fresh, self.current, self.key)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        found = bundles.load(self.current, key=self.key)
        self._write(TRIAL, f"{found.digest} 0")
        return found

    def _copied(self, digest: str) -> Path:
        """Return the folder of a private copy of what lies ready, checked to be of the digest."""
        fresh = self.folder / ".fresh"
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            put(self.ready, fresh, self.key)
            if bundles.load(fresh, key=self.key).digest == digest:
                return fresh
        except OSError as error:
            raise BundleError(f"cannot write {self.folder}: {error.strerror or error}") from error
        raise BundleError(f"{self.ready} was changed since it was tried: install it again")

    def rollback(self, why: str) -> Bundle:
        """Go back to what was used before, which a second call takes back, and return it.

        Raises BundleError where there is nothing to go back to.
        """
        here, before = _is_folder(self.current), _is_folder(self.previous)
        if not here and not before:
            raise BundleError("there is no bundle to go back to: the shipped one is in use")
        if before:
            bundles.load(self.previous, key=self.key)
        try:
            if here and before:
                exchange(self.current, self.previous)
            elif here:
                self.current.rename(self.previous)
            else:
                self.previous.rename(self.current)
        except OSError as error:
            raise BundleError(f"cannot write {self.folder}: {error.strerror or error}") from error
        self.settled()
        found = self.chosen()
        self.note(BACK, why, found)
        return found

    def settled(self) -> None:
        """Call the installed bundle tried: it ran for a while, or the daemon ended as it should."""
        with suppress(OSError):
            (self.folder / TRIAL).unlink()

    @property
    def on_trial(self) -> bool:
        """Whether the installed bundle is new."""
        return (self.folder / TRIAL).exists()

    def _crashed(self) -> bool:
        """Count this start where the installed bundle is new; tell whether there were too many."""
        try:
            digest, count = (self.folder / TRIAL).read_text(encoding="ascii")[:200].split()
            starts = int(count) + 1
        except (OSError, ValueError):
            return False
        self._write(TRIAL, f"{digest} {starts}")
        return starts >= CRASHES

    def note(self, what: str, why: str, bundle: Bundle | None, **more: Any) -> None:
        """Write down what became of an installation."""
        name = f"{bundle.name} {bundle.version}" if bundle is not None else ""
        said = {"what": what, "why": why, "bundle": name,
                "digest": bundle.digest if bundle is not None else "", **more}  # fmt: skip
        self._write(LAST, json.dumps(said))

    def last(self) -> dict[str, Any]:
        """Return what `note` wrote; empty where nothing was."""
        try:
            with (self.folder / LAST).open("rb") as file:
                found = json.loads(file.read(MAX_NOTE))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        fresh = path.with_name(f".{name}.new")
        try:
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(path)
        except OSError as error:
            log.warning("cannot write %s: %s", path, error.strerror or error)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False

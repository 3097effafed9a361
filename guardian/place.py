"""Put one bundle's folder in the place of another, whole or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
from pathlib import Path

from guardian import bundle as bundles
from guardian.errors import BundleError

PREVIOUS = "previous"
"""The folder beside the place that keeps what stood there before."""
_HERE, _EXCHANGE = -100, 2
"""AT_FDCWD and RENAME_EXCHANGE of Linux."""


def put(candidate: Path, place: Path, key: str = "") -> Path | None:
    """Put a copy of a bundle at `place` and return where the one that stood there is now.

    With `key` it must be signed, as for guardian.bundle.load.

    The folder is the old one or the new one at every moment (on Linux; elsewhere there is none for
    a moment). Whoever loads it just then may read files of both: their digests do not fit, and the
    load is refused. An older `previous` goes. Raises BundleError where
    the candidate is no bundle or the folder cannot be written; then nothing has changed.
    """
    found = bundles.load(candidate, key=key)
    names = [*found.manifest["files"], bundles.MANIFEST]
    if (candidate / bundles.SIGNATURE).is_file():
        names.append(bundles.SIGNATURE)
    fresh, previous = place.with_name(f".{place.name}.new"), place.with_name(PREVIOUS)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        for name in names:
            shutil.copyfile(candidate / name, fresh / name)
            _flush(fresh / name)
        _flush(fresh)
        copied = bundles.load(fresh, key=key)
        if copied.digest != found.digest:
            raise BundleError(f"{candidate} was changed while it was copied: try again")
        if not place.exists():
            fresh.rename(place)
            return None
        exchange(fresh, place)
        if previous.exists():
            exchange(fresh, previous)
            shutil.rmtree(fresh)
        else:
            fresh.rename(previous)
        _flush(place.parent)
    except OSError as error:
        raise BundleError(
            f"cannot put a bundle at {place} ({error.strerror or error}): check the rights of"
            f" {place.parent}"
        ) from error
    return previous


def exchange(a: Path, b: Path) -> None:
    """Let two folders of one file system change names, in one step where the system can."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is not None and not call(
        _HERE, os.fsencode(a), _HERE, os.fsencode(b), ctypes.c_uint(_EXCHANGE)
    ):
        return
    aside = a.with_name(f"{a.name}.aside")
    b.rename(aside)
    try:
        a.rename(b)
    except OSError:
        aside.rename(b)
        raise
    aside.rename(a)


def _flush(path: Path) -> None:
    """Let a file or a folder reach the disk; some file systems cannot be told to."""
    handle = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)

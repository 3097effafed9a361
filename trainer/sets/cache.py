"""Digests of files, and prepared sets that are kept in a folder until something changes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from guardian.errors import InputError
from trainer.sets.prepared import FACTS, Prepared, load

_KNOWN = "files.json"
"""Digests by path, size and time of change, so that a file is hashed once."""
_PART = ".part-"
_BLOCK = 1 << 20


def sha256_of(path: Path) -> str:
    """Return sha256 of a file in hex. Raises InputError where it cannot be read."""
    sha = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                sha.update(block)
    except OSError as error:
        reason = error.strerror or "unknown error"
        raise InputError(f"{path} cannot be read ({reason}): check path and rights") from error
    return sha.hexdigest()


def digests(paths: Sequence[Path], cache: Path | None) -> list[str]:
    """Return sha256 of each file; one that has kept its size and time is not read again."""
    book = cache / _KNOWN if cache else None
    known: dict[str, str] = {}
    if book is not None and book.exists():
        try:
            known = json.loads(book.read_text(encoding="utf-8"))
        except ValueError:
            known = {}
    out, fresh = [], False
    for path in paths:
        try:
            state = path.stat()
        except OSError as error:
            raise InputError(f"{path} cannot be read: check path and rights") from error
        key = f"{path.absolute()}|{state.st_size}|{state.st_mtime_ns}"
        if key not in known:
            known[key], fresh = sha256_of(path), True
        out.append(known[key])
    if book is not None and fresh:
        book.parent.mkdir(parents=True, exist_ok=True)
        part = book.with_name(f"{_PART}{os.getpid()}.json")
        part.write_text(json.dumps(known, indent=0), encoding="utf-8")
        part.replace(book)
    return out


def kept(
    cache: Path | None, name: str, digest: str, place: str, make: Callable[[Path], None]
) -> Prepared:
    """Return the set with this digest: from the cache, or made by `make` in an empty folder.

    A set comes to its place whole, by one rename; what an interrupted run left is cleared away.
    Sets of the same `place` (name, paths and limit) with another digest are out of date and go.
    Without a cache the set has no file that outlives the program.
    """
    if cache is None:
        folder = Path(tempfile.mkdtemp(prefix="guardian-set-"))
        try:
            make(folder)
            return load(folder)  # on Linux a mapping outlives the file's name
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    mark = hashlib.sha256(place.encode()).hexdigest()[:8]
    target = cache / f"{name}-{mark}-{digest[:16]}"
    if (target / FACTS).exists():
        return load(target)
    cache.mkdir(parents=True, exist_ok=True)
    _clear(cache)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PART}{os.getpid()}-", dir=cache))
    try:
        make(folder)
        folder.chmod(0o755)
        folder.replace(target)
    except OSError:
        if not (target / FACTS).exists():  # else another process was as fast
            raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for old in cache.glob(f"{name}-{mark}-*"):
        if old != target:
            shutil.rmtree(old, ignore_errors=True)
    return load(target)


def _clear(cache: Path) -> None:
    """Remove what processes that are gone left half made."""
    for path in cache.glob(f"{_PART}*"):
        owner = path.name[len(_PART) :].partition("-")[0]
        if path.is_dir() and owner.isdigit() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(path, ignore_errors=True)

"""All readers by name, and the one way to a prepared set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from guardian.errors import InputError
from trainer.sets import nslkdd
from trainer.sets.cache import digests, kept
from trainer.sets.prepared import Prepared
from trainer.sets.reader import Reader
from trainer.sets.writer import Nature, Writer

READERS: dict[str, Reader] = {reader.name: reader for reader in (nslkdd.READER,)}


def silent(_text: str) -> None:
    """Tell nobody."""


def sniff(path: Path) -> str:
    """Return the name of the reader of a file. Raises InputError where none knows it."""
    for name, reader in READERS.items():
        if reader.sniff(path):
            return name
    raise InputError(
        f"{path.name} is of no known kind: name its reader with --set ({', '.join(READERS)})"
    )


def prepare(
    name_or_kind: str,
    paths: Sequence[Path],
    *,
    cache: Path | None,
    limit: int | None = None,
    echo: Callable[[str], None] = silent,
) -> Prepared:
    """Return a set from files (or folders, then all files in them of that kind).

    `limit` takes the first so many rows of each file; the set is then not comparable. With a
    `cache` folder a set is made once and again only when a file, the mapping or the limit
    changed. Raises InputError where the files are not of that kind.
    """
    reader = READERS.get(name_or_kind)
    if reader is None:
        raise InputError(f"there is no reader {name_or_kind}: choose of {', '.join(READERS)}")
    files = _files(reader, paths)
    shas = digests(files, cache)
    told = [reader.name, reader.mapping.digest(), str(limit)]
    told += [f"{path.name} {sha}" for path, sha in zip(files, shas, strict=True)]
    digest = hashlib.sha256("\n".join(told).encode()).hexdigest()

    def make(folder: Path) -> None:
        writer = Writer(folder)
        nature = reader.read(files, writer, limit, echo)
        if limit is not None:
            why = f"Only the first {limit} rows of each file were read. {nature.why}".strip()
            nature = Nature(nature.ordered, False, why)
        writer.finish(name_or_kind, reader.mapping.classes, nature, digest, reader.mapping.twice)

    place = "|".join([reader.name, str(limit), *(str(path.absolute()) for path in files)])
    return kept(cache, name_or_kind, digest, place, make)


def _files(reader: Reader, paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += [p for p in sorted(path.rglob("*")) if p.is_file() and reader.sniff(p)]
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"there is no {path}: check the path")
    if not found:
        named = ", ".join(str(path) for path in paths) or "nothing"
        raise InputError(f"{named} holds no file of the kind {reader.name}")
    return found

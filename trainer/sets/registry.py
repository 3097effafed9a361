"""All readers by name, and the one way to a prepared set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from guardian.errors import InputError
from trainer.sets import cic, guardiandb, hai, iotid20, nbaiot, nslkdd, pcap, unsw, zeek
from trainer.sets.athand import SETS, AtHand
from trainer.sets.cache import digests, kept
from trainer.sets.prepared import Prepared
from trainer.sets.reader import Reader
from trainer.sets.writer import Nature, Writer

READERS: dict[str, Reader] = {
    module.READER.name: module.READER
    for module in (zeek, nbaiot, cic, unsw, iotid20, nslkdd, hai, pcap, guardiandb)
}
"""By name, in the order of the document."""

_SNIFFED = (
    "guardian-db", "nbaiot", "iotid20", "unsw", "cic", "nslkdd", "hai", "zeek", "pcap",
)  # fmt: skip
"""The order in which they are asked: a capture last, since it is all that is no text."""


def silent(_text: str) -> None:
    """Tell nobody."""


def sniff(path: Path) -> str:
    """Return the name of the reader of a file. Raises InputError where none knows it."""
    if not path.is_file():
        raise InputError(f"there is no file {path}: check the path")
    for name in _SNIFFED:
        if _is(READERS[name], path):
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
    """Return a set: by a reader's name from files (or folders, then all files in them of that
    kind), or by the name of a set at hand (athand.SETS) from the data folder.

    `limit` takes the first so many rows of each file; the set is then not comparable. With a
    `cache` folder a set is made once and again only when a file, the mapping or the limit
    changed. Raises InputError where the files are not of that kind.
    """
    entry = SETS.get(name_or_kind)
    if entry is not None and all(path.is_dir() for path in paths):
        files = [file for path in paths for file in entry.files(path)]
        if not files and name_or_kind not in READERS:
            raise InputError(f"{paths[0]} lacks {entry.patterns[0]}: give the folder of data sets")
    else:
        entry, files = None, []
    reader = READERS.get(entry.reader if entry else name_or_kind)
    if reader is None:
        known = ", ".join(dict.fromkeys((*READERS, *SETS)))
        raise InputError(f"there is no data set or reader {name_or_kind}: choose of {known}")
    if not files:
        entry, files = None, _files(reader, paths)
    if limit is not None and limit < 1:
        raise InputError(f"a limit of {limit} rows leaves none: give 1 or more")
    read = [path for file in files for path in (file, *reader.beside(file)) if path.exists()]
    shas = digests(read, cache)
    told = [reader.name, reader.mapping.digest(), str(limit), repr(entry)]
    told += [f"{path.name} {sha}" for path, sha in zip(read, shas, strict=True)]
    digest = hashlib.sha256("\n".join(told).encode()).hexdigest()

    def make(folder: Path) -> None:
        with closing(Writer(folder)) as writer:
            nature = _judged(reader.read(files, writer, limit, echo), entry, limit)
            writer.finish(
                name_or_kind, reader.mapping.classes, nature, digest, reader.mapping.twice
            )

    place = "|".join([reader.name, str(limit), *(str(path.absolute()) for path in files)])
    return kept(cache, name_or_kind, digest, place, make)


def _judged(nature: Nature, entry: AtHand | None, limit: int | None) -> Nature:
    """Return what is true of the set, once all who know something of it were heard."""
    ordered, comparable, why = nature.ordered, nature.comparable, [nature.why]
    if entry is not None and entry.why:
        ordered, comparable, why = ordered and entry.ordered, False, [entry.why, *why]
    if limit is not None:
        comparable, why = False, [f"Only the first {limit} rows of each file were read.", *why]
    return Nature(ordered, comparable, " ".join(text for text in why if text))


def _files(reader: Reader, paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += [p for p in sorted(path.rglob("*")) if p.is_file() and _is(reader, p)]
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"there is no {path}: check the path")
    if not found:
        named = ", ".join(str(path) for path in paths) or "nothing"
        raise InputError(f"{named} holds no file of the kind {reader.name}")
    return found


def _is(reader: Reader, path: Path) -> bool:
    try:
        return path.stat().st_size > 0 and reader.sniff(path)
    except (InputError, OSError):
        return False

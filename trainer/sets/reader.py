"""What every reader of a kind of file is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.sets.mapping import Mapping
from trainer.sets.writer import Nature, Writer

Echo = Callable[[str], None]


def no_files(_path: Path) -> list[Path]:
    return []


@dataclass(frozen=True)
class Reader:
    """A kind of file: how it is told from others, what it maps to, and how it is read."""

    name: str
    title: str
    """What the kind is, for the document."""
    mapping: Mapping
    read: Callable[[Sequence[Path], Writer, int | None, Echo], Nature]
    """Puts the rows of files into a Writer, of each file the first `limit` where one is given."""
    sniff: Callable[[Path], bool]
    """Whether a file is of this kind, by its content (and name where the content does not say)."""
    source: str = ""
    """Whom to cite."""
    beside: Callable[[Path], list[Path]] = no_files
    """Files that are read with a file, such as its labels; a change of one makes the set anew."""


def group_of(path: Path) -> str:
    """Return a file's name without the endings that say its packing and form."""
    name = path.name
    for end in (".gz", ".zip", ".labeled", ".csv", ".txt", ".log", ".json", ".npz", ".db"):
        if name.lower().endswith(end) and len(name) > len(end):
            name = name[: -len(end)]
    return name


def group_names(paths: Sequence[Path]) -> list[str]:
    """Return a name for each file; files of one name get their folders' names before it."""
    names = [group_of(path) for path in paths]
    depth = 0
    while len(set(names)) < len(names) and depth < 4:
        depth += 1
        twice = {name for name in names if names.count(name) > 1}
        names = [
            f"{path.parts[-1 - depth]}.{name}"
            if name in twice and len(path.parts) > depth
            else name
            for name, path in zip(names, paths, strict=True)
        ]
    return names

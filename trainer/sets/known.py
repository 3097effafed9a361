"""Captures that the trainer's catalogue knows: who is at home there, and what is malicious."""

from __future__ import annotations

from pathlib import Path

from trainer.catalogue import CATALOGUE, Source


def source_of(path: Path) -> Source | None:
    """Return the catalogue's entry of a file, by the end of its path; None where there is none."""
    for source in CATALOGUE:
        if path.absolute().match(source.pattern):
            return source
    return None

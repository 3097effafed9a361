"""A change of habits in a person's words; without numpy, for the command line."""

from __future__ import annotations

from typing import Any

from guardian.featurelist import TEXTS, UNITS


def words(features: list[dict[str, Any]], most: int = 5) -> str:
    """Return what changed as a person reads it."""
    out = []
    for f in features[:most]:
        often = UNITS.get(f["name"]) == "flag"
        how = ("more often" if f["more"] else "less often") if often else (
            "higher" if f["more"] else "lower"
        )  # fmt: skip
        out.append(f"{TEXTS.get(f['name'], f['name'])} ({how})")
    more = len(features) - most
    return ", ".join(out) + (f" and {more} more" if more > 0 else "")

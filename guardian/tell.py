"""Text for people on a terminal: times, tables, harmless names."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Sequence
from datetime import datetime, timedelta

from guardian.names import printable

WIDTH = 100
"""Columns that every table and paragraph fits."""

MAX_TEXT = 4_000
"""Characters of a text that are shown."""


def harmless(text: object) -> str:
    """Return text without control characters, line breaks and hidden or reversing marks."""
    return printable(str(text), MAX_TEXT)


def when(seconds: float, now: float) -> str:
    """Return a moment in local time as a person says it: `today 14:03`, `12 Mar 2026 14:03`."""
    moment = datetime.fromtimestamp(seconds).astimezone()
    today = datetime.fromtimestamp(now).astimezone().date()
    clock = f"{moment:%H:%M}"
    if moment.date() == today:
        return f"today {clock}"
    for days, word in ((-1, "yesterday"), (1, "tomorrow")):
        if moment.date() == today + timedelta(days=days):
            return f"{word} {clock}"
    day = f"{moment.day} {moment:%b}"
    return f"{day} {clock}" if moment.year == today.year else f"{day} {moment.year} {clock}"


def width(text: str) -> int:
    """Return the columns that a terminal gives a text."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def cut(text: str, columns: int) -> str:
    """Return a text in at most so many columns."""
    if width(text) <= columns:
        return text
    out = ""
    for c in text:
        if width(out + c) > columns - 1:
            break
        out += c
    return out + "…"


def pad(text: str, columns: int) -> str:
    """Return a text in exactly so many columns."""
    text = cut(text, columns)
    return text + " " * (columns - width(text))


def table(head: Sequence[str], rows: Sequence[Sequence[object]], widest: Sequence[int]) -> str:
    """Return aligned rows under a head; `widest` has the most columns of each column."""
    cells = [list(head), *([harmless(cell) for cell in row] for row in rows)]
    spaces = [min(limit, max(width(row[i]) for row in cells)) for i, limit in enumerate(widest)]
    return "\n".join(
        "  ".join(pad(cell, columns) for cell, columns in zip(row, spaces, strict=True)).rstrip()
        for row in cells
    )


def paragraph(text: object, indent: int = 0) -> str:
    """Return a text wrapped to WIDTH."""
    space = " " * indent
    return textwrap.fill(
        harmless(text), WIDTH, initial_indent=space, subsequent_indent=space,
        break_on_hyphens=False,
    )  # fmt: skip


def amount(value: float | None) -> str:
    """Return a number as a person writes it: three digits that matter, thousands apart."""
    if value is None:
        return "?"
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"

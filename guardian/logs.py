"""What the daemon says: to the journal with a level, to a terminal in words, by part.

systemd's journal takes the level of a line from a number before it (`<4>`), so that
`journalctl -p warning -u guardian` works without a library.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import TextIO

from guardian.names import printable

ROOT = "guardian"
LEVELS = ("debug", "info", "warning", "error")

PARTS = ("bundle", "capture", "drill", "hub", "notify", "publish", "store")
"""Loggers below `guardian` whose level can be set; a test holds that they are all."""

MAX_LINE = 2_000
"""Characters of a line: a name from the network must not fill the journal."""

_JOURNAL = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}


class _Lines(logging.Formatter):
    """A level and a harmless text on every line, also of a traceback."""

    def __init__(self, journal: bool) -> None:
        super().__init__("%(message)s")
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        begin = f"<{_JOURNAL.get(record.levelno, 2)}>" if self._journal else f"{record.levelname} "
        lines = super().format(record).splitlines() or [""]
        return "\n".join(begin + _safe(line) for line in lines)


def _safe(line: str) -> str:
    """Return a line that does nothing to a terminal; what it is indented by stays."""
    indent = line[: len(line) - len(line.lstrip(" "))]
    return indent + printable(line, MAX_LINE)


def in_journal(stream: TextIO) -> bool:
    """Tell whether a stream leads to systemd's journal, as JOURNAL_STREAM says."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def begin() -> None:
    """Send what Guardian logs to stderr; `set_levels` says how much of it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(in_journal(sys.stderr)))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)  # other libraries speak where something is wrong


def set_levels(level: str, parts: Mapping[str, str]) -> None:
    """Set the least level that is said, and those of parts that differ."""
    logging.getLogger(ROOT).setLevel(level.upper())
    for part in PARTS:
        wanted = parts.get(part)
        logging.getLogger(f"{ROOT}.{part}").setLevel(wanted.upper() if wanted else logging.NOTSET)

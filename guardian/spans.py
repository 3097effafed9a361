"""Time spans as people write them: 30m, 2h, 7d, 1w."""

from __future__ import annotations

import re

SPAN = re.compile(r"(\d{1,6})\s*(min|[mhdw])", re.IGNORECASE)
SECONDS = {"m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
MAX_SPAN_S = 10 * 365 * 86_400
"""Longer than ten years is a slip of the finger."""

SPANS = "write it like 30m, 2h, 7d or 1w"


def span_s(text: str) -> int:
    """Return the seconds of a span; 0 where it is none."""
    found = SPAN.fullmatch(text.strip())
    span = int(found[1]) * SECONDS[found[2].lower()] if found else 0
    return span if span <= MAX_SPAN_S else 0

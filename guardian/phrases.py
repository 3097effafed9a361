"""Amounts as a person says them."""

from __future__ import annotations

from guardian.const import MAX_COUNTED
from guardian.facts import Facts


def counted(facts: Facts, number: int) -> str:
    return f"over {number:,}" if facts.overflow and number >= MAX_COUNTED else f"{number:,}"


def times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number:,} times")


def rate(rate: float) -> str:
    if rate >= 1.0:
        return f"{rate:,.0f} a second"
    return f"{60.0 * rate:.0f} a minute"


def lasting(seconds: float) -> str:
    if seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10.0:
        return f"{seconds:.1f} s"
    if seconds < 120.0:
        return f"{seconds:.0f} s"
    if seconds < 7_200.0:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800.0:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:.1f} days"


def size(amount: int) -> str:
    value = float(amount)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000.0:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000.0
    return f"{value:.1f} TB"

"""What a device that hides gets away with: `python -m tests.hiding` prints a table.

For docs/threat-model.md; the tests hold what is found (tests.test_hiding.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.test_hiding import Bad, beacons, bursts, opened, spread

MOST = 3
"""Incidents of a case that are named."""


def at_most(value: int) -> Callable[[int], int]:
    return lambda _: value


CASES: tuple[tuple[str, int, Bad], ...] = (
    ("400 Telnet calls a day, spread over it", 4, spread(at_most(400))),
    ("100 a day", 7, spread(at_most(100))),
    ("24 a day", 7, spread(at_most(24))),
    ("60 within ten minutes a day", 3, bursts(at_most(60))),
    ("20 within ten minutes a day", 5, bursts(at_most(20))),
    ("a beacon each minute", 1, beacons(at_most(60))),
    ("a beacon every ten minutes", 5, beacons(at_most(600))),
    ("a beacon every hour", 7, beacons(at_most(3_600))),
    ("a beacon every ten minutes from the second day", 5, beacons(lambda day: 600 if day else 0)),
    ("a beacon every hour from the second day", 7, beacons(lambda day: 3_600 if day else 0)),
    ("Telnet calls, 20 more each day", 21, spread(lambda day: 20 * day)),
    ("calls within ten minutes, 40 % more each day", 16, bursts(lambda day: int(2 * 1.4**day))),
    (
        "a beacon, every 2 h to every minute in 2 weeks",
        15,
        beacons(lambda day: max(60, 7_200 >> day // 2)),
    ),
    ("60 within ten minutes, 1,000 after a week", 9, bursts(lambda day: 60 if day < 7 else 1_000)),
)


def main() -> int:
    for name, days, bad in CASES:
        with tempfile.TemporaryDirectory() as folder:
            found = opened(Path(folder), days, bad)
        told = ", ".join(f"{cause} after {day:.2f} days" for day, cause in found[:MOST])
        more = f", {len(found) - MOST} more" if len(found) > MOST else ""
        print(f"{name:46} {told + more or f'not in {days} days'}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""What a device that hides gets away with: `python -m tests.hiding` prints a table.

For docs/threat-model.md; the tests hold what is found (tests.test_hiding.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.test_hiding import Bad, beacons, bursts, opened, spread


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
)


def main() -> int:
    for name, days, bad in CASES:
        with tempfile.TemporaryDirectory() as folder:
            found = opened(Path(folder), days, bad)
        said = f"{found[0][1]} after {found[0][0]:.2f} days" if found else f"not in {days} days"
        print(f"{name:42} {said}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

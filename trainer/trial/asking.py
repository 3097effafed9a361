"""`python -m trainer.trial.asking`: do the answers to asked incidents teach faster?

Months are drawn, not recorded: twelve sources of incidents in a home of eight devices, each with a
device, a cause, a rate (0.1 a day in the middle, log-normal by 1.2) and a distance from the line
(1.2 log odds in the middle); one is an infection from the middle of the month on, surer and more
often. A person answers one incident each evening, or one a week: `fine` for what is harmless, which
covers that cause of that device for 30 days, `bad` for the infection. Which one: what `guardian
alerts --ask` names first, any at random, or the latest. Counted is what is told and false.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np

from guardian.asking import to_ask
from guardian.const import NS
from guardian.evidence import log_odds
from guardian.wishes import HOLDS
from trainer.labels import CLASSES

DAYS, SOURCES, DEVICES = 28, 12, 8
DAY_NS = 86_400 * NS
LINE = 0.72
RATE, RATE_SPREAD, OVER = 0.1, 1.2, 1.2
INFECTED_RATE, INFECTED_OVER = 0.3, 3.0

Row = dict[str, Any]
Chooser = Callable[[list[Row]], Row | None]


def month(rng: random.Random) -> list[Row]:
    """Return the incidents of a month as rows of the database, oldest first."""
    rows: list[Row] = []
    for source in range(SOURCES):
        true = source == 0
        rate = rng.lognormvariate(math.log(INFECTED_RATE if true else RATE), RATE_SPREAD)
        device = "infected" if true else f"device {rng.randrange(DEVICES)}"
        cause, over = rng.choice(CLASSES[1:]), rng.gauss(INFECTED_OVER if true else OVER, 0.8)
        day = (DAYS / 2 if true else 0.0) + rng.expovariate(rate)
        while day < DAYS:
            level = log_odds(LINE) + max(0.05, rng.gauss(over, 0.5))
            at = int((20_000 + day) * DAY_NS)
            rows.append({
                "id": f"{source} {day:.4f}", "device": device, "mac": device, "cause": cause,
                "opened": at, "updated": at, "score": 1.0 / (1.0 + math.exp(-level)),
                "count": int(3 * 2 ** abs(rng.gauss(over, 1.0))), "speaker": "model",
                "bundle": "", "feedback": "", "true": true,
            })  # fmt: skip
            day += rng.expovariate(rate)
    return sorted(rows, key=lambda r: r["opened"])


def false_told(rows: list[Row], choose: Chooser | None, days: int = DAYS, every: int = 1) -> int:
    """Return how many false incidents are told where one is answered every so many evenings."""
    rows = [dict(row) for row in rows]
    begin = rows[0]["opened"] // DAY_NS * DAY_NS
    covered: dict[tuple[str, str], int] = {}
    known: list[Row] = []
    for day in range(days + 1):
        today = [r for r in rows if (r["opened"] - begin) // DAY_NS == day]
        known += [r for r in today if covered.get((r["device"], r["cause"]), 0) <= r["opened"]]
        one = choose(known) if choose is not None and (day + 1) % every == 0 else None
        if one is not None:
            one["feedback"] = "bad" if one["true"] else "fine"
            if not one["true"]:
                until = begin + (day + 1) * DAY_NS + HOLDS["fine"]
                covered[one["device"], one["cause"]] = until
    return sum(not r["true"] for r in known)


def asked(known: list[Row]) -> Row | None:
    """Answer what is asked about first."""
    return next(iter(to_ask(known, {"": LINE}, 1)), None)


def latest(known: list[Row]) -> Row | None:
    """Answer the latest one."""
    left = [r for r in known if not r["feedback"]]
    return max(left, key=lambda r: r["updated"], default=None)


def any_one(rng: random.Random) -> Chooser:
    """Return who answers at random."""

    def choose(known: list[Row]) -> Row | None:
        left = [r for r in known if not r["feedback"]]
        return rng.choice(left) if left else None

    return choose


def left_false(months: int, every: int) -> dict[str, float]:
    """Return the mean of the false incidents a month, by who chooses what is answered."""
    sums: dict[str, list[int]] = {}
    for number in range(months):
        rng = random.Random(f"asking/{number}")
        rows = month(rng)
        ways = {"nobody": None, "asked": asked, "the latest": latest, "at random": any_one(rng)}
        for name, choose in ways.items():
            sums.setdefault(name, []).append(false_told(rows, choose, every=every))
    return {name: float(np.mean(told)) for name, told in sums.items()}


def main() -> int:
    """Print the table; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--months", type=int, default=300)
    given = parser.parse_args()
    print("| answers | nobody | asked | the latest | at random |\n|---|---|---|---|---|")
    for name, every in (("one an evening", 1), ("one a week", 7)):
        found = left_false(given.months, every)
        print(f"| {name} | {' | '.join(f'{value:.1f}' for value in found.values())} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

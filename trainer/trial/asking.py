"""`python -m trainer.trial.asking [BUNDLE]`: do the asked incidents' answers teach faster?

A simulated month of a small home, in which harmless events that look like attacks come and go and
one device is infected from the middle on. A person answers one incident each evening: `fine` for
what is harmless, which covers that cause of that device for 30 days, `bad` for the infected
device's. Which one: what `guardian alerts --ask` names first, any at random, or the latest. An
incident that an answer covers is left out; what else would change is not played again. The same is
done with lower lines, which open more that is false, so that there is a choice.
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from guardian import addresses
from guardian import bundle as bundles
from guardian.addresses import Lan
from guardian.alerts import IncidentTable
from guardian.asking import to_ask
from guardian.const import NS, ROWS_PER_CHUNK
from guardian.evidence import log_odds
from guardian.features import FeatureExtractor
from guardian.incidents import Incident
from guardian.sequences import SequenceTable
from guardian.simulate import Infection, Scenario, labels_path, read_labels, simulate
from guardian.simulate.scenario import home
from guardian.wishes import HOLDS
from trainer.trial.bench import Bench
from trainer.trial.taken import take

DAYS = 28
DAY_NS = 86_400 * NS
EVENTS = ("firmware-update", "local-polls", "public-resolver", "outage", "remote-view")
LEFT_OUT = ("camera", "bulb", "phone", "hub")
"""They cost most to simulate."""
SEED = 41
LOWER = (0.0, 1.0, 2.0, 3.0)
"""Log odds off the bundle's line."""
DRAWS = 200
"""Of answering at random."""

Row = dict[str, Any]
Chooser = Callable[[list[Row]], Row | None]


def month(seed: int, days: int = DAYS) -> Scenario:
    """Return a home in which something harmless happens most days; a plug beacons from the middle
    on."""
    rng = random.Random(f"asking/{seed}")
    scenario = home(hours=24.0 * days, profile="test", seed=1_000 + seed)
    devices = tuple(d for d in scenario.devices if d.kind not in LEFT_OUT)
    befalls = [
        Infection(
            rng.choice(EVENTS), rng.choice(devices).name, 86_400.0 * (day + rng.uniform(0.05, 0.9))
        )
        for day in range(days)
    ]
    plug = next(d for d in devices if d.kind == "plug")
    befalls.append(Infection("beacon", plug.name, 86_400.0 * days / 2))
    return replace(scenario, name="month", devices=devices, infections=tuple(befalls))


def lived(bench: Bench, scenario: Scenario) -> dict[float, list[Row]]:
    """Return the incidents of a home as rows of the database, by the line that judged."""
    known = log_odds(bench.ruler.threat_line)
    lines = [1.0 / (1.0 + math.exp(lower - known)) for lower in LOWER]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "home.pcap"
        simulate(scenario, path)
        one = take(path)
        marks = [m for m in read_labels(labels_path(path)) if m.label != "benign"]
    bad = {addresses.usual(m.device) for m in marks}
    begun = min((m.ts for m in marks), default=0)
    lan = Lan(one.stream.lan)
    extractor = FeatureExtractor(lan)
    table = SequenceTable(bench.bundle.window, len(bench.bundle.features))
    tables = {
        line: IncidentTable(replace(bench.ruler, threat_line=line), one.devices, lan)
        for line in lines
    }
    last: dict[float, dict[str, Incident]] = {line: {} for line in lines}
    for begin in range(0, len(one.stream), ROWS_PER_CHUNK):
        part = one.stream.take(slice(begin, begin + ROWS_PER_CHUNK))
        rows = extractor.step(part.slices, part.orig_device, part.resp_device)
        scores = bench.scorer.score(table.step(rows))
        for line, incidents in tables.items():
            for event in incidents.step(part.slices, rows, scores, int(part.slices.told[-1])):
                last[line][event.incident.id] = event.incident
    return {
        line: [_row(i, bad, begun) for i in sorted(found.values(), key=lambda i: i.opened)]
        for line, found in last.items()
    }


def _row(i: Incident, bad: set[str], begun: int) -> Row:
    return {
        "id": i.id, "device": i.device.mac, "mac": i.device.mac, "cause": i.cause,
        "opened": i.opened, "updated": i.updated, "score": i.score, "count": i.count,
        "speaker": i.speaker, "bundle": "", "feedback": "",
        "true": i.device.mac in bad and i.opened >= begun,
    }  # fmt: skip


def false_told(rows: list[Row], choose: Chooser | None, days: int = DAYS) -> int:
    """Return how many false incidents come where one is answered each evening."""
    rows = [dict(row) for row in rows]
    begin = rows[0]["opened"] // DAY_NS * DAY_NS
    covered: dict[tuple[str, str], int] = {}
    known: list[Row] = []
    for day in range(days + 1):
        today = [r for r in rows if (r["opened"] - begin) // DAY_NS == day]
        known += [r for r in today if covered.get((r["device"], r["cause"]), 0) <= r["opened"]]
        one = choose(known) if choose is not None else None
        if one is not None:
            one["feedback"] = "bad" if one["true"] else "fine"
            if not one["true"]:
                until = begin + (day + 1) * DAY_NS + HOLDS["fine"]
                covered[one["device"], one["cause"]] = until
    return sum(not r["true"] for r in known)


def main() -> int:
    """Print how many false incidents each way of answering leaves; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("models/default"))
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--days", type=int, default=DAYS)
    given = parser.parse_args()
    bench = Bench.of(bundles.load(given.bundle))
    for line, rows in lived(bench, month(given.seed, given.days)).items():
        print(told(rows, line, given.days))
    return 0


def told(rows: list[Row], line: float, days: int) -> str:
    """Return what each way of answering leaves, as sentences."""
    false = [r for r in rows if not r["true"]]
    pairs = len({(r["device"], r["cause"]) for r in false})
    out = (
        f"line {line:.3f}: {len(rows)} incidents in {days} days, {len(false)} false, of {pairs} "
        f"devices and causes: {dict(Counter(r['cause'] for r in false))}"
    )
    if not false:
        return out

    def asked(known: list[Row]) -> Row | None:
        return next(iter(to_ask(known, {"": line}, 1)), None)

    def latest(known: list[Row]) -> Row | None:
        left = [r for r in known if not r["feedback"]]
        return max(left, key=lambda r: r["updated"], default=None)

    def at_random(rng: random.Random) -> Chooser:
        def choose(known: list[Row]) -> Row | None:
            left = [r for r in known if not r["feedback"]]
            return rng.choice(left) if left else None

        return choose

    drawn = [false_told(rows, at_random(random.Random(k)), days) for k in range(DRAWS)]
    return out + (
        f"; told where one is answered each evening: asked {false_told(rows, asked, days)}, the "
        f"latest {false_told(rows, latest, days)}, at random {np.mean(drawn):.1f} "
        f"({np.quantile(drawn, 0.05):.0f} to {np.quantile(drawn, 0.95):.0f})"
    )


if __name__ == "__main__":
    raise SystemExit(main())

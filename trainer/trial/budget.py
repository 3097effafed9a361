"""`python -m trainer.trial.budget [BUNDLE]`: what the week's limit costs in detection.

Every infection of the simulator and every labelled capture of an infected device goes through the
gateway's stages once with a week that is always full, the worst case. Three things become of the
first true incident: it is told at once (high severity is), later (it becomes so), or never while
the capture lasts. How often a week is full follows from the false incidents of the home, each of
which takes its place for seven days: Erlang's loss formula, whatever their spacing. What the limit
costs is the product; --write puts the table between the marks of a page.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from guardian import addresses
from guardian import bundle as bundles
from guardian.addresses import Lan
from guardian.alerts import AlertSettings, IncidentTable
from guardian.const import NS, ROWS_PER_CHUNK
from guardian.features import FeatureExtractor
from guardian.incidents import IncidentEvent
from guardian.lifecycle import FOREVER
from guardian.sequences import SequenceTable
from guardian.simulate import labels_path, read_labels, simulate
from guardian.simulate.scenario import INFECTIONS, MORE_INFECTIONS, TEST_SEED, home
from guardian.week import FALSE_A_WEEK, SILENT, full
from trainer.trial.bench import Bench
from trainer.trial.grafts import INFECTED_AT_H, OTHER_HOURS, SIMULATED_HOURS
from trainer.trial.page import filled
from trainer.trial.subjects import ATTACK, subjects
from trainer.trial.taken import Taken, take

BUDGETS = (1, 2, 7, 0)
DEVICES = 8
"""Of the home that the table is for: as many as the simulated ones have."""
SEEDS = (1, 2)
BLOCK = "budget"

AT_ONCE, LATER, NEVER, UNFOUND = "at once", "later", "never", "not found"


@dataclass(frozen=True)
class Fate:
    """What becomes of the first true incident of an infected device in a week that is full."""

    name: str
    what: str
    cause: str = ""
    later_s: float = 0.0
    """From its opening to the first word about the device."""


def fate(name: str, bench: Bench, one: Taken, infected: str, begun: int) -> Fate:
    """Return the fate of an infected device by its key, from its first malicious packet on, ns."""
    events = [
        e for e in _events(bench, one)
        if (e.incident.device.mac or f"ip:{e.incident.device.ip}") == infected
        and e.incident.opened >= begun
    ]  # fmt: skip
    found = [e.incident for e in events if e.change in ("opened", "held")]
    if not found:
        return Fate(name, UNFOUND)
    first = min(found, key=lambda i: i.opened)
    told = [e.incident.updated for e in events if e.change == "opened"]
    if not told:
        return Fate(name, NEVER, first.cause)
    later = max(0.0, (min(told) - first.opened) / NS)
    return Fate(name, LATER if later > 1.0 else AT_ONCE, first.cause, later)


def _events(bench: Bench, one: Taken) -> Iterator[IncidentEvent]:
    """Yield what a home tells whose week is always full."""
    stream = one.stream
    lan = Lan(stream.lan)
    extractor = FeatureExtractor(lan)
    table = SequenceTable(bench.bundle.window, len(bench.bundle.features))
    incidents = IncidentTable(bench.ruler, one.devices, lan, AlertSettings(a_week=1))
    arps = list(one.arps)
    for begin in range(0, len(stream), ROWS_PER_CHUNK):
        part = stream.take(slice(begin, begin + ROWS_PER_CHUNK))
        while arps and arps[0].told <= int(part.slices.told[0]):
            incidents.week.told = [FOREVER]
            yield from incidents.arp(arps.pop(0))
        incidents.week.told = [FOREVER]
        rows = extractor.step(part.slices, part.orig_device, part.resp_device)
        scores = bench.scorer.score(table.step(rows))
        yield from incidents.step(part.slices, rows, scores, int(part.slices.told[-1]))
    for finding in arps:
        incidents.week.told = [FOREVER]
        yield from incidents.arp(finding)


def simulated(bench: Bench) -> Iterator[Fate]:
    """Yield the fates of the simulator's infections."""
    for name in (*INFECTIONS, *MORE_INFECTIONS):
        for seed in SEEDS:
            hours = SIMULATED_HOURS.get(name, OTHER_HOURS)
            scenario = home(name, profile="test", hours=hours, at_hours=INFECTED_AT_H,
                            seed=TEST_SEED + seed)  # fmt: skip
            few = tuple(d for d in scenario.devices if d.kind in ("camera", "phone", "hub"))
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "home.pcap"
                simulate(replace(scenario, devices=few), path)
                marks = [m for m in read_labels(labels_path(path)) if m.label != "benign"]
                begun = min(m.ts for m in marks)
                yield fate(name, bench, take(path), addresses.usual(marks[0].device), begun)


def captures(bench: Bench, data: Path) -> Iterator[Fate]:
    """Yield the fates of the infected devices of captures, as they were recorded."""
    for subject in subjects():
        for path in subject.paths(data) if subject.kind == ATTACK else ():
            mac = "" if subject.infected.startswith("ip:") else subject.infected
            one = take(path, lan=subject.lan, judge=subject.judge, infected=mac)
            slices, bad = one.stream.slices, np.flatnonzero(one.stream.label > 0)
            if subject.infected:
                begun = int(slices.ts.min() if one.malice is None else one.malice[0])
                yield fate(subject.name, bench, one, subject.infected, begun)
            elif len(bad):
                begun = int(slices.ts[bad].min())
                sides = (one.stream.orig_device[bad], one.stream.resp_device[bad])
                side = sides[0] if (sides[0] >= 0).any() else sides[1]
                if (side >= 0).any():
                    device = one.key(int(np.bincount(side[side >= 0]).argmax()))
                    yield fate(subject.name, bench, one, device, begun)


def table(fates: dict[str, list[Fate]], rates: dict[str, float]) -> str:
    """Return the tables; `rates` are false incidents a week of the home, by what says so."""
    lines = ["| in a full week | infected | found | told at once | later (median) | never |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for kind, some in fates.items():
        many = Counter(f.what for f in some)
        late = [f.later_s for f in some if f.what == LATER]
        after = f" ({float(np.median(late)) / 60:.1f} min)" if late else ""
        lines.append(
            f"| {kind} | {len(some)} | {len(some) - many[UNFOUND]} | {many[AT_ONCE]} | "
            f"{many[LATER]}{after} | {many[NEVER]} |"
        )
    silent = sorted({f"{f.name} ({f.cause})" for some in fates.values() for f in some
                     if f.what == NEVER})  # fmt: skip
    lines += ["", f"Never told there: {', '.join(silent) or 'none'}.", ""]
    head = "| a week | " + " | ".join(f"{name}: full, lost" for name in rates) + " |"
    lines += [head, "|---|" + "---|" * len(rates)]
    every = [f for some in fates.values() for f in some if f.what != UNFOUND]
    lost = sum(f.what == NEVER for f in every) / max(1, len(every))
    for budget in BUDGETS:
        cells = [
            f"{100 * full(budget, rate):.0f} %, {100 * full(budget, rate) * lost:.0f} %"
            for rate in rates.values()
        ]
        lines.append(f"| {budget or 'no limit'} | {' | '.join(cells)} |")
    sys.stderr.write(f"guardian/week.py: SILENT {SILENT}, here {lost:.2f}\n")
    return "\n".join(lines)


def main() -> int:
    """Print the table; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("models/default"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rates", type=Path, default=Path("docs/detection.json"),
                        help="the report with the false incidents of a device-day")  # fmt: skip
    parser.add_argument("--write", type=Path, help="put it between the marks of this page")
    given = parser.parse_args()
    bench = Bench.of(bundles.load(given.bundle))
    fates: dict[str, list[Fate]] = {}
    for kind, some in (("captures", captures(bench, given.data)), ("simulated", simulated(bench))):
        for one in some:
            fates.setdefault(kind, []).append(one)
            sys.stderr.write(f"{one.name}: {one.what} {one.cause} {one.later_s:.0f}\n")
    every = json.loads(given.rates.read_text(encoding="utf-8"))["rates"]["all"]
    a_week = 7 * DEVICES
    rate = a_week * every["gateway a day"]
    sys.stderr.write(f"guardian/week.py: FALSE_A_WEEK {FALSE_A_WEEK}, here {rate:.1f}\n")
    made = table(fates, {f"{rate:.1f} false a week": rate, "one false a week": 1.0})
    about = bench.bundle
    made += f"\n\nBundle {about.name} {about.version} ({about.digest[:12]})."
    print(made)
    if given.write is not None:
        page = given.write.read_text(encoding="utf-8")
        given.write.write_text(filled(page, BLOCK, made), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""`python -m trainer.trial.born [BUNDLE]`: who is infected from the first minute, or poisoned.

Each infection of the simulator befalls a camera three times: one that is settled here; one that
comes new, is set up and is infected a minute later, so that it learns nothing but its infection;
and one that is settled and has the worst past that a device can have taught (every row of it as
sure an attack as can be, none of which opened an incident). Found is what opens an incident on it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from guardian import addresses
from guardian import bundle as bundles
from guardian.addresses import Lan
from guardian.alerts import AlertSettings, IncidentTable
from guardian.const import NS, ROWS_PER_CHUNK
from guardian.evidence import LIMIT, EvidenceSettings, Past
from guardian.features import FeatureExtractor
from guardian.sequences import SequenceTable
from guardian.simulate import labels_path, read_labels, simulate
from guardian.simulate.scenario import INFECTIONS, MORE_INFECTIONS, TEST_SEED, home
from trainer.trial.bench import Bench
from trainer.trial.grafts import INFECTED_AT_H, OTHER_HOURS, SIMULATED_HOURS
from trainer.trial.taken import Taken, take

SETTLED, BORN, POISONED = "settled", "born infected", "poisoned"
JOINS_S = 600.0
"""When the new device comes; it is infected a minute later."""
SEED = 3


def seconds(
    bench: Bench, one: Taken, device: str, begun: int, settings: EvidenceSettings, past: Past | None
) -> float | None:
    """Return the time from the first malicious packet to an incident on the device, s."""
    stream, lan = one.stream, Lan(one.stream.lan)
    extractor = FeatureExtractor(lan)
    table = SequenceTable(bench.bundle.window, len(bench.bundle.features))
    incidents = IncidentTable(bench.ruler, one.devices, lan, AlertSettings(settings))
    if past is not None:
        incidents.homes.get(device, int(stream.slices.told[0])).suspicion.threat_past = past
    arps = list(one.arps)
    for begin in range(0, len(stream), ROWS_PER_CHUNK):
        part = stream.take(slice(begin, begin + ROWS_PER_CHUNK))
        rows = extractor.step(part.slices, part.orig_device, part.resp_device)
        scores = bench.scorer.score(table.step(rows))
        now = int(part.slices.told[-1])
        events = []
        while arps and arps[0].told <= now:
            events += incidents.arp(arps.pop(0))
        events += incidents.step(part.slices, rows, scores, now)
        for event in events:
            i = event.incident
            if event.change == "opened" and i.device.mac == device and i.opened >= begun:
                return (i.opened - begun) / NS
    return None


def worst(begin: int) -> Past:
    """Return a past of a thousand rows as sure as can be."""
    out = Past()
    for k in range(1_000):
        out.add(LIMIT, begin - 7_200 * NS + k, tainted=False)
    out.add(LIMIT, begin, tainted=False)
    return out


def trials(bench: Bench) -> Iterator[tuple[str, dict[str, float | None]]]:
    """Yield each infection with the seconds until it was found, None where it was not."""
    for name in (*INFECTIONS, *MORE_INFECTIONS):
        found: dict[str, float | None] = {}
        for how in (SETTLED, BORN):
            new = how == BORN
            hours = SIMULATED_HOURS.get(name, OTHER_HOURS)
            at = (JOINS_S + 60.0) / 3_600 if new else INFECTED_AT_H
            scenario = home(name, profile="test", hours=hours, at_hours=at, seed=TEST_SEED + SEED)
            few = tuple(
                replace(d, joins=JOINS_S) if new and d.kind == "camera" else d
                for d in scenario.devices
                if d.kind in ("camera", "phone", "hub")
            )
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "home.pcap"
                simulate(replace(scenario, devices=few), path)
                marks = [m for m in read_labels(labels_path(path)) if m.label != "benign"]
                one = take(path)
            device, begun = addresses.usual(marks[0].device), min(m.ts for m in marks)
            settings = EvidenceSettings() if new else EvidenceSettings(learning_s=0.0)
            found[how] = seconds(bench, one, device, begun, settings, None)
            if not new:
                past = worst(int(one.stream.slices.told[0]))
                found[POISONED] = seconds(bench, one, device, begun, settings, past)
        yield name, found


def main() -> int:
    """Print the table; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("models/default"))
    given = parser.parse_args()
    bench = Bench.of(bundles.load(given.bundle))
    order = (SETTLED, BORN, POISONED)
    print("| infection | " + " | ".join(order) + " |\n|---|---|---|---|")
    every = []
    for name, found in trials(bench):
        every.append(found)
        cells = ["not found" if (s := found[how]) is None else f"{s:.0f} s" for how in order]
        print(f"| {name} | {' | '.join(cells)} |")
        sys.stdout.flush()
    for how in order:
        hits = [s for found in every if (s := found[how]) is not None]
        print(f"{how}: {len(hits)} of {len(every)} found, after {np.median(hits or [0]):.0f} s "
              "(median)")  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

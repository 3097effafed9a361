"""`python -m trainer.trial.weeks [BUNDLE] [--data DIR] [--teach]`: how often drift speaks.

Pairs of stretches are held to each other as guardian/drift.py does it, by PSI over the bundle's
cuts: a device's stretch beside its next one, where nothing changed (what speaks is false), and
beside what it would do after a change: the same kind of device with other draws of the same maker
(new firmware), that of another maker, and itself with what a device of another kind does on top
(a new app). Simulated homes live two days, each a stretch, which say less than weeks and so
differ more, without cameras and phones, which cost most. Real captures are too short for two weeks:
of their benign devices the first half of the time stands beside the second, which may be day beside
night, and beside the second half of every other device.

With --teach only homes and captures that may teach a bundle: thresholds are chosen on these.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from guardian import bundle as bundles
from guardian.addresses import Lan
from guardian.const import NS
from guardian.drift import BINS, MUCH, ROWS, SEVERAL, Cuts, psi
from guardian.features import FeatureExtractor
from guardian.simulate import simulate
from guardian.simulate.scenario import KINDS, DeviceSpec, Scenario, home
from guardian.simulate.training import EPOCH
from guardian.tables import I32, I64
from trainer import catalogue
from trainer.streams import Stream, graft
from trainer.trial.taken import Taken, take

STRETCHES, DAYS = 2, 1
HEAVY = ("camera", "phone")
LIVED_H = 24.0 * STRETCHES * DAYS + 7
_MINUTE_NS = 60 * NS

SHORT = ("exposed", "sentinel", "nmap", "njrat", "joy")
"""Networks whose captures are strangers alone, or minutes."""

SAME, DRAW, MAKER, APP = "nothing", "new firmware", "another maker", "a new app"
HALVES, OTHER = "nothing (recorded)", "another device (recorded)"
LEAST = (3, 5, 8, 12)
OVER = (0.1, 0.25, 0.5, 1.0)
"""What is tried: features at least, PSI beyond."""


@dataclass(frozen=True)
class Stretch:
    """What a device did in a stretch of time."""

    home: str
    kind: str
    maker: str
    number: int
    counts: I32
    """int32[F, BINS], one calm row of each minute."""

    @property
    def minutes(self) -> int:
        return int(self.counts[0].sum())


Pair = tuple[str, Stretch, Stretch]


def counted(stream: Stream, device: int, cuts: Cuts, borders: I64) -> list[I32]:
    """Return counts of a device between borders (ns), one row of each minute drawn by lot."""
    stream = stream.take((stream.orig_device == device) | (stream.resp_device == device))
    sides = [np.where(s == device, s, -1) for s in (stream.orig_device, stream.resp_device)]
    rows = FeatureExtractor(Lan(stream.lan)).step(stream.slices, sides[0], sides[1])
    told = stream.slices.told[rows.row]
    mine = np.flatnonzero((rows.device == device) & (stream.label[rows.row] <= 0))
    mine = np.random.default_rng(device).permutation(mine)
    _, first = np.unique(told[mine] // _MINUTE_NS, return_index=True)
    chosen = np.sort(mine[first])
    out = []
    for begin, end in itertools.pairwise(borders.tolist()):
        part = chosen[(told[chosen] >= begin) & (told[chosen] < end)]
        counts = np.zeros((len(cuts.names), BINS), dtype=np.int32)
        for row in part.tolist():
            counts[np.arange(len(counts)), cuts.bins(rows.x[row])] += 1
        out.append(counts)
    return out


def homes(teach: bool) -> Iterator[tuple[Scenario, str]]:
    """Yield homes with the maker of their devices."""
    specs = [kind for kind in KINDS if kind not in HEAVY]
    for number, maker in enumerate("AAB" if teach else "CCD"):
        if teach:
            devices = tuple(DeviceSpec(kind, f"w-{kind}", maker) for kind in specs)
            yield Scenario(
                f"weeks {maker}{number}", 700 + number, EPOCH + number * 86_400, LIVED_H,
                devices, profile="train",
            ), maker  # fmt: skip
        else:
            profile = "demo" if maker == "C" else "test"
            one = home(hours=LIVED_H, profile=profile, seed=900 + number)  # type: ignore[arg-type]
            few = tuple(d for d in one.devices if d.kind not in HEAVY)
            yield replace(one, name=f"weeks {maker}{number}", devices=few), maker


def simulated(teach: bool, cuts: Cuts) -> list[Pair]:
    """Return the pairs of simulated homes."""
    lived: list[list[Stretch]] = []
    pairs: list[Pair] = []
    for scenario, maker in homes(teach):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "home.pcap"
            simulate(scenario, path)
            one = take(path)
        begin = int(scenario.start * NS) + 6 * 3_600 * NS
        borders = begin + DAYS * 86_400 * NS * np.arange(STRETCHES + 1)
        known = {spec.kind: k for spec in scenario.devices if (k := _index(one, spec.name)) >= 0}
        for kind, device in known.items():
            found = counted(one.stream, device, cuts, borders)
            lived.append([Stretch(scenario.name, kind, maker, k, c) for k, c in enumerate(found)])
        kinds = list(known)
        for k, kind in enumerate(kinds):
            other = kinds[(k + 1) % len(kinds)]
            later = one.stream.take(one.stream.slices.told >= borders[-2])
            mixed = graft(one.stream, known[kind], later, known[other], 30 * NS)
            counts = counted(mixed, known[kind], cuts, borders[-2:])[0]
            before = lived[-len(kinds) + k][STRETCHES - 2]
            pairs.append((APP, before, replace(before, number=STRETCHES - 1, counts=counts)))
        print(f"{scenario.name}: {len(known)} devices", flush=True)
    for weeks in lived:
        pairs += [(SAME, a, b) for a, b in itertools.pairwise(weeks)]
    for one_, two in itertools.permutations(lived, 2):
        a, b = one_[0], two[1]
        if a.kind == b.kind and a.home != b.home:
            pairs.append((DRAW if a.maker == b.maker else MAKER, a, b))
    return pairs


def _index(one: Taken, name: str) -> int:
    return next((d.index for d in one.devices.devices() if d.name == name), -1)


def recorded(teach: bool, data: Path, cuts: Cuts) -> list[Pair]:
    """Return the two halves of each benign device of real captures."""
    uses = ("train", "calibrate") if teach else ("evaluate",)
    out: list[Pair] = []
    for source in itertools.chain.from_iterable(map(catalogue.of, uses)):
        if source.group.startswith(SHORT):
            continue
        for path in sorted(data.glob(source.pattern)):
            one = take(path, lan=source.lan, judge=source.judge)
            for device in np.unique(one.stream.orig_device[one.stream.orig_device >= 0]).tolist():
                told = one.stream.slices.told[
                    (one.stream.orig_device == device) & (one.stream.label == 0)
                ]
                if len(told) < 2 * ROWS:
                    continue
                middle = told[0] + (told[-1] - told[0]) // 2
                borders = np.array([told[0], middle, told[-1] + 1])
                a, b = (
                    Stretch(f"{source.name} {one.key(device)}", "", "", k, c)
                    for k, c in enumerate(counted(one.stream, device, cuts, borders))
                )
                days = (told[-1] - told[0]) / NS / 86_400
                if min(a.minutes, b.minutes) >= ROWS:
                    out.append((HALVES, a, b))
                    over = much(cuts, a, b)
                    said = f"{a.minutes} and {b.minutes} minutes, {over} features"
                    speaks = "; speaks" if over >= SEVERAL else ""
                    print(f"{a.home}: {days:.1f} days, {said}{speaks}", flush=True)
    halves = list(out)
    out += [(OTHER, a, b) for (_, a, _), (_, _, b) in itertools.permutations(halves, 2)]
    return out


def much(cuts: Cuts, a: Stretch, b: Stretch) -> int:
    """Return how many features drifted much."""
    return int((np.where(cuts.judged, psi(a.counts, b.counts), 0.0) > MUCH).sum())


def table(pairs: Iterable[Pair], cuts: Cuts) -> str:
    """Return how many pairs of each kind speak, by the features asked and the PSI beyond."""
    values: dict[str, list[np.ndarray]] = {}
    for kind, a, b in pairs:
        if min(a.minutes, b.minutes) >= ROWS:
            found = np.where(cuts.judged, psi(a.counts, b.counts), 0.0)
            values.setdefault(kind, []).append(found)
    lines = [
        "| what changed | pairs | " + " | ".join(f"{k} over {m:g}" for m in OVER for k in LEAST)
    ]
    lines[0] += " |"
    lines.append("|---|---|" + "---|" * (len(OVER) * len(LEAST)))
    for kind, rows in values.items():
        x = np.array(rows)
        cells = [str(int(((x > m).sum(axis=1) >= k).sum())) for m in OVER for k in LEAST]
        lines.append(f"| {kind} | {len(x)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Print the table; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("models/default"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--teach", action="store_true", help="what may choose a threshold")
    parser.add_argument("--recorded", action="store_true", help="no simulated homes")
    given = parser.parse_args()
    bundle = bundles.load(given.bundle)
    cuts = Cuts.of(bundle.usual, bundle.features)
    real = recorded(given.teach, given.data, cuts)
    print(table(real, cuts), flush=True)
    if not given.recorded:
        print(table(simulated(given.teach, cuts), cuts))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

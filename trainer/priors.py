"""What devices of a class do at most in their first day: the prior of a bundle, by extreme values.

Each benign device of the captures and simulated homes that may teach or calibrate is counted by the
gateway's own code (guardian/firstday.py) up to ten minutes, an hour, six hours and a day. A level
is what one device in OF exceeds if the counts above their 90 % quantile fall off as a power does
(exponentially on the log scale; Hill's estimate, drawn towards what is usual where few are above).
That of a class is then drawn towards all devices', the fewer of it there were the nearer. Phones
and computers that were only simulated get no stricter one than all devices: people are livelier
than a simulator.

`python -m trainer.priors BUNDLE --data DATA` draws it for a bundle that is there already, `--write`
puts it into its manifest, `--check SEED` counts who of other simulated homes exceeds it.
"""

from __future__ import annotations

import math
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import click
import numpy as np

from guardian import bundle as bundles
from guardian.addresses import Lan
from guardian.const import NS, ROWS_PER_CHUNK
from guardian.deviceclass import CLASSES, THING
from guardian.errors import BundleError, GuardianError
from guardian.evidence import EvidenceSettings
from guardian.firstday import FLOORS, LEAST_NAMED, Day
from guardian.prior import (
    CAME,
    PHASES,
    STATISTICS,
    THERE,
    WINDOWS_S,
    Levels,
    Prior,
    as_manifest,
    bounded,
)
from guardian.routers import Address
from guardian.seen import see
from guardian.simulate import simulate, training_homes
from guardian.simulate.scenario import LOOKALIKES
from guardian.tables import FeatureRows, Scores
from guardian.witness import joins
from trainer import catalogue, pack
from trainer.recipe import HELD_OUT_SEED, classes_of
from trainer.streams import Stream, read

Echo = Callable[[str], None]

OF = 1_000
"""One device in so many exceeds a level of a statistic."""
HOMES = 200
"""Simulated homes, of the seed whose first ones calibrate; benign events befall them alone."""
LONGEST_H = 30.0
"""Longer ones are left out: they take long and have few devices."""
TAIL = 0.1
"""Share of devices that the tail is drawn from."""
USUAL, COUNTED_AS = 0.7, 4.0
"""A tail's usual index, and as how many devices above it counts."""
SHRINK = 20.0
"""Devices of a class at which its own level and all devices' count the same."""
SETTLED_S = EvidenceSettings().learning_s
LEAST_PART = 0.5
"""Part of a window that a device must have been seen for, so that it counts there; of the first
window none, since a device that is seen briefly is one, too."""


@dataclass
class Life:
    """What one device had counted at the end of each window; None where it was not seen so long."""

    group: str
    kind: str
    phase: str = THERE
    counts: list[tuple[int, ...] | None] = field(default_factory=list)
    named: list[bool] = field(default_factory=list)
    """Whether it was known to ask for names by then."""


def lives(group: str, stream: Stream) -> list[Life]:
    """Return the first day of each device of a stream, up to its first malicious connection."""
    own = np.flatnonzero(stream.orig_device >= 0)
    bad = set(stream.slices.uid[stream.label > 0].tolist())
    days: dict[int, Day] = {}
    out: dict[int, Life] = {}
    ends: dict[int, int] = {}
    peers: dict[int, set[Address]] = defaultdict(set)
    over: set[int] = set()
    for k in range(0, len(own), ROWS_PER_CHUNK):
        part = stream.take(own[k : k + ROWS_PER_CHUNK])
        for one in see(part.slices, _rows(part), _silent(len(part)), Lan(stream.lan)):
            device = one.device
            if device not in days:
                days[device], out[device] = Day(), Life(group, stream.kinds.get(device, THING))
                days[device].first = one.told
            day, life = days[device], out[device]
            if device in over:
                continue
            _until(day, life, one.told)
            if len(life.counts) == len(WINDOWS_S) or part.slices.uid[one.place] in bad:
                over.add(device)
                continue
            if joins(one, one.told - day.first):
                life.phase = CAME
            ends[device] = one.told
            new = one.peer not in peers[device]
            peers[device].add(one.peer)
            if one.clue:
                day.came = life.phase == CAME
                day.take(one, new and one.told - day.first >= SETTLED_S * NS)
    for device, end in ends.items():
        day, life = days[device], out[device]
        for window in WINDOWS_S[len(life.counts) :]:
            long = window == WINDOWS_S[0] or end - day.first >= LEAST_PART * window * NS
            _snap(day, life, long and device not in over)
    return [out[device] for device in ends]


def _rows(part: Stream) -> FeatureRows:
    """Return rows without features of slices that devices of the home opened."""
    n = len(part)
    x = np.zeros((n, 0), dtype=np.float32)
    return FeatureRows(x, part.orig_device, np.arange(n), np.ones(n, dtype=np.bool_))


def _silent(n: int) -> Scores:
    """Return scores that say nothing: what is counted rests on no model."""
    none = np.zeros(n, dtype=np.float32)
    return Scores(none, none, np.zeros(n, np.int8), np.zeros((n, 2), np.float32), none[:, None])


def _until(day: Day, life: Life, told: int) -> None:
    """Note the counts of the windows that are over."""
    while len(life.counts) < len(WINDOWS_S):
        if told <= day.first + WINDOWS_S[len(life.counts)] * NS:
            break
        _snap(day, life, True)


def _snap(day: Day, life: Life, full: bool) -> None:
    life.counts.append(tuple(day.counts) if full else None)
    life.named.append(day.named >= LEAST_NAMED)


def gathered(streams: Iterable[tuple[str, Stream]]) -> list[Life]:
    """Return the lives of all devices of streams that come with their group."""
    return [life for group, stream in streams for life in lives(group, stream)]


def captured(data: Path, echo: Echo) -> Iterator[tuple[str, Stream]]:
    """Yield the captures that may teach or calibrate. Raises InputError where one is not there."""
    for use in ("train", "calibrate"):
        for source in catalogue.of(use):
            for _, stream in catalogue.streams(source, data):
                yield source.group, stream
            echo(f"{source.name} counted")


def homes(count: int, seed: int, echo: Echo) -> Iterator[tuple[str, Stream]]:
    """Yield simulated homes of a seed."""
    with tempfile.TemporaryDirectory() as folder:
        for number, home in enumerate(training_homes(count, seed), 1):
            if home.hours > LONGEST_H:
                continue
            benign = tuple(one for one in home.infections if one.kind in LOOKALIKES)
            quiet = replace(home, infections=benign)
            path = Path(folder) / "home.pcap"
            simulate(quiet, path)
            yield "simulated", read(path, classes=classes_of(quiet))
            if number % 10 == 0:
                echo(f"simulated homes: {number} of {count}")


# --- levels ---------------------------------------------------------------------


def tail_level(values: Sequence[float], floor: float, of: int) -> float:
    """Return the value that one in `of` exceeds, at least `floor`."""
    v = np.asarray(values, dtype=np.float64)
    at = max(floor, float(np.quantile(v, 1.0 - TAIL)) if len(v) else floor)
    above = np.log(v[v > at] / at)
    k = len(above)
    index = (float(above.sum()) + COUNTED_AS * USUAL) / (k + COUNTED_AS)
    share = (k + 1.0) / (len(v) + 2.0)
    return float(at * max(1.0, of * share) ** index)


def drawn(every: Sequence[Life], of: int = OF) -> Prior:
    """Return the prior that lives give."""
    levels = {}
    for phase in PHASES:
        some = [life for life in every if life.phase == phase]
        whole = _windows(some, of)
        for kind in CLASSES:
            mine = [life for life in some if life.kind == kind]
            levels[kind, phase] = _class(kind, mine, whole, of)
    return Prior(of, bounded(levels))


def _class(kind: str, mine: Sequence[Life], whole: Sequence[Levels], of: int) -> tuple[Levels, ...]:
    own = _windows(mine, of)
    own_way = kind == THING or any(life.group != "simulated" for life in mine)
    rows = []
    for window in range(len(WINDOWS_S)):
        row = []
        for k in range(len(STATISTICS)):
            n = len(_values(mine, window, k))
            part = n / (n + SHRINK)
            logs = math.log(own[window][k]), math.log(whole[window][k])
            level = math.exp(part * logs[0] + (1.0 - part) * logs[1])
            row.append(level if own_way else max(level, whole[window][k]))
        rows.append(row)
    rising = np.maximum.accumulate(np.array(rows), axis=0)
    return tuple(tuple(_rounded(value) for value in row) for row in rising.tolist())


def _windows(some: Sequence[Life], of: int) -> list[Levels]:
    return [
        tuple(tail_level(_values(some, window, k), FLOORS[k], of) for k in range(len(STATISTICS)))
        for window in range(len(WINDOWS_S))
    ]


def _values(some: Sequence[Life], window: int, k: int) -> list[int]:
    return [
        counts[k]
        for life in some
        if (counts := life.counts[window]) is not None and life.named[window]
    ]


def _rounded(value: float) -> float:
    """Return a level with two digits, upwards: more would claim too much."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return round(math.ceil(value / unit - 1e-9) * unit, 3)


def write(folder: Path, prior: Prior) -> str:
    """Put a prior into a bundle's manifest; return the new digest.

    Raises BundleError where the bundle is signed: whoever has the key signs it again.
    """
    return pack.amend(folder, "prior", lambda found: found.update(prior=as_manifest(prior)))


def of_recipe(seed: int, data: Path, count: int, echo: Echo) -> tuple[Prior, list[Life]]:
    """Return the prior that goes with a recipe's seed, and the lives that it rests on."""
    every = [*gathered(captured(data, echo)), *gathered(homes(count, seed + HELD_OUT_SEED, echo))]
    return drawn(every), every


def exceeding(prior: Prior, every: Iterable[Life]) -> list[tuple[Life, str]]:
    """Return who exceeds a prior in some window, and in what."""
    return [
        (life, name)
        for life in every
        for k, name in enumerate(STATISTICS)
        if any(
            counts is not None and named and counts[k] > level[k]
            for counts, named, level in zip(
                life.counts, life.named, prior.windows(life.kind, life.phase), strict=True
            )
        )
    ]


def table(prior: Prior, every: Sequence[Life]) -> str:
    """Return the levels as a table."""
    lines = ["| class | devices | " + " | ".join(STATISTICS) + " |"]
    lines.append("|---|---|" + "---|" * len(STATISTICS))
    for (kind, phase), windows in prior.levels.items():
        n = sum((life.kind, life.phase) == (kind, phase) for life in every)
        cells = (" / ".join(f"{v:,.0f}" for v in column) for column in zip(*windows, strict=True))
        lines.append(f"| {kind}, {phase} | {n} | {' | '.join(cells)} |")
    return "\n".join(lines)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), help="Folder of captures.")
@click.option("--homes", "count", default=HOMES, show_default=True, help="Simulated homes.")
@click.option("--write", "wanted", is_flag=True, help="Put the prior into the manifest.")
@click.option("--check", type=int, help="Hold simulated homes of this seed to the bundle's prior.")
def main(bundle: Path, data: Path | None, count: int, wanted: bool, check: int | None) -> None:
    """Draw what devices do at most in their first day, for BUNDLE."""

    def echo(text: str) -> None:
        click.echo(text, err=True)

    try:
        loaded = bundles.load(bundle)
        if check is not None:
            if loaded.prior is None:
                raise BundleError(f"{bundle} has no prior: draw one with --write")
            every = gathered(homes(count, check, echo))
            found = exceeding(loaded.prior, every)
            for life, name in found:
                click.echo(f"a {life.kind}, {life.phase}: {name}")
            click.echo(f"{len(every)} devices, {len({id(life) for life, _ in found})} exceed")
            return
        if data is None:
            raise BundleError("give the folder of captures with --data")
        prior, every = of_recipe(int(loaded.manifest["recipe"]["seed"]), data, count, echo)
        click.echo(table(prior, every))
        if wanted:
            click.echo(f"written; the digest is {write(bundle, prior)}")
    except GuardianError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()

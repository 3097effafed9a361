"""Threat lines of their own for classes of devices: what computers and phones do is not what
things do.

Each line is reached by the share of held-out benign sequences of its class by which the bundle's
line was drawn for all, of those that end in a connection that the device opened; and it lies
between that one and the bundle's: the more devices of the class there were, the nearer its own. No
class that was only simulated gets a stricter line than the bundle's; a phone then takes the line
that phones and computers together give, since people do on both what they like.

`python -m trainer.classlines BUNDLE --data DATA` draws them for a bundle that is there already,
`--write` puts them into its manifest, `--claim` judges what they cost.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from guardian import bundle as bundles
from guardian.bundle import Bundle
from guardian.deviceclass import CLASSES, COMPUTER, PHONE, THING
from guardian.errors import BundleError, GuardianError
from guardian.evidence import log_odds
from guardian.featurelist import NAMES
from guardian.scoring import Scorer
from guardian.tables import F32, Sequences
from trainer import calibrate, card, pack
from trainer.calibrate import LEAST_THREAT, THREAT_SHARE
from trainer.recipe import Recipe, held_out
from trainer.rows import Rows

Echo = Callable[[str], None]

INBOUND = NAMES.index("inbound")
GENERAL = (PHONE, COMPUTER)
"""Classes that people put to any use."""
FEWEST = 5
"""Devices of a class under which it takes the bundle's line."""
SHRINK = 10.0
"""Devices at which a class's own line and the bundle's count the same. Rows of one device resemble
each other, so devices are counted."""
LEAST_ROWS = 20
"""Sequences of a device that make it count."""


@dataclass(frozen=True)
class ClassLine:
    """The line of a class and what it rests on."""

    line: float
    """What holds."""
    own: float
    """The line that its sequences alone would give."""
    devices: int
    sequences: int
    real: int
    """How many of these are of captures."""


def drawn(rows: Rows, threat: F32, line: float, share: float) -> dict[str, ClassLine]:
    """Return the line of each class with enough held-out benign devices.

    `line` is the bundle's, which at most `share` of all sequences reach. The class of things takes
    it: what shows nothing of itself is one. Where phones were only simulated and calm, computers
    that were not lend theirs: people are livelier than a simulator.
    """
    out: dict[str, ClassLine] = {}
    for kind in CLASSES:
        found = None if kind == THING else _line((kind,), rows, threat, line, share)
        if found is not None and found.real == 0 and found.own < line:
            both = _line(GENERAL, rows, threat, line, share) if kind == PHONE else None
            found = both if both is not None and both.real > 0 and both.own >= line else None
        if found is not None:
            out[kind] = found
    return out


def _line(
    kinds: Collection[str], rows: Rows, threat: F32, line: float, share: float
) -> ClassLine | None:
    """Return the line that devices of these classes give; None of fewer than FEWEST."""
    opened = rows.x[:, -1, INBOUND] < 0.5
    hit = (rows.label == 0) & rows.clean & opened & np.isin(rows.kind, list(kinds))
    count = np.bincount(rows.instance[hit], minlength=len(rows.names))
    devices = int((count >= LEAST_ROWS).sum())
    if devices < FEWEST:
        return None
    weight = calibrate.source_weights(rows, hit)
    own = max(calibrate.threshold(threat[hit], share, weight), LEAST_THREAT)
    captured = np.array([group != "simulated" for group, _ in rows.names])
    real = int(captured[rows.instance][hit].sum())
    part = devices / (devices + SHRINK)
    level = part * log_odds(own) + (1.0 - part) * log_odds(line)
    return ClassLine(_probability(level), own, devices, int(hit.sum()), real)


def manifest(lines: Mapping[str, ClassLine]) -> dict[str, float]:
    """Return the lines as a manifest has them: rounded, since more would claim too much."""
    return {kind: round(one.line, 4) for kind, one in lines.items()}


def _probability(level: float) -> float:
    return 1.0 / (1.0 + math.exp(-level))


def of_bundle(bundle: Bundle, rows: Rows, share: float) -> dict[str, ClassLine]:
    """Return the class lines of a bundle that is there already, from held-out rows."""
    blank = Sequences.blank(len(rows))
    given = Sequences(rows.x, rows.length, blank.device, blank.row, blank.outbound)
    threat = Scorer(bundle).score(given).threat
    return drawn(rows, threat, bundle.threat_threshold, share)


def write(folder: Path, lines: Mapping[str, float]) -> str:
    """Put lines into a bundle's manifest and onto its card; return the new digest.

    Raises BundleError where the bundle is signed: whoever has the key signs it again.
    """

    def change(found: dict[str, Any]) -> None:
        found["thresholds"]["classes"] = dict(lines)
        said = f"calibrated on {found['thresholds']['calibrated_on']}."
        page = (folder / bundles.CARD).read_text(encoding="utf-8")
        page = re.sub(rf"{re.escape(said)}.*", lambda _: said + card.classes(lines), page, count=1)
        (folder / bundles.CARD).write_text(page, encoding="utf-8")
        found["files"][bundles.CARD] = hashlib.sha256(page.encode("utf-8")).hexdigest()

    return pack.amend(folder, "lines", change)


def claimed(bundle: Path, data: Path, kind: str, part: str) -> str:
    """Return the short table of a bundle where every device is of one class: what its line costs
    at worst, and what somebody gains who says that a thing is a computer."""
    from trainer.trial.bench import Bench  # noqa: PLC0415 - the judges are many
    from trainer.trial.course import HOMES, Course, walk  # noqa: PLC0415
    from trainer.trial.subjects import subjects  # noqa: PLC0415
    from trainer.trial.tables import short  # noqa: PLC0415

    bench = Bench.of(bundles.load(bundle))
    if kind not in bench.ruler.class_lines:
        raise BundleError(f"{bundle} has no line of its own for a {kind}: draw one with --write")
    line = bench.ruler.class_lines[kind]
    bench = replace(bench, ruler=replace(bench.ruler, class_lines=dict.fromkeys(CLASSES, line)))
    course = Course(bench, data, lambda text: click.echo(text, err=True))
    found = walk(course, subjects(), {part, HOMES})
    about = {key: getattr(bench.bundle, key) for key in ("name", "version", "digest")}
    return short({"bundle": about, **found})


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of captures.")
@click.option("--homes", default=28, show_default=True, help="Simulated homes that taught nothing.")
@click.option("--write", "wanted", is_flag=True, help="Put the lines into the manifest.")
@click.option("--claim", type=click.Choice(CLASSES), help="Judge with all devices of this class.")
@click.option("--only", default="simulated", show_default=True, help="Which part, with --claim.")
def main(bundle: Path, data: Path, homes: int, wanted: bool, claim: str | None, only: str) -> None:
    """Draw the threat lines of BUNDLE by class of device."""
    try:
        if claim:
            click.echo(claimed(bundle, data, claim, only.replace("-", " ")), nl=False)
            return
        loaded = bundles.load(bundle)
        recipe = Recipe(**loaded.manifest["recipe"])
        rows = held_out(data, recipe, homes, lambda text: click.echo(text, err=True))
        lines = of_bundle(loaded, rows, THREAT_SHARE)
        for kind, one in lines.items():
            click.echo(
                f"{kind}: {one.line:.4f} (the bundle's {loaded.threat_threshold:.4f}, its own "
                f"{one.own:.4f} of {one.sequences:,} sequences of {one.devices} devices, "
                f"{one.real:,} of captures)"
            )
        if wanted:
            click.echo(f"written; the digest is {write(bundle, manifest(lines))}")
    except GuardianError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()

"""A new bundle takes the place of the one in use only where it is not worse.

Both are judged alike on the same captures, which no bundle learns from, as `guardian evaluate`
judges: by record, each capture weighing the same. The candidate is worse, and refused, where

* its AUC of threat, the mean over the captures with attacks, is lower by more than 0.005;
* the share of attack records above the line that 0.1 % of its benign records reach, the mean over
  these captures, is lower by more than 0.02;
* it opens more incidents on captures that are benign alone, in sum;
* it opens none on a capture with attacks where the other one opens some;
* on a capture with 100 attack records and more its AUC is lower by more than 0.05.

What is better elsewhere makes up for none of these. A bundle that is equal is promoted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from guardian import bundle as bundles
from guardian.bundle import Bundle
from guardian.errors import ConfigError, GuardianError, InputError
from guardian.place import put
from guardian.rehearsal import told
from guardian.scoring import Scorer
from trainer import catalogue, evaluate
from trainer.catalogue import Source
from trainer.opened import opened_by

Echo = Callable[[str], None]

AUC_MARGIN = 0.005
RECALL_MARGIN = 0.02
CAPTURE_MARGIN = 0.05
FEW = 100
"""Attack records under which a single capture's AUC decides nothing."""


@dataclass(frozen=True)
class Attacked:
    """What a bundle is worth on a capture with attacks."""

    records: int
    auc: float
    recall: float
    """At 0.1 % of the pooled benign records."""
    incidents: int


@dataclass(frozen=True)
class Worth:
    """What a bundle is worth on some captures."""

    bundle: str
    attacked: dict[str, Attacked]
    false_incidents: dict[str, int]
    """By capture that is benign alone."""

    @property
    def auc(self) -> float:
        """The mean over the captures with attacks."""
        return float(np.mean([a.auc for a in self.attacked.values()]))

    @property
    def recall(self) -> float:
        """The mean over the captures with attacks, at 0.1 %."""
        return float(np.mean([a.recall for a in self.attacked.values()]))

    @property
    def false(self) -> int:
        """Incidents on captures that are benign alone."""
        return sum(self.false_incidents.values())


@dataclass(frozen=True)
class Decision:
    """What came of a promotion."""

    present: Worth
    candidate: Worth
    worse: tuple[str, ...]
    """Where the candidate is worse, a sentence each; empty where it was promoted."""
    previous: Path | None
    """Where the one that was replaced lies now."""

    @property
    def promoted(self) -> bool:
        """Whether the candidate is in place now."""
        return not self.worse

    def as_json(self) -> dict[str, Any]:
        """Return what a report holds."""
        return {
            "promoted": self.promoted, "worse": list(self.worse),
            "present": asdict(self.present), "candidate": asdict(self.candidate),
        }  # fmt: skip


def promote(
    candidate: Path,
    current: Path | None = None,
    *,
    data: Path,
    sources: Sequence[Source] | None = None,
    echo: Echo = print,
) -> Decision:
    """Judge a bundle beside the one in place (the shipped one by default) and put it there if it
    is not worse; the old one is kept as `previous` beside it.

    `sources` are captures with benign ones and attacks among them, those that are for evaluation
    alone by default. Raises BundleError where either is no sound bundle, InputError where captures
    are missing.
    """
    place = bundles.default_path() if current is None else current
    if candidate.resolve() == place.resolve():
        raise ConfigError(f"{candidate} is in place already: give another bundle")
    new, old = bundles.load(candidate), bundles.load(place)
    judged = catalogue.of("evaluate") if sources is None else tuple(sources)
    echo(f"judging {told(new)} on {len(judged)} captures")
    now = measure(new, data, judged, echo)
    echo(f"judging {told(old)}, which is in place")
    then = measure(old, data, judged, echo)
    wrong = worse(now, then)
    previous = None if wrong else put(candidate, place)
    return Decision(then, now, tuple(wrong), previous)


def measure(bundle: Bundle, data: Path, sources: Sequence[Source], echo: Echo) -> Worth:
    """Return what a bundle is worth. Raises BundleError where its models do not answer as they
    must.
    """
    Scorer(bundle)  # golden outputs agree
    by = evaluate.Judge(
        {"": evaluate.pair_of(bundle)}, bundle.error_threshold, bundle.window, opened_by(bundle)
    )
    judged = []
    for number, source in enumerate(sources, 1):
        judged.append(evaluate.judge(source, data, by))
        echo(f"{source.name}: {len(judged[-1].label):,} records; {number} of {len(sources)}")
    if not any((j.label == 0).any() for j in judged) or not any(
        (j.label > 0).any() for j in judged
    ):
        raise InputError("a bundle is judged on benign captures and attacks: name both kinds")
    pool = evaluate.Pool.of(judged)
    attacked, false = {}, {}
    for one in judged:
        if (one.label > 0).any():
            row = evaluate.attack_row(one, pool, bundle.threat_threshold)
            threat = row["threat"]
            attacked[one.source.name] = Attacked(
                row["records"], threat["auc"], threat["found_at_0.1%"] / row["records"],
                int(one.incidents or 0),
            )  # fmt: skip
        elif len(one.label):
            false[one.source.name] = int(one.incidents or 0)
    return Worth(told(bundle), attacked, false)


def worse(now: Worth, then: Worth) -> list[str]:
    """Return where the first is worse than the second by the rule above."""
    out = []
    if now.auc < then.auc - AUC_MARGIN:
        out.append(
            f"the mean AUC is {now.auc:.3f}, not {then.auc:.3f} (down to {AUC_MARGIN} less is fine)"
        )
    if now.recall < then.recall - RECALL_MARGIN:
        out.append(
            f"recall at 0.1 % false positives is {now.recall:.1%}, not {then.recall:.1%}"
            f" (down to {RECALL_MARGIN:.0%} less is fine)"
        )
    if now.false > then.false:
        more = [
            f"{name} ({now.false_incidents[name]}, not {many})"
            for name, many in then.false_incidents.items()
            if now.false_incidents[name] > many
        ]
        out.append(f"{now.false} false incidents, not {then.false}: {', '.join(more)}")
    for name, old in then.attacked.items():
        new = now.attacked[name]
        if old.incidents and not new.incidents:
            out.append(f"{name}: no incident, where there were {old.incidents}")
        if old.records >= FEW and new.auc < old.auc - CAPTURE_MARGIN:
            out.append(f"{name}: AUC {new.auc:.3f}, not {old.auc:.3f}")
    return out


def text(decision: Decision) -> str:
    """Return a decision for a terminal."""
    then, now = decision.present, decision.candidate
    wide = max(len(name) for name in (*then.attacked, *then.false_incidents, "false incidents"))
    lines = [f"in place:  {then.bundle}", f"candidate: {now.bundle}", ""]
    lines.append(f"{'':<{wide}}  {'in place':>10}  {'candidate':>10}")
    rows: list[tuple[str, ...]] = [("mean AUC", f"{then.auc:.3f}", f"{now.auc:.3f}"),
            ("recall at 0.1 %", f"{then.recall:.1%}", f"{now.recall:.1%}"),
            ("false incidents", str(then.false), str(now.false))]  # fmt: skip
    rows.append(("", "", ""))
    for name, old in then.attacked.items():
        new = now.attacked[name]
        rows.append((name, *(f"{a.auc:.3f}, {a.incidents}" for a in (old, new))))
    rows += [
        (name, f"{many}", f"{now.false_incidents[name]}")
        for name, many in then.false_incidents.items()
    ]
    lines += [f"{name:<{wide}}  {a:>10}  {b:>10}".rstrip() for name, a, b in rows]
    lines += [
        "",
        "By capture: AUC and incidents where there are attacks, else false incidents.",
        "",
    ]
    if decision.promoted:
        kept = f"; the one before lies in {decision.previous}" if decision.previous else ""
        lines.append(f"Promoted: it is not worse{kept}.")
    else:
        lines.append("Refused, nothing was changed. It is worse:")
        lines += [f"- {sentence}" for sentence in decision.worse]
    return "\n".join(lines)


@click.command(name="python -m trainer.promote")
@click.argument("candidate", type=click.Path(path_type=Path))
@click.option("--in", "current", type=click.Path(path_type=Path),
              help="The bundle's folder to replace (default: the shipped one).")  # fmt: skip
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path),
              required=True, help="Folder of captures.")  # fmt: skip
@click.option("--capture", "names", multiple=True, metavar="NAME",
              help="Judge on this one of the catalogue alone; repeatable.")  # fmt: skip
def main(candidate: Path, current: Path | None, data: Path, names: tuple[str, ...]) -> None:
    """Put CANDIDATE in place of the bundle in use if it is not worse; exit 1 where it is."""
    try:
        sources = [named(name) for name in names] or None
        decision = promote(candidate, current, data=data, sources=sources,
                           echo=lambda line: click.echo(line, err=True))  # fmt: skip
    except GuardianError as error:
        raise click.ClickException(str(error)) from error
    click.echo(text(decision))
    if not decision.promoted:
        sys.exit(1)


def named(name: str) -> Source:
    """Return a capture that is for evaluation alone. Raises ConfigError for any other."""
    known = {source.name: source for source in catalogue.of("evaluate")}
    if name not in known:
        raise ConfigError(f"no capture for evaluation is called {name}: choose of "
                          f"{', '.join(known)}")  # fmt: skip
    return known[name]


if __name__ == "__main__":
    main()

"""Leave networks out: what the recipe is worth on the captures that teach the shipped bundle.

Every network, whether it holds malice or not, is left out of one fit of four, with all grafts from
it and into it, so that a fit lacks two or three malware families and a benign home at once. The
bundle is judged on these networks' captures as a shipped bundle is. Its lines rest on homes of
other networks, none of which it learned from.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from guardian.bundle import Bundle
from trainer import catalogue
from trainer.recipe import Material, Recipe
from trainer.trial import report, rivals
from trainer.trial.bench import Bench
from trainer.trial.course import GRAFTED, IN_PLACE, Course, walk
from trainer.trial.subjects import ATTACK, HOME, Subject, of_source, subjects

Echo = Callable[[str], None]
Make = Callable[[Material, Recipe, Path, Echo], Bundle]
"""Fits a recipe on material, writes the bundle to a folder and returns it."""


SETS = (
    ("pi-a", "exposed", "joy-camera"),
    ("pi-b", "windows-pcs", "joy-ikea"),
    ("njrat", "echo", "hue"),
    ("nmap", "yi", "blink-hub"),
)
"""Networks that one fit lacks together. Each malware family stands in one of them alone."""


QUIET = {"echo", "hue"}
"""Networks in whose logs every label says benign."""


def groups(material: Material) -> tuple[tuple[str, ...], ...]:
    """Return what is left out in turn, as far as the material holds it."""
    known = {name[0] for rows in (material.train, material.held_out) for name in rows.names}
    sets = (tuple(name for name in one if name in known) for one in SETS)
    return tuple(one for one in sets if one)


def leave_out(
    data: Path,
    material: Material,
    recipe: Recipe,
    make: Make,
    echo: Echo,
    only: Collection[str] = (IN_PLACE, GRAFTED),
) -> dict[str, Any]:
    """Return the report of every network, judged by models that saw nothing of it."""
    names = groups(material)
    homes = [s for s in subjects() if s.kind != ATTACK]
    folds = []
    parsed: Course | None = None
    for number, lost in enumerate(names, 1):
        without = set(lost)
        echo(f"without {', '.join(lost)}: {number} of {len(names)}")
        rest = replace(
            material,
            train=material.train.without(without),
            held_out=material.held_out.without(without),
        )
        own = [_own(source) for source in catalogue.CATALOGUE if source.group in without]
        quiet = rivals.benign_streams(data, frozenset(without))
        with tempfile.TemporaryDirectory() as folder:
            bundle = make(rest, recipe, Path(folder) / "fold", echo)
            course = Course(Bench.of(bundle, rivals.of(rest, quiet)), data, echo)
            if parsed is not None:  # the homes are the same in every fold
                course.taken = parsed.taken
            parsed = course
            found = walk(course, [*homes, *own], only)
        mine = {subject.name for subject in own}
        folds.append(found | {"homes": [row for row in found["homes"] if row["capture"] in mine]})
    return merged(folds, names)


def merged(folds: list[dict[str, Any]], names: tuple[tuple[str, ...], ...]) -> dict[str, Any]:
    """Return the folds as one report. The homes for evaluation alone are the same in all of them:
    what each raises there is no sample more, so it stands by fold, without a rate."""
    homes = [row for fold in folds for row in fold["homes"]]
    out: dict[str, Any] = {
        "bundle": {"name": "the recipe", "digest": "by fold",
                   "version": f"{sum(map(len, names))} networks left out in {len(names)} fits"},
        "no device": [name for fold in folds for name in fold["no device"]],
        "homes": homes,
        "rates": report.false_rates(homes),
        "setups": {"captures": 0},
        "folds": [
            {"without": ", ".join(name), "rates": fold["rates"], "setups": fold["setups"]}
            for name, fold in zip(names, folds, strict=True)
        ],
    }  # fmt: skip
    for part in (IN_PLACE, GRAFTED):
        if all(part in fold for fold in folds):
            rows = [row for fold in folds for row in fold[part]["rows"]]
            out[part] = report.part(rows)
            if part == GRAFTED:
                out[part]["placebo"] = report.summed([fold[part]["placebo"] for fold in folds])
    return out


def _own(source: catalogue.Source) -> Subject:
    """Return a source of a network left out; where it holds malice, its rest is no home."""
    subject = of_source(source)
    quiet = subject.kind == HOME or source.group in QUIET
    return replace(subject, kind=HOME if quiet else ATTACK)

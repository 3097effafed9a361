"""Leave one network out: what the recipe is worth on the captures that teach the shipped bundle.

Each network with malice is left out in turn, with all grafts from it and into it; the recipe is
fitted again, exported, and judged on that network's captures as a shipped bundle is. Its lines rest
on the homes for evaluation alone, which no fold learns from.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from guardian.bundle import Bundle
from trainer import catalogue
from trainer.recipe import Material, Recipe
from trainer.trial import report, rivals
from trainer.trial.bench import Bench
from trainer.trial.course import GRAFTED, IN_PLACE, Course, walk
from trainer.trial.subjects import ATTACK, Subject, of_source, subjects

Echo = Callable[[str], None]
Make = Callable[[Material, Recipe, Path, Echo], Bundle]
"""Fits a recipe on material, writes the bundle to a folder and returns it."""


def groups(material: Material) -> tuple[str, ...]:
    """Return what is left out in turn: every real network that holds malice."""
    rows = material.train
    bad = {rows.names[k][0] for k in np.unique(rows.instance[rows.label > 0]).tolist()}
    known = (s.group for s in catalogue.CATALOGUE if s.use != "evaluate" and s.group in bad)
    return tuple(dict.fromkeys(known))


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
    for number, group in enumerate(names, 1):
        echo(f"without {group}: {number} of {len(names)}")
        rest = replace(
            material,
            train=material.train.without({group}),
            held_out=material.held_out.without({group}),
        )
        own = [_attack(source) for source in catalogue.CATALOGUE if source.group == group]
        quiet = rivals.benign_streams(data, frozenset({group}))
        with tempfile.TemporaryDirectory() as folder:
            bundle = make(rest, recipe, Path(folder) / "fold", echo)
            course = Course(Bench.of(bundle, rivals.of(rest, quiet)), data, echo)
            if parsed is not None:  # the homes are the same in every fold
                course.taken = parsed.taken
            parsed = course
            folds.append(walk(course, [*homes, *own], only))
    return merged(folds, names)


def merged(folds: list[dict[str, Any]], names: tuple[str, ...]) -> dict[str, Any]:
    """Return the folds as one report. The homes are the same in all of them: what each raises there
    is no sample more, so it stands by fold, without a rate."""
    out: dict[str, Any] = {
        "bundle": {"name": "the recipe", "version": f"{len(names)} networks left out",
                   "digest": "by fold"},
        "no device": [name for fold in folds for name in fold["no device"]],
        "homes": [],
        "rates": {},
        "setups": {"captures": 0},
        "folds": [
            {"without": name, "rates": fold["rates"], "setups": fold["setups"]}
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


def _attack(source: catalogue.Source) -> Subject:
    """Return a source of a network left out: what is benign in it is no home of its own."""
    return replace(of_source(source), kind=ATTACK)

"""Leave one network out: what the recipe is worth on captures that teach the shipped bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainer import catalogue, evaluate
from trainer.evaluate import Incidents, Judge, Judged, Pool
from trainer.export import judged_forms
from trainer.recipe import Material, Recipe
from trainer.run import fit_run

Echo = Callable[[str], None]


def groups() -> tuple[str, ...]:
    """Return what is left out in turn: everything of one network that teaches or calibrates."""
    seen = (s.group for s in catalogue.CATALOGUE if s.use != "evaluate")
    return tuple(dict.fromkeys(seen))


def leave_one_out(
    data: Path,
    material: Material,
    recipe: Recipe,
    judged: Sequence[Judged],
    echo: Echo,
    incidents: Incidents | None = None,
) -> dict[str, Any]:
    """Return the figures of every group, judged by models that saw nothing of it.

    `judged` are benign captures for evaluation alone, scored by the shipped bundle: only their
    counters pool here; the models of each fold score them anew.
    """
    benign_sources = [j.source for j in judged if (j.label == 0).any()]
    report: dict[str, Any] = {"attacks": [], "benign": []}
    for number, group in enumerate(groups(), 1):
        echo(f"without {group}: {number} of {len(groups())}")
        rest = replace(
            material,
            train=material.train.without({group}),
            held_out=material.held_out.without({group}),
        )
        forms, threat_line, error_line = judged_forms(fit_run(rest, recipe, echo), echo)
        by = Judge(
            {"": forms["int8"], " float": forms["float32"]}, error_line, recipe.window, incidents
        )
        sources = [s for s in catalogue.CATALOGUE if s.group == group]
        own = [evaluate.judge(source, data, by) for source in sources]
        pool = Pool.of([evaluate.judge(source, data, by) for source in benign_sources])
        for one in own:
            if (one.label > 0).any():
                report["attacks"].append(evaluate.attack_row(one, pool, threat_line))
            if (one.label == 0).any():
                report["benign"].append(evaluate.benign_row(one, pool, threat_line))
    return report

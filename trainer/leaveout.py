"""Leave one network out: what the recipe is worth on captures that teach the shipped bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trainer import catalogue, evaluate
from trainer.evaluate import Judge, Judged, Pool
from trainer.export import judged_forms
from trainer.recipe import Material, Recipe
from trainer.run import fit_run

Echo = Callable[[str], None]


AUTOENCODER_EPOCHS = 4
"""Of each fold: enough to see what it is worth."""


def groups(material: Material) -> tuple[str, ...]:
    """Return what is left out in turn: every real network that holds malice."""
    rows = material.train
    bad = {rows.names[k][0] for k in np.unique(rows.instance[rows.label > 0]).tolist()}
    known = (s.group for s in catalogue.CATALOGUE if s.use != "evaluate" and s.group in bad)
    return tuple(dict.fromkeys(known))


def leave_one_out(
    data: Path,
    material: Material,
    recipe: Recipe,
    judged: Sequence[Judged],
    echo: Echo,
) -> dict[str, Any]:
    """Return the figures of every group, judged by models that saw nothing of it.

    `judged` tells which captures for evaluation alone hold benign traffic: the models of each
    fold score them anew, and the fold's lines rest on them.
    """
    benign_sources = [j.source for j in judged if (j.label == 0).any()]
    report: dict[str, Any] = {"attacks": [], "benign": []}
    names = groups(material)
    recipe = replace(recipe, autoencoder_epochs=AUTOENCODER_EPOCHS)
    for number, group in enumerate(names, 1):
        echo(f"without {group}: {number} of {len(names)}")
        rest = replace(
            material,
            train=material.train.without({group}),
            held_out=material.held_out.without({group}),
        )
        forms, threat_line, error_line = judged_forms(fit_run(rest, recipe, echo), echo)
        by = Judge({"": forms["int8"], " float": forms["float32"]}, error_line, recipe.window)
        sources = [s for s in catalogue.CATALOGUE if s.group == group]
        own = [evaluate.judge(source, data, by) for source in sources]
        pool = Pool.of([evaluate.judge(source, data, by) for source in benign_sources])
        for one in own:
            if (one.label > 0).any():
                report["attacks"].append(evaluate.attack_row(one, pool, threat_line))
            if (one.label == 0).any():
                report["benign"].append(evaluate.benign_row(one, pool, threat_line))
    return report

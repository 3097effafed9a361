"""What `guardian train`, `guardian evaluate` and `guardian export` call."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before tensorflow is imported

from guardian.bundle import Bundle, default_path
from guardian.bundle import load as load_bundle
from guardian.scoring import Pair
from trainer import evaluate as evaluation
from trainer import leaveout, promote, rehearse
from trainer import recipe as recipes
from trainer import run as runs
from trainer.export import export as write_bundle
from trainer.export import judged_forms
from trainer.named import export_model, listing, report, train_model
from trainer.opened import opened_by
from trainer.report import markdown

__all__ = ["evaluate", "export", "export_model", "listing", "markdown", "promotion", "rehearsal",
           "report", "train", "train_model"]  # fmt: skip

Echo = Callable[[str], None]


def train(
    inputs: list[Path],
    out: Path,
    *,
    data: Path | None = None,
    simulate: int = recipes.Recipe.homes,
    seed: int = 1,
    epochs: int = 0,
    quick: bool = False,
    echo: Echo = print,
    keep: Path | None = None,
    lan: tuple[str, ...] = (),
) -> Bundle:
    """Train on captures, logs and simulated homes, and write the bundle to `out`.

    `inputs` are the user's: pcaps (with .labels.csv beside them where they are simulated) and
    connection logs; without labels they are taken for quiet days. The run itself is kept beside
    the bundle in `out`.run (or in `keep`), for export. Raises InputError for what cannot be read.
    """
    recipe = recipes.QUICK if quick else recipes.Recipe(homes=simulate)
    recipe = replace(recipe, seed=seed, epochs=epochs or recipe.epochs)
    material = recipes.prepare(data, inputs, recipe, echo, lan)
    run = runs.fit_run(material, recipe, echo)
    runs.save(run, keep or out.with_name(f"{out.name}.run"))
    bundle = write_bundle(run, out, echo, name=out.name)
    echo(f"wrote {out}: threat line {bundle.threat_threshold:.3f}")
    return bundle


def export(run_folder: Path, out: Path, *, echo: Echo = print) -> Bundle:
    """Quantize and calibrate a run that `train` left behind, and write its bundle to `out`."""
    return write_bundle(runs.load(run_folder), out, echo, name=out.name)


def evaluate(
    bundle: Path | None,
    data: Path,
    out: Path | None,
    *,
    leave_one_out: bool = False,
    echo: Echo = print,
) -> dict[str, Any]:
    """Judge a bundle on the captures left out of its training; write report.md and .json to out.

    Where the bundle's run lies in `bundle`.run or in runs/, its float form stands beside. With
    `leave_one_out` the recipe is trained again without each network that teaches, and judged on
    it; what the gateway opens is counted for the bundle alone. Returns the report.
    """
    folder = bundle or default_path()
    others: dict[str, Pair] = {}
    for run in (folder.with_name(f"{folder.name}.run"), Path("runs") / folder.name):
        if not others and (run / "run.json").exists():
            others[" float"] = judged_forms(runs.load(run), echo)[0]["float32"]
    report, judged = evaluation.shipped(folder, data, echo, opened_by(load_bundle(folder)), others)
    if leave_one_out:
        recipe = recipes.Recipe()
        material = recipes.prepare(data, [], recipe, echo)
        report["leave_one_out"] = leaveout.leave_one_out(data, material, recipe, judged, echo)
    if out is not None:
        evaluation.write(report, markdown(report), out)
        echo(f"wrote {out / 'report.md'}")
    return report


def rehearsal(candidate: Path, source: Path, *, echo: Echo = print) -> str:
    """Return in words which incidents of a capture, log or database a bundle would change."""
    return rehearse.text(rehearse.rehearse(candidate, source, echo=echo))


def promotion(candidate: Path, data: Path, *, echo: Echo = print) -> tuple[str, bool]:
    """Ship a bundle if it is no worse on the captures kept for that; return the words, and if."""
    decision = promote.promote(candidate, data=data, echo=echo)
    return promote.text(decision), decision.promoted

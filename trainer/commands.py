"""What `guardian train`, `guardian evaluate` and `guardian export` call."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before tensorflow is imported

import keras

from guardian.bundle import Bundle, default_path, load
from guardian.errors import ConfigError
from trainer import promote, rehearse
from trainer import recipe as recipes
from trainer import run as runs
from trainer.export import export as write_bundle
from trainer.named import export_model, listing, report, train_model
from trainer.recipe import Material
from trainer.trial import course, folds, page, rivals
from trainer.trial.tables import short

__all__ = ["evaluate", "export", "export_model", "listing", "promotion", "rehearsal",
           "report", "short", "train", "train_model"]  # fmt: skip

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
    folder = keep or out.with_name(f"{out.name}.run")
    runs.save(run, folder)
    bundle = _written(run, folder, out, echo)
    echo(f"wrote {out}: threat line {bundle.threat_threshold:.3f}")
    return bundle


def _written(run: runs.Run, folder: Path, out: Path, echo: Echo) -> Bundle:
    """Write a run's bundle. TensorFlow alone can convert: what was fitted with another backend of
    Keras (KERAS_BACKEND=jax, for its GPU) is converted by a process of its own.
    """
    if keras.backend.backend() == "tensorflow":
        return write_bundle(run, out, echo, name=out.name)
    words = ["-c", "from guardian.cli import main; main()", "export", str(folder), "-o", str(out)]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run([sys.executable, *words], env=environment, check=False)
    if done.returncode:
        raise ConfigError(f"the run is kept in {folder}, but was not converted: see above")
    return load(out)


def export(run_folder: Path, out: Path, *, echo: Echo = print) -> Bundle:
    """Quantize and calibrate a run that `train` left behind, and write its bundle to `out`."""
    return write_bundle(runs.load(run_folder), out, echo, name=out.name)


def evaluate(
    bundle: Path | None,
    data: Path,
    out: Path | None,
    *,
    leave_one_out: bool = False,
    only: tuple[str, ...] = course.PARTS,
    baselines: bool = True,
    why: str = "",
    echo: Echo = print,
) -> dict[str, Any]:
    """Judge a bundle by the protocol of docs/detection.md and return the report.

    With `out`, the tables of detection.md and detection.json there are filled and its log has a
    line more, with `why`. `only` names parts of the protocol; such a run has its line in the log
    alone. Without `baselines` nothing is fitted to compare with. With `leave_one_out` the recipe is
    fitted again without each network that teaches, and judged on it.
    """
    folder = bundle or default_path()
    beside = rivals.fitted(data, echo) if baselines else rivals.counters()
    found = course.judge_bundle(folder, data, only=only, rivals=beside, echo=echo)
    if leave_one_out:
        recipe = recipes.Recipe()
        material = recipes.prepare(data, [], recipe, echo)
        found["left out"] = folds.leave_out(data, material, recipe, _make, echo)
    if out is not None:
        whole = set(only) >= set(course.PARTS) and baselines
        echo(f"wrote {page.write(out, found, why, whole=whole)}")
    return found


def _make(material: Material, recipe: recipes.Recipe, folder: Path, echo: Echo) -> Bundle:
    """Fit a recipe and write its bundle."""
    return write_bundle(runs.fit_run(material, recipe, echo), folder, echo, name=folder.name)


def rehearsal(candidate: Path, source: Path, *, echo: Echo = print) -> str:
    """Return in words which incidents of a capture, log or database a bundle would change."""
    return rehearse.text(rehearse.rehearse(candidate, source, echo=echo))


def promotion(candidate: Path, data: Path, *, echo: Echo = print) -> tuple[str, bool]:
    """Ship a bundle if it is no worse on the captures kept for that; return the words, and if."""
    decision = promote.promote(candidate, data=data, echo=echo)
    return promote.text(decision), decision.promoted

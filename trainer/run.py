"""A training run: two fitted models and all that is needed to write a bundle from them again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from guardian.bundle import Scaler
from guardian.errors import InputError
from guardian.tables import F32, Array
from trainer import calibrate
from trainer.fit import Fit, fit, rebuilt_loss
from trainer.labels import CLASSES
from trainer.recipe import Material, Recipe
from trainer.rows import Rows
from trainer.zoo.config import Config
from trainer.zoo.family import REGISTRY, Family, Learner, Shape

Echo = Callable[[str], None]

GOLDEN_PER_CLASS = 4
GOLDEN_BENIGN = 8
"""Ordinary traffic among the golden sequences: the incidents take their ruler from it."""
REPRESENTATIVE = 1_024
AUTOENCODER_ROWS = 30_000
"""Benign sequences that the autoencoder sees in an epoch: more did not help it."""


@dataclass(frozen=True)
class Run:
    """What a fit left behind; `save` and `load` keep it in a folder."""

    recipe: Recipe
    scaler: Scaler
    usual: F32
    autoencoder: list[Any]
    classifier: list[Any]
    """Weights, in Keras' order."""
    representative: F32
    """float32[n, T, F], scaled: sets the int8 ranges."""
    golden: Rows
    held_out: Rows
    sources: tuple[dict[str, object], ...]
    curves: dict[str, dict[str, list[float]]]

    def builders(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Return the functions that build the autoencoder and the classifier."""
        _, window, count = self.representative.shape
        pair = (_autoencoder(window, count), _classifier(self.recipe, window, count))
        return tuple(partial(family.build, shape, config) for family, shape, config in pair)  # type: ignore[return-value]


def fit_run(material: Material, recipe: Recipe, echo: Echo) -> Run:
    """Fit both models on a recipe's material."""
    keras.utils.set_random_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    train = material.train.take(rng.permutation(len(material.train)))
    held_out = material.held_out
    weight = train.weights()
    benign = train.label == 0
    scaler = calibrate.scaler(train.x[benign, -1], weight[benign])
    z = scaler.apply(train.x, train.length)
    z_out = scaler.apply(held_out.x, held_out.length)
    _, window, count = z.shape

    learner, losses = taught(train, z, held_out, z_out, recipe, echo)
    curves = {"classifier": losses}
    # Placebos are insertions: normal traffic, but not what a device's life looks like.
    settled = (
        benign & np.array([s not in ("graft", "placebo") for _, s in train.names])[train.instance]
    )
    rows = np.flatnonzero(settled)[:AUTOENCODER_ROWS]
    out = np.flatnonzero(held_out.label == 0)
    family, shape, config = _autoencoder(window, count)
    autoencoder = family.build(shape, config)
    curves["autoencoder"] = fit(
        autoencoder,
        (z[rows], z[rows], weight[rows].astype(np.float32)),
        (z_out[out], z_out[out], held_out.weights()[out].astype(np.float32)),
        rebuilt_loss,
        Fit(recipe.autoencoder_epochs),
        seed=recipe.seed,
        echo=echo,
    )
    return Run(
        recipe=recipe,
        scaler=scaler,
        usual=calibrate.usual(train.x[benign, -1], weight[benign]),
        autoencoder=autoencoder.get_weights(),
        classifier=learner.core.get_weights(),
        representative=z[:REPRESENTATIVE],
        golden=_golden(held_out, rng),
        held_out=held_out,
        sources=material.sources,
        curves=curves,
    )


def taught(
    train: Rows, z: F32, held_out: Rows, z_out: F32, recipe: Recipe, echo: Echo
) -> tuple[Learner, dict[str, list[float]]]:
    """Fit a recipe's classifier on rows and their scaled sequences; return it with its losses."""
    _, window, count = z.shape
    family, shape, config = _classifier(recipe, window, count)
    learner = family.learner(shape, config)
    weight = train.evened() if recipe.evened else train.weights()
    losses = fit(
        learner.model,
        (z, train.label, weight.astype(np.float32)),
        (z_out, held_out.label, held_out.weights().astype(np.float32)),
        learner.loss,
        Fit(recipe.epochs),
        seed=recipe.seed,
        echo=echo,
    )
    return learner, losses


def _autoencoder(window: int, count: int) -> tuple[Family, Shape, Config]:
    """Return what to build: encoder 50, 20; decoder 20, 50."""
    family = REGISTRY["lstm-autoencoder"]
    return family, Shape(window, count, 0), family.defaults


def _classifier(recipe: Recipe, window: int, count: int) -> tuple[Family, Shape, Config]:
    family = REGISTRY[recipe.classifier]
    config = family.config(smoothing=recipe.smoothing)
    return family, Shape(window, count, len(CLASSES)), config


def _golden(rows: Rows, rng: np.random.Generator) -> Rows:
    """Return a few sequences of every class, short ones among them."""
    chosen: list[int] = []
    for number in range(len(CLASSES)):
        of_class = np.flatnonzero(rows.label == number)
        chosen += rng.permutation(of_class)[
            : GOLDEN_PER_CLASS if number else GOLDEN_BENIGN
        ].tolist()
    chosen += np.argsort(rows.length, kind="stable")[:2].tolist()
    return rows.take(np.array(chosen))


# --- in a folder ------------------------------------------------------------------------


def save(run: Run, folder: Path) -> None:
    """Write a run to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("autoencoder", "classifier"):
        np.savez_compressed(folder / f"{name}.npz", *getattr(run, name))
    arrays: dict[str, Any] = {
        "mean": run.scaler.mean,
        "scale": run.scaler.scale,
        "usual": run.usual,
        "representative": run.representative,
        **_packed("golden", run.golden),
        **_packed("held_out", run.held_out),
    }
    np.savez_compressed(folder / "arrays.npz", **arrays)
    about = {
        "recipe": asdict(run.recipe),
        "clip": run.scaler.clip,
        "sources": run.sources,
        "curves": run.curves,
        "names": {"golden": run.golden.names, "held_out": run.held_out.names},
        "kinds": run.held_out.kinds,
    }
    (folder / "run.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def load(folder: Path) -> Run:
    """Read a run from its folder. Raises InputError where there is none."""
    try:
        about = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
            return Run(
                recipe=Recipe(**about["recipe"]),
                scaler=Scaler(arrays["mean"], arrays["scale"], about["clip"]),
                usual=arrays["usual"],
                autoencoder=_weights(folder / "autoencoder.npz"),
                classifier=_weights(folder / "classifier.npz"),
                representative=arrays["representative"],
                golden=_unpacked("golden", arrays, about),
                held_out=_unpacked("held_out", arrays, about),
                sources=tuple(about["sources"]),
                curves=about["curves"],
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder} is no training run: give the .run folder that `guardian train` wrote"
        ) from error


_COLUMNS = ("x", "length", "label", "instance", "clean")


def _packed(name: str, rows: Rows) -> dict[str, Array]:
    return {f"{name}_{key}": getattr(rows, key) for key in _COLUMNS}


def _unpacked(name: str, arrays: Any, about: dict[str, Any]) -> Rows:
    x, length, label, instance, clean = (arrays[f"{name}_{key}"] for key in _COLUMNS)
    names = tuple((str(group), str(source)) for group, source in about["names"][name])
    # A run of an earlier Guardian has no classes of devices.
    kinds = tuple(map(str, about.get("kinds", ()))) if name == "held_out" else ()
    return Rows(x, length, label, instance, clean, names, kinds)


def _weights(path: Path) -> list[Any]:
    with np.load(path, allow_pickle=False) as archive:
        return [archive[f"arr_{k}"] for k in range(len(archive.files))]

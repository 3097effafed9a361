"""The folder of a run: what it was made from, so that it can be made again, and what came of it.

config.json is all that is needed to repeat it; result.json tells what came of it; weights.npz or
trees.npz, scaler.npz are the model; checkpoint.npz is where an interrupted fit goes on.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from guardian.bundle import Scaler
from guardian.errors import InputError
from trainer.fitting.how import Fit, fit_of

CONFIG, RESULT = "config.json", "result.json"
PACKAGES = ("tensorflow", "keras", "numpy", "scikit-learn", "guardian-home")


@dataclass(frozen=True)
class Splitting:
    """How rows are dealt out to train, validation and test."""

    by: str = "group"
    """"group", "time" or "row": see trainer.sets.split."""
    seed: int = 1
    shares: tuple[float, float, float] = (0.6, 0.2, 0.2)
    test: tuple[str, ...] = ()
    """Captures that are the test, by name; all others are train and validation."""


@dataclass(frozen=True)
class RunConfig:
    """All that a run follows from."""

    family: str
    config: dict[str, Any]
    """The family's hyperparameters."""
    how: Fit
    seed: int
    split: Splitting
    digest: str
    """Of the prepared set."""
    data: dict[str, Any] = field(default_factory=dict)
    """Where the set comes from: "kind", "paths", "limit" as trainer.sets.registry.prepare takes
    them; empty where the caller has the set."""


def write_config(folder: Path, config: RunConfig) -> None:
    """Write config.json."""
    write_json(folder / CONFIG, asdict(config))


def read_config(path: Path) -> RunConfig:
    """Read a config.json, or the one in a run's folder. Raises InputError where it is none."""
    path = path / CONFIG if path.is_dir() else path
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        split = Splitting(**about.pop("split"))
        shares: Any = tuple(split.shares)
        split = Splitting(split.by, split.seed, shares, tuple(split.test))
        return RunConfig(split=split, how=fit_of(about.pop("how")), **about)
    except OSError as error:
        raise InputError(f"{path} cannot be read: give the config.json of a run") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no config of a run: {error}") from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON for people, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    part.replace(path)


def versions() -> dict[str, str]:
    """Return what computed a run."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    found["processors"] = str(os.cpu_count())
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def save_weights(folder: Path, weights: list[Any]) -> None:
    """Write a network's weights, in Keras' order, as weights.npz."""
    np.savez_compressed(folder / "weights.npz", *weights)


def load_weights(folder: Path) -> list[Any]:
    """Read weights.npz. Raises InputError where there is none."""
    try:
        with (folder / "weights.npz").open("rb") as file, np.load(file) as archive:
            return [archive[f"arr_{k}"] for k in range(len(archive.files))]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder} has no weights of a network: give a run's folder") from error


def save_scaler(folder: Path, scaler: Scaler) -> None:
    """Write scaler.npz."""
    np.savez(folder / "scaler.npz", mean=scaler.mean, scale=scaler.scale, clip=scaler.clip)


def load_scaler(folder: Path) -> Scaler:
    """Read scaler.npz. Raises InputError where there is none."""
    try:
        with (folder / "scaler.npz").open("rb") as file, np.load(file) as archive:
            return Scaler(archive["mean"], archive["scale"], float(archive["clip"]))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder} has no scaler: give a run's folder") from error

"""What a run's model becomes on the gateway: its forms as TFLite, or trees as arrays, what each
costs and what it is worth. All that is needed lies in the run's folder.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from guardian import trees
from guardian.errors import BundleError, InputError
from guardian.tables import F32, I32
from trainer.fitting import run as runs
from trainer.judge import plain
from trainer.material import sequences
from trainer.sets.prepared import Prepared
from trainer.sets.split import split as split_rows
from trainer.zoo.config import Config
from trainer.zoo.ensemble import members as members_of
from trainer.zoo.export import BATCHES, FORMS, Fitted, choose, export, to_onnx
from trainer.zoo.family import REGISTRY, Family, Shape
from trainer.zoo.runner import SECONDS

Echo = Callable[[str], None]

ROWS = "rows.npz"
REPORT = "forms.json"
REPRESENTATIVE = 1_024
"""Training sequences that set the ranges of int8."""
COMPARED = 2_048
"""Validation sequences that the forms are compared on: a form is chosen, so test is not asked."""
OTHER = "GUARDIAN_TFLITE_PYTHON"
"""Environment: the Python of a venv with tflite-runtime."""
_ROOT = Path(__file__).resolve().parents[1]


def keep_rows(folder: Path, prepared: Prepared) -> None:
    """Keep in a run's folder the few sequences that an export needs, so that it needs no set."""
    about = runs.read_config(folder)
    scaler = runs.load_scaler(folder)
    by: Any = about.split.by
    dealt = split_rows(
        prepared, by=by, seed=about.split.seed, shares=about.split.shares, test=about.split.test
    )
    window = about.config["window"] if prepared.ordered else 1
    stride = about.config["stride"]
    taught = sequences(prepared, scaler, dealt.train, window, stride).spread(REPRESENTATIVE)
    held = sequences(prepared, scaler, dealt.valid, window, stride)
    held = held.only(held.label >= 0) if (prepared.label >= 0).any() else held
    held = held.spread(COMPARED)
    np.savez_compressed(
        folder / ROWS, representative=taught.x(), x=held.x(), label=np.maximum(held.label, 0),
        classes=len(prepared.classes),
    )  # fmt: skip


def kept_rows(folder: Path) -> tuple[F32, F32, I32, int]:
    """Return representative sequences, those to compare on, their labels, and how many classes.

    Raises InputError where the folder lacks them.
    """
    try:
        with (folder / ROWS).open("rb") as file, np.load(file) as kept:
            return kept["representative"], kept["x"], kept["label"], int(kept["classes"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{folder} has no sequences to export with: train it with `guardian train --model`"
        ) from error


def other_runtime() -> Path | None:
    """Return the Python of the other runtime's venv; None where there is none."""
    place = os.environ.get(OTHER)
    python = Path(place) if place else _ROOT / ".venv-tflite" / "bin" / "python"
    return python if python.exists() else None


def write_forms(
    folder: Path,
    out: Path,
    *,
    form: str = "auto",
    forms: tuple[str, ...] = FORMS,
    onnx: bool = False,
    other: Path | None = None,
    seconds: float = SECONDS,
    echo: Echo = print,
) -> dict[str, Any]:
    """Export a run's model to `out` with its scaler, and return what forms.json there says.

    `form` is one of FORMS, or "auto" for the quickest of `forms` that loses next to nothing; the
    file is model.tflite (trees.npz of a screen; a folder for each member of an ensemble). Raises
    InputError for a folder that is no run, BundleError for what cannot be run here.
    """
    about = runs.read_config(folder)
    family = REGISTRY[about.family]
    config = family.defaults.with_(**about.config)
    rows = kept_rows(folder)
    out.mkdir(parents=True, exist_ok=True)
    wanted = forms if form == "auto" else (form,)
    how: dict[str, Any] = {
        "forms": wanted,
        "onnx": onnx,
        "other": other,
        "seconds": seconds,
        "echo": echo,
    }
    report: dict[str, Any] = {"family": family.name, "compared_on": len(rows[1])}
    if family.task == "ensemble":
        report["members"] = {}
        for member in members_of(config):
            place = out / member.name
            place.mkdir(exist_ok=True)
            hyper = member.defaults.with_(window=config.window, stride=config.stride)
            report["members"][member.name] = _one(
                folder / "members" / member.name, member, hyper, rows, place, **how
            )
        shutil.copyfile(folder / "ensemble.json", out / "ensemble.json")
    else:
        report |= _one(folder, family, config, rows, out, **how)
    scaler = runs.load_scaler(folder)
    runs.save_scaler(out, scaler)
    report = plain(report)
    runs.write_json(out / REPORT, report)
    return report


def _one(
    folder: Path,
    family: Family,
    config: Config,
    rows: tuple[F32, F32, I32, int],
    out: Path,
    *,
    forms: tuple[str, ...],
    onnx: bool,
    other: Path | None,
    seconds: float,
    echo: Echo,
) -> dict[str, Any]:
    representative, x, label, classes = rows
    if family.task == "screen":
        return _trees(folder, x, out, seconds, onnx)
    shape = Shape(x.shape[1], x.shape[2], classes)
    fitted = Fitted(family, shape, config, runs.load_weights(folder), representative)
    found = export(
        fitted, x, label if (label > 0).any() else None, forms=forms, other=other,
        seconds=seconds, echo=echo,
    )  # fmt: skip
    chosen, why = choose(found.reports) if len(forms) > 1 else (forms[0], "asked for")
    (out / "model.tflite").write_bytes(found.files[chosen])
    report = found.as_json() | {"chosen": chosen, "why": why, "batch": BATCHES[-1]}
    report["file"] = "model.tflite"
    if onnx:
        off = to_onnx(fitted, out / "model.onnx", x[:256])
        report["onnx"] = {"bytes": (out / "model.onnx").stat().st_size, "difference": off}
        echo(f"ONNX: {report['onnx']['bytes']:,} bytes, off by {off:.2g}")
    return report


def _trees(folder: Path, x: F32, out: Path, seconds: float, onnx: bool) -> dict[str, Any]:
    """Trees need no runtime: the gateway walks plain arrays with numpy."""
    if onnx:
        raise BundleError("trees have no ONNX form: the gateway walks their arrays, trees.npz")
    shutil.copyfile(folder / "trees.npz", out / "trees.npz")
    grown = trees.read((out / "trees.npz").read_bytes())
    times = {}
    for batch in BATCHES:
        rows, best, until = x[np.arange(batch) % len(x)], np.inf, time.perf_counter() + seconds
        while best == np.inf or time.perf_counter() < until:
            begun = time.perf_counter()
            grown.score(trees.summary(rows))
            best = min(best, time.perf_counter() - begun)
        times[str(batch)] = round(best / batch * 1e6, 2)
    report = {
        "form": "arrays", "bytes": (out / "trees.npz").stat().st_size, "auc_lost": 0.0,
        "microseconds": {"numpy": times}, "difference": {"numpy": 0.0},
    }  # fmt: skip
    return {"chosen": "arrays", "why": "trees are plain arrays", "forms": [report],
            "file": "trees.npz"}  # fmt: skip

"""A fit's state after an epoch in one file, so that a killed fit goes on as if it had not been."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from guardian.errors import InputError
from trainer.fitting.how import History


def save(path: Path, model: Any, best: list[Any], history: History, key: str) -> None:
    """Write weights, optimizer, random states, the best weights and the history.

    The file appears whole or not at all. `key` says what was fitted on what.
    """
    arrays: dict[str, Any] = {f"v{k}": np.asarray(v) for k, v in enumerate(_variables(model))}
    arrays.update({f"best{k}": np.asarray(v) for k, v in enumerate(best)})
    about = json.dumps({"key": key, "history": asdict(history)})
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        np.savez(file, about=np.frombuffer(about.encode(), np.uint8), **arrays)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def restore(path: Path, model: Any, key: str) -> tuple[History, list[Any]] | None:
    """Put a saved state into a compiled, built model; return the history and the best weights.

    None where there is none. Raises InputError where it is of another fit, or cannot be read.
    """
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            about = json.loads(archive["about"].tobytes())
            values = _numbered(archive, "v")
            best = _numbered(archive, "best")
            history = History(**about["history"])
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read: delete it to begin anew") from error
    variables = _variables(model)
    fits = [tuple(v.shape) for v in variables] == [v.shape for v in values]
    if about["key"] != key or not fits:
        raise InputError(
            f"{path} is of another fit (other data, seed or settings): delete it to begin anew,"
            " or give another folder"
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return history, best


def _numbered(archive: Any, letter: str) -> list[Any]:
    count = sum(name.rstrip("0123456789") == letter for name in archive.files)
    return [archive[f"{letter}{k}"] for k in range(count)]


def _variables(model: Any) -> list[Any]:
    """All that changes while a model is fitted: weights, statistics, random states, optimizer.

    The random states are what dropout draws from. The order of the rows and augmentation need
    none: they follow from seed and epoch.
    """
    return [*model.variables, *model.optimizer.variables]

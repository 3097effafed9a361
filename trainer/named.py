"""`guardian train --model NAME`: any family on any set, from what a person typed to a run's folder
and what is told of it at the end.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from guardian.errors import ConfigError, InputError
from guardian.hush import hushed
from trainer import told
from trainer.experiment import Result, repeat, run_experiment, search_experiment
from trainer.fitting import run as runs
from trainer.fitting.device import found
from trainer.fitting.how import Augment, Fit
from trainer.fitting.member import how_of
from trainer.fitting.run import Splitting
from trainer.forms import keep_rows, other_runtime, write_forms
from trainer.sets.athand import SETS
from trainer.sets.prepared import Prepared
from trainer.sets.registry import READERS, prepare, sniff
from trainer.sizing import adapt_experiment
from trainer.thresholds import METHODS, draw
from trainer.zoo.config import Config, nearest
from trainer.zoo.family import REGISTRY, Family

Echo = Callable[[str], None]

EXPORTED = "export"
LINE = "line.json"
FITTING = ("class_weights", "precision", "recompute", "distribute", "tensorboard", "clip", "decay",
           "jit")  # fmt: skip
"""Fields of Fit that a file of hyperparameters may have beside the family's own."""


def train_model(
    inputs: list[Path],
    out: Path,
    *,
    data: Path | None = None,
    model: str | None = None,
    set_name: str | None = None,
    preset: str | None = None,
    split: str | None = None,
    seed: int = 1,
    config: Path | None = None,
    options: tuple[str, ...] = (),
    search: int | None = None,
    adapt: bool = False,
    resume: bool = False,
    from_config: Path | None = None,
    limit: int | None = None,
    cache: Path | None = None,
    threshold: str | None = None,
    onnx: bool = False,
    echo: Echo = print,
    **wishes: Any,
) -> str:
    """Train a family on a set into the folder `out`, export it, and return what to tell a person.

    `wishes` are hyperparameters and fields of Fit by their option's name; None and what is not
    given are left as the preset, the file `config` and the family have them. Raises InputError or
    ConfigError with a sentence for everything that cannot be.
    """
    line = _method(threshold)
    _free(out, resume)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it counts retracings of many fits
    if not wishes.get("distribute"):  # several workers must meet before anything else
        with hushed():
            found()
    if resume and from_config is None and model is None:
        from_config = out
    if from_config is not None:
        result = _again(from_config, out, cache, echo)
    else:
        if model is None:
            raise ConfigError("name a model: --model NAME (--list shows them)")
        family = REGISTRY[model]
        hyper, how = _wished(family, preset, config, options, wishes)
        prepared, about = _set(inputs, data, set_name, limit, cache, echo)
        _say(prepared, echo)
        splitting = Splitting(split or "group", seed)
        if search and adapt:
            raise ConfigError("--search and --adapt both choose the size: give one of them")
        run = search_experiment if search else adapt_experiment if adapt else run_experiment
        more: dict[str, Any] = {"trials": search} if search else {}
        result = run(
            prepared, model, hyper, splitting, out, how=how, seed=seed, data=about, echo=echo,
            **more,
        )  # fmt: skip
        keep_rows(out, prepared)
    _draw(result, line)
    export_model(out, out / EXPORTED, onnx=onnx, echo=echo)
    return report(out, None, echo=echo)


def export_model(
    folder: Path,
    out: Path,
    *,
    form: str | None = None,
    onnx: bool = False,
    echo: Echo = print,
) -> str:
    """Export a run by `train_model` to a folder, and return what to tell a person."""
    if not (folder / runs.RESULT).exists():
        raise InputError(f"{folder} is no finished run: go on with `guardian train --resume -o`")
    forms = write_forms(
        folder, out, form=form or "auto", onnx=onnx, other=other_runtime(), echo=echo
    )
    if (folder / LINE).exists():
        (out / LINE).write_bytes((folder / LINE).read_bytes())
    return told.forms(forms) + f"\nwrote {out}\n"


def report(folder: Path, out: Path | None = None, *, echo: Echo = print) -> str:
    """Return the report of a run for a person; its page is written to `out` (or beside it).

    Raises InputError where the folder is no finished run.
    """
    try:
        result = json.loads((folder / runs.RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder} is no finished run: give a folder that `guardian train --model` wrote"
        ) from error
    forms = _json(folder / EXPORTED / "forms.json")
    line = _json(folder / LINE)
    page = _page(folder, out, echo)
    return told.report(result, forms, line, folder, page)


def listing() -> str:
    """Return the families, sets and presets as tables."""
    return told.listing()


# --- what was asked for -----------------------------------------------------------------


def _method(name: str | None) -> str | None:
    if name is not None and name not in METHODS:
        raise ConfigError(
            f"there is no threshold {name!r}: did you mean {nearest(name, METHODS)!r}?"
        )
    return name


def _free(out: Path, resume: bool) -> None:
    """Refuse to write over a run."""
    if resume and not (out / runs.CONFIG).exists():
        raise InputError(f"{out} has no run to go on with: leave --resume out")
    if not resume and (out / runs.CONFIG).exists():
        raise InputError(f"{out} has a run already: --resume goes on with it, or give another -o")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: give a folder to -o")


def _wished(
    family: Family,
    preset: str | None,
    path: Path | None,
    options: tuple[str, ...],
    wishes: dict[str, Any],
) -> tuple[Config, Fit]:
    """Return hyperparameters and how to fit: preset, then the file, then what was typed."""
    given = _file(path)
    preset = preset or given.pop("preset", None)
    augment = given.pop("augment", {})
    typed = {_RENAMED.get(key, key): value for key, value in wishes.items() if value is not None}
    if "hidden_size" in typed:
        typed["hidden_size"] = _widths(typed["hidden_size"])
    given |= typed | dict(map(_option, options))
    fitting = {key: given.pop(key) for key in FITTING if key in given}
    # An ensemble has no epochs of its own; its members stop there.
    epochs = given.pop("epochs", None) if family.task == "ensemble" else None
    hyper = family.config(preset, **given)
    try:
        how = how_of(hyper, **fitting, augment=Augment(**augment))
    except TypeError as error:
        raise ConfigError(
            f"{path}: [augment] knows noise, feature_dropout, jitter, crop"
        ) from error
    return hyper, how if epochs is None else replace(how, epochs=epochs)


_RENAMED = {"gradient_checkpointing": "recompute"}


def _file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        import tomllib  # noqa: PLC0415
    except ImportError:  # Python 3.10
        import tomli as tomllib  # type: ignore[no-redef,import-not-found,unused-ignore] # noqa: PLC0415
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: check path and rights") from error
    except ValueError as error:
        raise ConfigError(f"{path} is no TOML: {error}") from error


def _widths(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        units = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--hidden-size {text}: give units as 64 or 64,32") from error
    return units if len(units) > 1 else units[0]


def _option(text: str) -> tuple[str, Any]:
    """Return key and value of KEY=VALUE; the value as JSON has it, else as text."""
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--option {text}: write it as KEY=VALUE")
    try:
        return key.strip().replace("-", "_"), json.loads(value)
    except ValueError:
        return key.strip().replace("-", "_"), value


# --- the set ----------------------------------------------------------------------------


def _set(
    inputs: list[Path],
    data: Path | None,
    name: str | None,
    limit: int | None,
    cache: Path | None,
    echo: Echo,
) -> tuple[Prepared, dict[str, Any]]:
    """Return the prepared set, and what a config says of where it comes from."""
    if name is not None and name not in READERS and name not in SETS:
        near = nearest(name, (*SETS, *READERS))
        raise InputError(f"there is no data set {name!r}: did you mean {near}?")
    paths = inputs or ([data] if data is not None and name is not None else [])
    if not paths:
        raise InputError("give files or a folder, or --set NAME with --data FOLDER")
    kind = name or _kind(paths)
    prepared = prepare(kind, paths, cache=cache or _cache(), limit=limit, echo=echo)
    about = {"kind": kind, "paths": [str(path.absolute()) for path in paths], "limit": limit}
    return prepared, about


def _kind(paths: list[Path]) -> str:
    """Return the one kind that all files are of. Raises InputError where there are several."""
    kinds: dict[str, Path] = {}
    for path in paths:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            try:
                kinds.setdefault(sniff(file), file)
            except InputError:
                if not path.is_dir():
                    raise
    if len(kinds) > 1:
        said = ", ".join(f"{kind} ({file.name})" for kind, file in kinds.items())
        raise InputError(f"the input has several kinds of files: {said}; name one with --set")
    if not kinds:
        raise InputError(f"{paths[0]} holds no file of a known kind: {', '.join(READERS)}")
    return next(iter(kinds))


def _cache() -> Path:
    """Return where prepared sets are kept: they are as large as what they are made from."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "guardian" / "sets"


def _say(prepared: Prepared, echo: Echo) -> None:
    names = {name: int((prepared.label == k).sum()) for k, name in enumerate(prepared.classes)}
    classes = ", ".join(f"{name} {many:,}" for name, many in names.items() if many)
    echo(f"{prepared.name}: {len(prepared):,} rows, {len(prepared.features)} features; "
         f"{classes or 'no labels'}")  # fmt: skip
    if prepared.why:
        echo(prepared.why)


# --- what is left behind ----------------------------------------------------------------


def _again(config: Path, out: Path, cache: Path | None, echo: Echo) -> Result:
    """Do a run again, or go on with it, and keep what an export needs."""
    about = runs.read_config(config)
    if "kind" not in about.data:
        raise InputError(f"{config} does not say where its set comes from: train with --model")
    paths = [Path(path) for path in about.data["paths"]]
    prepared = prepare(
        about.data["kind"], paths, cache=cache or _cache(), limit=about.data.get("limit"), echo=echo
    )
    _say(prepared, echo)
    result = repeat(config, out, prepared=prepared, echo=echo)
    runs.write_config(out, replace(runs.read_config(out), data=about.data))
    keep_rows(out, prepared)
    return result


def _draw(result: Result, method: str | None) -> None:
    """Write the line that the exported model carries."""
    method = method or result.about["metrics"]["test"].get("at", {}).get("method")
    if method is None:
        return
    line = draw(method, result.valid.score, result.valid.attack)
    about = asdict(line) | {"family": result.about["family"], "above": "is told as an attack"}
    runs.write_json(result.folder / LINE, about)


def _json(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _page(folder: Path, out: Path | None, echo: Echo) -> Path:
    """Write the page of a run into its folder, or to `out`."""
    from trainer.pages import write_page  # noqa: PLC0415 - matplotlib takes its time

    page = write_page(folder, out or folder)
    echo(f"wrote {page}")
    return page

"""Searching hyperparameters with Optuna: on validation alone, resumable, seeded."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from guardian import extras
from guardian.errors import ConfigError, InputError
from trainer.fitting.run import write_json
from trainer.zoo.config import Config
from trainer.zoo.family import Family

Echo = Callable[[str], None]
Try = Callable[[Config, Path], float]
"""(config, folder of the trial) -> what to make large, from validation rows."""

STUDY, BEST = "study.db", "best.json"


def space(trial: Any, family: Family, config: Config) -> Config:
    """Return a config around a given one, of the hyperparameters that the family reads.

    Window and stride stay: another window has other sequences, whose figures do not compare.
    """
    changes: dict[str, Any] = {}
    if "hidden" in family.uses:
        width = trial.suggest_categorical("width", [0.5, 1.0, 2.0])
        most = max(1, config.heads if "heads" in family.uses else 1)
        changes["hidden"] = [max(most, round(n * width / most) * most) for n in config.hidden]
    if "rate" in family.uses:
        changes["rate"] = trial.suggest_float("rate", config.rate / 5, config.rate * 5, log=True)
    if "dropout" in family.uses:
        changes["dropout"] = trial.suggest_float("dropout", 0.0, 0.5, step=0.1)
    if "weight_decay" in family.uses:
        changes["weight_decay"] = trial.suggest_float("weight_decay", 1e-6, 1e-2, log=True)
    if "smoothing" in family.uses:
        changes["smoothing"] = trial.suggest_float("smoothing", 0.0, 0.1, step=0.05)
    if "code" in family.uses:
        changes["code"] = trial.suggest_int("code", max(1, config.code // 2), config.code * 2)
    if "trees" in family.uses:
        changes["trees"] = trial.suggest_int("trees", max(1, config.trees // 2), config.trees * 2)
    if "leaves" in family.uses:
        changes["leaves"] = trial.suggest_int("leaves", 7, max(8, config.leaves * 2))
    if not changes:
        raise ConfigError(f"{family.name} has no hyperparameter that a search could choose")
    return config.with_(**changes)


def search(
    family: Family,
    config: Config,
    attempt: Try,
    folder: Path,
    *,
    trials: int,
    seed: int = 1,
    digest: str = "",
    echo: Echo = print,
) -> tuple[Config, float]:
    """Try configs around a given one until there are `trials` of them; return the best and its
    figure.

    The study is an SQLite file in the folder: a search that was interrupted goes on, and a larger
    number of trials goes on from a smaller one. The config itself is the first trial. A trial
    that fails with a user's error counts as worst. Raises InputError where the study is of
    another search, and ConfigError without Optuna.
    """
    try:
        import optuna  # noqa: PLC0415 - an extra of its own
    except ImportError as error:
        raise ConfigError(f"a search needs Optuna: {extras.command('optuna')}") from error
    if trials < 1:
        raise ConfigError(f"a search of {trials} trials finds nothing: give 1 or more")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.RDBStorage(f"sqlite:///{(folder / STUDY).absolute()}")
    about = {"family": family.name, "base": repr(config), "digest": digest, "seed": seed}
    try:
        study = optuna.create_study(
            storage=storage, study_name="search", direction="maximize", load_if_exists=True
        )
        if study.user_attrs not in ({}, about):
            raise InputError(
                f"{folder / STUDY} is of another search: delete it, or give another folder"
            )
        for key, value in about.items():
            study.set_user_attr(key, value)
        states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL)
        waiting = optuna.trial.TrialState.WAITING
        if not study.get_trials(deepcopy=False, states=(*states, waiting)):
            study.enqueue_trial(_base(family, config))
        while (done := len(study.get_trials(deepcopy=False, states=states))) < trials:
            # A sampler for each trial, so that an interrupted search goes on as it would have.
            study.sampler = optuna.samplers.TPESampler(seed=seed * 10_007 + done)
            trial = study.ask()
            drawn = space(trial, family, config)
            try:
                value = attempt(drawn, folder / f"trial-{trial.number}")
            except (InputError, ConfigError) as error:
                echo(f"trial {done + 1}/{trials}: {error}")
                value = math.nan
            if math.isfinite(value):
                study.tell(trial, value)
                echo(
                    f"trial {done + 1}/{trials}: {value:.4f}, best {study.best_value:.4f}; "
                    + ", ".join(f"{k} {_short(v)}" for k, v in trial.params.items())
                )
            else:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
        if not study.get_trials(deepcopy=False, states=states[:1]):
            raise InputError("every trial failed: see what they said")
        best = study.best_trial
        chosen = space(optuna.trial.FixedTrial(best.params), family, config)
        write_json(folder / BEST, {
            "family": family.name, "value": best.value, "trial": best.number,
            "trials": trials, "params": best.params, "config": json.loads(_json(chosen)),
        })  # fmt: skip
        return chosen, float(study.best_value)
    finally:
        storage.engine.dispose()


def _base(family: Family, config: Config) -> dict[str, Any]:
    """Return the draws that give the config itself."""
    draws = {"width": 1.0, "rate": config.rate, "dropout": config.dropout,
             "weight_decay": config.weight_decay, "smoothing": config.smoothing,
             "code": config.code, "trees": config.trees, "leaves": config.leaves}  # fmt: skip
    return {
        key: value
        for key, value in draws.items()
        if key in family.uses or (key == "width" and "hidden" in family.uses)
    }


def _json(config: Config) -> str:
    return json.dumps({name: getattr(config, name) for name in type(config).__dataclass_fields__})


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)

"""One family on one data set: split, scale, fit, draw thresholds, judge, beside what needs no
model. `run_experiment` does it, `repeat` does it again from a run's config alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from guardian.errors import InputError
from guardian.tables import F64, Array
from trainer import baselines, insight, judge, thresholds
from trainer.fitting import run as runs
from trainer.fitting.how import Fit
from trainer.fitting.member import HELD_OUT, Fitted, fit_ensemble, fit_member, how_of
from trainer.fitting.run import RunConfig, Splitting
from trainer.material import Sequences, joined, sequences
from trainer.scaling import STATED, robust
from trainer.sets.prepared import Prepared
from trainer.sets.protocol import protocols
from trainer.sets.split import Split
from trainer.sets.split import split as split_rows
from trainer.zoo.config import Config
from trainer.zoo.ensemble import members as members_of
from trainer.zoo.family import REGISTRY, Family, Shape

Echo = Callable[[str], None]

LINE, LINE_WITHOUT_ATTACKS = "best F1", "1 % false positives"
"""The threshold that F1, classes and groups are told at, with and without attacks to choose by."""


@dataclass(frozen=True)
class Result:
    """What a run came to."""

    folder: Path
    about: dict[str, Any]
    """What result.json has."""
    fitted: Fitted
    valid: thresholds.Scored
    test: thresholds.Scored

    def figure(self, name: str, part: str = "test") -> float | None:
        """Return one of auc, average_precision, recall_at_0.001, recall_at_0.01, recall_at_0.1."""
        value: float | None = self.about["metrics"][part][name]
        return value


@dataclass(frozen=True)
class _Parts:
    """The sequences of the three parts of a split."""

    train: Sequences
    """What the family learns from: benign alone where it rebuilds, else all that are labelled."""
    held: Sequences
    """What its fit is stopped by: of the same kind, from validation."""
    valid: Sequences
    test: Sequences
    """All that are labelled."""


def run_experiment(
    prepared: Prepared,
    family_name: str,
    config: Config,
    split: Splitting,
    folder: Path,
    *,
    how: Fit | None = None,
    seed: int = 1,
    data: dict[str, Any] | None = None,
    scopes: Mapping[str, Array] | None = None,
    judged: bool = True,
    echo: Echo = print,
) -> Result:
    """Fit a family on a prepared set and judge it; write all to a run's folder.

    `how` overrides what `config` says of epochs, batch, rate and patience. `data` says where the
    set comes from, for `repeat`. `scopes` are int[n] by row of the set, beside the groups and the
    protocol, where features tell it: lines are drawn for each value. Without `judged` the test
    rows are not looked at (a search). An interrupted run goes on from its folder. Raises InputError
    or ConfigError where rows, classes or groups do not suffice.
    """
    begun = time.monotonic()
    family = REGISTRY[family_name]
    how = how or how_of(config)
    about = RunConfig(
        family_name, asdict(config), how, seed, split, prepared.digest, dict(data or {})
    )
    runs.write_config(folder, about)
    by: Any = split.by
    dealt = split_rows(prepared, by=by, seed=split.seed, shares=split.shares, test=split.test)
    window = config.window if prepared.ordered else 1
    benign = _benign(prepared)
    quiet = _learns_quiet(family)
    parts = _parts(prepared, dealt, config, window, benign, benign_alone=quiet)
    runs.save_scaler(folder, parts.train.scaler)
    if family.task == "ensemble":
        fitted = _ensemble(prepared, config, how, dealt, parts, benign, folder, seed, echo)
    else:
        shape = Shape(window, len(prepared.features), len(prepared.classes))
        fitted = fit_member(
            family, config, how, shape, parts.train, parts.held, seed=seed, folder=folder,
            echo=echo,
        )  # fmt: skip
    fitted.save(folder)
    found = {name: np.asarray(array) for name, array in (scopes or {}).items()}
    codes = protocols(prepared)
    if codes is not None:
        found.setdefault("protocol", codes)
    found["group"] = prepared.group
    valid, told_valid = _scored(fitted, parts.valid, found)
    test, told = _scored(fitted, parts.test.only(np.zeros(0, np.int64)) if not judged else
                         parts.test, found)  # fmt: skip
    line = thresholds.draw(_method(valid), valid.score, valid.attack)
    others: dict[str, F64] = {}
    result = _facts(prepared, family, dealt, window, parts, fitted)
    result["seconds"] = {"fit": round(time.monotonic() - begun, 2)}
    result["metrics"] = {"valid": _metrics(line, valid, parts.valid, prepared, told_valid)}
    if judged:
        result["metrics"]["test"] = _metrics(line, test, parts.test, prepared, told, bounded=True)
        result["thresholds"] = thresholds.table(valid, test)
        result["baselines"], others = baselines.beside(
            parts.train, parts.valid, parts.test, line.method,
            learns_benign=family.task == "rebuild",
        )  # fmt: skip
    result["seconds"]["all"] = round(time.monotonic() - begun, 2)
    result = judge.plain(result)
    runs.write_json(folder / runs.RESULT, result)
    _keep_scores(folder, parts, valid, test, told, others)
    if judged:
        flagged = line.flagged(test.score, parts.test.group)
        looked = insight.Judged(parts.test, test.score, test.attack, flagged)
        insight.keep(folder, fitted, family, config, dealt, looked, seed)
    return Result(folder, result, fitted, valid, test)


def repeat(
    config: Path,
    folder: Path,
    *,
    prepared: Prepared | None = None,
    cache: Path | None = None,
    echo: Echo = print,
) -> Result:
    """Do a run again from its config.json (or its folder) alone, into another folder.

    The set is prepared again from where it came, unless it is given. Raises InputError where it
    is no longer the same.
    """
    about = runs.read_config(config)
    if prepared is None:
        prepared = _prepared(about, cache, echo)
    if prepared.digest != about.digest:
        raise InputError(
            f"{prepared.name} is not what that run was made from: its files, the reader's mapping"
            " or the limit changed"
        )
    family = REGISTRY[about.family]
    hyper = family.defaults.with_(**about.config)
    return run_experiment(
        prepared, about.family, hyper, about.split, folder,
        how=about.how, seed=about.seed, data=about.data, echo=echo,
    )  # fmt: skip


def _prepared(about: RunConfig, cache: Path | None, echo: Echo) -> Prepared:
    from trainer.sets.registry import prepare  # noqa: PLC0415 - all readers

    if "kind" not in about.data:
        raise InputError("this config does not say where its set comes from: give the set")
    paths = [Path(path) for path in about.data.get("paths", [])]
    return prepare(about.data["kind"], paths, cache=cache, limit=about.data.get("limit"), echo=echo)


# --- rows to sequences ------------------------------------------------------------------


def _learns_quiet(family: Family) -> bool:
    """Return whether a family learns what is usual, from benign rows alone."""
    return family.task == "rebuild" or family.name == "forest"


def _benign(prepared: Prepared) -> Array:
    """Return which rows count as benign: all, where a set has no labels at all (quiet weeks)."""
    if (prepared.label < 0).all():
        return np.ones(len(prepared), np.bool_)
    return np.asarray(prepared.label == 0)


def _parts(
    prepared: Prepared,
    dealt: Split,
    config: Config,
    window: int,
    benign: Array,
    *,
    benign_alone: bool,
) -> _Parts:
    taught = dealt.train[benign[dealt.train]] if benign_alone else dealt.train
    if not len(taught):
        raise InputError(
            f"{prepared.name} has no {'benign ' if benign_alone else ''}row to learn from in its"
            " training part: split it otherwise, or give more data"
        )
    scaler = robust(prepared.x, taught)

    def of(rows: Array) -> Sequences:
        return sequences(prepared, scaler, rows, window, config.stride)

    labelled = (prepared.label >= 0) | benign
    train, held = of(taught), of(dealt.valid[benign[dealt.valid]] if benign_alone else dealt.valid)
    valid, test = of(dealt.valid), of(dealt.test)
    train, held, valid, test = (s.only(labelled[s.ends]) for s in (train, held, valid, test))
    if not len(held):
        raise InputError(
            f"{prepared.name} has no validation sequence of {window} rows that fits: split it"
            " otherwise, or give a shorter window"
        )
    return _Parts(train, held, valid, test)


def _ensemble(
    prepared: Prepared,
    config: Config,
    how: Fit,
    dealt: Split,
    parts: _Parts,
    benign: Array,
    folder: Path,
    seed: int,
    echo: Echo,
) -> Fitted:
    """Fit an ensemble's members, each in a folder of its own, and weigh them on validation."""
    shape = Shape(parts.train.window, len(prepared.features), len(prepared.classes))
    members: dict[str, Fitted] = {}
    for family in members_of(config):
        hyper = family.defaults.with_(window=config.window, stride=config.stride)
        train, held = parts.train, parts.held
        if _learns_quiet(family):
            train = _quiet(train, dealt.train, benign, config.stride)
            held = _quiet(held, dealt.valid, benign, config.stride)
        place = folder / "members" / family.name
        place.mkdir(parents=True, exist_ok=True)
        members[family.name] = fit_member(
            family, hyper, _member_how(hyper, how), shape, train, held,
            seed=seed, folder=place, echo=echo,
        )  # fmt: skip
        members[family.name].save(place)
    return fit_ensemble(config, members, parts.valid.spread(HELD_OUT))


def _quiet(some: Sequences, rows: Array, benign: Array, stride: int) -> Sequences:
    """Return sequences of benign rows alone, in the scale of others."""
    return sequences(some.prepared, some.scaler, rows[benign[rows]], some.window, stride)


def _member_how(config: Config, how: Fit) -> Fit:
    """Return how a member is fitted: as its family wishes, on what the whole is fitted on, no
    longer than the whole.
    """
    own = how_of(config)
    return replace(how, batch=own.batch, rate=own.rate, weight_decay=own.weight_decay,
                   epochs=min(own.epochs, how.epochs))  # fmt: skip


# --- scores to figures ------------------------------------------------------------------


def _scored(
    fitted: Fitted, some: Sequences, scopes: dict[str, Array]
) -> tuple[thresholds.Scored, Array | None]:
    """Return the scores of sequences, and the classes told where the family knows any."""
    answers = some.score(fitted.answer)
    told = [classes for _, classes in answers if classes is not None]
    scored = thresholds.Scored(
        joined([score for score, _ in answers]),
        np.asarray(some.label > 0),
        {name: array[some.ends] for name, array in scopes.items()},
    )
    return scored, np.concatenate(told) if told else None


def _method(valid: thresholds.Scored) -> str:
    return LINE if valid.attack.any() else LINE_WITHOUT_ATTACKS


def _keep_scores(
    folder: Path,
    parts: _Parts,
    valid: thresholds.Scored,
    test: thresholds.Scored,
    told: Array | None,
    others: dict[str, F64],
) -> None:
    """Write scores.npz: of validation and test the score, row, class and group of each sequence,
    of test also the class told and what the baselines score.
    """
    arrays: dict[str, Array] = {f"test_{name}": score for name, score in others.items()}
    if told is not None:
        arrays["test_told"] = told
    for name, scored, some in (("valid", valid, parts.valid), ("test", test, parts.test)):
        kept = some.only(slice(0, len(scored.score)))  # a search does not look at test
        arrays |= {name: scored.score, f"{name}_row": kept.ends, f"{name}_label": kept.label,
                   f"{name}_group": kept.group}  # fmt: skip
    np.savez_compressed(folder / "scores.npz", **arrays)  # type: ignore[arg-type]


def _metrics(
    line: thresholds.Line,
    rows: thresholds.Scored,
    some: Sequences,
    prepared: Prepared,
    told: Array | None,
    *,
    bounded: bool = False,
) -> dict[str, Any]:
    """Return the figures of a part; the line was drawn on validation."""
    flagged = line.flagged(rows.score, some.group)
    label = np.maximum(some.label, 0)  # a set without labels is taken for quiet
    out: dict[str, Any] = {"sequences": len(some), "attacks": int(rows.attack.sum())}
    if not len(some):
        return out
    out |= judge.figures(rows.score, rows.attack)
    if bounded:
        out["bounds"] = judge.bounds(rows.score, rows.attack, some.group, flagged)
    out["at"] = {
        "method": line.method,
        "threshold": line.value,
        **judge.binary(flagged, rows.attack),
    }
    shared = (rows.score, rows.attack, flagged)
    out["by_class"] = judge.by_part(*shared, label, lambda k: prepared.classes[k])
    out["by_group"] = judge.by_part(*shared, some.group, lambda k: prepared.groups[k])
    if told is not None:
        table = judge.confusion(label, told, len(prepared.classes))
        out["confusion"] = {"classes": list(prepared.classes), "table": table}
        out["classes"] = judge.class_figures(table)
    return out


def _facts(
    prepared: Prepared,
    family: Family,
    dealt: Split,
    window: int,
    parts: _Parts,
    fitted: Fitted,
) -> dict[str, Any]:
    """Return what a reader must know to judge the figures."""
    history = fitted.history
    warnings = [text for text in (dealt.warning, prepared.why) if text]
    if not prepared.ordered:
        warnings.append("Rows do not follow in time: sequences of one row, nothing is claimed for"
                        " sequences.")  # fmt: skip
    if (prepared.label < 0).all():
        warnings.append("No row has a label: all were taken for benign.")
    learns = "benign training rows" if _learns_quiet(family) else "training rows"
    return {
        "family": family.name,
        "task": family.task,
        "set": prepared.name,
        "digest": prepared.digest,
        "comparable": prepared.comparable,
        "warnings": warnings,
        "split": dealt.how,
        "rows": {"train": len(dealt.train), "valid": len(dealt.valid), "test": len(dealt.test)},
        "sequences": {
            "window": window, "train": len(parts.train), "held out": len(parts.held),
            "valid": len(parts.valid), "test": len(parts.test),
        },
        "scaler": STATED.format(of=learns),
        "parameters": fitted.size,
        "device": history.device if history else "CPU",
        "curves": asdict(history) if history else None,
        "versions": runs.versions(),
    }  # fmt: skip


# --- search -----------------------------------------------------------------------------


def search_experiment(
    prepared: Prepared,
    family_name: str,
    config: Config,
    split: Splitting,
    folder: Path,
    *,
    trials: int,
    how: Fit | None = None,
    seed: int = 1,
    data: dict[str, Any] | None = None,
    echo: Echo = print,
) -> Result:
    """Search a family's hyperparameters by validation, then run the best and judge it on test.

    What is made large is the AUC of validation; without attacks there, or for want of both
    sides, the validation loss is made small. The study lies in `folder`/search and goes on where
    it was interrupted.
    """
    from trainer.fitting.search import search  # noqa: PLC0415

    family = REGISTRY[family_name]

    def fit_of(drawn: Config) -> Fit:
        if how is None:
            return how_of(drawn)
        return replace(how, rate=drawn.rate, weight_decay=drawn.weight_decay)

    def attempt(drawn: Config, place: Path) -> float:
        found = run_experiment(
            prepared, family_name, drawn, split, place, how=fit_of(drawn), seed=seed,
            judged=False, echo=_silent,
        )  # fmt: skip
        worth = found.figure("auc", "valid")
        if worth is not None:
            return worth
        history = found.fitted.history
        return -min(history.valid) if history and history.valid else float("nan")

    best, _ = search(
        family, config, attempt, folder / "search", trials=trials, seed=seed,
        digest=f"{prepared.digest} {split}", echo=echo,
    )  # fmt: skip
    return run_experiment(
        prepared, family_name, best, split, folder, how=fit_of(best), seed=seed, data=data,
        echo=echo,
    )  # fmt: skip


def _silent(_line: str) -> None:
    """Tell nobody."""

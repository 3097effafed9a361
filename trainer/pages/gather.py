"""All numbers of a page, from a run's folder: this is the JSON that lies beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from guardian.errors import InputError
from guardian.tables import Array
from trainer import insight, thresholds
from trainer.fitting.run import CONFIG, RESULT
from trainer.judge import plain
from trainer.metrics import auc
from trainer.pages import figures
from trainer.zoo.family import REGISTRY

FIGURES = ("auc", "average_precision", "f1", "recall_at_0.001", "recall_at_0.01")
NAMES = {"best feature": "one feature", "pca": "principal components"}
RATES = np.geomspace(1e-4, 1.0, 61)
"""False positive rates at which the interval of the ROC is told."""
FORMS = "forms.json"


def gather(folder: Path) -> dict[str, Any]:
    """Return the numbers of a run's page. Raises InputError for a folder that is no judged run."""
    try:
        config, result, kept = (
            json.loads((folder / name).read_text(encoding="utf-8"))
            for name in (CONFIG, RESULT, insight.KEPT)
        )
        with np.load(folder / "scores.npz", allow_pickle=False) as file:
            scores = {name: file[name] for name in file.files}
        return _gathered(folder, config, result, kept, scores)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{folder} is no whole run ({error}): give the folder of a run that was judged on test"
        ) from error


def _gathered(
    folder: Path,
    config: dict[str, Any],
    result: dict[str, Any],
    kept: dict[str, Any],
    scores: dict[str, Array],
) -> dict[str, Any]:
    test = result["metrics"]["test"]
    score, label, group = scores["test"], np.maximum(scores["test_label"], 0), scores["test_group"]
    attack = label > 0
    at = test["at"]
    line = thresholds.draw(at["method"], scores["valid"], scores["valid_label"] > 0)
    flagged = line.flagged(score, group)
    classes, names = kept["classes"], kept["groups"]
    capture, captures = _captures(group, names)
    out: dict[str, Any] = {
        "what": _what(config, result, kept, len(np.unique(capture))),
        "headline": _headline(result, test),
        "roc": _roc(scores, attack, group),
        "precision_recall": _precision_recall(scores, attack),
        "spread": figures.histogram(score, attack, line.value) if len(score) else None,
        "at": {"method": at["method"], "threshold": line.value, "f1": at["f1"],
               "table": _binary(attack, flagged)},
        "doubt": _doubt(folder, kept, label, attack, line.value),
        "classes": _classes(test, label, scores.get("test_told"), group, classes),
        "by_class": _parts(score, attack, flagged, label, classes),
        "by_capture": _parts(score, attack, flagged, capture, captures),
        "by_device": _parts(score, attack, flagged, group, names)
        if len(captures) < len(np.unique(group)) else [],
        "training": result["curves"],
        "thresholds": result["thresholds"],
        "importance": kept["importance"],
        "rebuilt": _rebuilt(folder, kept),
        "attention": _attention(folder, kept),
        "drift": kept["drift"],
        "forms": _forms(folder),
    }  # fmt: skip
    return dict(plain(out))


def _what(
    config: dict[str, Any], result: dict[str, Any], kept: dict[str, Any], captures: int
) -> dict[str, Any]:
    family = REGISTRY[result["family"]]
    keys = ("family", "task", "set", "digest", "comparable", "warnings", "split", "scaler",
            "parameters", "device", "versions", "seconds", "sequences", "rows")  # fmt: skip
    return {
        **{key: result[key] for key in keys},
        "about": family.about, "drawing": family.drawing, "at_export": family.at_export,
        "config": {k: v for k, v in config["config"].items() if k in family.uses},
        "how": config["how"], "seed": config["seed"], "features": len(kept["features"]),
        "captures_of_test": captures,
        "counts": [{"what": k, "rows": n} for k, n in kept["counts"].items()],
        "by_class": [
            {"class": name, **{part: kept["by_class"][part].get(name, 0)
                               for part in ("train", "valid", "test")}}
            for name in (*kept["classes"], "(unlabelled)")
            if any(name in of for of in kept["by_class"].values())
        ],
    }  # fmt: skip


def _captures(group: Array, names: list[str]) -> tuple[Array, list[str]]:
    """Return the capture of each row, and the names of all captures."""
    families = [name.partition("/")[0] for name in names]
    known = list(dict.fromkeys(families[g] for g in np.unique(group).tolist()))
    index = {name: k for k, name in enumerate(known)}
    of_group = np.array([index.get(name, -1) for name in families])
    return of_group[group], known


def _headline(result: dict[str, Any], test: dict[str, Any]) -> dict[str, Any]:
    """Return the figures with their intervals, the model's first, then what needs no model."""

    def row(name: str, found: dict[str, Any], f1: float | None) -> dict[str, Any]:
        values = {**found, "f1": f1}
        bounds = found.get("bounds") or {}
        told = {}
        for key in FIGURES:
            low, high = bounds.get(key) or (None, None)
            told[key] = {"value": values.get(key), "low": low, "high": high}
        return {"name": name, "figures": told}

    rows = [row(result["family"], test, test["at"]["f1"] if test["attacks"] else None)]
    for key, found in result["baselines"].items():
        if found is not None and key != "majority":
            name = NAMES[key]
            if key == "best feature":
                name += f": {found['feature']}, {'high' if found['high_is_attack'] else 'low'}"
            else:
                name += f" ({found['components']})"
            rows.append(row(name, found, found.get("f1")))
    bounds = test.get("bounds") or {}
    return {
        "sequences": test["sequences"], "attacks": test["attacks"], "of": bounds.get("of"),
        "rounds": bounds.get("rounds"), "rows": rows,
        "majority": {k: result["baselines"]["majority"][k] for k in ("accuracy", "macro_f1")},
    }  # fmt: skip


def _roc(scores: dict[str, Array], attack: Array, group: Array) -> dict[str, Any] | None:
    if attack.all() or not attack.any():
        return None
    curves = {
        name: figures.thinned(*figures.roc(scores[key], attack), log=True)
        for name, key in _scorers(scores)
    }
    return {"curves": curves, "band": figures.roc_band(scores["test"], attack, group, RATES),
            "least": 1 / int((~attack).sum())}  # fmt: skip


def _precision_recall(scores: dict[str, Array], attack: Array) -> dict[str, Any] | None:
    if attack.all() or not attack.any():
        return None
    curves = {
        name: figures.thinned(*figures.precision_recall(scores[key], attack))
        for name, key in _scorers(scores)
    }
    return {"curves": curves, "share": float(attack.mean())}


def _scorers(scores: dict[str, Array]) -> list[tuple[str, str]]:
    others = [(shown, f"test_{key}") for key, shown in NAMES.items() if f"test_{key}" in scores]
    return [("model", "test"), *others]


def _binary(attack: Array, flagged: Array) -> list[dict[str, Any]]:
    """Return two rows: of attacks and of benign sequences, how many are flagged."""
    return [
        {"of": name, "flagged": int((side & flagged).sum()), "passed": int((side & ~flagged).sum()),
         "share": figures.share(int((side & flagged).sum()), int(side.sum()))}
        for name, side in (("attack", attack), ("benign", ~attack))
    ]  # fmt: skip


def _doubt(
    folder: Path, kept: dict[str, Any], label: Array, attack: Array, line: float
) -> dict[str, Any] | None:
    """Return how much is sure at the line, and how often is wrong what is in doubt."""
    if kept["doubt"] is None:
        return None
    with np.load(folder / insight.ARRAYS, allow_pickle=False) as file:
        rows, told, low, high, epistemic, aleatoric = (
            file[f"doubt_{name}"]
            for name in ("row", "told", "low", "high", "epistemic", "aleatoric")
        )
    wrong = told != label[rows]
    sure, passed = low > line, high <= line
    table = []
    for name, side in (("attack", attack[rows]), ("benign", ~attack[rows])):
        many = [int((side & which).sum()) for which in (sure, ~sure & ~passed, passed)]
        table.append({"of": name, "flagged": many[0], "unsure": many[1], "passed": many[2]})
    kinds = {"epistemic": epistemic, "aleatoric": aleatoric}
    return {
        **kept["doubt"], "table": table, "wrong": figures.share(int(wrong.sum()), len(wrong)),
        "by_doubt": {name: figures.by_doubt(values, wrong) for name, values in kinds.items()},
        # How well doubt tells what is wrong from what is right.
        "auc": {name: auc(values[~wrong], values[wrong]) for name, values in kinds.items()},
    }  # fmt: skip


def _classes(
    test: dict[str, Any], label: Array, told: Array | None, group: Array, classes: list[str]
) -> dict[str, Any] | None:
    """Return the table of classes that have rows or were told."""
    if told is None:
        return None
    table = figures.confusion(label, told, group, len(classes))
    present = np.union1d(np.unique(label), np.unique(told)).tolist()
    return {**test["classes"], "names": [classes[k] for k in present],
            "table": [[table[i][j] for j in present] for i in present]}  # fmt: skip


def _parts(
    score: Array, attack: Array, flagged: Array, part: Array, names: list[str]
) -> list[dict[str, Any]]:
    """Return figures of each class, capture or device, those with most sequences first."""
    out = []
    for number in np.unique(part).tolist():
        rows = part == number
        hits, false = rows & attack, rows & ~attack
        own = bool(false.any())
        out.append({
            "name": names[number], "sequences": int(rows.sum()), "attacks": int(hits.sum()),
            "auc": auc(score[false if own else ~attack], score[hits]),
            "against": "its own benign" if own else "all benign",
            "detection": figures.share(int(flagged[hits].sum()), int(hits.sum())),
            "false_positives": figures.share(int(flagged[false].sum()), int(false.sum())),
        })  # fmt: skip
    return sorted(out, key=lambda row: (-int(row["sequences"]), str(row["name"])))


def _rebuilt(folder: Path, kept: dict[str, Any]) -> dict[str, Any] | None:
    """Return the mean squared error of each feature, and the examples with their numbers."""
    if kept["rebuilt"] is None:
        return None
    with np.load(folder / insight.ARRAYS, allow_pickle=False) as file:
        error = {side: file[f"error_{side}"] for side in ("benign", "attack")
                 if f"error_{side}" in file.files}  # fmt: skip
        examples = [
            {**one, "class": kept["classes"][one["class"]], "group": kept["groups"][one["group"]],
             "given": file[f"given_{k}"].tolist(), "again": file[f"again_{k}"].tolist()}
            for k, one in enumerate(kept["rebuilt"]["examples"])
        ]  # fmt: skip
    features = [
        {"name": name, **{side: values[k] for side, values in error.items()}}
        for k, name in enumerate(kept["features"])
    ]
    features.sort(key=lambda row: -float(row.get("attack", row.get("benign", 0.0))))
    return {"sequences": kept["rebuilt"]["sequences"], "features": features, "examples": examples,
            "names": kept["features"]}  # fmt: skip


def _attention(folder: Path, kept: dict[str, Any]) -> dict[str, Any] | None:
    if kept["attention"] is None:
        return None
    with np.load(folder / insight.ARRAYS, allow_pickle=False) as file:
        maps = file["attention"].tolist()
    about = kept["attention"]
    return {
        "heads": about["heads"], "layers": about["layers"],
        "classes": [
            {"class": kept["classes"][k], "sequences": many, "map": one}
            for k, many, one in zip(about["classes"], about["sequences"], maps, strict=True)
        ],
    }  # fmt: skip


def _forms(folder: Path) -> dict[str, Any] | None:
    """Return what an export of this run wrote, here or in a folder below."""
    for path in (folder / FORMS, *sorted(folder.glob(f"*/{FORMS}"))):
        if path.is_file():
            return dict(json.loads(path.read_text(encoding="utf-8")))
    return None

"""What a person reads at the end of a run: short tables, and the next command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.sets.athand import SETS
from trainer.sets.registry import READERS
from trainer.zoo.config import PRESETS
from trainer.zoo.family import REGISTRY


def columns(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], left: int = 1) -> str:
    """Return a table for a terminal; the first `left` columns stand left, the others right."""
    wide = [max(len(row[k]) for row in (head, *rows)) for k in range(len(head))]
    lines = []
    for row in (head, tuple("-" * n for n in wide), *rows):
        cells = [
            cell.ljust(n) if k < left else cell.rjust(n)
            for k, (cell, n) in enumerate(zip(row, wide, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"


def number(value: float | None, form: str = ".4f") -> str:
    """Return a figure, or a dash where there is none."""
    return "-" if value is None else format(value, form)


def report(
    result: dict[str, Any],
    forms_found: dict[str, Any] | None,
    line: dict[str, Any] | None,
    folder: Path,
    page: Path | None,
) -> str:
    """Return all that is told of a finished run."""
    test = result["metrics"]["test"]
    parts = [
        f"{result['family']} on {result['set']}, split {result['split']}\n"
        f"{test['sequences']:,} test sequences of {result['sequences']['window']} rows,"
        f" {test['attacks']:,} of them attacks; trained {result['seconds']['fit']:g} s;"
        f" {result['parameters']:,} parameters\n",
        metrics(result),
    ]
    parts += [f"Note: {text}\n" for text in result["warnings"]]
    parts.append(lines(result, line))
    if forms_found:
        parts.append(forms(forms_found))
    where = f"run     {folder}\n"
    if page:
        where += f"page    {page}\n"
    if forms_found:
        where += f"model   {folder / 'export'}\n"
    parts.append(where + f"next    guardian export {folder} -o MODEL --form int8\n")
    return "\n".join(parts)


def metrics(result: dict[str, Any]) -> str:
    """Return the figures beside those of what needs no model."""
    test = result["metrics"]["test"]
    if not test.get("attacks") or test["attacks"] == test["sequences"]:
        return "The test rows are of one kind, so there is no AUC to tell.\n"
    share = test["attacks"] / test["sequences"]
    rows = [_row(result["family"], test, test["at"]["f1"], test["at"]["accuracy"])]
    always = {"auc": 0.5, "average_precision": share}
    rows.append(_row("always attack", always, 2 * share / (1 + share), share))
    beside = result["baselines"]
    if best := beside.get("best feature"):
        sign = "high" if best["high_is_attack"] else "low"
        rows.append(_row(f"{best['feature']} {sign}", best))
    if pca := beside.get("pca"):
        rows.append(_row(f"pca of {pca['components']}", pca))
    head = ("", "AUC", "AP", "F1", "accuracy", "found at 0.1 % FP", "at 1 % FP")
    return columns(head, rows)


def _row(
    name: str, of: dict[str, Any], f1: float | None = None, accuracy: float | None = None
) -> tuple[str, ...]:
    figures = (of.get("auc"), of.get("average_precision"), f1, accuracy)
    rates = (of.get("recall_at_0.001"), of.get("recall_at_0.01"))
    return (name, *(number(v) for v in figures), *(number(v, ".1%") for v in rates))


def lines(result: dict[str, Any], chosen: dict[str, Any] | None) -> str:
    """Return the table of thresholds for all rows; the one that the model carries is marked."""
    rows = []
    for row in result["thresholds"]:
        if row["scope"] != "global":
            continue
        mark = "*" if chosen and chosen["method"] == row["method"] else " "
        test = row["test"]
        rows.append((
            f"{mark} {row['method']}", number(row["threshold"], ".4g"),
            number(row["valid"]["false_positives"], ".2%"),
            number(test["detection"], ".2%"), number(test["false_positives"], ".2%"),
            number(test["precision"], ".2%"),
        ))  # fmt: skip
    head = ("  threshold by", "line", "FP promised", "detection", "FP on test", "precision")
    scopes = sorted({r["scope"] for r in result["thresholds"]} - {"global"})
    more = f"Lines by {', '.join(scopes)} are in result.json.\n" if scopes else ""
    return columns(head, rows) + ("* is what the model carries.\n" if chosen else "") + more


def forms(found: dict[str, Any]) -> str:
    """Return the exported forms: size, time of a sequence, what is lost."""
    rows = []
    members = found.get("members") or {"": found}
    for name, part in members.items():
        for form in part["forms"]:
            mark = "*" if form["form"] == part["chosen"] else " "
            for k, (runtime, times) in enumerate(form["microseconds"].items()):
                first = (f"{mark} {f'{name} ' if name else ''}{form['form']}",
                         f"{form['bytes']:,}") if not k else ("", "")  # fmt: skip
                rows.append((
                    *first, runtime, *(number(times.get(b), ",.1f") for b in ("1", "64")),
                    number(form["difference"].get(runtime), ".2g"),
                    number(form.get("auc_lost"), "+.4f") if not k else "",
                ))  # fmt: skip
    head = ("  form", "bytes", "runtime", "us at 1", "us at 64", "off by", "AUC lost")
    text = columns(head, rows) + "* is exported: " + "; ".join(
        part["why"] for part in members.values()
    ) + ". Times are of a sequence on one thread.\n"  # fmt: skip
    for part in members.values():
        if "onnx" in part:
            text += (
                f"ONNX: {part['onnx']['bytes']:,} bytes, off by {part['onnx']['difference']:.2g}.\n"
            )
    return text


def listing() -> str:
    """Return the families, data sets and presets as tables."""
    families = [(name, family.task, family.about) for name, family in REGISTRY.items()]
    sets = [(name, entry.reader, READERS[entry.reader].title) for name, entry in SETS.items()]
    kinds = [(name, reader.title) for name, reader in READERS.items()]
    presets = [(name, preset.about) for name, preset in PRESETS.items()]
    return "\n".join([
        columns(("model", "task", "what it is"), families, 3),
        columns(("data set", "kind", "what its files are (--set NAME --data FOLDER)"), sets, 3),
        columns(("kind", "files that INPUT may be"), kinds, 2),
        columns(("preset", "what it changes"), presets, 2),
    ])  # fmt: skip

"""The page of models by set, from the content that trainer.table fills."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from trainer import published
from trainer.cells import EPOCHS, PATIENCE, SEED, TREES, WINDOW

TIE = 0.005
"""AUC that is not told apart."""
_HEAD = """# Models by data set

Made by `python -m trainer.table --data FOLDER -o docs/models-by-set.md`; the same figures stand in
[models-by-set.json](models-by-set.json). Numbers as they came.

Every model of the registry on every set at hand that fits it, all small, so that the whole takes
half an hour of a processor: windows of {window} rows (of 1 where rows do not follow in
time: nothing is claimed for sequences there), {epochs} epochs at most (patience {patience}, or as
the family wishes), {trees} trees, seed {seed}, batch and rate as the family has them. They say
which models work on what, not what an evening with a GPU would make of them.

* **AUC, AP** (average precision) and **found at 0.1 % and 1 %** false positives are of the scores
  on test. **F1** and **accuracy** are at the line with the best F1 on validation.
* **Trivial** rows need no model: always to say attack; the one feature that is best on validation;
  the part of a sequence that principal components of benign rows leave unexplained.
* **Beside trivial** compares AUC with the better of the last two: *worse* stands where a model is.
* **Size** is the int8 model (or another form, where int8 loses more than 0.005 AUC on validation:
  it is named) or the arrays of trees. **Runtimes**: *both* says that it was built and run on
  ai-edge-litert and on tflite-runtime 2.14, and beside it stands the largest difference of any of
  its outputs from Keras', as a share of what these span; trees need numpy alone.
* **Seconds** are processor seconds of the whole run (scaling, fit, scores, baselines).
"""


def page(table: dict[str, Any]) -> str:
    """Return the page as Markdown."""
    parts = [_HEAD.format(window=WINDOW, epochs=EPOCHS, patience=PATIENCE, trees=TREES, seed=SEED)]
    parts += [_overview(table["sets"])]
    parts += [_set(entry) for entry in table["sets"] if entry["cells"]]
    if any(entry["cells"] for entry in table["ablations"]):
        parts.append(_ABLATION)
        parts += [_ablation(entry) for entry in table["ablations"] if entry["cells"]]
    parts.append(_elsewhere())
    return "\n".join(parts).rstrip() + "\n"


def _overview(sets: list[dict[str, Any]]) -> str:
    """Return AUC of every model on every set."""
    names = [entry["name"] for entry in sets if entry["cells"]]
    models = list(dict.fromkeys(c["family"] for entry in sets for c in entry["cells"]))
    rows = [
        "## AUC of all\n",
        "Means over folds where there are folds; in brackets what is worse than a trivial rule.\n",
        "| model | " + " | ".join(names) + " |",
        "|---|" + "--:|" * len(names),
    ]
    by = {entry["name"]: _grouped(entry["cells"]) for entry in sets}
    for model in models:
        cells = []
        for name in names:
            done = [c for c in by[name].get(model, ()) if "error" not in c]
            auc = _mean(done, lambda c: c["test"]["auc"])
            text = _three(auc)
            trivial = _mean(done, _trivial)
            worse = auc is not None and trivial is not None and auc < trivial - TIE
            cells.append(f"({text})" if worse else text)
        rows.append(f"| `{model}` | " + " | ".join(cells) + " |")
    told = [cell.strip() for row in rows[4:] for cell in row.split("|")[2:-1]]
    many, all_told = sum(c.startswith("(") for c in told), sum(c != "-" for c in told)
    rows.append(f"\n{many} of {all_told} are worse than one feature or principal components.")
    return "\n".join(rows) + "\n"


def _set(entry: dict[str, Any]) -> str:
    facts, groups = entry["facts"], _grouped(entry["cells"])
    good = [c for c in entry["cells"] if "error" not in c]
    classes = ", ".join(f"{name} {many:,}" for name, many in facts["classes"].items())
    text = [f"{facts['rows']:,} rows of {facts['features']} features: {classes}."]
    may = "Comparable" if facts["comparable"] else "**Not comparable**"
    text.append(f"{may} with published figures. {facts['why']}".strip())
    text += [entry["note"]] if entry["note"] else []
    text += [_split(good, entry["cells"])] if good else []
    text += [f"Published: {claim.told()}" for claim in published.of(entry["name"])]
    text += [f"`{family}` is left out: it {why}." for family, why in entry["left_out"].items()]
    text += [
        f"`{cell['family']}` could not be made: {cell['error']}."
        for cell in entry["cells"]
        if "error" in cell
    ]
    out = [f"## {entry['name']}\n", "\n".join(f"* {line}" for line in text) + "\n"]
    if good:
        out.append(_table(groups))
        if len({c["fold"] for c in good}) > 1:
            out.append(_folds(groups))
    return "\n".join(out)


def _split(good: list[dict[str, Any]], cells: list[dict[str, Any]]) -> str:
    """Return how the rows were dealt out, and how many sequences there are."""
    first = {c["fold"]: c for c in reversed(good)}
    config = cells[0]["config"]
    said = []
    for fold, cell in sorted(first.items()):
        name = f"Fold {fold + 1}" if len(first) > 1 else "Split"
        test = cell["test"]
        said.append(f"{name}: {cell['split']}; {test['sequences']:,} test sequences,"
                    f" {test['attacks']:,} of them attacks.")  # fmt: skip
    window = first[min(first)]["sequences"]["window"]
    every = f", every {config['stride']}th taken" if config["stride"] > 1 else ""
    return " ".join(said) + f" Windows of {window}{every}."


def _grouped(cells: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    out: dict[str, list[dict[str, Any]]] = {}
    for cell in cells:
        out.setdefault(cell["family"], []).append(cell)
    return out


def _table(groups: dict[str, list[dict[str, Any]]]) -> str:
    rows = [
        "| model | AUC | AP | F1 | accuracy | found at 0.1 % | at 1 % | parameters | size, bytes | "
        "runtimes | seconds | beside trivial |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|---|--:|---|",
    ]
    rows += _trivial_rows(groups)
    for family, cells in groups.items():
        good = [c for c in cells if "error" not in c]
        if not good:
            continue
        figures = _figures([c["test"] for c in good])
        size, runtimes = _forms(good)
        seconds = sum(c["processor_seconds"] for c in good)
        rows.append(
            f"| `{family}` | {figures} | {good[0]['parameters']:,} | {size} | "
            f"{runtimes} | {seconds:.0f} | {_verdict(good)} |"
        )
    return "\n".join(rows) + "\n"


def _trivial_rows(groups: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return what needs no model, of the family that most is known beside."""
    cells = [c for c in next(iter(groups.values())) if "error" not in c]
    if not cells:
        return []
    share = _mean(cells, lambda c: c["test"]["attacks"] / max(c["test"]["sequences"], 1)) or 0.0
    f1 = _mean(cells, lambda c: _always_f1(c["test"]))
    tail = "| - | - | - | - | trivial |"
    out = [f"| always attack | 0.500 | {share:.3f} | {_three(f1)} | {share:.3f} | - | - {tail}"]
    for key, name in (("best feature", _feature(cells)), ("pca", "principal components")):
        found = [c["baselines"].get(key) or {} for c in cells]
        if any(of.get("auc") is not None for of in found):
            out.append(f"| {name} | {_figures(found)} {tail}")
    return out


def _figures(found: list[dict[str, Any]]) -> str:
    """Return the cells of the columns from AUC to what is found at 1 %, means over folds."""

    def mean(key: str) -> float | None:
        return _mean(found, lambda of: of.get(key))

    shares = [_three(mean(key)) for key in ("auc", "average_precision", "f1", "accuracy")]
    rates = [_percent(mean(key)) for key in ("recall_at_0.001", "recall_at_0.01")]
    return " | ".join(shares + rates)


def _always_f1(test: dict[str, Any]) -> float:
    share = test["attacks"] / max(test["sequences"], 1)
    return float(2 * share / (1 + share))


def _feature(cells: list[dict[str, Any]]) -> str:
    names = [
        f"`{best['feature']}` {'high' if best['high_is_attack'] else 'low'}"
        for c in cells
        if (best := c["baselines"].get("best feature"))
    ]
    return "one feature: " + ", ".join(dict.fromkeys(names))


def _trivial(cell: dict[str, Any]) -> float | None:
    found = [(cell["baselines"].get(key) or {}).get("auc") for key in ("best feature", "pca")]
    return max((auc for auc in found if auc is not None), default=None)


def _verdict(cells: list[dict[str, Any]]) -> str:
    own, trivial = _mean(cells, lambda c: c["test"]["auc"]), _mean(cells, _trivial)
    if own is None or trivial is None:
        return "-"
    difference = own - trivial
    if abs(difference) <= TIE:
        return "the same"
    return f"better by {difference:.3f}" if difference > 0 else f"**worse** by {-difference:.3f}"


def _forms(cells: list[dict[str, Any]]) -> tuple[str, str]:
    """Return size and what both runtimes say of the first fold's model."""
    found = next((c["forms"] for c in cells if "forms" in c), None)
    if found is None:
        return "-", "-"
    parts = list((found.get("members") or {"": found}).values())
    size, worst, seen, named = 0, 0.0, set(), set()
    for part in parts:
        form = next(f for f in part["forms"] if f["form"] == part["chosen"])
        size += form["bytes"]
        if form["form"] not in ("int8", "arrays"):
            named.add(form["form"])
        if form["form"] != "arrays":
            seen |= set(form["difference"])
            worst = max(
                worst, *(d / max(form["spread"], 1e-9) for d in form["difference"].values())
            )
    text = f"{size:,}" + (f" ({', '.join(sorted(named))})" if named else "")
    if not seen:
        return text, "numpy"
    return text, f"{'both' if len(seen) > 1 else 'one tried'}, {worst:.1%}"


def _folds(groups: dict[str, list[dict[str, Any]]]) -> str:
    """Return AUC by fold."""
    folds = sorted({c["fold"] for cells in groups.values() for c in cells})
    names = {c["fold"]: c["split"].partition("test ")[2].partition(";")[0]
             for cells in groups.values() for c in cells if "error" not in c}  # fmt: skip
    short = [
        names[k].replace("CTU-", "").replace("-labeled", "").replace("Capture-", "") for k in folds
    ]
    out = ["AUC by what was left out:\n", "| model | " + " | ".join(short) + " |",
           "|---|" + "--:|" * len(folds)]  # fmt: skip
    first = next(iter(groups.values()))
    for key, name in (("best feature", "one feature"), ("pca", "principal components")):
        cells = {
            c["fold"]: (c["baselines"].get(key) or {}).get("auc") for c in first if "error" not in c
        }
        out.append(f"| {name} | " + " | ".join(_three(cells.get(k)) for k in folds) + " |")
    for family, done in groups.items():
        aucs = {c["fold"]: c["test"]["auc"] for c in done if "error" not in c}
        out.append(f"| `{family}` | " + " | ".join(_three(aucs.get(k)) for k in folds) + " |")
    return "\n".join(out) + "\n"


_ABLATION = """## What each part of temporal-attention is worth

Each part off alone, and all off; half as many sequences as above. *All parts* stands with three
seeds: what they differ by is chance, and a part whose row lies within that is not shown to be worth
anything here.
"""


def _ablation(entry: dict[str, Any]) -> str:
    good = [c for c in entry["cells"] if "error" not in c]
    folds = sorted({c["fold"] for c in good})
    names = {c["fold"]: c["split"].partition("test ")[2].partition(";")[0] for c in good}
    short = [(names[k] or "AUC").replace("CTU-", "").replace("-labeled", "").replace("Capture-", "")
             for k in folds]  # fmt: skip
    head = ("parts", "seed", "mean AUC", *short, "found at 1 %", "parameters", "seconds")
    out = [f"### {entry['name']}\n", f"| {' | '.join(head)} |", "|---|" + "--:|" * (len(head) - 1)]
    rows: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for cell in good:
        rows.setdefault((cell["part"], cell["seed"]), []).append(cell)
    for (part, seed), cells in rows.items():
        aucs = {c["fold"]: c["test"]["auc"] for c in cells}
        out.append(
            f"| {part} | {seed} | {_three(_mean(cells, lambda c: c['test']['auc']))} | "
            + " | ".join(_three(aucs.get(k)) for k in folds)
            + f" | {_percent(_mean(cells, lambda c: c['test']['recall_at_0.01']))} | "
            f"{cells[0]['parameters']:,} | {sum(c['processor_seconds'] for c in cells):.0f} |"
        )
    return "\n".join(out) + "\n"


def _elsewhere() -> str:
    text = ["## Published of sets that are not at hand\n"]
    text += [f"* {claim.told()}" for claim in published.elsewhere()]
    return "\n".join(text) + "\n"


def _mean(cells: list[dict[str, Any]], of: Callable[[dict[str, Any]], Any]) -> float | None:
    found = [value for value in map(of, cells) if value is not None and math.isfinite(value)]
    return sum(found) / len(found) if found else None


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"

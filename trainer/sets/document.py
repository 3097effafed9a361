"""docs/datasets.md and the table of sets at hand, made from the mappings themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from guardian.featurelist import NAMES
from trainer.sets.mapping import DROP, Feature
from trainer.sets.prepared import Prepared
from trainer.sets.reader import Reader
from trainer.sets.registry import READERS

MARK = "<!-- python -m trainer.sets --markdown docs/datasets.md writes what follows -->\n"


def document() -> str:
    """Return a section for each reader: features, classes, what is left out and why."""
    return "\n".join(_section(reader) for reader in READERS.values())


def write(path: Path) -> None:
    """Write the sections into the document, below the mark."""
    head = path.read_text(encoding="utf-8").partition(MARK)[0]
    path.write_text(head + MARK + "\n" + document(), encoding="utf-8")


def _section(reader: Reader) -> str:
    m = reader.mapping
    lines = [f"## {reader.name}", "", f"{reader.title}." + _cited(reader), ""]
    lines += [
        f"- **Order:** {m.order}.",
        f"- **Groups:** {m.groups}.",
        "- **Missing and infinite values:** "
        + ("0" if m.fill == "zero" else "the value of the row before")
        + ", counted.",
        "- **Repeated rows:** "
        + (
            "dropped, counted: the same features and class would stand in train and test."
            if m.twice == "drop"
            else "kept, counted: they are part of the sequence."
        ),
        *(f"- {note}" for note in m.notes),
        "",
    ]
    same = next(r for r in READERS.values() if r.mapping.features == m.features)
    if tuple(f.name for f in m.features) == NAMES:
        lines += [f"The {len(NAMES)} features are those of [features.md](features.md).", ""]
    elif same is not reader:
        lines += [f"The {len(m.features)} features are those of [{same.name}](#{same.name}).", ""]
    elif m.features:
        lines += ["| feature | from | unit | as |", "|---|---|---|---|", *_features(m.features), ""]
    lines += ["| class | labels |", "|---|---|"]
    lines += [f"| {name} | {_labels(m.labels, name)} |" for name in m.classes]
    endings = [f"all that end in {_code(end)}" for end in m.unsaid]
    if dropped := ", ".join(filter(None, [_labels(m.labels, DROP), *endings])):
        left = "dropped" if m.twice == "drop" else "unlabelled"
        lines.append(f"| ({left}) | {dropped} |")
    lines.append("")
    if m.dropped:
        lines += ["| no feature | why |", "|---|---|"]
        lines += [f"| {_code(column)} | {why} |" for column, why in m.dropped.items()]
        lines.append("")
    return "\n".join(lines)


def _cited(reader: Reader) -> str:
    return f" Cite {reader.source}." if reader.source else ""


def _features(features: tuple[Feature, ...]) -> list[str]:
    """Return the lines of a table; features that a column's values or the unit alone tell apart
    share one.
    """
    alike: dict[tuple[str, ...], list[Feature]] = {}
    for f in features:
        same = (f.unit, f.form, str(f.high)) if f.columns == (f.name,) else (f.name,)
        alike.setdefault(("is", f.columns[0]) if f.form == "is" else same, []).append(f)
    return [_line(found) for found in alike.values()]


def _line(found: list[Feature]) -> str:
    first = found[0]
    source = " or ".join(_code(c) for c in first.columns)
    names = ", ".join(_code(f.name) for f in found)
    form = "signed log1p" if first.form == "log" else "as it is"
    if np.isfinite(first.high):
        form += f", cut at {first.high:,.0f}"
    if first.form == "is":
        source = _code(first.columns[0])
        form = "1 where it is " + ", ".join(_code(f.values[0]) for f in found)
        if len(found) > 1:
            names = f"`{first.name.rpartition('_')[0]}_*`"
    elif len(found) > 1 or first.columns == (first.name,):
        source = "the same name"
    return f"| {names} | {source} | {first.unit} | {form} |"


def _labels(labels: dict[str, str], name: str) -> str:
    return ", ".join(_code(text) if text else "(none)" for text, c in labels.items() if c == name)


def _code(text: str) -> str:
    return f"`{text}`" if "_" in text or "=" in text or "/" in text or text.islower() else text


HEAD = ("set", "rows", "features", "groups", "classes with rows", "dropped", "ordered",
        "comparable", "digest", "seconds")  # fmt: skip


def row(prepared: Prepared, seconds: float) -> tuple[str, ...]:
    """Return a set's line of the table, in the order of HEAD."""
    found, many = np.unique(prepared.label, return_counts=True)
    classes = ", ".join(
        f"{prepared.classes[c] if c >= 0 else '(unlabelled)'} {n:,}"
        for c, n in zip(found.tolist(), many.tolist(), strict=True)
    )
    lost = {k[9:]: n for k, n in prepared.counts.items() if k.startswith("dropped: ")}
    dropped = ", ".join(f"{what} {n:,}" for what, n in lost.items()) or "-"
    return (
        prepared.name, f"{len(prepared):,}", str(len(prepared.features)),
        f"{len(prepared.groups):,}", classes, dropped, _yes(prepared.ordered),
        _yes(prepared.comparable), prepared.digest[:12], f"{seconds:.1f}",
    )  # fmt: skip


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def table(rows: list[tuple[str, ...]]) -> str:
    """Return rows below HEAD as Markdown with even columns."""
    width = [max(len(cells[k]) for cells in (HEAD, *rows)) for k in range(len(HEAD))]
    right = {1, 2, 3, 9}

    def line(cells: tuple[str, ...]) -> str:
        even = (c.rjust(w) if k in right else c.ljust(w) for k, (c, w) in
                enumerate(zip(cells, width, strict=True)))  # fmt: skip
        return "| " + " | ".join(even) + " |"

    rule = "|" + "|".join("-" * (w + 1) + (":" if k in right else "-")
                          for k, w in enumerate(width)) + "|"  # fmt: skip
    return "\n".join([line(HEAD), rule, *map(line, rows)])

"""The report as tables: short for a terminal, in markdown for docs/detection.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainer.card import share, table
from trainer.trial import goals
from trainer.trial.bench import GATEWAY, MODELS
from trainer.trial.goals import ALONE, EVIDENCE, PARTS

FIGURES = ("AUC", "AP", "at 1 %", "at 0.1 %", "alone: AUC", "alone: at 0.1 %")
IN_PLACE_HEAD = ("capture", "attack", "infected found", "seconds", "packets",
                 "connections", "told as",
                 "models alone", "false", "records", *FIGURES)  # fmt: skip
HOMES_HEAD = ("home", "devices", "device-days", "records", "false incidents", "models alone",
              "what they were")  # fmt: skip
RATES_HEAD = ("class of device", "devices", "device-days", "false incidents", "a device-day",
              "at most (95 %)", "models alone", "at most (95 %)")  # fmt: skip
GRAFTED_HEAD = ("attack", "kind", "before placebo", "placebos that fire", "found, net", "seconds",
                "packets", "connections", "told as", "models alone, net", "records",
                *FIGURES)  # fmt: skip
LOOKALIKES_HEAD = ("benign event", "lives in which it raises one", "models alone", "told as")
FOLDS_HEAD = ("without", "false incidents in benign homes", "device-days", "set-ups that raise one")
PLACEBO_HEAD = ("placebo records over the line of", "10 %", "1 %", "0.1 %")
FAMILIES_HEAD = ("kind", "attacks", "infected found", "AUC", "at 1 %", "at 0.1 %", "alone: AUC",
                 "alone: at 0.1 %")  # fmt: skip
SCORERS_HEAD = ("scorer", "captures", "AUC", "AP", "at 10 %", "at 1 %", "at 0.1 %",
                "captures with a record over the 0.1 % line")  # fmt: skip


def short(report: dict[str, Any]) -> str:
    """Return what a person at a terminal wants to see first."""
    parts = [headline(report), "", goal_table(report), ""]
    for name in PARTS:
        part = report.get(name)
        if part and part["rows"]:
            parts += [f"{name}:", (in_place if name == "in place" else grafted)(part["rows"]), ""]
            parts += [f"{name}, by record:", scorers(part["macro"]), ""]
            if "placebo" in part:
                parts += [placebo(part["placebo"]), ""]
    if report.get("look-alikes"):
        parts += [lookalikes(report["look-alikes"]), ""]
    parts += [homes(report["homes"]), "", rates(report["rates"])]
    return "\n".join(parts) + "\n"


def goal_table(report: dict[str, Any]) -> str:
    """Return what must be reached beside what is."""
    return table(goals.HEAD, goals.rows(report))


def classes(found: dict[str, dict[str, int]]) -> str:
    """Return in a sentence how many were found of each class of device."""
    told = (f"{part['found']} of {part['infected']} {kind}s" for kind, part in found.items())
    return f"Of infected devices, by class: {', '.join(told)}."


def own(found: dict[str, int]) -> str:
    """Return in a sentence how much of what is benign beside attacks is taken for part of them."""
    records, told = found["records"], found["told"]
    return (
        f"Of {records:,} benign records beside the attacks, most of them the infected devices' "
        f"own, {told} ({told / max(records, 1):.2%}) are called attack."
    )


def headline(report: dict[str, Any]) -> str:
    """Return one line of the figures that count most."""
    about, parts = report["bundle"], []
    for name in PARTS:
        part = report.get(name)
        if part and part["rows"]:
            sums, macro = part["total"], part["macro"]
            parts.append(f"{name} {sums['found']} of {sums['infected']} infected found")
            if ALONE in macro:
                parts[-1] += f", AUC {macro[EVIDENCE]['auc']:.3f} (records alone"
                parts[-1] += f" {macro[ALONE]['auc']:.3f}), {macro[EVIDENCE]['0.1%']:.1%}"
                parts[-1] += f" ({macro[ALONE]['0.1%']:.1%}) at 0.1 %"
            if "placebo" in part:
                parts[-1] += (
                    f" (placebo {part['placebo'][GATEWAY]} of {part['placebo']['placebos']})"
                )
    every = report["rates"].get("all")
    if every and every["days"]:
        parts.append(
            f"{every[GATEWAY]} false incidents in {every['days']:.1f} benign device-days (at most"
            f" {every[f'{GATEWAY} a day, at most']:.2f} a day)"
        )
    setups = report["setups"]
    if setups["captures"]:
        parts.append(f"{setups[GATEWAY]} of {setups['captures']} set-ups raise one")
    return f"bundle {about['name']} {about['version']} ({about['digest'][:12]}): " + "; ".join(
        parts
    )


def grafted(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table of attacks in other devices' lives."""
    out = []
    for row in rows:
        told, alone = row[GATEWAY], row[MODELS]
        n = row["scorers"].get(ALONE, {"records": 0})["records"]
        out.append([
            row["capture"], row["family"] or "-", f"{told['before placebo']} of {told['infected']}",
            str(told["placebos"]), f"{told['found']} of {told['infected']}",
            number(told["seconds"], ",.1f"), number(told["packets"], ",.0f"),
            number(told["connections"], ",.0f"),
            ", ".join(told["causes"]) or "-", f"{alone['found']} of {alone['infected']}",
            f"{n:,}", *_figures(row["scorers"]),
        ])  # fmt: skip
    return table(GRAFTED_HEAD, out)


def lookalikes(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table of benign events that look like attacks."""
    return table(LOOKALIKES_HEAD, [
        [row["event"], f"{row[GATEWAY]} of {row['lives']}", f"{row[MODELS]} of {row['lives']}",
         ", ".join(row[f"{GATEWAY} causes"]) or "-"]
        for row in rows
    ])  # fmt: skip


def folds(found: Sequence[dict[str, Any]]) -> str:
    """Return what the models without each network raise in the benign homes."""
    return table(FOLDS_HEAD, [
        [one["without"], str(one["rates"]["all"][GATEWAY]), f"{one['rates']['all']['days']:.1f}",
         f"{one['setups'][GATEWAY]} of {one['setups']['captures']}"]
        for one in found
    ])  # fmt: skip


def placebo(found: dict[str, Any]) -> str:
    """Return what the placebo raised, as a sentence."""
    n, over = found["records"], found["over"].get(EVIDENCE, {})
    return (
        f"Placebo: {found[GATEWAY]} of {found['placebos']} open an incident (models alone"
        f" {found[MODELS]}); of their {n:,} records {share(over.get('1%', 0), n)} reach the 1 %"
        f" line of evidence and {share(over.get('0.1%', 0), n)} the 0.1 % line."
    )


def fired(found: dict[str, Any]) -> str:
    """Return which placebos opened an incident."""
    return "; ".join(found[f"{GATEWAY} fired"]) or "none"


def placebos(found: dict[str, Any]) -> str:
    """Return the share of the placebo's records over each scorer's lines."""
    n = found["records"]
    return table(PLACEBO_HEAD, [
        [name, *(share(over[at], n) for at in ("10%", "1%", "0.1%"))]
        for name, over in found["over"].items()
    ])  # fmt: skip


def families(found: dict[str, Any]) -> str:
    """Return the table by family of attack."""
    out = []
    for name, part in found.items():
        cells = ["-"] * 5
        if ALONE in part:
            ours, alone = part[EVIDENCE], part[ALONE]
            cells = [f"{ours['auc']:.3f}", f"{ours['1%']:.1%}", f"{ours['0.1%']:.1%}"]
            cells += [f"{alone['auc']:.3f}", f"{alone['0.1%']:.1%}"]
        out.append([
            name, str(part["captures"]), f"{part['found']} of {part['infected']}", *cells
        ])  # fmt: skip
    return table(FAMILIES_HEAD, out)


def _figures(scorers: dict[str, Any]) -> list[str]:
    if ALONE not in scorers:
        return ["-"] * len(FIGURES)
    ours, alone = scorers[EVIDENCE], scorers[ALONE]
    n = ours["records"]
    return [
        f"{ours['auc']:.3f}", f"{ours['ap']:.3f}", share(ours["1%"], n), share(ours["0.1%"], n),
        f"{alone['auc']:.3f}", share(alone["0.1%"], n),
    ]  # fmt: skip


def in_place(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table of attacks."""
    out = []
    for row in rows:
        told, alone = row[GATEWAY], row[MODELS]
        n = row["scorers"].get(ALONE, {"records": 0})["records"]
        out.append([
            row["capture"], row["family"] or "-", f"{told['found']} of {told['infected']}",
            number(told["seconds"], ".1f"), number(told["packets"], ",.0f"),
            number(told["connections"], ",.0f"),
            ", ".join(told["causes"]) or "-", f"{alone['found']} of {alone['infected']}",
            str(told["false"]), f"{n:,}" if n else "-", *_figures(row["scorers"]),
        ])  # fmt: skip
    return table(IN_PLACE_HEAD, out)


def homes(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table of benign homes."""
    out = []
    for row in rows:
        many = sum(part["devices"] for part in row["by_class"].values())
        told = row[GATEWAY]["false"]
        out.append([
            row["capture"], f"{many:,}", f"{row['days']:.2f}", f"{row['records']:,}", str(told),
            str(row[MODELS]["false"]), ", ".join(row[GATEWAY]["causes"]) or "-",
        ])  # fmt: skip
    return table(HOMES_HEAD, out)


def rates(found: dict[str, Any]) -> str:
    """Return the table of false incidents by class of device."""
    out = []
    for name, sums in found.items():
        cells = [name, f"{sums['devices']:,}", f"{sums['days']:.2f}", str(sums[GATEWAY])]
        cells += [number(sums[f"{GATEWAY} a day"], ".2f")]
        cells += [number(sums[f"{GATEWAY} a day, at most"], ".2f"), str(sums[MODELS])]
        cells += [number(sums[f"{MODELS} a day, at most"], ".2f")]
        out.append(cells)
    return table(RATES_HEAD, out)


def scorers(found: dict[str, Any]) -> str:
    """Return the table of scorers by record, the best AUC first."""
    order = sorted(found.items(), key=lambda item: -item[1]["auc"])
    return table(SCORERS_HEAD, [
        [name, f["captures"], f"{f['auc']:.3f}", f"{f['ap']:.3f}", f"{f['10%']:.1%}",
         f"{f['1%']:.1%}", f"{f['0.1%']:.1%}", f"{f['devices over 0.1%']} of {f['captures']}"]
        for name, f in order
    ])  # fmt: skip


def number(value: float | None, form: str) -> str:
    """Return a figure, or a dash where there is none."""
    return "-" if value is None else format(value, form)

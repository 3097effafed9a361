"""The report as tables: short for a terminal, in markdown for docs/detection.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainer.card import share, table
from trainer.trial.bench import GATEWAY, MODELS

IN_PLACE_HEAD = ("capture", "attack", "infected found", "seconds", "packets", "told as",
                 "models alone", "false", "records", "AUC", "AP", "at 1 %", "at 0.1 %")  # fmt: skip
HOMES_HEAD = ("home", "devices", "device-days", "records", "false incidents", "models alone",
              "what they were")  # fmt: skip
RATES_HEAD = ("class of device", "devices", "device-days", "false incidents", "a device-day",
              "at most (95 %)", "models alone", "at most (95 %)")  # fmt: skip
SCORERS_HEAD = ("scorer", "captures", "AUC", "AP", "at 1 %", "at 0.1 %",
                "captures with a record over the 0.1 % line")  # fmt: skip


def short(report: dict[str, Any]) -> str:
    """Return what a person at a terminal wants to see first."""
    parts = [headline(report), ""]
    if report["in place"]:
        parts += [in_place(report["in place"]), ""]
    parts += [homes(report["homes"]), "", rates(report["rates"])]
    for name in ("in place", "grafted", "simulated"):
        if report.get("macro", {}).get(name):
            parts += ["", f"by record, {name}:", scorers(report["macro"][name])]
    return "\n".join(parts) + "\n"


def headline(report: dict[str, Any]) -> str:
    """Return one line of the figures that count most."""
    about, parts = report["bundle"], []
    for name in ("in place", "grafted", "simulated"):
        sums = report["totals"].get(name)
        if sums:
            parts.append(f"{name} {sums['found']} of {sums['infected']} infected found")
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


def in_place(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table of attacks."""
    out = []
    for row in rows:
        told, alone = row[GATEWAY], row[MODELS]
        threat = row["scorers"].get("threat")
        n = threat["records"] if threat else 0
        out.append([
            row["capture"], row["family"] or "-", f"{told['found']} of {told['infected']}",
            number(told["seconds"], ".1f"), number(told["packets"], ",.0f"),
            ", ".join(told["causes"]) or "-", f"{alone['found']} of {alone['infected']}",
            str(told["false"]), f"{n:,}" if n else "-",
            number(threat and threat["auc"], ".3f"), number(threat and threat["ap"], ".3f"),
            share(threat["1%"], n) if threat else "-", share(threat["0.1%"], n) if threat else "-",
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
        [name, f["captures"], f"{f['auc']:.3f}", f"{f['ap']:.3f}", f"{f['1%']:.1%}",
         f"{f['0.1%']:.1%}", f"{f['devices over 0.1%']} of {f['captures']}"]
        for name, f in order
    ])  # fmt: skip


def number(value: float | None, form: str) -> str:
    """Return a figure, or a dash where there is none."""
    return "-" if value is None else format(value, form)

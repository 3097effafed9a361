"""What detection must reach, and what a report says of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trainer.trial.bench import GATEWAY

PARTS = ("in place", "grafted", "simulated")
HEAD = ("what must be reached", "goal", *PARTS)
OURS = ("threat", "anomaly")
RECALL = (
    ("scans and floods", ("scan", "flood"), 0.99),
    ("password guessing", ("brute-force",), 0.95),
    ("C&C", ("c2",), 0.90),
)
SECONDS, BEATS, AUC, PLACEBO = 10.0, 20, 0.98, 0.02


def rows(report: dict[str, Any]) -> list[list[str]]:
    """Return a row for each goal; a part that was not judged has a dash."""
    parts = {name: report[name] for name in PARTS if report.get(name, {}).get("rows")}

    def row(what: str, goal: str, value: Any) -> list[str]:
        return [what, goal, *(value(parts[n]) if n in parts else "-" for n in PARTS)]

    out = [
        row("infected devices found", "all", _found),
        row(f"scans and floods within {SECONDS:g} s", "all",
            lambda part: _soon(part, ("scan", "flood"), "seconds", SECONDS)),
        row(f"C&C within {BEATS} beats", "all",
            lambda part: _soon(part, ("c2",), "connections", BEATS)),
    ]  # fmt: skip
    for name, families, goal in RECALL:
        out.append(row(f"recall at 0.1 % FP (attacks): {name}", f"{goal:.0%}",
                       lambda part, f=families: _recall(part, f)))  # fmt: skip
    out.append(row("macro AUC", f"{AUC:g}", lambda part: _number(part, "auc")))
    for key, name, form in (("auc", "AUC", ".3f"), ("0.1%", "recall at 0.1 % FP", ".1%")):
        out.append(row(f"best baseline by {name}", "less than ours",
                       lambda part, k=key, f=form: _best(part, k, f)))  # fmt: skip
    out.append(row("placebos that open an incident", f"{PLACEBO:.0%}", _placebo))
    every, setups = report["rates"].get("all"), report["setups"]
    if every and every["days"]:
        week = 7 * every[f"{GATEWAY} a day"], 7 * every[f"{GATEWAY} a day, at most"]
        text = f"{week[0]:.2f} a week, at most {week[1]:.2f}"
        out.append(["false incidents a benign device", "1 a week", text, "", ""])
    if setups["captures"]:
        text = f"{setups[GATEWAY]} of {setups['captures']}"
        out.append(["set-ups that raise one", "none", text, "", ""])
    return out


def _found(part: dict[str, Any]) -> str:
    return f"{part['total']['found']} of {part['total']['infected']}"


def _each(part: dict[str, Any], families: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for row in part["rows"]:
        if row["family"] in families:
            yield from row[GATEWAY]["each"]


def _soon(part: dict[str, Any], families: tuple[str, ...], key: str, most: float) -> str:
    every = list(_each(part, families))
    soon = [one for one in every if one[key] is not None and one[key] <= most]
    return f"{len(soon)} of {len(every)}" if every else "-"


def _recall(part: dict[str, Any], families: tuple[str, ...]) -> str:
    shares = [
        row["scorers"]["threat"]["0.1%"] / row["scorers"]["threat"]["records"]
        for row in part["rows"]
        if row["family"] in families and "threat" in row["scorers"]
    ]
    return f"{sum(shares) / len(shares):.1%} ({len(shares)})" if shares else "-"


def _number(part: dict[str, Any], key: str) -> str:
    found = part["macro"].get("threat")
    return f"{found[key]:.3f}" if found else "-"


def _best(part: dict[str, Any], key: str, form: str) -> str:
    others = [(f[key], name) for name, f in part["macro"].items() if name not in OURS]
    if not others or "threat" not in part["macro"]:
        return "-"
    best, name = max(others)
    return f"{best:{form}} ({name}); ours {part['macro']['threat'][key]:{form}}"


def _placebo(part: dict[str, Any]) -> str:
    sham = part.get("placebo")
    if not sham or not sham["placebos"]:
        return "-"
    share = sham[GATEWAY] / sham["placebos"]
    return f"{sham[GATEWAY]} of {sham['placebos']} ({share:.1%})"

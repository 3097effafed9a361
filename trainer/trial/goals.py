"""What detection must reach, and what a report says of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trainer.trial.bench import ADDED_UP, GATEWAY, GATHERED

PARTS = ("in place", "grafted", "simulated")
HEAD = ("what must be reached", "goal", *PARTS)
EVIDENCE, ALONE = GATHERED[GATEWAY], "threat"
"""What the gateway had gathered against a record, and the record's own score."""
OURS = (*GATHERED.values(), ALONE, "anomaly")
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
        out.append(row(f"recall at 0.1 % FP (captures): {name}", f"{goal:.0%}",
                       lambda part, f=families: _recall(part, f)))  # fmt: skip
    out.append(row("macro AUC", f"{AUC:g}", _auc))
    for key, name, form in (("auc", "AUC", ".3f"), ("0.1%", "recall at 0.1 % FP", ".1%")):
        for added_up, what in ((True, "added up"), (False, "records alone")):
            out.append(row(
                f"best baseline by {name}, {what}", "less than ours",
                lambda part, k=key, f=form, a=added_up: _best(part, k, f, added_up=a),
            ))  # fmt: skip
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
    rows = [row["scorers"] for row in part["rows"] if row["family"] in families]
    rows = [row for row in rows if ALONE in row]
    if not rows:
        return "-"
    both = (
        sum(row[name]["0.1%"] / row[name]["records"] for row in rows) / len(rows)
        for name in (EVIDENCE, ALONE)
    )
    return "{:.1%}, alone {:.1%} ({})".format(*both, len(rows))


def _auc(part: dict[str, Any]) -> str:
    if ALONE not in part["macro"]:
        return "-"
    return f"{part['macro'][EVIDENCE]['auc']:.3f}, alone {part['macro'][ALONE]['auc']:.3f}"


def _best(part: dict[str, Any], key: str, form: str, *, added_up: bool) -> str:
    macro = part["macro"]
    others = [
        (f[key], name) for name, f in macro.items()
        if name not in OURS and name.endswith(ADDED_UP) == added_up
    ]  # fmt: skip
    if not others or ALONE not in macro:
        return "-"
    best, name = max(others)
    ours = macro[EVIDENCE][key] if added_up else macro[ALONE][key]
    return f"{best:{form}} ({name.removesuffix(ADDED_UP)}); ours {ours:{form}}"


def _placebo(part: dict[str, Any]) -> str:
    sham = part.get("placebo")
    if not sham or not sham["placebos"]:
        return "-"
    share = sham[GATEWAY] / sham["placebos"]
    return f"{sham[GATEWAY]} of {sham['placebos']} ({share:.1%})"

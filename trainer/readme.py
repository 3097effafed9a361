"""`python -m trainer.readme`: put the short tables of docs/detection.json into the README.

A test holds the README to it, so that its figures are always those of the last evaluation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainer.card import table
from trainer.trial import page
from trainer.trial.bench import GATEWAY
from trainer.trial.goals import PARTS
from trainer.trial.tables import number, rates

ROOT = Path(__file__).resolve().parent.parent
BLOCK = "results"

ATTACKS = ("attack", "judged by", "kind", "infected found", "seconds", "told as", "false incidents")
SCORERS = ("by connection: AUC, found at 0.1 % FP", "in place", "grafted", "simulated")


def block(report: dict[str, Any]) -> str:
    """Return the README's tables of a report."""
    parts = [table(ATTACKS, _attacks(report)), "", table(SCORERS, _scorers(report)), ""]
    return "\n".join([*parts, rates(report["rates"])])


def _attacks(report: dict[str, Any]) -> list[list[str]]:
    judged = [("shipped bundle", report)]
    if report.get("left out"):
        judged.append(("trained without it", report["left out"]))
    return [
        [
            row["capture"], by, row["family"] or "-",
            f"{row[GATEWAY]['found']} of {row[GATEWAY]['infected']}",
            number(row[GATEWAY]["seconds"], ",.0f"), ", ".join(row[GATEWAY]["causes"]) or "-",
            str(row[GATEWAY]["false"]),
        ]
        for by, part in judged
        for row in part["in place"]["rows"]
    ]  # fmt: skip


def _scorers(report: dict[str, Any]) -> list[list[str]]:
    """Return a row a scorer, and one of how many infected devices were found."""
    known = [name for name in PARTS if report.get(name)]
    sums = {name: report[name]["total"] for name in known}
    out = [["infected devices found (net of the placebo)", *(
        f"{sums[name]['found']} of {sums[name]['infected']}" if name in known else "-"
        for name in PARTS
    )]]  # fmt: skip
    macro = {name: report[name]["macro"] for name in known}
    names = sorted(macro[known[0]], key=lambda scorer: -macro[known[0]][scorer]["auc"])
    for scorer in names:
        cells = []
        for name in PARTS:
            found = macro.get(name, {}).get(scorer)
            cells.append(f"{found['auc']:.3f}, {found['0.1%']:.1%}" if found else "-")
        out.append([scorer, *cells])
    return out


def filled(readme: str, report: dict[str, Any]) -> str:
    """Return the README with the block of a report in its place."""
    return page.filled(readme, BLOCK, block(report))


def main() -> None:
    """Rewrite the README."""
    report = json.loads((ROOT / "docs" / "detection.json").read_text(encoding="utf-8"))
    path = ROOT / "README.md"
    path.write_text(filled(path.read_text(encoding="utf-8"), report), encoding="utf-8")


if __name__ == "__main__":
    main()

"""`python -m trainer.readme`: put the table of docs/evaluation.json into the README.

A test holds the README to it, so that its figures are always those of the last evaluation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainer.card import share, table
from trainer.evaluate import COUNTERS

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def block(report: dict[str, Any]) -> str:
    """Return the README's tables of a report."""
    left = report["leave_one_out"]
    attacks = [_attack(row, "shipped bundle") for row in report["attacks"]]
    attacks += [_attack(row, "trained without it") for row in left["attacks"]]
    benign = [_benign(row) for row in report["benign"]]
    head = ["capture of attacks", "judged by", "records", "AUC", "found at 1 % FP"]
    head += ["found at the line", "best counter at 1 % FP", "incidents"]
    quiet = ["benign capture", "records", "hours", "over the line", "false incidents"]
    return "\n".join([BEGIN, table(head, attacks), "", table(quiet, benign), END])


def _attack(row: dict[str, Any], judged_by: str) -> list[str]:
    n = row["records"]
    best = max(row[name]["found_at_1%"] for name in COUNTERS)
    return [
        row["capture"],
        judged_by,
        f"{n:,}",
        f"{row['threat']['auc']:.3f}",
        share(row["threat"]["found_at_1%"], n),
        share(row["found_at_shipped_line"], n),
        share(best, n),
        "-" if row["incidents"] is None else str(row["incidents"]),
    ]


def _benign(row: dict[str, Any]) -> list[str]:
    n = row["records"]
    told = "-" if row["incidents"] is None else str(row["incidents"])
    return [row["capture"], f"{n:,}", f"{row['hours']:g}", share(row["reach_threat"], n), told]


def filled(readme: str, report: dict[str, Any]) -> str:
    """Return the README with the block of a report in its place."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + block(report) + after


def main() -> None:
    """Rewrite the README."""
    report = json.loads((ROOT / "docs" / "evaluation.json").read_text(encoding="utf-8"))
    path = ROOT / "README.md"
    path.write_text(filled(path.read_text(encoding="utf-8"), report), encoding="utf-8")


if __name__ == "__main__":
    main()

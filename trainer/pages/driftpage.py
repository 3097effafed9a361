"""The drift report: a section of a run's page, or a page of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer.drift import MUCH, STATED
from trainer.fitting.run import write_json
from trainer.judge import plain
from trainer.pages import html, plots

MOST = 15
"""Features shown; all are in the JSON."""


def section(facts: dict[str, Any], root: str) -> str:
    """Return the drift at a path of the page's JSON, as HTML."""
    numbers = html.Numbers(facts)
    found = html.at(facts, root)
    rows = found["features"]
    shown = rows[:MOST]
    drifted = sum(row["psi"] > MUCH for row in rows)
    text = (
        f"<p>{numbers.one(f'{root}/rows/0', 'count')} benign rows of {html.esc(found['from'])}"
        f" beside {numbers.one(f'{root}/rows/1', 'count')} of {html.esc(found['to'])}:"
        f" {drifted} of {len(rows)} features have a PSI above {MUCH}.</p>\n"
    )
    text += html.figures(
        [html.figure(plots.drift(shown), "PSI and KS of the features that drifted most")]
    )
    cells = [
        [html.esc(row["feature"]),
         *(numbers.one(f"{root}/features/{k}/{key}", how) for key, how in
           (("psi", "auc"), ("psi_by_chance", "auc"), ("ks", "auc"), ("ks_by_chance", "auc"),
            ("median/0", "figure"), ("median/1", "figure")))]
        for k, row in enumerate(shown)
    ]  # fmt: skip
    more = f" The {len(shown)} largest of {len(rows)}; the JSON has all." if rows[MOST:] else ""
    head = ["feature", "PSI", "by chance", "KS", "by chance", "median before", "median after"]
    return text + html.table(head, cells, html.esc(STATED + more))


def write_drift(found: dict[str, Any], out: Path) -> Path:
    """Write drift.html and drift.json into a folder, and return the page's path."""
    facts = plain({"drift": found})
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "drift.json", facts)
    title = f"Drift from {found['from']} to {found['to']}"
    page = html.page(
        title, f"<h1>{html.esc(title)}</h1>", [("drift", "Features", section(facts, "drift"))]
    )
    path = out / "drift.html"
    path.write_text(page, encoding="utf-8")
    return path

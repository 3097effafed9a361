"""`write_page`: one self-contained HTML of a run, with the same numbers as JSON beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer.fitting.run import write_json
from trainer.pages import sections
from trainer.pages.gather import gather
from trainer.pages.html import esc, page

NAME = "report.html"


def write_page(run_folder: Path, out: Path) -> Path:
    """Write the page of a run of `run_experiment` and its JSON, and return the page's path.

    `out` is the page's path where it ends in .html, else a folder (the run's own will do) that
    gets report.html. Raises InputError for a folder that is no run judged on test.
    """
    path = out if out.suffix == ".html" else out / NAME
    facts = gather(run_folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path.with_suffix(".json"), facts)
    part = path.with_name(f".{path.name}.part")
    part.write_text(render(facts), encoding="utf-8")
    part.replace(path)
    return path


def render(facts: dict[str, Any]) -> str:
    """Return the page of some numbers."""
    what = facts["what"]
    title = f"{what['family']} on {what['set']}"
    found = [(name, head, make(facts)) for name, head, make in sections.SECTIONS]
    shown = [(name, head, told) for name, head, told in found if told]
    absent = [sections.WHY_NOT[name] for name, _, told in found if not told]
    if absent:
        items = "".join(f"<li>{esc(text)}</li>" for text in absent)
        shown.append(("absent", "Not on this page", f"<ul>{items}</ul>\n"))
    return page(title, f"<h1>{esc(title)}</h1>{sections.opening(facts)}", shown)

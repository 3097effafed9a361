"""`python -m trainer.table --data FOLDER -o docs/models-by-set.md`: every model on every set.

It goes on where it was killed: each cell is a run's folder below --runs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click

from guardian.errors import GuardianError
from trainer import tablepage
from trainer.cells import ABLATED, PLANS, ablation_cells, cells_of, fits, made, make, thinned
from trainer.fitting.run import write_json
from trainer.sets.athand import SETS
from trainer.sets.prepared import Prepared
from trainer.sets.registry import prepare
from trainer.zoo.config import nearest
from trainer.zoo.family import REGISTRY

CHEAP_FIRST = ("boosted", "forest", "lstm-classifier", "temporal-attention")


@click.command(name="python -m trainer.table")
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path),
              required=True, help="Folder of data sets.")  # fmt: skip
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), required=True,
              help="The page; its figures come beside it as .json.")  # fmt: skip
@click.option("--only", multiple=True, metavar="MODEL", help="Only this model; repeatable.")
@click.option("--sets", multiple=True, metavar="NAME", help="Only this set; repeatable.")
@click.option(
    "--runs",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/table"),
    show_default=True,
    help="Where the cells lie.",
)
@click.option("--ablations/--no-ablations", default=True, help="The parts of temporal-attention.")
@click.option("--page-only", is_flag=True, help="Train nothing: write what there is.")
def main(
    data: Path,
    out: Path,
    only: tuple[str, ...],
    sets: tuple[str, ...],
    runs: Path,
    ablations: bool,
    page_only: bool,
) -> None:
    """Train every model on every data set that fits it and write the table."""
    try:
        table = fill(data, runs, only=only, sets=sets, ablations=ablations, page_only=page_only)
    except GuardianError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    table = rounded(table)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(tablepage.page(table), encoding="utf-8")
    write_json(out.with_suffix(".json"), table)
    click.echo(f"wrote {out} and {out.with_suffix('.json')}")


def fill(
    data: Path,
    runs: Path,
    *,
    only: tuple[str, ...] = (),
    sets: tuple[str, ...] = (),
    ablations: bool = True,
    page_only: bool = False,
) -> dict[str, Any]:
    """Return the table's content: sets with their cells, made where they were not.

    Raises GuardianError for names that there are not.
    """
    from trainer.forms import other_runtime  # noqa: PLC0415 - needs keras

    for name in only:
        REGISTRY[name]
    for name in sets:
        if name not in PLANS:
            raise GuardianError(
                f"no set {name!r} in the table: did you mean {nearest(name, PLANS)}?"
            )
    families = list(only) or [*CHEAP_FIRST, *(n for n in REGISTRY if n not in CHEAP_FIRST)]
    other = other_runtime()
    found: dict[str, Any] = {"sets": [], "ablations": []}
    for name in sets or tuple(PLANS):
        plan = PLANS[name]
        if not SETS[name].files(data):
            continue
        prepared = thinned(prepare(name, [data], cache=runs / "sets", limit=plan.limit), plan.most)
        entry: dict[str, Any] = {"name": name, "facts": _facts(prepared), "note": plan.note,
                                 "left_out": {}, "cells": []}  # fmt: skip
        for cell in cells_of(plan, families):
            if why := fits(REGISTRY[cell.family], prepared):
                entry["left_out"][cell.family] = why
                continue
            done = made(cell, prepared, runs) if page_only else make(
                cell, prepared, runs, other=other, echo=_tell
            )  # fmt: skip
            if done is not None:
                entry["cells"].append(_slim(done) | {"config": _config(cell.config(), plan)})
        found["sets"].append(entry)
        if ablations and name in ABLATED:
            rows = []
            for cell in ablation_cells(plan):
                done = made(cell, prepared, runs) if page_only else make(
                    cell, prepared, runs, other=other, echo=_tell
                )  # fmt: skip
                if done is not None:
                    rows.append(_slim(done))
            found["ablations"].append({"name": name, "cells": rows})
    return found


def _facts(prepared: Prepared) -> dict[str, Any]:
    labels = {name: int((prepared.label == k).sum()) for k, name in enumerate(prepared.classes)}
    return {
        "rows": len(prepared), "features": len(prepared.features),
        "classes": {name: many for name, many in labels.items() if many},
        "ordered": prepared.ordered, "comparable": prepared.comparable, "why": prepared.why,
        "digest": prepared.digest,
    }  # fmt: skip


def rounded(value: Any) -> Any:
    """Return JSON with six digits of each number: nobody reads more."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _slim(cell: dict[str, Any]) -> dict[str, Any]:
    """Return a cell without what its set says, too."""
    return {key: cell[key] for key in cell if key not in ("warnings", "digest", "rows", "seconds")}


def _config(config: Any, plan: Any) -> dict[str, Any]:
    return {"window": config.window, "stride": plan.stride, "hidden": list(config.hidden)}


def _tell(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    main()

"""`python -m trainer.sets FOLDER`: a table of all sets at hand; --markdown writes the document."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from guardian.errors import GuardianError
from trainer.sets.athand import SETS
from trainer.sets.document import document, row, table, write
from trainer.sets.prepared import Prepared
from trainer.sets.registry import prepare, silent


@click.command(name="python -m trainer.sets")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path),
                required=False)  # fmt: skip
@click.option("--set", "names", multiple=True, type=click.Choice(sorted(SETS)),
              help="Only this one; may be given again.")  # fmt: skip
@click.option("--cache", type=click.Path(path_type=Path), help="Keep prepared sets here.")
@click.option("--limit", type=click.IntRange(min=1), help="First rows of each file alone.")
@click.option("--counts", is_flag=True, help="Say also what was done with rows and values.")
@click.option("--markdown", type=click.Path(dir_okay=False, path_type=Path),
              help="Write the mappings into this document (- prints them).")  # fmt: skip
def main(
    folder: Path | None,
    names: tuple[str, ...],
    cache: Path | None,
    limit: int | None,
    counts: bool,
    markdown: Path | None,
) -> None:
    """Prepare the data sets of FOLDER and tell what they hold."""
    if markdown is not None:
        if str(markdown) == "-":
            click.echo(document())
        else:
            write(markdown)
        return
    if folder is None:
        raise click.UsageError("give the folder of data sets, or --markdown FILE")
    rows: list[tuple[str, ...]] = []
    told: list[Prepared] = []
    for name, entry in SETS.items():
        if (names and name not in names) or (not names and not entry.files(folder)):
            continue
        begun = time.monotonic()
        try:
            prepared = prepare(name, [folder], cache=cache, limit=limit, echo=silent)
        except GuardianError as error:
            click.echo(f"{name}: {error}", err=True)
            sys.exit(1)
        rows.append(row(prepared, time.monotonic() - begun))
        told.append(prepared)
    if not rows:
        click.echo(f"{folder} holds none of {', '.join(SETS)}", err=True)
        sys.exit(1)
    click.echo(table(rows))
    click.echo()
    for prepared in told:
        if prepared.why:
            click.echo(f"{prepared.name}: {prepared.why}")
        if counts:
            for what, many in prepared.counts.items():
                click.echo(f"    {what}: {many:,}")


if __name__ == "__main__":
    main()

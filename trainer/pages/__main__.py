"""`python -m trainer.pages RUN [OUT]`: write a run's page (into the run's folder itself)."""

from __future__ import annotations

from pathlib import Path

import click

from guardian.errors import GuardianError
from trainer.pages.page import write_page


@click.command(name="python -m trainer.pages")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path), required=False)
def main(run: Path, out: Path | None) -> None:
    """Write the page of a run and its JSON; OUT is a folder or a file that ends in .html."""
    try:
        click.echo(write_page(run, out or run))
    except GuardianError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()

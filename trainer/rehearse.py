"""`python -m trainer.rehearse`: which incidents another bundle would open, and which no longer."""

from __future__ import annotations

import json
from pathlib import Path

import click

from guardian import bundle as bundles
from guardian import rehearsal
from guardian.errors import GuardianError
from guardian.rehearsal import Echo, Rehearsal, differences, matched, text

__all__ = ["Rehearsal", "differences", "main", "matched", "rehearse", "text"]


def rehearse(
    candidate: Path,
    source: Path,
    current: Path | None = None,
    *,
    lan: tuple[str, ...] = (),
    ignore_checksums: bool = False,
    counters: bool = True,
    echo: Echo = print,
) -> Rehearsal:
    """Run two bundles over an input and compare what they open (guardian/rehearsal.py).

    `current` is the shipped bundle by default. Raises BundleError or InputError where either
    cannot be read.
    """
    new = bundles.load(candidate)
    old = bundles.load(bundles.default_path() if current is None else current)
    return rehearsal.rehearse(
        new, old, source, lan=lan, ignore_checksums=ignore_checksums, counters=counters, echo=echo
    )


@click.command(name="python -m trainer.rehearse")
@click.argument("candidate", type=click.Path(path_type=Path))
@click.argument("source", metavar="INPUT", type=click.Path(path_type=Path))
@click.option("--beside", type=click.Path(path_type=Path),
              help="The bundle in use (default: the shipped one).")  # fmt: skip
@click.option("--lan", multiple=True, metavar="CIDR", help="A network at home; repeatable.")
@click.option("--ignore-checksums", is_flag=True, help="Count packets whose checksum is wrong.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def main(
    candidate: Path,
    source: Path,
    beside: Path | None,
    lan: tuple[str, ...],
    ignore_checksums: bool,
    as_json: bool,
) -> None:
    """Tell which incidents CANDIDATE would open over INPUT, and which no longer."""
    try:
        found = rehearse(
            candidate, source, beside, lan=lan, ignore_checksums=ignore_checksums,
            echo=lambda line: click.echo(line, err=True),
        )  # fmt: skip
    except GuardianError as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps(found.as_json()) if as_json else text(found))


if __name__ == "__main__":
    main()

"""`guardian handover`: its options."""

from __future__ import annotations

import time
from pathlib import Path

import click

from guardian.options import settings_of, settings_options


@click.command()
@click.option("--db", type=click.Path(path_type=Path), help="The database (default: the daemon's).")
@settings_options
def handover(config: Path | None, db: Path | None) -> None:
    """Lay the home's traffic ready for the workstation, take in a bundle that came back.

    guardian-handover.timer runs this every night once you switch it on. A copy of the database is
    laid into handover/ once a week. A bundle in bundles/ready is rehearsed by the daemon and takes
    over where it is no worse; one that cries wolf in its first two weeks is taken back.
    """
    from guardian.handover import handover as work  # noqa: PLC0415 - `guardian --help` is quick

    settings = settings_of(config)
    raise SystemExit(
        work(
            db or Path(settings.store.path), key=settings.model.key,
            fixed=bool(settings.model.bundle), now=time.time_ns(), echo=click.echo,
        )
    )  # fmt: skip

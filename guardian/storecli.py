"""`guardian backup` and `guardian dump`: the database as a whole."""

from __future__ import annotations

from pathlib import Path

import click

from guardian.config import database as named
from guardian.shell import database

DB = click.option(
    "--db", type=click.Path(path_type=Path), help="The database (default: the daemon's)."
)
CONFIG = click.option("-c", "--config", type=click.Path(path_type=Path), help="Settings (TOML).")


def _of(db: Path | None, config: Path | None) -> Path:
    return named(config) if db is None and config is not None else database(db)


@click.command()
@click.option(
    "--to", "folder", type=click.Path(path_type=Path, file_okay=False),
    help="The folder (default: backups, beside the database).",
)  # fmt: skip
@click.option(
    "--keep", type=click.IntRange(1, 10_000), default=7, show_default=True,
    help="So many copies stay in the folder; the oldest go.",
)  # fmt: skip
@DB
@CONFIG
def backup(folder: Path | None, keep: int, db: Path | None, config: Path | None) -> None:
    """Copy the database, also while the daemon writes.

    The copy is of one moment and is read through before it counts. docs/database.md tells how to
    restore one.
    """
    from guardian.backup import run  # noqa: PLC0415 - `guardian --help` is quick

    run(_of(db, config), folder, keep)


@click.command()
@click.argument(
    "what", type=click.Choice(["incidents", "connections", "totals"]), default="incidents"
)
@click.option(
    "--format", "form", type=click.Choice(["csv", "json", "parquet", "zeek"]), default="csv",
    show_default=True, help="zeek: notice.log of incidents, conn.log of connections.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False),
    help="The file (default: standard output).",
)  # fmt: skip
@DB
@CONFIG
def dump(what: str, form: str, output: Path | None, db: Path | None, config: Path | None) -> None:
    """Write incidents (the default), connections, or totals (privacy level 3) for other tools.

    Parquet needs pyarrow: sudo /opt/guardian/bin/python -m pip install pyarrow.
    """
    from guardian.dump import dump as work  # noqa: PLC0415 - the same

    work(what, _of(db, config), form, output)


STORE_COMMANDS: list[click.Command] = [backup, dump]

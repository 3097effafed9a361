"""`guardian bundle`: what judges, what lies ready, and how one takes the other's place.

The work is in bundlework.py, which loads the models' parts and is imported only for it.
"""

from __future__ import annotations

from pathlib import Path

import click

from guardian.options import settings_options

FOLDER = click.argument("folder", required=False, type=click.Path(path_type=Path))
JSON = click.option("--json", "as_json", is_flag=True, help="JSON for programs.")
DB = click.option("--db", type=click.Path(path_type=Path), help="The daemon's database.")


@click.group()
def bundle() -> None:
    """The model bundles: look, rehearse, install, go back."""


@bundle.command()
@settings_options
@DB
@JSON
def status(config: Path | None, db: Path | None, as_json: bool) -> None:
    """Show which bundle judges, which lies ready, which was before."""
    from guardian import bundlework  # noqa: PLC0415 - loads what it needs

    bundlework.status(config, db, as_json)


@bundle.command()
@FOLDER
@settings_options
@DB
@JSON
def rehearse(folder: Path | None, config: Path | None, db: Path | None, as_json: bool) -> None:
    """Tell which incidents of the past week FOLDER (or what lies ready) would change.

    Nothing is installed. A child process does it, within limits.
    """
    from guardian import bundlework  # noqa: PLC0415

    bundlework.rehearse(folder, config, db, as_json)


@bundle.command()
@FOLDER
@click.option("--anyway", is_flag=True, help="Without a rehearsal over the past week.")
@settings_options
@DB
@JSON
def install(
    folder: Path | None, anyway: bool, config: Path | None, db: Path | None, as_json: bool
) -> None:
    """Let the running daemon try, rehearse and take what lies ready.

    With FOLDER that bundle is laid ready first, which needs the rights of the daemon's user. A
    broken or worse one leaves the old one at work; `guardian bundle status` tells what came of it.
    """
    from guardian import bundlework  # noqa: PLC0415

    bundlework.install(folder, anyway, config, db, as_json)


@bundle.command()
@settings_options
@DB
@JSON
def rollback(config: Path | None, db: Path | None, as_json: bool) -> None:
    """Go back to the bundle before; once more, and it is the other again."""
    from guardian import bundlework  # noqa: PLC0415

    bundlework.rollback(config, db, as_json)


BUNDLE_COMMANDS: tuple[click.Command, ...] = (bundle,)

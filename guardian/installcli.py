"""`guardian install` and `guardian uninstall`: their options."""

from __future__ import annotations

from pathlib import Path

import click

from guardian.handovercli import handover

_PATH = click.Path(path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, resolve_path=True, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path)
_ROOT = click.option(
    "--root", type=click.Path(file_okay=False, resolve_path=True, path_type=Path),
    default=Path("/"), help="Install below DIR, for an image or to look.", metavar="DIR",
)  # fmt: skip
_DRY = click.option("--dry-run", is_flag=True, help="Only tell what would be done.")


@click.command()
@click.option("-i", "--interface", metavar="IFACE", help="The LAN side, for new settings.")
@click.option("--wheel", type=_FILE, help="Install this wheel (default: what runs now).")
@click.option("--wheels", type=_FOLDER, help="Folder of all wheels it needs: asks no index.")
@click.option("--python", type=_PATH, help="The Python to run on, 3.10 or newer.")
@click.option("--no-start", is_flag=True, help="Do not start the daemon.")
@click.option("--packaged", is_flag=True, hidden=True, help="Program and units came by a package.")
@_ROOT
@_DRY
def install(
    interface: str | None,
    wheel: Path | None,
    wheels: Path | None,
    python: Path | None,
    no_start: bool,
    packaged: bool,
    root: Path,
    dry_run: bool,
) -> None:
    """Install the daemon on this gateway (sudo), or bring it up to date.

    Makes the user and group guardian, the program in /opt/guardian, settings, folders and units.
    Settings and database that are there stay; run it as often as you like.
    """
    from guardian.install import install as work  # noqa: PLC0415 - `guardian --help` is quick

    work(
        root, dry_run, interface=interface, wheel=wheel, wheels=wheels, python=python,
        start=not no_start, packaged=packaged,
    )  # fmt: skip


@click.command()
@click.option("--purge", is_flag=True, help="Settings, database and account too.")
@click.option("--packaged", is_flag=True, hidden=True, help="Program and units came by a package.")
@_ROOT
@_DRY
def uninstall(purge: bool, packaged: bool, root: Path, dry_run: bool) -> None:
    """Undo guardian install (sudo); settings and database stay, unless --purge."""
    from guardian.install import uninstall as work  # noqa: PLC0415 - `guardian --help` is quick

    work(root, dry_run, purge=purge, packaged=packaged)


INSTALL_COMMANDS: list[click.Command] = [install, uninstall, handover]

"""`guardian install` and `guardian uninstall`: the daemon on a gateway, a line for each step."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import click

from guardian import installprogram, installsystem
from guardian.config import several
from guardian.installground import CONFIG, PROGRAM, STATE, Ground, InstallError
from guardian.schema import MIGRATIONS


def install(
    root: Path,
    dry: bool,
    *,
    interface: str | None,
    wheel: Path | None,
    wheels: Path | None,
    python: Path | None,
    start: bool,
    packaged: bool,
) -> None:
    """Do all steps. `packaged`: program, units and command came by a package.

    Raises InstallError at the first step that cannot be done; those before it stay, and the next
    run goes on from there.
    """
    ground = Ground(root, dry, click.echo)
    allowed(ground)
    before = os.umask(0o022)
    try:
        installsystem.account(ground)
        anew = packaged or installprogram.put(ground, wheel, wheels, python)
        for folder in installsystem.FOLDERS:
            ground.folder(*folder)
        tell_database(ground)
        chosen = several((interface,)) if interface else guessed(ground)
        installsystem.settings(ground, chosen)
        if not packaged:
            installsystem.put_units(ground)
            installsystem.put_link(ground)
        installsystem.enable(ground)
        runs = start and installsystem.start(ground, anew=anew)
    finally:
        os.umask(before)
    click.echo("\n" + what_next(ground, runs, chosen))


def uninstall(root: Path, dry: bool, *, purge: bool, packaged: bool) -> None:
    """Undo it; settings and database go with `purge` alone."""
    ground = Ground(root, dry, click.echo)
    allowed(ground)
    if not packaged:
        installsystem.take_down(ground)
    if purge:
        installsystem.forget(ground)
    else:
        for path in (CONFIG, STATE):
            if ground.at(path).exists():
                ground.tell("keep", path, "guardian uninstall --purge removes it")


def allowed(ground: Ground) -> None:
    """Raise InstallError where this user or system cannot be installed on."""
    if not sys.platform.startswith("linux"):
        raise InstallError("the daemon is installed on Linux: elsewhere run it by hand")
    if ground.live and not ground.dry and os.geteuid() != 0:
        program = Path(sys.argv[0]).resolve()
        raise InstallError(
            f"this needs root: sudo {program} install (or --dry-run to see what it would do)"
        )
    if ground.live and not Path("/usr/bin/systemctl").exists():
        raise InstallError("there is no systemd here: run `guardian run` under your own supervisor")


def guessed(ground: Ground) -> tuple[str, ...]:
    """Return the LAN side of this machine where one interface alone looks like it."""
    from guardian import lanside  # noqa: PLC0415 - for new settings alone

    found = tuple(lanside.guess()) if ground.live else ()
    return found if len(found) == 1 else ()


def tell_database(ground: Ground) -> None:
    """Tell what becomes of a database that is there. Raises InstallError where it is newer."""
    path = ground.at(f"{STATE}/guardian.db")
    if not path.is_file():
        return
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
            found = int(db.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error as error:
        ground.tell("keep", str(path), f"cannot be read: {error}")
        return
    known = len(MIGRATIONS)
    if found > known:
        raise InstallError(
            f"{path} was written by a newer Guardian (tables of version {found}, this one knows "
            f"{known}): install that version or a newer one; nothing was lost"
        )
    why = "as it is"
    if found < known:
        why = f"converted at the next start, after a copy to {path.name}.v{found}.bak"
    ground.tell("keep", f"{STATE}/guardian.db", why)


def what_next(ground: Ground, runs: bool, interface: tuple[str, ...]) -> str:
    """Return what the user does now."""
    if ground.dry:
        return "Nothing was changed."
    if runs:
        return "Guardian watches. Look with: guardian devices, guardian alerts"
    edit = "" if interface else f"sudoedit {CONFIG}   # [capture] interface: the LAN side\n"
    return (
        f"Next:\n{edit}sudo {PROGRAM}/bin/guardian check -c {CONFIG}\nsudo systemctl start guardian"
    )

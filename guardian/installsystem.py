"""What an installation has beside the program: account, folders, settings, units."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from guardian import interfaces, statusfile
from guardian.config import Settings
from guardian.errors import GuardianError
from guardian.installground import (
    ACCOUNT,
    CONFIG,
    LINK,
    PROGRAM,
    STATE,
    UNITS,
    Ground,
    InstallError,
)

FOLDERS = (
    (STATE, 0o750, ACCOUNT, ACCOUNT),
    (f"{STATE}/backups", 0o750, ACCOUNT, ACCOUNT),
    (f"{STATE}/handover", 0o750, ACCOUNT, ACCOUNT),
    (f"{STATE}/bundles", 0o750, ACCOUNT, ACCOUNT),
    # A member of the group lays a bundle here.
    (f"{STATE}/bundles/ready", 0o2770, ACCOUNT, ACCOUNT),
)
SERVICE = "guardian.service"
ENABLED = (SERVICE, "guardian-backup.timer")
"""Units that are switched on. The hand-over's timer is for who has a workstation."""

WORD_S = 10.0
"""Seconds to wait for the daemon's first word; it writes one every few seconds."""


def units() -> list[Path]:
    """Return the units that came with the package, in a checkout or installed."""
    package = Path(__file__).resolve().parent
    for folder in (package / "systemd", package.parent / "systemd"):
        if (folder / SERVICE).is_file():
            return sorted(p for p in folder.iterdir() if p.suffix in (".service", ".timer"))
    raise InstallError("the units are missing from this package: install it anew from a wheel")


def account(ground: Ground) -> None:
    """Make the group and the user that the daemon is."""
    prefix = () if ground.live else ("--prefix", ground.root)
    group, user = (ground.number(kind, ACCOUNT) is not None for kind in ("group", "passwd"))
    if not ground.live and not ground.at("/etc/passwd").exists():
        ground.tell("leave", f"user {ACCOUNT}", f"{ground.root} has no accounts")
        return
    ground.tell("keep", f"group {ACCOUNT}") if group else _group(ground, prefix)
    ground.tell("keep", f"user {ACCOUNT}") if user else _user(ground, prefix)


def _group(ground: Ground, prefix: tuple[str | Path, ...]) -> None:
    if not ground.dry:
        ground.run("groupadd", *prefix, "--system", ACCOUNT, hint="; use sudo")
    ground.tell("make", f"group {ACCOUNT}", f"its members read what was found: sudo usermod -aG "
                f"{ACCOUNT} NAME")  # fmt: skip


def _user(ground: Ground, prefix: tuple[str | Path, ...]) -> None:
    if not ground.dry:
        ground.run(
            "useradd", *prefix, "--system", "--gid", ACCOUNT, "--no-create-home",
            "--home-dir", STATE, "--shell", "/usr/sbin/nologin",
            "--comment", "Guardian of the home network", ACCOUNT, hint="; use sudo",
        )  # fmt: skip
    ground.tell("make", f"user {ACCOUNT}", "cannot log in")


def settings(ground: Ground, watched: tuple[str, ...]) -> None:
    """Write the settings where there are none; those that are there stay as they are."""
    from guardian.configtext import render, write_new  # noqa: PLC0415 - one that is kept needs none

    ground.folder(str(Path(CONFIG).parent), 0o750, "root", ACCOUNT)
    target = ground.at(CONFIG)
    if target.exists():
        ground.tell("keep", CONFIG, "as it is; guardian config update adds what is new")
        return
    if not ground.dry:
        values = {"capture": {"interface": watched}} if watched else {}
        with ground.writing(CONFIG):
            write_new(target, render(values))
            ground.give(target, "root", ACCOUNT)
            target.chmod(0o640)
    ground.tell(
        "make", CONFIG, f"watches {', '.join(watched)}" if watched else "name the interface in it"
    )


def put_units(ground: Ground) -> None:
    """Write the units, and the command into everybody's PATH."""
    changed = False
    for unit in units():
        changed |= ground.file(f"{UNITS}/{unit.name}", unit.read_text(encoding="utf-8"), 0o644)
    if changed and ground.booted and not ground.dry:
        ground.run("systemctl", "daemon-reload")


def put_link(ground: Ground) -> None:
    """Put the command into everybody's PATH."""
    target, goal = ground.at(LINK), f"{PROGRAM}/bin/guardian"
    if target.is_symlink() and str(target.readlink()) == goal:
        ground.tell("keep", LINK)
        return
    if target.exists() or target.is_symlink():
        ground.tell("leave", LINK, "another program's; ours is " + goal)
        return
    if not ground.dry:
        with ground.writing(LINK):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(goal)
    ground.tell("make", LINK, f"points at {goal}")


def enable(ground: Ground) -> None:
    """Let the units start with the machine."""
    if not ground.dry:
        where = () if ground.live else (f"--root={ground.root}",)
        ground.run("systemctl", *where, "enable", *ENABLED, hint="; use sudo")
    ground.tell("enable", ", ".join(ENABLED), "with the machine")


def start(ground: Ground, *, anew: bool) -> bool:
    """Start what is enabled; return whether the daemon runs. `anew`: it is another program now."""
    if not ground.booted:
        ground.tell("leave", SERVICE, "no systemd runs here; it starts with the machine")
        return False
    problem = "" if ground.dry and not Path(CONFIG).exists() else unready()
    if problem:
        ground.tell("leave", SERVICE, f"not started: {problem}")
        return False
    if ground.dry:
        ground.tell("start", SERVICE)
        return True
    others = [unit for unit in ENABLED if unit != SERVICE]
    ground.run("systemctl", "start", *others)
    done = ground.tried("systemctl", "restart" if anew else "start", SERVICE)
    if done.returncode != 0:
        raise InstallError(
            f"all is in place, but the daemon does not start: `guardian check -c {CONFIG}` says "
            f"why; then sudo systemctl start guardian"
        )
    ground.tell("start", SERVICE)
    await_word()
    return True


def await_word() -> None:
    """Wait a moment until `guardian status` has something to say: people ask at once."""
    deadline = time.monotonic() + WORD_S
    while time.monotonic() < deadline:
        with suppress(GuardianError):
            statusfile.read(Path(f"{STATE}/guardian.db"))
            return
        time.sleep(0.2)


def unready() -> str:
    """Return why the settings in place do not let the daemon start, or nothing."""
    from guardian.config import load  # noqa: PLC0415

    try:
        found: Settings = load(Path(CONFIG))
    except GuardianError as error:
        return str(error)
    names = found.capture.interface
    if not names:
        return f"name the LAN side in {CONFIG}, [capture] interface"
    if not set(names) & set(interfaces.names()):
        return (
            f"there is no interface {', '.join(names)}: name one of "
            f"{', '.join(interfaces.names())} in {CONFIG}, [capture] interface"
        )
    return ""


def take_down(ground: Ground) -> None:
    """Stop and forget the units; remove them, the command and the program."""
    names = [unit.name for unit in units()]
    there = [name for name in names if ground.at(f"{UNITS}/{name}").exists()]
    if there and not ground.dry:
        if ground.booted:
            ground.tried("systemctl", "disable", "--now", *there)
        else:
            where = () if ground.live else (f"--root={ground.root}",)
            ground.tried("systemctl", *where, "disable", *there)
    if there and ground.booted:
        ground.tell("stop", SERVICE)
    for name in there:
        ground.remove(f"{UNITS}/{name}")
    if there and ground.booted and not ground.dry:
        ground.run("systemctl", "daemon-reload")
    link = ground.at(LINK)
    if link.is_symlink() and str(link.readlink()).startswith(f"{PROGRAM}/"):
        ground.remove(LINK)
    ground.remove(PROGRAM)


def forget(ground: Ground) -> None:
    """Remove settings, database and account too."""
    ground.remove(str(Path(CONFIG).parent))
    ground.remove(STATE)
    prefix = () if ground.live else ("--prefix", ground.root)
    for kind, word in (("passwd", "userdel"), ("group", "groupdel")):
        if ground.number(kind, ACCOUNT) is not None:
            if not ground.dry:
                ground.run(word, *prefix, ACCOUNT)
            ground.tell("remove", f"{'user' if kind == 'passwd' else 'group'} {ACCOUNT}")

"""`guardian drill`: ring the alarm once, from the sensor to the phone, and tell how it went."""

from __future__ import annotations

import time
from pathlib import Path

import click

from guardian import reading
from guardian.discovery import DRILL_SAID
from guardian.errors import GuardianError
from guardian.shell import common, database, leave
from guardian.tell import harmless

WAIT_S = 240.0
"""Longer than a drill takes to give up, and the database to hear of it."""


@click.command()
@click.option("--wait", is_flag=True, help="Wait for the end, and tell how it went.")
@common
def drill(wait: bool, db: Path | None, as_json: bool) -> None:
    """Let the running daemon see a harmless attack that never touches the wire.

    A device that does not exist calls addresses that nobody has. Hub and phone ring as they would;
    the week's alerts are not touched. --wait exits with 1 where nobody was told.
    """
    path = database(db)
    before = said(path)
    with reading.reading(path) as tables:
        if not reading.running(tables, time.time_ns()):
            raise GuardianError("the daemon is not running: start it first (guardian run)")
    leave(path, "drill", {}, "a fire drill", as_json)
    if not wait:
        return
    deadline = time.monotonic() + WAIT_S
    while (now := said(path)) == before:
        if time.monotonic() > deadline:
            raise GuardianError("no end of the drill was heard: look at journalctl -u guardian")
        time.sleep(0.5)
    click.echo(f"The fire drill of {harmless(now)}.")
    if ": worked" not in now:
        raise SystemExit(1)


def said(path: Path) -> str:
    """Return how the last drill went."""
    with reading.reading(path) as tables:
        row = next(iter(tables.query("SELECT value FROM meta WHERE key = ?", [DRILL_SAID])), None)
    return str(row["value"]) if row else ""


DRILL_COMMANDS: list[click.Command] = [drill]

"""What the user's commands share: their options, time spans, JSON, the way to the daemon."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from guardian import commands, reading
from guardian.const import NS
from guardian.spans import MAX_SPAN_S, SPANS, span_s
from guardian.tell import harmless, paragraph

F = TypeVar("F", bound=Callable[..., Any])


def seconds(_context: click.Context, _option: click.Parameter, value: str | None) -> int | None:
    """Return the seconds of a span like 30m, 2h, 7d or 1w."""
    if value is None:
        return None
    span = span_s(value)
    if not span:
        raise click.BadParameter(f"{value!r} is no time span: {SPANS}")
    return span


def common(command: F) -> F:
    """Add --db and --json."""
    command = click.option("--json", "as_json", is_flag=True, help="JSON for programs.")(command)
    return click.option(
        "--db", type=click.Path(path_type=Path), help="The database (default: the daemon's)."
    )(command)


def database(db: Path | None) -> Path:
    """Return the database to read: --db, else that of the settings."""
    if db is not None:
        return db
    from guardian import config  # noqa: PLC0415 - only where nothing else says it

    return config.database()


def print_json(value: Any) -> None:
    """Print JSON alone, in ASCII, so that no name can do anything to a terminal."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def moment(_context: click.Context, _option: click.Parameter, value: str | None) -> int | None:
    """Return the moment (ns) of a date, which means the whole of that day, or of a date and time.

    Times are local.
    """
    if value is None:
        return None
    text = value.strip()
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is no date: write it like 2027-01-31 or '2027-01-31 18:00'"
        ) from None
    if len(text) <= len("2027-01-31"):
        found += timedelta(days=1)
    ahead = found.astimezone().timestamp() - time.time()
    if not 0 < ahead <= MAX_SPAN_S:
        raise click.BadParameter(f"{value!r} is past, or more than ten years ahead")
    return int(found.astimezone().timestamp()) * NS


def ends(span: int | None, date: int | None) -> int | None:
    """Return the moment (ns) of --for or --until; None where neither is given."""
    if span is not None and date is not None:
        raise click.UsageError("give --for or --until, not both")
    return date if span is None else time.time_ns() + span * NS


def find(path: Path, text: str) -> tuple[str, str]:
    """Return the key and the name of the device that a person means."""
    with reading.reading(path) as tables:
        found = reading.find_device(tables, text)
    return found["key"], harmless(found["name"])


def leave(
    path: Path,
    kind: commands.Kind,
    args: dict[str, Any],
    said: str,
    as_json: bool,
    *,
    undo: str = "",
) -> None:
    """Leave a command for the daemon and say so; `undo` is how to take it back ({id}: by id)."""
    now = time.time_ns()
    command = commands.new(kind, args, now)
    commands.give(path, command)
    if as_json:
        print_json({"id": command.id, "kind": kind, **args})
        return
    with reading.reading(path) as tables:
        running = reading.running(tables, now)
    follows = "the daemon takes it up within seconds" if running else (
        "the daemon is not running and takes it up when it starts"
    )  # fmt: skip
    click.echo(paragraph(f"Noted: {said}; {follows}."))
    if undo:
        click.echo(f"Undo: {undo.format(id=command.id[:8])}")

"""The user's commands: devices, alerts, explain, allow, snooze, feedback.

They read the database beside the daemon; what the user says is left for the daemon in the
drop-box. guardian/cli.py attaches USER_COMMANDS.
"""

from __future__ import annotations

import ipaddress
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from guardian import commands, reading
from guardian.const import NS
from guardian.errors import ConfigError, GuardianError
from guardian.schema import DEFAULT_PATH, default_path
from guardian.tell import amount, cut, harmless, pad, paragraph, table, when

F = TypeVar("F", bound=Callable[..., Any])

CAUSES = ("scan", "c2", "flood", "brute-force", "download", "other", "unusual")

COLOURS = {"high": "red", "medium": "yellow", "low": "cyan"}

SPAN = re.compile(r"(\d{1,6})\s*(min|[mhdw])", re.IGNORECASE)
SECONDS = {"m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}
MAX_SPAN_S = 10 * 365 * 86_400
"""Longer than ten years is a slip of the finger."""


def seconds(_context: click.Context, _option: click.Parameter, value: str | None) -> int | None:
    """Return the seconds of a span like 30m, 2h, 7d or 1w."""
    if value is None:
        return None
    found = SPAN.fullmatch(value.strip())
    span = int(found[1]) * SECONDS[found[2].lower()] if found else 0
    if not 0 < span <= MAX_SPAN_S:
        raise click.BadParameter(f"{value!r} is no time span: write it like 30m, 2h, 7d or 1w")
    return span


def common(command: F) -> F:
    """Add --db and --json."""
    command = click.option("--json", "as_json", is_flag=True, help="JSON for programs.")(command)
    return click.option(
        "--db", type=click.Path(path_type=Path), help="The database (default: the daemon's)."
    )(command)


def database(db: Path | None) -> Path:
    """Return the database to read: --db, GUARDIAN_DB, that of the settings, the default."""
    if db is not None:
        return db
    if default_path() != DEFAULT_PATH:
        return default_path()
    from guardian import config  # noqa: PLC0415 - only where nothing else says it

    try:
        return Path(config.load().store.path)
    except ConfigError:
        # Settings hold passwords: those who may read the database need not read them.
        return DEFAULT_PATH


def print_json(value: Any) -> None:
    """Print JSON alone, in ASCII, so that no name can do anything to a terminal."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))


# --- reading -------------------------------------------------------------------


@click.command()
@click.option("--name", nargs=2, metavar="DEVICE NAME", help="Give a device a name ('': none).")
@common
def devices(name: tuple[str, str] | None, db: Path | None, as_json: bool) -> None:
    """List the devices at home, or name one.

    DEVICE is a MAC, an address or the name so far.
    """
    path, now = database(db), time.time_ns()
    if name is not None:
        with reading.reading(path) as tables:
            key = reading.find_device(tables, name[0])["key"]
        new = commands.clean_name(name[1])
        said = f"{key} is called {new!r} from now on" if new else f"{key} loses its name"
        leave(path, "name", {"device": key, "name": new}, said, as_json)
        return
    with reading.reading(path) as tables:
        found = reading.devices(tables, now)
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("No devices yet: they appear with their first packet.")
        return
    rows = [
        (d["name"], d["address"], d["mac"], when(d["last_seen"], now / NS), _state(d, now / NS))
        for d in found
    ]
    head = ("NAME", "ADDRESS", "MAC", "LAST SEEN", "STATE")
    click.echo(table(head, rows, (24, 17, 17, 17, 17)))


def _state(device: reading.Row, now: float) -> str:
    if device["open_incidents"] > 1:
        return f"ALERT ({device['open_incidents']} open)"
    if device["open_incidents"]:
        return "ALERT"
    if device["state"] == "snoozed":
        return "until " + when(device["snoozed_until"], now)
    return str(device["state"])


@click.command()
@click.option("--open", "only_open", is_flag=True, help="Only those that are still going on.")
@click.option(
    "-n", "--limit", type=click.IntRange(1, 10_000), default=20, show_default=True,
    help="At most so many.",
)  # fmt: skip
@common
def alerts(only_open: bool, limit: int, db: Path | None, as_json: bool) -> None:
    """List what a person should know, open ones first."""
    now = time.time()
    with reading.reading(database(db)) as tables:
        found = reading.alerts(tables, only_open=only_open, limit=limit)
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("No open alerts." if only_open else "No alerts: all is quiet.")
        return
    print_alerts(found, now)
    click.echo("\nguardian explain ID tells more.")


def print_alerts(found: list[reading.Row], now: float) -> None:
    """Print incidents, a line and a paragraph each; now is the moment of reading, epoch s."""
    for i in found:
        ended = f"ended {when(i['closed'], now)}" if i["closed"] else "still going on"
        click.echo(
            f"{pad(harmless(i['id']), 14)}  {severity(i)}  {pad(when(i['opened'], now), 17)}  "
            f"{pad(harmless(i['device']['name']), 18)}  {pad(harmless(i['cause']), 11)}  {ended}"
        )
        click.echo(paragraph(i["explanation"], 4))


def severity(i: reading.Row) -> str:
    """Return HIGH, MEDIUM or LOW in six columns, coloured on a terminal."""
    word = harmless(i["severity"])
    return click.style(pad(word.upper(), 6), fg=COLOURS.get(word), bold=True)


@click.command()
@click.argument("incident", metavar="ID")
@common
def explain(incident: str, db: Path | None, as_json: bool) -> None:
    """Tell all about one incident; the first letters of its ID are enough."""
    now = time.time()
    with reading.reading(database(db)) as tables:
        i = reading.incident(tables, incident)
    if as_json:
        print_json(i)
        return
    device = i["device"]
    known = ", ".join(harmless(device[key]) for key in ("ip", "mac") if device[key])
    ended = f"ended {when(i['closed'], now)}" if i["closed"] else "still going on"
    click.echo(f"{severity(i)}  {cut(harmless(device['name']), 40)} ({known})")
    click.echo(f"{harmless(i['cause'])}, since {when(i['opened'], now)}, {ended}\n")
    click.echo(paragraph(i["explanation"]))
    click.echo("\nWhat to do")
    click.echo(paragraph(i["advice"], 2))
    for title, lines in (
        ("What weighed most", _features(i)),
        ("With whom", _peers(i)),
        ("Example connections", _examples(i)),
    ):
        if lines:
            click.echo(f"\n{title}")
            click.echo("\n".join("  " + line for line in lines.splitlines()))
    who = "a plain counter" if i["speaker"] == "counter" else "the models"
    bundle = f" ({harmless(i['bundle'])})" if i["bundle"] else ""
    click.echo(
        f"\nDecided by {who}{bundle}, score {amount(i['score'])}; {i['count']} observations."
    )
    for event in i["history"]:
        click.echo(f"  {when(event['at'], now)}: {harmless(event['change'])}, {event['severity']}")
    if i["feedback"]:
        click.echo(f"You said: {harmless(i['feedback'])}.")
    else:
        click.echo(f"Was it you, or is it fine? guardian feedback {harmless(i['id'])} this-was-me")


def _features(i: reading.Row) -> str:
    """Return a line each: the share of the evidence, and what was seen beside what is usual."""
    rows = [(f"{100 * (f['weight'] or 0):.0f} %", f["text"] or f["name"]) for f in i["features"]]
    return table(("WEIGHT", "FEATURE"), rows, (6, 90)) if rows else ""


def _peers(i: reading.Row) -> str:
    rows = [
        (p["ip"], f"{p['port']}/{p['proto']}", p["host"], f"{p['connections']:,}")
        for p in i["peers"]
    ]
    return table(("ADDRESS", "PORT", "NAME", "CONNECTIONS"), rows, (39, 10, 30, 11)) if rows else ""


def _examples(i: reading.Row) -> str:
    rows = [
        (
            time.strftime("%H:%M:%S", time.localtime(c["ts"])),
            f"{c['orig_h']}:{c['orig_p']}",
            f"{c['resp_h']}:{c['resp_p']}",
            c["service"] or c["proto"],
            c["conn_state"],
            f"{max(c['orig_bytes'], 0):,}",
            f"{max(c['resp_bytes'], 0):,}",
        )
        for c in i["connections"]
    ]
    head = ("TIME", "FROM", "TO", "SERVICE", "STATE", "SENT", "RECEIVED")
    return table(head, rows, (8, 21, 21, 10, 6, 10, 10)) if rows else ""


# --- telling the daemon --------------------------------------------------------


@click.command()
@click.argument("device", required=False)
@click.option("--peer", help="Only with this address, network or host name.")
@click.option("--cause", type=click.Choice(CAUSES), help="Only for this cause.")
@click.option(
    "--for",
    "span",
    callback=seconds,
    metavar="SPAN",
    help="Only so long: 2h, 7d (default: for good).",
)
@common
def allow(
    device: str | None,
    peer: str | None,
    cause: str | None,
    span: int | None,
    db: Path | None,
    as_json: bool,
) -> None:
    """Say what is fine: by DEVICE, by --peer, by --cause, or by several of them together."""
    if not (device or peer or cause):
        raise click.UsageError("name a DEVICE, a --peer or a --cause: all of it cannot be fine")
    path = database(db)
    key, called = _device(path, device) if device else (None, "every device")
    where = f" with {_peer(peer)}" if peer else ""
    what = cause or "anything"
    args = {
        "device": key,
        "peer": _peer(peer) if peer else None,
        "cause": cause,
        "until": until(span) if span else None,
    }
    leave(path, "allow", args, f"{what} of {called}{where} is fine{_till(args)}", as_json)


@click.command()
@click.argument("device")
@click.option(
    "--for",
    "span",
    callback=seconds,
    metavar="SPAN",
    default="2h",
    show_default=True,
    help="How long.",
)
@common
def snooze(device: str, span: int, db: Path | None, as_json: bool) -> None:
    """Be quiet about DEVICE for a while; what happens is still kept."""
    path = database(db)
    key, called = _device(path, device)
    args = {"device": key, "until": until(span)}
    leave(path, "snooze", args, f"no notice about {called}{_till(args)}", as_json)


@click.command()
@click.argument("incident", metavar="ID")
@click.argument("answer", type=click.Choice(commands.ANSWERS))
@common
def feedback(incident: str, answer: str, db: Path | None, as_json: bool) -> None:
    """Say what incident ID was: this-was-me, fine (a false alarm) or bad."""
    path = database(db)
    with reading.reading(path) as tables:
        full = reading.incident(tables, incident)["id"]
    said = f"incident {harmless(full)} was: {answer}"
    leave(path, "feedback", {"incident": full, "answer": answer}, said, as_json)


def _device(path: Path, text: str) -> tuple[str, str]:
    with reading.reading(path) as tables:
        found = reading.find_device(tables, text)
    return found["key"], harmless(found["name"])


def _peer(text: str) -> str:
    """Return a peer in its usual form. Raises GuardianError where it is none."""
    plain = text.strip().lower()
    try:
        network = ipaddress.ip_network(plain, strict=False)
    except ValueError:
        if re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", plain) and len(plain) < 254:
            return plain
        raise GuardianError(
            f"{text!r} is no address, network or host name: write it like 10.0.0.5, "
            "10.0.0.0/24 or example.org"
        ) from None
    return str(network) if "/" in plain else str(network.network_address)


def until(span: int) -> int:
    """Return the moment (ns) that lies `span` seconds ahead."""
    return time.time_ns() + span * NS


def _till(args: dict[str, Any]) -> str:
    return f" until {when(args['until'] / NS, time.time())}" if args["until"] else ""


def leave(path: Path, kind: commands.Kind, args: dict[str, Any], said: str, as_json: bool) -> None:
    """Leave a command for the daemon and say so."""
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


USER_COMMANDS: list[click.Command] = [devices, alerts, explain, allow, snooze, feedback]

"""The user's commands that look: devices, alerts, explain.

They read the database beside the daemon. saycli.py has those that tell the daemon something.
guardian/cli.py attaches USER_COMMANDS.
"""

from __future__ import annotations

import time
from pathlib import Path

import click

from guardian import commands, reading
from guardian.changed import words
from guardian.const import NS
from guardian.drillcli import DRILL_COMMANDS
from guardian.kincli import link_devices, questions, unlink_device
from guardian.saycli import allow, feedback, snooze, till, what
from guardian.shell import common, database, find, leave, print_json
from guardian.tell import amount, cut, harmless, pad, paragraph, table, when
from guardian.week import cost

__all__ = ["USER_COMMANDS", "database", "print_alerts"]

CHANGES = {"held": "opened, held back since the alerts of the week were spent"}

COLOURS = {"high": "red", "medium": "yellow", "low": "cyan"}

# --- reading -------------------------------------------------------------------


@click.command()
@click.option("--name", nargs=2, metavar="DEVICE NAME", help="Give a device a name ('': none).")
@click.option(
    "--link", nargs=2, metavar="NEW OLD", help="NEW is OLD under another MAC: one device from now."
)
@click.option("--unlink", metavar="MAC", help="It is no other device: part them, or say no.")
@click.option("--forget", metavar="DEVICE", help="Remove a device that is no longer there.")
@click.option(
    "--unlearn", metavar="DEVICE", is_flag=False, flag_value="",
    help="Let it learn anew what is usual for it; or --unlearn --all.",
)  # fmt: skip
@click.option("--all", "everyone", is_flag=True, help="With --unlearn: all devices.")
@common
def devices(
    name: tuple[str, str] | None,
    link: tuple[str, str] | None,
    unlink: str | None,
    forget: str | None,
    unlearn: str | None,
    everyone: bool,
    db: Path | None,
    as_json: bool,
) -> None:
    """List the devices at home, or say something of one.

    DEVICE is a MAC, an address or the name so far.
    """
    path, now = database(db), time.time_ns()
    if sum(given is not None for given in (name, link, unlink, forget, unlearn)) > 1:
        raise click.UsageError("give one of --name, --link, --unlink, --forget and --unlearn")
    if everyone is not (unlearn == ""):
        raise click.UsageError("give --unlearn DEVICE, or --unlearn --all")
    if name is not None:
        key, _ = find(path, name[0])
        new = commands.clean_name(name[1])
        said = f"{key} is called {new!r} from now on" if new else f"{key} loses its name"
        leave(path, "name", {"device": key, "name": new}, said, as_json)
        return
    if link is not None:
        link_devices(path, *link, as_json)
    elif unlink is not None:
        unlink_device(path, unlink, as_json)
    elif forget is not None:
        key, called = find(path, forget)
        said = f"{called} is forgotten; it comes back as a new device if it speaks"
        leave(path, "forget", {"device": key}, said, as_json)
    elif unlearn is not None:
        key, called = find(path, unlearn) if unlearn else ("", "each device")
        said = f"{called} learns anew what is usual for it"
        leave(path, "unlearn", {"device": key}, said, as_json)
    else:
        _list(path, now, as_json)


def _list(path: Path, now: int, as_json: bool) -> None:
    with reading.reading(path) as tables:
        found = reading.devices(tables, now)
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("No devices yet: they appear with their first packet.")
        return
    rows = [
        (d["name"], d["address"], d["mac"], d["class"], when(d["last_seen"], now / NS),
         _state(d, now / NS))
        for d in found
    ]  # fmt: skip
    head = ("NAME", "ADDRESS", "MAC", "CLASS", "LAST SEEN", "STATE")
    click.echo(table(head, rows, (24, 17, 17, 8, 17, 17)))
    for question in questions(found):
        click.echo("\n" + question)
    for d in found:
        if d["changed"]:
            at, features = d["changed"]["at"], words(d["changed"]["features"])
            said = f"{d['name']} changed its habits ({when(at, now / NS)}): {features}"
            click.echo("\n" + paragraph(harmless(said)))
    lines = [f"{what(r)}{till(r, now / NS)}" for d in found for r in d["said"]]
    if lines:
        click.echo("\nWhat you said (guardian allow --list has all, and how to undo it)")
        click.echo("\n".join(paragraph(line, 2) for line in lines))


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
@click.option("--held", is_flag=True, help="Those beyond the week's limit, held back.")
@click.option(
    "--a-week", type=click.IntRange(0, commands.MAX_BUDGET), metavar="N",
    help="Tell at most so many a week from now on, and say what that costs; 0: no limit.",
)  # fmt: skip
@click.option("--ask", is_flag=True, help="At most three whose answer would teach most.")
@common
def alerts(
    only_open: bool,
    limit: int,
    held: bool,
    a_week: int | None,
    ask: bool,
    db: Path | None,
    as_json: bool,
) -> None:
    """List what a person should know, open ones first.

    Beyond [alerts] a_week (2) in seven days, those of less than high severity that only the models
    saw are held back.
    """
    now = time.time()
    if a_week is not None:
        said = f"at most {a_week} alerts a week" if a_week else "no limit of alerts"
        said += f"; {cost(a_week)}"
        leave(database(db), "budget", {"a_week": a_week}, said, as_json)
        return
    if ask:
        _ask(database(db), as_json, now)
        return
    with reading.reading(database(db)) as tables:
        found = reading.alerts(tables, only_open=only_open, limit=limit, held=held)
        week = reading.said_of(reading.spent(tables, time.time_ns()))
    if as_json:
        print_json(found)
        return
    if found:
        print_alerts(found, now)
        click.echo("\nguardian explain ID tells more.")
    elif held:
        click.echo("Nothing is held back.")
    else:
        click.echo("No open alerts." if only_open else "No alerts: all is quiet.")
    if week:
        more = "" if held or "held back in all" not in week else " (guardian alerts --held)"
        click.echo(paragraph(f"Alerts: {week}{more}."))


def _ask(path: Path, as_json: bool, now: float) -> None:
    """Ask about the incidents whose answer would teach most."""
    with reading.reading(path) as tables:
        found = reading.questions(tables)
    if as_json:
        print_json(found)
    elif found:
        print_alerts(found, now)
        answers = " | ".join(commands.ANSWERS)
        click.echo(f"\nWhat were they? guardian feedback ID {answers}")
    else:
        click.echo("Nothing to ask: every incident of the models has its answer.")


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
        i = reading.incident(tables, incident, time.time_ns())
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
        change = CHANGES.get(event["change"], harmless(event["change"]))
        click.echo(f"  {when(event['at'], now)}: {change}, {event['severity']}")
    print_said(i, now)


def print_said(i: reading.Row, now: float) -> None:
    """Print what the user said of an incident, what that changes, and how to undo it."""
    name = harmless(i["id"])
    own = [r for r in i["said"] if r["incident"] == i["id"]]
    if i["feedback"]:
        changed = "".join(f" {what(r, where=False).capitalize()}{till(r, now)}." for r in own)
        changed = changed or " That changes nothing any more: its time is over."
        said = f"You said: {harmless(i['feedback'])}.{changed}"
        click.echo(paragraph(f"{said} Take it back: guardian feedback {name} --undo"))
    else:
        answers = " | ".join(commands.ANSWERS)
        click.echo(f"What was it? guardian feedback {name} {answers}")
    for rule in i["said"]:
        if rule not in own:
            undo = f"guardian allow --undo {rule['id'][:8]}"
            click.echo(paragraph(f"You said: {what(rule)}{till(rule, now)}. Take it back: {undo}"))


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


USER_COMMANDS: list[click.Command] = [
    devices, alerts, explain, allow, snooze, feedback, *DRILL_COMMANDS,
]  # fmt: skip

"""The user's commands that tell the daemon something: allow, snooze, feedback.

What the user says is left in the drop-box; the daemon obeys it within seconds.
"""

from __future__ import annotations

import ipaddress
import re
import time
from pathlib import Path

import click

from guardian import commands, reading
from guardian.const import NS
from guardian.errors import GuardianError
from guardian.shell import common, database, ends, find, leave, moment, print_json, seconds
from guardian.tell import harmless, pad, paragraph, table, when
from guardian.wishes import CAUSES, Allow

SHOWN = 10
"""Incidents that a preview lists; it counts all."""

ALIASES = {"this-is-fine": "fine", "this-is-bad": "bad"}

FOR = click.option("--for", "span", callback=seconds, metavar="SPAN", help="Only so long: 2h, 30d.")
UNTIL = click.option(
    "--until", "date", callback=moment, metavar="DATE",
    help="Only until the end of that day, 2027-01-31, or that moment, '2027-01-31 18:00'.",
)  # fmt: skip


def what(rule: reading.Row, *, where: bool = True) -> str:
    """Return a rule in words; `where` adds the incident whose answer it is."""
    named = harmless(rule["name"] or rule["device"] or "every device")
    if rule["kind"] == "snooze":
        return f"no notice about {named}"
    of = f"{rule['cause'] or 'anything'} of {named}"
    if rule["peer"]:
        of += f" with {harmless(rule['peer'])}"
    said = f" (your answer to {harmless(rule['incident'])})" if where and rule["incident"] else ""
    if rule["answer"] == "bad":
        return f"{of} is told sooner, by half the evidence{said}"
    return f"{of} is fine{said}"


def till(rule: reading.Row, now: float) -> str:
    """Return until when a rule holds, empty where it has no end."""
    return f" until {when(rule['until'], now)}" if rule["until"] else ""


# --- allow ------------------------------------------------------------------------


@click.command()
@click.argument("device", required=False)
@click.option("--peer", help="Only with this address, network or host name.")
@click.option("--cause", type=click.Choice(CAUSES), help="Only for this cause.")
@FOR
@UNTIL
@click.option("--preview", is_flag=True, help="Only show which past incidents it would cover.")
@click.option("--list", "as_list", is_flag=True, help="List what you said that still holds.")
@click.option("--undo", metavar="ID", help="Take back what --list shows under this ID.")
@common
def allow(
    device: str | None,
    peer: str | None,
    cause: str | None,
    span: int | None,
    date: int | None,
    preview: bool,
    as_list: bool,
    undo: str | None,
    db: Path | None,
    as_json: bool,
) -> None:
    """Say what is fine: by DEVICE, by --peer, by --cause, or by several of them together.

    It tells which of the past incidents would not have been. It holds for good, or for --for or
    --until.
    """
    path = database(db)
    named = bool(device or peer or cause)
    if (as_list or undo) and (named or preview or span or date or (as_list and undo)):
        raise click.UsageError("--list and --undo ID stand alone")
    if as_list:
        print_rules(path, as_json)
        return
    if undo:
        take_back(path, undo, as_json)
        return
    if not named:
        raise click.UsageError("name a DEVICE, a --peer or a --cause: all of it cannot be fine")
    end = ends(span, date)
    key, called = find(path, device) if device else (None, "every device")
    other = clean_peer(peer) if peer else None
    args = {"device": key, "peer": other, "cause": cause, "until": end}
    with reading.reading(path) as tables:
        total, found = reading.effect(
            tables, Allow(device=key or "", peer=other or "", cause=cause or "")
        )
    if preview and as_json:
        print_json({"incidents": total, "covered": found})
        return
    if not as_json:
        print_effect(total, found)
    if preview:
        return
    where = f" with {other}" if other else ""
    limit = f" until {when(end / NS, time.time())}" if end else ""
    said = f"{cause or 'anything'} of {called}{where} is fine{limit}"
    leave(path, "allow", args, said, as_json, undo="guardian allow --undo {id}")


def print_effect(total: int, found: list[reading.Row]) -> None:
    """Print what an allowance would have changed: counted, and the newest listed."""
    now = time.time()
    whole = [i for i in found if i["whole"]]
    part = [i for i in found if not i["whole"]]
    if not total:
        click.echo("There are no incidents so far: it would have changed nothing.")
        return
    click.echo(f"Of the {total:,} incidents so far, {len(whole)} would not have been told.")
    _print_some(whole, now)
    if part:
        click.echo(
            f"{len(part):,} more would have had less evidence, and might have been told all the "
            "same:"
        )
        _print_some(part, now)


def _print_some(found: list[reading.Row], now: float) -> None:
    for i in found[:SHOWN]:
        open_ = "" if i["closed"] else "  open: ends now" if i["whole"] else "  open: goes on"
        line = (
            f"  {pad(harmless(i['id']), 12)}  {pad(when(i['opened'], now), 17)}  "
            f"{pad(harmless(i['device']['name']), 24)}  {pad(harmless(i['cause']), 11)}{open_}"
        )
        click.echo(line.rstrip())
    if len(found) > SHOWN:
        click.echo(f"  and {len(found) - SHOWN:,} older")


def print_rules(path: Path, as_json: bool) -> None:
    """Print what the user said that still holds."""
    now = time.time_ns()
    with reading.reading(path) as tables:
        found = reading.rules(tables, now)
        waiting = reading.waiting(tables) + commands.waiting(path)
    if as_json:
        print_json(found)
        return
    if waiting:
        what_waits = "1 command waits" if waiting == 1 else f"{waiting} commands wait"
        click.echo(f"{what_waits} for the daemon and cannot be seen here yet.")
    if not found:
        click.echo("Nothing is allowed, snoozed or answered that still holds.")
        return
    rows = [
        (
            r["id"][:8],
            when(r["until"], now / NS) if r["until"] else "for good",
            when(r["created"], now / NS),
            r["author"],
        )
        for r in found
    ]
    lines = table(("ID", "UNTIL", "SAID", "BY"), rows, (8, 18, 18, 16)).splitlines()
    click.echo(lines[0])
    for line, rule in zip(lines[1:], found, strict=True):
        click.echo(line)
        click.echo(paragraph(what(rule), 4))
    click.echo("\nguardian allow --undo ID takes one back.")


def take_back(path: Path, prefix: str, as_json: bool) -> None:
    """Leave the undoing of the rule whose id begins so."""
    with reading.reading(path) as tables:
        rule = reading.find_rule(tables, prefix, time.time_ns())
    leave(path, "undo", {"command": rule["id"]}, f"no longer: {what(rule)}", as_json)


def clean_peer(text: str) -> str:
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


# --- snooze, feedback -------------------------------------------------------------


@click.command()
@click.argument("device")
@click.option(
    "--for", "span", callback=seconds, metavar="SPAN", help="How long: 30m, 2h, 1d (default: 2h)."
)
@UNTIL
@click.option("--undo", is_flag=True, help="Speak again at once.")
@common
def snooze(
    device: str, span: int | None, date: int | None, undo: bool, db: Path | None, as_json: bool
) -> None:
    """Be quiet about DEVICE for a while; what happens is still kept.

    Only an incident that you were told of and that becomes worse speaks all the same. What is
    still going on at the end is told then.
    """
    path = database(db)
    if undo and (span or date):
        raise click.UsageError("--undo needs no time")
    key, called = find(path, device)
    if undo:
        with reading.reading(path) as tables:
            found = [
                rule
                for rule in reading.rules(tables, time.time_ns())
                if rule["kind"] == "snooze" and rule["device"] == key
            ]
        if not found:
            raise GuardianError(f"{called} is not snoozed: guardian devices shows who is")
        leave(path, "undo", {"command": found[0]["id"]}, f"notices about {called} again", as_json)
        return
    end = ends(7_200 if span is None and date is None else span, date) or 0
    args = {"device": key, "until": end}
    said = f"no notice about {called} until {when(end / NS, time.time())}"
    undoing = f"guardian snooze {key} --undo"
    leave(path, "snooze", args, said, as_json, undo=undoing)


@click.command()
@click.argument("incident", metavar="ID")
@click.argument(
    "answer", required=False, type=click.Choice([*commands.ANSWERS, *ALIASES]), metavar="ANSWER"
)
@click.option("--undo", is_flag=True, help="Take the answer back.")
@common
def feedback(incident: str, answer: str | None, undo: bool, db: Path | None, as_json: bool) -> None:
    """Say what incident ID was: this-was-me, fine (a false alarm) or bad.

    this-was-me: that cause on that device is not told for a day. fine: not for 30 days. bad: for
    30 days half the evidence suffices, and what you allowed for it no longer holds.
    """
    if (answer is None) != undo:
        raise click.UsageError("give one ANSWER (this-was-me, fine or bad), or --undo alone")
    path = database(db)
    with reading.reading(path) as tables:
        i = reading.incident(tables, incident, time.time_ns())
    name, of = i["id"], f"{harmless(i['cause'])} of {harmless(i['device']['name'])}"
    if answer is None:
        own = [rule for rule in i["said"] if rule["incident"] == name]
        last = own[0]["id"] if own else i["answered_by"]
        if not last:
            raise GuardianError(f"incident {harmless(name)} has no answer to take back")
        leave(path, "undo", {"command": last}, f"no answer to {harmless(name)} any more", as_json)
        return
    answer = ALIASES.get(answer, answer)
    then = {
        "this-was-me": f"{of} is not told for a day",
        "fine": f"{of} is not told for 30 days",
        "bad": f"{of} is told sooner, by half the evidence, for 30 days, whatever was allowed",
    }[answer]
    said = f"incident {harmless(name)} was: {answer}, so {then}"
    undoing = f"guardian feedback {harmless(name)} --undo"
    leave(path, "feedback", {"incident": name, "answer": answer}, said, as_json, undo=undoing)

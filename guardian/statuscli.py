"""`guardian status`: how the running daemon is, for a person or a program."""

from __future__ import annotations

import os
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import click

from guardian import statusfile
from guardian.shell import common, database, print_json
from guardian.tell import WIDTH, harmless, table, when

WATCH_S = 2.0
"""Seconds between looks of --watch; the daemon itself writes every few seconds."""

SHOWN = 20
"""Devices that are shown to a person; --json has more."""


@click.command()
@click.option("--watch", is_flag=True, help="Show it anew every two seconds, until Ctrl-C.")
@common
def status(watch: bool, db: Path | None, as_json: bool) -> None:
    """Show how the running daemon is: rates, devices, open incidents, what it missed.

    Exits with 1 where no daemon runs, or where it does not go on.
    """
    path = database(db)
    while True:
        try:
            found = statusfile.read(path)
        except statusfile.StatusError as error:
            if as_json:
                print_json({"running": False, "error": str(error)})
                raise SystemExit(1) from error
            if not watch:
                raise
            text = harmless(error)
        else:
            if as_json:
                print_json({"running": not found["stale"], **found})
                raise SystemExit(int(found["stale"]))
            text = told(found, time.time())
            if not watch:
                click.echo(text)
                raise SystemExit(int(found["stale"]))
        _redraw(text)


def _redraw(text: str) -> None:
    """Show a text in place of the last one, then wait."""
    if sys.stdout.isatty():
        click.clear()
        rows = os.get_terminal_size().lines - 1
        text = "\n".join(text.splitlines()[:rows])
    click.echo(text)
    try:
        time.sleep(WATCH_S)
    except KeyboardInterrupt:
        raise SystemExit(0) from None


def told(s: dict[str, Any], now: float) -> str:
    """Return a status as a person reads it."""
    counts, rates, devices = s["counts"], s["rates"], s["devices"]
    lines = [
        f"Guardian {harmless(s['version'])}, running for {span(s['uptime_s'])} "
        f"(process {s['pid']}), models {harmless(s['bundle'])}"
    ]
    if s["stale"]:
        what = "IT ENDED WITHOUT A WORD" if s["gone"] else "IT DOES NOT GO ON"
        lines.append(
            f"{what}: it last said something {span(s['age_s'])} ago; look at `journalctl -u "
            "guardian`, then restart it"
        )
    rows = [
        ("now", f"{rates['packets']:,.1f} packets a second, {rates['connections']:,.2f} "
                f"connections a second, {s['age_s']:.0f} s ago"),
        ("in all", f"{counts['packets']:,} packets, {counts['connections']:,} connections, "
                   f"{counts['sequences']:,} scored"),
        ("devices", f"{devices['known']:,} known: {devices['alert']} in alert, "
                    f"{devices['learning']} learning, {devices['quiet']} quiet"),
        ("incidents", _incidents(s, now)),
        ("alerts", _budget(s.get("budget"))),
        ("changed", "; ".join(_changed(one, s, now) for one in s.get("changed", []))),
        ("interfaces", ", ".join(_interface(one) for one in s["interfaces"])),
        ("missed", _missed(s)),
        ("cannot see", "; ".join(map(harmless, s.get("blind_spots", [])))),
        ("hub", _hub(s["hub"])),
        ("delay", f"{1000 * s['delay']['mean_s']:,.0f} ms from the line to the database, "
                  f"{1000 * s['delay']['max_s']:,.0f} ms at most"),
        ("uses", f"{s['memory']['rss'] / 2**20:,.0f} MB of memory, {100 * s['cpu']['share']:.1f} % "
                 "of a core"),
        ("settings", _settings(s["config"], now)),
    ]  # fmt: skip
    lines += [
        textwrap.fill(
            text, WIDTH, initial_indent=f"{name:11} ", subsequent_indent=" " * 12,
            break_on_hyphens=False,
        )
        for name, text in rows
        if text
    ]  # fmt: skip
    shown = [d for d in devices["list"] if d["state"] != "quiet"][:SHOWN]
    if shown:
        cells = [(d["name"], d["ip"], d["state"], f"{d['score']:.2f}") for d in shown]
        lines += ["", table(("NAME", "ADDRESS", "STATE", "SCORE"), cells, (30, 24, 9, 6))]
    return "\n".join(lines)


def _incidents(s: dict[str, Any], now: float) -> str:
    found = s["incidents"]
    if not found["open"]:
        return "none is open"
    each = "; ".join(
        f"{harmless(i['severity'])} {harmless(i['cause'])} of {harmless(i['device'])} since "
        f"{when(i['opened'], now)} ({harmless(i['id'])})"
        for i in reversed(found["list"])
    )
    more = found["open"] - len(found["list"])
    return f"{found['open']} open: {each}" + (f"; {more} more" if more > 0 else "")


def _budget(budget: dict[str, Any] | None) -> str:
    if not budget:
        return ""
    most = f"at most {budget['a_week']}" if budget["a_week"] else "no limit"
    return (
        f"{budget['told']} told in seven days ({most}, high severity and plain rules always), "
        f"{budget['held']} held back"
    )


def _changed(one: dict[str, Any], s: dict[str, Any], now: float) -> str:
    names = {d["key"]: d["name"] for d in s["devices"]["list"]}
    name = names.get(one["key"], one["key"])
    return harmless(f"{name} has other habits since {when(one['at'], now)}: {one['what']}")


def _interface(one: dict[str, Any]) -> str:
    state = "" if one["up"] else " IS AWAY"
    drops = f", {one['drops']:,} packets dropped" if one["drops"] else ""
    return f"{harmless(one['name'])}{state}{drops}"


def _missed(s: dict[str, Any]) -> str:
    counts = s["counts"]
    found = [
        (s["drops"], "packets dropped by the kernel (raise [capture] ring_mib)"),
        (counts["evicted"], "connections ended early by a full table"),
        (counts["shed"], "slices of floods not scored"),
        (counts["arp_unseen"], "ARP packets of floods not looked at"),
        (s["devices"]["evicted"], "devices forgotten by a full table"),
        (s["incidents"]["refused"], "incidents not opened (too many)"),
        (counts["malformed"], "malformed packets"),
        (counts["bad_checksums"], "packets with a wrong checksum"),
        (sum(counts["not_understood"].values()), "frames not understood"),
    ]
    return ", ".join(f"{number:,} {what}" for number, what in found if number) or "nothing"


def _hub(hub: dict[str, Any]) -> str:
    if not hub:
        return "none is set"
    if hub["connected"]:
        return "connected"
    return f"NOT CONNECTED; {hub['waiting'] or 0:,} messages wait"


def _settings(config: dict[str, Any], now: float) -> str:
    out = f"{harmless(config['file'] or 'defaults')}, read {when(config['read'], now)}"
    if config["fault"]:
        out += f"; THE NEW ONES HAVE A MISTAKE, the old ones hold: {harmless(config['fault'])}"
    if config["restart"]:
        out += f"; waits for a restart: {', '.join(map(harmless, config['restart']))}"
    return out


def span(seconds: float) -> str:
    """Return a time as a person says it: 45 s, 12 min, 3 h 20 min, 5 days 4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} days {hours % 24} h"


STATUS_COMMANDS: list[click.Command] = [status]

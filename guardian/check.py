"""`guardian check`: what is wrong and how to mend it, a line each."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click

from guardian import checkpoints, interfaces, lanside
from guardian.bundle import Bundle
from guardian.checkpoints import Note
from guardian.config import Settings, mqtt_password
from guardian.errors import CaptureError, ConfigError, GuardianError, InputError
from guardian.runtime import daemon_bundle
from guardian.scoring import Scorer
from guardian.tell import harmless

Test = Callable[[], str]


class Report:
    """Prints a line for each test and counts what is wrong."""

    def __init__(self) -> None:
        self.failed = 0

    def run(self, name: str, test: Test) -> None:
        """Print `ok`, `note` or `WRONG` with what the test says."""
        try:
            word, said = "ok", test()
        except Note as note:
            word, said = "note", str(note)
        except GuardianError as error:
            self.failed += 1
            word, said = "WRONG", str(error)
        click.echo(f"{word:5} {name:10} {harmless(said)}")


def check(again: Callable[[], Settings], path: Path | None = None, *, quick: bool) -> int:
    """Run every check, print a line for each; return 0 when all is well, 1 otherwise.

    again reads the settings; path is the file they are from. quick leaves out what may take
    seconds or what a start need not wait for: opening the ring, the clock, the broker.
    """
    report = Report()
    try:
        settings = again()
    except ConfigError as error:
        report.run("settings", _raising(error))
        click.echo("      (the rest was not tried)")
        return 1
    loaded: list[Bundle] = []
    report.run("settings", lambda: checkpoints.settings_said(path, settings))
    report.run("interface", lambda: interface(settings, late=quick))
    for name, said in () if quick else remarks(settings):
        report.run("interface", _raising(Note(f"{name}: {said}")))
    report.run("ring", lambda: checkpoints.ring(settings))
    if not quick:
        report.run("rights", lambda: rights(settings))
    report.run("model", lambda: model(settings, loaded))
    report.run("database", lambda: database(settings))
    report.run("disk", lambda: checkpoints.disk(settings))
    report.run("alerts", lambda: alerts(settings))
    report.run("metrics", lambda: checkpoints.metrics(settings))
    report.run("notify", lambda: checkpoints.notify(settings))
    if not quick:
        if loaded:
            report.run("clock", lambda: checkpoints.clock(loaded[0], Path(settings.store.path)))
        report.run("daemon", lambda: checkpoints.daemon(settings))
        failed = report.failed
        report.run("broker", lambda: broker(settings))
        if report.failed == failed:
            report.run("hub", lambda: checkpoints.hub(settings))
    return int(report.failed > 0)


def _raising(error: GuardianError) -> Test:
    def test() -> str:
        raise error

    return test


def interface(settings: Settings, *, late: bool = False) -> str:
    """Return what is known of the interfaces; raises CaptureError or ConfigError.

    late: none may be there yet, as at boot, where the daemon waits for the first.
    """
    names = settings.capture.interface
    there = ", ".join(interfaces.names())
    if not names:
        likely = ", ".join(lanside.guess())
        hint = f"; {likely} looks like the LAN side" if likely else ""
        raise ConfigError(f"none is named: set [capture] interface; this machine has {there}{hint}")
    missing = [name for name in names if name not in interfaces.names()]
    if len(missing) == len(names) and late:
        raise Note(f"not there yet: {', '.join(names)}; the daemon waits for it")
    if len(missing) == len(names):
        raise CaptureError(f"there is no {missing[0]}: this machine has {there}")
    for name in names:
        if interfaces.looks_like_wan(name):
            raise CaptureError(
                f"{name} has a public address, so it is the Internet side: name the LAN side"
            )
    known = {name: ", ".join(interfaces.networks(name)) or "no address" for name in names}
    # No faults: the daemon runs without them.
    known |= dict.fromkeys(missing, "not there yet")
    known |= {
        name: f"left out: {other} shows the same packets"
        for name, other in interfaces.seen_twice(names)
    }
    return ", ".join(f"{name} ({said})" for name, said in known.items())


def remarks(settings: Settings) -> list[tuple[str, str]]:
    """Return what a person should know of the interfaces that are watched, by name."""
    return [
        (name, said)
        for name in settings.capture.interface
        if name in interfaces.names()
        for said in lanside.notes(name, promiscuous=settings.capture.promiscuous)
    ]


def rights(settings: Settings) -> str:
    """Open each interface once, with the filter; raises CaptureError or ConfigError."""
    names = settings.capture.interface
    present = [number for number, name in enumerate(names) if name in interfaces.names()]
    if not present:
        raise CaptureError("not tried: name an interface first")
    from guardian.live import open_source  # noqa: PLC0415 - the quick check opens nothing

    # A group of the running daemon is not joined for this: it would take its packets.
    capture = replace(settings.capture, fanout=0)
    for number in present:
        open_source(capture, number).close()
    filtered = "; the filter is understood" if capture.filter else ""
    if capture.backend == "sniffer":
        return f"may capture through scapy's sniffer, which loses bursts{filtered}"
    rings = "a ring" if len(present) == 1 else f"{len(present)} rings"
    return f"may capture; {rings} of {capture.ring_mib} MiB can be had{filtered}"


def model(settings: Settings, loaded: list[Bundle] | None = None) -> str:
    """Load the bundle and compare its golden outputs; raises BundleError."""
    bundle = daemon_bundle(settings, starting=False)
    scorer = Scorer(bundle)
    if loaded is not None:
        loaded.append(bundle)
    return f"{bundle.name} {bundle.version}, golden outputs agree on {scorer.runtime}"


def database(settings: Settings) -> str:
    """See that the database can be written; raises InputError."""
    path = Path(settings.store.path)
    target = path if path.exists() else path.parent
    if not target.exists():
        raise InputError(f"there is no folder {target}: make it, owned by the user of the daemon")
    if not os.access(target, os.W_OK):
        user = os.environ.get("USER") or f"user {os.getuid()}"
        raise InputError(f"{user} may not write {target}: run the check as the daemon's user")
    return f"{path}, may be written"


def alerts(settings: Settings) -> str:
    """Return how many alerts the week may have, and what was held back so far."""
    most = settings.alerts.a_week
    rule = f"at most {most} a week, high severity and plain rules always" if most else "no limit"
    path = Path(settings.store.path)
    if not os.access(path, os.R_OK):
        return rule
    from guardian import reading  # noqa: PLC0415 - only where there is a database

    try:
        with reading.reading(path) as tables:
            spent = reading.spent(tables, time.time_ns())
    except GuardianError:
        return rule  # the line of the database says what is wrong, or the daemon will convert it
    said = reading.said_of(spent | {"a_week": most})
    return said or rule


def broker(settings: Settings) -> str:
    """Connect to the broker once; raises GuardianError."""
    if not settings.mqtt.host:
        return "none is set; nothing is sent"
    from guardian.broker import check_broker  # noqa: PLC0415 - paho only where there is a hub

    mqtt_password(settings.mqtt)
    check_broker(settings.mqtt)
    return f"{settings.mqtt.host}:{settings.mqtt.port} accepts us"

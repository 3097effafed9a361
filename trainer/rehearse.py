"""What would change with another bundle: which incidents would be opened, and which no longer."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click
import numpy as np

from guardian import bundle as bundles
from guardian.addresses import Lan, mac_pack
from guardian.alerts import AlertSettings
from guardian.bundle import Bundle
from guardian.const import NS
from guardian.devices import Device, DeviceTable
from guardian.errors import GuardianError, InputError
from guardian.incidents import Incident
from guardian.pipeline import Pipeline, Step
from guardian.replay import silent
from guardian.schema import open_reader
from guardian.source import steps
from guardian.store import incident_of
from guardian.tables import Conns
from trainer.promote import told
from trainer.sets.guardiandb import conns_of, is_database, sides_of

Echo = Callable[[str], None]

SOON_NS = 60 * NS
"""Opened at most so much earlier or later is opened at the same time."""
UNKNOWN = (
    "Connections alone are stored: their packets are not, so long ones are cut into slices evenly,"
    " and what was said within them may look otherwise.",
    "What the database no longer keeps, and what was before its first connection, is not seen.",
    "Allowances, snoozes and answers of the user count for neither bundle.",
)


@dataclass(frozen=True)
class Rehearsal:
    """The incidents of two bundles over the same input."""

    present: str
    candidate: str
    opened: tuple[Incident, ...]
    """By the candidate alone."""
    gone: tuple[Incident, ...]
    """By the present one alone."""
    both: tuple[tuple[Incident, Incident], ...]
    """By both, the present one's first; where cause, severity or moment differ, it says so."""
    notes: tuple[str, ...]
    """What cannot be known from this input."""

    @property
    def changed(self) -> tuple[tuple[Incident, Incident], ...]:
        """Of those that both open, the ones that would be told otherwise."""
        return tuple(pair for pair in self.both if differences(*pair))

    def as_json(self) -> dict[str, Any]:
        """Return what a report holds."""
        return {
            "present": self.present, "candidate": self.candidate,
            "opened": [one.as_json() for one in self.opened],
            "gone": [one.as_json() for one in self.gone],
            "changed": [[a.as_json(), b.as_json()] for a, b in self.changed],
            "same": len(self.both) - len(self.changed), "notes": list(self.notes),
        }  # fmt: skip


def rehearse(
    candidate: Path,
    source: Path,
    current: Path | None = None,
    *,
    lan: tuple[str, ...] = (),
    ignore_checksums: bool = False,
    counters: bool = True,
    echo: Echo = print,
) -> Rehearsal:
    """Run two bundles over a capture, a log or a daemon's database, and compare what they open.

    `current` is the shipped bundle by default. The plain counters run beside both, as they do on
    the gateway. Raises BundleError or InputError where either cannot be read.
    """
    new = bundles.load(candidate)
    old = bundles.load(bundles.default_path() if current is None else current)
    home = Lan(lan)
    notes: tuple[str, ...] = ()
    if not source.is_file():
        raise InputError(f"there is no file {source}: give a capture, a log or a database")
    if is_database(source):
        with closing(open_reader(source)) as db:
            db.row_factory = sqlite3.Row
            kept = _kept(db)
        echo(f"{source.name}: {len(kept.records):,} stored connections")
        found = [_over_records(bundle, home, kept, counters) for bundle in (old, new)]
        notes = (_trust(kept, found[0]), *kept.notes, *UNKNOWN)
    else:
        found = []
        for bundle in (old, new):
            echo(f"{source.name} with {told(bundle)}")
            found.append(_over_input(bundle, home, source, ignore_checksums, counters))
    both, gone, opened = matched(*found)
    return Rehearsal(told(old), told(new), tuple(opened), tuple(gone), tuple(both), notes)


# --- over an input --------------------------------------------------------------------------


def _over_input(
    bundle: Bundle, home: Lan, source: Path, ignore_checksums: bool, counters: bool
) -> list[Incident]:
    pipeline = Pipeline(
        bundle, home, DeviceTable(home), ignore_checksums=ignore_checksums, counters=counters
    )
    incidents: dict[str, Incident] = {}
    fault: InputError | None = None
    try:
        for step in steps(source, pipeline, home, silent):
            _take(incidents, step)
    except InputError as error:
        fault = error  # what came before the damage counts for both
    _take(incidents, pipeline.finish())
    if fault is not None and not pipeline.counts.connections:
        raise fault
    return list(incidents.values())


def _take(incidents: dict[str, Incident], step: Step) -> None:
    for event in step.events:
        incidents[event.incident.id] = event.incident


# --- over a database ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Kept:
    """What a daemon's database has of the past."""

    records: Conns
    devices: list[Device]
    incidents: list[Incident]
    notes: tuple[str, ...]


def _kept(db: sqlite3.Connection) -> _Kept:
    rows = db.execute("SELECT * FROM connections ORDER BY ts, id").fetchall()
    whole = [row for row in rows if row["count"] == 1]
    notes: tuple[str, ...] = ()
    if len(whole) < len(rows):
        many = sum(row["count"] for row in rows if row["count"] > 1)
        notes = (f"{many:,} connections of floods are stored as sums and left out: a flood or scan"
                 " may be missed by both.",)  # fmt: skip
    if not whole:
        raise InputError("the database has no connection yet: let the daemon run for a while")
    known = db.execute("SELECT * FROM devices ORDER BY last_seen, key").fetchall()
    records = conns_of(whole)
    owner = {address: row["key"] for row in known for address in _addresses(row["addresses"])}
    sides = [sides_of(row, owner) for row in whole]
    records.orig_mac[:] = [_mac(orig) for orig, _ in sides]
    records.resp_mac[:] = [_mac(resp) for _, resp in sides]
    order = np.lexsort((records.uid, records.ts, records.told))
    devices = [
        Device(k, row["key"], row["mac"], _addresses(row["addresses"]), row["learned"],
               bool(row["gateway"]), row["first_seen"], row["last_seen"])
        for k, row in enumerate(known)
    ]  # fmt: skip
    begin = int(records.ts.min())
    incidents = [
        incident_of(dict(row))
        for row in db.execute("SELECT * FROM incidents WHERE opened >= ?", (begin,))
    ]
    return _Kept(records.take(order), devices, incidents, notes)


def _addresses(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


def _mac(key: str) -> int:
    """Return the MAC of a device's key; 0 where it is known by an address alone."""
    return 0 if not key or key.startswith("ip:") else mac_pack(key)


def _over_records(bundle: Bundle, home: Lan, kept: _Kept, counters: bool) -> list[Incident]:
    devices = DeviceTable(home)
    devices.load(kept.devices)
    pipeline = Pipeline(bundle, home, devices, counters=counters)
    incidents: dict[str, Incident] = {}
    _take(incidents, pipeline.step_records(kept.records))
    _take(incidents, pipeline.finish())
    return list(incidents.values())


def _trust(kept: _Kept, again: list[Incident]) -> str:
    """Return how far the stored connections tell what the daemon saw live."""
    if not kept.incidents:
        return f"The daemon opened no incident then; the present bundle opens {len(again)} here."
    pairs = matched(kept.incidents, again)[0]
    return (
        f"Of the daemon's own incidents {len(kept.incidents)} began then; over what is stored,"
        f" the present bundle opens {len(pairs)} of them and {len(again) - len(pairs)} more. So far"
        " can this be believed."
    )


# --- beside each other ----------------------------------------------------------------------


def matched(
    old: list[Incident], new: list[Incident]
) -> tuple[list[tuple[Incident, Incident]], list[Incident], list[Incident]]:
    """Return pairs that are one story, and the rest of either side, oldest first.

    One story is on one device, at about one time: of the same cause first, then of another.
    """
    left = sorted(new, key=lambda one: (one.opened, one.id))
    rest = sorted(old, key=lambda one: (one.opened, one.id))
    pairs = []
    for by_cause in (True, False):
        alone = []
        for one in rest:
            other = next((two for two in left if _one_story(one, two, by_cause)), None)
            if other is None:
                alone.append(one)
            else:
                left.remove(other)
                pairs.append((one, other))
        rest = alone
    pairs.sort(key=lambda pair: (pair[0].opened, pair[0].id))
    return pairs, rest, left


def _one_story(a: Incident, b: Incident, by_cause: bool) -> bool:
    same = bool(a.device.mac) and a.device.mac == b.device.mac
    if not same and a.device.ip != b.device.ip:
        return False
    if by_cause and a.cause != b.cause:
        return False
    gap = int(AlertSettings().life.merge_s * NS)
    return a.opened <= _end(b) + gap and b.opened <= _end(a) + gap


def _end(one: Incident) -> int:
    return one.updated if one.closed is None else one.closed


def differences(old: Incident, new: Incident) -> list[str]:
    """Return how one story would be told otherwise."""
    out = []
    if old.cause != new.cause:
        out.append(f"called {new.cause}, not {old.cause}")
    if old.severity != new.severity:
        out.append(f"severity {new.severity}, not {old.severity}")
    later = new.opened - old.opened
    if abs(later) > SOON_NS:
        out.append(f"opened {_span(abs(later))} {'later' if later > 0 else 'earlier'}")
    return out


def _span(ns: int) -> str:
    minutes = ns / NS / 60
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.0f} hours"


def text(found: Rehearsal) -> str:
    """Return a rehearsal for a terminal."""
    lines = [f"in place:  {found.present}", f"candidate: {found.candidate}", ""]
    for head, some in (
        ("would be opened", found.opened),
        ("would no longer be opened", found.gone),
    ):
        lines.append(f"{len(some)} {head}")
        lines += [f"  {_line(one)}" for one in some]
    lines.append(f"{len(found.changed)} would be told otherwise")
    for old, new in found.changed:
        lines.append(f"  {_line(old)}: {', '.join(differences(old, new))}")
    lines.append(f"{len(found.both) - len(found.changed)} would stay as they are")
    if found.notes:
        lines += ["", "What cannot be known from this:", *(f"- {note}" for note in found.notes)]
    return "\n".join(lines)


def _line(one: Incident) -> str:
    moment = "?"
    with suppress(OverflowError, OSError, ValueError):
        moment = datetime.fromtimestamp(one.opened / NS, timezone.utc).strftime("%Y-%m-%d %H:%M")
    return f"{moment} UTC  {one.device.name}  {one.cause} ({one.severity}), score {one.score:.2f}"


@click.command(name="python -m trainer.rehearse")
@click.argument("candidate", type=click.Path(path_type=Path))
@click.argument("source", metavar="INPUT", type=click.Path(path_type=Path))
@click.option("--beside", type=click.Path(path_type=Path),
              help="The bundle in use (default: the shipped one).")  # fmt: skip
@click.option("--lan", multiple=True, metavar="CIDR", help="A network at home; repeatable.")
@click.option("--ignore-checksums", is_flag=True, help="Count packets whose checksum is wrong.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def main(
    candidate: Path,
    source: Path,
    beside: Path | None,
    lan: tuple[str, ...],
    ignore_checksums: bool,
    as_json: bool,
) -> None:
    """Tell which incidents CANDIDATE would open over INPUT, and which no longer."""
    try:
        found = rehearse(
            candidate, source, beside, lan=lan, ignore_checksums=ignore_checksums,
            echo=lambda line: click.echo(line, err=True),
        )  # fmt: skip
    except GuardianError as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps(found.as_json()) if as_json else text(found))


if __name__ == "__main__":
    main()

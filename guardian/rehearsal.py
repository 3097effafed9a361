"""What would change with another bundle: which incidents would be opened, and which no longer.

Two bundles run over the same input, a capture, a log or what the daemon's database keeps, and the
incidents that they open are set beside each other. The gateway does so before it takes a bundle
that lies ready (guardian/tryload.py), the workstation by `guardian evaluate --rehearse`.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from guardian.addresses import Lan, mac_pack
from guardian.alerts import AlertSettings
from guardian.bundle import Bundle
from guardian.const import NS
from guardian.devices import Device, DeviceTable
from guardian.discovery import DRILL_MAC
from guardian.errors import InputError
from guardian.incidents import Incident
from guardian.pipeline import Pipeline, Step
from guardian.schema import open_reader
from guardian.source import silent, steps
from guardian.store import incident_of
from guardian.storedconns import conns_of, is_database, lived, sides_of
from guardian.tables import Conns

Echo = Callable[[str], None]

SOON_NS = 60 * NS
"""Opened at most so much earlier or later is opened at the same time."""
MOST = 30_000
"""Stored connections that are taken, the newest: some 2 kB each with their slices, as long as most
of them are short."""
READ = 4_096
"""Rows read at a time: as Python's objects they are ten times as large as in columns."""
NEW_A_WEEK = 2
"""As many alerts a week as a person is told by default."""
UNKNOWN = (
    "Connections alone are stored: their packets are not, so long ones are cut into slices evenly,"
    " and what was said within them may look otherwise.",
    "What the database no longer keeps, and what was before its first connection, is not seen.",
    "Allowances, snoozes and answers of the user count for neither bundle.",
)


def told(bundle: Bundle) -> str:
    """Return a bundle's name for a person."""
    return f"{bundle.name} {bundle.version} ({bundle.digest[:12]})"


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
    days: float = 0.0
    """How much time the input spans."""
    found_bad: tuple[Incident, ...] = ()
    """Of those that are gone, the ones that the user had called bad."""

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
    new: Bundle,
    old: Bundle,
    source: Path,
    *,
    lan: tuple[str, ...] = (),
    ignore_checksums: bool = False,
    counters: bool = True,
    since: int = 0,
    echo: Echo = silent,
) -> Rehearsal:
    """Run two bundles over a capture, a log or a daemon's database, and compare what they open.

    Of a database only what began at `since` (ns) or later counts, MOST connections at most. The
    plain counters run beside both, as they do on the gateway. Raises InputError where the input
    cannot be read.
    """
    home = Lan(lan)
    notes: tuple[str, ...] = ()
    if not source.is_file():
        raise InputError(f"there is no file {source}: give a capture, a log or a database")
    days, bad = 0.0, frozenset[str]()
    if is_database(source):
        with closing(open_reader(source)) as db:
            db.row_factory = sqlite3.Row
            kept = _kept(db, since)
        echo(f"{source.name}: {len(kept.records):,} stored connections")
        found = [_over_records(bundle, home, kept, counters) for bundle in (old, new)]
        notes = (_trust(kept, found[0]), *kept.notes, *UNKNOWN)
        days = float(np.ptp(kept.records.ts)) / NS / 86_400
        bad = frozenset(_same(kept, found[0]))
    else:
        found = []
        for bundle in (old, new):
            echo(f"{source.name} with {told(bundle)}")
            found.append(_over_input(bundle, home, source, ignore_checksums, counters))
    both, gone, opened = matched(*found)
    missed = tuple(one for one in gone if one.id in bad)
    return Rehearsal(
        told(old), told(new), tuple(opened), tuple(gone), tuple(both), notes, days, missed
    )


def worse(found: Rehearsal) -> list[str]:
    """Return why a bundle should not take over, a sentence each; empty where it may.

    It may not lose an incident that the user called bad, nor open more than NEW_A_WEEK in seven
    days that the present one does not open.
    """
    out = [f"it would miss what you called bad: {line(one)}" for one in found.found_bad]
    allowed = NEW_A_WEEK * max(1, math.ceil(found.days / 7))
    if len(found.opened) > allowed:
        span = "a week" if found.days <= 7 else f"{found.days:.0f} days"
        out.append(
            f"over {span} it would open {len(found.opened)} incidents that the present one does"
            f" not; {allowed} would be fine"
        )
    return out


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
    bad: frozenset[str] = field(default_factory=frozenset)
    """Ids of the incidents that the user called bad."""


def _kept(db: sqlite3.Connection, since: int) -> _Kept:
    known = db.execute("SELECT * FROM devices ORDER BY last_seen, key").fetchall()
    owner = {address: row["key"] for row in known for address in _addresses(row["addresses"])}
    notes = []
    many = _summed(db, since)
    if many:
        notes.append(f"{many:,} connections of floods are stored as sums and left out: a flood or"
                     " scan may be missed by both.")  # fmt: skip
    asked = lived(db, "AND count = 1 AND ts >= ? ORDER BY ts DESC, id DESC LIMIT ?", (since, MOST))
    parts = []
    while rows := asked.fetchmany(READ):
        part = conns_of(rows)
        sides = [sides_of(row, owner) for row in rows]
        part.orig_mac[:] = [_mac(orig) for orig, _ in sides]
        part.resp_mac[:] = [_mac(resp) for _, resp in sides]
        parts.append(part)
    if not parts:
        raise InputError("the database has no connection yet: let the daemon run for a while")
    records = Conns.concat(parts)
    order = np.lexsort((records.uid, records.ts, records.told))
    if len(records) == MOST:
        notes.append(f"Only the newest {MOST:,} connections were looked at.")
    devices = [
        Device(k, row["key"], row["mac"], _addresses(row["addresses"]), row["learned"],
               bool(row["gateway"]), row["first_seen"], row["last_seen"])
        for k, row in enumerate(known)
    ]  # fmt: skip
    begun = db.execute(
        "SELECT * FROM incidents WHERE opened >= ? AND device <> ?",
        (int(records.ts.min()), DRILL_MAC),
    ).fetchall()
    incidents = [incident_of(dict(row)) for row in begun]
    bad = frozenset(str(row["id"]) for row in begun if row["feedback"] == "bad")
    return _Kept(records.take(order), devices, incidents, tuple(notes), bad)


def _summed(db: sqlite3.Connection, since: int) -> int:
    """Return how many connections stand in rows that sum up a flood."""
    return int(
        db.execute(
            "SELECT ifnull(sum(count), 0) FROM connections WHERE count > 1 AND ts >= ?", (since,)
        ).fetchone()[0]
    )


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


def _same(kept: _Kept, again: list[Incident]) -> list[str]:
    """Return the ids that the incidents which the user called bad have in a new run."""
    called = [one for one in kept.incidents if one.id in kept.bad]
    return [new.id for _, new in matched(called, again)[0]]


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
        lines += [f"  {line(one)}" for one in some]
    lines.append(f"{len(found.changed)} would be told otherwise")
    for old, new in found.changed:
        lines.append(f"  {line(old)}: {', '.join(differences(old, new))}")
    lines.append(f"{len(found.both) - len(found.changed)} would stay as they are")
    if found.notes:
        lines += ["", "What cannot be known from this:", *(f"- {note}" for note in found.notes)]
    return "\n".join(lines)


def line(one: Incident) -> str:
    """Return an incident in a line."""
    moment = "?"
    with suppress(OverflowError, OSError, ValueError):
        moment = datetime.fromtimestamp(one.opened / NS, timezone.utc).strftime("%Y-%m-%d %H:%M")
    return f"{moment} UTC  {one.device.name}  {one.cause} ({one.severity}), score {one.score:.2f}"

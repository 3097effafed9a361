"""The daemon's database: the home's own quiet weeks, with the user's feedback as labels.

Each finished connection is cut into slices again, as those of a log, and gets the gateway's own
features. What a device did is labelled

* benign, where no incident was open on it within ten minutes, or the user said of the incident
  that it was fine or this-was-me;
* with the incident's cause (`unusual` as other), where the user called it bad and the connection
  is one of its examples, has one of its peers or was judged to be the same at the time;
* not at all, during incidents without an answer and beside the bad connections.

Rows that sum up a flood's connections are dropped and counted; those of fire drills are left
out. All connections are in memory at a time: about 1.5 kB each, a home's thirty days some hundred
megabytes.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from guardian import deviceclass, slices
from guardian.addresses import mac_pack
from guardian.const import NS
from guardian.deviceclass import THING
from guardian.errors import InputError
from guardian.schema import open_reader
from guardian.storedconns import conns_of, is_database, lived, sides_of
from guardian.tables import I32, Array
from trainer.labels import CLASSES
from trainer.sets.gateway import add_stream, mapping
from trainer.sets.mapping import Mapping
from trainer.sets.reader import Echo, Reader, group_names
from trainer.sets.writer import Nature, Writer
from trainer.streams import Stream

Count = Callable[[str, int], None]

CALM_NS = 600 * NS
"""Around an incident, nobody says what a device's other connections are."""
_BEFORE_NS = 3_600 * NS
"""Evidence of an incident came so long before it opened, at most."""
_FINE = ("fine", "this-was-me")

MAPPING: Mapping = mapping(
    labels={"quiet": "benign", "fine": "benign", "this-was-me": "benign"}
    | {f"bad, {name}": name for name in CLASSES[1:]}
    | {"bad, unusual": "other"},
    order="the moment at which the slice was due",
    groups="device",
    notes=(
        "Rows of a flood that the database keeps as one sum are dropped.",
        "Hours are of UTC: the database does not know the home's zone.",
    ),
)


@dataclass(frozen=True)
class _Incident:
    """One incident, and what its evidence names."""

    device: str
    begin: int
    end: int
    answer: str
    cause: str
    peers: frozenset[tuple[str, int]]
    """Address and port; the evidence names twenty at most."""
    uids: frozenset[str]
    verdicts: tuple[str, ...]
    judged: tuple[str, ...]
    """What the models said of the rows that belong to it."""


def _read(paths: Sequence[Path], writer: Writer, limit: int | None, _echo: Echo) -> Nature:
    writer.begin([f.name for f in MAPPING.features])
    for path, name in zip(paths, group_names(paths), strict=True):
        with closing(open_reader(path)) as db:
            db.row_factory = sqlite3.Row
            _database(db, name if len(paths) > 1 else "", writer, limit)
    return Nature(True, False, "The home is the user's own: nobody has published figures of it.")


def stream_of(path: Path) -> Stream:
    """Return what a database holds as one labelled stream: the home's own weeks, for a recipe.

    Raises InputError where it is no database of the daemon.
    """
    with closing(open_reader(path)) as db:
        db.row_factory = sqlite3.Row
        found = _stream(db, "", _nobody)
    if found is None:
        raise InputError(f"{path.name} has no connections yet: let the daemon watch some weeks")
    return found[0]


def _nobody(_what: str, _many: int) -> None:
    """Count for nobody."""


def _database(db: sqlite3.Connection, home: str, writer: Writer, limit: int | None) -> None:
    found = _stream(db, home, writer.count)
    if found is not None:
        add_stream(writer, *found, limit)


def _stream(
    db: sqlite3.Connection, home: str, count: Count
) -> tuple[Stream, dict[int, str]] | None:
    """Return the slices of all connections, and the group of each device; None without any."""
    names = {r["key"]: r["user_name"] or r["learned"] or r["key"] for r in _all(db, "devices")}
    routers = {r["key"] for r in _all(db, "devices") if r["gateway"]}
    owner = {
        address: r["key"]
        for r in sorted(_all(db, "devices"), key=lambda r: r["last_seen"])
        for address in json.loads(r["addresses"])
    }
    rows = lived(db, "ORDER BY ts, id").fetchall()
    summed = [r for r in rows if r["count"] > 1]
    count("rows read", len(summed))
    count("dropped: sums of a flood", len(summed))
    rows = [r for r in rows if r["count"] == 1]
    if not rows:
        return None
    keys = sorted({*names, *(r["device"] for r in rows)} - {""})
    index = {key: k for k, key in enumerate(keys) if key not in routers} | {"": -1}
    sides = [sides_of(r, owner) for r in rows]
    orig = np.array([index.get(a, -1) for a, _ in sides], dtype=np.int32)
    resp = np.array([index.get(b, -1) for _, b in sides], dtype=np.int32)
    label = _labels(db, rows, sides, count)
    pieces, parent = slices.cut(conns_of(rows))
    stream = Stream(
        "database", pieces, _of(orig, parent), _of(resp, parent), label[parent],
        kinds=_kinds(db, index),
    )  # fmt: skip
    prefix = f"{home}." if home else ""
    # What stands before a slash would be taken for the capture that devices share.
    groups = {
        k: f"{prefix}{names.get(key, key)} ({key})".replace("/", "-") for key, k in index.items()
    }
    return stream, groups


def _kinds(db: sqlite3.Connection, index: dict[str, int]) -> dict[int, str]:
    """Return the class of each device by its index, by what it showed of itself."""
    out = dict.fromkeys(index.values(), THING)
    for row in _all(db, "kin"):
        if row["key"] in index:
            mac = 0 if row["key"].startswith("ip:") else mac_pack(row["key"])
            names = json.loads(row["names"])
            out[index[row["key"]]] = deviceclass.stored([mac], row["fingerprint"], names)
    return out


def _all(db: sqlite3.Connection, table: str) -> list[sqlite3.Row]:
    return db.execute(f"SELECT * FROM {table}").fetchall()


def _of(device: I32, parent: Array) -> I32:
    found: I32 = device[parent]
    return found


def _labels(
    db: sqlite3.Connection, rows: list[sqlite3.Row], sides: list[tuple[str, str]], count: Count
) -> Array:
    """Return int8[n]: the class of each connection, -1 where nobody said."""
    label = np.zeros(len(rows), dtype=np.int8)
    by_device: dict[str, list[_Incident]] = {}
    for incident in map(_incident, _all(db, "incidents")):
        by_device.setdefault(incident.device, []).append(incident)
        count(f"incidents {incident.answer or 'without an answer'}", 1)
    for k, (row, ends) in enumerate(zip(rows, sides, strict=True)):
        for device in ends:
            for incident in by_device.get(device, ()):
                said = _verdict(row, incident)
                if said is not None and label[k] <= 0 and not (label[k] < 0 and said == 0):
                    label[k] = said
    return label


def _verdict(row: sqlite3.Row, incident: _Incident) -> int | None:
    """Return what an incident says of a connection of its device: a class, -1, or nothing."""
    end = row["ts"] + round(row["duration"] * NS)
    if end < incident.begin - _BEFORE_NS or row["ts"] > incident.end + CALM_NS:
        return None
    within = end >= incident.begin - CALM_NS
    peers = {(row["resp_h"], row["resp_p"]), (row["orig_h"], row["resp_p"])}
    named = row["uid"] in incident.uids or not incident.peers.isdisjoint(peers)
    named |= row["verdict"] in incident.verdicts and row["label"] in incident.judged
    if incident.answer in _FINE:
        return 0 if named or within else None
    if named:
        return CLASSES.index(incident.cause) if incident.answer == "bad" else -1
    return -1 if within else None


def _incident(row: sqlite3.Row) -> _Incident:
    evidence: dict[str, Any] = json.loads(row["evidence"])
    unusual = row["cause"] not in CLASSES
    return _Incident(
        device=row["device"],
        begin=row["opened"],
        end=row["closed"] if row["closed"] is not None else row["updated"],
        answer=row["feedback"] or "",
        cause="other" if unusual else row["cause"],
        peers=frozenset((p["ip"], p["port"]) for p in evidence.get("peers", ())),
        uids=frozenset(c["uid"] for c in evidence.get("connections", ())),
        verdicts=("anomaly",) if unusual else ("attack",),
        judged=CLASSES if unusual else (row["cause"],),
    )


READER = Reader(
    "guardian-db",
    "The daemon's database",
    MAPPING,
    _read,
    is_database,
    # What the daemon wrote of late is in its WAL alone.
    beside=lambda path: [path.with_name(f"{path.name}-wal")],
)

"""Zeek's own conn.log beside ours: the pairs of zeek-parity, compared as sets by 5-tuple."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from guardian.addresses import Lan
from guardian.capture import read_frames
from guardian.connlog import cells
from guardian.conns import ConnTable
from guardian.decode import Decoder
from guardian.tables import Conns

KEY = ("id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto")
COLUMNS = (
    "history", "conn_state", "duration", "orig_bytes", "resp_bytes", "orig_pkts", "orig_ip_bytes",
    "resp_pkts", "resp_ip_bytes", "missed_bytes", "local_orig", "local_resp", "service",
)  # fmt: skip
Line = dict[str, str]


@dataclass(frozen=True)
class Pair:
    """One capture and what Zeek wrote about it."""

    name: str
    category: str
    tier: str
    ignore_checksums: bool
    capture: Path
    rows: list[Line]


def read_log(path: Path) -> list[Line]:
    """Return the rows of a Zeek TSV log, or of a cut one with a bare header line."""
    names: list[str] = []
    rows = []
    for line in path.read_text().splitlines():
        if line.startswith("#fields"):
            names = line.split("\t")[1:]
        elif line and not line.startswith("#"):
            if names:
                rows.append(dict(zip(names, line.split("\t"), strict=False)))
            else:
                names = line.split("\t")
    return rows


def pairs(folder: Path, log: str = "conn.log") -> list[Pair]:
    """Return the pairs of a folder with an index.csv."""
    found = []
    with (folder / "index.csv").open() as stream:
        for entry in csv.DictReader(stream):
            home = folder / entry["name"]
            found.append(
                Pair(
                    entry["name"],
                    entry.get("category", ""),
                    entry.get("tier", entry.get("mode", "")),
                    entry["no_checksum_check"] == "yes",
                    next(iter(sorted(home.glob("input.*")))),
                    read_log(home / log),
                )
            )
    return found


def ours(pair: Pair) -> list[Line]:
    """Return our records of a pair's capture, as Zeek would write them."""
    table = ConnTable(Lan())
    decoder = Decoder(ignore_checksums=pair.ignore_checksums)
    told = [table.step(decoder.decode(frames)).records for frames in read_frames(pair.capture)]
    told.append(table.finish().records)
    return list(cells(Conns.concat(told)))


def matched(theirs: list[Line], mine: list[Line]) -> list[tuple[Line, Line | None]]:
    """Pair rows of one 5-tuple: those that agree most first."""
    by_key: dict[tuple[str, ...], list[Line]] = defaultdict(list)
    for row in mine:
        by_key[tuple(row[k] for k in KEY)].append(row)
    out: list[tuple[Line, Line | None]] = []
    for row in theirs:
        rivals = by_key[tuple(row[k] for k in KEY)]
        if not rivals:
            out.append((row, None))
            continue
        best = max(rivals, key=lambda r: sum(r[c] == row.get(c, r[c]) for c in COLUMNS))
        rivals.remove(best)
        out.append((row, best))
    return out

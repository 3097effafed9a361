"""The slow twin of guardian.facts: keeps every row and counts again from the beginning."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from statistics import median

from guardian.const import NS
from guardian.facts import FAILED, Row


def connections(rows: list[Row]) -> list[Row]:
    """Return the first row of each connection: each slice 0, else the first of its uid."""
    out, living = [], set()
    for row in rows:
        if row.piece == 0 or row.uid not in living:
            out.append(row)
            if not row.final:
                living.add(row.uid)
        if row.final:
            living.discard(row.uid)
    return out


def recount(rows: list[Row]) -> dict[str, object]:
    """Return all that an explanation may say, by name of the field of Facts."""
    first = connections(rows)
    new: set[object] = set()
    seen: set[object] = set()
    for row in first:
        if row.peer not in seen and row.new_peer:
            new.add(row.peer)
        seen.add(row.peer)
    sides = [
        (row.orig_bytes, row.resp_bytes, row.orig_pkts, row.resp_pkts)
        if row.outbound
        else (row.resp_bytes, row.orig_bytes, row.resp_pkts, row.orig_pkts)
        for row in rows
    ]
    return {
        "rows": len(rows),
        "connections": len(first),
        "failed": sum(row.conn_state in FAILED for row in first),
        "inbound": sum(not row.outbound for row in rows),
        "peers": Counter(row.peer for row in first),
        "ports": Counter(row.resp_p for row in first),
        "keys": Counter(row.key for row in first),
        "new_peers": len(new),
        "sent": sum(max(0, side[0]) for side in sides),
        "got": sum(max(0, side[1]) for side in sides),
        "packets_out": sum(side[2] for side in sides),
        "packets_in": sum(side[3] for side in sides),
        "peak_rate": max(
            [
                0.0,
                *(
                    side[2] / row.duration
                    for row, side in zip(rows, sides, strict=True)
                    if row.duration >= 1.0
                ),
            ]
        ),
        "first": min(row.ts for row in rows),
        "begun": max(row.ts for row in rows),
        "last": max(row.told for row in rows),
        "longest": max(row.age for row in rows),
        "minute_peers": max(
            len({r.peer for r in first if 0 <= row.told - r.told <= 60 * NS}) for row in first
        ),
        "labels": Counter(row.label for row in rows),
        "top_score": max(row.score for row in rows),
    }


def beat(rows: list[Row], key: object) -> tuple[int, float, float] | None:
    """Return (gaps, their median, their median deviation) of the connections of a key."""
    starts = sorted(row.ts for row in connections(rows) if row.key == key)
    gaps = [(b - a) / NS for a, b in pairwise(starts)]
    if len(gaps) < 3:
        return None
    middle = median(gaps)
    return len(gaps), middle, median(abs(gap - middle) for gap in gaps)

"""The features with a memory, computed again from the whole list for every row.

Slow and obvious: no state is kept, each row looks at all rows before it. Nothing is shared with
guardian/ but the caps. Evictions of pairs and devices are left out.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from guardian.addresses import text
from guardian.const import (
    CAP_PAIR_COUNT,
    CAP_WINDOW_COUNT,
    NS,
    PAIR_HISTORY,
)
from guardian.tables import CONN_STATES, I32, Conns

HOUR = 3_600.0


@dataclass(frozen=True, eq=False)
class Seen:
    """One row of one device."""

    told: int
    ts: int
    first: bool
    peer: str
    port: tuple[int, int, bool]
    failed: bool
    local: bool
    amounts: tuple[int, int]
    sent: int
    received: int

    @property
    def pair(self) -> tuple[str, int, int, bool]:
        return (self.peer, *self.port)


def multicast(address: str) -> bool:
    return address.startswith(("ff", "224.", "239.", "255.")) or address.endswith((".255", ".0"))


def seen(conns: Conns, k: int, outbound: bool) -> Seen:
    proto = int(conns.proto[k])
    peer = text(*(conns.resp if outbound else conns.orig)[k].tolist())
    name = CONN_STATES[int(conns.conn_state[k])]
    sent, received = int(conns.orig_ip_bytes[k]), int(conns.resp_ip_bytes[k])
    payload = max(int(conns.orig_bytes[k]), 0), max(int(conns.resp_bytes[k]), 0)
    answers = int(conns.resp_pkts[k])
    if not outbound:
        sent, received = received, sent
        payload = payload[1], payload[0]
    asked = outbound and not multicast(peer)
    if proto == 6:
        failed = name in ("S0", "SH", "REJ", "RSTOS0", "RSTRH")
    elif proto == 17:
        failed = asked and name == "S0"
    else:
        failed = asked and int(conns.orig_p[k]) in (8, 128) and not answers
    return Seen(
        told=int(conns.told[k]),
        ts=int(conns.ts[k]),
        first=int(conns.piece[k]) == 0,
        peer=peer,
        port=(int(conns.resp_p[k]), proto, outbound),
        failed=failed,
        local=peer.startswith(("192.168.", "fe80")) and not multicast(peer),
        amounts=payload if proto == 6 else (sent, received),
        sent=sent,
        received=received,
    )


def window(rows: list[Seen], span: float) -> list[Seen]:
    now = rows[-1].told
    recent = [r for r in rows if r.first and r.told > now - span * NS]
    return recent[-CAP_WINDOW_COUNT:]


def new_peers(rows: list[Seen], recent: list[Seen]) -> int:
    firsts = [r for r in rows if r.first]
    return sum(all(e.peer != r.peer for e in firsts[: firsts.index(r)]) for r in recent)


def minute(rows: list[Seen]) -> tuple[int, int, int, int, int]:
    """Return connections, peers, ports, failures and bytes sent of the last minute."""
    recent = window(rows, 60)
    second = rows[-1].told // NS
    return (
        len(recent),
        len({r.peer for r in recent}),
        len({r.port for r in recent}),
        sum(r.failed for r in recent),
        sum(r.sent for r in rows if r.told // NS > second - 60),
    )


def since(ts: int, before: list[Seen]) -> float:
    """Return the logarithm of the seconds since the latest of the rows, at most an hour."""
    gap = min(max(ts - max(r.ts for r in before), 0) / NS, HOUR) if before else HOUR
    return math.log1p(100 * gap)


def gaps_of(rows: list[Seen]) -> list[float]:
    """Return the gaps between the connections of a pair."""
    latest = [max(r.ts for r in rows[: k + 1]) for k in range(len(rows))]
    return [max(r.ts - t, 0) / NS for r, t in zip(rows[1:], latest, strict=False)]


def pair_columns(row: Seen, before: list[Seen]) -> dict[str, float]:
    """Return the columns of a pair; `before` are its connections before this row."""
    calls = [*before, row] if row.first else before
    if not calls:
        names = ("regular", "equal", "spread", "failed", "fail_run", "count", "new")
        return {"pair_gap_median": math.log1p(100 * HOUR)} | {f"pair_{n}": 0.0 for n in names}
    gaps = gaps_of(calls)[-PAIR_HISTORY:]
    recent = calls[-PAIR_HISTORY:]
    run = 0
    while run < len(calls) and calls[-1 - run].failed:
        run += 1
    median = min(statistics.median(gaps), HOUR) if gaps else HOUR
    out = {
        "pair_gap_median": math.log1p(100 * median),
        "pair_regular": 0.0,
        "pair_equal": 0.0,
        "pair_spread": statistics.pstdev(math.log1p(r.sent + r.received) for r in recent),
        "pair_failed": sum(r.failed for r in recent) / len(recent),
        "pair_fail_run": math.log1p(min(run, CAP_PAIR_COUNT)),
        "pair_count": math.log1p(min(len(calls), CAP_PAIR_COUNT)),
        "pair_new": float(row.first and not before),
    }
    if row.first and before:
        old = before[-PAIR_HISTORY:]
        out["pair_equal"] = sum(r.amounts == row.amounts for r in old) / len(old)
        earlier = gaps_of(before)[-PAIR_HISTORY:]
        if len(earlier) >= 2:
            gap, usual = gaps_of(calls)[-1], statistics.median(earlier)
            out["pair_regular"] = min(gap, usual) / max(gap, usual) if gap != usual else 1.0
    return out


def relative_columns(rows: list[Seen]) -> dict[str, float]:
    step = 600 * NS
    now = rows[-1].told // step
    names = ("conns", "peers", "ports", "failed", "bytes_out")
    old = [k for k, r in enumerate(rows) if r.told // step < now - 6]
    if not old:
        return {f"relative_{name}": 0.0 for name in names}
    weeks = [(now - rows[k].told // step) * 600 / (7 * 86_400) for k in old]
    values = [minute(rows[: k + 1]) for k in old]
    out = {}
    for c, (name, value) in enumerate(zip(names, minute(rows), strict=True)):
        usual = max(v[c] * 0.5**w for v, w in zip(values, weeks, strict=True))
        ratio = math.log1p(value) - math.log1p(usual)
        out[f"relative_{name}"] = max(-5.0, min(5.0, ratio))
    return out


def columns(rows: list[Seen]) -> dict[str, float]:
    """Return the columns with a memory of a device's last row; `rows` are all up to it."""
    row, before = rows[-1], [r for r in rows[:-1] if r.first]
    out = dict.fromkeys(("gap_device", "gap_pair", "gap_port"), 0.0)
    same = [r for r in before if r.pair == row.pair]
    if row.first:
        out["gap_device"] = since(row.ts, before)
        out["gap_pair"] = since(row.ts, same)
        out["gap_port"] = since(row.ts, [r for r in before if r.port == row.port])
    out |= pair_columns(row, same)
    recent, long = window(rows, 60), window(rows, 600)
    second = row.told // NS
    out["minute_conns"] = math.log1p(len(recent))
    out["minute_peers"] = math.log1p(len({r.peer for r in recent}))
    out["minute_ports"] = math.log1p(len({r.port for r in recent}))
    out["minute_failed"] = sum(r.failed for r in recent) / max(len(recent), 1)
    out["minute_new_peers"] = math.log1p(new_peers(rows, recent))
    out["minute_local_peers"] = math.log1p(len({r.peer for r in recent if r.local}))
    out["minute_bytes_out"] = math.log1p(minute(rows)[4])
    out["minute_bytes_in"] = math.log1p(sum(r.received for r in rows if r.told // NS > second - 60))
    out["long_conns"] = math.log1p(len(long))
    out["long_peers"] = math.log1p(len({r.peer for r in long}))
    out["long_failed"] = sum(r.failed for r in long) / max(len(long), 1)
    out["long_new_peers"] = math.log1p(new_peers(rows, long))
    return out | relative_columns(rows)


def table(conns: Conns, orig_device: I32, resp_device: I32) -> list[dict[str, float]]:
    """Return the columns with a memory, one dict for each slice and device of the home."""
    lives: dict[int, list[Seen]] = {}
    out = []
    for k in range(len(conns)):
        for device, outbound in ((int(orig_device[k]), True), (int(resp_device[k]), False)):
            if device >= 0:
                life = lives.setdefault(device, [])
                life.append(seen(conns, k, outbound))
                out.append(columns(life))
    return out

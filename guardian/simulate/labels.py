"""The label file: one row a connection, and how it joins to connection records."""

from __future__ import annotations

import csv
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from guardian.addresses import pack
from guardian.errors import InputError
from guardian.simulate.frames import ip_text
from guardian.tables import PROTO_NAMES, Conns

CLASSES = ("benign", "scan", "c2", "flood", "brute-force", "download", "other")

HEADER = ("ts", "orig_h", "orig_p", "resp_h", "resp_p", "proto", "label", "device")

EARLY_NS = 2_000
"""A label may stand this much after its record's first packet: files keep microseconds."""

Key = tuple[tuple[int, int], int, tuple[int, int], int, str]


class Row(NamedTuple):
    """A labelled connection while the home runs."""

    ts_us: int
    orig: bytes
    orig_p: int
    resp: bytes
    resp_p: int
    proto: str
    label: str
    mac: bytes


@lru_cache(maxsize=65_536)
def _text(ip: bytes) -> str:
    return ip_text(ip)


def csv_row(row: Row) -> tuple[str, str, int, str, int, str, str, str]:
    """Return a row as the file has it: ts in seconds with microseconds, device as a MAC."""
    ts = f"{row.ts_us // 1_000_000}.{row.ts_us % 1_000_000:06d}"
    orig, resp = _text(row.orig), _text(row.resp)
    return ts, orig, row.orig_p, resp, row.resp_p, row.proto, row.label, row.mac.hex(":")


@dataclass(frozen=True)
class Label:
    """A row of a label file. `ts` is int64 nanoseconds since the epoch."""

    ts: int
    orig_h: str
    orig_p: int
    resp_h: str
    resp_p: int
    proto: str
    label: str
    device: str


def read_labels(path: Path | str) -> list[Label]:
    """Read a label file. Raises InputError where it is none."""
    out = []
    try:
        with Path(path).open(newline="", encoding="ascii") as file:
            rows = csv.reader(file)
            if tuple(next(rows, ())) != HEADER:
                raise InputError(f"{path} is no label file: it must begin with {','.join(HEADER)}")
            for ts, orig, orig_p, resp, resp_p, proto, label, device in rows:
                second, _, rest = ts.partition(".")
                ns = int(second) * 1_000_000_000 + int(rest.ljust(9, "0")[:9])
                out.append(Label(ns, orig, int(orig_p), resp, int(resp_p), proto, label, device))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} is a damaged label file: {error}") from error
    return out


def _key(a: tuple[int, int], ap: int, b: tuple[int, int], bp: int, proto: str) -> Key:
    if proto == "icmp":  # type and code stand in for ports, differently by direction
        ap = bp = 0
    return (a, ap, b, bp, proto) if (a, ap) <= (b, bp) else (b, bp, a, ap, proto)


def match(conns: Conns, labels: Iterable[Label]) -> list[str]:
    """Return the label of each connection record, empty where there is none.

    A record belongs to the last label of its 5-tuple, in either orientation, that starts no
    later than it; one that starts before all of them belongs to the first.
    """
    known: dict[Key, list[tuple[int, str]]] = defaultdict(list)
    packed: dict[str, tuple[int, int]] = {}
    for row in labels:
        for text in (row.orig_h, row.resp_h):
            if text not in packed:
                packed[text] = pack(text)
        key = _key(packed[row.orig_h], row.orig_p, packed[row.resp_h], row.resp_p, row.proto)
        known[key].append((row.ts, row.label))
    for rows in known.values():
        rows.sort()
    out = []
    for ts, orig, orig_p, resp, resp_p, proto in zip(
        conns.ts.tolist(), conns.orig.tolist(), conns.orig_p.tolist(),
        conns.resp.tolist(), conns.resp_p.tolist(), conns.proto.tolist(), strict=True,
    ):  # fmt: skip
        name = PROTO_NAMES.get(proto, "unknown_transport")
        a, b = (orig[0], orig[1]), (resp[0], resp[1])
        rows = known.get(_key(a, orig_p, b, resp_p, name), [])
        at = bisect_right(rows, ts + EARLY_NS, key=lambda row: row[0])
        out.append(rows[max(at - 1, 0)][1] if rows else "")
    return out

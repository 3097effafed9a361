"""Connections on their way to the database: one row each, a flood's rows summed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from guardian.addresses import mac_text, texts
from guardian.tables import CONN_STATES, F32, I32, U8, Bytes, Conns
from guardian.verdicts import VERDICTS

MAX_ROWS_PER_DEVICE = 500
"""Rows of a device between two commits (some seconds); a camera has one a minute, a phone tens.
What a flooding device does beyond that is summed, so that others' rows are never shed."""

MAX_ROWS = 10_000
"""Rows between two commits in all: about 3 MB of memory and of writing."""

COLUMNS = (
    "uid", "ts", "device", "orig_h", "orig_p", "resp_h", "resp_p", "proto", "service", "host",
    "conn_state", "history", "local_orig", "local_resp", "duration", "orig_bytes", "resp_bytes",
    "missed_bytes", "orig_pkts", "orig_ip_bytes", "resp_pkts", "resp_ip_bytes",
    "anomaly", "threat", "label", "verdict", "count",
)  # fmt: skip
"""Columns of a row, in the order of the lists that `take` returns."""

_SUMS = tuple(
    (COLUMNS.index(name), name)
    for name in (
        "duration", "orig_bytes", "resp_bytes", "missed_bytes",
        "orig_pkts", "orig_ip_bytes", "resp_pkts", "resp_ip_bytes",
    )
)  # fmt: skip
_COUNT = COLUMNS.index("count")


@dataclass(frozen=True)
class Scored:
    """The highest slices of a step's connections (verdicts.py), at most one row for each.

    Of all that ended, and of those that live on where it changed.
    """

    uid: Bytes
    """S24[m]."""
    device: I32
    """int32[m]: index into `keys`."""
    anomaly: F32
    """float32[m]: 1.0 is the line."""
    threat: F32
    """float32[m]: 0 to 1."""
    label: U8
    """uint8[m]: index into `classes`."""
    verdict: U8
    """uint8[m]: index into VERDICTS."""
    keys: Sequence[str]
    """Device keys by index."""
    classes: Sequence[str]
    """The bundle's classes."""

    @classmethod
    def empty(cls) -> Scored:
        return cls(
            np.zeros(0, "S24"), np.zeros(0, "i4"), np.zeros(0, "f4"), np.zeros(0, "f4"),
            np.zeros(0, "u1"), np.zeros(0, "u1"), (), (),
        )  # fmt: skip


@dataclass(frozen=True)
class Best:
    """The highest slice of a connection."""

    verdict: int
    threat: float
    anomaly: float
    label: str
    device: str


class ConnRows:
    """Rows and scores that wait for the next commit."""

    def __init__(self, rows_per_device: int = MAX_ROWS_PER_DEVICE, rows: int = MAX_ROWS) -> None:
        self._cap_device = rows_per_device
        self._cap = rows
        self.rows: list[list[Any]] = []
        self.changed: dict[str, Best] = {}
        """Scores of living connections that changed since the last commit."""
        self.ended: list[str] = []
        """Connections whose row in `scores` goes, since their record came."""
        self._stored: set[str] = set()
        self._seen: Counter[str] = Counter()
        self._sums: dict[tuple[Any, ...], list[Any]] = {}

    def add(self, records: Conns, scored: Scored, known: Mapping[str, str]) -> None:
        """Take the records and scores of a step; `known` says which device a key is."""
        bests = {
            uid.decode("ascii", "replace"): Best(
                int(verdict), float(threat), float(anomaly), scored.classes[label],
                scored.keys[device],
            )
            for uid, verdict, threat, anomaly, label, device in zip(
                scored.uid.tolist(), scored.verdict.tolist(), scored.threat.tolist(),
                scored.anomaly.tolist(), scored.label.tolist(), scored.device.tolist(),
                strict=True,
            )
        }  # fmt: skip
        if len(records):
            self._records(records, bests, known)
        self.changed.update(bests)

    def _records(self, records: Conns, of: dict[str, Best], known: Mapping[str, str]) -> None:
        """Take records; those judged are taken out of `of`."""
        uids = [u.decode("ascii", "replace") for u in records.uid.tolist()]
        bests = [of.get(uid) for uid in uids]
        for uid in uids:
            of.pop(uid, None)
            self._end(uid)
        devices = [
            best.device if best else home_of(records, i, known) for i, best in enumerate(bests)
        ]
        protos, states = records.proto.tolist(), records.conn_state.tolist()
        keep: list[int] = []
        summed: list[tuple[int, tuple[Any, ...]]] = []
        for i, (best, device) in enumerate(zip(bests, devices, strict=True)):
            full = len(self.rows) + len(keep) >= self._cap
            if not full and self._seen[device] < self._cap_device:
                self._seen[device] += 1
                keep.append(i)
                continue
            judged = (best.verdict, best.label) if best else None
            # Beyond twice the cap even the sums are not kept apart by device: an attacker can
            # invent devices, but not protocols, states or classes.
            apart = device if len(self._sums) < self._cap else ""
            summed.append((i, (apart, protos[i], states[i], judged)))
        self.rows += _rows(records.take(np.array(keep, np.int64)),
                           [bests[i] for i in keep], [devices[i] for i in keep])  # fmt: skip
        self._add_up(records, summed, bests, devices)

    def _add_up(
        self,
        records: Conns,
        summed: list[tuple[int, tuple[Any, ...]]],
        bests: list[Best | None],
        devices: list[str],
    ) -> None:
        if not summed:
            return
        amounts = [(at, getattr(records, name).tolist()) for at, name in _SUMS]
        for i, key in summed:
            row = self._sums.get(key)
            if row is None:
                row = _rows(records.take(slice(i, i + 1)), [bests[i]], [devices[i]])[0]
                self._sums[key] = row
                self.rows.append(row)
                continue
            row[_COUNT] += 1
            for at, values in amounts:
                if values[i] >= 0:
                    row[at] = (row[at] or 0) + values[i]

    def _end(self, uid: str) -> None:
        self.changed.pop(uid, None)
        if uid in self._stored:
            self._stored.discard(uid)
            self.ended.append(uid)

    def waiting(self) -> bool:
        """Whether a commit would write anything."""
        return bool(self.rows or self.changed or self.ended)

    def committed(self) -> None:
        """Forget what stands in the database now."""
        self._stored.update(self.changed)
        self.rows, self.changed, self.ended = [], {}, []
        self._seen.clear()
        self._sums.clear()


def _rows(records: Conns, bests: Sequence[Best | None], devices: Sequence[str]) -> list[list[Any]]:
    """Return one list per record, in the order of COLUMNS."""
    text = [
        [value.decode("ascii", "replace") for value in getattr(records, name).tolist()]
        for name in ("uid", "service", "host", "history")
    ]
    orig, resp = texts(records.orig), texts(records.resp)
    rest = zip(
        *(
            getattr(records, name).tolist()
            for name in (
                "ts", "orig_p", "resp_p", "proto", "conn_state", "local_orig", "local_resp",
                "duration", "orig_bytes", "resp_bytes", "missed_bytes", "orig_pkts",
                "orig_ip_bytes", "resp_pkts", "resp_ip_bytes",
            )
        ),
        strict=True,
    )  # fmt: skip
    out = []
    for i, (ts, orig_p, resp_p, proto, state, lo, lr, duration, ob, rb, *more) in enumerate(rest):
        best = bests[i]
        judged = (
            (best.anomaly, best.threat, best.label, VERDICTS[best.verdict])
            if best
            else (None, None, "", "")
        )
        out.append(
            [
                text[0][i], ts, devices[i], orig[i], orig_p, resp[i], resp_p, proto, text[1][i],
                text[2][i], CONN_STATES[state], text[3][i], int(lo), int(lr), duration,
                ob if ob >= 0 else None, rb if rb >= 0 else None, *more, *judged, 1,
            ]
        )  # fmt: skip
    return out


def home_of(records: Conns, i: int, known: Mapping[str, str]) -> str:
    """Return the key of a home device of a record that nobody scored, empty when unknown."""
    for local, mac, address in (
        (records.local_orig, records.orig_mac, records.orig),
        (records.local_resp, records.resp_mac, records.resp),
    ):
        if not local[i]:
            continue
        key = mac_text(int(mac[i])) if mac[i] else "ip:" + texts(address[i : i + 1])[0]
        if key in known:
            return known[key]
    return ""

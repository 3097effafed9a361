"""Flow tables of CICFlowMeter: CICIDS2017, CSE-CIC-IDS2018, and what else the tool wrote.

One mapping for all namings of the columns (see cicnames). Rates of a flow without duration are
written as Infinity or NaN: they become 0 and are counted. A line of names that stands again in
the middle of a file (CSE-CIC-IDS2018 has some) is dropped. Rows are sorted by their Timestamp;
groups are days, since each attack had its own. Repeated rows are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from guardian.errors import InputError
from guardian.tables import F64, Array
from trainer.sets.cicnames import DROPPED, FEATURES
from trainer.sets.mapping import DROP, Mapping
from trainer.sets.reader import Echo, Reader, group_names
from trainer.sets.rows import add_frame
from trainer.sets.tabular import Table, pieces, present, table_of, texts
from trainer.sets.times import seconds
from trainer.sets.writer import Nature, Writer

_ATTACKS = {
    "dos": (
        "dos hulk", "dos goldeneye", "dos slowloris", "dos slowhttptest", "dos attacks-hulk",
        "dos attacks-goldeneye", "dos attacks-slowloris", "dos attacks-slowhttptest",
    ),
    "ddos": (
        "ddos", "ddos attack-hoic", "ddos attack-loic-udp", "ddos attacks-loic-http", "ddos-hoic",
        "ddos-loic-http", "ddos-loic-udp",
    ),
    "scan": ("portscan", "infiltration - portscan", "infiltration - nmap portscan"),
    "brute-force": (
        "ftp-patator", "ssh-patator", "ftp-bruteforce", "ssh-bruteforce",
    ),
    "web": (
        "web attack - brute force", "web attack - xss", "web attack - sql injection",
        "brute force -web", "brute force -xss", "sql injection",
    ),
    "bot": ("bot", "botnet", "botnet ares"),
    "infiltration": (
        "infiltration", "infilteration", "infiltration - dropbox download",
        "infiltration - communication victim attacker",
    ),
    "heartbleed": ("heartbleed",),
}  # fmt: skip

LABELS = {"benign": "benign"} | {text: name for name, texts_ in _ATTACKS.items() for text in texts_}
LABELS |= {"label": DROP, "web attack - sql": "web"}

MAPPING = Mapping(
    version=1,
    features=FEATURES,
    classes=("benign", *_ATTACKS),
    labels=LABELS,
    label_columns=("Label",),
    unsaid=(" - attempted",),
    dropped=DROPPED,
    order="Timestamp where the file has one; seconds at best, and in CICIDS2017 minutes on a clock"
    " of twelve hours",
    groups="day and source address where the file has them, else the file",
    notes=(
        "`... - attempted` of the corrected naming is dropped: a flow of the attacker without"
        " effect, and nobody says what it is.",
        "The first windows of TCP (fwd_window, bwd_window) stay, as in published work, but they"
        " name an operating system as much as an attack.",
    ),
)

_WHOLE = (2_830_743, 16_232_943)
"""Rows of CICIDS2017 and CSE-CIC-IDS2018 as published."""


def _sniff(path: Path) -> bool:
    try:
        columns = set(table_of(path).columns)
    except InputError:
        return False
    return {"flow duration", "label", "flow iat mean", "active mean"} <= columns


def _read(paths: Sequence[Path], writer: Writer, limit: int | None, echo: Echo) -> Nature:
    tables = [table_of(path) for path in paths]
    features = present(MAPPING, tables, writer, echo)
    writer.begin([f.name for f in features])
    ids = _Ids()
    timed = all("timestamp" in table.columns for table in tables)
    for table, name in zip(tables, group_names(paths), strict=True):
        for frame in pieces(table, limit, writer):
            again = np.array([text.strip().lower() == "label" for text in texts(frame["label"])])
            writer.count("dropped: line of names", np.count_nonzero(again))
            flows = frame[~again]
            ids.see(flows, table)
            ts = None
            if "timestamp" in table.columns:
                ts = seconds(flows["timestamp"], writer, twelve=True)
            group = _groups(flows, ts, writer, name)
            add_frame(writer, MAPPING, features, flows, table, group, ts=ts)
    if ids.sparse():
        return Nature(
            False, False, "The rows are a random sample (their ids have gaps), so they make no"
            " sequences and figures do not compare with those of the whole set."
        )  # fmt: skip
    whole = writer.counts.get("rows read", 0) in _WHOLE
    why = [] if whole else ["it is not the whole of a published set"]
    why += [] if timed else ["without a Timestamp the rows make no sequences"]
    text = " and ".join(why)
    return Nature(timed, whole, f"{text[0].upper()}{text[1:]}." if text else "")


class _Ids:
    """Whether the numbers of the rows, where a file has them, leave many out."""

    def __init__(self) -> None:
        self._rows, self._low, self._high = 0, np.inf, -np.inf

    def see(self, frame: Any, table: Table) -> None:
        if "id" not in table.columns or not len(frame):
            return
        values = np.asarray(frame["id"], dtype=np.float64)
        self._rows += len(values)
        self._low = min(self._low, float(np.nanmin(values)))
        self._high = max(self._high, float(np.nanmax(values)))

    def sparse(self) -> bool:
        return self._rows > 1 and self._high - self._low + 1 > 1.5 * self._rows


def _groups(frame: Any, ts: F64 | None, writer: Writer, name: str) -> Array | int:
    """Return the group of each row: day and source, or what is known of these."""
    if ts is None:
        return writer.group(name)
    source = next((c for c in ("src ip", "source ip") if c in frame.columns), None)
    days = (ts // 86_400).astype(np.int64).tolist()
    hosts = texts(frame[source]) if source else [""] * len(days)
    known: dict[tuple[int, str], int] = {}
    for day, host in dict.fromkeys(zip(days, hosts, strict=True)):
        words = datetime.fromtimestamp(day * 86_400, timezone.utc).strftime("%Y-%m-%d")
        known[day, host] = writer.group(f"{words}/{host}" if host else words)
    return np.array([known[key] for key in zip(days, hosts, strict=True)], dtype=np.int32)


READER = Reader(
    "cic", "Flow tables of CICFlowMeter (CICIDS2017, CSE-CIC-IDS2018)", MAPPING, _read, _sniff,
    "Sharafaldin, Lashkari, Ghorbani 2018; Engelen, Rimmer, Joosen 2021",
)  # fmt: skip

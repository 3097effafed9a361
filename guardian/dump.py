"""`guardian dump`: what the database holds, for other tools: CSV, JSON, Parquet, Zeek's logs."""

from __future__ import annotations

import csv
import json
import sqlite3
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO, Any

from guardian import connlog, extras
from guardian.addresses import pack_all
from guardian.connlog import guarded
from guardian.const import NS
from guardian.errors import GuardianError
from guardian.schema import StoreError, open_reader
from guardian.tables import CONN_STATES, Conns

TABLES = {
    "incidents": "SELECT * FROM incidents ORDER BY opened, id",
    "connections": "SELECT * FROM connections ORDER BY ts, uid",
    "totals": "SELECT * FROM totals ORDER BY hour, device, verdict",
}
FORMS = ("csv", "json", "parquet", "zeek")

BATCH = 20_000
"""Rows held at a time."""

TIMES = {"ts", "opened", "updated", "closed", "hour"}
"""Columns of nanoseconds; Parquet has them as times."""

Rows = Iterator[list[sqlite3.Row]]


def dump(what: str, db: Path, form: str, output: Path | None = None) -> None:
    """Write all rows of a table, oldest first, to a file or standard output.

    Raises GuardianError with a sentence.
    """
    with closing(open_reader(db)) as source, ExitStack() as stack:
        source.row_factory = sqlite3.Row
        try:
            source.execute("BEGIN")  # one moment of the database, whatever the daemon writes
            cursor = source.execute(TABLES[what])
            names = [column[0] for column in cursor.description]
            batches = iter(lambda: cursor.fetchmany(BATCH), [])
            if form == "parquet":
                _parquet(source, what, names, batches, output)
                return
            out = stack.enter_context(_opened(output))
            if form == "zeek":
                _zeek(what, batches, out)
            elif form == "json":
                for batch in batches:
                    out.writelines(json.dumps(dict(row)) + "\n" for row in batch)
            else:
                _csv(names, batches, out)
        except sqlite3.Error as error:
            raise StoreError(
                f"cannot read the database {db} ({error}): try again; if it stays, restore a backup"
            ) from error


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[str]]:
    if output is None:
        yield sys.stdout
        return
    with output.open("w", encoding="utf-8", newline="") as file:
        yield file


def _csv(names: list[str], batches: Rows, out: IO[str]) -> None:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for batch in batches:
        writer.writerows(map(_cell, row) for row in batch)


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return guarded(value) if isinstance(value, str) else value


# --- Parquet ----------------------------------------------------------------------


def _parquet(
    source: sqlite3.Connection, what: str, names: list[str], batches: Rows, output: Path | None
) -> None:
    try:
        import pyarrow as pa  # noqa: PLC0415 - large, and in an extra
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise GuardianError(
            f"Parquet needs pyarrow: {extras.command('pyarrow')}, or give --format csv"
        ) from error
    if output is None and sys.stdout.isatty():
        raise GuardianError("Parquet is no text: give -o FILE, or send it on with > FILE")
    declared = {row[1]: row[2] for row in source.execute(f"PRAGMA table_info({what})")}
    kinds = {"INTEGER": pa.int64(), "REAL": pa.float64(), "TEXT": pa.string()}
    moment = pa.timestamp("ns", tz="UTC")
    schema = pa.schema([(n, moment if n in TIMES else kinds[declared[n]]) for n in names])
    with parquet.ParquetWriter(
        str(output) if output else sys.stdout.buffer, schema, compression="zstd"
    ) as writer:
        for batch in batches:
            columns = [
                pa.array(column, field.type)
                for column, field in zip(zip(*batch, strict=True), schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


# --- Zeek's logs --------------------------------------------------------------------

NOTICE = (
    ("ts", "time"), ("uid", "string"), ("id.orig_h", "addr"), ("id.orig_p", "port"),
    ("id.resp_h", "addr"), ("id.resp_p", "port"), ("proto", "enum"), ("note", "enum"),
    ("msg", "string"), ("sub", "string"), ("src", "addr"), ("dst", "addr"), ("p", "port"),
    ("n", "count"), ("actions", "set[enum]"), ("suppress_for", "interval"),
)  # fmt: skip
"""The columns of Zeek's notice.log that an incident has something for."""


def _zeek(what: str, batches: Rows, out: IO[str]) -> None:
    if what == "totals":
        raise GuardianError("Zeek has no log for totals: give --format csv, json or parquet")
    if what == "incidents":
        out.write(connlog.head("notice", NOTICE))
        for batch in batches:
            out.writelines("\t".join(_notice(row)) + "\n" for row in batch)
        return
    out.write(connlog.zeek_header())
    for batch in batches:
        out.write(connlog.zeek(conns_of(batch)))


def conns_of(rows: Iterable[sqlite3.Row]) -> Conns:
    """Return rows of the connections table as a table of connections."""
    found = list(rows)
    out = Conns.blank(len(found))
    for name in ("uid", "service", "history"):
        getattr(out, name)[:] = [_ascii(row[name]) for row in found]
    for name in (
        "ts", "orig_p", "resp_p", "proto", "duration", "missed_bytes", "local_orig", "local_resp",
        "orig_pkts", "orig_ip_bytes", "resp_pkts", "resp_ip_bytes",
    ):  # fmt: skip
        getattr(out, name)[:] = [row[name] for row in found]
    for name in ("orig_bytes", "resp_bytes"):
        getattr(out, name)[:] = [-1 if row[name] is None else row[name] for row in found]
    out.orig[:] = pack_all(row["orig_h"] for row in found)
    out.resp[:] = pack_all(row["resp_h"] for row in found)
    out.conn_state[:] = [CONN_STATES.index(row["conn_state"]) for row in found]
    return out


def _notice(row: sqlite3.Row) -> list[str]:
    evidence = json.loads(row["evidence"])
    example = (evidence.get("connections") or [{}])[0]
    peers = evidence.get("peers") or [{}]
    peer = peers[0] if len(peers) == 1 else {}
    cells = {
        "ts": f"{row['opened'] // 1_000 / 1e6:.6f}",
        "uid": example.get("uid"),
        "id.orig_h": example.get("orig_h"),
        "id.orig_p": example.get("orig_p"),
        "id.resp_h": example.get("resp_h"),
        "id.resp_p": example.get("resp_p"),
        "proto": example.get("proto"),
        "note": "Guardian::" + "".join(w.capitalize() for w in row["cause"].split("-")),
        "msg": row["explanation"],
        "sub": row["advice"],
        "src": row["ip"],
        "dst": peer.get("ip"),
        "p": peer.get("port"),
        "n": row["count"],
        "actions": "Notice::ACTION_LOG",
        "suppress_for": f"{((row['closed'] or row['updated']) - row['opened']) / NS:.6f}",
    }
    return [_text(cells[name], kind) for name, kind in NOTICE]


def _text(value: Any, kind: str) -> str:
    """Return a cell: `-` where unset, no separators inside."""
    if value is None or value == "" or (kind == "addr" and value in ("outside", "inside")):
        return connlog.UNSET
    return "".join(c if c.isprintable() else " " for c in str(value))


def _ascii(text: str) -> bytes:
    return text.encode("ascii", "replace")

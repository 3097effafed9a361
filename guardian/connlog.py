"""Connection records as text: Zeek's conn.log (TSV or JSON lines) and CSV.

All text from the network is cut to printable ASCII before it comes here; it is guarded
again, since a log is read by terminals and spreadsheets: no control characters, and no CSV
cell that a spreadsheet would run as a formula.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from decimal import Decimal

from guardian.addresses import texts
from guardian.const import NS
from guardian.tables import CONN_STATES, PROTO_NAMES, Conns

FIELDS = (
    ("ts", "time"), ("uid", "string"), ("id.orig_h", "addr"), ("id.orig_p", "port"),
    ("id.resp_h", "addr"), ("id.resp_p", "port"), ("proto", "enum"), ("service", "string"),
    ("duration", "interval"), ("orig_bytes", "count"), ("resp_bytes", "count"),
    ("conn_state", "string"), ("local_orig", "bool"), ("local_resp", "bool"),
    ("missed_bytes", "count"), ("history", "string"), ("orig_pkts", "count"),
    ("orig_ip_bytes", "count"), ("resp_pkts", "count"), ("resp_ip_bytes", "count"),
    ("tunnel_parents", "set[string]"), ("ip_proto", "count"),
)  # fmt: skip
"""The columns of Zeek's conn.log and their types, in Zeek's order."""

UNSET = "-"
_FORMULA = "=+-@\t\r"
_ENDS = str.maketrans("\r\n\0", "   ")
"""A lone carriage return is written without quotes, and ends a row for who reads it."""
_NUMBERS = {"port", "count"}


def cells(records: Conns) -> Iterator[dict[str, str]]:
    """Yield each record as Zeek's cells by name, `-` where unset."""
    orig, resp = texts(records.orig), texts(records.resp)
    columns = {
        "ts": [_seconds(ts) for ts in records.ts.tolist()],
        "uid": [_safe(uid) for uid in records.uid.tolist()],
        "id.orig_h": orig,
        "id.orig_p": records.orig_p.tolist(),
        "id.resp_h": resp,
        "id.resp_p": records.resp_p.tolist(),
        "proto": [PROTO_NAMES.get(p, "unknown_transport") for p in records.proto.tolist()],
        "service": [_safe(s) or UNSET for s in records.service.tolist()],
        "duration": [f"{d:.6f}" if d > 0 else UNSET for d in records.duration.tolist()],
        "orig_bytes": [_count(n) for n in records.orig_bytes.tolist()],
        "resp_bytes": [_count(n) for n in records.resp_bytes.tolist()],
        "conn_state": [CONN_STATES[s] for s in records.conn_state.tolist()],
        "local_orig": ["T" if x else "F" for x in records.local_orig.tolist()],
        "local_resp": ["T" if x else "F" for x in records.local_resp.tolist()],
        "missed_bytes": records.missed_bytes.tolist(),
        "history": [_safe(h) or UNSET for h in records.history.tolist()],
        "orig_pkts": records.orig_pkts.tolist(),
        "orig_ip_bytes": records.orig_ip_bytes.tolist(),
        "resp_pkts": records.resp_pkts.tolist(),
        "resp_ip_bytes": records.resp_ip_bytes.tolist(),
        "tunnel_parents": [_safe(p) or UNSET for p in records.tunnel_parents.tolist()],
        "ip_proto": records.proto.tolist(),
    }
    for row in zip(*columns.values(), strict=True):
        yield dict(zip(columns, map(str, row), strict=True))


def zeek_header(path: str = "conn") -> str:
    """Return the head of a conn.log in Zeek's TSV form."""
    return head(path, FIELDS)


def head(path: str, fields: Sequence[tuple[str, str]]) -> str:
    """Return the head of a Zeek TSV log with these columns and types."""
    return (
        "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n"
        f"#path\t{path}\n"
        f"#fields\t{chr(9).join(name for name, _ in fields)}\n"
        f"#types\t{chr(9).join(kind for _, kind in fields)}\n"
    )


def zeek(records: Conns) -> str:
    """Return records as the lines of a Zeek TSV log, without its head."""
    return "".join("\t".join(row.values()) + "\n" for row in cells(records))


def json_lines(records: Conns) -> str:
    """Return records as Zeek's JSON lines: unset columns are left out."""
    kinds = dict(FIELDS)
    lines = []
    for row in cells(records):
        entry: dict[str, object] = {}
        for name, text in row.items():
            if text == UNSET:
                continue
            kind = kinds[name]
            if kind in _NUMBERS:
                entry[name] = int(text)
            elif kind in {"time", "interval"}:
                entry[name] = float(Decimal(text))
            elif kind == "set[string]":
                entry[name] = text.split(",")
            elif kind == "bool":
                entry[name] = text == "T"
            else:
                entry[name] = text
        lines.append(json.dumps(entry) + "\n")
    return "".join(lines)


def csv_header() -> str:
    """Return the head of the CSV: Zeek's column names."""
    return ",".join(name for name, _ in FIELDS) + "\n"


def csv_lines(records: Conns) -> str:
    """Return records as CSV lines with Zeek's column names; unset is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for row in cells(records):
        writer.writerow(["" if text == UNSET else guarded(text) for text in row.values()])
    return out.getvalue()


def guarded(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula, and no reader for two rows."""
    text = text.translate(_ENDS)
    return "'" + text if text[:1] and text[0] in _FORMULA else text


def _seconds(ns: int) -> str:
    sign = "-" if ns < 0 else ""
    whole, part = divmod(abs(ns) // 1_000, NS // 1_000)
    return f"{sign}{whole}.{part:06d}"


def _count(n: int) -> str:
    return UNSET if n < 0 else str(n)


def _safe(raw: bytes) -> str:
    """Return printable ASCII without blanks; anything else becomes a question mark."""
    return "".join(chr(b) if 33 <= b < 127 else "?" for b in raw)

"""Connection logs: Zeek's conn.log as TSV, JSON lines or CSV, labelled or not, .gz too.

The form is told by the content, never by the file's name. A row that is cut or makes no sense
is skipped and counted; a log that lacks an essential column is refused.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from guardian.addresses import Lan
from guardian.const import BATCH_ROWS, MAX_LINE_BYTES
from guardian.errors import InputError
from guardian.logrows import Columns
from guardian.tables import Conns

Form = Literal["tsv", "json", "csv"]

ESSENTIAL = ("ts", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto")
"""Columns without which a row says nothing."""

_TELLING = {
    "duration", "orig_bytes", "resp_bytes", "conn_state", "history", "orig_pkts", "resp_pkts",
    "orig_ip_bytes", "resp_ip_bytes", "service", "missed_bytes", "local_orig", "local_resp",
}  # fmt: skip
"""Columns that say what a connection was; dns.log and others have ends without them."""
_BESIDE = {"uid", "label", "detailed-label", "ip_proto", "tunnel_parents"}
_ALIASES = {
    "id_orig_h": "id.orig_h", "id_orig_p": "id.orig_p",
    "id_resp_h": "id.resp_h", "id_resp_p": "id.resp_p",
    "detailedlabel": "detailed-label", "detailed_label": "detailed-label",
}  # fmt: skip
_UNSET = ("", "-", "(empty)")
_MAGIC = 64
"""Zero bytes among so many first ones are a capture's; later ones are a crash's, in a log."""
_HEAD_BYTES = 8_192
"""Enough of a file to tell its form."""


@dataclass(frozen=True)
class LogBatch:
    """Some rows of a log, in the order of the file (Zeek writes a connection when it ends)."""

    conns: Conns
    label: list[str]
    """One for each row; empty where the log has none."""
    detailed: list[str]
    """The detailed label (IoT-23's third word, Stratosphere's last column); empty where none."""
    skipped: int
    """Rows of this stretch of the file that were cut or made no sense."""


def sniff(head: bytes) -> Form | None:
    """Say which form of log begins with these bytes (unpacked), None for no log.

    A few kilobytes are enough; the first line that is no comment decides.
    """
    if b"\0" in head[:_MAGIC]:
        return None
    text = head.decode("utf-8-sig", "replace")
    lines = [line.lstrip() for line in text.splitlines() if line.strip()]
    if any(line.startswith(("#separator", "#fields", "#path")) for line in lines):
        return "tsv"
    for line in lines:
        if line.startswith("#"):
            continue
        if line.startswith("{"):
            return "json"
        names = {_name(name) for name in re.split(r"[,;\t]", line)}
        return "csv" if len(names & set(ESSENTIAL)) >= 2 else None
    return None


def read(path: Path | str, lan: Lan | None = None) -> Iterator[LogBatch]:
    """Yield the rows of a connection log, `-` for standard input, in batches of BATCH_ROWS.

    `lan` says who is local where the log does not; by default the private ranges. Raises
    InputError where the file is no connection log, lacks essential columns or has no row that
    can be read; where it is damaged half-way, after all that came before.
    """
    home = lan or Lan()
    name = "standard input" if str(path) == "-" else Path(path).name
    with _opened(path, name) as stream:
        head = _head(stream, name)
        form = sniff(head)
        if not head.strip():
            raise InputError(f"{name} is empty: give a capture or a connection log")
        if form is None:
            raise InputError(
                f"{name} is no connection log: expected Zeek's conn.log as TSV, JSON lines or CSV"
            )
        lines = _lines(head, stream, name)
        rows = {"tsv": _tsv, "json": _json, "csv": _csv}[form](lines, name)
        yield from _batches(rows, name, home)


# --- bytes to lines ---------------------------------------------------------


@contextmanager
def _opened(path: Path | str, name: str) -> Iterator[io.BufferedIOBase]:
    """Open a file or standard input, unpacked if it begins as gzip does."""
    try:
        raw = sys.stdin.buffer if str(path) == "-" else Path(path).open("rb")  # noqa: SIM115
    except OSError as error:
        reason = error.strerror or "unknown error"
        raise InputError(f"{name} cannot be read ({reason}): check path and rights") from error
    try:
        plain = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast(Any, raw))
        if plain.peek(2)[:2] == b"\x1f\x8b":
            yield gzip.GzipFile(fileobj=plain)
        else:
            yield plain
    except OSError as error:
        raise _damaged(name) from error
    finally:
        if str(path) != "-":
            raw.close()


def _damaged(name: str) -> InputError:
    return InputError(f"{name} is cut or damaged: what came before was read; get it whole again")


def _head(stream: io.BufferedIOBase, name: str) -> bytes:
    """Return the first bytes; where damage comes before their end, those that can be had."""
    head = b""
    try:
        while len(head) < _HEAD_BYTES and (more := stream.read1(_HEAD_BYTES)):
            head += more
    except (EOFError, OSError, zlib.error) as error:
        if not head:
            raise _damaged(name) from error
    return head


def _lines(head: bytes, stream: io.BufferedIOBase, name: str) -> Iterator[str]:
    """Yield the lines of head and stream without their ends; an overlong one as a broken row."""
    ready = head.splitlines(keepends=True)
    begun = ready.pop() if ready and not ready[-1].endswith(b"\n") else b""
    for line in ready:
        yield _text(line)
    while True:
        try:
            line = begun + stream.readline(MAX_LINE_BYTES)
            begun = b""
            if len(line) >= MAX_LINE_BYTES and not line.endswith(b"\n"):
                while rest := stream.readline(MAX_LINE_BYTES):
                    if rest.endswith(b"\n"):
                        break
                line = b"?"
        except (EOFError, OSError, zlib.error) as error:
            raise _damaged(name) from error
        if not line:
            return
        yield _text(line)


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r\n").lstrip("\ufeff")


# --- lines to fields --------------------------------------------------------

Fields = dict[str, str] | None
"""The fields of a row by Zeek's names, as text, unset ones left out; None for a broken row."""


def _name(name: str) -> str:
    name = name.strip().strip('"')
    return _ALIASES.get(name, name)


def _check(names: list[str], file: str) -> None:
    missing = [column for column in ESSENTIAL if column not in names]
    if missing:
        raise InputError(
            f"{file} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}:"
            " a connection log needs " + ", ".join(ESSENTIAL)
        )
    others = set(names) - set(ESSENTIAL) - _BESIDE
    if others and not others & _TELLING:
        raise InputError(
            f"{file} tells nothing of its connections but {', '.join(sorted(others)[:3])}:"
            " it may be another of Zeek's logs; give its conn.log"
        )


def _row(names: list[str], values: list[str], unset: tuple[str, ...]) -> Fields:
    if len(values) != len(names):
        return None
    return {name: value for name, value in zip(names, values, strict=True) if value not in unset}


def _tsv(lines: Iterator[str], file: str) -> Iterator[Fields]:
    separator, empty, missing = "\t", "(empty)", "-"
    names: list[str] = []
    packed: list[str] = []
    for line in lines:
        mark = line.lstrip()
        if mark.startswith("#"):
            word, _, rest = mark.partition(" " if mark.startswith("#separator") else separator)
            if word == "#separator":
                separator = rest.encode("ascii", "replace").decode("unicode_escape") or "\t"
            elif word == "#empty_field":
                empty = rest
            elif word == "#unset_field":
                missing = rest
            elif word == "#path" and not rest.startswith("conn"):
                raise InputError(f"{file} is Zeek's {rest} log: give its conn.log")
            elif word == "#fields":
                names = rest.split(separator)
                # IoT-23 as published: three names in the last field, three blanks between.
                packed = names[-1].split("   ") if "   " in names[-1] else []
                names = [_name(n) for n in (names[:-1] + packed if packed else names)]
                _check(names, file)
        elif not names:
            raise InputError(f"{file} has no #fields line: it is no whole Zeek log")
        elif line:
            values = line.split(separator)
            if packed:
                values[-1:] = values[-1].split("   ")
            yield _row(names, values, (empty, missing, ""))
    if not names:
        raise InputError(f"{file} has no #fields line: it is no whole Zeek log")


def _csv(lines: Iterator[str], file: str) -> Iterator[Fields]:
    head = next(line for line in lines if line.strip() and not line.startswith("#"))
    delimiter = max(",;\t", key=head.count)
    names = [_name(name) for name in next(csv.reader([head], delimiter=delimiter))]
    _check(names, file)
    for line in lines:
        if not line:
            continue
        try:
            values = next(csv.reader([line], delimiter=delimiter))
        except (csv.Error, StopIteration):
            yield None
            continue
        yield _row(names, values, _UNSET)


def _json(lines: Iterator[str], file: str) -> Iterator[Fields]:
    checked = False
    for line in lines:
        if not line.strip():
            continue
        try:
            # Numbers stay text: a float64 does not hold nanoseconds since the epoch.
            row = json.loads(line, parse_float=str, parse_int=str, parse_constant=str)
        except (ValueError, RecursionError):
            yield None
            continue
        if not isinstance(row, dict):
            yield None
            continue
        parents = row.get("tunnel_parents")
        if isinstance(parents, list):
            row["tunnel_parents"] = ",".join(uid for uid in parents if isinstance(uid, str))
        fields = {
            _name(name): value if isinstance(value, str) else str(value)
            for name, value in row.items()
            if isinstance(value, (str, bool)) and value not in _UNSET
        }
        if not checked:
            _check(list(fields), file)
            checked = True
        yield fields


# --- fields to batches ------------------------------------------------------


def _batches(rows: Iterator[Fields], file: str, lan: Lan) -> Iterator[LogBatch]:
    columns = Columns()
    number = read_rows = skipped = 0
    fault: InputError | None = None
    while True:
        try:
            fields = next(rows)
        except StopIteration:
            break
        except InputError as error:
            fault = error
            break
        number += 1
        if fields is None or not columns.add(fields, number):
            skipped += 1
        else:
            read_rows += 1
        if len(columns) == BATCH_ROWS:
            yield LogBatch(columns.conns(lan), columns.label, columns.detailed, skipped)
            columns, skipped = Columns(), 0
    if len(columns) or (skipped and read_rows):
        yield LogBatch(columns.conns(lan), columns.label, columns.detailed, skipped)
    if fault is not None:
        raise fault
    if skipped and not read_rows:
        raise InputError(
            f"{file} has {skipped} rows, and none can be read as a connection: check times"
            " (seconds since 1970 or ISO), addresses and ports"
        )

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import numpy as np

from guardian import addresses
from guardian.addresses import Lan
from guardian.const import (
    BATCH_ROWS,
    HISTORY_BYTES,
    MAX_LINE_BYTES,
    NS,
    SERVICE_BYTES,
    UID_BYTES,
)
from guardian.errors import InputError
from guardian.tables import CONN_STATES, Conns

Form = Literal["tsv", "json", "csv"]

ESSENTIAL = ("ts", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto")
"""Columns without which a row says nothing."""

_ALIASES = {
    "id_orig_h": "id.orig_h", "id_orig_p": "id.orig_p",
    "id_resp_h": "id.resp_h", "id_resp_p": "id.resp_p",
    "detailedlabel": "detailed-label", "detailed_label": "detailed-label",
}  # fmt: skip
_PROTOS = {
    "tcp": 6, "udp": 17, "icmp": 1, "icmp6": 58, "ipv6-icmp": 58, "igmp": 2, "gre": 47,
    "esp": 50, "ah": 51, "sctp": 132,
}  # fmt: skip
_UNKNOWN_PROTO = 255
"""unknown_transport without ip_proto (IANA: reserved)."""
_STATES = {name: index for index, name in enumerate(CONN_STATES)}
_OTH = _STATES["OTH"]
_BOOLS = {"T": True, "F": False, "true": True, "false": False, "True": True, "False": False}
_UNSET = ("", "-", "(empty)")
_MAX_COUNT = 1 << 62
_MAX_SECONDS = (1 << 63) // NS - 1
_MSS = 1460
"""Payload of a full segment on Ethernet, where a log has no packet columns."""
_HEADERS = 40
"""IPv4 and TCP headers, where a log has no columns of IP bytes."""
_HEAD_BYTES = 8_192
"""Enough of a file to tell its form."""
_DECIMAL = re.compile(r"(\d{1,12})(?:\.(\d*))?")
_ISO = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:[.,](\d+))?(Z|[+-]\d\d:?\d\d)?")


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
    if b"\0" in head:
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
def _opened(path: Path | str, name: str) -> Iterator[io.BufferedReader]:
    """Open a file or standard input, unpacked if it begins as gzip does."""
    try:
        raw = sys.stdin.buffer if str(path) == "-" else Path(path).open("rb")  # noqa: SIM115
    except OSError as error:
        reason = error.strerror or "unknown error"
        raise InputError(f"{name} cannot be read ({reason}): check path and rights") from error
    try:
        plain = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast(Any, raw))
        if plain.peek(2)[:2] == b"\x1f\x8b":
            unpacked = gzip.GzipFile(fileobj=plain)
            yield io.BufferedReader(cast(Any, unpacked), 1 << 16)
        else:
            yield plain
    except OSError as error:
        raise _damaged(name) from error
    finally:
        if str(path) != "-":
            raw.close()


def _damaged(name: str) -> InputError:
    return InputError(f"{name} is cut or damaged: what came before was read; get it whole again")


def _head(stream: io.BufferedReader, name: str) -> bytes:
    """Return the first bytes; where damage comes before their end, those that can be had."""
    head = b""
    try:
        while len(head) < _HEAD_BYTES and (more := stream.read1(_HEAD_BYTES)):
            head += more
    except (EOFError, OSError, zlib.error) as error:
        if not head:
            raise _damaged(name) from error
    return head


def _lines(head: bytes, stream: BinaryIO, name: str) -> Iterator[str]:
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
        fields = {
            _name(name): value if isinstance(value, str) else str(value)
            for name, value in row.items()
            if isinstance(value, (str, bool)) and value not in _UNSET
        }
        if not checked:
            _check(list(fields), file)
            checked = True
        yield fields


# --- fields to columns ------------------------------------------------------


def _batches(rows: Iterator[Fields], file: str, lan: Lan) -> Iterator[LogBatch]:
    columns = _Columns()
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
            yield columns.batch(lan, skipped)
            columns, skipped = _Columns(), 0
    if len(columns) or (skipped and read_rows):
        yield columns.batch(lan, skipped)
    if fault is not None:
        raise fault
    if skipped and not read_rows:
        raise InputError(
            f"{file} has {skipped} rows, and none can be read as a connection: check times"
            " (seconds since 1970 or ISO), addresses and ports"
        )


def _time(text: str) -> int:
    """Return nanoseconds since the epoch of a decimal or ISO time, exactly."""
    match = _DECIMAL.fullmatch(text)
    if match is not None:
        whole, part = match.groups()
        seconds = int(whole)
    else:
        iso = _ISO.fullmatch(text)
        if iso is None:
            return _float_time(text)
        stem, part, zone = iso.groups()
        offset = "+00:00" if zone in (None, "Z") else zone
        if len(offset) == 5:
            offset = offset[:3] + ":" + offset[3:]
        seconds = int(datetime.fromisoformat(stem.replace(" ", "T") + offset).timestamp())
    if not 0 <= seconds <= _MAX_SECONDS:
        raise ValueError(text)
    return seconds * NS + (int(part[:9].ljust(9, "0")) if part else 0)


def _float_time(text: str) -> int:
    value = float(text)  # 1.5e9: rare, and then as exact as it came
    if not 0 <= value <= _MAX_SECONDS:
        raise ValueError(text)
    return round(value * NS)


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 0xFFFF:
        raise ValueError(text)
    return value


def _count(text: str) -> int:
    value = int(text)
    if not 0 <= value < _MAX_COUNT:
        raise ValueError(text)
    return value


def _span(text: str) -> float:
    value = float(text)
    if not (isfinite(value) and 0 <= value <= _MAX_SECONDS):
        raise ValueError(text)
    return value


def _bytes(text: str, width: int) -> bytes:
    """Return printable ASCII, cut to the column."""
    return "".join(c if " " < c <= "~" else "?" for c in text[:width]).encode("ascii")


class _Columns:
    """The columns of a batch while it grows; addresses are packed once for each text."""

    def __init__(self) -> None:
        self._rows: list[tuple[Any, ...]] = []
        self._label: list[str] = []
        self._detailed: list[str] = []
        self._packed: dict[str, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, fields: dict[str, str], number: int) -> bool:
        """Take a row; False where it makes no sense."""
        try:
            self._rows.append(self._parse(fields, number))
        except (ValueError, KeyError, OverflowError):
            return False
        self._label.append(fields.get("label", ""))
        self._detailed.append(fields.get("detailed-label", ""))
        return True

    def _address(self, text: str) -> tuple[int, int]:
        pair = self._packed.get(text)
        if pair is None:
            pair = self._packed[text] = addresses.pack(text)
        return pair

    def _parse(self, fields: dict[str, str], number: int) -> tuple[Any, ...]:
        get = fields.get
        orig, resp = self._address(fields["id.orig_h"]), self._address(fields["id.resp_h"])
        duration = _optional(get("duration"), _span, 0.0)
        sent = _optional(get("orig_bytes"), _count, -1)
        received = _optional(get("resp_bytes"), _count, -1)
        orig_pkts = _optional(get("orig_pkts"), _count, 1 + max(sent, 0) // _MSS)
        answered = 1 + received // _MSS if received > 0 else 0
        resp_pkts = _optional(get("resp_pkts"), _count, answered)
        uid = get("uid") or f"L{number}"
        return (
            _bytes(uid, UID_BYTES),
            _time(fields["ts"]),
            orig,
            resp,
            _port(fields["id.orig_p"]),
            _port(fields["id.resp_p"]),
            _proto(fields["proto"], get("ip_proto"), resp[0] != 0),
            _bytes(get("service", "").lower(), SERVICE_BYTES),
            duration,
            sent,
            received,
            _STATES.get(get("conn_state", ""), _OTH),
            _BOOLS.get(get("local_orig", "")),
            _BOOLS.get(get("local_resp", "")),
            _optional(get("missed_bytes"), _count, 0),
            _bytes(get("history", ""), HISTORY_BYTES),
            orig_pkts,
            _optional(get("orig_ip_bytes"), _count, max(sent, 0) + _HEADERS * orig_pkts),
            resp_pkts,
            _optional(get("resp_ip_bytes"), _count, max(received, 0) + _HEADERS * resp_pkts),
            _mac(get("orig_l2_addr")),
            _mac(get("resp_l2_addr")),
        )

    def batch(self, lan: Lan, skipped: int) -> LogBatch:
        conns = Conns.blank(len(self._rows))
        names = (
            "uid", "ts", "orig", "resp", "orig_p", "resp_p", "proto", "service", "duration",
            "orig_bytes", "resp_bytes", "conn_state", "local_orig", "local_resp", "missed_bytes",
            "history", "orig_pkts", "orig_ip_bytes", "resp_pkts", "resp_ip_bytes", "orig_mac",
            "resp_mac",
        )  # fmt: skip
        columns = dict(zip(names, zip(*self._rows, strict=True), strict=True))
        for side in ("orig", "resp") if self._rows else ():
            known = columns.pop(f"local_{side}")
            column = getattr(conns, side)
            column[:] = np.array(columns.pop(side), dtype=np.uint64)
            given = np.array([flag is not None for flag in known])
            local = np.where(given, np.array([bool(f) for f in known]), lan.local(column))
            getattr(conns, f"local_{side}")[:] = local
        for name, values in columns.items():
            getattr(conns, name)[:] = values
        conns.final[:] = True
        conns.age[:] = conns.duration
        conns.told[:] = conns.ts + np.rint(conns.duration * NS).astype(np.int64)
        return LogBatch(conns, self._label, self._detailed, skipped)


def _optional(text: str | None, parse: Callable[[str], Any], default: Any) -> Any:
    return default if text is None else parse(text)


def _proto(name: str, number: str | None, v6: bool) -> int:
    """Return the IP protocol: Zeek's name, or its number where it has one."""
    if number is not None and number.isdecimal() and int(number) <= 0xFF:
        return int(number)
    known = _PROTOS.get(name.lower())
    if known == 1 and v6:
        return 58
    if known is not None:
        return known
    if name.isdecimal() and int(name) <= 0xFF:
        return int(name)
    return _UNKNOWN_PROTO


def _mac(text: str | None) -> int:
    try:
        return addresses.mac_pack(text) if text else 0
    except ValueError:
        return 0

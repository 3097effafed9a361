"""The rows of a connection log: from text by Zeek's names to the columns of Conns."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from math import isfinite
from typing import Any

import numpy as np

from guardian import addresses
from guardian.addresses import Lan
from guardian.const import HISTORY_BYTES, NS, PARENTS_BYTES, SERVICE_BYTES, UID_BYTES
from guardian.tables import CONN_STATES, Conns

_PROTOS = {
    "tcp": 6, "udp": 17, "icmp": 1, "icmp6": 58, "ipv6-icmp": 58, "igmp": 2, "gre": 47,
    "esp": 50, "ah": 51, "sctp": 132,
}  # fmt: skip
_UNKNOWN_PROTO = 255
"""unknown_transport without ip_proto (IANA: reserved)."""
_STATES = {name: index for index, name in enumerate(CONN_STATES)}
_OTH = _STATES["OTH"]
_BOOLS = {"T": True, "F": False, "true": True, "false": False, "True": True, "False": False}
_MAX_COUNT = 1 << 62
_MAX_SECONDS = 8_000_000_000
"""The year 2223: with the longest duration, still an int64 of nanoseconds."""
_MAX_DURATION = 1_000_000_000.0
"""Seconds, 31 years."""
_MSS = 1460
"""Payload of a full segment on Ethernet, where a log has no packet columns."""
_HEADERS = 40
"""IPv4 and TCP headers, where a log has no columns of IP bytes."""
_DECIMAL = re.compile(r"(\d{1,12})(?:\.(\d*))?")
_ISO = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:[.,](\d+))?(Z|[+-]\d\d:?\d\d)?")


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
    try:
        value = int(text)
    except ValueError:  # 48.0, as tables that went through other tools have it
        number = float(text)
        if not number.is_integer():
            raise
        value = int(number)
    if not 0 <= value < _MAX_COUNT:
        raise ValueError(text)
    return value


def _span(text: str) -> float:
    value = float(text)
    if not (isfinite(value) and 0 <= value <= _MAX_DURATION):
        raise ValueError(text)
    return value


def _bytes(text: str, width: int) -> bytes:
    """Return printable ASCII, cut to the column."""
    return "".join(c if " " < c <= "~" else "?" for c in text[:width]).encode("ascii")


def _parents(text: str) -> bytes:
    """Return the uids of the tunnels, as many as fit in whole."""
    uids = b""
    for uid in text[: 8 * PARENTS_BYTES].split(","):
        more = uids + b"," + _bytes(uid, UID_BYTES) if uids else _bytes(uid, UID_BYTES)
        if len(more) > PARENTS_BYTES:
            break
        uids = more
    return uids


class Columns:
    """The columns of a batch while it grows; addresses are packed once for each text."""

    def __init__(self) -> None:
        self._rows: list[tuple[Any, ...]] = []
        self.label: list[str] = []
        self.detailed: list[str] = []
        self._packed: dict[str, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, fields: dict[str, str], number: int) -> bool:
        """Take a row; False where it makes no sense."""
        try:
            self._rows.append(self._parse(fields, number))
        except (ValueError, KeyError, OverflowError):
            return False
        self.label.append(fields.get("label", ""))
        self.detailed.append(fields.get("detailed-label", ""))
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
            _parents(get("tunnel_parents", "")),
        )

    def conns(self, lan: Lan) -> Conns:
        """Return the records; `lan` says who is local where the rows do not."""
        conns = Conns.blank(len(self._rows))
        names = (
            "uid", "ts", "orig", "resp", "orig_p", "resp_p", "proto", "service", "duration",
            "orig_bytes", "resp_bytes", "conn_state", "local_orig", "local_resp", "missed_bytes",
            "history", "orig_pkts", "orig_ip_bytes", "resp_pkts", "resp_ip_bytes", "orig_mac",
            "resp_mac", "tunnel_parents",
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
        return conns


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

"""Flows of Cisco Joy as connection records, as far as they say what a record says.

Joy cuts a flow after some seconds of activity: pieces of one 5-tuple with no longer gap than a
connection may be silent are one record again. What answers from a well-known port to a high one
stands the wrong way round and is turned. TCP states come from the flags of the first fifty packets;
a flow without its SYN is OTH.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from guardian.addresses import Lan, pack_all
from guardian.const import NS
from guardian.devices import DeviceTable
from guardian.errors import InputError
from guardian.slices import cut
from guardian.tables import CONN_STATES, Conns
from trainer.labels import DROP, codes
from trainer.streams import Judge, Stream

SILENCE_S = {6: 300.0}
"""Seconds of silence that end a connection, by protocol; others OTHER_S."""
OTHER_S = 60.0
_TCP, _UDP, _ICMP = 6, 17, 1
_KNOWN = 1_024
_HEADERS = {_TCP: 40, _UDP: 28}
_PLAIN_HEADER = 20


class _Flow(NamedTuple):
    """One flow, or several that follow each other, the opener first."""

    orig: str
    orig_p: int
    resp: str
    resp_p: int
    proto: int
    begin: float
    end: float
    sent: tuple[int, int]
    """Payload bytes and packets of the opener."""
    got: tuple[int, int]
    flags: tuple[str, str]
    """TCP flags seen of either side."""

    @property
    def key(self) -> tuple[Any, ...]:
        return self[:5]


def read(
    path: Path, *, lan: tuple[str, ...] = (), judge: Judge | None = None
) -> tuple[Stream, DeviceTable]:
    """Parse a gzipped file of Joy's JSON lines. Raises InputError where it cannot be read."""
    home = Lan(lan)
    records = _records(_merged(_flows(path)), home)
    devices = DeviceTable(home)
    devices.learn_from_conns(records)
    slices, _ = cut(records)
    label = codes((judge or _nobody)(slices))
    return Stream(path.name, slices, *devices.sides(slices), label, lan), devices


def _nobody(conns: Conns) -> list[str]:
    return [DROP] * len(conns)


def _flows(path: Path) -> list[_Flow]:
    out = []
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                if "sa" in row and row["pr"] in (_TCP, _UDP, _ICMP):
                    out.append(_flow(row))
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise InputError(f"{path} is no file of Joy's flows: {error}") from error
    return sorted(out, key=lambda flow: flow.begin)


def _flow(row: dict[str, Any]) -> _Flow:
    sent = (int(row["bytes_out"]), int(row["num_pkts_out"]))
    got = (int(row.get("bytes_in", 0)), int(row.get("num_pkts_in", 0)))
    seen: dict[str, str] = {">": "", "<": ""}
    for packet in row.get("ppi", []):
        seen[packet["dir"]] += packet["flags"]
    for side, way in (("out", ">"), ("in", "<")):
        seen[way] += row.get("tcp", {}).get(side, {}).get("flags", "")
    ends = (row["sa"], int(row["sp"] or 0)), (row["da"], int(row["dp"] or 0))
    flags = (seen[">"], seen["<"])
    if row["pr"] == _UDP and 0 < ends[0][1] < _KNOWN <= ends[1][1]:
        ends, sent, got, flags = ends[::-1], got, sent, flags[::-1]
    return _Flow(
        *ends[0], *ends[1], row["pr"], float(row["time_start"]), float(row["time_end"]), sent, got,
        flags,
    )  # fmt: skip


def _merged(flows: list[_Flow]) -> list[_Flow]:
    """Join pieces of one connection."""
    out: list[_Flow] = []
    last: dict[tuple[Any, ...], int] = {}
    for flow in flows:
        at = last.get(flow.key)
        silence = SILENCE_S.get(flow.proto, OTHER_S)
        if at is not None and flow.begin - out[at].end <= silence and "S" not in _opening(flow):
            one = out[at]
            out[at] = one._replace(
                end=max(one.end, flow.end),
                sent=(one.sent[0] + flow.sent[0], one.sent[1] + flow.sent[1]),
                got=(one.got[0] + flow.got[0], one.got[1] + flow.got[1]),
                flags=(one.flags[0] + flow.flags[0], one.flags[1] + flow.flags[1]),
            )
            continue
        last[flow.key] = len(out)
        out.append(flow)
    return out


def _opening(flow: _Flow) -> str:
    return flow.flags[0] if flow.proto == _TCP else ""


def _state(flow: _Flow) -> str:
    """Return Zeek's conn_state, as near as the flags say."""
    out, back = flow.flags
    if flow.proto != _TCP:
        return "SF" if flow.sent[1] and flow.got[1] else "S0" if flow.sent[1] else "SHR"
    if "S" not in out:
        return "OTH"
    if "S" not in back:
        return "REJ" if "R" in back else "S0"
    if "R" in out:
        return "RSTO"
    if "R" in back:
        return "RSTR"
    ends = ("F" in out, "F" in back)
    return {(True, True): "SF", (True, False): "S2", (False, True): "S3"}.get(ends, "S1")


def _records(flows: list[_Flow], home: Lan) -> Conns:
    conns = Conns.blank(len(flows))
    if not flows:
        return conns
    conns.uid[:] = [f"J{k}".encode() for k in range(len(flows))]
    conns.ts[:] = [round(f.begin * NS) for f in flows]
    conns.orig[:] = pack_all(f.orig for f in flows)
    conns.resp[:] = pack_all(f.resp for f in flows)
    conns.orig_p[:] = [f.orig_p for f in flows]
    conns.resp_p[:] = [f.resp_p for f in flows]
    conns.proto[:] = [f.proto for f in flows]
    conns.duration[:] = [max(0.0, f.end - f.begin) for f in flows]
    conns.conn_state[:] = [CONN_STATES.index(_state(f)) for f in flows]
    conns.local_orig[:] = home.local(conns.orig)
    conns.local_resp[:] = home.local(conns.resp)
    head = np.array([_HEADERS.get(f.proto, _PLAIN_HEADER) for f in flows])
    conns.orig_bytes[:], conns.orig_pkts[:] = np.array([f.sent for f in flows]).T
    conns.resp_bytes[:], conns.resp_pkts[:] = np.array([f.got for f in flows]).T
    conns.orig_ip_bytes[:] = conns.orig_bytes + head * conns.orig_pkts
    conns.resp_ip_bytes[:] = conns.resp_bytes + head * conns.resp_pkts
    conns.final[:] = True
    conns.age[:] = conns.duration
    conns.told[:] = conns.ts + np.rint(conns.duration * NS).astype(np.int64)
    return conns

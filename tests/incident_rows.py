"""Hand-made slices with scores, for the tests of incidents and explanations."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from guardian.addresses import Lan, pack
from guardian.alerts import AlertSettings, IncidentTable
from guardian.const import NS
from guardian.devices import Device, DeviceTable
from guardian.evidence import Ruler
from guardian.featurelist import NAMES
from guardian.incidents import IncidentEvent
from guardian.tables import CONN_STATES, Conns, FeatureRows, Scores

CLASSES = ("benign", "scan", "c2", "flood", "brute-force", "download", "other")
START = 1_700_000_000.0
"""Seconds; the tests' clock begins here."""
LINE = 0.8
CAMERA, HUB = "192.168.1.5", "192.168.1.6"
MACS = {CAMERA: "02:00:00:00:00:01", HUB: "02:00:00:00:00:02"}


@dataclass(frozen=True)
class S:
    """A slice and what the models say of it."""

    at: float
    """Seconds after START at which it is told; it began half a second earlier."""
    threat: float = 0.01
    cause: str = "scan"
    anomaly: float = 0.1
    peer: str = "34.1.2.3"
    port: int = 443
    proto: int = 6
    state: str = "SF"
    device: str = CAMERA
    outbound: bool = True
    piece: int = 0
    final: bool = True
    uid: str = ""
    orig_bytes: int = 100
    resp_bytes: int = 200
    orig_pkts: int = 5
    resp_pkts: int = 5
    duration: float = 0.4
    host: str = ""
    age: float = 0.4
    service: str = ""
    refused: bool = False


def device_table(age_s: float = 0.0) -> DeviceTable:
    """Return the home: a camera and a hub, first seen age_s before START."""
    table = DeviceTable(Lan(), names={MACS[CAMERA]: "Hall camera"})
    first = int((START - age_s) * NS)
    table.load(
        Device(0, MACS[ip], MACS[ip], (ip,), "", False, first, int(START * NS))
        for ip in (CAMERA, HUB)
    )
    return table


def usual() -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Return usual ranges: nothing to little of everything."""
    low, middle, high = (np.full(len(NAMES), v, dtype=np.float32) for v in (0.0, 0.3, 1.0))
    return np.stack([low, middle, high])


def ruler(ordinary: float | None = 0.01, anomaly: float | None = 0.1) -> Ruler:
    return Ruler(CLASSES, NAMES, usual(), LINE, 1.0, ordinary, anomaly)


def incident_table(
    *,
    age_s: float = 30 * 86_400.0,
    ordinary: float | None = 0.01,
    anomaly: float | None = 0.1,
    settings: AlertSettings | None = None,
) -> IncidentTable:
    """Return a fresh table for settled devices; plain counters off unless settings say so."""
    settings = settings or AlertSettings(counters=False)
    return IncidentTable(ruler(ordinary, anomaly), device_table(age_s), Lan(), settings)


def tables(rows: Sequence[S], devices: DeviceTable) -> tuple[Conns, FeatureRows, Scores]:
    """Return the tables of slices; each has one row, that of its device."""
    n = len(rows)
    slices = Conns.blank(n)
    scores = Scores.blank(n)
    probability = np.zeros((n, len(CLASSES)), dtype=np.float32)
    device = np.zeros(n, dtype=np.int32)
    x = np.zeros((n, len(NAMES)), dtype=np.float32)
    for k, s in enumerate(rows):
        mine, other = pack(s.device), pack(s.peer)
        slices.uid[k] = (s.uid or f"C{round(s.at * 1000)}-{s.peer}-{s.port}").encode()[:24]
        slices.ts[k] = int((START + s.at - (s.age if s.piece else 0.5)) * NS)
        slices.told[k] = int((START + s.at) * NS)
        slices.orig[k], slices.resp[k] = (mine, other) if s.outbound else (other, mine)
        slices.orig_p[k], slices.resp_p[k], slices.proto[k] = (
            40_000 + round(s.at * 10) % 9_000,
            s.port,
            s.proto,
        )
        slices.conn_state[k] = CONN_STATES.index(s.state)
        slices.piece[k], slices.final[k] = s.piece, s.final
        slices.orig_bytes[k], slices.resp_bytes[k] = s.orig_bytes, s.resp_bytes
        slices.orig_pkts[k], slices.resp_pkts[k] = s.orig_pkts, s.resp_pkts
        slices.duration[k], slices.age[k] = s.duration, s.age
        slices.host[k] = s.host.encode()
        slices.service[k] = s.service.encode()
        slices.refused[k] = s.refused
        slices.local_orig[k] = Lan().local(slices.orig[k : k + 1])[0]
        scores.threat[k], scores.anomaly[k] = s.threat, s.anomaly
        cause = CLASSES.index(s.cause)
        probability[k, 0] = 1.0 - s.threat
        probability[k, cause] += s.threat
        scores.label[k] = probability[k].argmax()
        device[k] = devices.index(MACS[s.device])
        x[k, NAMES.index("minute_peers")] = 3.0 if s.threat > 0.5 else 0.5
    feature_rows = FeatureRows(
        x, device, np.arange(n), np.array([s.outbound for s in rows], dtype=np.bool_)
    )
    error = np.zeros((n, len(NAMES)), dtype=np.float32)
    error[:, NAMES.index("bytes_out")] = 1.0
    return slices, feature_rows, replace(scores, probability=probability, error=error)


def run(
    table: IncidentTable, rows: Sequence[S], *, cuts: Sequence[int] = (), until: float = 0.0
) -> list[IncidentEvent]:
    """Feed slices in steps cut anywhere, then let time pass; return all events."""
    events: list[IncidentEvent] = []
    devices = table._devices
    edges = [0, *sorted(min(c, len(rows)) for c in cuts), len(rows)]
    for start, end in itertools.pairwise(edges):
        part = rows[start:end]
        now = int((START + (part[-1].at if part else 0.0)) * NS)
        events += table.step(*tables(part, devices), now)
    if until:
        events += table.tick(int((START + until) * NS))
    return events


def scan(at: float = 0.0, number: int = 60, *, every: float = 0.2, threat: float = 0.99) -> list[S]:
    """Return a telnet scan of addresses that do not answer."""
    return [
        S(
            at + k * every,
            threat,
            "scan",
            peer=f"203.0.{k // 200}.{k % 200 + 2}",
            port=23,
            state="S0",
            resp_pkts=0,
            resp_bytes=0,
            orig_bytes=0,
            orig_pkts=1,
        )
        for k in range(number)
    ]


def beacon(
    at: float = 0.0, number: int = 30, *, every: float = 60.0, threat: float = 0.95
) -> list[S]:
    """Return calls to one controller."""
    return [
        S(at + k * every, threat, "c2", peer="185.9.9.9", port=4975, host="cnc.example")
        for k in range(number)
    ]


def calm(
    at: float = 0.0, number: int = 100, *, every: float = 5.0, threat: float = 0.02
) -> list[S]:
    """Return ordinary calls to three services."""
    return [S(at + k * every, threat, peer=f"34.1.2.{k % 3 + 1}", port=443) for k in range(number)]


def mixed(*parts: list[S]) -> list[S]:
    """Return slices of several stories in the order in which they are told."""
    return sorted((s for part in parts for s in part), key=lambda s: (s.at, s.peer, s.port))

"""What a person is told about: the incident and its evidence."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["low", "medium", "high"]
Change = Literal["opened", "held", "updated", "escalated", "closed"]


@dataclass(frozen=True)
class DeviceRef:
    """The device an incident is about, as it was known when the incident was told."""

    mac: str
    """aa:bb:cc:dd:ee:ff, empty where no MAC was seen."""
    ip: str
    name: str
    """The user's name, else the learned one, else the address; safe to print."""


@dataclass(frozen=True)
class FeatureEvidence:
    """A feature that weighed much, beside its usual range."""

    name: str
    text: str
    """The feature with its value and its usual range, in a person's words and units."""
    value: float
    usual_low: float
    usual_high: float
    weight: float
    """Share of the evidence, 0 to 1."""


@dataclass(frozen=True)
class Peer:
    """A destination (or source) that took part."""

    ip: str
    port: int
    proto: str
    host: str
    connections: int


@dataclass(frozen=True)
class Example:
    """One connection of the incident, in the fields of conn.log."""

    uid: str
    ts: float
    orig_h: str
    orig_p: int
    resp_h: str
    resp_p: int
    proto: str
    service: str
    conn_state: str
    orig_bytes: int
    resp_bytes: int
    duration: float


@dataclass(frozen=True)
class Incident:
    """One cause on one device, from its first evidence to its end.

    Times are int64 nanoseconds since the epoch; JSON has float seconds.
    """

    id: str
    device: DeviceRef
    opened: int
    updated: int
    closed: int | None
    severity: Severity
    cause: str
    """A stable key: a class of the bundle (scan, c2, flood, brute-force, download, other) or
    `unusual` for the autoencoder."""
    label: str
    """The class the classifier names most, `benign` where only the autoencoder speaks."""
    speaker: Literal["model", "counter"]
    """Who decided; a plain counter is named in the explanation, too."""
    score: float
    """Highest threat (0 to 1), or for `unusual` the highest anomaly (1.0 is the line)."""
    explanation: str
    advice: str
    features: tuple[FeatureEvidence, ...]
    peers: tuple[Peer, ...]
    connections: tuple[Example, ...]
    count: int
    """Slices that carried evidence."""

    def as_json(self) -> dict[str, Any]:
        """Return the object that --json, MQTT and SQLite carry."""
        out = asdict(self)
        for key in ("opened", "updated", "closed"):
            out[key] = None if out[key] is None else out[key] / 1e9
        return out


@dataclass(frozen=True)
class IncidentEvent:
    """A change of an incident; only `opened` and `escalated` notify a person.

    `held` is an opening that nobody is told of, since the alerts of the week are spent.
    """

    change: Change
    incident: Incident
    told: bool = True
    """A person was told of it, now or before: the end of what nobody heard of is no news."""

"""One incident from its opening to its end, and how bad it is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

from guardian import addresses
from guardian.const import MAX_EXAMPLES, MAX_PEERS, NS
from guardian.evidence import Ruler
from guardian.explain import words
from guardian.facts import Facts, Row
from guardian.habits import Habits
from guardian.incidents import DeviceRef, Incident, Peer, Severity
from guardian.suspicion import UNUSUAL

SEVERITIES: tuple[Severity, ...] = ("low", "medium", "high")
FOREVER = 1 << 62

FLOOD_RATE = 50.0
"""Packets a second from which on a flood is one in the plain sense of the word."""


@dataclass(frozen=True)
class LifeSettings:
    """Times of an incident, in seconds."""

    quiet_s: float = 1_800.0
    """Without evidence for so long it is closed; for a slow beacon, four of its gaps."""
    merge_s: float = 6 * 3_600.0
    """What comes back so soon after the end is the same incident."""
    update_s: float = 60.0
    """At most one update in this time."""


@dataclass
class Open:
    """An incident that is open, or was closed so lately that it may go on."""

    device: str
    """Key of the device."""
    ref: DeviceRef
    cause: str
    opened: int
    habits: Habits
    counter: str = ""
    """Sentence of the plain counter that saw it; empty where a model did."""
    facts: Facts = field(default_factory=Facts)
    severity: Severity = "low"
    closed: int | None = None
    announced: bool = False
    held: bool = False
    """Not told when it opened, since the alerts of the week were spent."""
    by_user: bool = False
    """Closed by what the user said: what comes back once that no longer holds is told again."""
    dirty: int = 0
    """Moment of the first evidence not yet told; 0 where there is none."""
    emitted: int = 0
    first: int = 0
    """First and last moment of evidence, ns."""
    last: int = 0
    model_rows: int = 0
    """Rows over the models' line; enough of them make a counter's incident the models'."""
    id: str = ""
    base: Incident | None = None
    """What was stored before a restart."""

    def __post_init__(self) -> None:
        if not self.id:
            text = f"{self.device}|{self.cause}|{self.opened}"
            self.id = hashlib.sha256(text.encode()).hexdigest()[:12]

    def add(self, row: Row) -> None:
        """Take evidence."""
        self.facts.add(row)
        self.first = self.first or row.told
        self.last = max(self.last, row.told)
        self.dirty = self.dirty or row.told

    def targets(self) -> list[tuple[tuple[str, str], int]]:
        """Return ((address, host), port) of all it is about, as far as is known."""
        if self.facts.keys or self.base is None:
            return [
                ((addresses.text(*key[0]), self.facts.host(key)), key[1]) for key in self.facts.keys
            ]
        return [((peer.ip, peer.host), peer.port) for peer in self.base.peers]

    def quiet_ns(self, life: LifeSettings) -> int:
        """Return the span without evidence after which it is over."""
        rows = max(1, self.facts.rows - 1)
        gap = (self.last - self.first) / NS / rows
        return int(min(max(life.quiet_s, 4.0 * gap), max(life.merge_s, life.quiet_s)) * NS)

    def snapshot(self, ruler: Ruler) -> Incident:
        """Return the incident as it is to be told."""
        facts, base = self.facts, self.base
        if base is not None and not facts.rows:
            updated = self.closed or base.updated
            return replace(
                base, device=self.ref, severity=self.severity, closed=self.closed, updated=updated
            )
        speaker = "counter" if self.counter else "model"
        told = words(self.cause, self.ref.name, facts, self.habits, ruler, counter=self.counter)
        common = facts.labels.most_common(1)
        label = "benign" if self.cause == UNUSUAL else common[0][0] if common else self.cause
        incident = Incident(
            id=self.id,
            device=self.ref,
            opened=self.opened,
            updated=self.closed or max(self.last, self.opened),
            closed=self.closed,
            severity=self.severity,
            cause=self.cause,
            label=label,
            speaker=speaker,  # type: ignore[arg-type]
            score=facts.top_score,
            explanation=told.explanation,
            advice=told.advice,
            features=told.features,
            peers=facts.top_peers(),
            connections=tuple(facts.examples),
            count=facts.rows,
        )
        return incident if base is None else _joined(base, incident)


def _joined(base: Incident, new: Incident) -> Incident:
    """Return an incident of before a restart with what came since.

    The words stay those of the part that saw more, since the counts of both cannot be added
    (an address may be in both).
    """
    count = base.count + new.count
    if new.count > base.count:
        best = new
    else:
        best = replace(
            base, device=new.device, updated=max(base.updated, new.updated), closed=new.closed
        )
    peers: dict[tuple[str, int, str], Peer] = {}
    for peer in (*base.peers, *new.peers):
        key = (peer.ip, peer.port, peer.proto)
        known = peers.get(key)
        total = peer.connections + (known.connections if known else 0)
        peers[key] = replace(
            peer, host=peer.host or (known.host if known else ""), connections=total
        )
    order = sorted(peers.values(), key=lambda p: (-p.connections, p.ip, p.port, p.proto))
    examples = {example.uid: example for example in (*base.connections, *new.connections)}
    return replace(
        best,
        opened=base.opened,
        severity=new.severity,
        score=max(base.score, new.score),
        peers=tuple(order[:MAX_PEERS]),
        connections=tuple(examples.values())[:MAX_EXAMPLES],
        count=count,
    )


def restored(incident: Incident, device: str, habits: Habits) -> Open:
    """Return a stored incident as one that goes on; nobody is told again."""
    return Open(
        device=device,
        ref=incident.device,
        cause=incident.cause,
        opened=incident.opened,
        habits=habits,
        counter=_COUNTER_BEFORE if incident.speaker == "counter" else "",
        severity=incident.severity,
        closed=incident.closed,
        announced=True,
        emitted=incident.updated,
        first=incident.updated,
        last=incident.updated,
        id=incident.id,
        base=incident,
    )


_COUNTER_BEFORE = "see the first report."


def severity_of(opened: Open, others: int) -> Severity:
    """Return how bad an incident is.

    A flood at a flood's rate is high at once; other causes rise with their reach, and where
    another attack of the same device is open. What others do to the device counts one step less.
    `unusual` stays low.
    """
    facts, cause = opened.facts, opened.cause
    if cause == UNUSUAL:
        return "low"
    rows, peers = facts.rows, len(facts.peers)
    big = {
        "scan": peers >= 100 or len(facts.ports) >= 100,
        "c2": rows >= 10,
        "flood": facts.rate() >= FLOOD_RATE,
        "brute-force": rows >= 30,
        "download": rows >= 10 or facts.got >= 10_000_000,
    }.get(cause, rows >= 100)
    step = 2 if big or others else 1
    if not facts.outbound:
        step -= 1
    # A restart or a reopening does not make it milder.
    return SEVERITIES[max(step, SEVERITIES.index(opened.severity))]

"""Figures from what was judged: devices found, false incidents a day, and figures by record."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from guardian.const import NS
from guardian.tables import F64, I64, Array, Bool
from trainer import calibrate, metrics
from trainer.labels import CLASSES
from trainer.trial.bench import Opened, Played

FEW = 100
"""Below this many records a figure is told as k of n."""
CONFIDENCE = 0.95
SHARES = (0.1, 0.01, 0.001)
"""False positives at which recall is told."""


@dataclass(frozen=True)
class Case:
    """One played stream with the truth about it."""

    name: str
    groups: frozenset[str]
    """The networks in it: none of them is in the pool that its lines rest on."""
    played: Played
    infected: Mapping[str, int]
    """First malicious moment of each infected device, ns, by its key; empty where benign."""
    malice: I64 | None = None
    """Moments of malicious packets, rising; None where there are only logs."""
    family: str = ""
    """The class that most malicious records have."""
    classes: Mapping[str, str] | None = None
    """Class of each device, by its key."""

    def class_of(self, key: str) -> str:
        return (self.classes or {}).get(key, "thing")


@dataclass(frozen=True)
class Found:
    """An infected device and how it was found, if it was."""

    device: str
    kind: str
    """Its class: thing, computer, phone."""
    seconds: float | None
    """From the first malicious packet to the incident; None where it was not found."""
    packets: int | None
    """Malicious packets until then; None where unknown."""
    connections: int | None
    """Malicious connections begun until then (of a beacon: its beats); None where unknown."""
    cause: str
    speaker: str


def infected_of(played: Played, key: Mapping[int, str]) -> dict[str, int]:
    """Return the first malicious moment of every device that a malicious record counts for."""
    out: dict[str, int] = {}
    bad = played.label > 0
    for device in np.unique(played.device[bad]).tolist():
        out[key[device]] = int(played.ts[bad & (played.device == device)].min())
    return out


def found(case: Case, whose: str, begin: int | None = None) -> list[Found]:
    """Return every infected device of a case with its first incident at or after its first
    malicious packet (or `begin`)."""
    out = []
    for device, first in case.infected.items():
        since = first if begin is None else begin
        mine = [o for o in case.played.opened[whose] if o.device == device and o.at >= since]
        kind = case.class_of(device)
        if not mine:
            out.append(Found(device, kind, None, None, None, "", ""))
            continue
        one = min(mine, key=lambda o: o.at)
        packets = None
        if case.malice is not None:
            packets = int(np.searchsorted(case.malice, one.at, side="right"))
        began = case.played.ts[case.played.label > 0]
        calls = int((began <= one.at).sum()) if len(began) else None
        seconds = (one.at - since) / NS
        out.append(Found(device, kind, seconds, packets, calls, one.cause, one.speaker))
    return out


def false(case: Case, whose: str) -> list[Opened]:
    """Return incidents on devices that are not infected, and those before the infection.

    In a benign capture, one that rests on nothing but connections of which nobody said what they
    are (strangers that knock at a laboratory's public addresses) is neither.
    """
    told = [
        o for o in case.played.opened[whose]
        if o.device not in case.infected or o.at < case.infected[o.device]
    ]  # fmt: skip
    if case.infected:
        return told
    unsaid = {uid.decode() for uid in case.played.uid[case.played.label < 0].tolist()}
    return [o for o in told if not o.uids or not unsaid.issuperset(o.uids)]


def device_days(case: Case) -> dict[str, float]:
    """Return by class of device how many days its benign devices were judged."""
    out: dict[str, float] = {}
    for device, (first, last) in case.played.lives.items():
        until = min(last, case.infected.get(device, last))
        kind = case.class_of(device)
        out[kind] = out.get(kind, 0.0) + max(0, until - first) / NS / 86_400
    return out


def poisson_bound(count: int, confidence: float = CONFIDENCE) -> float:
    """Return the exact upper bound (one-sided) of a Poisson mean of which `count` were seen."""
    low, high = 0.0, count + 10.0 * math.sqrt(count + 1.0) + 10.0
    for _ in range(100):
        middle = (low + high) / 2
        term = total = math.exp(-middle)
        for k in range(1, count + 1):
            term *= middle / k
            total += term
        low, high = (middle, high) if total > 1.0 - confidence else (low, middle)
    return (low + high) / 2


def family_of(label: Array) -> str:
    """Return the class that most malicious records have; empty where there is none."""
    bad = label[label > 0]
    return CLASSES[int(np.bincount(bad).argmax())] if len(bad) else ""


# --- by record ----------------------------------------------------------------------------


class Pool:
    """Benign records of captures other than the one that is judged.

    A capture weighs by the square root of its records: neither one long capture nor one of ten
    records decides where a line lies.
    """

    def __init__(self, parts: Sequence[tuple[Played, Bool]]) -> None:
        """Pool the records of each that are marked. Raises ValueError where there is none."""
        parts = [(played, hit) for played, hit in parts if hit.any()]
        if not parts:
            raise ValueError("no benign records of other captures to draw a line on")
        self.scores = {
            name: np.concatenate([played.scores[name][hit] for played, hit in parts])
            for name in parts[0][0].scores
        }
        sizes = [int(hit.sum()) for _, hit in parts]
        self.weight: F64 = np.concatenate([np.full(n, 1.0 / math.sqrt(n)) for n in sizes])
        self._lines: dict[tuple[str, float], float] = {}

    def line(self, name: str, share: float) -> float:
        """Return the score that at most this share of the benign records reach."""
        key = (name, share)
        if key not in self._lines:
            self._lines[key] = calibrate.threshold(self.scores[name], share, self.weight)
        return self._lines[key]


class Pools:
    """The benign pool of each case: the homes of all other networks."""

    def __init__(self, homes: Sequence[Case]) -> None:
        self._homes = homes
        self._known: dict[frozenset[str], Pool] = {}

    def without(self, groups: frozenset[str]) -> Pool:
        """Return the pool of homes of none of these groups. Raises ValueError where it is empty."""
        # The short set-ups of one home are one capture in it.
        if groups not in self._known:
            by_name: dict[str, list[Case]] = {}
            for case in self._homes:
                if not case.groups & groups:
                    by_name.setdefault(case.name, []).append(case)
            self._known[groups] = Pool([_joined(cases) for cases in by_name.values()])
        return self._known[groups]


def _joined(cases: Sequence[Case]) -> tuple[Played, Bool]:
    """Return several captures of a kind as one, as far as a pool needs it."""
    scores = {
        name: np.concatenate([c.played.scores[name] for c in cases if name in c.played.scores])
        for name in dict.fromkeys(name for c in cases for name in c.played.scores)
    }
    label = np.concatenate([c.played.label for c in cases])
    return replace(cases[0].played, label=label, scores=scores), label == 0


@dataclass(frozen=True)
class Recall:
    """What a scorer is worth on the malicious records of a case."""

    records: int
    auc: float
    precision: float
    """Average precision; the pool as it is, so it depends on how many records there are."""
    found: Mapping[float, int]
    """Records over the line at each of SHARES."""

    def share(self, at: float) -> float:
        return self.found[at] / self.records


def recall(case: Case, name: str, pool: Pool, shares: Sequence[float] = SHARES) -> Recall | None:
    """Return the figures of one scorer; None where no record is malicious."""
    bad = case.played.scores[name][case.played.label > 0]
    if not len(bad):
        return None
    return Recall(
        len(bad),
        metrics.auc(pool.scores[name], bad, pool.weight),
        average_precision(pool.scores[name], bad, pool.weight / pool.weight.mean()),
        {share: metrics.found(bad, pool.line(name, share)) for share in shares},
    )


def average_precision(benign: Array, attacks: Array, weight: Array) -> float:
    """Return the mean precision over recall; equal scores fall together."""
    scores = np.concatenate([attacks, benign])
    positive = np.concatenate([np.ones(len(attacks)), np.zeros(len(benign))])
    negative = np.concatenate([np.zeros(len(attacks)), weight])
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)
    hits, misses = np.cumsum(positive[order])[last], np.cumsum(negative[order])[last]
    gained = np.diff(np.concatenate([[0.0], hits]))
    return float((gained * hits / (hits + misses)).sum() / len(attacks))

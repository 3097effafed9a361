"""How scores become evidence: against the line, the home's ordinary level and the past.

A score counts only where all of these hold:

* it reaches the bundle's line, calibrated on benign captures;
* it reaches the device's own line, which rises with what the device gave in past, calm hours, but
  never so far that a device infected from its first minute could hide behind its own past;
* it stands out from what *this* model answers to ordinary traffic (contrast). The ruler for that
  is the low end of the model's answers to the bundle's golden sequences, or of its answers to the
  home so far. A model whose outputs are constant has no contrast and can never speak.

What counts adds up in a CUSUM: each row over the line adds 1 to 2, each row under it takes up to
1, and the sum decays with time. A stray row is not enough, however sure; three or more in a row
are. Scores are compared as log odds (threat) or in powers of two (anomaly), so that .99 and .999
are as far apart as they are meant to be.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from guardian.bundle import Bundle
from guardian.const import NS
from guardian.prior import Prior
from guardian.tables import F32, Scores, Sequences

LIMIT = 8.0
"""Log odds (or powers of two) are cut here: .9997 is as sure as an int8 model means."""

_BINS = 128
BIN = 2 * LIMIT / _BINS
_HOUR_NS = 3_600 * NS


@dataclass(frozen=True)
class EvidenceSettings:
    """Numbers of the decision; spans in seconds, levels in log odds or powers of two."""

    open_at: float = 6.0
    """Sum at which an incident opens: three very sure rows, or six just over the line."""
    open_rows: int = 3
    """Rows that it takes at least."""
    young_open_at: float = 8.0
    young_open_rows: int = 4
    """The same for a device that is new here."""
    joining_open_at: float = 20.0
    joining_open_rows: int = 12
    joining_s: float = 1_800.0
    """The same so long after a new device asked for its first address: it is being set up, looks
    for its cloud and for others, loads firmware, and resembles an infected one for a while."""
    scan_targets: int = 8
    """Different (peer, port) that make a scan."""
    few_targets_factor: float = 3.0
    """With fewer, what looks like a scan may be a device whose cloud is away: so much more of it
    is asked."""
    flood_packets: int = 100
    """What a flood has sent and got at least. With less it may be a device that knocks at relays of
    its cloud; what is called a flood for its looks alone fits in no sentence."""
    named_share: float = 1.0 / 3.0
    """What a download from a machine that was known by name adds of what one from an address does:
    it may be new firmware, or an app."""
    learning_s: float = 6 * 3_600.0
    """Age at which a device is settled; until then `unusual` is silent."""
    device_half_life_s: float = 600.0
    """Evidence of one cause over all peers of a device halves in this time: a scan or a flood."""
    key_half_life_s: float = 12 * 3_600.0
    """Evidence of one peer and port halves in this time: a beacon may be slow."""
    contrast: float = 2.0
    """Log odds between ordinary traffic and evidence: a factor of seven."""
    unusual_contrast: float = 1.0
    raise_most: float = 1.5
    """A device's past can raise its line by this much, and at most half way to certainty."""
    class_moves_most: float = 1.0
    """The line of a device's class differs from the bundle's by this much at most: any device can
    say that it is a phone."""
    unusual_raise_most: float = 3.0
    unusual_margin: float = 0.5
    """`unusual` must exceed a device's past by this much."""
    unusual_open_at: float = 12.0
    unusual_rows: int = 20
    unusual_span_s: float = 300.0
    """The autoencoder alone is a weak witness: it must insist."""
    past_rows: int = 200
    """Rows of past hours before they say anything."""
    heavy_lower: float = 1.0
    heavy_rows: int = 5
    """A slice of thousands of packets without an answer: its line is lower by so many log odds, and
    it counts as so many rows, since a flood of one connection has a row a minute."""
    bad_lower: float = 1.0
    bad_share: float = 0.5
    """A cause that the user found bad on a device: its line there is the bundle's less so many log
    odds, and this share of the sum (and of the rows, two at least) opens an incident."""

    own_days: bool = True
    """What a device's day may count follows its past days."""
    week_more: float = 0.5
    """In a week whose limit is spent so much more evidence is asked, of the sum and of the rows; in
    a week that is spent in part, in proportion."""

    def adapting(self, adapt: bool) -> EvidenceSettings:
        """Return these with lines and levels that follow a device's past within the usual bounds,
        or that do not at all."""
        usual = EvidenceSettings()
        return replace(
            self,
            raise_most=usual.raise_most if adapt else 0.0,
            unusual_raise_most=usual.unusual_raise_most if adapt else 0.0,
            own_days=adapt,
        )

    def asked(self, *, young: bool, joining: bool) -> Asked:
        """Return what opens an incident of a device that is settled, young or just joining."""
        if joining:
            return Asked(self.joining_open_at, self.joining_open_rows)
        if young:
            return Asked(self.young_open_at, self.young_open_rows)
        return Asked(self.open_at, self.open_rows)


@dataclass(frozen=True)
class Asked:
    """How much evidence opens an incident."""

    level: float
    rows: int

    def part(self, share: float) -> Asked:
        """Return a share of it, two rows at least, or more of it."""
        return self if share == 1.0 else Asked(share * self.level, max(2, round(share * self.rows)))


def log_odds(threat: float) -> float:
    """Return the log odds of a probability, within LIMIT; the lowest for what is no number."""
    if not threat > 0.0:
        return -LIMIT
    if threat >= 1.0:
        return LIMIT
    return max(-LIMIT, min(LIMIT, math.log(threat / (1.0 - threat))))


def doublings(anomaly: float) -> float:
    """Return log2 of an anomaly (the line is 0), within LIMIT; the lowest for no number."""
    if not anomaly > 0.0:
        return -LIMIT
    return max(-LIMIT, min(LIMIT, math.log2(anomaly)))


@dataclass(frozen=True)
class Ruler:
    """What the incidents need to know of a bundle."""

    classes: tuple[str, ...]
    """`benign` first."""
    features: tuple[str, ...]
    usual: F32
    """float32[3, F]: 5, 50 and 95 % quantiles of the raw features in benign traffic."""
    threat_line: float
    anomaly_line: float = 1.0
    ordinary_threat: float | None = None
    ordinary_anomaly: float | None = None
    """What the running models answer to ordinary traffic; None: learned from the home alone."""
    class_lines: Mapping[str, float] = field(default_factory=dict)
    """Threat lines of classes of devices that have their own."""
    prior: Prior | None = None
    """What devices of a class do at most in their first day."""

    @classmethod
    def of(cls, bundle: Bundle, score: Callable[[Sequences], Scores] | None = None) -> Ruler:
        """Return the ruler of a bundle.

        score is the running Scorer's: it is asked what it answers to the bundle's golden
        sequences, of which at least a tenth must be ordinary traffic. Where it is not given, the
        stored outputs serve.
        """
        golden = bundle.golden
        if score is None:
            threat = 1.0 - golden.probability[:, 0]
            anomaly = golden.error / bundle.error_threshold
        else:
            n = len(golden.x)
            blank = Sequences.blank(n)
            scores = score(Sequences(golden.x, golden.length, blank.device, blank.row,
                                     blank.outbound))  # fmt: skip
            threat, anomaly = scores.threat, scores.anomaly
        return cls(
            classes=bundle.classes,
            features=bundle.features,
            usual=bundle.usual,
            threat_line=bundle.threat_threshold,
            class_lines=bundle.class_thresholds,
            prior=bundle.prior,
            anomaly_line=bundle.anomaly_threshold,
            ordinary_threat=_low(threat),
            ordinary_anomaly=_low(anomaly),
        )


def _low(values: F32) -> float | None:
    """Return the low end (a tenth) of some scores."""
    return float(np.quantile(values, 0.1)) if len(values) else None


class Histogram:
    """How often each level was given; forgets slowly."""

    def __init__(self) -> None:
        self.total = 0.0
        self._counts = array("d", bytes(8 * _BINS))

    def add(self, level: float) -> None:
        k = int((level + LIMIT) / BIN)
        self._counts[0 if k < 0 else k if k < _BINS else _BINS - 1] += 1.0
        self.total += 1.0

    def merge(self, other: Histogram, keep: float) -> None:
        """Take over another's counts after fading our own."""
        pairs = zip(self._counts, other._counts, strict=True)
        self._counts = array("d", [keep * a + b for a, b in pairs])
        self.total = sum(self._counts)

    def fade(self, keep: float) -> None:
        self._counts = array("d", [keep * count for count in self._counts])
        self.total *= keep

    def as_json(self) -> list[list[float]]:
        """Return [bin, count] of each bin that was ever met."""
        return [[k, count] for k, count in enumerate(self._counts) if count]

    @classmethod
    def from_json(cls, found: Any) -> Histogram:
        """Return what as_json gave. Raises ValueError or TypeError where it is something else."""
        out = cls()
        for k, count in found:
            if not (0 <= int(k) < _BINS and 0.0 <= float(count) < math.inf):
                raise ValueError(f"no bin of a histogram: {k}, {count}")
            out._counts[int(k)] = float(count)
        out.total = sum(out._counts)
        return out

    def quantile(self, share: float) -> float:
        """Return the upper edge of the bin that holds a quantile."""
        rest = share * self.total
        for k, count in enumerate(self._counts):
            rest -= count
            if rest <= 0.0:
                return _edge(k)
        return LIMIT


def _edge(k: int) -> float:
    return (k + 1) * BIN - LIMIT


class Contrast:
    """The level that the running model gives to ordinary traffic."""

    FEW = 20
    """Rows of the home before it says what is ordinary, where the bundle does not."""
    MANY = 20_000
    """Rows after which the older half counts half."""

    def __init__(self, needed: float, reference: float | None) -> None:
        self._needed = needed
        self._reference = reference
        self._seen = Histogram()

    def add(self, level: float) -> None:
        self._seen.add(level)
        if self._seen.total >= self.MANY:
            self._seen.fade(0.5)

    def stands_out(self, level: float) -> bool:
        """Tell whether a level is far above the ordinary one. Nothing is, while none is known."""
        ordinary = LIMIT if self._reference is None else self._reference
        if level - ordinary >= self._needed:
            return True
        if self._seen.total >= self.FEW:
            ordinary = min(ordinary, self._seen.quantile(0.1))
        return level - ordinary >= self._needed


class Past:
    """The levels of a device's past hours that stayed calm; the current hour never counts."""

    KEEP = 0.99
    """What remains of an hour's weight after the next: about four days."""

    def __init__(self) -> None:
        self._past = Histogram()
        self._hour = Histogram()
        self._number = -1
        self._tainted = False
        self._high: float | None = None

    def add(self, level: float, told: int, tainted: bool) -> None:
        """Take a row; an hour in which an incident was open teaches nothing."""
        number = told // _HOUR_NS
        if number != self._number:
            if self._number >= 0 and not self._tainted:
                self._past.merge(self._hour, self.KEEP)
                self._high = None
            self._number, self._hour, self._tainted = number, Histogram(), False
        self._hour.add(level)
        self._tainted |= tainted

    def as_json(self) -> dict[str, Any]:
        """Return all of it, the running hour too, so that a restart changes nothing."""
        return {
            "past": self._past.as_json(),
            "hour": self._hour.as_json(),
            "number": self._number,
            "tainted": self._tainted,
        }

    @classmethod
    def from_json(cls, found: Any) -> Past:
        """Return what as_json gave. Raises KeyError, ValueError or TypeError."""
        out = cls()
        out._past, out._hour = (Histogram.from_json(found[key]) for key in ("past", "hour"))
        out._number, out._tainted = int(found["number"]), bool(found["tainted"])
        return out

    def high(self, rows: int) -> float | None:
        """Return the 99 % quantile of the past, None while it has too few rows."""
        if self._past.total < rows:
            return None
        if self._high is None:
            self._high = self._past.quantile(0.99)
        return self._high


@dataclass
class Sum:
    """A CUSUM that decays; `mass` says which causes fed it."""

    value: float = 0.0
    at: int = 0
    rows: int = 0
    since: int = 0
    """When it last rose from zero."""
    mass: dict[str, float] = field(default_factory=dict)

    def fall(self, at: int, by: float, half_life_s: float) -> None:
        """Let time pass, then take something away."""
        if self.value <= 0.0:
            return
        self.value *= 0.5 ** (max(0, at - self.at) / NS / half_life_s)
        self.value -= by
        self.at = max(self.at, at)
        if self.value <= 0.01:
            self.reset()

    def rise(self, at: int, by: float, half_life_s: float, cause: str, rows: int = 1) -> None:
        """Let time pass, then add evidence."""
        self.fall(at, 0.0, half_life_s)
        if self.rows == 0:
            self.since = at
        self.value += by
        self.at = max(self.at, at)
        self.rows += rows
        self.mass[cause] = self.mass.get(cause, 0.0) + by

    def reset(self) -> None:
        self.value, self.rows, self.mass = 0.0, 0, {}

    def cause(self) -> str:
        """Return the cause that fed it most; the first by name among equals."""
        return max(sorted(self.mass), key=lambda name: self.mass[name])


def step_up(level: float, line: float) -> float:
    """Return what a row at or over the line adds: 1 to 2."""
    return 1.0 + min(1.0, (level - line) / 2.0)


def step_down(level: float, line: float) -> float:
    """Return what a row under the line takes: 0 to 1."""
    return min(1.0, max(0.0, (line - level) / 2.0))


def own_line(line: float, high: float | None, raise_most: float) -> float:
    """Return a device's line: raised by its past, at most half way to certainty."""
    if high is None or high <= line:
        return line
    return line + min(high - line, raise_most, 0.5 * max(0.0, LIMIT - 2.0 - line))


def class_line(line: float, own: float, moves_most: float) -> float:
    """Return the line of a class of devices: its own, within bounds of the bundle's."""
    return max(line - moves_most, min(line + moves_most, own))


def device_line(line: float, base: float, high: float | None, raise_most: float) -> float:
    """Return the line of a device whose class has the line `base`: its past raises it no further
    above the bundle's `line` than that of any other device."""
    return own_line(base, high, min(raise_most, max(0.0, line + raise_most - base)))

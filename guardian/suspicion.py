"""The evidence against one device that is not yet an incident."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from guardian.const import MAX_KEYS_PER_DEVICE, MAX_PENDING, NS
from guardian.evidence import Asked, EvidenceSettings, Past, Sum, step_down, step_up
from guardian.facts import Key, Row

UNUSUAL = "unusual"
SCAN, FLOOD = "scan", "flood"
ROUNDING = 0.05
"""A sum is held to the tenth against what is asked: three very sure rows are six, whatever the
seconds between them took off."""


def _pending() -> deque[Row]:
    return deque(maxlen=MAX_PENDING)


@dataclass
class _Case:
    """A sum and the rows that fed it since it rose from zero."""

    sum: Sum = field(default_factory=Sum)
    rows: deque[Row] = field(default_factory=_pending)
    packets: int = 0
    """Of all rows, also of those that no longer stand in `rows`."""

    def rise(self, row: Row, by: float, half_life_s: float, weight: int = 1) -> None:
        self.sum.fall(row.told, 0.0, half_life_s)
        if self.sum.rows == 0:
            self._begin()
        self.sum.rise(row.told, by, half_life_s, row.label, weight)
        self.rows.append(row)
        self.packets += row.orig_pkts + row.resp_pkts

    def reset(self) -> None:
        self.sum.reset()
        self._begin()

    def _begin(self) -> None:
        self.rows.clear()
        self.packets = 0


@dataclass(frozen=True)
class Opening:
    """Evidence that suffices for an incident."""

    cause: str
    rows: list[Row]


class Suspicion:
    """Sums by cause over the whole device, by key over all causes, and one for `unusual`."""

    def __init__(self, settings: EvidenceSettings) -> None:
        self._settings = settings
        self._causes: dict[str, _Case] = {}
        self._keys: OrderedDict[Key, _Case] = OrderedDict()
        self._unusual = _Case()
        self.threat_past = Past()
        self.anomaly_past = Past()

    def over(
        self, row: Row, line: float, asked: Asked, weight: int = 1, share: float = 1.0
    ) -> Opening | None:
        """Take a row at or over the line; return what it completes, given what is asked.

        The row counts as `weight` rows, but `share` of what they add. It speaks a little against
        the other causes: what flickers between two labels is mostly one thing.
        """
        s = self._settings
        up = share * weight * step_up(row.level, line)
        self.against_others(row)
        whole = self._causes.setdefault(row.label, _Case())
        whole.rise(row, up, s.device_half_life_s, weight)
        one = self._keys.pop(row.key, None) or _Case()
        self._keys[row.key] = one
        if len(self._keys) > MAX_KEYS_PER_DEVICE:
            self._keys.popitem(last=False)
        one.rise(row, up, s.key_half_life_s, weight)
        for case, cause in ((whole, row.label), (one, one.sum.cause())):
            if self._enough(case, cause, asked):
                rows = list(case.rows)
                whole.reset()
                self._keys.pop(row.key, None)
                return Opening(cause, rows)
        return None

    def against_others(self, row: Row) -> None:
        """Let a row of one cause speak against the others, also where it joins an incident."""
        for cause, case in self._causes.items():
            if cause != row.label:
                case.sum.fall(row.told, 0.5, self._settings.device_half_life_s)

    def _enough(self, case: _Case, cause: str, asked: Asked) -> bool:
        s = self._settings
        if case.sum.value < asked.level - ROUNDING or case.sum.rows < asked.rows:
            return False
        if cause == FLOOD:
            return case.packets >= s.flood_packets
        if case.sum.value >= s.few_targets_factor * asked.level:
            return True
        return cause != SCAN or len({row.key for row in case.rows}) >= s.scan_targets

    def weight(self, row: Row) -> float:
        """Return the largest sum that a row over the line is part of."""
        parts = (self._causes.get(row.label), self._keys.get(row.key))
        return max((case.sum.value for case in parts if case is not None), default=0.0)

    def under(self, key: Key, level: float, line: float, told: int) -> None:
        """Take a row under the line: it speaks for the device and for its key."""
        if not self._causes and not self._keys:
            return
        s = self._settings
        by = step_down(level, line)
        for cause, case in list(self._causes.items()):
            case.sum.fall(told, by, s.device_half_life_s)
            if case.sum.value <= 0.0:
                del self._causes[cause]
        case_ = self._keys.get(key)
        if case_ is not None:
            case_.sum.fall(told, by, s.key_half_life_s)
            if case_.sum.value <= 0.0:
                del self._keys[key]

    def forget(self, cause: str) -> None:
        """Drop what has added up for a cause, when its incident opened or was explained."""
        self._causes.pop(cause, None)
        for key in [k for k, case in self._keys.items() if case.sum.cause() == cause]:
            del self._keys[key]

    def succeed(self, before: Suspicion) -> None:
        """Go on from what added up under other models of the same classes.

        What is unusual was so beside a past that the models before had seen; it begins anew.
        """
        self._causes, self._keys = before._causes, before._keys

    def odd(self, row: Row, line: float) -> Opening | None:
        """Take a row that only the autoencoder finds odd."""
        s = self._settings
        case = self._unusual
        case.rise(row, 0.5 * step_up(row.level, line), s.device_half_life_s)
        long_enough = row.told - case.sum.since >= s.unusual_span_s * NS
        if case.sum.value >= s.unusual_open_at and case.sum.rows >= s.unusual_rows and long_enough:
            rows = list(case.rows)
            case.reset()
            return Opening(UNUSUAL, rows)
        return None

    def ordinary(self, told: int) -> None:
        """Take a row that the autoencoder finds ordinary."""
        self._unusual.sum.fall(told, 0.5, self._settings.device_half_life_s)

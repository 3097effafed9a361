"""Lines through scores: from which score on a row is told as an attack.

Every line is drawn on validation rows alone. A row is flagged where its score is above the line.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from guardian.errors import ConfigError
from guardian.tables import F64, Array

FEWEST = 50
"""Benign rows under which a group has no line of its own: it takes the global one."""
SHRINK = 200.0
"""Benign rows at which a group's own line and the global one count the same."""
TAIL = 0.1
"""Share of the benign scores that is taken for the tail of extreme values."""
FEWEST_TAIL = 20
"""Scores in the tail under which no distribution is fitted."""

Method = Callable[[F64, F64], float]
"""(benign scores, attack scores) -> the line; the attacks may be empty."""


@dataclass(frozen=True)
class Line:
    """A threshold, for all rows and for groups of their own."""

    method: str
    scope: str
    """"global", or what the groups are ("device", "protocol")."""
    value: float
    """The global line."""
    groups: dict[int, float]
    """Lines of groups that have enough benign rows; others take the global one."""

    def of(self, group: Array) -> F64:
        """Return float64[n]: the line of each row's group."""
        if not self.groups:
            return np.full(len(group), self.value)
        known = np.array(sorted(self.groups))
        place = np.minimum(np.searchsorted(known, group), len(known) - 1)
        values = np.array([self.groups[k] for k in known.tolist()])
        return np.where(known[place] == group, values[place], self.value)

    def flagged(self, scores: Array, group: Array) -> Array:
        """Return bool[n]: which scores are above their line."""
        return np.asarray(scores > self.of(group))


# --- methods ----------------------------------------------------------------------------


def mean_sigma(k: float) -> Method:
    """The benign mean plus k standard deviations."""
    return lambda benign, _: float(benign.mean() + k * benign.std())


def percentile(share: float) -> Method:
    """The line that a share of the benign scores (0 to 1) may be above."""
    return lambda benign, _: float(np.quantile(benign, 1.0 - share, method="higher"))


def best_gmean(benign: F64, attacks: F64) -> float:
    """The line with the best geometric mean of detection and of spared benign rows."""
    if not len(attacks):
        return math.nan
    lines, hits, false = _every_line(benign, attacks)
    return float(lines[np.argmax(hits * (1.0 - false))])


def best_f1(benign: F64, attacks: F64) -> float:
    """The line with the best F1 of "attack"."""
    if not len(attacks):
        return math.nan
    lines, hits, false = _every_line(benign, attacks)
    found = hits * len(attacks)
    return float(lines[np.argmax(2 * found / (found + false * len(benign) + len(attacks)))])


def extreme(rate: float) -> Method:
    """The line that a share `rate` of future benign scores will exceed, by extreme values.

    Peaks over the 90th percentile follow a generalised Pareto distribution (Pickands, Balkema
    and de Haan); its shape and scale come from probability-weighted moments (Hosking and Wallis
    1987). So the line may lie beyond every score seen. With a short tail it is the percentile.
    """

    def line(benign: F64, _: F64) -> float:
        share = max(TAIL, min(1.0, 2 * rate))
        begin = float(np.quantile(benign, 1.0 - share))
        peaks = np.sort(benign[benign > begin] - begin)
        if len(peaks) < FEWEST_TAIL or rate >= len(peaks) / len(benign):
            return percentile(rate)(benign, _)
        shape, scale = _pareto(peaks)
        seen = len(peaks) / len(benign)
        if abs(shape) < 1e-9:
            return begin + scale * math.log(seen / rate)
        return float(begin + scale / shape * ((seen / rate) ** shape - 1.0))

    return line


def _pareto(peaks: F64) -> tuple[float, float]:
    """Return shape and scale of a generalised Pareto distribution from sorted peaks above 0."""
    n = len(peaks)
    first = float(peaks.mean())
    second = float((peaks * (n - np.arange(1, n + 1))).sum() / (n * (n - 1)))
    spread = max(first - 2 * second, first / 7)  # equal peaks have none
    k = first / spread - 2  # Hosking's sign: the shape is its negative
    # A shape of 1 and more has no mean; so heavy a tail is a sample's accident.
    k = max(k, -0.9)
    return -k, first * (1 + k)


def _every_line(benign: F64, attacks: F64) -> tuple[F64, F64, F64]:
    """Return lines midway between neighbouring scores, the detection above each, and the false
    positives above each.
    """
    values = np.unique(np.concatenate([benign, attacks]))
    lines = np.concatenate(
        [[np.nextafter(values[0], -np.inf)], (values[:-1] + values[1:]) / 2, values[-1:]]
    )
    # A midpoint of two neighbours in floating point may be the upper one.
    lines[1:-1] = np.minimum(lines[1:-1], np.nextafter(values[1:], -np.inf))
    hits = 1.0 - np.searchsorted(np.sort(attacks), lines, side="right") / len(attacks)
    false = 1.0 - np.searchsorted(np.sort(benign), lines, side="right") / max(len(benign), 1)
    return lines, hits, false


METHODS: dict[str, Method] = {
    "mean + 2 sigma": mean_sigma(2),
    "mean + 3 sigma": mean_sigma(3),
    "10 % false positives": percentile(0.1),
    "5 % false positives": percentile(0.05),
    "1 % false positives": percentile(0.01),
    "0.1 % false positives": percentile(0.001),
    "best geometric mean": best_gmean,
    "best F1": best_f1,
    "extreme values, 1 in 1,000": extreme(1e-3),
    "extreme values, 1 in 10,000": extreme(1e-4),
}
NEED_ATTACKS = ("best geometric mean", "best F1")
"""Methods that need attacks on validation; the others draw their line from benign rows alone."""


def draw(
    method: str,
    scores: Array,
    attack: Array,
    group: Array | None = None,
    *,
    scope: str = "global",
    fewest: int = FEWEST,
    shrink: float = SHRINK,
) -> Line:
    """Return a line drawn on validation rows.

    `scores` float[n], finite; `attack` bool[n]; `group` int[n] for lines by group. A group with
    fewer than `fewest` benign rows takes the global line; a larger one's own is drawn toward the
    global by shrink / (shrink + its benign rows). Raises ConfigError for an unknown method, where
    there is no benign row, and where the method needs attacks and there are none.
    """
    if method not in METHODS:
        raise ConfigError(f"there is no threshold {method!r}: choose one of {', '.join(METHODS)}")
    scores, attack = np.asarray(scores, np.float64), np.asarray(attack, np.bool_)
    if attack.all():
        raise ConfigError("a threshold needs benign rows for validation: there are none")
    if not np.isfinite(scores).all():
        raise ConfigError("a threshold needs finite scores: the model gives some that are not")
    compute = METHODS[method]
    value = compute(scores[~attack], scores[attack])
    if math.isnan(value):
        raise ConfigError(f"{method} needs attacks for validation, there are none: choose another")
    line = Line(method, scope, value, {})
    if group is None:
        return line
    own: dict[int, float] = {}
    for number in np.unique(group).tolist():
        rows = group == number
        benign = scores[rows & ~attack]
        if len(benign) < fewest:
            continue
        found = compute(benign, scores[rows & attack])
        if math.isfinite(found):
            share = len(benign) / (len(benign) + shrink)
            own[int(number)] = share * found + (1.0 - share) * value
    return replace(line, groups=own)


def judged(line: Line, scores: Array, attack: Array, group: Array) -> dict[str, Any]:
    """Return detection and false positives of a line on some rows; None where there are none."""
    flagged = line.flagged(scores, group)
    hits, false = flagged[attack], flagged[~attack]
    return {
        "detection": float(hits.mean()) if len(hits) else None,
        "false_positives": float(false.mean()) if len(false) else None,
        "precision": float(hits.sum() / flagged.sum()) if flagged.any() else None,
    }


@dataclass(frozen=True)
class Scored:
    """Rows with their scores."""

    score: F64
    attack: Array
    """bool[n]"""
    groups: dict[str, Array]
    """int[n] by what they are: {"device": ..., "protocol": ...}; may be empty."""


def table(valid: Scored, test: Scored) -> list[dict[str, Any]]:
    """Return one row for each method and scope: the line, drawn on `valid`, and what it detects
    and wrongly flags there and on `test`. Methods that need attacks are left out without them,
    scopes where no row of `test` is in a group that has a line of its own.
    """
    out = []
    for scope in ("global", *valid.groups):
        group = valid.groups.get(scope)
        for method in METHODS:
            if method in NEED_ATTACKS and not valid.attack.any():
                continue
            line = draw(method, valid.score, valid.attack, group, scope=scope)
            if group is not None and not np.isin(test.groups[scope], [*line.groups]).any():
                continue  # no row that is judged has a line of its own: the same as global
            row: dict[str, Any] = {"method": method, "scope": scope, "threshold": line.value}
            row["own_lines"] = len(line.groups)
            for name, rows in (("valid", valid), ("test", test)):
                of = rows.groups.get(scope, np.zeros(len(rows.score), np.int64))
                row[name] = judged(line, rows.score, rows.attack, of)
            out.append(row)
    return out


def markdown(rows: list[dict[str, Any]]) -> str:
    """Return the table as a person chooses from it: the false positives that a line promised on
    validation, and what it came to on the test rows.
    """
    text = [
        "| threshold by | scope | line | promised | detection | false positives | precision |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        cells = [
            "" if row["test"][key] is None else f"{row['test'][key]:.2%}"
            for key in ("detection", "false_positives", "precision")
        ]
        scope = row["scope"]
        if row["own_lines"]:
            scope = f"{scope} ({row['own_lines']} lines of their own)"
        text.append(
            f"| {row['method']} | {scope} | {row['threshold']:.4g} | "
            f"{row['valid']['false_positives']:.2%} | {' | '.join(cells)} |"
        )
    return "\n".join(text) + "\n"

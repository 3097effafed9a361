"""Where a device's normal ends, and how far beyond it an incident went.

All numbers are those of the decision: the features that the models saw in the rows that made the
incident, beside the same features of the device's own calm rows, or of the bundle's benign ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from guardian.const import CAP_WINDOW_COUNT
from guardian.evidence import Ruler
from guardian.facts import Facts
from guardian.featurelist import UNITS, describe, natural
from guardian.habits import Habits
from guardian.phrases import counted, rate
from guardian.tables import F32

TELLING_SHARE = 0.05
"""By so much a share must exceed the normal to be an argument: 100 % beside 99 % is none."""


@dataclass(frozen=True)
class _End:
    """How a feature's normal end, and what was seen beyond it, are said."""

    name: str
    normal: str
    seen: str


_ENDS: dict[str, tuple[_End, ...]] = {
    "scan": (
        _End("minute_new_peers", "{} new destinations a minute", "it called {} in one"),
        _End("minute_peers", "{} destinations a minute", "it called {} in one"),
        _End("minute_ports", "{} ports a minute", "it tried {} in one"),
    ),
    "c2": (
        _End("pair_regular", "calls {} regular (100 % is clockwork)", "these are {}"),
        _End(
            "pair_equal", "{} of the calls to a destination of exactly one size", "here it was {}"
        ),
        _End("pair_count", "{} calls to one destination and port", "it made {}"),
    ),
    "flood": (_End("packet_rate", "sending {}", "it sent {}"),),
    "brute-force": (
        _End("minute_conns", "{} connections a minute", "it had {} in one"),
        _End("long_conns", "{} connections in ten minutes", "it had {}"),
    ),
    "download": (
        _End("bytes_in", "{} received in one go", "it received {}"),
        _End("minute_bytes_in", "{} received a minute", "it received {} in one"),
    ),
    "other": (
        _End("minute_conns", "{} connections a minute", "it had {} in one"),
        _End("minute_peers", "{} destinations a minute", "it called {} in one"),
    ),
}
"""What the models counted, by cause; the first one that was exceeded is told."""


def normal(cause: str, facts: Facts, habits: Habits, ruler: Ruler, own: F32 | None) -> str:
    """Return where normal ends and how far beyond it the device went.

    The end is the 95 % point of the device's own calm rows, else of the bundle's benign ones; what
    was seen is the highest value of the same feature in the rows that made the incident. What lies
    within the normal is no argument, and then nothing is said.
    """
    if not facts.outbound or facts.peak is None:
        return ""
    who = "devices in quiet homes" if own is None else "this device"
    parts = [_hourly(facts, habits)] if cause == "scan" else []
    for end in _ENDS.get(cause, ()):
        if end.name not in ruler.features:
            continue
        k = ruler.features.index(end.name)
        high, seen = float((ruler.usual if own is None else own)[2, k]), float(facts.peak[k])
        said = _beyond(end, high, seen, facts, full=_full(end, facts, ruler))
        if said:
            also = own is not None and any(parts)
            parts.append(f"Also: {said}." if also else f"Normal for {who}: {said}.")
            break
    return " ".join(p for p in parts if p)


def _full(end: _End, facts: Facts, ruler: Ruler) -> bool:
    """Tell whether a count is of a window that holds no more connections: then it is a least."""
    of = f"{end.name.partition('_')[0]}_conns"
    if of not in ruler.features or facts.peak is None:
        return False
    return round(natural(of, float(facts.peak[ruler.features.index(of)]))) >= CAP_WINDOW_COUNT


def _beyond(end: _End, high: float, seen: float, facts: Facts, *, full: bool) -> str:
    """Return both values in words; empty where what was seen is within the normal."""
    name = end.name
    if not (math.isfinite(high) and math.isfinite(seen)):
        return ""
    if name == "packet_rate":
        limit, sent = natural(name, high), facts.rate()
        usual, reached = f"up to {rate(limit)}", rate(sent)
        beyond = sent > limit
    elif UNITS[name] == "count":
        # Normal ends at the last whole number that lies within it.
        last = math.floor(natural(name, high) + 1e-3)
        usual, reached = (f"below {last + 1}" if last else "no"), describe(name, seen)
        beyond = round(natural(name, seen)) > last
        if name == "pair_count":  # what the models see of it is capped
            reached = counted(facts, max(round(natural(name, seen)), *facts.keys.values()))
        elif full and not reached.endswith("more"):
            reached += " or more"
    else:
        usual, reached = f"up to {describe(name, high)}", describe(name, seen)
        least = TELLING_SHARE if UNITS[name] == "share" else 0.0
        beyond = seen > high + least and describe(name, high) != reached
    if not beyond:
        return ""
    return f"{end.normal.format(usual)}; {end.seen.format(reached)}"


def _hourly(facts: Facts, habits: Habits) -> str:
    """Return how many destinations the device has in an hour, where it had more in less."""
    usual, most = habits.peers_an_hour(), habits.most_peers_an_hour()
    called = len(facts.peers)
    if usual is None or most is None or facts.span > 3_600.0 or called <= most:
        return ""
    return (
        f"Normal for this device: below {most + 1} destinations an hour ({usual} as a rule); "
        f"it called {counted(facts, called)}."
    )

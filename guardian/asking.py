"""Which incidents to ask a person about: those whose answer would teach most."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

from guardian.discovery import DRILL_MAC
from guardian.evidence import EvidenceSettings, doublings, log_odds

MOST = 3
"""Questions at once: more are not answered."""


def to_ask(
    incidents: list[dict[str, Any]], lines: dict[str, float], most: int = MOST
) -> list[dict[str, Any]]:
    """Return the incidents without an answer whose answer would teach most, at most `most`.

    The rule: doubt times novelty times how often it came. Doubt is 1 / (1 + over), where `over` is
    how far the highest score lies above the line of the bundle that judged (log odds / 2, as
    evidence counts it; for `unusual` doublings / 2) and how often its slices are twice the rows
    that open an incident. So what was just enough comes first: there the answer moves the line.
    Novelty is 1 / (1 + answers on this device and cause) times 1 / (1 + half the answers on this
    cause). An answer holds for all of its device and cause: as long as there is none, each of its
    incidents counts as often as they came. Each choice counts as answered for the next, so three
    questions are about three things. Equals: the latest first.
    Plain counters and fire drills are not asked about: no line of a model decided them.

    `incidents` are rows of the table, `lines` the threat lines by digest of the bundle; an
    incident of a bundle that is not known counts from even odds.
    """
    answered = [i for i in incidents if i["feedback"]]
    pairs = Counter((i["device"], i["cause"]) for i in answered)
    causes = Counter(i["cause"] for i in answered)
    left = [
        i for i in incidents
        if not i["feedback"] and i["speaker"] != "counter" and i["mac"] != DRILL_MAC
    ]  # fmt: skip
    came = Counter((i["device"], i["cause"]) for i in left)
    out: list[dict[str, Any]] = []

    def worth(i: dict[str, Any]) -> tuple[float, int, str]:
        known = pairs[i["device"], i["cause"]], causes[i["cause"]]
        novelty = 1.0 / ((1.0 + known[0]) * (1.0 + 0.5 * known[1]))
        if not known[0]:
            novelty *= came[i["device"], i["cause"]]
        return novelty / (1.0 + over(i, lines)), i["updated"], i["id"]

    while left and len(out) < most:
        best = max(left, key=worth)
        left.remove(best)
        out.append(best)
        pairs[best["device"], best["cause"]] += 1
        causes[best["cause"]] += 1
    return out


def over(incident: dict[str, Any], lines: dict[str, float]) -> float:
    """Return by how much an incident exceeded what opens one, 0 for just so."""
    evidence = EvidenceSettings()
    if incident["cause"] == "unusual":
        level, rows = doublings(incident["score"]), evidence.unusual_rows
    else:
        level = log_odds(incident["score"]) - log_odds(lines.get(incident["bundle"], 0.5))
        rows = evidence.open_rows
    return max(0.0, level) / 2.0 + math.log2(max(1.0, incident["count"] / rows))


def line_of(manifest: str) -> float:
    """Return the threat line of a bundle's manifest; even odds where it says none."""
    try:
        found = float(json.loads(manifest)["thresholds"]["threat"])
    except (ValueError, KeyError, TypeError):
        return 0.5
    return found if 0.0 < found < 1.0 else 0.5

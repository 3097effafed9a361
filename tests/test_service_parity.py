"""The service column beside Zeek's, the floor of it. docs/parity.md names what differs and why."""

from __future__ import annotations

from pathlib import Path

from tests.test_parity import agrees
from tests.zeekpairs import matched, ours, pairs

EQUAL = 0.985
"""Share of equal services that plain captures must reach."""


def test_services_of_plain_captures(data: Path) -> None:
    seen, other = 0, []
    for pair in pairs(data / "zeek-parity"):
        if pair.category != "plain" or pair.tier == "bare":
            continue  # bare: Zeek ran without the scripts that name services
        for theirs, mine in matched(pair.rows, ours(pair)):
            if mine is None or "service" not in theirs:
                continue
            seen += 1
            if not agrees("service", theirs, mine):
                other.append((pair.name, theirs["service"], mine["service"]))
    assert seen >= 130
    assert len(other) <= (1 - EQUAL) * seen, other


def test_services_of_cut_logs(data: Path) -> None:
    """Each service that Zeek's tests kept, in as many connections as we have."""
    seen, other = 0, []
    for pair in pairs(data / "zeek-parity-partial", "conn.cut.tsv"):
        if pair.name.startswith("core.tunnels"):
            continue  # tunnels have a test of their own
        mine = [frozenset(row["service"].split(",")) for row in ours(pair)]
        for theirs in pair.rows:
            if "service" not in theirs:
                continue
            seen += 1
            if frozenset(theirs["service"].split(",")) not in mine:
                other.append((pair.name, theirs["service"], mine))
    assert seen >= 30
    assert not other

"""nDPI as a second reference: its own results for 60 captures beside our records.

Flows are compared by their ends, protocols by their master name (`TLS` of `TLS.Amazon`) where nDPI
saw it in the bytes and we have a name for it. docs/parity.md tells what differs and why.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from guardian.const import HOST_BYTES
from tests.ndpipairs import SERVICES, by_key, records, theirs

AGREED = 0.93
"""Share of the flows that nDPI and we can name, in which we name what it names."""
HOSTS = 0.95
"""Share of the hosts it tells that we tell."""
ASKED_FOR = {"DNS", "MDNS", "HTTP", "TLS", "QUIC"}
"""Where it tells the host that was asked for; elsewhere it is a device's own name, a program's."""


def test_flows_and_protocols(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    captures = sorted((data / "protocol-pcaps" / "ndpi").glob("*.out"))
    assert len(captures) == 60
    equal, flows = 0, 0
    named: dict[str, Counter[str]] = {}
    hosts: Counter[str] = Counter()
    odd = []
    for out in captures:
        services, names, tunneled = by_key(records(out.with_suffix("")))
        expected = {flow.key: flow for flow in theirs(out)}
        missing = expected.keys() - services.keys()
        more = services.keys() - expected.keys() - tunneled
        flows += len(expected)
        equal += not missing and not more
        if missing or more:
            odd.append((out.stem, missing, more))
        for key, flow in expected.items():
            if flow.by_bytes and key in services:
                kind = _judged(flow.name, services[key])
                named.setdefault(flow.name, Counter())[kind] += 1
            if flow.host and flow.name in ASKED_FOR and key in names:
                hosts[_told(flow.host, names[key])] += 1
    total = sum(named.values(), Counter())
    with capsys.disabled():
        print(f"\nnDPI: {equal} of {len(captures)} captures with the same flows, {flows} flows")
        print(f"  {'protocol':16} {'agreed':>6} {'silent':>6} {'other':>6} {'no name':>7}")
        for name, count in sorted(named.items(), key=lambda item: -item[1].total()):
            print(f"  {name:16} {count['agreed']:6} {count['silent']:6} {count['other']:6} "
                  f"{count['no name']:7}")  # fmt: skip
        print(f"  in all {dict(total)}; hosts {dict(hosts)}")
    assert not odd
    assert total["other"] == 0
    assert total["agreed"] >= AGREED * (total["agreed"] + total["silent"])
    assert hosts["told"] >= HOSTS * hosts.total()


def _judged(name: str, found: set[str]) -> str:
    if name not in SERVICES:
        return "no name"
    if found & set(SERVICES[name].split(",")):
        return "agreed"
    return "silent" if found == {""} else "other"


def _told(host: str, found: set[str]) -> str:
    """HOST_BYTES of a name are kept; nDPI tells the last of several names, we the first."""
    if host[:HOST_BYTES] in found:
        return "told"
    return "silent" if found == {""} else "another"

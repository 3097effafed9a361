"""What ARP gives away: sweeps and taken addresses, and what only looks like them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from guardian import bundle
from guardian.addresses import Lan, pack
from guardian.arpwatch import CLAIM_S, CLAIMS, SWEEP_ADDRESSES, SWEEP_ASKS, ArpWatch, Finding
from guardian.capture import read_frames
from guardian.const import MAX_ARP_MACHINES, MAX_ARPS_PER_STEP, NS
from guardian.devices import DeviceTable
from guardian.incidents import IncidentEvent
from guardian.pipeline import Pipeline
from guardian.simulate import SCENARIOS, simulate
from guardian.tables import Arps
from tests.conftest import ROOT

OWN, OTHER, ROUTER = 0x020000000001, 0x020000000002, 0x020000000003
ASK, ANSWER = 1, 2


def arps(rows: Iterable[tuple[float, int, int, str, str]]) -> Arps:
    """Return ARP packets of (second, operation, MAC, sender, target)."""
    ts, op, mac, src, dst = zip(*rows, strict=True)
    return Arps(
        ts=(np.array(ts) * NS).astype(np.int64),
        op=np.array(op, dtype=np.uint16),
        src_mac=np.array(mac, dtype=np.uint64),
        src=np.array([pack(a) for a in src], dtype=np.uint64),
        dst=np.array([pack(a) for a in dst], dtype=np.uint64),
    )


def asks(count: int, machines: int, gap: float = 0.1) -> Arps:
    return arps(
        (10 + k * gap, ASK, OWN, "192.168.1.5", f"192.168.1.{10 + k % machines}")
        for k in range(count)
    )


def test_a_sweep_is_told_at_its_limit_and_again_each_minute() -> None:
    found = ArpWatch().step(asks(SWEEP_ASKS + 700, 200))
    assert [(f.cause, f.mac) for f in found] == [("scan", OWN)] * 2
    assert found[0].told == int((10 + (SWEEP_ASKS - 1) * 0.1) * NS)
    assert f"asked {SWEEP_ASKS:,} times" in found[0].sentence
    assert "200 addresses" in found[0].sentence


@pytest.mark.parametrize(
    "quiet",
    [
        asks(SWEEP_ASKS - 1, 200),  # a voice assistant asks for each address once a day
        asks(3_000, SWEEP_ADDRESSES - 1),  # a device that looks for some that are gone
        asks(2_000, 200, gap=20.0),  # 180 in an hour
    ],
    ids=["once", "few", "slow"],
)
def test_what_stays_below_the_limits_is_no_sweep(quiet: Arps) -> None:
    assert ArpWatch().step(quiet) == []


def test_asking_for_machines_that_are_there_is_no_sweep() -> None:
    known = arps(
        (0.01 * k, ANSWER, OTHER + k, f"192.168.1.{10 + k}", "192.168.1.5") for k in range(200)
    )
    watch = ArpWatch()
    assert watch.step(known) == []
    assert watch.step(asks(2_000, 200)) == []


def contest(turns: int) -> Arps:
    """The router's address, claimed by another machine after each time that the router speaks."""
    rows = [(0.0, ANSWER, ROUTER, "192.168.1.1", "192.168.1.9")]
    for k in range(turns):
        rows.append((10.0 + 20 * k, ANSWER, OWN, "192.168.1.1", "192.168.1.9"))
        rows.append((20.0 + 20 * k, ANSWER, ROUTER, "192.168.1.1", "192.168.1.9"))
    return arps(rows)


def test_an_address_that_two_claim_in_turn_was_taken_by_the_later_one() -> None:
    # The first claim counts only once the owner has spoken for the address again.
    found = ArpWatch().step(contest(CLAIMS + 1))
    assert [(f.cause, f.mac, f.targets) for f in found] == [("other", OWN, (pack("192.168.1.1"),))]
    assert ArpWatch().step(contest(CLAIMS)) == []


def test_a_lease_that_moves_and_an_owner_long_silent_are_no_theft() -> None:
    moved = [(float(k), ANSWER, OTHER if k < 5 else OWN, "192.168.1.7", "192.168.1.1")
             for k in range(60)]  # fmt: skip
    assert ArpWatch().step(arps(moved)) == []
    turns = [(k * (CLAIM_S + 1.0), ANSWER, (OWN, OTHER)[k % 2], "192.168.1.7", "192.168.1.1")
             for k in range(20)]  # fmt: skip
    assert ArpWatch().step(arps(turns)) == []


def test_how_the_input_is_cut_changes_nothing() -> None:
    whole = Arps.concat([asks(900, 200), contest(12)])
    whole = whole.take(np.argsort(whole.ts, kind="stable"))
    expected = ArpWatch().step(whole)
    rng = np.random.default_rng(1)
    for _ in range(10):
        cuts = [0, *sorted(rng.integers(0, len(whole), 6).tolist()), len(whole)]
        watch, found = ArpWatch(), list[Finding]()
        for a, b in itertools.pairwise(cuts):
            found += watch.step(whole.take(slice(a, b)))
        assert found == expected


def test_invented_machines_and_floods_fill_no_memory() -> None:
    watch = ArpWatch()
    flood = arps(
        (k * 1e-4, ASK, k + 1, "192.168.1.5", f"10.0.{k >> 8 & 255}.{k & 255}")
        for k in range(MAX_ARPS_PER_STEP + 500)
    )
    watch.step(flood)
    assert watch.unseen == 500
    assert len(watch._askers) == MAX_ARP_MACHINES


@pytest.mark.parametrize(("kind", "cause"), [("arp-sweep", "scan"), ("arp-spoof", "other")])
def test_a_simulated_home_is_told_of_it_however_it_is_cut(
    kind: str, cause: str, tmp_path: Path
) -> None:
    path = tmp_path / "home.pcap"
    given = {"arp-sweep": (("rate", 20.0), ("rounds", 2.0), ("pause", 30.0)),
             "arp-spoof": (("every", 3.0), ("seconds", 900.0))}[kind]  # fmt: skip
    simulate(SCENARIOS[kind](hours=0.6, at_hours=0.1, params=given), path)
    found = []
    for size in (1 << 16, 700):
        home = Lan(())
        pipeline = Pipeline(bundle.load(ROOT / "models" / "default"), home, DeviceTable(home))
        events = list[IncidentEvent]()
        for frames in read_frames(path, size):
            events += pipeline.step(frames).events
        events += pipeline.finish().events
        found.append([(e.change, e.incident.id, e.incident.updated) for e in events])
        opened = [e.incident for e in events if e.change == "opened"]
        assert [one.cause for one in opened] == [cause]
        assert "by ARP" in opened[0].explanation
        assert opened[0].device.ip not in ("", "192.168.1.1")
        assert {peer.proto for peer in opened[0].peers} == {"arp"}
    assert found[0] == found[1]

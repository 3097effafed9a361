"""Ten thousand mutated packets: no exception, no growth, records that hold together."""

from __future__ import annotations

import random

from tests import fuzz


def test_ten_thousand_mutated_packets() -> None:
    """Real packets where there are captures, else simulated ones."""
    count = fuzz.fuzz(fuzz.packets(), 10_000, seed=7)
    assert count.mutated >= 10_000
    assert count.rows > 5_000
    assert count.records > 1_000
    assert count.malformed > 0


def test_simulated_packets_serve_where_there_are_no_captures() -> None:
    samples = fuzz.simulated()
    assert sum(len(sample) for _, sample in samples) > 1_000
    count = fuzz.fuzz(samples, 1_000, seed=8)
    assert count.records > 100


def test_mutations_change_packets() -> None:
    """Most mutations give other bytes, none grows without end, and a seed gives the same ones."""
    packet, other = bytes(range(100)), b"\xee" * 300
    ways = [fuzz.mutate(random.Random(n), packet, other) for n in range(500)]
    assert sum(way != packet for way in ways) > 450
    assert max(map(len, ways)) <= fuzz.MAX_BYTES
    assert len(set(ways)) > 300
    assert ways == [fuzz.mutate(random.Random(n), packet, other) for n in range(500)]

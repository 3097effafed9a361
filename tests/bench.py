"""`make bench`: what each stage costs on a simulated home, beside other readers in the same run.

Prints Markdown for docs/BENCHMARKS.md. Times are CPU seconds of one core, which neighbours on the
machine disturb less than the clock on the wall; the best of three runs counts, for noise only
ever adds. Ratios carry from machine to machine; absolute figures do not.
"""

from __future__ import annotations

import os
import platform
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from guardian import bundle as bundles
from guardian import capture, decode
from guardian.addresses import Lan
from guardian.conns import ConnTable
from guardian.devices import DeviceTable
from guardian.features import FeatureExtractor
from guardian.pipeline import Pipeline
from guardian.scoring import Scorer
from guardian.sequences import SequenceTable
from guardian.simulate import SCENARIOS, simulate
from guardian.tables import Conns, FeatureRows, Sequences
from tests import bench_memory, bench_peers, wire
from tests.conftest import ROOT

RUNS = 3
ROWS = 4096
BULK_PACKETS, BULK_BYTES, BULK_FLOWS = 40_000, 1_000, 8
"""A download: that many packets with that much payload, over that many connections."""


def best(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the least CPU seconds of RUNS runs, and the last result."""
    times, result = [], None
    for _ in range(RUNS):
        begun = time.process_time()
        result = work()
        times.append(time.process_time() - begun)
    return min(times), result


class Bench:
    """The stages over one capture, each on what the one before gave."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lan = Lan()
        self.bundle = bundles.load(bundles.default_path())
        self.read_s, frames = best(lambda: list(capture.read_frames(path)))
        self.packets = sum(map(len, frames))
        self.decode_s, self.decoded = best(lambda: [decode.decode(f) for f in frames])
        self.conns_s, told = best(self._connect)
        self.records = sum(len(t.records) for t in told)
        self.slices = Conns.concat([t.slices for t in told])
        devices = DeviceTable(self.lan)
        for d in self.decoded:
            devices.step(d)
        sides = devices.sides(self.slices)
        self.features_s, self.rows = best(
            lambda: FeatureExtractor(self.lan).step(self.slices, *sides)
        )
        self.sequences_s, sequences = best(self._sequence)
        scorer = Scorer(self.bundle)
        self.score_s, _ = best(lambda: [scorer.score(s) for s in sequences])
        self.whole_s, _ = best(self._whole)
        parts = (self.read_s, self.decode_s, self.conns_s, self.features_s)
        self.rest_s = self.whole_s - sum(parts) - self.sequences_s - self.score_s

    def _connect(self) -> list[Any]:
        table = ConnTable(self.lan)
        return [*(table.step(d) for d in self.decoded), table.finish()]

    def _sequence(self) -> list[Sequences]:
        table = SequenceTable(self.bundle.window, len(self.bundle.features))
        cuts = range(0, len(self.rows), ROWS)
        return [table.step(FeatureRows.take(self.rows, slice(k, k + ROWS))) for k in cuts]

    def _whole(self) -> None:
        pipeline = Pipeline(self.bundle, self.lan, DeviceTable(self.lan))
        for frames in capture.read_frames(self.path):
            pipeline.step(frames)
        pipeline.finish()

    def print_stages(self, least: int = 1000) -> None:
        """Print a line a stage; one that had fewer units than `least` says nothing of its cost."""
        table("stage", "unit", "us a unit", "units a second", "share")
        n, m = self.packets, len(self.rows)
        for stage, unit, seconds, units in (
            ("read pcap", "packet", self.read_s, n),
            ("decode, checksums verified", "packet", self.decode_s, n),
            ("connections", "packet", self.conns_s, n),
            ("features", "slice row", self.features_s, m),
            ("sequences", "sequence", self.sequences_s, m),
            ("scoring, both models", "sequence", self.score_s, m),
            ("devices, verdicts, incidents (the rest)", "sequence", self.rest_s, m),
            ("whole pipeline", "packet", self.whole_s, n),
        ):
            if units < least:
                continue
            share = seconds / self.whole_s
            cost, rate = seconds / units * 1e6, units / max(seconds, 1e-9)
            row(stage, unit, f"{cost:.2f}", f"{rate:,.0f}", f"{share:.0%}")


def table(*heads: str) -> None:
    """Print the head of a Markdown table whose columns after the second are numbers."""
    row(*heads)
    row(*("---" if k < 2 else "---:" for k in range(len(heads))))


def row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |")


def write_bulk(path: Path) -> None:
    """Write a download: full packets one way, an acknowledgement for every second one."""
    rng = np.random.default_rng(4)
    payload = rng.integers(0, 256, BULK_BYTES, np.uint8).tobytes()
    with path.open("wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1))
        for i in range(BULK_PACKETS):
            flow, step = i % BULK_FLOWS, i // BULK_FLOWS
            port = 50_000 + flow
            seq = 1 + (step - step // 3) * BULK_BYTES
            if step % 3 < 2:
                body = wire.tcp(payload, wire.B4, wire.A4, sport=443, dport=port, seq=seq, ack=1)
                frame = wire.ether(wire.ip4(body, 6, wire.B4, wire.A4))
            else:
                body = wire.tcp(sport=port, dport=443, flags=0x10, seq=1, ack=seq)
                frame = wire.ether(wire.ip4(body, 6))
            out.write(struct.pack("<IIII", 1_700_000_000 + i // 10_000, i % 10_000 * 100,
                                  len(frame), len(frame)) + frame)  # fmt: skip


def print_peers(bench: Bench) -> None:
    """Print the way from file to connection records, beside other readers of the same file."""
    ours = bench.read_s + bench.decode_s + bench.conns_s
    scapy = bench_peers.scapy(bench.path)
    memory = bench_memory.peaks(bench.path)
    table("reader", "what it makes", "packets a CPU second", "x scapy", "peak MB")
    row("scapy", "dissected packets, no connections", f"{scapy:,.0f}", "1", "")
    peer = bench_peers.nfstream(bench.path, RUNS)
    if peer is not None:
        rate = peer.packets / peer.seconds
        row(peer.name, f"{peer.flows:,} flows", f"{rate:,.0f}", f"{rate / scapy:,.0f}",
            f"{peer.peak_mb:.0f}")  # fmt: skip
    for name, makes, seconds, stage in (
        ("guardian, to connections", f"{bench.records:,} records", ours, "connections"),
        ("guardian, whole pipeline", "records, scores, incidents", bench.whole_s, "whole"),
    ):
        rate = bench.packets / seconds
        row(name, makes, f"{rate:,.0f}", f"{rate / scapy:,.0f}", f"{memory[stage]:.0f}")
    print("\nHighest resident memory, a file streamed up to a stage (MB):\n")
    table("up to", "", "peak MB", "added")
    before = 0.0
    for stage, peak in memory.items():
        row(stage, "", f"{peak:.0f}", f"{peak - before:+.0f}")
        before = peak


def print_idle() -> None:
    """Print what an idle daemon holds; it needs root, for a network of its own."""
    if os.geteuid() != 0:
        print("\n`guardian run` idle: not measured, it needs root")
        return
    base = ROOT / ".venv" / "bin" / "python"
    idle = bench_memory.idle_daemon(str(base) if base.exists() else sys.executable)
    print(
        f"\n`guardian run` idle for {bench_memory.IDLE_S:.0f} s: resident {idle.resident:.1f} MB, "
        f"of which the ring is {idle.ring:.1f} MB, so {idle.resident - idle.ring:.1f} MB besides "
        f"it; at its highest {idle.peak:.1f} MB; {idle.cpu_share:.2%} of a core"
    )


def main() -> None:
    load = os.getloadavg()[0]
    print(
        f"{platform.machine()}, {os.cpu_count()} cores (load {load:.1f}), Python "
        f"{platform.python_version()}, numpy {np.__version__}\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "home.pcap"
        simulate(SCENARIOS["infected"](hours=7.0), path)
        home = Bench(path)
        print(f"Simulated `infected`, 7 h: {home.packets:,} packets, "
              f"{path.stat().st_size / 1e6:.0f} MB, {home.records:,} connections, "
              f"{len(home.slices):,} slices, {len(home.rows):,} sequences\n")  # fmt: skip
        home.print_stages()
        print()
        print_peers(home)
        bulk_path = Path(folder) / "bulk.pcap"
        write_bulk(bulk_path)
        bulk = Bench(bulk_path)
        print(f"\nA download: {bulk.packets:,} packets, {bulk_path.stat().st_size / 1e6:.0f} MB, "
              f"{bulk.records} connections\n")  # fmt: skip
        bulk.print_stages()
        print(f"\n{bulk_path.stat().st_size * 8 / bulk.whole_s / 1e6:,.0f} Mbit in a CPU second")
    print_idle()


if __name__ == "__main__":
    main()

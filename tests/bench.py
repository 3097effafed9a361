"""`make bench`: what each stage costs on a simulated home, beside other readers in the same run.

Prints Markdown for docs/BENCHMARKS.md. Times are CPU seconds of one core, which neighbours on the
machine disturb less than the clock on the wall; of three runs the cheapest counts, for noise only
ever adds, and its stages are timed within it, so that they add up. Ratios carry
from machine to machine; absolute figures do not.
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
from guardian import capture
from guardian.addresses import Lan
from guardian.devices import DeviceTable
from guardian.pipeline import Pipeline
from guardian.simulate import SCENARIOS, simulate
from tests import bench_memory, bench_peers, wire
from tests.conftest import ROOT

RUNS = 3
STAGES_UNITS = {
    "read pcap": "packet",
    "decode, checksums verified": "packet",
    "connections": "packet",
    "devices": "packet",
    "features": "slice",
    "sequences": "sequence",
    "scoring, both models": "sequence",
    "verdicts": "slice",
    "incidents": "sequence",
}
STAGES = tuple(STAGES_UNITS)
NOT_OURS = {"pip", "setuptools", "pkg_resources", "_distutils_hack"}
BULK_PACKETS, BULK_BYTES, BULK_FLOWS = 40_000, 1_000, 8
"""A download: that many packets with that much payload, over that many connections."""


class Clock:
    """CPU seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)

    def timed(self, stage: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return work, its time added to a stage."""

        def timed(*given: Any, **named: Any) -> Any:
            begun = time.process_time()
            try:
                return work(*given, **named)
            finally:
                self.seconds[stage] += time.process_time() - begun

        return timed

    def watch(self, stage: str, owner: Any, *names: str) -> None:
        """Time some methods of one object."""
        for name in names:
            setattr(owner, name, self.timed(stage, getattr(owner, name)))


class Run:
    """One run of the whole pipeline over a capture, with a clock on each stage."""

    def __init__(self, path: Path, loaded: bundles.Bundle) -> None:
        clock = Clock()
        begun = time.process_time()
        lan = Lan()
        pipeline = Pipeline(loaded, lan, DeviceTable(lan))
        self.start_s = time.process_time() - begun
        clock.watch("decode, checksums verified", pipeline._decoder, "decode")
        clock.watch("connections", pipeline.conns, "step", "finish")
        clock.watch("devices", pipeline.devices, "step", "sides")
        clock.watch("features", pipeline.features, "step")
        clock.watch("sequences", pipeline._sequences, "step")
        clock.watch("scoring, both models", pipeline._scorer, "score")
        clock.watch("verdicts", pipeline._verdicts, "add", "take")
        clock.watch("incidents", pipeline.incidents, "step", "tick", "finish")
        frames = capture.read_frames(path)
        following = clock.timed("read pcap", lambda: next(frames, None))
        begun = time.process_time()
        while (batch := following()) is not None:
            pipeline.step(batch)
        pipeline.finish()
        self.whole_s = time.process_time() - begun
        self.seconds = clock.seconds
        self.counts = pipeline.counts

    @property
    def to_connections_s(self) -> float:
        return sum(self.seconds[stage] for stage in STAGES[:3])

    def print_stages(self, least: int = 1000) -> None:
        """Print a line a stage; one that had fewer units than `least` says nothing of its cost."""
        table("stage", "unit", "us a unit", "units a second", "share")
        counts = self.counts
        units = {"packet": counts.packets, "slice": counts.slices, "sequence": counts.sequences}
        rest = self.whole_s - sum(self.seconds.values())
        lines = {**self.seconds, "in between": rest, "whole": self.whole_s}
        for stage, seconds in lines.items():
            unit = STAGES_UNITS.get(stage, "packet")
            if units[unit] < least:
                continue
            cost, rate = seconds / units[unit] * 1e6, units[unit] / max(seconds, 1e-9)
            row(stage, unit, f"{cost:.2f}", f"{rate:,.0f}", f"{seconds / self.whole_s:.0%}")


def best(path: Path) -> Run:
    """Return the run that needed least."""
    loaded = bundles.load(bundles.default_path())
    return min((Run(path, loaded) for _ in range(RUNS)), key=lambda run: run.whole_s)


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


def print_peers(run: Run, path: Path) -> None:
    """Print the way from file to connection records, beside other readers of the same file."""
    scapy = bench_peers.scapy(path)
    memory = bench_memory.peaks(path)
    table("reader", "what it makes", "packets a CPU second", "x scapy", "peak MB")
    row("scapy", "dissected packets, no connections", f"{scapy:,.0f}", "1", "")
    peer = bench_peers.nfstream(path, RUNS)
    if peer is not None:
        rate = peer.packets / peer.seconds
        row(peer.name, f"{peer.flows:,} flows", f"{rate:,.0f}", f"{rate / scapy:,.0f}",
            f"{peer.peak_mb:.0f}")  # fmt: skip
    for name, makes, seconds, stage in (
        (
            "guardian, to connections",
            f"{run.counts.connections:,} records",
            run.to_connections_s,
            "connections",
        ),
        ("guardian, whole pipeline", "records, scores, incidents", run.whole_s, "whole"),
    ):
        rate = run.counts.packets / seconds
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


def print_size() -> None:
    """Print what the base install takes on disk, without pip and compiled caches."""
    found = sorted((ROOT / ".venv").glob("lib/python3*/site-packages"))
    if not found:
        return
    sizes: dict[str, float] = {}
    for path in found[0].rglob("*"):
        first = path.relative_to(found[0]).parts[0]
        if path.is_file() and "__pycache__" not in path.parts and first not in NOT_OURS:
            name = first.partition(".")[0]  # numpy and numpy.libs are one
            sizes[name] = sizes.get(name, 0.0) + path.stat().st_size / 1e6
    heavy = sorted(sizes.items(), key=lambda item: -item[1])[:6]
    own = sum(
        f.stat().st_size
        for d in ("guardian", "models")
        for f in (ROOT / d).rglob("*")
        if f.is_file() and "__pycache__" not in f.parts
    )
    print(
        f"\nThe base install on disk: {sum(sizes.values()):.0f} MB, "
        f"{', '.join(f'{name} {size:.0f}' for name, size in heavy)}; "
        f"guardian itself {own / 1e6:.1f} with its models"
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
        home = best(path)
        counts = home.counts
        print(
            f"Simulated `infected`, 7 h: {counts.packets:,} packets, "
            f"{path.stat().st_size / 1e6:.0f} MB, {counts.connections:,} connections, "
            f"{counts.slices:,} slices, {counts.sequences:,} sequences; "
            f"{home.start_s:.2f} s to start\n"
        )
        home.print_stages()
        print()
        print_peers(home, path)
        bulk_path = Path(folder) / "bulk.pcap"
        write_bulk(bulk_path)
        bulk = best(bulk_path)
        print(
            f"\nA download: {bulk.counts.packets:,} packets, "
            f"{bulk_path.stat().st_size / 1e6:.0f} MB, {bulk.counts.connections} connections\n"
        )
        bulk.print_stages()
        print(f"\n{bulk_path.stat().st_size * 8 / bulk.whole_s / 1e6:,.0f} Mbit in a CPU second")
    print_idle()
    print_size()


if __name__ == "__main__":
    main()

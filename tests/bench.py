"""`make bench`: what each stage costs on a simulated home, beside scapy in the same run.

Prints a Markdown table for docs/BENCHMARKS.md. Ratios carry from machine to machine; absolute
figures do not. The best of three runs counts: noise only ever adds.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
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

RUNS = 3
SCAPY_PACKETS = 20_000


def best(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the shortest of RUNS wall times in seconds, and the last result."""
    times, result = [], None
    for _ in range(RUNS):
        begun = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - begun)
    return min(times), result


def scapy_rate(path: Path) -> float:
    """Return packets a second that scapy dissects."""
    from scapy.utils import PcapReader  # noqa: PLC0415

    begun = time.perf_counter()
    count = 0
    with PcapReader(str(path)) as reader:
        for packet in reader:
            packet.summary()
            count += 1
            if count == SCAPY_PACKETS:
                break
    return count / (time.perf_counter() - begun)


def resident(program: str) -> float:
    """Return MB resident of a fresh interpreter after it ran a program."""
    end = "\nprint(int(open('/proc/self/statm').read().split()[1]) * 4096 / 1e6)"
    done = subprocess.run(
        [sys.executable, "-c", program + end], capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


IDLE = """
from guardian import bundle, config, daemon
from guardian.runtime import load_bundle, open_pipeline
from guardian.tables import Frames
import numpy as np, time
settings = config.Settings()
pipeline = open_pipeline(settings, load_bundle(settings))
z = np.zeros(0, np.int64)
for k in range(3):
    pipeline.step(Frames(np.zeros(0, np.uint8), z, z, z, z, 1, z.astype(bool), time.time_ns()))
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "home.pcap"
        summary = simulate(SCENARIOS["infected"](hours=7.0), path)
        n = summary.packets
        print(f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}; ")
        print(f"{n:,} packets, {path.stat().st_size / 1e6:.0f} MB, simulated `infected`, 7 h\n")
        scapy = scapy_rate(path)
        lan = Lan()

        read_s, frames = best(lambda: list(capture.read_frames(path)))
        decode_s, decoded = best(lambda: [decode.decode(f) for f in frames])

        def connect() -> tuple[list[Conns], list[Conns]]:
            table = ConnTable(lan)
            told = [table.step(d) for d in decoded]
            told.append(table.finish())
            return [t.records for t in told], [t.slices for t in told]

        conns_s, (records, pieces) = best(connect)
        devices = DeviceTable(lan)
        for d in decoded:
            devices.step(d)
        slices = Conns.concat(pieces)
        sides = devices.sides(slices)
        bundle = bundles.load(bundles.default_path())
        features_s, rows = best(lambda: FeatureExtractor(lan).step(slices, *sides))

        def sequence() -> list[Sequences]:
            table = SequenceTable(bundle.window, len(bundle.features))
            return [
                table.step(FeatureRows.take(rows, slice(k, k + 4096)))
                for k in range(0, len(rows), 4096)
            ]

        sequences_s, sequences = best(sequence)
        scorer = Scorer(bundle)
        score_s, _ = best(lambda: [scorer.score(s) for s in sequences])

        def whole() -> Pipeline:
            pipeline = Pipeline(bundle, lan, DeviceTable(lan))
            for f in capture.read_frames(path):
                pipeline.step(f)
            pipeline.finish()
            return pipeline

        whole_s, _ = best(whole)

        print("| stage | unit | us a unit | units a second | packets a second | x scapy |")
        print("|---|---|---:|---:|---:|---:|")
        total = sum(len(r) for r in records)
        for stage, unit, seconds, units in (
            ("read pcap", "packet", read_s, n),
            ("decode, checksums verified", "packet", decode_s, n),
            ("connections", "packet", conns_s, n),
            ("features", "slice row", features_s, len(rows)),
            ("sequences", "sequence", sequences_s, len(rows)),
            ("scoring, both models", "sequence", score_s, len(rows)),
            ("whole pipeline", "packet", whole_s, n),
        ):
            print(
                f"| {stage} | {unit} | {seconds / units * 1e6:.2f} | {units / seconds:,.0f} | "
                f"{n / seconds:,.0f} | {n / seconds / scapy:,.0f} |"
            )
        print(
            f"| scapy dissection | packet | {1e6 / scapy:.2f} | {scapy:,.0f} | {scapy:,.0f} | 1 |"
        )
        print(f"\n{total:,} records, {len(slices):,} slices, {len(rows):,} sequences;")
        per = (whole_s - read_s - decode_s) / max(total, 1) * 1e6
        print(f"{per:.0f} us a connection from connections to incidents.")
        print(f"resident, pipeline loaded and idle, without the ring: {resident(IDLE):.1f} MB")
        print(f"resident, numpy alone: {resident('import numpy'):.1f} MB")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(f"peak of this benchmark: {peak:.0f} MB; cores: {os.cpu_count()}")


if __name__ == "__main__":
    main()

"""Resident memory: of the pipeline up to a stage, and of `guardian run` idle; for tests.bench.

`python -m tests.bench_memory STAGE FILE.pcap` streams the file as the daemon streams the ring, up
to and with a stage, and prints the process's highest resident memory in MB.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.namespaces import hosts, join

ROOT = Path(__file__).resolve().parent.parent  # conftest would bring pytest, and its memory
ROWS = 4096
STAGES = ("numpy", "read", "decode", "connections", "features", "scores", "whole")
IDLE_S = 20.0
"""Seconds an idle daemon runs before it is looked at: several ticks, status lines and commits."""


def status_mb(key: str, pid: str = "self") -> float:
    """Return VmRSS or VmHWM of a process in MB (1e6 bytes)."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise KeyError(key)


def stream(stage: str, path: Path) -> None:
    """Run the pipeline over a file up to a stage."""
    wanted = STAGES.index(stage)
    import numpy  # noqa: F401, PLC0415 - each stage adds to the one before

    if stage == "numpy":
        return
    from guardian import bundle, capture, decode  # noqa: PLC0415
    from guardian.addresses import Lan  # noqa: PLC0415
    from guardian.conns import ConnTable  # noqa: PLC0415
    from guardian.devices import DeviceTable  # noqa: PLC0415
    from guardian.features import FeatureExtractor  # noqa: PLC0415
    from guardian.pipeline import Pipeline  # noqa: PLC0415
    from guardian.scoring import Scorer  # noqa: PLC0415
    from guardian.sequences import SequenceTable  # noqa: PLC0415

    loaded = bundle.load(bundle.default_path())
    lan = Lan()
    devices = DeviceTable(lan)
    if stage == "whole":
        pipeline = Pipeline(loaded, lan, devices)
        for frames in capture.read_frames(path):
            pipeline.step(frames)
        pipeline.finish()
        return
    table, features = ConnTable(lan), FeatureExtractor(lan)
    sequences = SequenceTable(loaded.window, len(loaded.features))
    scorer = Scorer(loaded) if stage == "scores" else None
    for frames in capture.read_frames(path):
        if wanted < STAGES.index("decode"):
            continue
        decoded = decode.decode(frames)
        if wanted < STAGES.index("connections"):
            continue
        devices.step(decoded)
        slices = table.step(decoded).slices
        if wanted < STAGES.index("features"):
            continue
        for k in range(0, len(slices), ROWS):
            piece = slices.take(slice(k, k + ROWS))
            found = sequences.step(features.step(piece, *devices.sides(piece)))
            if scorer is not None:
                scorer.score(found)


def peaks(path: Path) -> dict[str, float]:
    """Return the highest resident memory by stage in MB, each of a process of its own."""
    found = {}
    for stage in STAGES:
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench_memory", stage, str(path)],
            capture_output=True, text=True, check=True, cwd=ROOT,
        )  # fmt: skip
        found[stage] = float(done.stdout)
    return found


@dataclass(frozen=True)
class Idle:
    """A daemon that watches an interface on which little happens; all in MB (1e6 bytes)."""

    resident: float
    """VmRSS, the ring's pages with it where the kernel counts them."""
    ring: float
    """What of it is the ring."""
    peak: float
    cpu_share: float
    """CPU seconds by seconds, after the start."""


def idle_daemon(python: str) -> Idle:
    """Run `guardian run` in a network namespace of its own; needs root."""
    with hosts("gateway", "device") as (gateway, device), tempfile.TemporaryDirectory() as folder:
        join(gateway, "lan0", device, "eth0")
        gateway.ip("addr", "add", "192.168.50.1/24", "dev", "lan0")
        device.ip("addr", "add", "192.168.50.20/24", "dev", "eth0")
        config = Path(folder) / "guardian.toml"
        config.write_text(
            f'[capture]\ninterface = "lan0"\n[store]\npath = "{folder}/guardian.db"\n',
            encoding="utf-8",
        )
        daemon = gateway.start(
            python, "-m", "guardian.cli", "run", "-c", str(config),
            cwd=ROOT, text=True, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert daemon.stderr is not None
        if not any("watching lan0" in line for line in daemon.stderr):
            raise RuntimeError("guardian run did not start")
        begun = cpu_s(daemon.pid)
        time.sleep(IDLE_S)
        pid = str(daemon.pid)
        return Idle(
            resident=status_mb("VmRSS", pid),
            ring=ring_mb(pid),
            peak=status_mb("VmHWM", pid),
            cpu_share=(cpu_s(daemon.pid) - begun) / IDLE_S,
        )


def ring_mb(pid: str) -> float:
    """Return how much of the packet ring counts as the process's own resident memory."""
    total, inside = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8").splitlines():
        key, _, rest = line.partition(" ")
        if not key.endswith(":"):
            inside = "socket:[" in rest
        elif inside and key == "Rss:":
            total += int(rest.split()[0]) * 1024
    return total / 1e6


def cpu_s(pid: int) -> float:
    """Return the CPU seconds a process used; its clock ticks are 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


if __name__ == "__main__":
    stream(sys.argv[1], Path(sys.argv[2]))
    print(f"{status_mb('VmHWM'):.1f}")

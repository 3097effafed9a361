"""The same capture by scapy and, where `.venv-peer` holds it, by nfstream; used by tests.bench."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

PEER = ROOT / ".venv-peer" / "bin" / "python"
SCAPY_PACKETS = 20_000

NFSTREAM = """
import json, resource, sys
from importlib.metadata import version
from nfstream import NFStreamer

def used():
    each = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    # ru_maxrss of a process itself remembers the one that started it; VmHWM does not.
    own = next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM"))
    return sum(r.ru_utime + r.ru_stime for r in each), (own + each[1].ru_maxrss) * 1.024e-3

if __name__ == "__main__":
    begun, packets, flows = used()[0], 0, 0
    for flow in NFStreamer(source=sys.argv[1], n_dissections=0, n_meters=1):
        flows += 1
        packets += flow.bidirectional_packets
    seconds, peak = used()
    print(json.dumps({"version": version("nfstream"), "seconds": seconds - begun,
                      "packets": packets, "flows": flows, "peak_mb": peak}))
"""


@dataclass(frozen=True)
class Peer:
    """What another reader of the same file needed."""

    name: str
    seconds: float
    """CPU seconds of all its processes."""
    packets: int
    flows: int
    peak_mb: float
    """Resident memory at its highest: the first process's and the largest worker's, added."""


def scapy(path: Path) -> float:
    """Return packets that scapy dissects in a second of CPU."""
    from scapy.utils import PcapReader  # noqa: PLC0415 - half a second and 50 MB

    begun = time.process_time()
    count = 0
    with PcapReader(str(path)) as reader:
        for packet in reader:
            packet.summary()
            count += 1
            if count == SCAPY_PACKETS:
                break
    return count / (time.process_time() - begun)


def nfstream(path: Path, runs: int) -> Peer | None:
    """Return the cheapest run of nfstream without deep inspection; None where it is missing."""
    if not PEER.exists():
        return None
    found = []
    for _ in range(runs):
        done = subprocess.run(
            [str(PEER), "-c", NFSTREAM, str(path)], capture_output=True, text=True, check=True
        )
        found.append(json.loads(done.stdout.splitlines()[-1]))
    one = min(found, key=lambda run: float(run["seconds"]))
    name = f"nfstream {one['version']}"
    return Peer(name, one["seconds"], one["packets"], one["flows"], one["peak_mb"])

"""The same capture by other readers, each in a process of its own; used by tests.bench*.

scapy comes with the base install. nfstream lives in `.venv-peer` (`make bench` makes it), argus and
nfpcapd are Debian's argus-server and nfdump; what is missing is left out.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # conftest would bring pytest, and its memory
PEER = ROOT / ".venv-peer" / "bin" / "python"
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
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
    """As it counts them; 0 where it does not say."""
    flows: int
    """Records that it makes."""
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


def nfstream(path: Path, runs: int = 1) -> Peer | None:
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


def argus(path: Path) -> Peer | None:
    """Return a run of argus, which writes its records to a file; None where it is missing."""
    program, counter = _program("argus"), _program("racount")
    if program is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "argus.out")
        seconds, peak, _ = measured([program, "-r", str(path), "-w", str(out)])
        flows = packets = 0
        if counter is not None:
            count = subprocess.run(
                [counter, "-r", str(out)], capture_output=True, text=True, check=True
            )
            flows, packets = map(int, count.stdout.splitlines()[-1].split()[1:3])
    return Peer(f"argus {_version('argus-server')}", seconds, packets, flows, peak)


def nfpcapd(path: Path) -> Peer | None:
    """Return a run of nfpcapd, which writes its flows to files; None where it is missing."""
    program = _program("nfpcapd")
    if program is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        seconds, peak, said = measured([program, "-r", str(path), "-w", folder])
    idents = [line for line in said.splitlines() if line.startswith("Ident:")]
    counts = [line.replace(",", " ").split() for line in idents]
    flows = sum(int(c[c.index("Flows:") + 1]) for c in counts)
    packets = sum(int(c[c.index("Packets:") + 1]) for c in counts)
    return Peer(f"nfpcapd {_version('nfdump')}", seconds, packets, flows, peak)


def measured(command: list[str]) -> tuple[float, float, str]:
    """Run a program; return its CPU seconds, its peak memory in MB, and what it said.

    The peak is at least the memory of the process that calls, which is kept small for that.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read().decode("utf-8", "replace")
    if process.returncode:
        raise RuntimeError(f"{command[0]} failed: {text[-500:]}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss * 1.024e-3, text


def _program(name: str) -> str | None:
    return shutil.which(name, path=PATH)


def _version(package: str) -> str:
    """Return the version of a Debian package, or nothing."""
    if shutil.which("dpkg-query") is None:
        return ""
    command = ["dpkg-query", "-W", "-f", "${source:Upstream-Version}", package]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout

"""Where drops begin on a live interface: `python -m tests.bench_live`, as root.

Two network namespaces and a veth pair between them. A sender on the second core plays one capture
of mixed sizes at rising rates; on the first core runs one reader at a time, each with a ring of the
same size and the same snap length: guardian's whole daemon, its ring and decoder alone, tcpdump and
argus. What a reader did not report as seen, of what arrived at the interface, it lost.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import bench_captures, bench_pcap
from tests.namespaces import Host, hosts, join

ROOT = Path(__file__).resolve().parent.parent
RATES = (25_000, 50_000, 100_000, 150_000, 200_000, 300_000, 400_000, 0)
"""Packets a second; 0 is as fast as the sender goes."""
PACKETS = 400_000
"""Of the capture; it is played in a loop."""
SNAPLEN = 2_048
NICE = -15
"""Reader and sender go before what else this machine does."""
BEGIN = 0.0001
"""Drops have begun where more than this share is lost."""
SETTLE_S = 1.0
"""Seconds for a reader to come to rest, before and after."""


@dataclass(frozen=True)
class Run:
    """What one reader did at one rate."""

    rate: float
    arrived: int
    seen: int
    told: int | None
    """Drops as the reader itself reports them."""
    cpu: float
    """Share of its core, while packets came."""

    @property
    def lost(self) -> float:
        return max(0.0, 1 - self.seen / self.arrived)


def first(process: subprocess.Popen[Any]) -> None:
    """Put a process before others, and its session where the kernel weighs those."""
    os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
    group = Path(f"/proc/{process.pid}/autogroup")
    if group.exists():
        group.write_text(str(NICE), encoding="ascii")


class Reader(ABC):
    """A program that reads `right` on the first core."""

    name = ""

    def __init__(self, host: Host, folder: Path, ring_mib: int) -> None:
        self.folder, self.ring_mib = folder, ring_mib
        self.log = folder / "log"
        with self.log.open("w", encoding="utf-8") as file:
            self.process: subprocess.Popen[Any] = host.start(
                "taskset", "-c", "0", *self.words(), stdout=file, stderr=file, cwd=ROOT,
                env={**os.environ, **self.environ()}, start_new_session=True,
            )  # fmt: skip
        first(self.process)
        self.wait_for(self.started())

    @abstractmethod
    def words(self) -> list[str]:
        """Return the command that is run."""

    def environ(self) -> dict[str, str]:
        return {}

    def started(self) -> str:
        return "listening on"

    def wait_for(self, said: str) -> None:
        until = time.monotonic() + 60
        while said not in self.log.read_text(encoding="utf-8", errors="replace"):
            if self.process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"{self.name} did not start: {self.log.read_text()}")
            time.sleep(0.05)

    def cpu_s(self) -> float:
        """Return CPU seconds that the process has used."""
        text = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii")
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def finish(self) -> tuple[int, int | None]:
        """End it; return packets seen, and dropped as it says."""
        self.process.send_signal(signal.SIGTERM if self.name != "tcpdump" else signal.SIGINT)
        self.process.wait(timeout=60)
        return self.counts(self.log.read_text(encoding="utf-8", errors="replace"))

    @abstractmethod
    def counts(self, log: str) -> tuple[int, int | None]:
        """Return packets seen, and dropped as its log says."""


class Daemon(Reader):
    """`guardian run`: ring, records, models, database."""

    name = "guardian run"

    def words(self) -> list[str]:
        return [sys.executable, "-m", "guardian.cli", "run", "-i", "right"]

    def environ(self) -> dict[str, str]:
        return {
            "GUARDIAN_STORE_PATH": str(self.folder / "guardian.db"),
            "GUARDIAN_CAPTURE_RING_MIB": str(self.ring_mib),
            "GUARDIAN_CAPTURE_SNAPLEN": str(SNAPLEN),
        }

    def started(self) -> str:
        return "watching right"

    def counts(self, log: str) -> tuple[int, int | None]:
        seen = number(r"stopped after ([\d,]+) packets", log)
        return seen, number(r"dropped [\d,]+ packets \(([\d,]+) since", log)


class RingAlone(Reader):
    """Guardian's capture and decoder, without what comes after."""

    name = "guardian ring + decode"

    def words(self) -> list[str]:
        return [sys.executable, "-m", "tests.bench_live", "--read",
                "--ring", str(self.ring_mib)]  # fmt: skip

    def counts(self, log: str) -> tuple[int, int | None]:
        return number(r"([\d,]+) seen", log), number(r"([\d,]+) dropped", log)


class Tcpdump(Reader):
    """tcpdump to nowhere."""

    name = "tcpdump"

    def words(self) -> list[str]:
        return ["tcpdump", "-i", "right", "-n", "-p", "-w", "/dev/null", "-s", str(SNAPLEN),
                "-B", str(self.ring_mib << 10), "-Z", "root"]  # fmt: skip

    def counts(self, log: str) -> tuple[int, int | None]:
        seen = number(r"(\d+) packets captured", log)
        return seen, number(r"(\d+) packets? dropped by kernel", log)


class Argus(Reader):
    """argus with its records to a file, which `ra` counts."""

    name = "argus"

    def words(self) -> list[str]:
        conf = self.folder / "argus.conf"
        conf.write_text(f"ARGUS_PCAP_BUF_SIZE={self.ring_mib}M\n", encoding="ascii")
        return ["argus", "-X", "-F", str(conf), "-i", "right", "-p", "-s", str(SNAPLEN),
                "-w", str(self.folder / "argus.out")]  # fmt: skip

    def started(self) -> str:
        return "started"

    def counts(self, log: str) -> tuple[int, int | None]:
        del log
        told = subprocess.run(
            ["ra", "-r", str(self.folder / "argus.out"), "-n", "-s", "pkts", "-L0", "-c", ","],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        return sum(int(line) for line in told.split() if line.isdigit()), None


def number(pattern: str, text: str) -> int:
    """Return the last number that a pattern finds, 0 without one."""
    found = re.findall(pattern, text)
    return int(found[-1].replace(",", "")) if found else 0


def read(ring_mib: int) -> None:
    """Take packets from the ring and decode them until told to stop."""
    from guardian.config import CaptureSettings  # noqa: PLC0415
    from guardian.decode import Decoder  # noqa: PLC0415
    from guardian.live import LiveCapture  # noqa: PLC0415

    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    settings = CaptureSettings(interface=("right",), ring_mib=ring_mib, snaplen=SNAPLEN)
    live, decoder, seen = LiveCapture(settings), Decoder(), 0
    print("listening on right", flush=True)
    while not stopping:
        frames = live.read(0.2)
        if frames is not None:
            decoder.decode(frames)
            seen += len(frames)
    for frames in live.rest():
        seen += len(frames)
    print(f"{seen:,} seen, {live.drops:,} dropped", flush=True)
    live.close()


@contextmanager
def cable() -> Iterator[tuple[Host, Host]]:
    """Yield two hosts joined by `left` and `right`, where nothing else is said."""
    with hosts("sender", "reader") as (a, b):
        for host in (a, b):
            host.set("net/ipv6/conf/default/disable_ipv6", "1")
        join(a, "left", b, "right")
        for host, name in ((a, "left"), (b, "right")):
            host.ip("link", "set", name, "arp", "off")
        yield a, b


def arrived(host: Host) -> int:
    return int(host.run("cat", "/sys/class/net/right/statistics/rx_packets"))


def measure(
    kind: Callable[[Host, Path, int], Reader],
    capture: Path,
    rate: int,
    seconds: float,
    ring_mib: int,
) -> Run:
    with cable() as (a, b), tempfile.TemporaryDirectory() as folder:
        sender = a.start(
            "taskset", "-c", "1", sys.executable, "-m", "tests.wire_sender", "left",
            str(capture), str(rate), str(seconds), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, cwd=ROOT, start_new_session=True,
        )  # fmt: skip
        first(sender)
        assert sender.stdout is not None
        assert sender.stdout.readline() == "ready\n"
        reader = kind(b, Path(folder), ring_mib)
        time.sleep(SETTLE_S)
        before, there, moment = reader.cpu_s(), arrived(b), time.monotonic()
        said, _ = sender.communicate("go\n", timeout=seconds + 60)
        cpu = (reader.cpu_s() - before) / (time.monotonic() - moment)
        sent, took, _ = said.split()
        there = arrived(b) - there
        time.sleep(SETTLE_S)
        seen, told = reader.finish()
        if there != int(sent):
            print(f"  {int(sent) - there:,} of {sent} frames did not arrive", file=sys.stderr)
        return Run(int(sent) / float(took), there, seen, told, cpu)


READERS = (Daemon, RingAlone, Tcpdump, Argus)


def rows(runs: dict[str, list[Run]], rates: list[int]) -> Iterator[str]:
    """Yield the table: a row for each rate, for each reader what it lost and its CPU."""
    yield "| offered | " + " | ".join(f"{name}: lost, CPU" for name in runs) + " |"
    yield "| ---: |" + " ---: |" * len(runs)
    for i, rate in enumerate(rates):
        cells = []
        for each in runs.values():
            run = each[i]
            lost = f"{run.lost:.1%}" if run.lost > BEGIN else "0"
            fast = f" (of {run.rate / 1e3:,.0f}k)" if not rate else ""
            cells.append(f"{lost}, {run.cpu:.0%}{fast}")
        yield f"| {f'{rate:,}' if rate else 'as fast as it goes'} | " + " | ".join(cells) + " |"


def onset(each: list[Run]) -> str:
    """Say between which rates drops begin."""
    clean = [run.rate for run in each if run.lost <= BEGIN]
    lossy = [run.rate for run in each if run.lost > BEGIN]
    if not lossy:
        return f"none up to {max(clean):,.0f}"
    first = min(lossy)
    under = [rate for rate in clean if rate < first]
    return f"{max(under, default=0):,.0f} to {first:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--read", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=4.0, help="at each rate")
    parser.add_argument("--ring", type=int, default=8, help="MiB of each reader's ring")
    parser.add_argument("--rates", default=",".join(map(str, RATES)))
    parser.add_argument("--only", default="", help="readers, by comma: the first word of each")
    given = parser.parse_args()
    if given.read:
        read(given.ring)
        return
    if os.geteuid() != 0:
        raise SystemExit("bench_live makes network namespaces: run it as root")
    rates = [int(rate) for rate in given.rates.split(",")]
    chosen = [
        kind for kind in READERS
        if (not given.only or kind.__name__.lower() in given.only.lower().split(","))
        and (kind in (Daemon, RingAlone) or shutil.which(kind.name))
    ]  # fmt: skip
    runs: dict[str, list[Run]] = {kind.name: [] for kind in chosen}
    with tempfile.TemporaryDirectory() as folder:
        capture = Path(folder) / "mixed.pcap"
        plan = bench_captures.mixed(packets=PACKETS, conns=PACKETS // 50)
        size = bench_pcap.write(capture, plan)
        print(f"{len(plan):,} packets, {size / len(plan):.0f} bytes each\n")
        for rate in rates:
            for kind in chosen:
                run = measure(kind, capture, rate, given.seconds, given.ring)
                runs[kind.name].append(run)
                print(f"  {rate} {kind.name}: {run}", file=sys.stderr, flush=True)
    print("\n".join(rows(runs, rates)))
    print("\n| reader | drops begin between, packets/s |\n| --- | ---: |")
    for name, each in runs.items():
        print(f"| {name} | {onset(each)} |")


if __name__ == "__main__":
    main()

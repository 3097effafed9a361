"""`python -m tests.bench_home`: a large home, 50 devices with 20,000 connections open at once.

Prints what the whole pipeline costs by connection and by slice, and what it holds, in a process of
its own; the capture is made first and costs nothing.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from guardian.simulate.frames import ACK, PSH, SYN, Way
from guardian.simulate.write import pcap_header, write_packets
from tests.bench_memory import status_mb

DEVICES, EACH = 50, 400
OPENING_S, MINUTES = 600, 3
"""They open over ten minutes; then each says something once a minute."""
START = 1_750_000_000
GATEWAY = bytes.fromhex("02000000ff01")
_Packets = Iterator[tuple[int, bytes]]


def packets() -> _Packets:
    """Yield (microseconds, frame) in the order of time."""
    ways = []
    count = DEVICES * EACH
    for n in range(count):
        device = n % DEVICES
        mac, own = bytes((2, 0, 0, 0, 0, device)), bytes((192, 168, 1, 10 + device))
        peer = bytes((34, n % 7, n >> 8 & 255, n & 255))
        ways.append((Way(mac, GATEWAY, own, peer), Way(GATEWAY, mac, peer, own), 10_000 + n))
    for n, (out, back, port) in enumerate(ways):
        t = START * 1_000_000 + n * OPENING_S * 1_000_000 // count
        yield t, out.tcp(port, 443, 1, 0, SYN, 64_240)
        yield t + 10, back.tcp(443, port, 1, 2, SYN | ACK, 64_240)
        yield t + 20, out.tcp(port, 443, 2, 2, ACK, 500)
        yield t + 30, out.tcp(port, 443, 2, 2, ACK | PSH, 500, bytes(300))
        yield t + 40, back.tcp(443, port, 2, 302, ACK | PSH, 500, bytes(900))
    for minute in range(MINUTES):
        begin = (START + OPENING_S + 60 * minute) * 1_000_000
        for n, (out, back, port) in enumerate(ways):
            t = begin + n * 59_000_000 // count
            said, heard = 302 + 60 * minute, 902 + 40 * minute
            yield t, out.tcp(port, 443, said, heard, ACK | PSH, 500, bytes(60))
            yield t + 10, back.tcp(443, port, heard, said + 60, ACK | PSH, 500, bytes(40))


def run(path: Path) -> None:
    """Take the capture through the pipeline and print the figures."""
    from guardian import bundle, capture  # noqa: PLC0415 - memory is measured from here
    from guardian.addresses import Lan  # noqa: PLC0415
    from guardian.devices import DeviceTable  # noqa: PLC0415
    from guardian.pipeline import Pipeline  # noqa: PLC0415
    from guardian.runtime import rarely_collect  # noqa: PLC0415

    rarely_collect()  # as the daemon does
    pipeline = Pipeline(bundle.load(bundle.default_path()), Lan(), DeviceTable(Lan()))
    begun = time.process_time()
    for frames in capture.read_frames(path, 4_096):  # as a ring hands them over
        pipeline.step(frames)
    spent = 1e6 * (time.process_time() - begun)
    counts = pipeline.counts
    print(
        f"{DEVICES} devices, {pipeline.conns.live:,} connections open at once: "
        f"{spent / (DEVICES * EACH):.0f} us a connection in all, {spent / counts.slices:.0f} us a "
        f"slice ({counts.slices:,} slices, {counts.packets:,} packets); resident "
        f"{status_mb('VmRSS', 'self'):.0f} MB, at its highest {status_mb('VmHWM', 'self'):.0f} MB"
    )


def main() -> int:
    if len(sys.argv) > 1:
        run(Path(sys.argv[1]))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "home.pcap"
        with path.open("wb") as file:
            file.write(pcap_header())
            write_packets(file, packets())
        return subprocess.run(
            [sys.executable, "-m", "tests.bench_home", str(path)], check=False
        ).returncode


if __name__ == "__main__":
    raise SystemExit(main())

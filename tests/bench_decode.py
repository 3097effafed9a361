"""How fast frames are read and decoded: `python -m tests.bench_decode [PACKETS]`.

Builds a mixed capture from a seed in a temporary folder and prints packets per
second of each stage, and of scapy on the first part of the same file.
"""

from __future__ import annotations

import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scapy.layers.l2 import Ether
from scapy.utils import RawPcapReader

from guardian import capture, checksum
from guardian.decode import decode
from guardian.tables import Frames
from tests import wire

SIZES = (60, 60, 90, 150, 590, 1514)
DISTINCT = 4_000
REPEATS = 5
SCAPY_PACKETS = 5_000


def build(path: Path, packets: int, seed: int = 1) -> None:
    """Write a pcap of TCP and UDP over IPv4 and IPv6, sizes mixed, checksums right."""
    chance = np.random.default_rng(seed)
    frames = [frame(chance) for _ in range(DISTINCT)]
    with path.open("wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1))
        for i, which in enumerate(chance.integers(0, DISTINCT, packets).tolist()):
            size = len(frames[which])
            out.write(struct.pack("<IIII", 1_700_000_000 + i // 10_000, i % 10_000, size, size))
            out.write(frames[which])


def frame(chance: np.random.Generator) -> bytes:
    v6, udp = chance.random() < 0.1, chance.random() < 0.3
    client = chance.bytes(1)
    src, dst = (wire.A6[:-1] + client, wire.B6) if v6 else (wire.A4[:-1] + client, wire.B4)
    size = int(chance.choice(SIZES)) - (54 if v6 else 34) - (8 if udp else 20)
    body = (wire.udp if udp else wire.tcp)(chance.bytes(max(0, size)), src, dst)
    packet = (wire.ip6 if v6 else wire.ip4)(body, 17 if udp else 6, src, dst)
    return wire.ether(packet, 0x86DD if v6 else 0x0800).ljust(60, b"\0")


def best(work: Callable[[], object]) -> float:
    """Seconds of processor time of the fastest of a few runs: others may share the machine."""
    times = []
    for _ in range(REPEATS):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return min(times)


def main() -> None:
    packets = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "mixed.pcap")
        build(path, packets)
        batches: list[Frames] = list(capture.read_frames(path))
        print(f"{packets:,} packets, {path.stat().st_size / packets:.0f} bytes each in the file")
        runs: dict[str, Callable[[], object]] = {
            "read_frames": lambda: sum(map(len, capture.read_frames(path))),
            "decode, checksums ignored": lambda: [decode(f, True) for f in batches],
            "decode with checksums": lambda: [decode(f) for f in batches],
            "both, with checksums": lambda: [decode(f) for f in capture.read_frames(path)],
            "sums of all bytes alone": lambda: [
                checksum.sums(f.data, f.start, f.start + f.caplen) for f in batches
            ],
        }
        for name, work in runs.items():
            print(f"{name:28} {packets / best(work):14,.0f} packets/s")
        bad = sum(int(decode(f).packets.bad_csum.sum()) for f in batches)
        print(f"{'bad checksums found':28} {bad:14,}")
        raw = [data for data, _ in RawPcapReader(str(path))]
        read = best(lambda: [None for _ in RawPcapReader(str(path))])
        print(f"{'scapy RawPcapReader':28} {packets / read:14,.0f} packets/s")
        spent = best(lambda: [Ether(data) for data in raw[:SCAPY_PACKETS]])
        print(f"{'scapy dissection':28} {SCAPY_PACKETS / spent:14,.0f} packets/s")


if __name__ == "__main__":
    main()

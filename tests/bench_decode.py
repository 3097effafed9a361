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

SIZES = (60, 60, 90, 150, 590, 1514)
REPEATS = 5
SCAPY_PACKETS = 5_000


def build(path: Path, packets: int, seed: int = 1) -> None:
    """Write a pcap of TCP and UDP over IPv4 and IPv6, sizes mixed, checksums right."""
    chance = np.random.default_rng(seed)
    sizes = chance.choice(SIZES, packets)
    v6 = chance.random(packets) < 0.1
    udp = chance.random(packets) < 0.3
    clients = chance.integers(0, 200, packets)
    with path.open("wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1))
        for i in range(packets):
            size = max(int(sizes[i]), 80 if v6[i] else 60)
            frame = _frame(size, bool(v6[i]), bool(udp[i]), int(clients[i]), chance.bytes(8))
            out.write(
                struct.pack("<IIII", 1_700_000_000 + i // 10_000, i % 10_000 * 100, size, size)
            )
            out.write(frame)


def _sum(data: bytes) -> int:
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def _frame(size: int, v6: bool, udp: bool, client: int, noise: bytes) -> bytes:
    room = size - 14 - (40 if v6 else 20)
    proto = 17 if udp else 6
    if v6:
        addresses = b"\xfd" + bytes(14) + bytes([client]) + b"\xfd\x01" + bytes(13) + b"\x01"
        ip = struct.pack(">IHBB", 0x60000000, room, proto, 64) + addresses
    else:
        addresses = bytes([192, 168, 1, client, 93, 184, 216, 34])
        ip = struct.pack(">BBHHHBBH", 0x45, 0, size - 14, client, 0x4000, 64, proto, 0) + addresses
        ip = ip[:10] + struct.pack(">H", _sum(ip)) + ip[12:]
    ports = struct.pack(">HH", 40_000 + client, 443)
    head = struct.pack(">HH", room, 0) if udp else noise + b"\x50\x18\x20\x00\x00\x00\x00\x00"
    body = (ports + head).ljust(room, b"\x5a")
    pseudo = addresses + struct.pack(">II", room, proto)
    check = _sum(pseudo + body + bytes(len(body) % 2))
    at = 6 if udp else 16
    body = body[:at] + struct.pack(">H", check or 0xFFFF) + body[at + 2 :]
    macs = bytes([2, 0, 0, 0, 0, client, 2, 0, 0, 0, 0, 254])
    return macs + (b"\x86\xdd" if v6 else b"\x08\x00") + ip + body


def best(work: Callable[[], object]) -> float:
    """Seconds of the fastest of a few runs."""
    times = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
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
        begun = time.perf_counter()
        for data in raw[:SCAPY_PACKETS]:
            Ether(data)
        spent = time.perf_counter() - begun
        print(f"{'scapy dissection':28} {SCAPY_PACKETS / spent:14,.0f} packets/s")


if __name__ == "__main__":
    main()

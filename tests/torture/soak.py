"""Weeks of a home in minutes: does memory stay flat, do files stay at their caps, how late is told.

    python -m tests.torture.soak --days 21 --hours 24

Each day is the same simulated day, dated a day later: with attacks on four devices, a phone that
makes up a new MAC, and machines that are seen for a moment and never again (or are forged).

Memory is looked at after every batch: a day's figure is the mean, and its highest beside it. One
look a day would tell what the allocator happens to keep at that moment: what is freed lies in its
heap until the heap's end is free.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from guardian import capture
from guardian.config import AlertsSettings, MqttSettings, Settings
from guardian.const import NS
from guardian.feed import SPARE_BYTES
from guardian.polling import Polling
from guardian.publish import Publisher
from guardian.record import Recorder
from guardian.runtime import load_bundle, open_pipeline
from guardian.simulate import Infection, home, labels_path, read_labels, simulate
from guardian.store import Store
from guardian.tables import Frames
from tests.broker import Broker, broker_in
from tests.torture.traffic import shifted

DAY_NS = 86_400 * NS
ATTACKS = (
    ("telnet-scan", "hall-camera", 0.15),
    ("ssh-guess", "den-speaker", 0.35),
    ("local-scan", "thermostat", 0.55),
    ("syn-flood", "kitchen-plug", 0.75),
)
"""What befalls whom, and after which share of the day."""
VISITORS = 2_100
"""Machines of a day that are seen once: the device table is full after two days."""
KEEP_DAYS = 3.0
"""Days that connections stay in the database, so that it reaches its size within the soak."""
PRUNE_NS = 600 * NS


@dataclass
class Measured:
    """What a soak found."""

    days: int = 0
    packets: int = 0
    connections: int = 0
    incidents: int = 0
    missed: int = 0
    """Attacks (one a device and day) without an incident."""
    seconds: float = 0.0
    rss_kib: list[float] = field(default_factory=list)
    """Mean of each day."""
    peak_kib: list[int] = field(default_factory=list)
    end_kib: list[int] = field(default_factory=list)
    """At the end of each day, and how much of it is in use: the rest the allocator keeps."""
    used_kib: list[int] = field(default_factory=list)
    objects: list[int] = field(default_factory=list)
    db_kib: list[int] = field(default_factory=list)
    wal_kib: int = 0
    """Largest WAL."""
    devices: int = 0
    found_s: list[float] = field(default_factory=list)
    """From an attack's first packet to the incident, in packet time."""
    work_s: list[float] = field(default_factory=list)
    """From the frames of the last evidence being there to the incident being on the disk."""

    def flat(self, values: Sequence[float]) -> float:
        """Return by which share the last third of the days is above the middle third."""
        third = len(values) // 3
        middle, last = values[third : 2 * third], values[2 * third :]
        return float(np.mean(last) / np.mean(middle) - 1)

    def __str__(self) -> str:
        def quantiles(values: list[float]) -> str:
            p50, p95, p99 = np.percentile(values, (50, 95, 99))
            return f"p50 {p50:.3f}, p95 {p95:.3f}, p99 {p99:.3f} s"

        return (
            f"{self.days} days in {self.seconds:.0f} s: {self.packets:,} packets, "
            f"{self.connections:,} connections, {self.incidents} incidents told, "
            f"{self.missed} of {self.days * len(ATTACKS)} attacks not found, "
            f"{self.devices:,} devices known\n"
            f"{_memory('mean of a day', self.rss_kib, self.flat(self.rss_kib))}\n"
            f"{_memory('highest of a day', self.peak_kib, self.flat(self.peak_kib))}\n"
            f"{_memory('end of a day', self.end_kib, self.flat(self.end_kib))}\n"
            f"{_memory('allocated then', self.used_kib, self.flat(self.used_kib))}"
            f"\ndatabase: {self.db_kib[-1] / 1024:.1f} MiB, last third "
            f"{100 * self.flat(self.db_kib):+.2f} %; WAL at most {self.wal_kib / 1024:.1f} MiB\n"
            f"from the first packet of an attack to its incident: {quantiles(self.found_s)}\n"
            f"from the last evidence's frames to the incident on the disk: {quantiles(self.work_s)}"
        )


def _memory(what: str, kib: Sequence[float], flat: float) -> str:
    days = " ".join(f"{one / 1024:.1f}" for one in kib)
    return (
        f"memory, {what}: {kib[-1] / 1024:.1f} MiB, last third {100 * flat:+.2f} % of the middle "
        f"third; by day: {days}"
    )


def day_of(folder: Path, hours: float) -> Path:
    """Write the day that comes again and again."""
    path = folder / "day.pcap"
    infections = tuple(
        Infection(kind, device, share * hours * 3_600, (("rate", 50.0), ("seconds", 20.0)))
        if kind == "syn-flood"
        else Infection(kind, device, share * hours * 3_600)
        for kind, device, share in ATTACKS
    )
    simulate(replace(home(hours=hours), infections=infections), path)
    return path


def begins(path: Path) -> dict[str, int]:
    """Return the moment of each attacking device's first malicious packet, ns, by its MAC."""
    first: dict[str, int] = {}
    for label in read_labels(labels_path(path)):
        if label.label != "benign":
            first[label.device] = min(first.get(label.device, label.ts), label.ts)
    return first


def visitors(day: int, at: int) -> Frames:
    """Return a datagram from each of the machines that are there on one day alone."""
    chance = np.random.default_rng(day)
    frames = np.zeros((VISITORS, 60), dtype=np.uint8)
    frames[:, :6] = (2, 0, 0, 0, 0, 1)
    frames[:, 6:12] = chance.integers(0, 256, (VISITORS, 6))
    frames[:, 6] = 2  # made up by themselves, as phones do
    head = bytes((8, 0, 0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 168, 1))
    frames[:, 12:29] = np.frombuffer(head, dtype=np.uint8)
    frames[:, 29] = chance.integers(150, 250, VISITORS)
    frames[:, 30:34] = (9, 9, 9, 9)
    frames[:, 34:40] = (0x80, 1, 0, 123, 0, 8)
    data = np.concatenate([frames.ravel(), np.zeros(SPARE_BYTES, dtype=np.uint8)])
    width = np.full(VISITORS, 60, dtype=np.int64)
    return Frames(
        data=data,
        start=np.arange(VISITORS, dtype=np.int64) * 60,
        caplen=width,
        wirelen=width,
        ts=at + np.arange(VISITORS, dtype=np.int64) * NS // 10,
        link=1,
        csum_valid=np.ones(VISITORS, dtype=np.bool_),
        now=at + VISITORS * NS // 10,
    )


def played(path: Path, days: int, batch: int) -> Iterator[tuple[int, Frames]]:
    """Yield (day, frames), live as far as checksums go."""
    for day in range(days):
        now = 0
        for frames in capture.read_frames(path, batch):
            now = frames.now + day * DAY_NS
            yield day, shifted(frames, day * DAY_NS)
        yield day, visitors(day, now + NS)


def rss_kib() -> int:
    """Return the memory of this process that is in use."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() // 1024


class _Heap(ctypes.Structure):
    """glibc's mallinfo2."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks",
                     "uordblks", "fordblks", "keepcost")
    ]  # fmt: skip


def used_kib() -> int:
    """Return what is allocated, without what the allocator keeps; 0 where it does not tell."""
    ask = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if ask is None:
        return 0
    ask.restype = _Heap
    found = ask()
    return int(found.uordblks + found.hblkhd) // 1024


def soak(
    folder: Path, days: int, hours: float, broker: Broker | None = None, *, batch: int = 500
) -> Measured:
    """Run the days through pipeline, database and hub as the daemon does."""
    settings = Settings(alerts=AlertsSettings(a_week=0))
    mqtt = broker.settings() if broker is not None else MqttSettings()
    path, db = day_of(folder, hours), folder / "guardian.db"
    attacks, out = begins(path), Measured()
    begun, today, pruned, looks = time.monotonic(), 0, 0, list[int]()
    found: set[tuple[int, str]] = set()
    with (
        Store(db, connections_days=KEEP_DAYS) as store,
        closing(_Ending(Publisher(mqtt, store))) as hub,
    ):
        publisher = hub.publisher
        pipeline = open_pipeline(settings, load_bundle(settings), live=True, seed=1)
        recorder = Recorder(store, pipeline, publisher)
        Polling(store, pipeline).restore(0)
        for day, frames in played(path, days, batch):
            if day != today:
                _end_of_day(out, db, looks)
                today, looks = day, []
            came = time.perf_counter()
            step = pipeline.step(frames)
            recorder.add(step)
            took = time.perf_counter() - came
            publisher.step(step.now)
            for event in step.events:
                if event.change == "opened":
                    out.incidents += 1
                    at = event.incident.opened - day * DAY_NS
                    mac = event.incident.device.mac
                    if at >= attacks.get(mac, at + 1) and (day, mac) not in found:
                        found.add((day, mac))
                        out.found_s.append((at - attacks[mac]) / NS)
                    out.work_s.append(took)
            if step.now - pruned >= PRUNE_NS:
                pruned = step.now
                while store.prune(step.now):
                    pass
            looks.append(rss_kib())
        _end_of_day(out, db, looks)
        out.missed = days * len(attacks) - len(out.found_s)
        out.days, out.packets = days, pipeline.counts.packets
        out.connections, out.devices = pipeline.counts.connections, len(pipeline.devices)
    out.seconds = time.monotonic() - begun
    return out


class _Ending:
    """Closes a publisher at the end of packet time, not of the wall's."""

    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher

    def close(self) -> None:
        self.publisher.close(time.time_ns())


def _end_of_day(out: Measured, db: Path, looks: Sequence[int]) -> None:
    out.rss_kib.append(float(np.mean(looks)))
    out.peak_kib.append(max(looks))
    gc.collect()
    out.end_kib.append(rss_kib())
    out.used_kib.append(used_kib())
    out.objects.append(len(gc.get_objects()))
    out.db_kib.append(db.stat().st_size // 1024)
    wal = db.with_name(db.name + "-wal")
    out.wal_kib = max(out.wal_kib, wal.stat().st_size // 1024)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=21)
    parser.add_argument("--hours", type=float, default=24.0, help="simulated hours of each day")
    parser.add_argument("--batch", type=int, default=500, help="frames in a step")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--no-broker", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.no_broker:
            found = soak(folder, args.days, args.hours, batch=args.batch)
        else:
            with broker_in(folder) as broker:
                found = soak(folder, args.days, args.hours, broker, batch=args.batch)
    facts: dict[str, Any] = vars(found) | {
        "memory": found.flat(found.rss_kib),
        "allocated": found.flat(found.used_kib) if all(found.used_kib) else None,
    }
    print(json.dumps(facts) if args.json else found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

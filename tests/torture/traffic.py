"""Simulated homes under attack, as captures that are played again and again at later times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from guardian import capture
from guardian.const import NS
from guardian.simulate import Infection, home, simulate
from guardian.tables import Frames

ROUND_NS = 8 * 3_600 * NS
"""From one round to the next: what was told in a round is over, so it is told anew."""

ATTACKS = (
    Infection("telnet-scan", "hall-camera", 300.0, (("rate", 2.0),)),
    Infection("beacon", "desk-bulb", 400.0),
    Infection("syn-flood", "kitchen-plug", 600.0, (("rate", 200.0), ("seconds", 10.0))),
    Infection("ssh-guess", "den-speaker", 800.0),
    Infection("local-scan", "thermostat", 1_200.0),
    Infection("udp-flood", "office-printer", 1_800.0, (("rate", 200.0), ("seconds", 10.0))),
)
"""Six devices of eight: an incident in every few hundred packets."""


def homes(folder: Path, number: int, hours: float = 1.0) -> list[Path]:
    """Write captures of homes with other devices, other peers and the same attacks."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k in range(number):
        path = folder / f"home{k}.pcap"
        if not path.exists():
            scenario = replace(home(hours=hours, seed=1_000 + k), infections=ATTACKS)
            simulate(scenario, path)
        paths.append(path)
    return paths


def shifted(frames: Frames, by: int) -> Frames:
    """Return frames as they would be `by` ns later."""
    return replace(frames, ts=frames.ts + by, now=frames.now + by)


def rounds(paths: Sequence[Path], begin: int, batch: int) -> Iterator[tuple[int, Frames]]:
    """Yield (round, frames) from a round on, for ever."""
    number = begin
    while True:
        for frames in capture.read_frames(paths[number % len(paths)], batch):
            yield number, shifted(frames, number * ROUND_NS)
        number += 1

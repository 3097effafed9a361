"""Ten times too much: a device that floods does not hide what another one does."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from guardian.blind import BlindSpots
from guardian.config import Settings
from guardian.const import NS
from guardian.pipeline import Pipeline
from guardian.runtime import load_bundle, open_pipeline
from guardian.simulate import Infection, home, simulate
from guardian.simulate.scenario import DEMO_START
from tests.torture.floods import Flood, Kind, beside

ATTACK_S = 1_500
FLOOD_S = 1_470, 90
"""A's flood begins half a minute before B's attack and outlasts its finding."""
RATE = int(os.environ.get("TORTURE_RATE", "400"))
"""Connections a second; a home has one. `make torture` takes ten times what a PC judges."""


def home_with(folder: Path, attack: str, device: str = "thermostat") -> Path:
    path = folder / f"{attack}.pcap"
    infection = Infection(attack, device, float(ATTACK_S))
    simulate(replace(home(hours=0.5), infections=(infection,)), path)
    return path


def ends(path: Path, name: str) -> tuple[bytes, bytes]:
    """Return MAC and address of a device of the home, as a quiet look finds them."""
    pipeline = open_pipeline(Settings(), load_bundle(Settings()))
    for frames in beside(path, None):
        pipeline.step(frames)
    for device in pipeline.devices.devices():
        if pipeline.devices.ref(device.index).name == name:
            address = bytes(map(int, device.addresses[-1].split(".")))
            return bytes.fromhex(device.mac.replace(":", "")), address
    raise AssertionError(name)


def watch(path: Path, flood: Flood | None) -> tuple[dict[str, float], Pipeline]:
    """Return when each device's first incident opened, and the pipeline at the end."""
    settings = Settings()
    pipeline = open_pipeline(settings, load_bundle(settings), live=True, seed=3)
    pipeline.incidents.settings = replace(pipeline.incidents.settings, a_week=0)
    opened: dict[str, float] = {}
    for frames in beside(path, flood):
        for event in pipeline.step(frames).events:
            if event.change == "opened":
                mac = event.incident.device.mac
                opened.setdefault(mac, event.incident.opened / NS - DEMO_START)
    return opened, pipeline


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "attack"),
    [("one victim", "ssh-guess"), ("anything", "telnet-scan"), ("many victims", "local-scan")][
        : None if "TORTURE_RATE" in os.environ else 2
    ],
)
def test_an_attack_during_the_flood_of_another_device_is_found_as_soon(
    kind: Kind, attack: str, tmp_path: Path
) -> None:
    path = home_with(tmp_path, attack)
    mac, address = ends(path, "hall-camera")
    begin = (DEMO_START + FLOOD_S[0]) * NS
    alone, calm = watch(path, None)
    both, flooded = watch(path, Flood(kind, mac, address, begin, FLOOD_S[1], RATE))
    camera = mac.hex(":")
    assert len(alone) == 1
    assert calm.counts.shed == calm.counts.evicted == 0
    assert both.keys() == {*alone, camera}
    assert both[camera] < FLOOD_S[0] + 30  # the flood itself is found in its first seconds
    for device, at in alone.items():
        assert both[device] == pytest.approx(at, abs=0.01)
    # What was shed is the camera's alone, is most of the flood, and is told.
    assert [name for name, _ in flooded.shed()] == ["hall-camera"]
    assert 0.5 * FLOOD_S[1] * RATE < flooded.counts.shed < FLOOD_S[1] * RATE
    assert flooded.counts.connections > FLOOD_S[1] * RATE
    blind = BlindSpots()
    blind.count(flooded.counts, 0, begin, [name for name, _ in flooded.shed()])
    said = " ".join(blind.seen(begin).spots)
    assert f"{flooded.counts.shed:,} connections of hall-camera" in said

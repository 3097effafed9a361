"""The home's network changes under the guard: other addresses for the same devices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from guardian import capture
from guardian.config import Settings
from guardian.const import NS
from guardian.runtime import load_bundle, open_pipeline
from guardian.simulate import Infection, home, simulate
from guardian.tables import Frames
from tests.torture.traffic import shifted

HALF_S = 1_800


@pytest.mark.slow
def test_a_lan_that_gets_new_addresses_keeps_its_devices_and_its_guard(tmp_path: Path) -> None:
    """Half an hour in 192.168.1.0/24, then the same devices in 10.9.8.0/24, one of them bad."""
    quiet = home(hours=0.5)
    scan = (Infection("telnet-scan", "hall-camera", 900.0),)
    before, after = tmp_path / "before.pcap", tmp_path / "after.pcap"
    simulate(quiet, before)
    simulate(replace(quiet, lan="10.9.8.0/24", infections=scan), after)

    def both() -> Iterator[Frames]:
        yield from capture.read_frames(before, 500)
        for frames in capture.read_frames(after, 500):
            yield shifted(frames, HALF_S * NS)

    settings = Settings()
    pipeline = open_pipeline(settings, load_bundle(settings), live=True, seed=2)
    opened = []
    devices: set[str] = set()
    for frames in both():
        step = pipeline.step(frames)
        if not devices and step.now > (quiet.start + HALF_S) * NS:
            devices = {d.key for d in pipeline.devices.devices()}
        opened += [event.incident for event in step.events if event.change == "opened"]
    assert [(i.cause, i.device.ip[:7]) for i in opened] == [("scan", "10.9.8.")]
    assert 0 < opened[0].opened / NS - quiet.start - HALF_S - 900 < 30
    assert devices == {d.key for d in pipeline.devices.devices()}
    for device in pipeline.devices.devices():
        if not device.gateway:
            assert {address.rpartition(".")[0] for address in device.addresses} >= {"10.9.8"}

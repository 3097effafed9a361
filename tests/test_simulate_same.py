"""What the simulator made before its later scenarios came, it makes still, byte for byte."""

from __future__ import annotations

import hashlib
import struct
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from guardian.addresses import Lan
from guardian.capture import read_frames
from guardian.conns import ConnTable
from guardian.decode import decode
from guardian.devices import DeviceTable
from guardian.features import FeatureExtractor
from guardian.simulate import (
    SCENARIOS,
    Scenario,
    home,
    labels_path,
    payloads,
    simulate,
    training,
    training_homes,
)
from guardian.simulate.scenario import INFECTIONS, MORE_INFECTIONS
from guardian.tables import Conns, FeatureRows
from tests.test_simulate import packets

BEFORE = {
    "training_homes": "4687b90d6264a3c9d61dfda5916c0a0f582954654d7210d1b16fff343fd89924",
    "quiet/demo": "57e9f0fbd2c0f90f1f34892a7a13b5d1c1da815dda65eb9cde0900f682086ef6",
    "quiet/test": "64b915cd2382b1ad5773c028b83260bc3c0a3628c71daf9f29f6bb654419cd35",
    "telnet-scan/demo": "fe6a6f759f6c71170398b53b00c22d2167a77c2c35ed3b0cb575d962e94d7125",
    "local-scan/demo": "5c432d2467221adbedf3d4616d11b82ca111fd5ba1ad4953beb5b29e46fe130a",
    "ssh-guess/demo": "e7f530f491d382710ce6c910e8a6d27f9086e749f4b5008784e134825c497b81",
    "beacon/demo": "47614a751bee00e64a4ec286ca9337260726ffec80d3784a4358c3393e09b15c",
    "download/demo": "62f9ef49145c8c6f4d72bd887f282d3b9d1c361fb4f47aade4bfddd350315f7e",
    "syn-flood/demo": "1fa49057398b1e204114eda55ff607a49bdba2a7c37ccabd59740a6110c62395",
    "udp-flood/demo": "d1717f27f6daf8c17f5d2ccb43ccc8804b22b8f5c9af28d46977e31f72b9ed0c",
    "infected/demo": "89f827181d95022f9807a53fd14e8374ebc52a77df204f8d0736c6858705ece5",
    "infected/test": "1ce2678ac99ee191eea5973ac43fc0a5e4275c42ef708ca7d002a465b6b78626",
    "quiet/7": "51f5f0313b44989724629cc09a1f4815f7cb667c6329a5e2cd5fa1b8e0dd2d79",
    "train/0": "1321b6093ab1f4685e0e40c9555b9b97a4a2a071d9a0195d68bde79ca7e6c4eb",
    "train/1": "efd4000bb49b97602e11a259d3905376488e3fca5ec7a8958bec7f50e13682d3",
    "train/2": "2a1e9858028fe78290863005870f061704c37c349c5d8d79d1a8de2f0156c857",
    "train/3": "ab7eb2ca2940f92df3821e2aa259eaaf955e7495d9581bbabe174f2931fa7d68",
    "train/4": "adc4058cbe692b948ba8f4f37437845e15d2f9e8490757503088393311e6a8d7",
}
"""What these captures are (sha256 of packets and labels, without
the origin time in NTP, which was the clock of the computer that simulated). The shipped bundle
and the README's figures rest on them: do not renew these without training anew."""


def digest(path: Path, plain: bool = False) -> str:
    """Return the sha256 of a capture and its labels; plain leaves nothing out."""
    out = hashlib.sha256()
    for us, frame in packets(path):
        head = struct.pack("<IIII", us // 1_000_000, us % 1_000_000, len(frame), len(frame))
        out.update(head)
        out.update(frame if plain else without_origin(frame))
    out.update(labels_path(path).read_bytes())
    return out.hexdigest()


def without_origin(frame: bytes) -> bytes:
    """Return a frame without the origin time and the checksum of NTP."""
    at = 34 if frame[12:14] == b"\x08\0" else 54
    proto = frame[23] if at == 34 else frame[20]
    udp = frame[12:14] in (b"\x08\0", b"\x86\xdd") and proto == 17 and len(frame) >= at + 56
    if not udp or 123 not in struct.unpack_from("!HH", frame, at):
        return frame
    return frame[: at + 6] + bytes(2) + frame[at + 8 : at + 32] + bytes(8) + frame[at + 40 :]


def old_homes() -> Iterator[tuple[str, Scenario]]:
    for name in ("quiet", *INFECTIONS):
        for profile in ("demo", "test"):
            yield f"{name}/{profile}", SCENARIOS[name](profile=profile, hours=0.3, at_hours=0.05)
    yield "quiet/7", home(seed=7, hours=1.0)
    for number, scenario in enumerate(training_homes(10, 5)):
        devices = tuple(
            replace(d, joins=None if d.joins is None else 200.0,
                    update_at=None if d.update_at is None else 300.0)
            for d in scenario.devices
        )  # fmt: skip
        befalls = tuple(replace(x, at=260.0 + 100 * i) for i, x in enumerate(scenario.infections))
        yield f"train/{number}", replace(scenario, hours=0.4, devices=devices, infections=befalls)


def test_the_scenarios_that_teach_and_show_keep_their_bytes(tmp_path: Path) -> None:
    path, found = tmp_path / "old.pcap", {"training_homes": BEFORE["training_homes"]}
    for name, scenario in old_homes():
        if name in BEFORE:
            simulate(scenario, path)
            found[name] = digest(path)
    assert found == BEFORE


def test_training_homes_are_drawn_as_before() -> None:
    rows = [
        (s.name, s.seed, s.start, s.hours,
         [(d.kind, d.name, d.variant, d.joins, d.update_at) for d in s.devices],
         [(i.kind, i.device, i.at, i.params) for i in s.infections],
         s.lan, s.profile, s.utc_offset_h)
        for seed in (1, 2) for s in training_homes(60, seed)
    ]  # fmt: skip
    assert hashlib.sha256(repr(rows).encode()).hexdigest() == BEFORE["training_homes"]
    assert set(MORE_INFECTIONS) - set(training.DRAWN) == {"exfiltration"}


def test_ntp_says_nothing_of_the_clock_here(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    for now in (1e9, 1.5e9):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        payloads._ntp.cache_clear()
        told.append((payloads.ntp(3, 1_781_166_600.5), payloads.ntp(4, 1_781_166_600.5)))
    payloads._ntp.cache_clear()
    assert told[0] == told[1]
    question, answer = told[0]
    assert question[24:32] == bytes(8)
    assert answer[24:32] == question[40:48]  # the origin of an answer is its question's time


def test_no_record_or_feature_knows_the_origin_time_of_ntp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario, mended, as_before = home(hours=0.6), tmp_path / "a.pcap", tmp_path / "b.pcap"
    simulate(scenario, mended)
    right = payloads.ntp

    def clock_of_the_computer(mode: int, seconds: float) -> bytes:
        message = right(mode, seconds)
        return message[:24] + b"\xee\xac\xe3\x0f\x1e\x61\xb0\x00" + message[32:]

    monkeypatch.setattr(payloads, "ntp", clock_of_the_computer)
    simulate(scenario, as_before)
    assert digest(mended, plain=True) != digest(as_before, plain=True)
    assert digest(mended) == digest(as_before)
    one, two = seen(mended), seen(as_before)
    assert one.keys() == two.keys()
    for name, column in one.items():
        assert column.dtype == two[name].dtype, name
        assert column.tobytes() == two[name].tobytes(), name
    assert len(one["Conns.ts"]) > 300
    assert len(one["FeatureRows.x"]) > 300


def seen(path: Path) -> dict[str, np.ndarray]:
    """Return every column of the records of a capture, and of its features."""
    lan = Lan()
    table, devices, features = ConnTable(lan), DeviceTable(lan), FeatureExtractor(lan)
    steps = []
    for frames in read_frames(path):
        decoded = decode(frames)
        devices.step(decoded)
        told = table.step(decoded)
        steps.append((told.records, features.step(told.slices, *devices.sides(told.slices))))
    told = table.finish()
    steps.append((told.records, features.step(told.slices, *devices.sides(told.slices))))
    return {
        f"{type(table).__name__}.{field.name}": getattr(table, field.name)
        for table in (
            Conns.concat([r for r, _ in steps]),
            FeatureRows.concat([f for _, f in steps]),
        )
        for field in fields(table)
    }

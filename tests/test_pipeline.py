"""The stages together: a simulated home in, incidents out; cutting the input changes no record."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian import bundle as bundles
from guardian import capture
from guardian.addresses import Lan
from guardian.bundle import Bundle
from guardian.devices import DeviceTable
from guardian.incidents import Incident
from guardian.pipeline import Pipeline, Step
from guardian.simulate import SCENARIOS, simulate
from guardian.tables import Conns, Frames
from tests import bundles as made


def pipeline(bundle: Bundle, *, counters: bool = True) -> Pipeline:
    lan = Lan()
    return Pipeline(bundle, lan, DeviceTable(lan), counters=counters)


def run(frames: list[Frames], line: Pipeline) -> tuple[Conns, dict[str, Incident]]:
    steps: list[Step] = [line.step(batch) for batch in frames]
    steps.append(line.finish())
    found = {e.incident.id: e.incident for step in steps for e in step.events}
    return Conns.concat([step.records for step in steps]), found


def cut(batch: Frames, at: list[int]) -> list[Frames]:
    """Cut a batch of frames at places, each part with its own clock."""
    edges = [0, *sorted(at), len(batch)]
    parts = []
    for first, last in pairwise(edges):
        rows = slice(first, last)
        now = int(batch.ts[:last].max()) if last else int(batch.ts[0])
        parts.append(
            replace(
                batch,
                start=batch.start[rows],
                caplen=batch.caplen[rows],
                wirelen=batch.wirelen[rows],
                ts=batch.ts[rows],
                csum_valid=batch.csum_valid[rows],
                now=now,
            )
        )
    return parts


@pytest.fixture(scope="session")
def shipped() -> Bundle:
    return bundles.load(bundles.default_path())


@pytest.fixture(scope="session")
def infected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tests' own home, its camera scanning for telnet."""
    path = tmp_path_factory.mktemp("home") / "infected.pcap"
    simulate(SCENARIOS["infected"](profile="test", hours=3.0), path)
    return path


@pytest.fixture(scope="session")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("home") / "quiet.pcap"
    simulate(SCENARIOS["quiet"](profile="test", hours=3.0), path)
    return path


@pytest.mark.slow
def test_the_models_find_the_infected_device_and_no_other(infected: Path, shipped: Bundle) -> None:
    line = pipeline(shipped, counters=False)
    _, found = run(list(capture.read_frames(infected)), line)
    assert {i.device.name for i in found.values()} == {"t-camera"}
    assert {i.speaker for i in found.values()} == {"model"}
    assert "scan" in {i.cause for i in found.values()}
    for incident in found.values():
        assert incident.explanation
        assert incident.advice
        assert incident.connections
        assert incident.features


@pytest.mark.slow
def test_a_quiet_home_is_quiet(quiet: Path, shipped: Bundle) -> None:
    line = pipeline(shipped)
    records, found = run(list(capture.read_frames(quiet)), line)
    assert found == {}
    assert line.counts.connections == len(records) > 500
    assert line.counts.malformed == 0


@pytest.mark.slow
@pytest.mark.parametrize("scan", [-4.0, 3.0, 12.0])
@pytest.mark.parametrize("gain", [0.0, 1.0])
def test_models_that_always_say_the_same_open_nothing(
    infected: Path, tmp_path: Path, scan: float, gain: float
) -> None:
    bias = (0.0, scan, *[-9.0] * (len(made.CLASSES) - 2))
    folder = made.write(tmp_path / "constant", bias=bias, gain=gain)
    line = pipeline(bundles.load(folder), counters=False)
    _, found = run(list(capture.read_frames(infected)), line)
    assert found == {}


@settings(max_examples=8)
@given(places=st.lists(st.integers(0, 3_000), max_size=12))
def test_cutting_the_input_changes_no_record(
    quiet: Path, shipped: Bundle, places: list[int]
) -> None:
    first = next(capture.read_frames(quiet, 3_000))
    whole, _ = run([first], pipeline(shipped))
    parts, _ = run(cut(first, places), pipeline(shipped))
    for name in ("uid", "ts", "history", "orig_bytes", "resp_pkts", "told"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))


def test_a_tick_tells_what_is_due(quiet: Path, shipped: Bundle) -> None:
    batch = next(capture.read_frames(quiet, 400))
    line = pipeline(shipped)
    before = len(line.step(batch).records)
    empty = replace(
        batch,
        **{
            name: getattr(batch, name)[:0]
            for name in ("start", "caplen", "wirelen", "ts", "csum_valid")
        },
        now=batch.now + 3_600 * 10**9,
    )
    ticked = line.step(empty)
    assert len(ticked.records) > 0
    assert len(line.finish().records) == 0
    alone = pipeline(shipped)
    rest = len(alone.step(batch).records) + len(alone.finish().records)
    assert before + len(ticked.records) == rest


def test_a_live_capture_that_cuts_frames_counts_like_a_whole_one(
    quiet: Path, shipped: Bundle
) -> None:
    """Frames cut at 100 bytes give the same amounts and history; only names may be lost."""
    batch = next(capture.read_frames(quiet, 3_000))
    short = replace(batch, caplen=np.minimum(batch.caplen, 100))
    whole, _ = run([batch], pipeline(shipped))
    lan = Lan()
    line = Pipeline(shipped, lan, DeviceTable(lan), live=True)
    cut_records, _ = run([short], line)
    assert int((batch.caplen > 100).sum()) > 100
    for name in ("uid", "history", "conn_state", "orig_bytes", "resp_bytes", "missed_bytes"):
        assert np.array_equal(getattr(whole, name), getattr(cut_records, name)), name

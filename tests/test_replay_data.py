"""Every real capture through the whole pipeline: no exception, and the packets counted twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from scapy.utils import RawPcapNgReader, RawPcapReader

from guardian import bundle as bundles
from guardian import capture
from guardian.addresses import Lan
from guardian.devices import DeviceTable
from guardian.pipeline import Pipeline
from guardian.zeeklog import read
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


def captures(data: Path) -> list[Path]:
    found = [p for kind in ("*.pcap", "*.pcapng") for p in data.rglob(kind)]
    return sorted(p for p in found if not p.relative_to(data).parts[0].startswith("zeek-parity"))


def count(path: Path) -> int:
    """Count packets with scapy, by magic, since a name may lie."""
    with path.open("rb") as file:
        pcapng = file.read(4) == b"\x0a\x0d\x0d\x0a"
    with RawPcapNgReader(str(path)) if pcapng else RawPcapReader(str(path)) as reader:
        return sum(1 for _ in reader)


@pytest.mark.timeout(600)
def test_every_capture_runs_through_and_is_counted_right(data: Path) -> None:
    bundle = bundles.load(bundles.default_path())
    paths = captures(data)
    assert len(paths) > 400
    wrong = []
    for path in paths:
        lan = Lan()
        line = Pipeline(bundle, lan, DeviceTable(lan))
        told = 0
        for frames in capture.read_frames(path):
            told += len(line.step(frames).records)
        told += len(line.finish().records)
        if line.counts.packets != count(path) or told != line.counts.connections:
            wrong.append(path.name)
    assert wrong == []


@pytest.mark.timeout(300)
def test_the_command_counts_like_the_second_reader(data: Path) -> None:
    """The same through `guardian replay --json`, a process each, over a spread of captures."""
    for path in captures(data)[::40]:
        done = subprocess.run(
            [sys.executable, "-m", "guardian.cli", "replay", str(path), "--json"],
            capture_output=True, check=False, cwd=ROOT,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["packets"] == count(path), path.name


@pytest.mark.timeout(300)
def test_every_log_replays(data: Path) -> None:
    bundle = bundles.load(bundles.default_path())
    logs = [*data.glob("iot23/*.csv"), *data.glob("stratosphere*/**/*conn.log*")]
    assert len(logs) > 12
    for path in sorted(logs):
        lan = Lan()
        line = Pipeline(bundle, lan, DeviceTable(lan))
        rows = 0
        for batch in read(path, lan):
            rows += len(batch.conns)
            line.step_records(batch.conns)
        assert rows == line.counts.connections > 0, path.name


def test_data_is_there_where_the_builder_says_so() -> None:
    """Where GUARDIAN_DATA names a folder, tests on it must not skip in silence."""
    named = os.environ.get("GUARDIAN_DATA")
    if named is None:
        pytest.skip("GUARDIAN_DATA names no folder")
    folder = Path(named)
    if folder.exists():
        assert (folder / "README.md").exists(), f"{folder} holds no data"

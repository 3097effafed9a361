"""The shipped bundle on both TFLite runtimes: ai-edge-litert, and tflite-runtime with numpy 1.

The second lives in a venv of its own, which `make test` sets up, since it ends at Python 3.11.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guardian import bundle, capture, decode, scoring
from guardian.addresses import Lan
from guardian.conns import ConnTable
from guardian.devices import DeviceTable
from guardian.features import FeatureExtractor
from guardian.sequences import SequenceTable
from guardian.simulate import SCENARIOS, simulate
from guardian.tables import Conns, Sequences
from tests.conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

OLD = ROOT / ".venv-tflite" / "bin" / "python"
NOISE = 300
Columns = dict[str, Any]


@pytest.fixture(scope="module")
def old_python() -> Path:
    """Return the Python that has tflite-runtime."""
    if not OLD.exists():
        if sys.version_info >= (3, 12):
            pytest.skip("tflite-runtime's last release ends at Python 3.11")
        pytest.fail(f"{OLD} is missing: run `make tflite`, as `make test` does")
    return OLD


def run(python: Path, *words: str | Path) -> str:
    """Run a module of the checkout with a Python, warnings as errors, and return its stdout."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("GUARDIAN_", "PYTHON"))}
    done = subprocess.run(
        [str(python), "-W", "error", "-m", *map(str, words)],
        capture_output=True, text=True, check=False, cwd=ROOT, env=clean, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def home_sequences(path: Path, loaded: bundle.Bundle) -> Sequences:
    """Return the sequences of a simulated home with a scan, as the pipeline makes them."""
    simulate(SCENARIOS["telnet-scan"](profile="test", hours=0.5), path)
    lan = Lan()
    devices, table, told = DeviceTable(lan), ConnTable(lan), []
    for frames in capture.read_frames(path):
        decoded = decode.decode(frames)
        devices.step(decoded)
        told.append(table.step(decoded))
    told.append(table.finish())
    slices = Conns.concat([t.slices for t in told])
    rows = FeatureExtractor(lan).step(slices, *devices.sides(slices))
    return SequenceTable(loaded.window, len(loaded.features)).step(rows)


@pytest.fixture(scope="module")
def both(old_python: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Columns, Columns]:
    """Return what either runtime says to the same file: golden, home's, then noise."""
    folder = tmp_path_factory.mktemp("runtimes")
    loaded = bundle.load(bundle.default_path())
    home = home_sequences(folder / "home.pcap", loaded)
    rng = np.random.default_rng(8)
    shape = (NOISE, loaded.window, len(loaded.features))
    noise = loaded.scaler.mean + loaded.scaler.scale * rng.normal(size=shape)
    lengths = rng.integers(1, loaded.window + 1, size=NOISE)
    np.savez(
        folder / "in.npz",
        x=np.concatenate([loaded.golden.x, home.x, noise]).astype(np.float32),
        length=np.concatenate([loaded.golden.length, home.length, lengths]).astype(np.int32),
    )
    found = []
    for name, python in (("new", Path(sys.executable)), ("old", old_python)):
        run(python, "tests.score_file", folder / "in.npz", folder / f"{name}.npz")
        with np.load(folder / f"{name}.npz") as file:
            found.append(dict(file))
    return found[0], found[1]


def test_each_venv_runs_its_own_runtime(both: tuple[Columns, Columns]) -> None:
    new, old = both
    assert str(new["runtime"]) == "ai_edge_litert"
    assert str(old["runtime"]) == "tflite_runtime"
    assert str(old["numpy"]).startswith("1.")


def test_both_runtimes_say_the_same_of_golden_and_real_shaped_sequences(
    both: tuple[Columns, Columns],
) -> None:
    off, slack_used = differences(*both)
    assert len(off) > NOISE + 300
    assert off[:-NOISE].max() <= scoring.PROBABILITY_TOLERANCE
    assert slack_used[:-NOISE].max() <= scoring.ERROR_TOLERANCE
    # The bulk is far closer: the tolerance is for the few that stand where int8 sums round.
    assert np.median(off[:-NOISE]) < 0.01
    assert np.median(slack_used[:-NOISE]) < 0.01


def test_both_runtimes_speak_of_the_same_sequences(both: tuple[Columns, Columns]) -> None:
    new, old = both
    loaded = bundle.load(bundle.default_path())
    lines = {"threat": loaded.threat_threshold, "anomaly": loaded.anomaly_threshold}
    for column, line in lines.items():
        differ = (new[column] >= line)[:-NOISE] != (old[column] >= line)[:-NOISE]
        assert differ.mean() < 0.01, f"{column}: those on the line alone may fall to either side"
    assert (new["threat"][:-NOISE] >= loaded.threat_threshold).any(), "the scan speaks"
    differ = new["label"][:-NOISE] != old["label"][:-NOISE]
    assert differ.mean() < 0.01


def test_noise_that_no_home_makes_is_answered_much_alike(both: tuple[Columns, Columns]) -> None:
    off, slack_used = differences(*both)
    assert np.isfinite(off).all()
    assert (off[-NOISE:] <= scoring.PROBABILITY_TOLERANCE).mean() > 0.95
    assert (slack_used[-NOISE:] <= scoring.ERROR_TOLERANCE).mean() > 0.95


def differences(new: Columns, old: Columns) -> tuple[Any, Any]:
    """Return, by sequence, the largest difference of a probability, and that of the error in the
    measure of ERROR_TOLERANCE.
    """
    off = np.abs(new["probability"] - old["probability"]).max(axis=1)
    return off, np.abs(new["error"] - old["error"]) / (1.0 + new["error"])


def test_the_demo_does_its_job_on_tflite_runtime_and_numpy_1(old_python: Path) -> None:
    out = run(old_python, "guardian.cli", "demo")
    assert "Right: hall-camera alone is infected" in out

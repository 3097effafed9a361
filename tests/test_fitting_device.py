"""What a fit makes of a machine: decided with made-up devices, run on two logical CPUs and on two
local workers.
"""

# ruff: noqa: PLC0415 - collecting tests needs no tensorflow
from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guardian.errors import ConfigError, InputError
from tests.conftest import ROOT
from tests.fitters import HOW
from trainer.fitting import device
from trainer.fitting.device import Choice, Gpu, choose
from trainer.fitting.how import Fit, History
from trainer.fitting.progress import Progress

A100 = Gpu("A100", (8, 0))
T4 = Gpu("T4", (7, 5))
K80 = Gpu("K80", (3, 7))
LARGE = 2_000_000


def chosen(*gpus: Gpu, parameters: int = LARGE, cudnn: bool = True, **how: Any) -> Choice:
    return choose(gpus, Fit(**how), parameters=parameters, cudnn=cudnn)


def test_a_cpu_computes_in_float32_without_xla() -> None:
    choice = chosen()
    assert (choice.precision, choice.jit, choice.fused) == ("float32", False, True)
    assert choice.line.startswith("CPU, no GPU found; float32 (")
    assert "\n" not in choice.line


@pytest.mark.parametrize(
    ("gpus", "parameters", "precision"),
    [
        ([A100], LARGE, "bfloat16"),
        ([T4], LARGE, "float16"),
        ([K80], LARGE, "float32"),
        ([A100, T4], LARGE, "float16"),  # what all can do
        ([Gpu("unknown", None)], LARGE, "float32"),
        ([A100], 34_364, "float32"),
    ],
)
def test_narrow_numbers_where_tensor_cores_pay(
    gpus: list[Gpu], parameters: int, precision: str
) -> None:
    assert chosen(*gpus, parameters=parameters).precision == precision
    assert not chosen(*gpus, parameters=parameters).fused  # cuDNN has the LSTM layers


def test_xla_where_no_layer_is_cudnns() -> None:
    assert chosen(A100, cudnn=False).jit
    assert not chosen(A100, cudnn=True).jit
    assert not chosen(A100, cudnn=False, distribute="mirrored").jit
    assert chosen(jit=True).jit
    assert not chosen(A100, cudnn=False, jit=False).jit


def test_wishes_are_kept_or_refused() -> None:
    assert chosen(A100, precision="float32").precision == "float32"
    assert chosen(precision="bfloat16").precision == "bfloat16"
    with pytest.raises(ConfigError, match="float16 needs a GPU"):
        chosen(precision="float16")
    with pytest.raises(ConfigError, match="batch 3 cannot be shared by 4"):
        choose([A100] * 4, Fit(batch=3, distribute="mirrored"), parameters=LARGE)
    assert choose([A100] * 4, Fit(distribute="mirrored"), parameters=LARGE).replicas == 4
    assert "gradient checkpointing" in chosen(recompute=True).line


@dataclass
class _Device:
    name: str


@dataclass
class _Config:
    """Stands in for tf.config."""

    names: list[str]
    begun: bool = False
    grown: list[str] = field(default_factory=list)

    @property
    def experimental(self) -> Any:
        return self

    def list_physical_devices(self, kind: str) -> list[_Device]:
        return [_Device(name) for name in self.names] if kind == "GPU" else []

    def set_memory_growth(self, gpu: _Device, on: bool) -> None:
        if self.begun:
            raise RuntimeError("Physical devices cannot be modified after being initialized")
        assert on
        self.grown.append(gpu.name)

    def get_device_details(self, gpu: _Device) -> dict[str, Any]:
        return {"device_name": f"chip {gpu.name}", "compute_capability": (8, 6)}


def test_gpus_take_memory_as_they_need_it() -> None:
    config = _Config(["g0", "g1"])
    assert device.found(config) == [Gpu("chip g0", (8, 6)), Gpu("chip g1", (8, 6))]
    assert config.grown == ["g0", "g1"]
    late = _Config(["g0"], begun=True)
    assert device.found(late) == [Gpu("chip g0", (8, 6))]
    assert device.found(_Config([])) == []


def test_workers_are_told_by_the_environment() -> None:
    about = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}
    assert device.workers_of({"TF_CONFIG": json.dumps(about)}) == 2
    for bad in ({}, {"TF_CONFIG": "{"}, {"TF_CONFIG": "{}"}):
        with pytest.raises(ConfigError, match="multiworker needs TF_CONFIG"):
            device.workers_of(bad)


# --- progress ---------------------------------------------------------------------------


class _Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_a_bar_with_rate_and_time() -> None:
    screen, lines, clock = _Screen(), list[str](), iter([0.0, 5.0, 10.0])
    bar = Progress("m", 20, 1000, lines.append, stream=screen, clock=lambda: next(clock))
    bar.within(0, 0.5)
    drawn = screen.getvalue()
    assert "m 1/20 [############............] 100 a second, at most 3:15 min left" in drawn
    bar.after(0, History(loss=[0.5], valid=[0.25]))
    assert lines == [
        "m: epoch 1/20, loss 0.5000, held out 0.2500, 100 a second, at most 3:10 min left"
    ]


def test_elsewhere_it_is_a_line_an_epoch() -> None:
    stream, lines = io.StringIO(), list[str]()
    bar = Progress("m", 2, 10, lines.append, stream=stream)
    bar.within(0, 0.5)
    bar.after(0, History(loss=[0.5]))
    bar.clear()
    assert stream.getvalue() == ""
    assert len(lines) == 1


def test_the_time_left_counts_from_where_it_went_on() -> None:
    screen, clock = _Screen(), iter([0.0, 10.0])
    bar = Progress("m", 20, 1000, print, begin=10, stream=screen, clock=lambda: next(clock))
    bar.within(15, 0.0)
    assert "500 a second, at most 10 s left" in screen.getvalue()


def test_compiling_does_not_count_as_rate() -> None:
    screen, clock = _Screen(), iter([0.0, 100.0, 101.0])
    bar = Progress("m", 2, 1000, print, stream=screen, clock=lambda: next(clock))
    bar.compiled(0.1)
    bar.within(0, 0.6)
    assert "500 a second, at most 3 s left" in screen.getvalue()


# --- in processes of their own ----------------------------------------------------------


def _start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    pytest.importorskip("tensorflow")
    return subprocess.Popen(
        [sys.executable, "-m", "tests.fitters", *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""} | environment,
    )  # fmt: skip


def _told(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=110)
    assert process.returncode == 0, err[-3000:]
    told: dict[str, Any] = json.loads(out.splitlines()[-1])
    return told


@pytest.mark.train
@pytest.mark.slow
def test_a_killed_fit_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = _start(str(tmp_path / "whole"), "40")
    killed = _start(str(tmp_path / "killed"), "40")
    assert killed.stderr is not None
    for line in killed.stderr:
        if "epoch 4/40" in line:  # it is in the fifth by now, or writes the fourth's state
            break
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    again = _start(str(tmp_path / "killed"), "40")
    found, wanted = _told(again), _told(whole)
    assert len(found["loss"]) == 40
    assert found == wanted


@pytest.mark.train
def test_a_checkpoint_is_taken_up_only_by_its_own_fit(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    from tests.fitters import fitted

    fitted(replace(HOW, epochs=1), folder=tmp_path)
    file = tmp_path / "checkpoint.npz"
    assert file.exists()
    with pytest.raises(InputError, match="another fit"):
        fitted(replace(HOW, epochs=1), folder=tmp_path, rows=71)
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(InputError, match="cannot be read"):
        fitted(replace(HOW, epochs=1), folder=tmp_path)


@pytest.mark.train
@pytest.mark.slow
def test_two_logical_cpus_give_what_one_gives(tmp_path: Path) -> None:
    both = _start(str(tmp_path / "two"), "3", "mirrored")
    from tests.fitters import fitted

    pytest.importorskip("tensorflow")
    one, _ = fitted(HOW)
    two = _told(both)
    np.testing.assert_allclose(two["loss"], one.loss, rtol=1e-3)
    np.testing.assert_allclose(two["valid"], one.valid, rtol=1e-3)


@pytest.mark.train
@pytest.mark.slow
def test_two_workers_give_what_one_gives(tmp_path: Path) -> None:
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    workers = [f"127.0.0.1:{port}" for port in ports]
    processes = []
    for index in range(2):
        about = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        processes.append(_start(str(tmp_path), "3", "multiworker", TF_CONFIG=json.dumps(about)))
        time.sleep(0.2)
    told = [_told(process) for process in processes]
    from tests.fitters import fitted

    one, _ = fitted(HOW)
    for two in told:
        np.testing.assert_allclose(two["loss"], one.loss, rtol=1e-3)
        np.testing.assert_allclose(two["valid"], one.valid, rtol=1e-3)
    assert told[0]["weights"] == pytest.approx(told[1]["weights"], rel=1e-6)
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoint-0.npz", "checkpoint-1.npz"}


@pytest.mark.train
def test_curves_are_written_for_tensorboard(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    from tests.fitters import fitted

    history, _ = fitted(replace(HOW, tensorboard=True), folder=tmp_path)
    (file,) = (tmp_path / "tensorboard").iterdir()
    found: dict[str, list[float]] = {}
    for record in tf.data.TFRecordDataset(str(file)):
        for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value:
            found.setdefault(value.tag, []).append(float(tf.make_ndarray(value.tensor)))
    assert found["loss/train"] == pytest.approx(history.loss)
    assert found["loss/valid"] == pytest.approx(history.valid)
    assert found["learning rate"] == sorted(found["learning rate"], reverse=True)

"""What the machine has, and what a fit makes of it: decided here, told in one line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from guardian.errors import ConfigError
from trainer.fitting.how import Fit, Precision

PAYS_FROM = 500_000
"""Parameters from which narrow numbers are chosen by themselves: small layers wait for the
launch of their kernels, not for the multiplication."""


@dataclass(frozen=True)
class Gpu:
    """A graphics processor as TensorFlow names it."""

    name: str
    capability: tuple[int, int] | None
    """NVIDIA's compute capability; None where unknown."""


@dataclass(frozen=True)
class Choice:
    """What a fit runs on."""

    gpus: int
    precision: Precision
    """float32, float16 or bfloat16: what layers compute in; weights are always float32."""
    jit: bool
    fused: bool
    """LSTM layers are computed by trainer.fitting.lstm; on a GPU cuDNN has them."""
    replicas: int
    line: str
    """All this in one line for a person."""


class _Config(Protocol):
    """The part of tf.config that is used; tests have their own."""

    def list_physical_devices(self, kind: str) -> Sequence[Any]: ...


def found(config: Any = None) -> list[Gpu]:
    """Return the GPUs, and let each take memory as it needs it, not all at once.

    A GPU whose memory setting can no longer be changed (it is in use already) is used as it is.
    """
    if config is None:
        import tensorflow as tf  # noqa: PLC0415

        config = tf.config
    gpus = []
    for device in config.list_physical_devices("GPU"):
        with suppress(RuntimeError, ValueError):  # in use already, or a logical device
            config.experimental.set_memory_growth(device, True)
        about = config.experimental.get_device_details(device)
        gpus.append(Gpu(about.get("device_name", device.name), about.get("compute_capability")))
    return gpus


def choose(
    gpus: Sequence[Gpu],
    how: Fit,
    *,
    parameters: int,
    cudnn: bool = False,
    cpus: int = 1,
    workers: int = 1,
) -> Choice:
    """Decide what a fit runs on.

    `parameters` is the model's size, `cudnn` whether it has LSTM layers that cuDNN takes (XLA
    cannot hold these), `cpus` the logical CPUs and `workers` the machines of a distributed fit.
    Raises ConfigError for float16 on a CPU, where it is slower and less exact.
    """
    chip = f"{len(gpus)} GPU ({gpus[0].name})" if gpus else "CPU, no GPU found"
    precision, because = _precision(gpus, how, parameters)
    jit, jit_because = _jit(bool(gpus), how, cudnn)
    replicas = 1
    if how.distribute == "mirrored":
        replicas = len(gpus) or cpus
    elif how.distribute == "multiworker":
        replicas = workers * max(1, len(gpus))
    if how.batch < replicas:
        raise ConfigError(f"batch {how.batch} cannot be shared by {replicas}: give a larger one")
    words = [chip, f"{precision} ({because})", f"XLA {'on' if jit else 'off'} ({jit_because})"]
    words.append("LSTM by cuDNN where it can" if gpus else "LSTM steps written out")
    if how.recompute:
        words.append("gradient checkpointing")
    if how.distribute != "off":
        words.append(f"{how.distribute} over {replicas}")
    return Choice(len(gpus), precision, jit, not gpus, replicas, "; ".join(words))


def _precision(gpus: Sequence[Gpu], how: Fit, parameters: int) -> tuple[Precision, str]:
    if how.precision != "auto":
        if how.precision == "float16" and not gpus:
            raise ConfigError("float16 needs a GPU: leave the precision out, or ask for bfloat16")
        return how.precision, "asked for"
    if not gpus:
        return "float32", "narrow numbers do not pay on a CPU"
    if parameters < PAYS_FROM:
        return "float32", "the model is small"
    least = min((gpu.capability or (0, 0)) for gpu in gpus)
    if least >= (8, 0):
        return "bfloat16", "tensor cores"
    if least >= (7, 0):
        return "float16", "tensor cores"
    return "float32", "the GPU has no tensor cores"


def _jit(gpu: bool, how: Fit, cudnn: bool) -> tuple[bool, str]:
    if how.jit is not None:
        return how.jit, "asked for"
    if not gpu:
        return False, "compiling costs more than it saves on a CPU"
    if cudnn:
        return False, "cuDNN has the LSTM layers"
    if how.distribute != "off":
        return False, "several replicas"
    return True, "no layer of cuDNN"


def workers_of(environment: Any = None) -> int:
    """Return how many workers TF_CONFIG names. Raises ConfigError where it cannot be read."""
    text = (os.environ if environment is None else environment).get("TF_CONFIG", "")
    try:
        return len(json.loads(text)["cluster"]["worker"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            "multiworker needs TF_CONFIG: on each machine the same list of workers and its own"
            ' index, {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker",'
            ' "index": 0}}'
        ) from error


def strategy_of(how: Fit) -> Any:
    """Return the tf.distribute strategy that a fit asks for, None without. Call it first of all:
    several workers must be known before TensorFlow does anything else.
    """
    if how.distribute == "multiworker":
        workers_of()
    return None if how.distribute == "off" else _strategy(how.distribute)


@cache
def _strategy(distribute: str) -> Any:
    """Return a strategy, the same for all fits of a process: workers meet only once."""
    import tensorflow as tf  # noqa: PLC0415

    if distribute == "multiworker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    found()  # memory growth is set before the devices are in use
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    return tf.distribute.MirroredStrategy([d.name for d in tf.config.list_logical_devices(kind)])


@contextmanager
def built_for(how: Fit, parameters: int = 0, strategy: Any = None) -> Iterator[None]:
    """Build a model inside this: its layers compute in the precision that `choose` picks, and
    its variables are where the strategy wants them.
    """
    import keras  # noqa: PLC0415

    precision = choose(found(), how, parameters=parameters, workers=1).precision
    before = keras.config.dtype_policy()
    name = "float32" if precision == "float32" else f"mixed_{precision}"
    keras.config.set_dtype_policy(name)
    try:
        if strategy is None:
            yield
        else:
            with strategy.scope():
                yield
    finally:
        keras.config.set_dtype_policy(before)


def uses_cudnn(layers: Sequence[Any], ok: Callable[[Any], bool] | None = None) -> bool:
    """Return whether any of a model's layers is one that cuDNN takes: Keras marks them as not
    for XLA.
    """
    return any(not (ok(layer) if ok else layer.supports_jit) for layer in layers)

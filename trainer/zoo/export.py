"""A fitted network as TFLite in three forms, and as ONNX: what each is worth, and which to take."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from guardian.errors import BundleError
from guardian.tables import F32, F64, I32, Array
from trainer.metrics import auc
from trainer.quantize import to_tflite
from trainer.zoo.config import Config
from trainer.zoo.family import Family, Shape
from trainer.zoo.runner import SECONDS, Runner

FORMS = ("float32", "dynamic", "int8")
BATCHES = (1, 64)
MOST_LOST_AUC = 0.005
"""What a smaller form may lose against Keras' own answers."""
FEW = 0.001
"""The share of benign sequences at which recall is compared."""
ANSWERS = 4_096
"""Sequences that the forms are compared on."""
_ROOT = Path(__file__).resolve().parents[2]

Echo = Callable[[str], None]


@dataclass(frozen=True)
class Fitted:
    """A network after its fit: all that an export needs."""

    family: Family
    shape: Shape
    config: Config
    weights: list[Any]
    """Of `Learner.core`, in Keras' order."""
    representative: F32
    """float32[n, T, F], as the network sees them: set the int8 ranges."""

    def tflite(self, form: str, batch: int) -> bytes:
        """Return the model in a form, for calls of `batch` sequences."""
        rows = self.representative
        if len(rows) < batch:
            rows = rows[np.arange(batch) % len(rows)]
        build = partial(self.family.build, self.shape, self.config)
        return to_tflite(build, self.weights, batch, form, rows)

    def network(self) -> Any:
        """Return the Keras model with its weights."""
        model = self.family.build(self.shape, self.config)
        model.set_weights(self.weights)
        return model


@dataclass(frozen=True)
class Report:
    """What a form is worth."""

    form: str
    bytes: int
    microseconds: dict[str, dict[str, float]]
    """By runtime and batch, of one sequence on one thread."""
    difference: dict[str, float]
    """By runtime: the largest difference of an output from Keras."""
    spread: float
    """Largest less smallest of Keras' outputs, to read the difference by."""
    auc: float | None = None
    auc_lost: float | None = None
    recall_lost: float | None = None
    """At 0.1 % of the benign sequences; None where the rows have no label or are of one kind."""


@dataclass(frozen=True)
class Exported:
    """The forms' files and reports, and the one to take."""

    files: dict[str, bytes] = field(repr=False)
    """By form, for calls of BATCHES[-1] sequences."""
    reports: list[Report]
    chosen: str
    why: str

    def as_json(self) -> dict[str, Any]:
        """Return what a report file holds."""
        forms = [asdict(report) for report in self.reports]
        return {"chosen": self.chosen, "why": self.why, "forms": forms}


def export(
    fitted: Fitted,
    x: F32,
    label: Array | None = None,
    *,
    length: I32 | None = None,
    forms: tuple[str, ...] = FORMS,
    other: Path | None = None,
    seconds: float = SECONDS,
    echo: Echo = print,
) -> Exported:
    """Return the forms of a fitted network, compared with Keras on held-out sequences.

    x is float32[n, T, F] as the network sees it, label int[n] (0 benign); `other` is the Python
    of a venv with the other runtime, `seconds` how long each timing lasts. Raises BundleError
    where a runtime does not run a form.
    """
    index = np.linspace(0, len(x) - 1, min(len(x), ANSWERS)).astype(np.int64)
    x = x[index]
    label = None if label is None else np.asarray(label)[index]
    length = None if length is None else length[index]
    wanted = np.asarray(fitted.network().predict(x, batch_size=512, verbose=0))
    score = partial(_worth, fitted.family, x, label, length)
    plain = score(wanted)
    files: dict[str, bytes] = {}
    reports = []
    for form in forms:
        models = [fitted.tflite(form, batch) for batch in BATCHES]
        files[form] = models[-1]
        found = {"here": _here(models, x, seconds)}
        if other is not None:
            found["other"] = _there(models, x, other, seconds)
        by_runtime = {ran.runtime: ran for ran in found.values()}
        worth = score(found["here"].answers)
        report = Report(
            form=form,
            bytes=len(models[-1]),
            microseconds={name: ran.microseconds for name, ran in by_runtime.items()},
            difference={
                name: float(np.abs(ran.answers - wanted).max()) for name, ran in by_runtime.items()
            },
            spread=float(np.ptp(wanted)),
            auc=worth and worth[0],
            auc_lost=worth and plain and plain[0] - worth[0],
            recall_lost=worth and plain and plain[1] - worth[1],
        )
        echo(line(report))
        reports.append(report)
    return Exported(files, reports, *choose(reports))


def line(report: Report) -> str:
    """Return a report as one line for a person."""
    times = ", ".join(
        f"{name} {' / '.join(f'{us:g}' for us in by.values())} us"
        for name, by in report.microseconds.items()
    )
    off = max(report.difference.values())
    lost = "" if report.auc_lost is None else f", AUC {-report.auc_lost:+.4f}"
    return (
        f"{report.form}: {report.bytes:,} bytes, off by {off:.2g} of {report.spread:.2g}{lost}, "
        f"at batch {' / '.join(map(str, BATCHES))}: {times}"
    )


def choose(reports: list[Report]) -> tuple[str, str]:
    """Return the form to take and why: the quickest at full batch here among those that lose at
    most MOST_LOST_AUC; float32, which loses nothing, is always among them.
    """

    def quick(report: Report) -> float:
        return next(iter(report.microseconds.values()))[str(BATCHES[-1])]

    lost = {r.form: r.auc_lost for r in reports}
    good = [r for r in reports if r.form == "float32" or (lost[r.form] or 0.0) <= MOST_LOST_AUC]
    best = min(good or reports, key=quick)
    refused = [r.form for r in reports if r not in good]
    why = f"{best.form} is the quickest"
    if refused:
        names = " and ".join(f"{form} lost {lost[form]:.4f} of AUC" for form in refused)
        why += f" of those that lose at most {MOST_LOST_AUC}: {names}"
    return best.form, why


def to_onnx(fitted: Fitted, path: Path, x: F32) -> float:
    """Write the network as ONNX, for any batch, and return the largest difference between
    onnxruntime's and Keras' answers to x. Raises BundleError where the tools are not installed.
    """
    import tensorflow as tf  # noqa: PLC0415 - slow, and only this needs it here

    try:
        import onnxruntime  # noqa: PLC0415 - both are extras of extras
        import tf2onnx  # noqa: PLC0415
    except ImportError as error:
        raise BundleError(
            "ONNX needs tf2onnx and onnxruntime: run `pip install tf2onnx onnxruntime`"
        ) from error
    model = fitted.network()
    spec = (tf.TensorSpec((None, *x.shape[1:]), tf.float32, name="x"),)
    answer = tf.function(lambda x: model(x, training=False), input_signature=spec)
    tf2onnx.convert.from_function(answer, input_signature=spec, opset=17, output_path=str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x})
    return float(np.abs(found - model.predict(x, batch_size=512, verbose=0)).max())


# --- one form on one runtime ----------------------------------------------------------------


@dataclass(frozen=True)
class _Ran:
    runtime: str
    answers: F32
    microseconds: dict[str, float]


def _here(models: list[bytes], x: F32, seconds: float) -> _Ran:
    runners = [Runner(content) for content in models]
    times = {str(r.batch): r.microseconds(x, seconds) for r in runners}
    return _Ran(runners[-1].runtime, runners[-1](x), times)


def _there(models: list[bytes], x: F32, python: Path, seconds: float) -> _Ran:
    """Run the models in another Python."""
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "in.npz", Path(folder) / "out.npz"
        contents: Mapping[str, Any] = {
            f"model_{k}": np.frombuffer(content, np.uint8) for k, content in enumerate(models)
        }
        np.savez(given, x=x, **contents)
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        words = [str(python), "-m", "trainer.zoo.runner", str(given), str(out), str(seconds)]
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, cwd=_ROOT, env=clean
        )
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise BundleError(f"{python} did not run the exported model: {said[:200]}")
        with np.load(out) as found:
            last = len(models) - 1
            times = {str(b): float(found[f"us_{k}"]) for k, b in enumerate(BATCHES)}
            return _Ran(str(found["runtime"]), found[f"y_{last}"], times)


def _worth(
    family: Family, x: F32, label: Array | None, length: I32 | None, answers: Array
) -> tuple[float, float] | None:
    """Return AUC and recall at FEW of the benign sequences, or None where labels are missing."""
    if label is None or not (label == 0).any() or not (label > 0).any():
        return None
    score: F64 = family.score(answers, x, length)
    benign, attacks = score[label == 0], score[label > 0]
    reached = np.quantile(benign, 1.0 - FEW)
    return auc(benign, attacks), float((attacks > reached).mean())

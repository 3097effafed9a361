"""Every network of the zoo: it learns, its export twin answers alike, its forms run everywhere."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from guardian.features import NAMES as FEATURES
from tests.conftest import ROOT
from trainer.zoo.family import REGISTRY, Shape

pytestmark = [pytest.mark.train, pytest.mark.timeout(240)]


@pytest.fixture(autouse=True)
def needs_tensorflow() -> None:
    """Skip where there is none, without importing it while tests are collected."""
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("needs tensorflow")


WINDOW, CLASSES, ROWS, BATCH = 4, 5, 256, 8
NETWORKS = (
    "lstm-autoencoder", "deep-lstm-autoencoder", "lstm-classifier", "lstm-pair", "views", "bilstm",
    "temporal-attention", "cnn-lstm", "transformer", "vae", "gan",
)  # fmt: skip
PARAMETERS = {
    "lstm-autoencoder": 34_364, "deep-lstm-autoencoder": 245_284, "lstm-classifier": 34_407,
    "bilstm": 548_615, "temporal-attention": 145_605, "cnn-lstm": 49_735, "transformer": 69_511,
    "vae": 45_876, "gan": 44_836,
}  # fmt: skip
"""At the default shape with 20 features and 7 classes, or as each test says."""
COMPILED = ("temporal-attention", "transformer", "vae", "gan")
OLD = ROOT / ".venv-tflite" / "bin" / "python"


def load(name: str) -> Any:
    """Return a module of the trainer that needs tensorflow; skips where there is none."""
    pytest.importorskip("tensorflow")
    return importlib.import_module(f"trainer.{name}")


def family(name: str) -> Any:
    load("zoo.parts")
    return REGISTRY[name]


def small(name: str, **changes: Any) -> tuple[Any, Shape, Any]:
    """Return a family, its shape and config of a size that takes seconds."""
    found = family(name)
    sizes = {"hidden": 8, "code": 4, "slots": 4, "heads": 2, "dropout": 0.1, "rate": 5e-3}
    config = found.config(window=WINDOW, **{k: v for k, v in sizes.items() if k in found.uses})
    return found, Shape(WINDOW, len(FEATURES), CLASSES), config.with_(**changes)


def toy(seed: int = 0) -> tuple[Any, Any, Any]:
    """Sequences of smooth waves; a class lifts a feature of the last steps."""
    rng = np.random.default_rng(seed)
    phase = rng.uniform(0, 6, (ROWS, 1, len(FEATURES)))
    x = np.sin(phase + np.arange(WINDOW)[None, :, None]) + 0.1 * rng.normal(
        size=(ROWS, WINDOW, len(FEATURES))
    )
    label = rng.integers(0, CLASSES, ROWS)
    x[np.arange(ROWS), -2:, label] += 3.0 * (label > 0)[:, None]
    return x.astype(np.float32), label, rng.integers(0, 3, ROWS)


def fitted(name: str, **changes: Any) -> tuple[Any, list[float]]:
    """Return trainer.zoo.export.Fitted of a short fit, and the losses of its epochs."""
    keras = load("fit").keras
    keras.utils.set_random_seed(5)
    found, shape, config = small(name, **changes)
    x, label, group = toy()
    learner = found.learner(shape, config, 3)
    # Tracing takes most of the time: only those with layers of their own are compiled.
    how = {"jit_compile": False, "run_eagerly": name not in COMPILED}
    learner.model.compile(keras.optimizers.Adam(config.rate), learner.loss, **how)
    history = learner.model.fit(
        x, learner.targets(x, label, group), sample_weight=np.ones(ROWS, np.float32),
        batch_size=32, epochs=4, verbose=0, validation_split=0.1,
    ).history  # fmt: skip
    assert learner.monitor in history
    losses = history[learner.monitor.removeprefix("val_")]
    return load("zoo.export").Fitted(found, shape, config, learner.core.get_weights(), x), losses


once = cache(fitted)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_short_fit_lowers_the_loss(name: str) -> None:
    _, losses = once(name)
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_export_twin_answers_as_the_model_that_was_fitted(name: str) -> None:
    made, _ = once(name)
    x, _, _ = toy(1)
    twin = made.family.build(made.shape, made.config, unroll=True, batch=ROWS)
    model = made.network()
    assert [w.shape for w in twin.get_weights()] == [w.shape for w in model.get_weights()]
    twin.set_weights(made.weights)
    wanted = np.asarray(model(x, training=False))
    np.testing.assert_allclose(np.asarray(twin(x, training=False)), wanted, atol=1e-4)
    assert np.ptp(wanted) > 0.1
    score = made.family.score(wanted, x)
    assert score.shape == (ROWS,)
    assert score.dtype == np.float64
    assert score.min() >= 0
    assert score.std() > 0


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_drawings_have_their_known_sizes(name: str) -> None:
    found = family(name)
    features = 4 if "autoencoder" in name else 20
    shape = Shape(found.defaults.window, features, 7)
    assert found.build(shape, found.defaults).count_params() == PARAMETERS[name]


def test_the_plain_autoencoder_has_its_known_size_with_relu() -> None:
    found = family("lstm-autoencoder")
    assert found.defaults.activation == "tanh"
    model = found.build(Shape(10, 4, 0), found.config(activation="relu"))
    assert model.count_params() == 34_364


def test_layers_and_widths_do_what_they_say() -> None:
    found = family("temporal-attention")
    for window in (4, 7, 10):
        for layers in (1, 2, 3):
            config = found.config(window=window, layers=layers, hidden=8, heads=2)
            model = found.build(Shape(window, 3, 2), config)
            assert sum("lstm" in layer.name for layer in model.layers) == layers
            assert model(np.zeros((2, window, 3), np.float32)).shape == (2, 2)


# --- the forms ------------------------------------------------------------------------------

FORMS = ("float32", "dynamic", "int8")
CLOSE = {"float32": 1e-4, "dynamic": 0.05, "int8": 0.1}
"""How far a form may be off, as a share of the spread of Keras' answers."""


@cache
def form(name: str, kind: str) -> bytes:
    made: bytes = once(name)[0].tflite(kind, BATCH)
    return made


def off(name: str, answers: Any) -> float:
    """Return the largest difference from Keras as a share of the spread of its answers."""
    wanted = once(name)[0].network()(toy()[0], training=False)
    return float(np.abs(answers - np.asarray(wanted)).max() / np.ptp(wanted))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", FORMS)
def test_a_form_runs_with_builtin_operations_and_answers_alike(name: str, kind: str) -> None:
    content = form(name, kind)
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    codes = {max(c.builtinCode, c.deprecatedBuiltinCode) for c in model.operatorCodes}
    assert schema.BuiltinOperator.CUSTOM not in codes
    assert schema.BuiltinOperator.READ_VARIABLE not in codes
    assert b"Flex" not in content
    runner = load("zoo.runner").Runner(content)
    assert runner.runtime == "ai_edge_litert"
    assert off(name, runner(toy()[0])) < CLOSE[kind]


@pytest.mark.slow
def test_every_form_answers_alike_on_the_other_runtime(tmp_path: Path) -> None:
    if not OLD.exists():
        if sys.version_info >= (3, 12):
            pytest.skip("tflite-runtime's last release ends at Python 3.11")
        pytest.fail(f"{OLD} is missing: run `make tflite`, as `make test` does")
    every = [(name, kind) for name in NETWORKS for kind in FORMS]
    models: dict[str, Any] = {
        f"model_{k}": np.frombuffer(form(*one), np.uint8) for k, one in enumerate(every)
    }
    np.savez(tmp_path / "in.npz", x=toy()[0], **models)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("GUARDIAN_", "PYTHON"))}
    words = [str(OLD), "-W", "error", "-m", "trainer.zoo.runner", "in.npz", "out.npz", "0"]
    words[5:7] = [str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, cwd=ROOT, env=clean, timeout=200
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "out.npz") as found:
        assert str(found["runtime"]) == "tflite_runtime"
        assert str(found["numpy"]).startswith("1.")
        far = {one: off(one[0], found[f"y_{k}"]) for k, one in enumerate(every)}
    assert {one: v for one, v in far.items() if v >= CLOSE[one[1]]} == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_answers_as_keras_for_any_batch(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    made = once(name)[0]
    x = toy(2)[0]
    for rows in (x, x[:1]):
        assert load("zoo.export").to_onnx(made, tmp_path / "m.onnx", rows) < 1e-4


@pytest.mark.slow
def test_an_export_says_what_each_form_is_worth_and_takes_a_good_one() -> None:
    export = load("zoo.export")
    x, label, _ = toy(3)
    said: list[str] = []
    made = export.export(once("lstm-classifier")[0], x, label, seconds=0.01, echo=said.append)
    assert [r.form for r in made.reports] == list(FORMS)
    assert len(said) == len(FORMS)
    for report in made.reports:
        assert report.bytes == len(made.files[report.form])
        (by_batch,) = report.microseconds.values()
        assert by_batch["1"] > 0 < by_batch["64"]
        assert 0 <= max(report.difference.values()) < 0.1 * report.spread
        assert abs(report.auc_lost) < 0.02
    assert made.reports[0].auc_lost == pytest.approx(0, abs=1e-6)
    assert made.as_json()["chosen"] == made.chosen


def test_a_form_that_loses_too_much_is_not_taken() -> None:
    export = load("zoo.export")

    def report(kind: str, us: float, lost: float | None) -> Any:
        return export.Report(kind, 1, {"here": {"1": 9.0, "64": us}}, {}, 1.0, 0.9, lost, 0.0)

    forms = [report("float32", 5.0, 0.0), report("dynamic", 4.0, 0.004), report("int8", 1.0, 0.006)]
    chosen, why = export.choose(forms)
    assert chosen == "dynamic"
    assert "int8 lost 0.0060 of AUC" in why
    assert export.choose([report("float32", 5.0, None), report("int8", 1.0, None)])[0] == "int8"

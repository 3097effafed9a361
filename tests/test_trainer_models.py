"""Models that train, become int8 TFLite, and answer as they did before."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from guardian import bundle, features, scoring
from guardian.errors import InputError
from trainer import labels, metrics
from trainer.rows import Rows

pytestmark = pytest.mark.train


def trainer(name: str) -> Any:
    """Return a module of the trainer that needs tensorflow; skips where there is none."""
    pytest.importorskip("tensorflow")
    return importlib.import_module(f"trainer.{name}")


def toy(m: int = 600, seed: int = 0) -> Rows:
    """Sequences whose class stands in the last step: class k raises feature k."""
    rng = np.random.default_rng(seed)
    count = len(labels.CLASSES)
    x = np.zeros((m, 12, len(features.NAMES)), np.float32)
    x[:, :, :count] = rng.normal(size=(m, 12, count))
    label = rng.integers(0, count, m).astype(np.int8)
    x[np.arange(m), -1, label] += 6.0 * (label > 0)
    length = rng.integers(1, 13, m).astype(np.int32)
    return Rows(x, length, label, np.zeros(m, np.int64), np.ones(m, np.bool_), (("toy", "toy"),))


def test_a_run_becomes_a_bundle_that_knows_what_it_learned(tmp_path: Path) -> None:
    run, recipe = trainer("run"), trainer("recipe")
    said: list[str] = []
    material = recipe.Material(toy(2000, 1), toy(600, 2), ())
    how = recipe.Recipe(
        epochs=25, autoencoder_epochs=2, classifier="lstm-classifier", smoothing=0.0
    )
    fitted = run.fit_run(material, how, said.append)
    run.save(fitted, tmp_path / "a.run")
    made = trainer("commands").export(tmp_path / "a.run", tmp_path / "a", echo=said.append)
    assert any("a second" in line for line in said)
    assert made.classifier.form == "int8"
    assert builtin_only(made.classifier.members[0].content)
    assert builtin_only(made.autoencoder.content)

    test = toy(500, 3)
    pair = scoring.Pair(
        made.scaler, made.autoencoder, made.classifier, (12, len(features.NAMES)),
        len(labels.CLASSES),
    )  # fmt: skip
    answers = np.concatenate([a[1] for a in pair.infer(test.x, test.length)])
    threat, bad = 1 - answers[:, 0], test.label > 0
    assert metrics.auc(threat[~bad], threat[bad]) > 0.9
    assert bundle.load(tmp_path / "a").digest == made.digest


def builtin_only(content: bytes) -> bool:
    """Return whether a TFLite model holds no Flex and no custom operation."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    codes = {max(c.builtinCode, c.deprecatedBuiltinCode) for c in model.operatorCodes}
    return schema.BuiltinOperator.CUSTOM not in codes and b"Flex" not in content


@pytest.mark.parametrize("form", ["int8", "float32"])
def test_the_exported_twin_answers_as_the_model_that_was_trained(form: str) -> None:

    trainer("fit").keras.utils.set_random_seed(3)
    x = np.random.default_rng(0).normal(size=(64, 12, 9)).astype(np.float32)

    def builder(name: str, classes: int) -> Any:
        zoo = trainer("zoo.family")
        family = zoo.REGISTRY[name]
        return functools.partial(family.build, zoo.Shape(12, 9, classes), family.defaults)

    build, rebuild = builder("lstm-classifier", 7), builder("lstm-autoencoder", 0)

    model = build()
    content = trainer("quantize").to_tflite(build, model.get_weights(), 16, form, x)
    scaler = bundle.Scaler(np.zeros(9, np.float32), np.ones(9, np.float32), 9.0)
    autoencoder = trainer("quantize").to_tflite(rebuild, rebuild().get_weights(), 16, form, x)
    pair = scoring.Pair(
        scaler,
        bundle.ModelFile("autoencoder", autoencoder, form, 16),
        bundle.ModelFile("classifier", content, form, 16),
        (12, 9),
        7,
    )
    wanted = scoring.softmax(np.asarray(model(x, training=False)))
    found = np.concatenate([a[1] for a in pair.infer(x, np.full(64, 12, np.int32))])
    np.testing.assert_allclose(found, wanted, atol=1e-5 if form == "float32" else 0.03)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no training run"):
        trainer("commands").export(tmp_path, tmp_path / "out")

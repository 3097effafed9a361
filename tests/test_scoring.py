"""The Scorer against models that can be worked out on paper, and against the shipped bundle."""

from __future__ import annotations

import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardian import bundle, scoring
from guardian.errors import BundleError
from guardian.tables import Sequences
from tests import bundles
from tests.bundles import f32

NAMES = ("gap", "size", "share")
T, F, C = 4, 3, len(bundles.CLASSES)


def sequences(x: Any, length: Any) -> Sequences:
    m = len(x)
    blank = Sequences.blank(m)
    return Sequences(
        np.asarray(x, np.float32), np.asarray(length, np.int32), blank.device, blank.row,
        blank.outbound,
    )  # fmt: skip


def some(m: int, seed: int = 0) -> Sequences:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(m, T, F)).astype(np.float32)
    return sequences(x, rng.integers(1, T + 1, size=m))


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> scoring.Scorer:
    rng = np.random.default_rng(5)
    folder = bundles.write(
        tmp_path_factory.mktemp("linear"),
        names=NAMES,
        window=T,
        weights=rng.normal(size=(C, T, F)).astype(np.float32),
        gain=0.5,
        anomaly=0.25,
        mean=f32([0.5, 0, -1]),
        scale=f32([1, 2, 0.5]),
    )
    return scoring.Scorer(bundle.load(folder, NAMES))


def test_scores_are_what_the_linear_models_say(scorer: scoring.Scorer) -> None:
    seqs = sequences([[[9, 9, 9]] * 3 + [[1.5, 4, -1.5]]], [1])
    scores = scorer.score(seqs)
    z = f32([1, 2, -1])  # the only real step, scaled
    np.testing.assert_allclose(scores.error[0], (0.5 * z) ** 2, rtol=1e-5)
    np.testing.assert_allclose(scores.anomaly[0], np.mean((0.5 * z) ** 2) / 0.25, rtol=1e-5)
    weights = np.random.default_rng(5).normal(size=(C, T, F)).astype(np.float32)
    power = np.exp(weights[:, -1] @ z)
    np.testing.assert_allclose(scores.probability[0], power / power.sum(), rtol=1e-4)
    assert scores.label[0] == power.argmax()
    np.testing.assert_allclose(scores.threat[0], 1 - power[0] / power.sum(), rtol=1e-4)


@given(st.integers(0, 40), st.integers(0, 40))
def test_batches_change_nothing(scorer: scoring.Scorer, m: int, cut: int) -> None:
    seqs = some(m)
    whole = scorer.score(seqs)
    parts = [scorer.score(seqs.take(slice(0, cut))), scorer.score(seqs.take(slice(cut, None)))]
    for name in ("anomaly", "threat", "label", "probability", "error"):
        joined = np.concatenate([getattr(p, name) for p in parts])
        np.testing.assert_allclose(getattr(whole, name), joined, rtol=1e-5, atol=1e-6)
    assert len(whole) == m


def test_what_stands_in_the_padding_changes_nothing(scorer: scoring.Scorer) -> None:
    seqs = some(30)
    padded = np.arange(T) < (T - seqs.length)[:, None]
    other = seqs.x.copy()
    other[padded] = 1e6
    a, b = scorer.score(seqs), scorer.score(sequences(other, seqs.length))
    np.testing.assert_array_equal(a.probability, b.probability)
    np.testing.assert_array_equal(a.anomaly, b.anomaly)


def test_a_constant_bundle_answers_the_same_to_everything(tmp_path: Path) -> None:
    loaded = bundle.load(bundles.write_constant(tmp_path, names=NAMES, window=T), NAMES)
    scores = scoring.Scorer(loaded).score(some(100))
    assert np.ptp(scores.threat) == 0
    assert np.ptp(scores.anomaly) == 0
    assert (scores.threat < loaded.threat_threshold).all()
    assert (scores.anomaly < loaded.anomaly_threshold).all()


def test_other_models_than_the_golden_outputs_know_are_refused(tmp_path: Path) -> None:
    folder = bundles.write(tmp_path / "a", names=NAMES, window=T)
    other = bundles.linear_classifier((T, F), np.zeros((C, T, F), np.float32), f32([3] + [0] * 6))
    swap(folder, "classifier.tflite", other)
    with pytest.raises(BundleError, match="golden outputs"):
        scoring.Scorer(bundle.load(folder, NAMES))


def test_a_model_of_another_shape_or_none_is_refused(tmp_path: Path) -> None:
    folder = bundles.write(tmp_path / "a", names=NAMES, window=T)
    swap(folder, "autoencoder.tflite", bundles.linear_autoencoder((T, F + 1), 1.0))
    with pytest.raises(BundleError, match="shapes"):
        scoring.Scorer(bundle.load(folder, NAMES))
    swap(folder, "autoencoder.tflite", b"no model at all")
    with pytest.raises(BundleError, match="cannot be run"):
        scoring.Scorer(bundle.load(folder, NAMES))


def test_without_a_runtime_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = bundle.load(bundles.write(tmp_path, names=NAMES, window=T), NAMES)

    def missing(name: str, package: str | None = None) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(BundleError, match="pip install ai-edge-litert"):
        scoring.Scorer(loaded)


def test_the_shipped_bundle_gives_its_golden_outputs_and_runs_any_number() -> None:
    loaded = bundle.load(bundle.default_path())
    scorer = scoring.Scorer(loaded)
    golden = loaded.golden
    for m in (0, 1, loaded.classifier.batch + 1):
        index = np.arange(m) % len(golden.x)
        scores = scorer.score(sequences(golden.x[index], golden.length[index]))
        assert np.isfinite(scores.probability).all()
        np.testing.assert_allclose(scores.probability, golden.probability[index], atol=0.1)
    assert len(set(golden.probability.argmax(axis=1).tolist())) > 3, "golden cases of all kinds"


def swap(folder: Path, name: str, content: bytes) -> None:
    """Put another file into a bundle, with its right digest."""
    (folder / name).write_bytes(content)
    path = folder / bundle.MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["files"][name] = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(manifest), encoding="utf-8")

"""A bundle is loaded whole or refused with a sentence that says what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guardian import bundle
from guardian.errors import BundleError
from tests import bundles

NAMES = ("gap", "size", "share")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return bundles.write(tmp_path / "b", names=NAMES, window=4)


def refused(folder: Path, names: tuple[str, ...] = NAMES) -> str:
    with pytest.raises(BundleError) as caught:
        bundle.load(folder, names)
    text = str(caught.value)
    assert "\n" not in text
    return text


def edit(folder: Path, **changes: Any) -> None:
    path = folder / bundle.MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest.update(changes)
    path.write_text(json.dumps(manifest), encoding="utf-8")


def test_a_good_bundle_is_loaded_as_its_manifest_says(folder: Path) -> None:
    loaded = bundle.load(folder, NAMES)
    assert loaded.features == NAMES
    assert loaded.window == 4
    assert loaded.classes == bundles.CLASSES
    assert (loaded.threat_threshold, loaded.error_threshold) == (0.9, 1.0)
    assert loaded.anomaly_threshold == 1.0
    assert loaded.usual.shape == (3, 3)
    assert len(loaded.digest) == 64
    assert loaded.classifier.batch == bundles.BATCH
    assert loaded.golden.x.shape == (5, 4, 3)


def test_scaling_clips_and_clears_the_padding() -> None:
    scaler = bundle.Scaler(bundles.f32([1, 0]), bundles.f32([2, 1]), 3.0)
    x = np.full((1, 3, 2), 5, np.float32)
    z = scaler.apply(x, np.array([2], np.int32))
    assert z.tolist() == [[[0, 0], [2, 3], [2, 3]]]
    assert x.min() == 5


def test_a_missing_folder_or_file_is_named(folder: Path, tmp_path: Path) -> None:
    assert "no bundle folder" in refused(tmp_path / "nowhere")
    for name in (bundle.MANIFEST, "golden.npz", "classifier.tflite", "card.md"):
        copy = tmp_path / name
        copy.mkdir()
        for file in folder.iterdir():
            if file.name != name:
                (copy / file.name).write_bytes(file.read_bytes())
        text = refused(copy)
        assert name in text
        assert "make bundle" in text


@pytest.mark.parametrize(
    "name", ["autoencoder.tflite", "classifier.tflite", "golden.npz", "card.md"]
)
def test_a_changed_byte_anywhere_is_refused(folder: Path, name: str) -> None:
    path = folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    text = refused(folder)
    assert name in text
    assert "sha256" in text


def test_other_features_are_refused_and_named(folder: Path) -> None:
    text = refused(folder, ("gap", "size", "rate"))
    assert "lacks rate" in text
    assert "has share" in text
    assert "make bundle" in text
    assert "another order" in refused(folder, ("size", "gap", "share"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": 99}, "format"),
        ({"window": 0}, "window"),
        ({"window": 5}, "shapes"),
        ({"window": "many"}, "many"),
        ({"classes": ["scan", "benign"]}, "benign first"),
        ({"scaler": {"mean": [0, 0, 0], "scale": [1, 0, 1], "clip": 3}}, "scale"),
        ({"scaler": {"mean": [0, float("nan"), 0], "scale": [1, 1, 1], "clip": 3}}, "finite"),
        ({"scaler": {"mean": [0, 0], "scale": [1, 1, 1], "clip": 3}}, "shape"),
        ({"scaler": {"mean": [0, 0, 0], "scale": [1, 1, 1]}}, "clip"),
        ({"thresholds": {"anomaly": 0, "threat": 0.5}}, "above 0"),
        ({"thresholds": {"anomaly": 1, "threat": float("inf")}}, "above 0"),
        ({"usual": [[0, 0, 0]]}, "usual"),
        ({"models": {}}, "autoencoder"),
        ({"models": None}, "not describe"),
        ({"files": {"../x": "0"}}, "plain file name"),
        ({"files": None}, "not describe"),
        ({"files": "x"}, "not describe"),
    ],
)
def test_a_wrong_manifest_is_refused(folder: Path, changes: dict[str, Any], says: str) -> None:
    edit(folder, **changes)
    assert says in refused(folder)


def test_a_manifest_that_is_no_object_is_refused(folder: Path) -> None:
    for text in ("", "{", "[]", "null"):
        (folder / bundle.MANIFEST).write_text(text, encoding="utf-8")
        refused(folder)


def test_the_shipped_bundle_loads_with_the_features_of_today() -> None:
    loaded = bundle.load(bundle.default_path())
    assert loaded.classes == bundles.CLASSES
    assert loaded.autoencoder.form in bundle.FORMS
    assert 0.5 < loaded.threat_threshold < 1
    assert (np.diff(loaded.usual, axis=0) >= 0).all()
    assert sum(f.stat().st_size for f in bundle.default_path().iterdir()) < 1 << 20

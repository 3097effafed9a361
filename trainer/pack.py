"""Writing a bundle: models, golden outputs, manifest and card, all or nothing."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

import guardian
from guardian import bundle
from guardian.bundle import Scaler
from guardian.errors import BundleError
from guardian.members import Ensemble, ModelFile, alone
from guardian.minisign import SUFFIX
from guardian.scoring import Pair, Scorer
from guardian.tables import F32, I32
from trainer.labels import CLASSES


@dataclass(frozen=True)
class Parts:
    """All that a bundle is made of, apart from its card."""

    name: str
    version: str
    features: tuple[str, ...]
    window: int
    scaler: Scaler
    autoencoder: bytes
    classifier: bytes | Ensemble
    """A TFLite model of `form` and `batch`, or several models that answer together."""
    form: str
    batch: int
    """Of the autoencoder, and of a classifier that is one model."""
    error_threshold: float
    threat_threshold: float
    calibrated_on: str
    usual: F32
    golden_x: F32
    """float32[g, T, F]: raw sequences whose answers are kept."""
    golden_length: I32
    about: Mapping[str, Any] = field(default_factory=dict)
    """Further keys for people: datasets, seed, recipe, metrics."""
    class_thresholds: Mapping[str, float] = field(default_factory=dict)
    """Threat lines of those classes of devices that have their own."""


def write(folder: Path, parts: Parts, card: str) -> bundle.Bundle:
    """Write a bundle into folder (made or replaced) and return it, loaded and checked.

    It is built beside the folder first, so that a failure leaves the old one as it was.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".bundle-") as name:
        new = Path(name) / folder.name
        new.mkdir()
        _fill(new, parts, card)
        loaded = bundle.load(new, parts.features)
        Scorer(loaded)
        for old in folder.iterdir() if folder.is_dir() else ():
            if old.is_file():
                old.unlink()
        folder.mkdir(exist_ok=True)
        for file in sorted(new.iterdir()):
            shutil.move(file, folder / file.name)
    return bundle.load(folder, parts.features)


def amend(folder: Path, what: str, change: Callable[[dict[str, Any]], None]) -> str:
    """Let `change` alter the manifest of a bundle that is there already; return the new digest.

    Raises BundleError where the bundle is signed: whoever has the key signs it again.
    """
    bundle.load(folder)
    if (folder / (bundle.MANIFEST + SUFFIX)).exists():
        raise BundleError(f"{folder} is signed: write the {what} before it is signed")
    path = folder / bundle.MANIFEST
    found = json.loads(path.read_text(encoding="utf-8"))
    change(found)
    path.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return bundle.load(folder).digest


def _fill(folder: Path, parts: Parts, card: str) -> None:
    autoencoder = ModelFile("autoencoder", parts.autoencoder, parts.form, parts.batch)
    classifier = (
        parts.classifier
        if isinstance(parts.classifier, Ensemble)
        else alone(ModelFile("classifier", parts.classifier, parts.form, parts.batch))
    )
    models = {one.file: one.content for one in (autoencoder, *classifier.members)}
    if len(models) != 1 + len(classifier.members):
        raise BundleError("two models of the bundle have one name: give each its own")
    pair = Pair(
        parts.scaler,
        autoencoder,
        classifier,
        (parts.window, len(parts.features)),
        len(CLASSES),
    )
    answers = list(pair.infer(parts.golden_x, parts.golden_length))
    archive = io.BytesIO()
    np.savez_compressed(
        archive,
        x=parts.golden_x,
        length=parts.golden_length,
        probability=np.concatenate([a[1] for a in answers]),
        error=np.concatenate([a[2] for a in answers]),
    )
    contents = {
        **models,
        bundle.GOLDEN: archive.getvalue(),
        bundle.CARD: card.encode("utf-8"),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    manifest = {
        "format": bundle.FORMAT,
        "name": parts.name,
        "version": parts.version,
        "created": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "guardian": guardian.__version__,
        "features": list(parts.features),
        "window": parts.window,
        "classes": list(CLASSES),
        "scaler": {
            "mean": _plain(parts.scaler.mean),
            "scale": _plain(parts.scaler.scale),
            "clip": parts.scaler.clip,
        },
        "models": {"autoencoder": autoencoder.as_json(), "classifier": classifier.as_json()},
        "thresholds": {
            "anomaly": parts.error_threshold,
            "threat": parts.threat_threshold,
            "calibrated_on": parts.calibrated_on,
            **({"classes": dict(parts.class_thresholds)} if parts.class_thresholds else {}),
        },
        "usual": [_plain(row) for row in parts.usual],
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
        **parts.about,
    }
    text = json.dumps(manifest, indent=1, allow_nan=False)
    (folder / bundle.MANIFEST).write_text(text + "\n", encoding="utf-8")


def _plain(values: F32) -> list[float]:
    """Return floats that read as short as float32 allows, and come back the same."""
    return [float(str(np.float32(v))) for v in values]

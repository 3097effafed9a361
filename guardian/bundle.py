"""The model bundle: a folder that is loaded whole, checked, or refused.

A bundle is manifest.json and the files it names: the models, golden.npz (raw sequences and what
the models must answer) and card.md. Everything is checked here except the golden outputs:
those need the interpreters, so the Scorer checks them.

Keys of the manifest: format, name, version, created, guardian; features (names in order), window,
classes; scaler {mean, scale, clip}; models {autoencoder, classifier: {file, form, batch}}, or a
classifier of several members (guardian/members.py);
thresholds {anomaly, threat, calibrated_on, perhaps classes: the threat line by class of device};
usual (5, 50, 95 % of each feature in benign traffic);
perhaps prior (guardian/prior.py: what devices of a class do at most in their first day);
files {name: sha256}; and for people: datasets, seed, recipe, metrics.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from guardian import deviceclass, members, minisign, npz, prior
from guardian.errors import BundleError
from guardian.members import FORMS, Ensemble, ModelFile
from guardian.prior import Prior
from guardian.tables import F32, I32

FORMAT = 1
"""Version of the manifest's keys and of what they mean."""
MANIFEST = "manifest.json"
SIGNATURE = MANIFEST + minisign.SUFFIX
GOLDEN = "golden.npz"
CARD = "card.md"
MODELS = ("autoencoder", "classifier")
MAX_FILE_BYTES = 64 << 20
"""Bytes of the files of a bundle: far above any model a gateway can run, far below its memory."""
MAX_MANIFEST_BYTES = 4 << 20
"""Bytes of the manifest; the shipped one has 20 kB. In memory it takes ten times as many."""
MAX_GOLDEN_BYTES = 8 << 20
"""Bytes of an array of golden.npz: a thousand sequences."""
MAX_FILES = 32
MAX_ERROR = 1_000
"""Characters of an error."""
MAX_WORD = 64
"""Characters of a name or a version."""
_CLASS = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
"""Classes become causes of incidents, which stand in topics, tables and sentences."""


__all__ = ["FORMS", "Bundle", "BundleError", "Ensemble", "Golden", "ModelFile", "Scaler", "load"]


@dataclass(frozen=True)
class Scaler:
    """z = clip((x - mean) / scale, -clip, clip), by feature."""

    mean: F32
    scale: F32
    clip: float

    def apply(self, x: F32, length: I32) -> F32:
        """Return scaled float32[m, T, F] of raw sequences; the padded steps are 0."""
        z = (x - self.mean) / self.scale
        np.clip(z, -self.clip, self.clip, out=z)
        steps = x.shape[1]
        z[np.arange(steps) < (steps - length)[:, None]] = 0.0
        return z.astype(np.float32, copy=False)


@dataclass(frozen=True)
class Golden:
    """Raw sequences and what the models must answer for them."""

    x: F32
    """float32[g, T, F], raw."""
    length: I32
    probability: F32
    """float32[g, classes]."""
    error: F32
    """float32[g]: reconstruction error of the sequence."""


@dataclass(frozen=True)
class Bundle:
    """A verified bundle; nothing in it changes after load."""

    folder: Path
    name: str
    version: str
    created: str
    digest: str
    """sha256 of manifest.json in hex: names the bundle in the database."""
    features: tuple[str, ...]
    window: int
    """T, the steps of a sequence."""
    classes: tuple[str, ...]
    """`benign` first."""
    scaler: Scaler
    autoencoder: ModelFile
    classifier: Ensemble
    error_threshold: float
    """Reconstruction error at which Scores.anomaly is 1."""
    threat_threshold: float
    """Scores.threat from which on the classifier speaks."""
    usual: F32
    """float32[3, F]: 5, 50 and 95 % quantiles of the raw features in benign training traffic."""
    golden: Golden
    manifest: Mapping[str, Any]
    class_thresholds: Mapping[str, float] = field(default_factory=dict)
    """threat_threshold of those classes of devices that have their own."""
    prior: Prior | None = None
    """What devices of a class do at most in their first day; None where it does not say."""

    @property
    def anomaly_threshold(self) -> float:
        """Scores.anomaly from which on the autoencoder speaks: the Scorer has divided already."""
        return 1.0


def default_path() -> Path:
    """Return the folder of the shipped bundle, in a checkout or installed."""
    package = Path(__file__).resolve().parent
    for folder in (package / "models" / "default", package.parent / "models" / "default"):
        if (folder / MANIFEST).is_file():
            return folder
    raise BundleError("no model bundle is installed: run `make bundle`, or give one with --bundle")


def load(folder: Path, features: Sequence[str] | None = None, key: str = "") -> Bundle:
    """Read and verify a bundle.

    `features` are the names this Guardian computes (guardian.features.NAMES where not given). With
    `key`, a minisign public key, the manifest must be signed with it.
    Raises BundleError with a sentence on what does not match.
    """
    try:
        return _load(Path(folder), features, key)
    except BundleError as error:
        # It may quote what somebody wrote into the manifest.
        text = "".join(c if c.isprintable() else "?" for c in str(error))
        raise BundleError(text[:MAX_ERROR]) from error


def _load(folder: Path, features: Sequence[str] | None, key: str) -> Bundle:
    if features is None:
        from guardian.features import NAMES  # noqa: PLC0415 - only the default needs it

        features = NAMES
    if not folder.is_dir():
        raise BundleError(f"there is no bundle folder {folder}: give --bundle an existing folder")
    raw = _read(folder / MANIFEST, MAX_MANIFEST_BYTES)
    if key:
        _signed(folder, raw, key)
    try:
        manifest = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{folder / MANIFEST} is no valid JSON: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise BundleError(
            f"{folder} has bundle format {found!r}, this Guardian reads {FORMAT}: "
            "make it again with this version (`make bundle` or `guardian train`)"
        )
    try:
        return _build(folder, manifest, hashlib.sha256(raw).hexdigest(), tuple(features))
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        what = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise BundleError(
            f"{folder / MANIFEST} does not describe a bundle: {what}; make the bundle again"
        ) from error


def _signed(folder: Path, raw: bytes, key: str) -> None:
    """Raise BundleError where the manifest is not signed with this key."""
    path = folder / SIGNATURE
    if not path.is_file():
        raise BundleError(
            f"{folder} is not signed, and the settings name a key: sign it with `minisign -S -m "
            f"{MANIFEST}` or `guardian export --sign`, or empty [model] key"
        )
    try:
        known = minisign.key_of(key)
    except ValueError as error:
        raise BundleError(f"[model] key is {error}: write the line that begins with RW") from error
    try:
        minisign.verify(known, raw, _read(path))
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error


def _build(
    folder: Path, manifest: dict[str, Any], digest: str, features: tuple[str, ...]
) -> Bundle:
    names = tuple(str(n) for n in manifest["features"])
    if names != features:
        raise BundleError(
            f"{folder} was made for other features ({_difference(names, features)}): "
            "run `make bundle`, or train it again with this version"
        )
    window = int(manifest["window"])
    classes = tuple(str(c) for c in manifest["classes"])
    if not 1 <= window <= 1024:
        raise ValueError(f"window {window} is not between 1 and 1024")
    if not 2 <= len(set(classes)) == len(classes) <= 255 or classes[0] != "benign":
        raise ValueError("classes must be distinct names with benign first")
    if not all(_CLASS.fullmatch(name) for name in classes):
        raise ValueError("a class is a word of small letters, digits and hyphens")
    count = len(names)
    scaler = Scaler(
        mean=_numbers(manifest["scaler"]["mean"], (count,), "scaler.mean"),
        scale=_numbers(manifest["scaler"]["scale"], (count,), "scaler.scale"),
        clip=_positive(manifest["scaler"]["clip"], "scaler.clip"),
    )
    if not (scaler.scale > 0).all():
        raise ValueError("scaler.scale must be above 0")
    files = _verify(folder, manifest["files"])
    models = manifest["models"]
    threat = _positive(manifest["thresholds"]["threat"], "thresholds.threat")
    return Bundle(
        folder=folder,
        name=_word(manifest["name"], "name"),
        version=_word(manifest["version"], "version"),
        created=_word(manifest["created"], "created"),
        digest=digest,
        features=names,
        window=window,
        classes=classes,
        scaler=scaler,
        autoencoder=members.model("autoencoder", models["autoencoder"], files),
        classifier=members.classifier(models["classifier"], files),
        error_threshold=_positive(manifest["thresholds"]["anomaly"], "thresholds.anomaly"),
        threat_threshold=threat,
        usual=_numbers(manifest["usual"], (3, count), "usual"),
        golden=_golden(folder, files[GOLDEN], window, count, len(classes)),
        manifest=manifest,
        class_thresholds=_class_thresholds(manifest["thresholds"].get("classes", {})),
        prior=prior.of_manifest(manifest.get("prior")),
    )


def _verify(folder: Path, listed: Mapping[str, str]) -> dict[str, bytes]:
    """Return the content of every listed file; its sha256 must be the one in the manifest."""
    files: dict[str, bytes] = {}
    if len(dict(listed)) > MAX_FILES:
        raise ValueError(f"more than {MAX_FILES} files are listed")
    for name, wanted in dict(listed).items():
        if Path(name).name != name or name in ("", ".", "..") or not name.isprintable():
            raise ValueError(f"{name[:MAX_WORD]!r} is no plain file name")
        content = _read(folder / name, MAX_FILE_BYTES - sum(map(len, files.values())))
        if hashlib.sha256(content).hexdigest() != wanted:
            raise BundleError(
                f"{folder / name} is not the file that the manifest names (its sha256 differs): "
                "install the bundle again, or run `make bundle`"
            )
        files[name] = content
    return files


def _read(path: Path, most: int = MAX_FILE_BYTES) -> bytes:
    try:
        # Not to wait for whoever writes into a pipe that somebody laid here.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise BundleError(f"{path} is no plain file: install the bundle again")
            if found.st_size <= most and len(content := file.read(most + 1)) <= most:
                return content
    except FileNotFoundError as error:
        raise BundleError(
            f"the bundle lacks {path}: install it again, or run `make bundle`"
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BundleError(f"cannot read {path}: {reason}") from error
    raise BundleError(f"{path} is larger than {most >> 20} MiB: no bundle file is")


def _golden(folder: Path, content: bytes, window: int, count: int, classes: int) -> Golden:
    try:
        arrays = npz.arrays(content, ("x", "length", "probability", "error"), MAX_GOLDEN_BYTES)
        with np.errstate(all="ignore"):  # what becomes of numbers out of range is looked at below
            x = np.asarray(arrays["x"], dtype=np.float32)
            length = np.asarray(arrays["length"], dtype=np.int32)
            probability = np.asarray(arrays["probability"], dtype=np.float32)
            error = np.asarray(arrays["error"], dtype=np.float32)
    except npz.FAULTS as fault:
        raise BundleError(
            f"{folder / GOLDEN} cannot be read: {str(fault)[:120]}; make the bundle again"
        ) from fault
    n = len(x)
    shapes = (x.shape[1:], length.shape, probability.shape, error.shape)
    if n == 0 or shapes != ((window, count), (n,), (n, classes), (n,)):
        raise ValueError(f"{GOLDEN} has shapes that do not fit the manifest")
    if not all(np.isfinite(a).all() for a in (x, probability, error)):
        raise ValueError(f"{GOLDEN} holds numbers that are not finite")
    if not ((length >= 1) & (length <= window)).all():
        raise ValueError(f"{GOLDEN} has lengths outside 1 to {window}")
    return Golden(x, length, probability, error)


def _numbers(value: Any, shape: tuple[int, ...], key: str) -> F32:
    with np.errstate(all="ignore"):
        array = np.asarray(value, dtype=np.float32)
    if array.shape != shape:
        raise ValueError(f"{key} has shape {array.shape}, {shape} is needed")
    if not np.isfinite(array).all():
        raise ValueError(f"{key} holds numbers that are not finite")
    array.setflags(write=False)
    return array


def _word(value: Any, key: str) -> str:
    """Return a text that people are shown: one short line that does nothing to a terminal."""
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= MAX_WORD:
        raise ValueError(f"{key} must be a text of at most {MAX_WORD} printable characters")
    return value


def _positive(value: Any, key: str) -> float:
    number = float(value)
    if not math.isfinite(number) or number <= 0:
        raise ValueError(f"{key} must be a number above 0")
    return number


def _class_thresholds(found: Any) -> dict[str, float]:
    """Return the threat lines by class of device."""
    lines = {str(kind): float(line) for kind, line in found.items()}
    if not set(lines) <= set(deviceclass.CLASSES):
        known = ", ".join(deviceclass.CLASSES)
        raise ValueError(f"thresholds.classes may name {known} and nothing else")
    if not all(0.0 < line < 1.0 for line in lines.values()):
        raise ValueError("a line of thresholds.classes is not between 0 and 1")
    return lines


def _difference(theirs: Sequence[str], ours: Sequence[str]) -> str:
    """Return in a few words how two lists of names differ."""
    missing = [n for n in ours if n not in theirs]
    extra = [n for n in theirs if n not in ours]
    if not missing and not extra:
        return "the same names in another order"
    parts = []
    if missing:
        parts.append(f"it lacks {', '.join(missing[:3])}{' and more' if len(missing) > 3 else ''}")
    if extra:
        parts.append(f"it has {', '.join(extra[:3])}{' and more' if len(extra) > 3 else ''}")
    return ", ".join(parts)

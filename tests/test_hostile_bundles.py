"""Bundles that somebody made to hurt: every one gives a sentence, none a crash or a hang.

`make fuzz-bundles` runs the long form of the last test.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian import bundle, minisign, scoring
from guardian.errors import BundleError, GuardianError
from guardian.trial import Trial
from tests import bundles

NAMES = ("gap", "size", "share")
LONG = int(os.environ.get("GUARDIAN_FUZZ_BUNDLES", "0"))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundles.write(tmp_path_factory.mktemp("sound") / "b", names=NAMES, window=4)


def outcome(folder: Path) -> str:
    """Return what a load says; raises what is no GuardianError."""
    try:
        scoring.Scorer(bundle.load(folder, NAMES))
    except GuardianError as error:
        text = str(error)
        assert text.isprintable()
        assert len(text) <= bundle.MAX_ERROR
        return text
    return ""


def with_manifest(sound: Path, place: Path, raw: bytes) -> Path:
    """Return a folder of links to a bundle's files, with another manifest."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for file in sound.iterdir():
        if file.name != bundle.MANIFEST:
            (place / file.name).symlink_to(file)
    (place / bundle.MANIFEST).write_bytes(raw)
    return place


ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(), st.text(max_size=20),
    st.sampled_from(["\x1b[2J", "../x", "a\nb", "a" * 10_000, "NaN", "1e999"]),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.none(), max_size=2),
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every value of a manifest."""
    keys: Any = value.keys() if isinstance(value, dict) else range(len(value))
    out = []
    for key in keys:
        out.append((*path, key))
        if isinstance(value[key], dict | list):
            out += places(value[key], (*path, key))
    return out


@given(st.data())
@settings(max_examples=150)
def test_any_value_of_the_manifest_may_be_anything(
    sound: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    manifest = json.loads((sound / bundle.MANIFEST).read_text())
    for way in data.draw(st.lists(st.sampled_from(places(manifest)), min_size=1, max_size=3)):
        spot = manifest
        try:
            for key in way[:-1]:
                spot = spot[key]
            spot[way[-1]] = data.draw(ODD)
        except (KeyError, TypeError, IndexError):
            continue  # an earlier change took the place away
    place = tmp_path_factory.getbasetemp() / "manifest"
    outcome(with_manifest(sound, place, json.dumps(manifest).encode()))


@given(st.data())
@settings(max_examples=80)
def test_any_byte_of_the_manifest_may_be_anything(
    sound: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    raw = bytearray((sound / bundle.MANIFEST).read_bytes())
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw)))]
    for _ in range(data.draw(st.integers(0, 8))):
        if raw:
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    place = tmp_path_factory.getbasetemp() / "bytes"
    outcome(with_manifest(sound, place, bytes(raw)))


@pytest.mark.parametrize("raw", [b"[" * 200_000, b'{"a":' * 200_000, b"9" * 100_000, b"\xff\xfe"])
def test_json_that_is_made_to_hurt(sound: Path, tmp_path: Path, raw: bytes) -> None:
    assert "manifest.json" in outcome(with_manifest(sound, tmp_path / "b", raw))


def agreed(folder: Path, name: str, content: bytes) -> Path:
    """Change a file and let the manifest agree, as whoever made the bundle could."""
    (folder / name).write_bytes(content)
    path = folder / bundle.MANIFEST
    manifest = json.loads(path.read_text())
    manifest["files"][name] = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(manifest))
    return folder


def header(shape: str, kind: str = "<f4") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (64 - (len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def golden(**raw: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("x", "length", "probability", "error"):
            archive.writestr(f"{name}.npy", raw.get(name, header("(5,)") + bytes(20)))
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"PK", golden(), golden(x=header("(10**12,)")), golden(x=header("(1000000000000,)")),
        golden(x=header("(-5, -1)") + bytes(20)), golden(x=header("(5,)", "|O") + bytes(40)),
        golden(x=bytes(400 << 20)), golden(x=header("(5,)", "<U9") + bytes(180)),
        golden(x=header("(5, 4, 3)") + bytes(240), length=header("(5,)", "<f8") + b"\xff" * 40),
        golden()[:-30],
    ],
)  # fmt: skip
def test_golden_outputs_that_are_made_to_hurt(sound: Path, tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "b"
    shutil.copytree(sound, folder)
    said = outcome(agreed(folder, bundle.GOLDEN, content))
    assert "golden.npz" in said


@pytest.mark.parametrize("name", [bundle.MANIFEST, "golden.npz", "classifier.tflite"])
def test_what_is_no_plain_file_is_not_waited_for(sound: Path, tmp_path: Path, name: str) -> None:
    ways: list[Callable[[Path], object]] = [
        os.mkfifo, Path.mkdir, lambda p: p.symlink_to("/dev/zero"), lambda p: p.symlink_to(p.name),
    ]  # fmt: skip
    for k, make in enumerate(ways):
        folder = tmp_path / str(k)
        shutil.copytree(sound, folder)
        (folder / name).unlink()
        make(folder / name)
        assert name in outcome(folder)


def test_sizes_are_looked_at_before_memory_is_asked_for(sound: Path, tmp_path: Path) -> None:
    folder = tmp_path / "b"
    shutil.copytree(sound, folder)
    with (folder / "card.md").open("wb") as file:
        file.truncate(1 << 40)
    assert "larger than" in outcome(folder)
    with (folder / bundle.MANIFEST).open("ab") as file:
        file.truncate(bundle.MAX_MANIFEST_BYTES + 1)
    assert "larger than" in outcome(folder)
    many = {f"f{k}": "0" for k in range(bundle.MAX_FILES + 1)}
    assert "files are listed" in outcome(
        bundles.write(tmp_path / "many", names=NAMES, window=4, changes={"files": many})
    )


@given(st.binary(max_size=400))
@settings(max_examples=100)
def test_any_signature_file_is_refused_with_a_sentence(raw: bytes) -> None:
    key = minisign.key_of("RWSFMvKll4DKaYDlzLEcIi8XHH/fvnZtrTTVr/6j124NibFUFZKEoXmh")
    with pytest.raises(BundleError):
        minisign.verify(key, b"content", raw)
    with pytest.raises(ValueError, match=r"^no minisign key$"):
        minisign.key_of(raw.decode("latin-1"))


# --- models: the runtime itself may crash, so a child meets them first -----------------------


def broken(content: bytes, rng: random.Random) -> bytes:
    """Return a model with some bytes changed, cleared or cut off."""
    raw = bytearray(content)
    kind = rng.choice(("flip", "clear", "clear", "head", "cut"))
    if kind == "flip":
        for _ in range(rng.choice((1, 8, 64))):
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    elif kind == "clear":
        at = rng.randrange(len(raw))
        raw[at : at + 64] = bytes(min(64, len(raw) - at))
    elif kind == "head":
        for _ in range(4):
            raw[rng.randrange(min(4096, len(raw)))] = rng.randrange(256)
    else:
        raw = raw[: rng.randrange(len(raw))]
    return bytes(raw)


def test_models_that_crash_the_runtime_crash_a_child(tmp_path: Path) -> None:
    """Some are fine still, some refused; where the runtime falls, a sentence tells so."""
    shipped = bundle.default_path()
    content = (shipped / "classifier.tflite").read_bytes()
    said = []
    for number in range(max(LONG, 5)):
        folder = tmp_path / "b"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(shipped, folder)
        agreed(folder, "classifier.tflite", broken(content, random.Random(number)))
        trial = Trial(folder)
        try:
            trial.wait()
            said.append("fine")  # the bytes did not matter
        except BundleError as error:
            said.append(str(error))
        finally:
            trial.close()
    assert all(s.isprintable() for s in said)
    assert any(s != "fine" for s in said)
    print(f"{len(said)} models: {sum(s == 'fine' for s in said)} as before, "
          f"{sum('fall' in s for s in said)} crashed the child, "
          f"{sum('hung' in s for s in said)} hung, the others were refused")  # fmt: skip


def test_a_model_that_takes_all_memory_is_refused_by_the_child(tmp_path: Path) -> None:
    """A linear model whose batch the manifest and the file agree on: 4,096 x 1,024 steps."""
    weights = np.zeros((7, 1024, 67), np.float32)
    folder = bundles.write(tmp_path / "b", window=1024, weights=weights)
    golden_x = np.zeros((1000, 1024, 67), np.float32)
    stream = io.BytesIO()
    np.savez_compressed(
        stream, x=golden_x, length=np.ones(1000, np.int32),
        probability=np.full((1000, 7), 1 / 7, np.float32), error=np.zeros(1000, np.float32),
    )  # fmt: skip
    agreed(folder, bundle.GOLDEN, stream.getvalue())
    trial = Trial(folder)
    with pytest.raises(BundleError, match=r"too long|memory|fall"):
        trial.wait()
    trial.close()

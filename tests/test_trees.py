"""Trees on the gateway: they equal the plain walk and scikit-learn, and refuse what is no tree."""

from __future__ import annotations

import importlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian import trees
from guardian.errors import BundleError
from tests.twins import trees as twin

COLUMNS, CLASSES = 5, 3


def random_arrays(seed: int, count: int = 9, depth: int = 5) -> dict[str, Any]:
    """Return the arrays of some trees of random shape, their nodes in no order."""
    rng = np.random.default_rng(seed)
    nodes: list[list[float]] = []

    def grow(level: int) -> int:
        mine = len(nodes)
        nodes.append([0, 0, -1, -1, rng.normal()])
        if level < depth and rng.random() < 0.7:
            left, right = grow(level + 1), grow(level + 1)
            nodes[mine] = [float(rng.integers(COLUMNS)), rng.normal(), left, right, 0.0]
        return mine

    roots = [grow(0) for _ in range(count)]
    place = rng.permutation(len(nodes))
    table = np.empty((len(nodes), 5))
    table[place] = nodes
    moved = np.append(place, -1)
    left, right = (moved[table[:, k].astype(int)] for k in (2, 3))
    return {
        "feature": table[:, 0].astype(np.int32),
        "threshold": table[:, 1].astype(np.float32),
        "left": left.astype(np.int32),
        "right": right.astype(np.int32),
        "value": table[:, 4],
        "root": place[roots].astype(np.int32),
        "output": rng.integers(0, CLASSES, count).astype(np.int32),
        "baseline": rng.normal(size=CLASSES),
    }


def grown(arrays: dict[str, Any], kind: int = trees.BOOSTED) -> trees.Trees:
    nodes = {k: arrays[k] for k in ("feature", "threshold", "left", "right", "value")}
    ends = (arrays["root"], arrays["output"], arrays["baseline"])
    return trees.grown(kind, COLUMNS, nodes, *ends)


def content(arrays: dict[str, Any], **other: Any) -> bytes:
    """Return a file of these arrays, as someone may have made it."""
    about = np.array([trees.FORMAT, trees.BOOSTED, COLUMNS])
    given = {"about": about, **arrays, "baseline": np.append(arrays["baseline"], 1.0), **other}
    stream = io.BytesIO()
    np.savez_compressed(stream, **given)
    return stream.getvalue()


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(0, 7))
@settings(max_examples=30)
def test_trees_say_what_a_plain_walk_says(seed: int, count: int, depth: int) -> None:
    arrays = random_arrays(seed, count, depth)
    rows = np.random.default_rng(seed + 1).normal(size=(17, COLUMNS)).astype(np.float32)
    np.testing.assert_allclose(grown(arrays).sums(rows), twin.sums(arrays, rows), atol=1e-12)


def test_rows_are_judged_alike_alone_and_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    found = grown(random_arrays(1))
    rows = np.random.default_rng(2).normal(size=(500, COLUMNS)).astype(np.float32)
    whole = found.score(rows)
    assert whole.min() >= 0
    assert whole.max() <= 1
    assert whole.std() > 0.01
    monkeypatch.setattr(trees, "CHUNK", 1)
    np.testing.assert_array_equal(found.score(rows), whole)
    np.testing.assert_array_equal(found.score(rows[:1]), whole[:1])
    assert found.score(rows[:0]).shape == (0,)


def test_a_value_on_the_threshold_goes_left_and_so_does_no_number() -> None:
    arrays = random_arrays(0, 1, 0)
    arrays |= {
        "feature": np.array([2, 0, 0]), "threshold": np.array([1.5, 0, 0], np.float32),
        "left": np.array([1, -1, -1]), "right": np.array([2, -1, -1]),
        "value": np.array([0.0, 10.0, 20.0]), "root": np.array([0]), "output": np.array([0]),
        "baseline": np.zeros(1),
    }  # fmt: skip
    rows = np.zeros((4, COLUMNS), np.float32)
    rows[:, 2] = [1.5, np.nextafter(np.float32(1.5), np.float32(2)), np.nan, -np.inf]
    assert grown(arrays).sums(rows)[:, 0].tolist() == [10, 20, 10, 10]


def test_a_file_gives_the_same_trees_again(tmp_path: Path) -> None:
    found = grown(random_arrays(3))
    trees.save(found, tmp_path / "a.npz")
    again = trees.read((tmp_path / "a.npz").read_bytes(), COLUMNS)
    rows = np.random.default_rng(4).normal(size=(99, COLUMNS)).astype(np.float32)
    np.testing.assert_array_equal(again.sums(rows), found.sums(rows))
    assert trees.read(content(random_arrays(3))).depth == found.depth


def test_rows_of_other_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="know 5 columns"):
        grown(random_arrays(3)).sums(np.zeros((2, 4), np.float32))
    with pytest.raises(BundleError, match="5 columns, not 6"):
        trees.read(content(random_arrays(3)), 6)


def hostile(name: str) -> bytes:
    """Return a file that is wrong in one way."""
    arrays = random_arrays(5)
    inner = int(np.flatnonzero(arrays["left"] >= 0)[0])
    root = int(arrays["root"][arrays["left"][arrays["root"]] >= 0][0])
    big = np.array([2**40])

    def but(key: str, place: int, value: float) -> bytes:
        return content({**arrays, key: np.concatenate(
            [arrays[key][:place], [value], arrays[key][place + 1 :]]
        ).astype(arrays[key].dtype)})  # fmt: skip

    made: dict[str, Callable[[], bytes]] = {
        "a loop": lambda: but("left", inner, root),
        "a child beyond the end": lambda: but("right", inner, len(arrays["left"])),
        "one child alone": lambda: but("right", inner, -1),
        "a root beyond the end": lambda: but("root", 0, 10**6),
        "the same root twice": lambda: but("root", 0, int(arrays["root"][1])),
        "a column beyond the row": lambda: but("feature", inner, COLUMNS),
        "no threshold": lambda: but("threshold", inner, np.nan),
        "no value": lambda: but("value", 0, np.nan),
        "a huge value": lambda: but("value", 0, 1e300),
        "another class": lambda: but("output", 0, CLASSES),
        "nodes that do not fit": lambda: content({**arrays, "value": arrays["value"][:-1]}),
        "no trees": lambda: content({**arrays, "root": arrays["root"][:0]}),
        "places that are no whole numbers": lambda: content(arrays, left=arrays["left"] + 0.5),
        "objects": lambda: content(arrays, about=np.array([1, {}], object)),
        "text": lambda: content(arrays, about=np.array(["a", "b", "c"])),
        "a table": lambda: content(arrays, feature=np.zeros((3, 3), int)),
        "another format": lambda: content(arrays, about=np.array([9, 1, COLUMNS])),
        "another kind": lambda: content(arrays, about=np.array([1, 7, COLUMNS])),
        "huge columns": lambda: content(arrays, about=np.concatenate([[1, 1], big])),
        "too few words": lambda: content(arrays, about=np.array([1])),
        "a missing array": lambda: without("value"),
        "a lying header": lambda: lying(2**60),
        "a bomb": lambda: content(arrays, value=np.zeros(trees.MAX_NODES * 2)),
        "no zip": lambda: b"no zip at all",
        "nothing": lambda: b"",
    }
    return made[name]()


HOSTILE = (
    "a loop", "a child beyond the end", "one child alone", "a root beyond the end",
    "the same root twice", "a column beyond the row", "no threshold", "no value", "a huge value",
    "another class", "nodes that do not fit", "no trees", "places that are no whole numbers",
    "objects", "text", "a table", "another format", "another kind", "huge columns",
    "too few words", "a missing array", "a lying header", "a bomb", "no zip", "nothing",
)  # fmt: skip


def without(name: str) -> bytes:
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content(random_arrays(5)))) as old,
        zipfile.ZipFile(stream, "w") as new,
    ):
        for info in old.infolist():
            if info.filename != f"{name}.npy":
                new.writestr(info.filename, old.read(info))
    return stream.getvalue()


def lying(rows: int) -> bytes:
    """Return a file whose array says that it has so many entries."""
    stream = io.BytesIO(without("value"))
    said = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({rows},)}}\n".encode()
    header = b"\x93NUMPY\x01\x00" + len(said).to_bytes(2, "little") + said
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("value.npy", header + b"\0" * 64)
    return stream.getvalue()


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_tree_is_refused(name: str) -> None:
    with pytest.raises(BundleError, match="trees cannot be read"):
        trees.read(hostile(name))


def test_damaged_files_are_refused_or_read_and_nothing_else() -> None:
    good = content(random_arrays(7))
    rng = np.random.default_rng(7)
    rows = np.zeros((3, COLUMNS), np.float32)
    refused = 0
    for _ in range(300):
        bad = bytearray(good)
        for place in rng.integers(0, len(bad), rng.integers(1, 6)):
            bad[place] = rng.integers(256)
        cut = bytes(bad[: rng.integers(1, len(bad) + 1)] if rng.random() < 0.3 else bad)
        try:
            found = trees.read(cut)
        except BundleError:
            refused += 1
        else:
            if found.columns == COLUMNS:
                assert np.isfinite(found.sums(rows)).all()
    assert refused > 200


# --- scikit-learn is the independent truth ----------------------------------------------------


def grower(name: str) -> Any:
    pytest.importorskip("sklearn")
    return importlib.import_module(f"trainer.zoo.{name}")


def sequences(count: int, classes: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(count, 6, 4)).astype(np.float32)
    x[:, :, 1] = np.round(x[:, :, 1])
    label = rng.integers(0, classes, count)
    x[:, -1, 0] += 2.0 * label
    return x, label


@pytest.mark.train
def test_a_forest_says_what_scikit_learn_says() -> None:
    forest = grower("forest")
    from sklearn.ensemble import IsolationForest  # noqa: PLC0415, TID251

    x, _ = sequences(900, 2)
    rows = trees.summary(x)
    for samples in (64, 900):
        model = IsolationForest(n_estimators=40, max_samples=samples, random_state=3).fit(rows)
        found = forest.planted(model)
        np.testing.assert_allclose(found.score(rows), -model.score_samples(rows), atol=1e-5)


@pytest.mark.train
@pytest.mark.parametrize("classes", [2, 5])
def test_boosted_trees_say_what_scikit_learn_says(classes: int) -> None:
    boosted = grower("boosted")
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415, TID251

    x, label = sequences(900, classes)
    rows = trees.summary(x)
    model = HistGradientBoostingClassifier(max_iter=15, random_state=3).fit(rows, label)
    found = boosted.planted(model)
    wanted = model.predict_proba(rows)
    np.testing.assert_allclose(found.probability(rows), wanted, atol=1e-5)
    np.testing.assert_allclose(found.score(rows), 1 - wanted[:, 0], atol=1e-5)


def test_rows_of_sequences_leave_the_padded_steps_out() -> None:
    x = np.random.default_rng(0).normal(size=(3, 6, 2)).astype(np.float32)
    short = trees.summary(x, np.array([6, 3, 1], np.int32))
    for k, length in enumerate((6, 3, 1)):
        real = x[k, 6 - length :]
        wanted = np.concatenate([real[-1], real.mean(axis=0), real.std(axis=0)])
        np.testing.assert_allclose(short[k], wanted, atol=1e-6)

"""What the seed of a fit makes: lines, weights and the whole way at a small size."""

# ruff: noqa: PLC0415 - collecting tests needs no tensorflow
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from guardian import features
from trainer import labels
from trainer.rows import Rows

NAMES = (("simulated", "home"), ("pi-a", "a"), ("nmap", "b"), ("pi-a+simulated", "graft"))


def toy(m: int, seed: int) -> Rows:
    """Sequences whose class stands in the last step, of the origins of NAMES, most simulated."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(m, 12, len(features.NAMES))).astype(np.float32)
    label = np.where(rng.random(m) < 0.6, 0, rng.integers(1, 4, m)).astype(np.int8)
    x[np.arange(m), -1, label] += 6.0 * (label > 0)
    instance = np.where(rng.random(m) < 0.7, 0, rng.integers(1, len(NAMES), m)).astype(np.int64)
    length = np.full(m, 12, np.int32)
    return Rows(x, length, label, instance, np.ones(m, np.bool_), NAMES)


def test_evened_origins_count_by_the_root_of_what_they_had() -> None:
    rows = toy(3_000, 1)
    plain, evened = rows.weights(), rows.evened()
    assert evened.mean() == pytest.approx(1.0)
    for side in (rows.label == 0, rows.label > 0):
        assert evened[side].sum() == pytest.approx(plain[side].sum())
        of = rows.instance[side]
        before = np.bincount(of, rows._weights(0.25)[side])
        after = np.bincount(of, evened[side])
        assert after / after.sum() == pytest.approx(np.sqrt(before) / np.sqrt(before).sum())
    assert evened[rows.instance == 0].sum() < plain[rows.instance == 0].sum()
    only = rows.take(np.flatnonzero(rows.label == 0))
    assert only.evened().mean() == pytest.approx(1.0)


@pytest.mark.train
def test_every_capture_draws_the_lines_alike_and_counts_alike() -> None:
    pytest.importorskip("tensorflow")
    from trainer.trial.seeds import figures

    quiet = np.zeros(1_000, np.int8), np.linspace(0.0, 0.5, 1_000)
    few = np.array([0] * 10 + [2] * 10), np.array([0.6] * 10 + [0.7] * 5 + [0.55] * 5)
    many = np.full(1_000, 1), np.full(1_000, 0.4)
    found = figures([quiet, few, many])
    assert len(found) == 2  # nothing to find in the quiet one
    assert list(found[0]) == pytest.approx(
        [0.75, 0.5, 0.5]
    )  # ten records of benign 0.6 are half of all
    assert list(found[1]) == pytest.approx([0.4, 0.0, 0.0], abs=0.01)


@pytest.mark.train
def test_a_capture_is_judged_by_records(data: Path) -> None:
    pytest.importorskip("tensorflow")
    from trainer import catalogue
    from trainer.trial.seeds import FOLDS, _judged

    groups = {source.group for source in (*catalogue.of("train"), *catalogue.of("calibrate"))}
    assert set(FOLDS[0]) | set(FOLDS[1]) <= groups
    one = _judged(next(s for s in catalogue.CATALOGUE if s.name == "iot23 44-1"), data)
    assert one is not None
    assert (len(one.label), int((one.label > 0).sum())) == (237, 26)
    assert set(one.record.tolist()) == set(range(237))
    assert len(one.x) == len(one.length) == len(one.record) == 366


@pytest.mark.train
def test_one_seed_from_rows_to_a_table() -> None:
    pytest.importorskip("tensorflow")
    from trainer.recipe import Material
    from trainer.trial import seeds

    material = Material(toy(600, 1), toy(200, 2), ())
    outside = toy(300, 3)
    judged = seeds.Judged("toy", outside.x, outside.length, np.arange(300) // 2, outside.label[::2])
    how = replace(seeds.WAYS["evened"], epochs=1)
    found = seeds.one_seed(material, [[judged], [judged]], how, 5, lambda _line: None)
    assert list(found) == list(seeds.NAMED)
    text = seeds.table("toy", {name: [one] for name, one in found.items()})
    assert text.count("\n") == len(seeds.NAMED) - 1
    homes = seeds.of_homes(material.held_out)
    assert (homes.label == 0).all()
    assert len(homes.record) == len(set(homes.record.tolist()))


@pytest.mark.train
@pytest.mark.slow
def test_a_fit_of_another_backend_is_converted_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorflow")
    from guardian.errors import ConfigError
    from trainer import commands, recipe, run

    how = recipe.Recipe(epochs=1, autoencoder_epochs=1, classifier="lstm-classifier")
    fitted = run.fit_run(recipe.Material(toy(600, 1), toy(300, 2), ()), how, lambda _line: None)
    run.save(fitted, tmp_path / "a.run")
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    made = commands._written(fitted, tmp_path / "a.run", tmp_path / "a", lambda _line: None)
    assert (tmp_path / "a" / "manifest.json").exists()
    assert made.classes == labels.CLASSES
    with pytest.raises(ConfigError, match="kept in"):
        commands._written(fitted, tmp_path / "none.run", tmp_path / "b", lambda _line: None)

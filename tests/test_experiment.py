"""One family on one data set, from rows to result.json: networks, screens and ensembles alike."""

# ruff: noqa: PLC0415 - collecting tests needs no tensorflow
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guardian.errors import ConfigError, InputError
from guardian.tables import Array
from trainer import baselines, judge, scaling
from trainer.fitting.how import Fit
from trainer.fitting.run import Splitting, load_scaler, load_weights, read_config
from trainer.sets.prepared import Prepared
from trainer.sets.protocol import protocols
from trainer.zoo.family import REGISTRY

QUICK = Fit(epochs=3, batch=64, rate=5e-3, patience=0)


def quiet(line: str) -> None:
    """Nobody listens."""


def made(groups: int = 6, rows: int = 160, seed: int = 0, ordered: bool = True) -> Prepared:
    """A set with two kinds of attacks: one raises feature 0, one breaks features 1 and 2 apart."""
    rng = np.random.default_rng(seed)
    x, label = [], []
    for _ in range(groups):
        t = np.arange(rows) / 8 + rng.uniform(0, 6)
        base = np.stack([np.sin(t), np.cos(t), np.cos(t), rng.normal(size=rows)], axis=1)
        classes = np.zeros(rows, np.int16)
        for kind, begin in ((1, rows // 4), (2, 3 * rows // 5)):
            classes[begin : begin + rows // 8] = kind
        base[classes == 1, 0] += 3.0
        base[classes == 2, 2] *= -1.0
        x.append(base + rng.normal(0, 0.1, base.shape))
        label.append(classes)
    n = groups * rows
    return Prepared(
        name="made", features=("a", "b", "c", "d"), classes=("benign", "loud", "odd"),
        x=np.concatenate(x).astype(np.float32) * np.float32(7) + np.float32(100),
        label=np.concatenate(label), group=np.repeat(np.arange(groups, dtype=np.int32), rows),
        groups=tuple(f"capture{k}" for k in range(groups)), ts=np.arange(n, dtype=np.float64),
        ordered=ordered, comparable=ordered, why="" if ordered else "Rows are shuffled.",
        counts={}, digest=f"made {groups} {rows} {seed} {ordered}",
    )  # fmt: skip


def run(family: str, folder: Path, prepared: Prepared | None = None, **how: Any) -> Any:
    pytest.importorskip("tensorflow")
    from trainer.experiment import run_experiment

    config = REGISTRY[family].config(**{"window": 6, **how.pop("config", {})})
    return run_experiment(
        prepared or made(), family, config, how.pop("split", Splitting()), folder,
        how=how.pop("how", QUICK), echo=quiet, **how,
    )  # fmt: skip


@pytest.mark.train
@pytest.mark.parametrize(
    ("family", "least", "config"),
    [
        ("lstm-autoencoder", 0.7, {"hidden": [16, 8]}),
        ("lstm-classifier", 0.9, {"hidden": [16, 8]}),
        ("forest", 0.55, {"trees": 30}),
        ("boosted", 0.85, {"trees": 20}),  # 0.96 of scikit-learn 1.9, 0.89 of 1.7 (Python 3.10)
    ],
)
def test_every_kind_of_family_goes_from_rows_to_result(
    family: str, least: float, config: dict[str, Any], tmp_path: Path
) -> None:
    how = replace(QUICK, epochs=12)
    found = run(family, tmp_path, config=config, how=how)
    about = json.loads((tmp_path / "result.json").read_text())
    assert about == found.about
    test = about["metrics"]["test"]
    assert test["auc"] > least
    assert test["bounds"]["auc"][0] <= test["auc"] <= test["bounds"]["auc"][1]
    assert set(test["by_class"]) == {"benign", "loud", "odd"}
    assert all(name.startswith("capture") for name in test["by_group"])
    assert len(about["thresholds"]) >= 10
    assert {"majority", "best feature", "pca"} == set(about["baselines"])
    assert about["baselines"]["best feature"]["feature"] == "a"
    assert ("confusion" in test) == (family in ("lstm-classifier", "boosted"))
    if "confusion" in test:
        assert np.sum(test["confusion"]["table"]) == test["sequences"]
        assert test["classes"]["accuracy"] > about["baselines"]["majority"]["accuracy"]
    with np.load(tmp_path / "scores.npz") as scores:
        np.testing.assert_array_equal(scores["test"], found.test.score)
        assert len(scores["test_row"]) == test["sequences"]
    for row in about["thresholds"]:
        if row["method"] == "10 % false positives" and row["scope"] == "global":
            assert row["valid"]["false_positives"] <= 0.1


@pytest.mark.train
def test_a_rebuilding_family_learns_benign_sequences_alone(tmp_path: Path) -> None:
    prepared = made()
    found = run("lstm-autoencoder", tmp_path, prepared, config={"hidden": [4]})
    scaler = load_scaler(tmp_path)
    from trainer.sets.split import split

    dealt = split(prepared, by="group", seed=1)
    taught = dealt.train[prepared.label[dealt.train] == 0]
    np.testing.assert_allclose(scaler.mean, np.median(prepared.x[taught], axis=0), rtol=1e-5)
    # Another set whose training attacks and test rows differ teaches the same.
    x = prepared.x.copy()
    x[dealt.train[prepared.label[dealt.train] > 0]] *= -5
    x[dealt.test] += 1
    run("lstm-autoencoder", tmp_path / "b", replace(prepared, x=x), config={"hidden": [4]})
    for a, b in zip(load_weights(tmp_path), load_weights(tmp_path / "b"), strict=True):
        np.testing.assert_array_equal(a, b)
    assert found.about["scaler"].startswith("median and interquartile range")
    assert "benign training rows" in found.about["scaler"]


@pytest.mark.train
def test_a_run_is_repeated_from_its_config_alone(tmp_path: Path) -> None:
    found = run("lstm-classifier", tmp_path / "one", config={"hidden": [8]},
                split=Splitting("time", 3, (0.5, 0.25, 0.25)), seed=5)  # fmt: skip
    from trainer.experiment import repeat

    again = repeat(tmp_path / "one" / "config.json", tmp_path / "two", prepared=made(), echo=quiet)
    for a, b in zip(load_weights(tmp_path / "one"), load_weights(tmp_path / "two"), strict=True):
        np.testing.assert_array_equal(a, b)
    assert again.about["metrics"] == found.about["metrics"]
    assert read_config(tmp_path / "one") == read_config(tmp_path / "two" / "config.json")
    with pytest.raises(InputError, match="not what that run was made from"):
        repeat(tmp_path / "one", tmp_path / "x", prepared=made(seed=2), echo=quiet)
    with pytest.raises(InputError, match="does not say where its set comes from"):
        repeat(tmp_path / "one", tmp_path / "x", echo=quiet)
    (tmp_path / "bad.json").write_text('{"family": 3}')
    with pytest.raises(InputError, match="no config of a run"):
        read_config(tmp_path / "bad.json")


@pytest.mark.train
def test_the_config_says_where_the_set_came_from(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    from trainer.experiment import repeat, run_experiment
    from trainer.sets.registry import prepare

    source = {"kind": "iot23", "paths": [str(data)], "limit": 400}
    prepared = prepare("iot23", [data], cache=tmp_path / "cache", limit=400)
    config = REGISTRY["boosted"].config(window=4, trees=3)
    one = run_experiment(
        prepared, "boosted", config, Splitting("time"), tmp_path / "one", data=source, echo=quiet
    )
    two = repeat(tmp_path / "one", tmp_path / "two", cache=tmp_path / "cache", echo=quiet)
    assert one.about["metrics"] == two.about["metrics"]
    files = [tmp_path / name / "trees.npz" for name in ("one", "two")]
    with np.load(files[0]) as a, np.load(files[1]) as b:
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.train
def test_weights_by_class_reach_the_fit(tmp_path: Path) -> None:
    prepared = made()
    losses = [
        run(
            "lstm-classifier", tmp_path / str(on), prepared, config={"hidden": [4]},
            how=replace(QUICK, epochs=1, class_weights=on),
        ).about["curves"]["loss"]
        for on in (False, True)
    ]  # fmt: skip
    assert losses[0] != losses[1]


@pytest.mark.train
@pytest.mark.slow
def test_an_ensemble_is_chosen_from_its_members(tmp_path: Path) -> None:
    members = ["boosted", "lstm-autoencoder"]
    found = run("ensemble", tmp_path, config={"members": members, "gate": 0.2})
    assert found.figure("auc") > 0.8
    weights = json.loads((tmp_path / "ensemble.json").read_text())["weights"]
    assert list(weights) == members
    assert sum(weights.values()) == pytest.approx(1.0)
    assert (tmp_path / "members" / "boosted" / "trees.npz").exists()
    assert (tmp_path / "members" / "lstm-autoencoder" / "weights.npz").exists()


@pytest.mark.train
def test_rows_without_order_are_judged_one_by_one(tmp_path: Path) -> None:
    found = run("boosted", tmp_path, made(ordered=False), config={"trees": 5},
                split=Splitting("row"))  # fmt: skip
    about = found.about
    assert about["sequences"]["window"] == 1
    assert not about["comparable"]
    told = " ".join(about["warnings"])
    assert "Split by row" in told
    assert "Rows are shuffled." in told
    assert "nothing is claimed for sequences" in told


@pytest.mark.train
def test_quiet_weeks_without_labels_are_learned(tmp_path: Path) -> None:
    prepared = made()
    unlabelled = replace(prepared, label=np.full(len(prepared), -1, np.int16))
    about = run("lstm-autoencoder", tmp_path, unlabelled, config={"hidden": [4]}).about
    assert "No row has a label: all were taken for benign." in about["warnings"]
    test = about["metrics"]["test"]
    assert test["auc"] is None
    assert test["at"]["method"] == "1 % false positives"
    assert about["baselines"]["best feature"] is None


@pytest.mark.train
def test_what_cannot_be_learned_is_said(tmp_path: Path) -> None:
    prepared = made()
    with pytest.raises(InputError, match="no benign row"):
        run("forest", tmp_path, replace(prepared, label=np.ones(len(prepared), np.int16)))
    with pytest.raises(InputError, match=r"shorter window|give a shorter"):
        run("lstm-autoencoder", tmp_path / "b", config={"window": 500})


@pytest.mark.train
def test_more_than_memory_holds_is_read_as_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorflow")
    from trainer import material
    from trainer.fitting import member

    whole = run("lstm-classifier", tmp_path / "a", config={"hidden": [8]})
    monkeypatch.setattr(member, "IN_MEMORY", 0)
    monkeypatch.setattr(material, "PIECE", 128)
    monkeypatch.setattr(material, "STRETCH", 16)
    streamed = run("lstm-classifier", tmp_path / "b", config={"hidden": [8]})
    one, two = (r.about["curves"]["loss"] for r in (whole, streamed))
    np.testing.assert_allclose(one, two, rtol=0.1)  # another order of the same rows
    assert one != two


# --- figures ----------------------------------------------------------------------------


def random_scores(n: int = 400, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    attack = rng.uniform(size=n) < 0.3
    return np.round(rng.normal(size=n) + attack, 1), attack


def test_average_precision_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    for seed in range(5):
        score, attack = random_scores(seed=seed)
        found = judge.average_precision(score[~attack], score[attack])
        assert found == pytest.approx(metrics.average_precision_score(attack, score))
    assert np.isnan(judge.average_precision(np.ones(3), np.ones(0)))


def test_recall_at_a_rate_spends_no_more_than_the_rate() -> None:
    benign = np.arange(1000.0)
    attacks = np.array([989.0, 990.0, 998.0, 2000.0])
    assert judge.recall_at(benign, attacks, 0.01) == 0.5  # above 989.01, at most ten benign
    assert judge.recall_at(benign, attacks, 0.001) == 0.25
    assert np.isnan(judge.recall_at(benign, np.zeros(0), 0.01))


def test_bounds_hold_the_figure_and_grow_with_fewer_rows() -> None:
    score, attack = random_scores(2000)
    many = judge.bounds(score, attack, np.zeros(2000))
    few = judge.bounds(score[:100], attack[:100], np.zeros(100))
    value = judge.figures(score, attack)["auc"]
    assert many["of"] == "rows"
    assert many["auc"][0] < value < many["auc"][1]
    assert few["auc"][1] - few["auc"][0] > 2 * (many["auc"][1] - many["auc"][0])
    grouped = judge.bounds(score, attack, np.arange(2000) % 8)
    assert grouped["of"] == "groups"


def test_figures_of_classes_and_flags() -> None:
    table = judge.confusion(np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0]), 3)
    assert table == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
    found = judge.class_figures(table)
    assert found["accuracy"] == pytest.approx(0.6)
    assert found["macro_f1"] == pytest.approx((0.5 + 2 / 3) / 2)
    flags = judge.binary(np.array([True, True, False, False]), np.array([True, False, True, False]))
    assert (flags["precision"], flags["recall"], flags["f1"]) == (0.5, 0.5, 0.5)
    assert judge.plain({"a": np.float32("nan"), "b": (np.int64(2), True)}) == {
        "a": None,
        "b": [2, True],
    }


def test_the_majority_is_judged_as_a_classifier() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    train, test = np.array([0, 0, 1]), np.array([0, 1, 1, 2])
    found = baselines.majority(train, test)
    told = np.zeros(4, int)
    assert found["accuracy"] == metrics.accuracy_score(test, told)
    wanted = metrics.f1_score(test, told, average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(wanted)


def test_the_best_feature_is_chosen_on_validation() -> None:
    attack = np.arange(100) < 30
    x = np.random.default_rng(0).normal(size=(100, 1, 3)).astype(np.float32)
    x[attack, :, 1] -= 10
    found = baselines.best_feature(x, attack, x, attack, ("a", "b", "c"))
    assert found is not None
    assert (found["feature"], found["high_is_attack"], found["auc"]) == ("b", False, 1.0)


def test_components_leave_unexplained_what_is_unusual() -> None:
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(500, 1, 2))
    x = (hidden @ rng.normal(size=(2, 6)) + rng.normal(0, 0.05, (500, 1, 6))).astype(np.float32)
    pca = baselines.Pca(x[:400])
    assert pca.components == 2
    odd = x[400:] + rng.normal(0, 1, (100, 1, 6)).astype(np.float32)
    assert np.quantile(pca.score(odd), 0.05) > np.quantile(pca.score(x[400:]), 0.95)


def test_the_scale_is_not_moved_by_far_values_and_knows_constants() -> None:
    rng = np.random.default_rng(0)
    x = np.stack(
        [rng.normal(5, 2, 1000), np.full(1000, 3.0), rng.uniform(size=1000) < 0.01], axis=1
    ).astype(np.float32)
    x[:20, 0] = 1e9
    scaler = scaling.robust(x, np.arange(1000))
    assert scaler.mean[0] == pytest.approx(5, abs=0.3)
    assert scaler.scale[0] == pytest.approx(2, rel=0.1)
    assert scaler.scale[1] == 1.0
    assert scaler.scale[2] == pytest.approx(x[:, 2].std(), rel=1e-3)
    z = scaling.scaled(scaler, x)
    assert z.max() == scaling.CLIP
    assert np.isfinite(z).all()


def with_protocols() -> Prepared:
    """The made set, its last two columns flags of TCP and UDP."""
    prepared = made(rows=400)
    code = np.random.default_rng(3).integers(0, 3, len(prepared.x))
    x = prepared.x.copy()
    x[:, 2], x[:, 3] = code == 0, code == 1
    return replace(prepared, x=x, features=("a", "b", "tcp", "udp"), digest="protocols")


def test_features_tell_the_protocol() -> None:
    prepared = with_protocols()
    codes = protocols(prepared)
    assert codes is not None
    assert (codes[prepared.x[:, 2] > 0] == 0).all()
    assert (codes[prepared.x[:, 3] > 0] == 1).all()
    assert set(codes.tolist()) == {0, 1, 3}
    assert protocols(made()) is None


def test_lines_by_protocol_stand_in_the_table(tmp_path: Path) -> None:
    found = run("boosted", tmp_path / "run", with_protocols())
    scopes = {row["scope"] for row in found.about["thresholds"]}
    assert {"global", "protocol"} <= scopes


@pytest.mark.slow
def test_the_size_is_found_by_validation(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    from trainer.sizing import adapt_experiment

    config = REGISTRY["lstm-classifier"].config(window=6, hidden=(8, 4))
    how = Fit(epochs=1, batch=64, rate=5e-3, patience=0)
    said: list[str] = []
    found = adapt_experiment(
        made(), "lstm-classifier", config, Splitting(), tmp_path / "run", how=how, echo=said.append
    )
    tried = sorted(path.name for path in (tmp_path / "run" / "sizes").iterdir())
    assert len(tried) >= 3
    assert (
        "test"
        not in json.loads(
            (tmp_path / "run" / "sizes" / tried[0] / "result.json").read_text("utf-8")
        )["metrics"]
    )
    assert found.figure("auc") is not None
    assert any("kept" in line for line in said)
    with pytest.raises(ConfigError, match="no network"):
        adapt_experiment(made(), "forest", config, Splitting(), tmp_path / "other", echo=quiet)

"""The zoo's door: hyperparameters, presets, the registry, and choosing among sizes and members."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardian.errors import ConfigError
from trainer.zoo.capacity import adapt
from trainer.zoo.config import FIELDS, PRESETS, Config
from trainer.zoo.family import REGISTRY, Shape

NAMES = (
    "lstm-autoencoder", "deep-lstm-autoencoder", "lstm-classifier", "lstm-pair", "views", "bilstm",
    "temporal-attention", "cnn-lstm", "transformer", "vae", "gan", "forest", "boosted", "ensemble",
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hiden": 3}, "did you mean hidden"),
        ({"seq_lenght": 3}, "did you mean seq_length"),
        ({"drop-out": 0.1}, "did you mean dropout"),
        ({"window": 1}, "whole number from 2 to 1024"),
        ({"window": 10.5}, "whole number"),
        ({"epochs": True}, "whole number"),
        ({"rate": "fast"}, "rate = 'fast' is not a number"),
        ({"rate": float("nan")}, "is not a number"),
        ({"dropout": 1.0}, "from 0 to 0.9"),
        ({"hidden": ()}, "1 to 64 layers"),
        ({"hidden": (64, 0)}, "from 1 to 4096"),
        ({"hidden": (64, "x")}, "hidden = 'x'"),
        ({"layers": 0}, "from 1 to 64"),
        ({"activation": "tahn"}, "did you mean tanh"),
        ({"memory": 1}, "neither true nor false"),
        ({"members": "forest"}, "list of families"),
        ({"window": 4, "seq-length": 5}, "twice"),
    ],
)
def test_a_wrong_hyperparameter_is_refused_with_the_nearest_right_one(
    change: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        Config().with_(**change)


def test_the_options_names_are_understood() -> None:
    found = Config().with_(**{"seq-length": 12, "hidden_size": 48, "learning-rate": 1, "layers": 3})
    assert (found.window, found.hidden, found.rate, found.layers) == (12, (48, 48, 48), 1.0, 3)
    assert Config().with_(hidden=[5, 6, 7], layers=2).hidden == (5, 6)
    assert Config() == Config().with_(), "nothing changes by itself"


@given(st.sampled_from(sorted(FIELDS)), st.one_of(st.integers(-5, 5), st.floats(), st.text()))
def test_a_value_is_taken_within_its_limits_or_refused_by_name(key: str, value: Any) -> None:
    try:
        found = Config().with_(**{key: value})
    except ConfigError as error:
        said = str(error)
    else:
        said = f"{key} is taken"
        assert type(getattr(found, key)) is type(getattr(Config(), key))
        assert found.with_() == found
    assert key in said


def family(name: str) -> Any:
    """Return a family; skips where there is no tensorflow."""
    pytest.importorskip("tensorflow")
    return REGISTRY[name]


@pytest.mark.train
def test_the_registry_has_every_family_by_its_name() -> None:
    assert tuple(REGISTRY) == NAMES
    for name in NAMES:
        found = family(name)
        assert found.name == name
        assert found.uses <= {*FIELDS, "layers"}
        assert found.about.endswith(".")
        assert found.at_export.endswith(".")
        changed = [k for k in FIELDS if getattr(found.defaults, k) != getattr(Config(), k)]
        assert set(changed) <= found.uses, "a default that it does not read would mislead"


def test_an_unknown_family_is_answered_with_the_nearest() -> None:
    assert "lstm-pear" not in REGISTRY
    with pytest.raises(ConfigError, match="did you mean lstm-pair"):
        REGISTRY["lstm-pear"]


@pytest.mark.train
def test_a_family_refuses_what_it_does_not_read() -> None:
    with pytest.raises(ConfigError, match=r"lstm-classifier has no heads: it knows .*dropout"):
        family("lstm-classifier").config(heads=2)
    with pytest.raises(ConfigError, match="cannot be shared by 3 heads"):
        family("transformer").config(heads=3)
    with pytest.raises(ConfigError, match="did you mean online"):
        family("bilstm").config("onlin")
    with pytest.raises(ConfigError, match="no network"):
        family("forest").build(Shape(10, 4, 2), Config())


@pytest.mark.train
@pytest.mark.parametrize("preset", PRESETS)
def test_presets_change_what_they_promise_and_leave_a_family_whole(preset: str) -> None:
    for name in NAMES:
        found = family(name)
        config = found.config(preset)
        assert config.layers == found.defaults.layers
        assert config.window == found.defaults.window
        if "heads" in found.uses:
            assert config.hidden[0] % config.heads == 0
    wide = family("temporal-attention")
    plain, config = wide.defaults, wide.config(preset)
    promised = {
        "fast": config.epochs < plain.epochs and config.hidden[0] < plain.hidden[0],
        "high-performance": config.hidden[0] > plain.hidden[0] and config.patience > plain.patience,
        "interpretability": config.heads == 1 and not config.memory and config.attention,
        "online": config.stride == 1 and config.hidden[0] < plain.hidden[0],
    }
    assert promised[preset]
    assert wide.config(preset, hidden=16).hidden == (16, 16, 16), "an option beats the preset"


# --- capacity -------------------------------------------------------------------------------


def test_capacity_grows_while_it_helps_and_prunes_what_is_free() -> None:
    fitted = []

    def fit(config: Config) -> float:
        """Width helps up to 88, heads never, the second layer never."""
        fitted.append(config)
        return 1.0 / min(config.hidden[0], 88)

    found = adapt(Config(hidden=(40, 40), heads=4), fit)
    assert found.config.hidden[0] == 88
    assert found.config.heads == 1
    assert found.config.layers == 1
    assert found.loss == pytest.approx(1 / 88)
    assert len(fitted) == len(set(fitted)) == len(found.trail), "no size is fitted twice"
    assert [step.change for step in found.trail if step.kept][:3] == [
        "start", "wider layers", "wider layers"
    ]  # fmt: skip


def test_capacity_stays_where_nothing_helps() -> None:
    start = Config(hidden=(32,), heads=4)
    found = adapt(start, lambda c: 1.0 if c == start else 2.0)
    assert found.config == start
    assert not any(step.kept for step in found.trail[1:])
    assert {s.change for s in found.trail[1:]} == {
        "wider layers", "more heads", "narrower layers", "fewer heads"
    }  # fmt: skip


# --- the ensemble ---------------------------------------------------------------------------


def scored(seed: int, n: int = 4_000) -> tuple[dict[str, Any], Any]:
    """A weak screen; a member that sees half the attacks; one that sees the other half; noise."""
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < 0.2).astype(int)
    half = rng.random(n) < 0.5
    base = rng.normal(size=(4, n))
    return {
        "screen": base[0] + 1.5 * label,
        "one": 100 * base[1] + 400.0 * (label * half),
        "two": 0.01 * base[2] + 0.04 * (label * ~half),
        "noise": base[3],
    }, label


@pytest.fixture
def ensemble() -> Any:
    pytest.importorskip("tensorflow")
    return importlib.import_module("trainer.zoo.ensemble")


@pytest.mark.train
def test_the_weights_that_validation_chose_beat_every_member(ensemble: Any) -> None:
    auc = importlib.import_module("trainer.metrics").auc
    scores, label = scored(0)
    chosen = ensemble.choose(scores, label, share=0.5)
    assert sum(chosen.weights.values()) == pytest.approx(1)
    assert chosen.weights["noise"] <= 0.1
    assert min(chosen.weights["one"], chosen.weights["two"]) >= 0.1
    test, truth = scored(1)
    whole = chosen.score(test)
    worth = {name: auc(s[truth == 0], s[truth == 1]) for name, s in test.items()}
    assert auc(whole[truth == 0], whole[truth == 1]) > max(worth.values()) + 0.05
    assert ensemble.from_json(chosen.as_json()).score(test) == pytest.approx(whole)


@pytest.mark.train
def test_only_what_the_screen_suspects_is_passed_on(ensemble: Any) -> None:
    scores, label = scored(2)
    chosen = ensemble.choose(scores, label, share=0.1)
    asked: list[Any] = []

    def ask(name: str, rows: Any) -> Any:
        asked.append(rows)
        return scores[name][rows]

    whole = chosen.asked(scores["screen"], ask)
    passed = chosen.suspicious(scores["screen"])
    assert passed[label == 0].mean() == pytest.approx(0.1, abs=0.01)
    assert all((rows == np.flatnonzero(passed)).all() for rows in asked)
    alone = chosen.weights["screen"] * chosen.rulers["screen"].surprise(scores["screen"])
    np.testing.assert_array_equal(whole[~passed], alone[~passed])


@pytest.mark.train
def test_surprise_counts_how_few_benign_scores_are_as_high(ensemble: Any) -> None:
    scores, label = scored(3, 200_000)
    ruler = ensemble.choose(scores, label, share=0.1).rulers["one"]
    benign = scores["one"][label == 0]
    for share in (0.5, 0.1, 0.01, 0.001):
        line = np.quantile(benign, 1 - share)
        assert ruler.surprise(np.array([line]))[0] == pytest.approx(-np.log10(share), abs=0.1)
    far = ruler.surprise(np.array([-1e9, benign.max(), 1e4, 1e9]))
    assert far[0] == 0
    assert 4 <= far[1] < far[2] < far[3] <= 5


@pytest.mark.train
def test_members_that_are_no_ensemble_are_refused(ensemble: Any) -> None:
    names = [f.name for f in ensemble.members(family("ensemble").defaults)]
    assert names == ["boosted", "lstm-classifier", "lstm-autoencoder"]
    for members, said in (
        (["lstm-pair", "forest"], "name forest or boosted first"),
        (["forest"], "2 to 5"),
        (["forest", "forest"], "different"),
        (["forest", "lstm-par"], "did you mean lstm-pair"),
        (["forest", "ensemble"], "cannot be asked"),
    ):
        with pytest.raises(ConfigError, match=said):
            ensemble.members(family("ensemble").config(members=members))
    with pytest.raises(ConfigError, match="give both"):
        ensemble.choose({"a": np.zeros(3)}, np.zeros(3), 0.1)
    with pytest.raises(ConfigError, match="choose it again"):
        ensemble.from_json({"weights": {"a": 1}, "rulers": {}, "gate": 0})

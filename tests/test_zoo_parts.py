"""The layers of temporal-attention and their kin: each does what its drawing says."""

from __future__ import annotations

import importlib
import importlib.util
import math
from functools import cache
from typing import Any

import numpy as np
import pytest

from guardian.scoring import softmax
from tests.conftest import ROOT
from trainer.zoo.family import REGISTRY, Shape

pytestmark = [pytest.mark.train, pytest.mark.timeout(240)]


@pytest.fixture(autouse=True)
def needs_tensorflow() -> None:
    """Skip where there is none, without importing it while tests are collected."""
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("needs tensorflow")


def load(name: str) -> Any:
    """Return a module of the zoo; skips where there is no tensorflow."""
    pytest.importorskip("tensorflow")
    return importlib.import_module(f"trainer.zoo.{name}")


def keras() -> Any:
    return load("parts").layers and importlib.import_module("keras")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# --- attention --------------------------------------------------------------------------------


def test_attention_is_what_the_formula_says_step_by_step() -> None:
    heads, steps, width = 2, 5, 6
    layer = load("attention").TemporalAttention(heads, temperature=True, periodic=True)
    x = rng().normal(size=(3, steps, width)).astype(np.float32)
    layer(x)
    layer.set_weights([rng(k).normal(size=w.shape) for k, w in enumerate(layer.get_weights())])
    weight = {v.path.split("/", 1)[1]: np.asarray(v) for v in layer.weights}
    found, maps = (np.asarray(v) for v in layer(x))
    q, k, v = (x @ weight[f"{n}/kernel"] + weight[f"{n}/bias"] for n in ("query", "key", "value"))
    for row in range(len(x)):
        joined = np.zeros((steps, width))
        for h in range(heads):
            part = slice(h * 3, h * 3 + 3)
            heat = math.exp(weight["log_temperature"][h, 0, 0])
            for i in range(steps):
                scores = np.array([q[row, i, part] @ k[row, j, part] for j in range(steps)])
                scores /= math.sqrt(3) * heat
                for wave in range(weight["height"].shape[1]):
                    height, phase, period = (
                        float(weight[n][h, wave, 0, 0]) for n in ("height", "phase", "log_period")
                    )
                    lag = i - np.arange(steps)
                    scores += height * np.cos(2 * math.pi * lag / math.exp(period) + phase)
                share = np.exp(scores) / np.exp(scores).sum()
                np.testing.assert_allclose(maps[row, h, i], share, atol=1e-4)
                joined[i, part] = share @ v[row, :, part]
        wanted = joined @ weight["out/kernel"] + weight["out/bias"]
        np.testing.assert_allclose(found[row], wanted, atol=1e-4)


def test_maps_can_be_looked_at() -> None:
    attention_maps = load("attention").attention_maps
    x = rng().normal(size=(4, 6, 3)).astype(np.float32)
    found = REGISTRY["transformer"]
    config = found.config(hidden=8, heads=2, window=6)
    maps = attention_maps(found.build(Shape(6, 3, 2), config), x)
    assert [m.shape for m in maps] == [(4, 2, 6, 6)] * 2
    for one in maps:
        np.testing.assert_allclose(one.sum(axis=-1), 1.0, atol=1e-5)
    plain = REGISTRY["cnn-lstm"]
    assert attention_maps(plain.build(Shape(6, 3, 2), plain.config(hidden=4, window=6)), x) == []


# --- memory and gradient reversal --------------------------------------------------------------


def test_the_memory_is_written_while_training_alone_and_comes_to_hold_what_it_saw() -> None:
    keras().utils.set_random_seed(0)
    bank = load("memory").MemoryBank(4, decay=0.9)
    kinds = 3.0 * np.sign(rng(1).normal(size=(2, 8)))
    x = (kinds[rng(2).integers(0, 2, 256)] + 0.1 * rng(3).normal(size=(256, 8))).astype(np.float32)
    bank(x)
    before = bank.get_weights()[0]
    bank.set_weights([before, np.eye(8), np.zeros(8)])
    plain = np.asarray(bank(x, training=False))
    np.testing.assert_array_equal(bank.get_weights()[0], before)
    for _ in range(200):
        bank(x, training=True)
    np.testing.assert_array_equal(bank.get_weights()[1], np.eye(8), "the question is not written")

    def off(read: Any) -> float:
        return float(np.abs(read - x).mean())

    assert off(np.asarray(bank(x, training=False))) < 0.3 * off(plain)
    slots = bank.get_weights()[0]
    for kind in kinds:
        assert np.abs(slots - kind).mean(axis=1).min() < 0.5, "a slot holds each kind"


def test_a_reversed_gradient_changes_nothing_forwards() -> None:
    tf = pytest.importorskip("tensorflow")
    layer = load("memory").GradientReversal(0.3)
    x = tf.constant(rng().normal(size=(4, 3)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
        total = tf.reduce_sum(y * y)
    np.testing.assert_allclose(y, x, atol=1e-6)
    np.testing.assert_allclose(tape.gradient(total, x), -0.3 * 2 * x, atol=1e-5)


def test_the_adversary_makes_the_summary_forget_the_group() -> None:
    """With the gradient reversed the head that guesses the group stays near chance."""
    guessed = {}
    for strength in (0.0, 3.0):
        keras().utils.set_random_seed(1)
        found = REGISTRY["temporal-attention"]
        config = found.config(
            window=4, hidden=8, heads=2, layers=1, reversal=strength, dropout=0.0, memory=False,
            bayesian=False, variance=False,
        )  # fmt: skip
        x = rng(4).normal(size=(512, 4, 3)).astype(np.float32)
        label, group = rng(5).integers(0, 2, 512), rng(6).integers(0, 2, 512)
        x[:, -1, 0] += 3.0 * label
        x[:, -1, 1] += 4.0 * group
        learner = found.learner(Shape(4, 3, 2), config, 2)
        learner.model.compile(keras().optimizers.Adam(1e-2), learner.loss, jit_compile=False)
        learner.model.fit(x, learner.targets(x, label, group), epochs=8, batch_size=64, verbose=0)
        answers = learner.model.predict(x, verbose=0)
        guessed[strength] = float((answers["group"].argmax(1) == group).mean())
        assert (answers["class"].argmax(1) == label).mean() > 0.85
        names = [layer.name for layer in learner.core.layers]
        assert "group" not in names, "the head stays behind"
    assert guessed[0.0] > 0.75
    assert guessed[3.0] < guessed[0.0] - 0.15


# --- doubt ------------------------------------------------------------------------------------


def test_a_bayesian_layer_knows_mean_and_variance_of_its_drawn_weights() -> None:
    layer = load("bayes").BayesianDense(3, 1e-3)
    x = rng().normal(size=(2, 4)).astype(np.float32)
    layer(x)
    center, spread, bias = rng(1).normal(size=(4, 3)), rng(2).normal(size=(4, 3)) - 1, np.ones(3)
    layer.set_weights([center, spread, bias])
    drawn = x @ (center + np.exp(spread) * rng(3).normal(size=(20_000, 4, 3))) + bias
    mean, variance = layer(x)
    np.testing.assert_allclose(mean, drawn.mean(axis=0), atol=0.1)
    np.testing.assert_allclose(variance, drawn.var(axis=0), rtol=0.1)
    layer(x, training=True)
    far = 0.5 * (np.exp(2 * spread) + center**2 - 1) - spread
    np.testing.assert_allclose(layer.losses[0], 1e-3 * far.mean(), rtol=1e-4)


def test_tempered_logits_are_close_to_the_mean_of_noisy_answers() -> None:
    layer = load("bayes").NoisyLogits(True, True)
    mean = np.array([[0.0, 3.0], [0.0, -1.0], [0.0, 6.0]], np.float32)
    of_weights, of_data = np.full_like(mean, 0.5), np.full_like(mean, 1.5)
    tempered = softmax(np.asarray(layer([mean, of_weights, of_data], training=False)))
    noise = rng().normal(size=(50_000, *mean.shape)) * math.sqrt(2.0)
    noisy = np.mean([softmax((mean + n).astype(np.float32)) for n in noise[:5_000]], axis=0)
    assert np.abs(tempered - noisy).max() < 0.06
    assert np.abs(softmax(mean) - noisy).max() > np.abs(tempered - noisy).max()
    given = [mean, of_weights, of_data]
    draws = [softmax(np.asarray(layer(given, training=True))) for _ in range(300)]
    trained = np.mean(draws, axis=0)
    assert np.abs(trained - noisy).max() < 0.03


def test_a_variational_code_is_drawn_while_training_and_its_mean_else() -> None:
    keras().utils.set_random_seed(0)
    layer = load("bayes").Sample(0.5)
    mean = np.full((2_000, 3), 2.0, np.float32)
    wide = np.full((2_000, 3), math.log(0.25), np.float32)
    np.testing.assert_array_equal(layer((mean, wide), training=False), mean)
    assert not layer.losses
    drawn = np.asarray(layer((mean, wide), training=True))
    assert drawn.mean() == pytest.approx(2.0, abs=0.05)
    assert drawn.std() == pytest.approx(0.5, abs=0.05)
    assert float(layer.losses[0]) == pytest.approx(0.5 * 3 * 0.5 * (4 + 0.25 - math.log(0.25) - 1))


@cache
def doubtful() -> tuple[Any, Any, Any]:
    """A model of two classes; where feature 2 is up, the label is a coin's."""
    keras().utils.set_random_seed(2)
    found = REGISTRY["temporal-attention"]
    config = found.config(window=4, hidden=8, heads=2, layers=2, slots=4)
    x = rng(7).normal(size=(1_500, 4, 3)).astype(np.float32)
    label = rng(8).integers(0, 2, len(x))
    noisy = rng(9).random(len(x)) < 0.5
    x[:, -1, 2] = np.where(noisy, 2.0, -2.0)
    x[:, -1, 0] = np.where(label, 2.0, -2.0) + 0.1 * x[:, -1, 0]
    label = np.where(noisy, rng(10).integers(0, 2, len(x)), label)
    learner = found.learner(Shape(4, 3, 2), config, 1)
    learner.model.compile(keras().optimizers.Adam(1e-2), learner.loss, jit_compile=False)
    learner.model.fit(x, learner.targets(x, label, None), epochs=20, batch_size=64, verbose=0)
    return learner.core, x, noisy


def test_noise_in_the_labels_is_aleatoric_and_strange_input_is_epistemic() -> None:
    model, x, noisy = doubtful()
    before = model.get_weights()
    found = load("uncertainty").doubt(model, x, 12, seed=1)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    assert found.aleatoric[noisy].mean() > 2 * found.aleatoric[~noisy].mean()
    assert found.aleatoric.max() <= math.log(2) + 1e-6
    between = x[~noisy].copy()
    between[:, -1, 0] = 0.0
    strange = load("uncertainty").doubt(model, between, 12, seed=1)
    assert strange.epistemic.mean() > 2 * found.epistemic[~noisy].mean()


def test_intervals_hold_the_mean_and_the_same_seed_says_the_same() -> None:
    model, x, _ = doubtful()
    doubt = load("uncertainty").doubt
    wide, narrow = (doubt(model, x[:200], 12, coverage=c, seed=3) for c in (0.9, 0.3))
    assert (wide.low <= narrow.low).all()
    assert (narrow.high <= wide.high).all()
    assert (wide.high - wide.low).mean() > 0.01
    threat = 1 - wide.probability[:, 0]
    assert ((wide.low <= threat + 1e-6) & (threat <= wide.high + 1e-6)).mean() > 0.95
    np.testing.assert_allclose(wide.probability.sum(axis=1), 1, atol=1e-5)
    again = doubt(model, x[:200], 12, seed=3)
    np.testing.assert_array_equal(again.probability, wide.probability)
    assert (doubt(model, x[:200], 12, seed=4).probability != wide.probability).any()


def test_a_model_without_chance_has_no_epistemic_doubt() -> None:
    found = REGISTRY["lstm-classifier"]
    model = found.build(Shape(4, 3, 2), found.config(window=4, hidden=4, dropout=0.0))
    x = rng().normal(size=(20, 4, 3)).astype(np.float32)
    told = load("uncertainty").doubt(model, x, 3)
    assert told.epistemic.max() < 1e-6
    np.testing.assert_allclose(told.low, told.high, atol=1e-6)


# --- the switches and the page -------------------------------------------------------------------

LAYERS = {
    "hierarchy": "mix", "attention": "attention", "memory": "memory", "bayesian": "bayes",
    "variance": "variance",
}  # fmt: skip
"""The layer that each switch takes away."""


def test_each_switch_takes_its_part_away_and_nothing_else() -> None:
    module = load("temporal_attention")
    config = module.FAMILY.config(window=4, hidden=8, heads=2, slots=4)
    shape = Shape(4, 3, 2)
    rows = dict(module.ablations(config))
    assert len(rows) == 2 + len(module.SWITCHES)
    assert next(iter(rows)) == "all parts"
    built = {name: module.build(shape, row) for name, row in rows.items()}
    names = {name: {layer.name for layer in model.layers} for name, model in built.items()}
    sizes = {name: model.count_params() for name, model in built.items()}
    whole = names["all parts"]
    for switch, layer in LAYERS.items():
        assert layer in whole
        assert layer not in names[f"without {switch}"]
        assert set(LAYERS.values()) - {layer} <= names[f"without {switch}"]
    assert sizes["all parts"] - sizes["without temperature"] == 2
    assert sizes["all parts"] - sizes["without periodic"] == 2 * 4 * 3
    assert sizes["without adversary"] == sizes["all parts"]
    assert not set(LAYERS.values()) & names["no part"]
    heads = {
        on: module.learn(shape, config.with_(adversary=on), 3).model.count_params()
        for on in (True, False)
    }
    assert heads[False] == sizes["all parts"] < heads[True]
    x = rng().normal(size=(5, 4, 3)).astype(np.float32)
    for model in built.values():
        assert np.isfinite(np.asarray(model(x, training=True))).all()


@pytest.mark.parametrize("name", ["temporal-attention", "transformer", "vae", "gan", "bilstm"])
def test_half_precision_learns_too_and_answers_in_whole(name: str) -> None:
    x = rng().normal(size=(64, 4, 6)).astype(np.float32)
    label, group = rng(1).integers(0, 3, 64), rng(2).integers(0, 3, 64)
    found = REGISTRY[name]
    sizes: dict[str, Any] = {"hidden": 8, "code": 4, "slots": 4, "heads": 2}
    config = found.config(window=4, **{k: v for k, v in sizes.items() if k in found.uses})
    policy = keras().config.dtype_policy()
    keras().config.set_dtype_policy("mixed_bfloat16")
    try:
        learner = found.learner(Shape(4, 6, 3), config, 3)
        learner.model.compile("adam", learner.loss, jit_compile=False, run_eagerly=True)
        targets = learner.targets(x, label, group)
        history = learner.model.fit(x, targets, epochs=2, batch_size=32, verbose=0).history
    finally:
        keras().config.set_dtype_policy(policy)
    assert np.isfinite(history["loss"]).all()
    assert learner.core.output.dtype == "float32"
    assert {str(w.dtype) for w in learner.core.weights} == {"float32"}


def test_the_critic_stays_behind() -> None:
    found = REGISTRY["gan"]
    config = found.config(window=4, hidden=4, code=2)
    learner = found.learner(Shape(4, 3, 0), config)
    assert learner.core.count_params() == found.build(Shape(4, 3, 0), config).count_params()
    assert learner.model.count_params() > learner.core.count_params()


def test_the_page_of_models_is_made_from_the_registry() -> None:
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert load("page").filled(page) == page, "run python -m trainer.zoo.page"
    for switch in load("temporal_attention").SWITCHES:
        assert f"| `{switch}` |" in page

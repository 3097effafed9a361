"""Fitting: equal to Keras' own, the same twice, and in every way of computing."""

# ruff: noqa: TID251 - what is tested are layers
from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import keras
import tensorflow as tf
from keras import layers

from guardian.errors import ConfigError, InputError
from tests.fitters import HOW, autoencoder, fitted, rebuild, waves
from trainer.fit import logits_loss, rebuilt_loss
from trainer.fitting import lstm, recompute
from trainer.fitting.augment import augmented
from trainer.fitting.how import Augment, Fit, Rows, balanced, fit_of
from trainer.fitting.loop import Stream, compile_for, fit
from trainer.fitting.step import plan

pytestmark = pytest.mark.train


def _quiet(line: str) -> None:
    """Nobody listens."""


def test_the_losses_are_those_of_keras() -> None:
    rows, held = rebuild(70), rebuild(40, 1)
    rows = replace(rows, weight=np.linspace(0.5, 1.5, 70, dtype=np.float32))
    ours = autoencoder()
    history = fit(ours, rows, held, HOW, loss=rebuilt_loss, seed=3, echo=_quiet)

    plain = autoencoder()
    compile_for(plain, HOW, rebuilt_loss, 5 * HOW.epochs)
    losses: list[float] = []
    valid: list[float] = []
    for epoch in range(HOW.epochs):
        order = np.random.default_rng([3, epoch]).permutation(70)
        found = plain.fit(
            rows.x[order], rows.x[order], sample_weight=rows.weight[order], batch_size=16,
            shuffle=False, verbose=0, validation_data=(held.x, held.x),
        ).history  # fmt: skip
        losses += found["loss"]
        valid += found["val_loss"]
    np.testing.assert_allclose(history.loss, losses, rtol=1e-4)
    np.testing.assert_allclose(history.valid, valid, rtol=1e-4)
    best = int(np.argmin(valid))
    assert history.best == best
    if best == HOW.epochs - 1:
        for a, b in zip(ours.get_weights(), plain.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)


def test_two_runs_give_the_same_weights() -> None:
    how = replace(HOW, augment=Augment(noise=0.1, feature_dropout=0.2, jitter=1, crop=0.3))
    (one, first), (two, second) = fitted(how, dropout=0.3), fitted(how, dropout=0.3)
    assert one.loss == two.loss
    assert one.valid == two.valid
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_another_seed_gives_others() -> None:
    model = autoencoder()
    other = fit(model, rebuild(70), None, HOW, loss=rebuilt_loss, seed=4, echo=_quiet)
    assert other.loss != fitted(HOW)[0].loss


@pytest.mark.parametrize(
    ("change", "tolerance"),
    [
        ({"jit": True}, 1e-4),
        ({"recompute": True}, 1e-4),
        ({"precision": "bfloat16"}, 0.03),
    ],
)
def test_other_ways_of_computing_agree(change: dict[str, Any], tolerance: float) -> None:
    plain, _ = fitted(HOW)
    other, model = fitted(replace(HOW, **change))
    np.testing.assert_allclose(other.loss, plain.loss, rtol=tolerance)
    np.testing.assert_allclose(other.valid, plain.valid, rtol=tolerance)
    assert all(w.dtype == np.float32 for w in model.get_weights())
    assert (other.loss != plain.loss) or "recompute" in change  # it did compute another way


def test_float16_scales_its_loss() -> None:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = autoencoder()
        # On a CPU `choose` refuses float16: the loop itself must be right for a GPU.
        history = fit(model, rebuild(70), rebuild(40, 1), HOW, loss=rebuilt_loss, seed=3,
                      echo=_quiet)  # fmt: skip
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    finally:
        keras.config.set_dtype_policy(before)
    np.testing.assert_allclose(history.valid, fitted(HOW)[0].valid, rtol=0.03)


# --- LSTM layers, written out -----------------------------------------------------------


def _layers() -> list[tuple[str, Any]]:
    return [
        ("last", layers.LSTM(5)),
        ("every", layers.LSTM(5, return_sequences=True)),
        ("relu", layers.LSTM(5, activation="relu", return_sequences=True)),
        ("sigmoid", layers.LSTM(5, activation="sigmoid")),
        ("no bias", layers.LSTM(5, use_bias=False)),
        ("backwards", layers.LSTM(5, go_backwards=True, return_sequences=True)),
        ("both", layers.Bidirectional(layers.LSTM(5, return_sequences=True))),
        ("state", layers.LSTM(5, return_state=True, return_sequences=True)),
    ]


@pytest.mark.parametrize(("name", "layer"), _layers(), ids=[n for n, _ in _layers()])
def test_written_out_steps_are_those_of_keras(name: str, layer: Any) -> None:
    inputs = layers.Input((6, 3))
    outputs = layer(inputs)
    if name == "state":
        outputs = layers.Concatenate()([layers.Flatten()(o) for o in outputs])
    model = keras.Model(inputs, outputs)
    x = tf.constant(waves(9))

    def computed() -> list[Any]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            found = model(x, training=True)
            # Every output counts differently.
            ruler = np.cos(np.arange(np.size(found), dtype=np.float32)).reshape(found.shape)
            loss = tf.reduce_sum(found * ruler)
        return [found, *tape.gradient(loss, [x, *[v.value for v in model.trainable_variables]])]

    plain = computed()
    with lstm.fused(model) as many:
        assert many == (2 if name == "both" else 1)
        written = computed()
    for a, b in zip(plain, written, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
    assert not any("inner_loop" in vars(x) for x in model._flatten_layers())


def test_long_sequences_and_unusual_layers_stay_with_keras() -> None:
    inputs = layers.Input((40, 3))
    model = keras.Model(inputs, layers.LSTM(4)(inputs))
    with lstm.fused(model) as many:
        assert many == 1
        graph = tf.function(model).get_concrete_function(tf.zeros((2, 40, 3)))
        assert any(op.type in ("While", "StatelessWhile") for op in graph.graph.get_operations())
    for layer in (layers.LSTM(4, recurrent_dropout=0.1), layers.LSTM(4, activation="swish")):
        inputs = layers.Input((5, 3))
        with lstm.fused(keras.Model(inputs, layer(inputs))) as many:
            assert many == 0


def test_recomputing_repeats_the_same_dropout() -> None:
    inputs = layers.Input((6, 4))
    x = layers.MultiHeadAttention(2, 4, dropout=0.5, seed=5)(inputs, inputs)
    model = keras.Model(inputs, layers.LSTM(5, dropout=0.4, seed=6)(x))
    x = tf.constant(waves(9, features=4))
    start = [v.numpy() for v in model.variables]

    def computed() -> tuple[list[Any], list[Any]]:
        for variable, value in zip(model.variables, start, strict=True):
            variable.assign(value)

        @tf.function(autograph=False)  # type: ignore[untyped-decorator]
        def compute() -> Any:
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(model(x, training=True) ** 2)
            return tape.gradient(loss, model.trainable_variables)

        return compute(), [v.numpy() for v in model.variables]

    plain, states = computed()
    with recompute.recomputed(model) as many:
        assert many == 2
        again, states_again = computed()
    for a, b in zip(plain, again, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    for a, b in zip(states, states_again, strict=True):
        np.testing.assert_array_equal(a, b)


# --- stopping, streams, several outputs -------------------------------------------------


def test_it_stops_where_validation_gets_no_better_and_keeps_the_best() -> None:
    rows = rebuild(40)
    noise = np.random.default_rng(0).normal(0, 3, rows.x.shape).astype(np.float32)
    held = Rows(rows.x, noise, rows.weight)  # learning the rows cannot help here for long
    model = autoencoder()
    how = replace(HOW, epochs=40, patience=2)
    history = fit(model, rows, held, how, loss=rebuilt_loss, seed=3, echo=_quiet)
    assert len(history.loss) == history.best + 3 < 40
    assert history.stopped.startswith(f"stopped after epoch {history.best + 3}")
    found = float(np.mean((model.predict(held.x, verbose=0) - noise) ** 2))
    assert found == pytest.approx(min(history.valid), rel=1e-4)


def test_a_loss_that_is_no_number_is_told() -> None:
    rows = rebuild(40)
    bad = replace(rows, x=np.where(rows.x > 0, np.float32(np.nan), rows.x))
    with pytest.raises(InputError, match="no number in the first epoch"):
        fit(autoencoder(), bad, None, HOW, loss=rebuilt_loss, seed=3, echo=_quiet)
    with pytest.raises(InputError, match="no sequence"):
        fit(autoencoder(), rebuild(0), None, HOW, loss=rebuilt_loss, seed=3, echo=_quiet)


def test_a_stream_is_fitted_like_rows_in_memory() -> None:
    rows = rebuild(70)

    def pieces(epoch: int) -> Any:
        order = np.random.default_rng([3, epoch]).permutation(70)
        for begin in range(0, 70, 32):
            x = rows.x[order[begin : begin + 32]]
            yield Rows(x, x, np.ones(len(x), np.float32))

    model = autoencoder()
    stream = Stream(70, pieces)
    found = fit(model, stream, rebuild(40, 1), HOW, loss=rebuilt_loss, seed=3, echo=_quiet)
    whole, _ = fitted(HOW)
    np.testing.assert_allclose(found.loss, whole.loss, rtol=1e-4)
    np.testing.assert_allclose(found.valid, whole.valid, rtol=1e-4)


def test_several_outputs_and_losses_of_layers() -> None:
    inputs = layers.Input((6, 3))
    x = layers.LSTM(6, activity_regularizer=keras.regularizers.L2(0.1))(inputs)
    outputs = {"a": layers.Dense(2)(x), "b": layers.Dense(3)(x)}
    model = keras.Model(inputs, outputs)
    label = (np.arange(64) % 2).astype(np.int32)
    rows = Rows(waves(64), {"a": label, "b": waves(64)[:, 0]}, np.ones(64, np.float32))
    wanted = {"a": logits_loss(2, 0.0), "b": keras.losses.mean_squared_error}
    start = model.get_weights()
    both = fit(model, rows, rows, HOW, loss=wanted, seed=1, echo=_quiet)
    # In batches as large as fit's: an older Keras sums a layer's loss over a batch.
    whole = model.evaluate(rows.x, rows.y, 4 * HOW.batch, verbose=0, return_dict=True)
    assert min(both.valid) == pytest.approx(whole["loss"], rel=1e-3)
    model.set_weights(start)
    one = fit(model, rows, rows, HOW, loss=wanted, seed=1, monitor="val_a_loss", echo=_quiet)
    a = float(np.mean(wanted["a"](label, model(rows.x)["a"])))
    assert min(one.valid) == pytest.approx(a, rel=1e-3)


# --- small parts ------------------------------------------------------------------------


def test_the_plan_has_every_row_once() -> None:
    order = np.random.default_rng(0).permutation(70).astype(np.int32)
    index, counts = plan(order, 16)
    assert index.shape == counts.shape == (5, 16)
    assert sorted(index[counts == 1]) == list(range(70))
    assert plan(order[:3], 8)[0].shape == (1, 8)


def test_augmentation_does_what_it_says_and_no_more() -> None:
    x = tf.constant(waves(200) + 5.0)
    seed = tf.constant([1, 2])

    def changed(**how: Any) -> Any:
        return augmented(x, Augment(**how), seed).numpy()

    np.testing.assert_array_equal(changed(), x)
    noise = changed(noise=0.5) - x
    assert noise.numpy().std() == pytest.approx(0.5, rel=0.05)
    zero = changed(feature_dropout=0.3) == 0
    assert (zero.all(axis=1) == zero.any(axis=1)).all()
    assert zero.any(axis=1).mean() == pytest.approx(0.3, abs=0.08)
    cut = changed(crop=0.5) == 0
    assert cut[:, :3].any()
    assert not cut[:, 3:].any()
    moved = changed(jitter=2)
    for before, after in zip(x.numpy(), moved, strict=True):
        steps = [
            k for k in range(-2, 3)
            if np.array_equal(after[max(k, 0) : 6 + min(k, 0)], before[max(-k, 0) : 6 - max(k, 0)])
        ]  # fmt: skip
        assert steps
    np.testing.assert_array_equal(changed(noise=0.5), changed(noise=0.5))


def test_balanced_weights_let_every_class_count_the_same() -> None:
    label = np.array([0] * 90 + [2] * 10)
    weight = balanced(label)
    assert weight[:90].sum() == pytest.approx(weight[90:].sum())
    assert weight.mean() == pytest.approx(1.0)
    given = balanced(label, np.arange(1, 101, dtype=np.float32))
    assert given[:90].sum() == pytest.approx(given[90:].sum())
    assert given[1] == pytest.approx(2 * given[0])


def test_how_comes_back_from_json(tmp_path: Path) -> None:
    how = replace(HOW, augment=Augment(noise=0.1))
    assert fit_of(asdict(how)) == how
    with pytest.raises(ConfigError, match="no epoch in"):
        fit_of({"epoch": 3})
    with pytest.raises(ConfigError, match="batch is 0"):
        Fit(batch=0)

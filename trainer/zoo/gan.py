"""gan: an autoencoder with a critic that tells its work from real sequences."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from trainer.fit import rebuilt_loss
from trainer.zoo.config import Config
from trainer.zoo.family import COMMON, Family, Learner, Shape
from trainer.zoo.memory import GradientReversal
from trainer.zoo.parts import lstm, sequence, to_features


def build(shape: Shape, config: Config, *, unroll: bool = False, batch: int | None = None) -> Any:
    """The generator: encoder 64, a dense code of 16, repeated; decoder 64; a dense layer back."""
    x = inputs = sequence(shape, batch)
    for k, units in enumerate(config.hidden):
        x = lstm(units, config, unroll, every=k < config.layers - 1)(x)
    x = layers.Dense(config.code)(x)
    x = layers.RepeatVector(shape.window)(x)
    for units in reversed(config.hidden):
        x = lstm(units, config, unroll, every=True)(x)
    return keras.Model(inputs, to_features(shape)(x), name="gan")


def critic(shape: Shape, config: Config) -> Any:
    """One LSTM and a logit: above 0 for a real sequence."""
    x = inputs = sequence(shape, None)
    x = lstm(config.hidden[0], config, False)(x)
    x = layers.Dropout(config.dropout)(x)
    return keras.Model(inputs, layers.Dense(1, dtype="float32")(x), name="critic")


def learn(shape: Shape, config: Config, groups: int) -> Learner:
    """Return generator and critic as one model: the critic's gradient reaches the generator
    reversed, so that one step teaches both, each against the other.
    """
    del groups
    core, judge = build(shape, config), critic(shape, config)
    fake = judge(GradientReversal(config.reversal)(core.output))
    outputs = {"rebuilt": core.output, "real": judge(core.inputs[0]), "fake": fake}
    model = keras.Model(core.inputs, outputs, name=core.name)
    return Learner(
        model,
        core,
        {"rebuilt": rebuilt_loss, "real": _judged, "fake": _judged},
        lambda x, _label, _group: {"rebuilt": x, "real": _all(x, 1.0), "fake": _all(x, 0.0)},
        monitor="val_rebuilt_loss",
    )


def _all(x: Any, value: float) -> Any:
    """Return [n, 1] of a value, for n sequences."""
    return x[:, 0, :1] * 0.0 + value


def _judged(wanted: Any, found: Any) -> Any:
    """Return [batch]: cross-entropy of the critic's logits."""
    return ops.mean(ops.binary_crossentropy(wanted, found, from_logits=True), axis=-1)


FAMILY = Family(
    name="gan",
    task="rebuild",
    about="Rebuilds usual sequences so well that a critic takes them for real ones.",
    drawing="LSTM 64, dense 16, repeat, LSTM 64, dense; the critic: LSTM 64, dropout, dense",
    at_export="The generator travels, its LSTMs unrolled; the critic stays behind.",
    defaults=Config(window=10, hidden=(64,), code=16, dropout=0.2, reversal=0.05, rate=1e-3),
    uses=COMMON | {"hidden", "layers", "code", "dropout", "reversal"},
    build=build,
    learn=learn,
)

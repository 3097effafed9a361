"""temporal-attention: time scales, attention, memory, and an answer that knows its doubt."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from trainer.fit import logits_loss
from trainer.zoo.attention import TemporalAttention
from trainer.zoo.bayes import BayesianDense, NoisyLogits, Variance
from trainer.zoo.config import Config
from trainer.zoo.family import COMMON, Family, Learner, Shape
from trainer.zoo.memory import GradientReversal, MemoryBank
from trainer.zoo.parts import lstm, sequence

SWITCHES = ("hierarchy", "attention", "temperature", "periodic", "memory", "adversary",
            "bayesian", "variance")  # fmt: skip
"""The parts that can be turned off."""
FIRST_NOISE = -2.0
"""log variance of the data's noise before training."""


def build(shape: Shape, config: Config, *, unroll: bool = False, batch: int | None = None) -> Any:
    """LSTMs at three time scales, mixed; attention over the steps; the last step and the mean of
    all; what the memory knows of it; logits, tempered by the variance of weights and data.
    """
    inputs = sequence(shape, batch)
    x = _hierarchy(inputs, config, unroll) if config.hierarchy else _plain(inputs, config, unroll)
    if config.attention:
        look = TemporalAttention(
            config.heads,
            temperature=config.temperature,
            periodic=config.periodic,
            name="attention",
        )
        seen, _ = look(x)
        x = layers.Add()([x, layers.Dropout(config.dropout)(seen)])
    x = layers.Concatenate()([x[:, -1], layers.GlobalAveragePooling1D()(x)])
    x = layers.Dense(config.hidden[0], activation="tanh", name="summary")(x)
    if config.memory:
        x = layers.Concatenate()([x, MemoryBank(config.slots, name="memory")(x)])
    x = layers.Dropout(config.dropout)(x)
    return keras.Model(inputs, _head(x, shape, config), name="temporal-attention")


def _plain(x: Any, config: Config, unroll: bool) -> Any:
    return lstm(config.hidden[0], config, unroll, every=True)(x)


def _hierarchy(x: Any, config: Config, unroll: bool) -> Any:
    """LSTM k reads every 2^k-th step of what the one before it saw; the gates and the weights of
    the layers say how much of each counts at a step.
    """
    steps, width = x.shape[1], config.hidden[0]
    seen = []
    for k, units in enumerate(config.hidden):
        if k:
            # Padded in front: the last step is the end of a pair at every scale.
            x = layers.ZeroPadding1D((x.shape[1] % 2, 0))(x)
            x = layers.AveragePooling1D(2)(x)
        x = lstm(units, config, unroll, every=True)(x)
        wide = layers.UpSampling1D(2**k)(x) if k else x
        wide = layers.Cropping1D((wide.shape[1] - steps, 0))(wide)
        gate = layers.Dense(width, activation="sigmoid")(wide)
        seen.append(layers.Multiply()([gate, layers.Dense(width)(wide)]))
    return Mix(name="mix")(seen) if len(seen) > 1 else seen[0]


def _head(x: Any, shape: Shape, config: Config) -> Any:
    """Return logits; without both kinds of variance a plain dense layer."""
    if config.bayesian:
        bayes = BayesianDense(shape.classes, config.kl, dtype="float32", name="bayes")
        known = list(bayes(x))
    else:
        known = [layers.Dense(shape.classes, dtype="float32", name="mean")(x)]
    if config.variance:
        first = keras.initializers.Constant(FIRST_NOISE)
        noise = layers.Dense(shape.classes, bias_initializer=first, dtype="float32")(x)
        known.append(Variance(dtype="float32", name="variance")(noise))
    if len(known) == 1:
        return known[0]
    return NoisyLogits(config.bayesian, config.variance, dtype="float32", name="logits")(known)


def learn(shape: Shape, config: Config, groups: int) -> Learner:
    """Return the model with the head that guesses a row's group from its summary, in vain."""
    core = build(shape, config)
    loss = logits_loss(shape.classes, config.smoothing)
    if not config.adversary or groups < 2:
        return Learner(core, core, loss, lambda _x, label, _group: label)
    x = GradientReversal(config.reversal)(core.get_layer("summary").output)
    x = layers.Dense(config.hidden[0], activation="relu")(x)
    x = layers.Dense(groups, dtype="float32", name="group")(x)
    model = keras.Model(core.inputs, {"class": core.output, "group": x}, name=core.name)
    return Learner(
        model,
        core,
        {"class": loss, "group": logits_loss(groups, 0.0)},
        lambda _x, label, group: {"class": label, "group": group},
        monitor="val_class_loss",
    )


@keras.saving.register_keras_serializable("guardian")
class Mix(layers.Layer):  # type: ignore[misc]
    """The sum of several inputs, by learned weights that add up to 1."""

    def build(self, shapes: list[tuple[Any, ...]]) -> None:
        """Make a weight for each input."""
        self._share = self.add_weight(shape=(len(shapes),), initializer="zeros", name="share")
        self.built = True

    def call(self, given: list[Any]) -> Any:
        """Return the weighted sum."""
        share = ops.softmax(self._share)
        total = given[0] * share[0]
        for k, x in enumerate(given[1:], 1):
            total = total + x * share[k]
        return total


def ablations(config: Config) -> list[tuple[str, Config]]:
    """Return the rows of the ablation table: the whole model, each part off alone, all off."""
    rows = [("all parts", config)]
    rows += [(f"without {name}", config.with_(**{name: False})) for name in SWITCHES]
    return [*rows, ("no part", config.with_(**dict.fromkeys(SWITCHES, False)))]


FAMILY = Family(
    name="temporal-attention",
    task="classify",
    about="Reads a sequence at three time scales, attends, remembers, and says how sure it is.",
    drawing="LSTM 64 at 1, 2 and 4 steps, gated and mixed; attention of 4 heads; last step and "
    "mean, dense 64; memory of 16 slots; variational dense and variance; softmax",
    at_export="LSTMs are unrolled; layer weights, temperatures and the periodic bias become "
    "constants; the memory is frozen and only read; the group head stays behind; the variational "
    "head becomes its mean and its variance, which with the variance output tempers the logits; "
    "Monte Carlo passes and intervals stay on the workstation.",
    defaults=Config(window=10, hidden=(64, 64, 64), heads=4, dropout=0.2, smoothing=0.0),
    uses=COMMON
    | {"hidden", "layers", "heads", "dropout", "smoothing", "slots", "reversal", "kl"}
    | {"monte_carlo", *SWITCHES},
    build=build,
    learn=learn,
)

"""How sure a classifier is: what more data could settle, and what is noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from guardian.scoring import softmax
from guardian.tables import F32, F64


@dataclass(frozen=True)
class Doubt:
    """The answers of many passes with dropout on, and with drawn weights, of n sequences."""

    probability: F32
    """float32[n, classes]: the mean of the passes."""
    epistemic: F64
    """float64[n], nats: how much the passes disagree (mutual information of answer and weights).
    More data of this kind would lower it."""
    aleatoric: F64
    """float64[n], nats: the entropy that each pass has by itself: noise in the data."""
    low: F64
    high: F64
    """float64[n]: the interval that holds `coverage` of the passes' threats."""


def doubt(
    model: Any, x: F32, passes: int, *, coverage: float = 0.9, seed: int = 0, batch: int = 1_024
) -> Doubt:
    """Return the doubt about float32[n, T, F]; `model` gives logits. Nothing of it changes: the
    memory is not written, moving means do not move.
    """
    total = np.zeros(0)
    entropy = np.zeros(len(x))
    threats = np.empty((passes, len(x)))
    for k, found in enumerate(_answers(model, x, passes, seed, batch)):
        probability = softmax(found).astype(np.float64)
        total = probability if not k else total + probability
        entropy += _entropy(probability)
        threats[k] = 1.0 - probability[:, 0]
    mean, aleatoric = total / passes, entropy / passes
    edge = (1.0 - coverage) / 2
    low, high = np.quantile(threats, (edge, 1.0 - edge), axis=0)
    return Doubt(
        probability=mean.astype(np.float32),
        epistemic=np.maximum(_entropy(mean) - aleatoric, 0.0),
        aleatoric=aleatoric,
        low=low,
        high=high,
    )


def _entropy(probability: F64) -> F64:
    found: F64 = -(probability * np.log(np.maximum(probability, 1e-12))).sum(axis=1)
    return found


def _answers(model: Any, x: F32, passes: int, seed: int, batch: int) -> Any:
    """Yield logits [n, classes] of each pass, computed as while training, without its writes."""
    weights = [v.value for v in model.trainable_variables]
    state = list(model.non_trainable_variables)
    seeds = [k for k, v in enumerate(state) if "seed_generator" in v.path]
    kept = [tf.convert_to_tensor(v.value) for v in state]
    for number, k in enumerate(seeds):
        kept[k] = tf.constant([seed, number], kept[k].dtype)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def answer(given: list[Any], rows: Any) -> Any:
        return model.stateless_call(weights, given, rows, training=True)

    for _ in range(passes):
        parts = []
        for begin in range(0, len(x), batch):
            found, moved = answer(kept, tf.constant(x[begin : begin + batch]))
            for k in seeds:
                kept[k] = moved[k]
            parts.append(np.asarray(found, np.float32))
        yield np.concatenate(parts)

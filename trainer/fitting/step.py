"""What runs compiled: many training steps in one call, and the validation loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from guardian.tables import F32, I32
from trainer.fitting.augment import augmented
from trainer.fitting.how import Augment, Rows

Train = Callable[..., F32]
"""(tensors, index, counts, first step, last step, epoch, steps of it before) -> float32: loss times
rows of each of these steps."""


def tensors(rows: Rows) -> tuple[Any, Any, Any]:
    """Return x, y and weight where the model computes; targets that are x stay one tensor."""
    x = tf.constant(rows.x)
    y = tf.nest.map_structure(lambda a: x if a is rows.x else tf.constant(np.asarray(a)), rows.y)
    return x, y, tf.constant(rows.weight, tf.float32)


def plan(order: I32, batch: int) -> tuple[I32, F32]:
    """Return int32[steps, batch] row numbers and float32[steps, batch], 1 where a row counts.

    The last step is filled up from the order's begin with rows that count 0, so that all steps
    have one shape, and batch norm sees real rows.
    """
    steps = -(-len(order) // batch)
    index = np.resize(order, steps * batch).astype(np.int32)
    counts = np.arange(steps * batch) < len(order)
    return index.reshape(steps, batch), counts.astype(np.float32).reshape(steps, batch)


def trainer(
    model: Any, augment: Augment, *, seed: int, jit: bool = False, strategy: Any = None
) -> Train:
    """Return the compiled function that trains a compiled model for some steps.

    Steps run in one call without coming back to Python, which is most of what Keras' own loop
    costs with small models. With a strategy each replica takes its share of every step's rows.
    """
    replicas = 1 if strategy is None else strategy.num_replicas_in_sync
    keras_variables = model.trainable_variables

    def learn(x: Any, y: Any, weight: Any, aug_seed: Any) -> Any:
        seen = augmented(x, augment, aug_seed)
        with tf.GradientTape() as tape:
            found = model(seen, training=True)
            loss = model.compute_loss(x=x, y=y, y_pred=found, sample_weight=weight)
            scaled = model.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, keras_variables)
        model.optimizer.apply_gradients(zip(gradients, keras_variables, strict=True))
        return tf.cast(loss, tf.float32)

    if jit:
        learn = tf.function(learn, jit_compile=True, autograph=False)

    def share(data: Any, index: Any, counts: Any, total: Any, aug_seed: Any) -> Any:
        """One replica's part of a step. Its loss is a share of the mean over the whole step."""
        if replicas > 1:
            k = tf.distribute.get_replica_context().replica_id_in_sync_group
            rows = index.shape[0] // replicas
            index, counts = (v[k * rows : (k + 1) * rows] for v in (index, counts))
            aug_seed = tf.stack([aug_seed[0], aug_seed[1] * replicas + k])
        x, y, weight = tf.nest.map_structure(lambda a: tf.gather(a, index), data)
        # Keras divides by the rows of the step; those that fill it up are no rows.
        weight *= counts * (replicas * index.shape[0] / total)
        return learn(x, y, weight, aug_seed)

    def one(data: Any, index: Any, counts: Any, aug_seed: Any) -> Any:
        total = tf.reduce_sum(counts)
        arguments = (data, index, counts, total, aug_seed)
        if strategy is None:
            return share(*arguments) * total
        losses = strategy.run(share, args=arguments)
        return strategy.reduce("SUM", losses, axis=None) * total

    @tf.function(autograph=False, reduce_retracing=True)  # type: ignore[untyped-decorator]
    def many(data: Any, index: Any, counts: Any, first: Any, last: Any, when: Any) -> Any:
        def body(k: Any, losses: Any) -> Any:
            loss = one(data, index[k], counts[k], when + tf.stack([0, k]))
            return k + 1, losses.write(k - first, loss)

        # Each by itself: a sum here would be rounded by how many steps a call happens to have.
        losses = tf.TensorArray(tf.float32, size=last - first, element_shape=())
        return tf.while_loop(lambda k, _: k < last, body, (first, losses))[1].stack()

    def train(
        data: Any, index: I32, counts: F32, first: int, last: int, epoch: int, past: int = 0
    ) -> F32:
        when = tf.constant([(epoch * 1_000_003 + seed) % 2**31, past], tf.int32)
        arguments = (tf.constant(index), tf.constant(counts), tf.constant(first), tf.constant(last))
        losses: F32 = many(data, *arguments, when).numpy()
        return losses

    return train


def validator(model: Any, monitor: str = "val_loss") -> Callable[[Any, Any, Any], float]:
    """Return (tensors, index, counts) -> the mean validation loss, all in one call.

    `monitor` is "val_loss" or "val_<output>_loss", the loss of one output alone.
    """
    output = monitor.removeprefix("val_").removesuffix("loss").rstrip("_")

    def loss_of(x: Any, y: Any, weight: Any) -> Any:
        found = model(x, training=False)
        if not output:
            return model.compute_loss(x=x, y=y, y_pred=found, sample_weight=weight)
        return tf.reduce_mean(model.loss[output](y[output], found[output]) * weight)

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def whole(data: Any, index: Any, counts: Any) -> Any:
        def body(k: Any, total: Any) -> Any:
            x, y, weight = tf.nest.map_structure(lambda a: tf.gather(a, index[k]), data)
            sums = tf.reduce_sum(counts[k])
            weight *= counts[k] * (index.shape[1] / sums)
            return k + 1, total + tf.cast(loss_of(x, y, weight), tf.float32) * sums

        steps = tf.shape(index)[0]
        state = (tf.constant(0), tf.constant(0.0))
        return tf.while_loop(lambda k, _: k < steps, body, state)[1] / tf.reduce_sum(counts)

    return lambda data, index, counts: float(whole(data, tf.constant(index), tf.constant(counts)))

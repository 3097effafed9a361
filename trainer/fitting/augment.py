"""Sequences that are changed while a model learns: noise, dropped features, moved, cut."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from trainer.fitting.how import Augment


def augmented(x: Any, how: Augment, seed: Any) -> Any:
    """Return float32[B, T, F] changed as `how` says; the same seed (int32[2]) gives the same."""
    if not how.on:
        return x
    seeds = tf.unstack(tf.random.split(seed, 4))
    rows, steps, features = tf.shape(x)[0], x.shape[1], x.shape[2]
    place = tf.range(steps)[None, :]
    if how.jitter:
        most = min(how.jitter, steps - 1)
        moved = tf.random.stateless_uniform((rows, 1), seeds[0], -most, most + 1, tf.int32)
        source = place - moved
        real = (source >= 0) & (source < steps)
        x = tf.gather(x, tf.clip_by_value(source, 0, steps - 1), batch_dims=1)
        x *= tf.cast(real, x.dtype)[:, :, None]
    if how.crop:
        draws = tf.random.stateless_uniform((2, rows, 1), seeds[1])
        lost = tf.cast(draws[0] * (steps // 2 + 1), tf.int32)
        lost *= tf.cast(draws[1] < how.crop, tf.int32)
        x *= tf.cast(place >= lost, x.dtype)[:, :, None]
    if how.feature_dropout:
        kept = tf.random.stateless_uniform((rows, 1, features), seeds[2]) >= how.feature_dropout
        x *= tf.cast(kept, x.dtype)
    if how.noise:
        x += tf.random.stateless_normal(tf.shape(x), seeds[3], stddev=how.noise)
    return x

"""The scale of a data set's features, from its training rows alone."""

from __future__ import annotations

import numpy as np

from guardian.bundle import Scaler
from guardian.tables import F32, I64

ROWS = 200_000
"""Rows that the quantiles are taken from, spread over all."""
CLIP = 10.0
NORMAL = 1.349
"""Interquartile range of a normal distribution in standard deviations."""
STATED = (
    "median and interquartile range (as a standard deviation) of {of}; a feature whose range is 0 "
    "by its standard deviation, a constant one by 1; cut at 10"
)


def robust(x: F32, rows: I64) -> Scaler:
    """Return the scaler of some rows of float32[n, F]: one far value does not move it.

    A feature that is mostly one value has no interquartile range: its standard deviation is taken
    instead, so that the few others do not become huge.
    """
    if len(rows) > ROWS:
        rows = rows[np.linspace(0, len(rows) - 1, ROWS).astype(np.int64)]
    taken = np.asarray(x[rows], np.float64)
    low, middle, high = np.quantile(taken, (0.25, 0.5, 0.75), axis=0)
    scale = (high - low) / NORMAL
    scale = np.where(scale > 0, scale, taken.std(axis=0))
    # What float32 cannot tell from a constant is one.
    least = 1e-6 * np.maximum(np.abs(middle), 1.0)
    scale = np.where(scale > least, scale, 1.0)
    return Scaler(middle.astype(np.float32), scale.astype(np.float32), CLIP)


def scaled(scaler: Scaler, x: F32) -> F32:
    """Return float32[..., F], a copy, scaled and cut."""
    z = (x - scaler.mean) / scaler.scale
    return np.asarray(np.clip(z, -scaler.clip, scaler.clip), np.float32)

"""Scales, usual ranges and thresholds: what stands in a manifest beside the models."""

from __future__ import annotations

import math

import numpy as np

from guardian.bundle import Scaler
from guardian.tables import F32, Array
from trainer.rows import Rows

THREAT_SHARE = 0.002
"""Share of held-out benign sequences that may reach the threat line. An incident asks for several
over the line; at half the share, half of the held-out beacons' calls would be lost."""
LEAST_THREAT = 0.5
"""The classifier never speaks below this, however clean the benign captures were."""
CLIP = 5.0
"""Standard deviations at which a scaled feature is cut: int8 then has steps of 0.04."""

MIN_SCALE = 0.05
"""A feature that hardly varies in benign traffic is not blown up beyond this."""


def scaler(rows: F32, weight: Array) -> Scaler:
    """Return the scaler of benign feature rows float32[n, F], weighted by source."""
    mean = np.average(rows, axis=0, weights=weight)
    variance = np.average(np.square(rows - mean), axis=0, weights=weight)
    scale = np.maximum(np.sqrt(variance), MIN_SCALE)
    return Scaler(mean.astype(np.float32), scale.astype(np.float32), CLIP)


def usual(rows: F32, weight: Array) -> F32:
    """Return float32[3, F]: weighted 5, 50 and 95 % quantiles of benign feature rows."""
    out = np.empty((3, rows.shape[1]), np.float32)
    for f in range(rows.shape[1]):
        order = np.argsort(rows[:, f], kind="stable")
        cumulative = np.cumsum(weight[order])
        at = np.searchsorted(cumulative, np.array([0.05, 0.5, 0.95]) * cumulative[-1])
        out[:, f] = rows[order[np.minimum(at, len(order) - 1)], f]
    return out


def source_weights(rows: Rows, hit: Array) -> Array:
    """Return float64 for each row that is hit, so that every real source counts alike, and so do
    the simulated homes together: else the capture with the most rows would set the line alone.
    """
    names = np.array([group if group == "simulated" else source for group, source in rows.names])
    _, index, count = np.unique(names[rows.instance][hit], return_inverse=True, return_counts=True)
    weight: Array = 1.0 / count[index]
    return weight


def threshold(benign: Array, share: float, weight: Array | None = None) -> float:
    """Return the lowest line that at most `share` of benign scores reach (score >= line).

    With fewer than 1 / share scores the line lies just above the highest of them.
    """
    if len(benign) == 0:
        raise ValueError("no benign scores to calibrate on")
    weight = np.ones(len(benign)) if weight is None else weight
    order = np.argsort(benign, kind="stable")[::-1]
    values = benign[order].astype(np.float64)
    reached = np.cumsum(weight[order]) / weight.sum()
    # Equal scores fall together: a line at a value is reached by all that share it.
    last = np.append(values[1:] != values[:-1], True)
    allowed = values[last & (reached <= share)]
    if len(allowed):
        return float(allowed[-1])
    return float(np.nextafter(np.float32(values[0]), np.float32(math.inf)))

"""What both kinds of trees share."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from guardian import trees
from guardian.errors import ConfigError, InputError
from guardian.tables import F32, F64, Array


def rows_of(x: F32) -> F32:
    """Return the rows that trees see. Raises InputError where a value is not a number."""
    rows = trees.summary(x)
    if not np.isfinite(rows).all():
        raise InputError("there are values that are no numbers: prepare the data set again")
    return rows


def nodes_of(
    feature: Array, threshold: F64, left: Array, right: Array, value: F64
) -> dict[str, Array]:
    """Return the arrays of a tree's nodes. Thresholds are rounded down to float32: the same
    float32 values are above them as are above the float64 ones.
    """
    below = threshold.astype(np.float32)
    over = below > threshold
    below[over] = np.nextafter(below[over], np.float32(-np.inf))
    return {
        "feature": feature, "threshold": below, "left": left, "right": right, "value": value
    }  # fmt: skip


def no_network(*_given: Any, **_how: Any) -> NoReturn:
    """Refuse to build a network: trees and ensembles are none."""
    raise ConfigError("this model is no network: screens are fitted, an ensemble is chosen")

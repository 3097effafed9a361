"""Trees walked one row, one tree and one node at a time, straight from a file's arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from guardian.tables import F32, F64


def sums(arrays: dict[str, Any], rows: F32) -> F64:
    """Return float64[n, classes]: the baseline plus the value of each leaf that a row reaches."""
    found = np.tile(np.asarray(arrays["baseline"], np.float64), (len(rows), 1))
    for k, row in enumerate(rows):
        for root, number in zip(arrays["root"], arrays["output"], strict=True):
            node = root
            while arrays["left"][node] >= 0:
                right = row[arrays["feature"][node]] > arrays["threshold"][node]
                node = arrays["right" if right else "left"][node]
            found[k, number] += arrays["value"][node]
    return found

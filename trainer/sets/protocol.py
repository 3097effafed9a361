"""The transport protocol of each row, where a set's features tell it: for lines by protocol."""

from __future__ import annotations

import numpy as np

from guardian.tables import I32
from trainer.sets.prepared import Prepared

NAMES = ("tcp", "udp", "icmp")
"""Protocols by code; what is none of them has the code after the last."""
_PIECE = 1 << 16


def protocols(prepared: Prepared) -> I32 | None:
    """Return int32[n] of codes in NAMES; None where fewer than two have a feature of their own."""
    columns = {
        code: prepared.features.index(feature)
        for code, name in enumerate(NAMES)
        for feature in (name, f"proto_{name}")
        if feature in prepared.features
    }
    if len(columns) < 2:
        return None
    codes = np.full(len(prepared.x), len(NAMES), dtype=np.int32)
    for begin in range(0, len(codes), _PIECE):
        part = slice(begin, begin + _PIECE)
        for code, column in columns.items():
            codes[part][prepared.x[part, column] > 0] = code
    return codes

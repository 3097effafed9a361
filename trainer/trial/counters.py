"""What needs no learning: a minute's peers, a minute's failures, and how regularly one is called.

Each is taken at a connection's first slice, for the device that opened it (for the one it reached,
where only that is at home). A higher figure is worse; later slices have none.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from guardian.const import NS
from guardian.tables import CONN_STATES, F64, I64, Array, Bool
from trainer.metrics import per_minute
from trainer.streams import Stream
from trainer.trial.bench import BySlice

_FAILED = np.array([name in ("S0", "REJ", "RSTOS0", "SH", "RSTRH") for name in CONN_STATES])
_TCP = 6
SPAN = 60 * NS
LEAST = 3.0
"""Connections added to a minute's, so that one that fails is not a share of 1."""
CALLS = 12
"""Calls of one peer and port whose gaps are compared."""
MOST_CALLS = 40


def peers_a_minute(stream: Stream) -> F64:
    """Return how many destinations the device called in the last 60 s."""
    fresh, device, peer = _opened(stream)
    _, peers = per_minute(device, stream.slices.told[fresh], _keys(peer))
    return _spread(stream, fresh, peers)


def failed_share(stream: Stream) -> F64:
    """Return the share of the device's connections of the last 60 s that failed."""
    fresh, device, _ = _opened(stream)
    told = stream.slices.told[fresh]
    bad = _failed(stream, fresh)
    out = np.zeros(len(fresh))
    for one in np.unique(device[device >= 0]).tolist():
        rows = np.flatnonzero(device == one)
        first = np.searchsorted(told[rows], told[rows] - SPAN, side="right")
        sums = np.concatenate([[0], np.cumsum(bad[rows])])
        many = np.arange(1, len(rows) + 1) - first
        out[rows] = (sums[1:] - sums[first]) / (many + LEAST)
    return _spread(stream, fresh, out)


def beacon(stream: Stream) -> F64:
    """Return how regular and how many the calls of one peer and port are: the logarithm of their
    number, over one plus the coefficient of variation of the last gaps."""
    fresh, device, peer = _opened(stream)
    part = stream.slices.take(fresh)
    keys = _keys(np.column_stack([device.astype(np.uint64), peer, part.resp_p, part.proto]))
    calls: dict[int, tuple[int, deque[int]]] = {}
    out = np.zeros(len(fresh))
    for row, (key, ts) in enumerate(zip(keys.tolist(), part.ts.tolist(), strict=True)):
        many, times = calls.get(key, (0, deque(maxlen=CALLS)))
        times.append(ts)
        calls[key] = (many + 1, times)
        if many >= 2:
            gaps = np.diff(np.array(times, dtype=np.float64))
            mean = gaps.mean()
            uneven = gaps.std() / mean if mean > 0 else 0.0
            out[row] = np.log1p(min(many + 1, MOST_CALLS)) / (1.0 + uneven)
    return _spread(stream, fresh, out)


COUNTERS: dict[str, BySlice] = {
    "peers a minute": peers_a_minute,
    "failed share a minute": failed_share,
    "beacon score": beacon,
}


def _opened(stream: Stream) -> tuple[I64, Array, Array]:
    """Return the first slices of connections, their device and its peer."""
    fresh = np.flatnonzero(stream.slices.piece == 0)
    outbound = stream.orig_device[fresh] >= 0
    device = np.where(outbound, stream.orig_device[fresh], stream.resp_device[fresh])
    peer = np.where(outbound[:, None], stream.slices.resp[fresh], stream.slices.orig[fresh])
    return fresh, device, peer


def _failed(stream: Stream, fresh: I64) -> Bool:
    part = stream.slices.take(fresh)
    silent = (part.resp_pkts == 0) & (part.resp[:, 1] >> np.uint64(28) & np.uint64(0xF) != 0xE)
    out: Bool = np.where(part.proto == _TCP, _FAILED[part.conn_state], silent)
    return out


def _keys(rows: Array) -> Array:
    _, key = np.unique(rows, axis=0, return_inverse=True)
    return key.reshape(-1)


def _spread(stream: Stream, fresh: I64, values: F64) -> F64:
    out = np.full(len(stream), -np.inf)
    out[fresh] = values
    return out

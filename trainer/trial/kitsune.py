"""A small online detector in the manner of Kitsune: damped statistics, an ensemble of autoencoders.

It is written from the idea (Mirsky, Doitshman, Elovici and Shabtai, NDSS 2018), not from its code,
and works on slices of connections, not on packets: logs have no others. Four groups of features:
bytes by device, by device and peer, by device, peer and port, and the gaps between slices of a
device and a peer. Each group has weight, mean and deviation that fade at four rates; a small
autoencoder rebuilds each group, another one their errors. It learns in one pass, one row at a time,
on benign traffic of other homes; then it only judges.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from guardian.const import NS
from guardian.tables import F64, Array
from trainer.streams import Stream

RATES = np.array([1.0, 0.1, 0.01, 0.001])
"""Of fading, a second: half is gone after 1/rate seconds."""
GROUPS = 4
_WIDTH = 3 * len(RATES)
SHARE_HIDDEN = 0.75
RATE = 0.1
"""Step of learning."""


class Damped:
    """Weight, sum and sum of squares of streams of values, each fading with time."""

    def __init__(self) -> None:
        self._place: dict[bytes, int] = {}
        self._sums: F64 = np.zeros((256, 3, len(RATES)))
        self._last: F64 = np.zeros(256)

    def add(self, keys: list[bytes], values: F64, now: float) -> F64:
        """Take one value of each key and return weight, mean, deviation: float64[k, 3, rates]."""
        at = [self._of(key, now) for key in keys]
        fade = np.exp2(-RATES * np.maximum(0.0, now - self._last[at])[:, None])
        sums: F64 = self._sums[at] * fade[:, None, :]
        sums += np.stack([np.ones(len(at)), values, values * values], axis=1)[:, :, None]
        self._sums[at] = sums
        self._last[at] = now
        weight = sums[:, 0]
        mean = sums[:, 1] / weight
        deviation = np.sqrt(np.maximum(0.0, sums[:, 2] / weight - mean * mean))
        return np.stack([np.log1p(weight), mean, deviation], axis=1)

    def _of(self, key: bytes, now: float) -> int:
        place = self._place.get(key)
        if place is None:
            place = self._place[key] = len(self._place)
            if place >= len(self._last):
                self._sums = np.concatenate([self._sums, np.zeros_like(self._sums)])
                self._last = np.concatenate([self._last, np.zeros_like(self._last)])
            self._last[place] = now
        return place


def features(stream: Stream) -> F64:
    """Return float64[n, GROUPS * 12] of the slices of a stream, as far as each knew."""
    s = stream.slices
    outbound = stream.orig_device >= 0
    device = np.where(outbound, stream.orig_device, stream.resp_device)
    peer = np.where(outbound[:, None], s.resp, s.orig)
    size = np.log1p(s.orig_ip_bytes + s.resp_ip_bytes)
    told = s.told / NS
    sizes, gaps = Damped(), Damped()
    before: dict[bytes, float] = {}
    out = np.zeros((len(stream), GROUPS * _WIDTH))
    for row, (one, port, now) in enumerate(
        zip(device.tolist(), s.resp_p.tolist(), told.tolist(), strict=True)
    ):
        if one < 0:
            continue
        mine = one.to_bytes(4, "big")
        pair = mine + peer[row].tobytes()
        keys = [mine, pair, pair + port.to_bytes(2, "big")]
        gap = np.log1p(now - before.get(pair, now))
        before[pair] = now
        out[row, : 3 * _WIDTH] = sizes.add(keys, np.full(3, size[row]), now).ravel()
        out[row, 3 * _WIDTH :] = gaps.add([pair], np.array([gap]), now).ravel()
    return out


class _Autoencoder:
    """Sigmoid units with tied weights, fitted by one step of gradient descent a row."""

    def __init__(self, width: int, rng: np.random.Generator) -> None:
        hidden = max(1, int(np.ceil(width * SHARE_HIDDEN)))
        self.low, self.high = np.full(width, np.inf), np.full(width, -np.inf)
        self._w = rng.uniform(-1.0 / width, 1.0 / width, (width, hidden))
        self._b, self._c = np.zeros(hidden), np.zeros(width)

    def scaled(self, x: F64) -> F64:
        """Return values between 0 and 1 where they are like those learned from."""
        out: F64 = (x - self.low) / np.maximum(self.high - self.low, 1e-9)
        return np.clip(out, -1.0, 2.0)

    def learn(self, x: F64) -> float:
        """Take one row float64[width]; return its error before."""
        self.low, self.high = np.minimum(self.low, x), np.maximum(self.high, x)
        z = self.scaled(x)
        h = _sigmoid(z @ self._w + self._b)
        y = _sigmoid(h @ self._w.T + self._c)
        off = y - z
        down = off * y * (1 - y)
        up = (down @ self._w) * h * (1 - h)
        self._w -= RATE * (np.outer(z, up) + np.outer(down, h))
        self._b -= RATE * up
        self._c -= RATE * down
        return float(np.sqrt(np.mean(off * off)))

    def error(self, x: F64) -> F64:
        """Return float64[n] of float64[n, width]."""
        z = self.scaled(x)
        y = _sigmoid(_sigmoid(z @ self._w + self._b) @ self._w.T + self._c)
        out: F64 = np.sqrt(np.mean(np.square(y - z), axis=1))
        return out


class Kitsune:
    """The ensemble; fitted once, then frozen."""

    def __init__(self, seed: int = 1) -> None:
        rng = np.random.default_rng(seed)
        self._groups = [_Autoencoder(_WIDTH, rng) for _ in range(GROUPS)]
        self._top = _Autoencoder(GROUPS, rng)

    def learn(self, streams: Iterable[Stream]) -> int:
        """Learn from benign streams, slice by slice; return how many there were."""
        total = 0
        for stream in streams:
            known = (stream.orig_device >= 0) | (stream.resp_device >= 0)
            for row in features(stream)[known]:
                errors = [
                    group.learn(row[k * _WIDTH : (k + 1) * _WIDTH])
                    for k, group in enumerate(self._groups)
                ]
                self._top.learn(np.array(errors))
                total += 1
        return total

    def __call__(self, stream: Stream) -> F64:
        """Return the error of each slice of a stream."""
        rows = features(stream)
        errors = np.column_stack([
            group.error(rows[:, k * _WIDTH : (k + 1) * _WIDTH])
            for k, group in enumerate(self._groups)
        ])  # fmt: skip
        return self._top.error(errors)


def _sigmoid(x: Array) -> Array:
    out: Array = 1.0 / (1.0 + np.exp(-x))
    return out

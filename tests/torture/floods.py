"""Floods of any rate, as live frames beside those of a simulated home."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from guardian import capture
from guardian.const import NS
from guardian.feed import SPARE_BYTES
from guardian.merge import Merge, nothing
from guardian.tables import U8, Frames

Kind = Literal["one victim", "many victims", "anything"]


@dataclass(frozen=True)
class Flood:
    """A SYN flood, a scan for telnet, or datagrams from anywhere to anywhere, by one device."""

    kind: Kind
    mac: bytes
    ip: bytes
    begin: int
    """ns."""
    seconds: int
    rate: int

    def second(self, number: int) -> Frames:
        """Return the frames of a second from the beginning."""
        n = self.rate
        chance = np.random.default_rng(1_000 + number)
        udp = self.kind == "anything"
        head = np.zeros(42 if udp else 54, dtype=np.uint8)
        head[:14] = np.frombuffer(b"\x02\0\0\0\0\1" + self.mac + b"\x08\0", dtype=np.uint8)
        size = len(head) - 14
        ip4 = bytes((0x45, 0, 0, size, 0, 0, 0x40, 0, 64, 17 if udp else 6, 0, 0))
        head[14:30] = np.frombuffer(ip4 + self.ip, dtype=np.uint8)
        frames: U8 = np.tile(head, (n, 1))
        peers = np.full((n, 4), (45, 33, 32, 1), dtype=np.uint8)
        if self.kind != "one victim":
            peers = chance.integers(1, 255, (n, 4)).astype(np.uint8)
            peers[:, 0] = chance.integers(60, 100, n)
        ports = np.full(n, {"one victim": 80, "many victims": 23}.get(self.kind, 0))
        if udp:
            ports = chance.integers(1_024, 65_536, n)
        sources = chance.integers(1_024, 65_536, n)
        frames[:, 30:34] = peers
        for at, values in ((34, sources), (36, ports)):
            frames[:, at], frames[:, at + 1] = values >> 8, values & 0xFF
        if udp:
            frames[:, 39] = 8
        else:
            frames[:, 46:50] = np.array((0x50, 2, 0x20, 0), dtype=np.uint8)
            frames[:, 38:42] = chance.integers(0, 256, (n, 4))
        begin = self.begin + number * NS
        data = np.concatenate([frames.ravel(), np.zeros(SPARE_BYTES, dtype=np.uint8)])
        width = np.full(n, frames.shape[1], dtype=np.int64)
        return Frames(
            data=data,
            start=np.arange(n, dtype=np.int64) * frames.shape[1],
            caplen=width,
            wirelen=width,
            ts=begin + np.arange(n, dtype=np.int64) * (NS // n),
            link=1,
            csum_valid=np.ones(n, dtype=np.bool_),
            now=begin + NS,
        )


def beside(home: Path, flood: Flood | None) -> Iterator[Frames]:
    """Yield a home's frames and a flood's in the order of time, a second at a time of the flood."""
    if flood is None:
        yield from capture.read_frames(home, 500)
        return
    merge, second = Merge(2), 0
    for frames in capture.read_frames(home, 500):
        merge.put(0, frames)
        while second < flood.seconds and flood.begin + (second + 1) * NS <= frames.now:
            merge.put(1, flood.second(second))
            second += 1
            yield merge.take((0, 1))
        if second in (0, flood.seconds):
            merge.put(1, nothing(frames.now if second else min(frames.now, flood.begin)))
            yield merge.take((0, 1))
    yield merge.rest()

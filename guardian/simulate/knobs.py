"""Where a home's rates, sizes and choices come from, and how three worlds stay apart.

Every rate is a place between a low and a high end. Training homes draw their places at
random, but never inside two gaps; the demo's fixed place lies in one gap and the test's in
the other (which of them is which depends on the rate's name). So no rate of one world can
be a rate of another, whatever the seeds. Choices list what each world may take.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Literal, TypeVar
from zlib import crc32

Profile = Literal["train", "demo", "test"]

GAPS = ((0.30, 0.44), (0.58, 0.72))
"""Parts of the range that training leaves out."""

CENTRES = (0.37, 0.65)
"""The places of the demo and the test: the middles of the gaps."""

T = TypeVar("T")


class Knobs:
    """The rates of one device or infection, drawn once, by name."""

    def __init__(self, profile: Profile, rng: Random, kind: str) -> None:
        self.profile = profile
        self.kind = kind
        self.rng = rng
        self.drawn: dict[str, float] = {}
        self.chosen: dict[str, object] = {}

    def span(self, name: str, low: float, high: float) -> float:
        """Return a rate between low and high (both above 0), on a logarithmic scale."""
        value: float = low * (high / low) ** self._place(name)
        self.drawn[f"{self.kind}.{name}"] = value
        return value

    def _place(self, name: str) -> float:
        if self.profile == "train":
            while True:
                place = self.rng.random()
                if not any(low <= place <= high for low, high in GAPS):
                    return place
        turn = crc32(f"{self.kind}.{name}".encode()) & 1
        return CENTRES[turn if self.profile == "demo" else 1 - turn]

    def size(self, name: str, low: float, high: float) -> int:
        """Return a whole number of bytes or counts."""
        return int(self.span(name, low, high))

    def pick(self, name: str, train: Sequence[T], demo: T, test: T) -> T:
        """Return what this world may take."""
        value = {"demo": demo, "test": test}.get(self.profile)
        value = self.rng.choice(list(train)) if self.profile == "train" else value
        assert value is not None
        self.chosen[f"{self.kind}.{name}"] = value
        return value

    def chance(self, name: str, probability: float, demo: bool, test: bool) -> bool:
        """Return whether this device has a habit at all."""
        value = {"demo": demo, "test": test}.get(self.profile)
        if value is None:
            value = self.rng.random() < probability
        self.chosen[f"{self.kind}.{name}"] = value
        return value

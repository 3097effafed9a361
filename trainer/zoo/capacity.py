"""The right size of a model, found by validation: grow while it helps, prune while it is free."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from trainer.zoo.config import FIELDS, Config

FACTOR = 1.5
"""How much wider or narrower a step makes the layers."""


@dataclass(frozen=True)
class Step:
    """One size that was tried."""

    change: str
    config: Config
    loss: float
    kept: bool


@dataclass(frozen=True)
class Adapted:
    """The size that was found, its validation loss, and all that was tried."""

    config: Config
    loss: float
    trail: tuple[Step, ...]


def adapt(
    config: Config,
    fit: Callable[[Config], float],
    *,
    least_gain: float = 0.01,
    most_lost: float = 0.005,
    rounds: int = 4,
) -> Adapted:
    """Return the size that validation chose, starting from a config.

    `fit` trains a config and returns its validation loss, 0 or more. First it grows: wider
    layers, then more heads, as long as one of them lowers the loss by `least_gain` of it, `rounds`
    times at most. Then it prunes: narrower layers, fewer heads, one layer less, as long as the
    loss stays within `most_lost` of the best; no size is fitted twice.
    """
    loss = fit(config)
    trail = [Step("start", config, loss, True)]
    tried = {config: loss}

    def walk(changes: Callable[[Config], Iterator[tuple[str, Config]]], line: float) -> bool:
        """Keep the first change whose loss is at most the line."""
        nonlocal config, loss
        for change, other in changes(config):
            if other in tried:
                continue
            tried[other] = fit(other)
            kept = tried[other] <= line
            trail.append(Step(change, other, tried[other], kept))
            if kept:
                config, loss = other, tried[other]
                return True
        return False

    for _ in range(rounds):
        if not walk(_larger, loss * (1.0 - least_gain)):
            break
    best = loss
    for _ in range(rounds):
        if not walk(_smaller, best * (1.0 + most_lost)):
            break
        best = min(best, loss)
    return Adapted(config, loss, tuple(trail))


def _larger(config: Config) -> Iterator[tuple[str, Config]]:
    yield from _wider(config, FACTOR, "wider layers")
    most = FIELDS["heads"].metadata["high"]
    if config.heads * 2 <= most and _divides(config.heads * 2, config):
        yield "more heads", config.with_(heads=config.heads * 2)


def _smaller(config: Config) -> Iterator[tuple[str, Config]]:
    yield from _wider(config, 1.0 / FACTOR, "narrower layers")
    if config.heads > 1 and config.heads % 2 == 0:
        yield "fewer heads", config.with_(heads=config.heads // 2)
    if config.layers > 1:
        yield "a layer less", config.with_(layers=config.layers - 1)


def _wider(config: Config, factor: float, change: str) -> Iterator[tuple[str, Config]]:
    """Widths stay multiples of the heads."""
    heads = config.heads
    hidden = tuple(max(1, round(n * factor / heads)) * heads for n in config.hidden)
    if hidden != config.hidden and max(hidden) <= FIELDS["hidden"].metadata["high"]:
        yield change, config.with_(hidden=hidden)


def _divides(heads: int, config: Config) -> bool:
    return all(n % heads == 0 for n in config.hidden)

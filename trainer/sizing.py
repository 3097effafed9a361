"""A family's size found by validation: many small fits, then the run of the size that was kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from guardian.errors import ConfigError
from trainer.experiment import Result, run_experiment
from trainer.fitting.how import Fit
from trainer.fitting.run import Splitting
from trainer.sets.prepared import Prepared
from trainer.zoo.capacity import adapt
from trainer.zoo.config import Config
from trainer.zoo.family import REGISTRY

Echo = Callable[[str], None]


def adapt_experiment(
    prepared: Prepared,
    family_name: str,
    config: Config,
    split: Splitting,
    folder: Path,
    *,
    how: Fit | None = None,
    seed: int = 1,
    data: dict[str, Any] | None = None,
    echo: Echo = print,
) -> Result:
    """Grow and prune a network by its validation loss, then run the size kept and judge it on test.

    Each size tried lies in `folder`/sizes, in order; an interrupted run takes up what is there.
    Raises ConfigError for families that are no network.
    """
    if REGISTRY[family_name].task in ("screen", "ensemble"):
        raise ConfigError(f"{family_name} is no network of one size: leave --adapt out")
    tried = 0

    def fit(size: Config) -> float:
        nonlocal tried
        place = folder / "sizes" / str(tried)
        tried += 1
        found = run_experiment(
            prepared, family_name, size, split, place, how=how, seed=seed, judged=False,
            echo=_silent,
        )  # fmt: skip
        history = found.fitted.history
        loss = min(history.valid) if history and history.valid else float("inf")
        echo(f"size {size.hidden}, {size.heads} heads: validation loss {loss:.4f}")
        return max(loss, 0.0)

    found = adapt(config, fit)
    steps = [f"{step.change} {'kept' if step.kept else 'no better'}" for step in found.trail[1:]]
    echo(f"size {found.config.hidden}, {found.config.heads} heads kept ({', '.join(steps)})")
    return run_experiment(
        prepared, family_name, found.config, split, folder, how=how, seed=seed, data=data, echo=echo
    )


def _silent(_line: str) -> None:
    """Tell nobody."""

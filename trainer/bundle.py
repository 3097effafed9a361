"""`python -m trainer.bundle`: make the bundle that is shipped."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from trainer import priors
from trainer.commands import train

QUICK_HOMES = 8


def _told_beside(text: str) -> None:
    """Say how far the process that counts first days is."""
    sys.stderr.write(f"first days: {text}\n")


def main() -> int:
    """Make the shipped bundle; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of captures")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--quick", action="store_true", help="small and weak, to try the way")
    parser.add_argument("--run", type=Path, default=Path("runs/default"), help="keep the run here")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    begun = time.monotonic()

    def echo(text: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - begun:5.0f} s] {text}\n")

    how = {"data": given.data, "seed": given.seed, "quick": given.quick, "keep": given.run}
    count = QUICK_HOMES if given.quick else priors.HOMES
    # First days need no model: they are counted on the other core while the models are made.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as beside:
        days = beside.submit(priors.of_recipe, given.seed, given.data, count, _told_beside)
        train([], given.out, echo=echo, **how)
        prior, _ = days.result()
    echo(f"what devices do in their first day is written; digest {priors.write(given.out, prior)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

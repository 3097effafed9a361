"""`python -m trainer.zoo.forms [NAME...] [--other PYTHON]`: what a network's forms weigh and cost.

The networks are not fitted: size, time and the difference that a form makes need no training.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np

from guardian.features import NAMES
from trainer.zoo.export import Fitted, export
from trainer.zoo.family import REGISTRY, Shape

FEATURES, CLASSES, ROWS = 20, 7, 256


def forms(name: str, other: Path | None) -> None:
    """Print the forms of a family at its default shape."""
    family = REGISTRY[name]
    features = len(NAMES) if family.own else FEATURES
    shape = Shape(family.defaults.window, features, CLASSES)
    x = np.random.default_rng(0).normal(size=(ROWS, shape.window, features)).astype(np.float32)
    keras.utils.set_random_seed(0)
    weights = family.build(shape, family.defaults).get_weights()
    print(name)
    export(
        Fitted(family, shape, family.defaults, weights, x),
        x,
        other=other,
        echo=lambda line: print(f"  {line}", flush=True),
    )


def main(words: list[str]) -> None:
    """Print the forms of the families that the words name, or of all networks."""
    other = None
    if "--other" in words:
        at = words.index("--other")
        other = Path(words[at + 1])
        words = words[:at] + words[at + 2 :]
    networks = [n for n, f in REGISTRY.items() if f.task in ("rebuild", "classify")]
    for name in words or networks:
        forms(name, other)


if __name__ == "__main__":
    main(sys.argv[1:])

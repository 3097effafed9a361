"""The builders that the shipped bundle's recipe knows by name; their drawings are in the zoo.

Each is built twice: to train (fused layers, any batch) and to export. The export twin is unrolled
at a fixed batch: what TFLite runs with builtin ops alone. Both have the same weights in the same
order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from trainer.zoo import family
from trainer.zoo.family import Shape

Builder = Callable[..., Any]


def lstm_autoencoder(window: int, features: int, **how: Any) -> Any:
    """Return the autoencoder: encoder 50, 20; decoder 20, 50."""
    chosen = family.REGISTRY["lstm-autoencoder"]
    return chosen.build(Shape(window, features, 0), chosen.defaults, **how)


def _classifier(name: str, window: int, features: int, classes: int, **how: Any) -> Any:
    chosen = family.REGISTRY[name]
    return chosen.build(Shape(window, features, classes), chosen.defaults, **how)


lstm_classifier: Builder = partial(_classifier, "lstm-classifier")
lstm_pair: Builder = partial(_classifier, "lstm-pair")

REGISTRY: dict[str, Builder] = {
    "lstm-autoencoder": lstm_autoencoder,
    "lstm-classifier": lstm_classifier,
    "lstm-pair": lstm_pair,
}

"""Figures that others published, with what was said of how they were made. None is measured here,
and none stands here that its source does not state.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One claim."""

    sets: tuple[str, ...]
    """Sets here that it is about; empty where it says no set that is at hand."""
    what: str
    figures: tuple[tuple[str, float], ...]
    """What it states: "accuracy", "auc", "f1", "recall", "false_positives", as shares."""
    caveat: str

    def told(self) -> str:
        """Return the claim as one sentence."""
        said = ", ".join(f"{_NAMES[key]} {value * 100:g} %" for key, value in self.figures)
        return f"{self.what}: {said} ({self.caveat})."


_NAMES = {
    "accuracy": "accuracy", "auc": "AUC", "f1": "F1", "recall": "detection",
    "false_positives": "false positives",
}  # fmt: skip

PUBLISHED = (
    Published(
        ("nbaiot",),
        "N-BaIoT, 115 features, a hierarchical LSTM with attention",
        (("accuracy", 0.985), ("auc", 0.992), ("f1", 0.987)),
        "trained and tested within the one set; all of its files, of which three are at hand",
    ),
    Published(
        ("nbaiot",),
        "N-BaIoT, an autoencoder for each device",
        (("recall", 1.0), ("false_positives", 0.007)),
        "judged on overlapping windows of rows",
    ),
    Published(
        ("iot23", "iot23-gateway"),
        "IoT-23 C&C by flows, arXiv 2407.15688",
        (("recall", 0.94), ("false_positives", 0.0153)),
        "semi-supervised; by packets it states 100 % detection",
    ),
    Published(
        (),
        "IoTGeM, arXiv 2401.01343",
        (("f1", 0.99),),
        "across isolated captures of other sets; its protocol, captures never mixed, is ours",
    ),
    Published(
        (),
        "A bidirectional LSTM of 2 x 128 over 10 flows of a source",
        (("f1", 0.94),),
        "no protocol given; there boosted trees have 92 % and an isolation forest 85 %",
    ),
    Published(
        (),
        "An LSTM autoencoder on a Raspberry Pi 4 as TFLite",
        (("f1", 0.60),),
        "2026, on hardware as ours",
    ),
)


def of(name: str) -> list[Published]:
    """Return what is published of a set."""
    return [one for one in PUBLISHED if name in one.sets]


def elsewhere() -> list[Published]:
    """Return what is published of sets that are not at hand, or of none that is named."""
    return [one for one in PUBLISHED if not one.sets]

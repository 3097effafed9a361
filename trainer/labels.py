"""The classes, and the one table from every data set's labels to them.

A label that stands nowhere here is an error, not a guess. `drop` leaves the record out of
training and of every metric: nobody said what it is.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from guardian.errors import InputError
from guardian.tables import Array

CLASSES = ("benign", "scan", "c2", "flood", "brute-force", "download", "other")

DROP = "drop"

MAPPING: dict[str, str] = {
    # Guardian's simulator and its own names
    "benign": "benign",
    "scan": "scan",
    "c2": "c2",
    "flood": "flood",
    "brute-force": "brute-force",
    "download": "download",
    "other": "other",
    # IoT-23, detailed label (label where that is "-")
    "c&c": "c2",
    "c&c-torii": "c2",
    "c&c-heartbeat": "c2",
    "c&c-mirai": "c2",
    "c&c-partofahorizontalportscan": "scan",
    "c&c-heartbeat-attack": "c2",
    "partofahorizontalportscan": "scan",
    "partofahorizontalportscan-attack": "scan",
    "okiru": "c2",
    "okiru-attack": "c2",
    "ddos": "flood",
    "filedownload": "download",
    "c&c-filedownload": "download",
    "c&c-heartbeat-filedownload": "download",
    "attack": "other",
    # Stratosphere, detailed label (label where that is "(empty)")
    "external-attack-to-device": "scan",  # by its labels.config: probes from the Internet
    "cc": "c2",
    "google": "benign",
    "microsoft": "benign",
    "eset": "benign",
    "dropbox": "benign",
    "windows": "benign",
    "cert-validation": "benign",
    "malicious": "other",
    "background": DROP,
}

RELABEL = {("CTU-Malware-Capture-42-1", "185.244.25.183", 4975): "c2"}
"""Wrong labels of known captures: (stem of the file, responder, port) -> class. In 42-1 the 1,947
TCP connections to this host, all through the capture, are C&C and are labelled Benign."""


def to_class(label: str, detailed: str = "") -> str:
    """Return the class of a label, or DROP. Raises InputError for a label that is not mapped."""
    for text in (detailed, label):
        key = text.strip().lower()
        if key in ("", "-", "(empty)"):
            continue
        # A "Benign" row keeps its class whatever its detail names (Benign/Google).
        if label.strip().lower() == "benign":
            return "benign"
        if key in MAPPING:
            return MAPPING[key]
        raise InputError(f"the label {text!r} has no class: add it to MAPPING in trainer/labels.py")
    return DROP


def codes(classes: Iterable[str]) -> Array:
    """Return int8[n] indices into CLASSES; DROP is -1."""
    index = {name: number for number, name in enumerate(CLASSES)} | {DROP: -1}
    return np.array([index[name] for name in classes], dtype=np.int8)

"""Captures (and logs, if asked for) through the gateway's own decoding, connections and features.

A row is a slice of a connection as one device of the home sees it, as the daemon judges it.
Labels come from the simulator's .labels.csv beside a capture, from the trainer's catalogue for
captures it knows, from a log's own columns; else rows are unlabelled. The slices of one capture
are in memory at a time (about 0.7 kB each); its packets are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from guardian import capture
from guardian.errors import InputError
from guardian.simulate import labels_path
from trainer.sets.gateway import add_stream, mapping
from trainer.sets.known import source_of
from trainer.sets.mapping import Mapping
from trainer.sets.reader import Echo, Reader, group_names
from trainer.sets.writer import Nature, Writer
from trainer.streams import read

MAPPING: Mapping = mapping(
    order="the moment at which the slice was due",
    groups="capture and device",
    notes=(
        "Checksums are not judged, since captures of a sending host have wrong ones.",
        "A model of these features can be part of a bundle and run on the gateway.",
    ),
)


def _sniff(path: Path) -> bool:
    try:
        return capture.sniff(path) != "log"
    except InputError:
        return False


def _read(paths: Sequence[Path], writer: Writer, limit: int | None, echo: Echo) -> Nature:
    writer.begin([f.name for f in MAPPING.features])
    for path, name in zip(paths, group_names(paths), strict=True):
        known = source_of(path)
        stream = read(path, lan=known.lan if known else (), judge=known.judge if known else None)
        if (stream.label < 0).all():
            echo(f"{path.name} has no labels")
        devices = np.unique(np.concatenate([stream.orig_device, stream.resp_device])).tolist()
        add_stream(writer, stream, {d: f"{name}/device {d}" for d in devices}, limit)
    return Nature(
        True, False, "Features are the gateway's own, which nobody else has published figures for."
    )


READER = Reader(
    "pcap",
    "Captures through the gateway's own pipeline",
    MAPPING,
    _read,
    _sniff,
    beside=lambda path: [labels_path(path)],
)  # fmt: skip

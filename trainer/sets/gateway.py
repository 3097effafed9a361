"""The gateway's own features of slices as a mapping, for captures and for its database."""

from __future__ import annotations

import numpy as np

from guardian.addresses import Lan
from guardian.const import NS, ROWS_PER_CHUNK
from guardian.featurelist import FEATURES
from guardian.features import FeatureExtractor
from guardian.tables import I32, Array
from trainer.labels import CLASSES
from trainer.labels import MAPPING as LABELS
from trainer.sets.mapping import Feature, Mapping
from trainer.sets.writer import Writer
from trainer.streams import Stream

DROPPED = {
    "addresses": "a model would learn the network; they make the groups",
    "times": "attacks have their hours; the hour of day is a feature, and they order the rows",
    "TTL and link type": "they tell one laboratory from another",
}


def mapping(**words: str | tuple[str, ...] | dict[str, str]) -> Mapping:
    """Return the mapping of a source that goes through the gateway's pipeline."""
    return Mapping(
        version=1,
        features=tuple(Feature(f.name, (f.text,), f.unit) for f in FEATURES),
        classes=CLASSES,
        dropped=DROPPED,
        twice="keep",
        **({"labels": LABELS} | words),  # type: ignore[arg-type]
    )


def add_stream(
    writer: Writer, stream: Stream, groups: dict[int, str], limit: int | None = None
) -> None:
    """Add the feature rows of a stream of slices: one for each slice and device of the home.

    `groups` names the group of each device. A machine that another one attacks is not the
    infected one: its row is benign.
    """
    extractor = FeatureExtractor(Lan(stream.lan), utc_offset_s=stream.utc_offset_s)
    left = len(stream) * 2 if limit is None else limit
    for k in range(0, len(stream), ROWS_PER_CHUNK):
        part = stream.take(slice(k, k + ROWS_PER_CHUNK))
        rows = extractor.step(part.slices, part.orig_device, part.resp_device)
        rows = rows.take(slice(0, left))
        left -= len(rows)
        if len(rows):
            label = _sides(part.orig_device, part.resp_device, part.label, rows.row, rows.outbound)
            found, place = np.unique(rows.device, return_inverse=True)
            group = np.array([writer.group(groups[d]) for d in found.tolist()], np.int32)[place]
            writer.count("rows read", len(rows))
            writer.count("rows unlabelled", np.count_nonzero(label < 0))
            writer.add(rows.x.astype(np.float64), label, group, part.slices.told[rows.row] / NS)
        if left <= 0:
            return


def _sides(orig: I32, resp: I32, label: Array, row: Array, outbound: Array) -> Array:
    """Return int16[m]: the class of each row as its own device's (see trainer.rows.row_labels)."""
    both = (orig[row] >= 0) & (resp[row] >= 0)
    return np.where(both & ~outbound & (label[row] > 0), 0, label[row]).astype(np.int16)

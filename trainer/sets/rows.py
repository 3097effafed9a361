"""A piece of a table to a Writer's rows: what most readers of tables do alike."""

from __future__ import annotations

from typing import Any

import numpy as np

from guardian.tables import F64, Array
from trainer.sets.mapping import Feature, Mapping
from trainer.sets.tabular import Table, column_of, feature_values, labels_of, texts
from trainer.sets.writer import Writer


def add_frame(
    writer: Writer,
    mapping: Mapping,
    features: list[Feature],
    frame: Any,
    table: Table,
    group: Array | int,
    *,
    ts: F64 | None = None,
    keep: Array | None = None,
    label: list[str] | None = None,
) -> None:
    """Add a frame's rows with their labels; without `ts` they are in the order of the file.

    `keep`, bool[b], leaves rows out that were counted already; `label` stands in for the column.
    A row that is cut off before its last column is dropped.
    """
    good = np.ones(len(frame), dtype=np.bool_) if keep is None else keep.copy()
    cut = np.asarray(frame[table.columns[-1]].isna(), dtype=np.bool_) & good
    if cut.any() and cut.mean() < 0.5:  # a last column that is mostly empty says nothing
        good &= ~cut
        writer.count("dropped: cut off", np.count_nonzero(cut))
    if not good.all():
        frame = frame[good]
        ts = None if ts is None else ts[good]
        group = group if isinstance(group, int) else group[good]
        label = (
            None if label is None else [t for t, k in zip(label, good.tolist(), strict=True) if k]
        )
    if label is None:
        column = column_of(mapping.label_columns, table.columns)
        label = texts(frame[column]) if column else []
    if label:
        codes, kept = labels_of(mapping, label, table.path.name, writer)
    else:
        codes, kept = np.full(len(frame), -1, np.int16), np.ones(len(frame), np.bool_)
    x = np.stack(
        [feature_values(f, frame[column_of(f.columns, table.columns)], writer) for f in features],
        axis=1,
    )
    if ts is None:
        ts = np.arange(writer.seen, writer.seen + len(frame), dtype=np.float64)
    writer.seen += len(frame)
    chosen = group if isinstance(group, int) else group[kept]
    writer.add(x[kept], codes[kept], chosen, ts[kept], mapping.fill)

"""HAI and other process data: a wide table of sensors, one row a second, with an attack column.

Every column that is not the time or an attack is a sensor and a feature, as it is. Layouts: HAI
20.07 (semicolons, `time`, `attack`, `attack_P1`...), 21.03 (commas), 22.04 (`timestamp`,
`Attack`), 23.05 (labels in label-test1.csv beside hai-test1.csv), and .npz of such columns or of a
matrix `x` with `columns`. A value that is missing is the sensor's last one. Repeated rows are
kept: a process may rest. Without an attack column rows are benign: the training files are.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from guardian.errors import InputError
from guardian.tables import F64, Array
from trainer.sets.mapping import Mapping, key_of
from trainer.sets.reader import Echo, Reader, group_names
from trainer.sets.tabular import (
    CELLS,
    Table,
    column_of,
    labels_of,
    numbers,
    pieces,
    table_of,
    texts,
)
from trainer.sets.times import seconds
from trainer.sets.writer import Nature, Writer

MAPPING = Mapping(
    version=1,
    features=(),
    classes=("benign", "attack"),
    labels={
        "0": "benign", "1": "attack", "normal": "benign", "attack": "attack", "a ttack": "attack",
    },
    label_columns=("attack", "Normal/Attack", "label"),
    dropped={
        "attack_P1": "which process: part of the label",
        "attack_P2": "which process: part of the label",
        "attack_P3": "which process: part of the label",
        "attack_P4": "which process: part of the label",
    },
    order="time or timestamp, one row a second",
    groups="the file",
    notes=("Features are all columns that every file has (P1_B2004...), in their own units.",),
    fill="previous",
    twice="keep",
)  # fmt: skip

_TIMES = ("time", "timestamp")
_SENSOR = re.compile(r"p\d [a-z]|dm-|[a-z]{2,4}\d{3}$")


def _sensors(columns: Sequence[str]) -> list[str]:
    beside = {key_of(n) for n in (*MAPPING.dropped, *MAPPING.label_columns, *_TIMES)}
    return [c for c in columns if key_of(c) not in beside]


def _find(names: Sequence[str], columns: Sequence[str]) -> str | None:
    """Return the column that has the first of these names that any has."""
    keys = {key_of(c): c for c in columns}
    return next((keys[key_of(name)] for name in names if key_of(name) in keys), None)


def _titles(source: Table | dict[str, Array]) -> list[str]:
    return list(source.titles if isinstance(source, Table) else source)


def _sniff(path: Path) -> bool:
    try:
        columns = list(_arrays(path)) if _npz(path) else list(table_of(path).titles)
    except (InputError, OSError, ValueError):
        return False
    sensors = _sensors(columns)
    timed = _find(_TIMES, columns) is not None
    return timed and len(sensors) > 1 and sum(bool(_SENSOR.match(key_of(c))) for c in sensors) > 1


def _read(paths: Sequence[Path], writer: Writer, limit: int | None, echo: Echo) -> Nature:
    paths = [path for path in paths if not path.name.startswith("label-")]
    sources = [_arrays(path) if _npz(path) else table_of(path) for path in paths]
    sensors = _common([_titles(source) for source in sources])
    if not sensors:
        raise InputError(f"{paths[0].name} and the others have no sensor column that all have")
    more = {c for s in sources for c in _sensors(_titles(s))}
    writer.count("columns missing", len(more - set(sensors)))
    if more - set(sensors):
        echo(f"{len(more - set(sensors))} sensors are not in every file: left out")
    writer.begin(sensors)
    for source, path, name in zip(sources, paths, group_names(paths), strict=True):
        group = writer.group(name)
        parts = _table(source, limit, writer) if isinstance(source, Table) else _cut(source, limit)
        for part in parts:
            if not isinstance(source, Table):
                writer.count("rows read", len(next(iter(part.values()))))
            _add(part, sensors, path, group, writer)
    return Nature(
        True, False, "Whether the files are the whole of a published version is not checked, and"
        " its figures are of ranges of time (eTaPR), not of rows."
    )  # fmt: skip


def _common(tables: list[list[str]]) -> list[str]:
    return [c for c in _sensors(tables[0]) if all(c in columns for columns in tables)]


def _add(part: Any, sensors: list[str], path: Path, group: int, writer: Writer) -> None:
    """Add the rows of a frame or of a dict of columns."""
    columns = list(part) if isinstance(part, dict) else list(part.columns)
    stamp = _find(_TIMES, columns)
    said = _find(MAPPING.label_columns, columns)
    count = len(part[columns[0]])
    if stamp is None:
        ts: F64 = np.arange(writer.seen, writer.seen + count, dtype=np.float64)
    else:
        ts = seconds(part[stamp], writer)
    writer.seen += count
    words = [t.removesuffix(".0") for t in texts(part[said])] if said else ["normal"] * count
    label, keep = labels_of(MAPPING, words, path.name, writer)
    x = np.stack([numbers(part[c], writer) for c in sensors], axis=1)
    writer.add(x[keep], label[keep], group, ts[keep], MAPPING.fill)


def _beside(path: Path) -> list[Path]:
    """Return where the labels of a file without an attack column would be."""
    name = re.sub(r"^(hai|haiend)-test", "label-test", path.name)
    return [path.with_name(name)] if name != path.name else []


def _table(table: Table, limit: int | None, writer: Writer) -> Iterator[Any]:
    """Yield the frames of a table; where its labels lie in another file, with these."""
    beside = next((path for path in _beside(table.path) if path.exists()), None)
    if beside is None:
        for frame in pieces(table, limit, writer):
            yield frame.set_axis(list(table.titles), axis=1)
        return
    labels = table_of(beside)
    said = column_of(MAPPING.label_columns, labels.columns)
    if said is None:
        raise InputError(f"{beside.name} has no column label: it should say which rows are attacks")
    aside = Writer(writer.folder)  # its rows are the same ones, and counted once
    with ExitStack() as stack:
        theirs = _rows(labels, limit, aside)
        stack.callback(theirs.close)
        for frame in pieces(table, limit, writer):
            values = [next(theirs, None) for _ in range(len(frame))]
            if None in values:
                raise InputError(f"{beside.name} has fewer rows than {table.path.name}")
            yield frame.set_axis(list(table.titles), axis=1).assign(**{said: values})


def _rows(table: Table, limit: int | None, writer: Writer) -> Any:
    """Yield the label of each row, as a generator."""
    said = column_of(MAPPING.label_columns, table.columns)
    for frame in pieces(table, limit, writer):
        yield from texts(frame[said])


def _npz(path: Path) -> bool:
    return path.suffix == ".npz" and zipfile.is_zipfile(path)


def _arrays(path: Path) -> dict[str, Array]:
    """Return the columns of an .npz by name. Raises InputError where it holds objects or nothing
    that can be read as columns.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path.name} cannot be read ({error}): save plain arrays of numbers and text"
        ) from error
    wide = next((n for n in ("x", "X", "data") if n in arrays and arrays[n].ndim == 2), None)
    names = next((n for n in ("columns", "features", "names") if n in arrays), None)
    out: dict[str, Array] = {}
    if wide is not None:
        matrix = arrays.pop(wide)
        titles = arrays.pop(names).tolist() if names else range(matrix.shape[1])
        titled = [f"p0 s{k}" if names is None else str(k).strip() for k in titles]
        if len(titled) != matrix.shape[1]:
            raise InputError(f"{path.name} has {matrix.shape[1]} columns and {len(titled)} names")
        out |= {name: matrix[:, k] for k, name in enumerate(titled)}
    out |= {name.strip(): values for name, values in arrays.items() if values.ndim == 1}
    if not out or len({len(v) for v in out.values()}) != 1:
        raise InputError(f"{path.name} has no columns of one length: give one array a column")
    return out


def _cut(arrays: dict[str, Array], limit: int | None) -> Iterator[dict[str, Any]]:
    """Yield pieces of the columns as pandas has them."""
    import pandas as pd  # noqa: PLC0415

    many = len(next(iter(arrays.values())))
    many = many if limit is None else min(many, limit)
    size = max(256, CELLS // len(arrays))
    for k in range(0, many, size):
        yield {name: pd.Series(values[k : min(k + size, many)]) for name, values in arrays.items()}


READER = Reader(
    "hai",
    "HAI and other process data",
    MAPPING,
    _read,
    _sniff,
    "Shin, Lee, Yun, Kim 2020",
    beside=_beside,
)

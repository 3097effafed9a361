"""Tables of text, a piece at a time: .csv, .gz or .zip by a Mapping to a Writer's rows."""

from __future__ import annotations

import csv
import io
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from guardian.errors import InputError
from guardian.tables import F64, Array
from trainer.sets.mapping import DROP, Feature, Mapping, key_of
from trainer.sets.writer import Writer

CELLS = 1 << 21
"""Cells of a table that are read together: 16 MB as float64."""
_HEAD = 1 << 16
Echo = Callable[[str], None]


@dataclass(frozen=True)
class Table:
    """A file, the names of its columns, and how its cells are parted."""

    path: Path
    columns: tuple[str, ...]
    """As `key_of` has them; the second of a name is `name.1`."""
    delimiter: str
    headed: bool
    """The first line names the columns."""
    titles: tuple[str, ...]
    """The columns' names as they are written."""


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a plain, gzipped or zipped file (a zip of one file) for its content.

    Raises InputError where it cannot be read or is damaged.
    """
    import gzip  # noqa: PLC0415

    try:
        with path.open("rb") as raw:
            magic = raw.peek(4)[:4] if isinstance(raw, io.BufferedReader) else b""
            if magic[:2] == b"\x1f\x8b":
                with gzip.open(raw) as plain:
                    yield plain  # type: ignore[misc]
            elif magic == b"PK\x03\x04":
                with zipfile.ZipFile(raw) as archive:
                    names = [n for n in archive.namelist() if not n.endswith("/")]
                    if len(names) != 1:
                        raise InputError(
                            f"{path.name} holds {len(names)} files: unpack it and give these"
                        )
                    with archive.open(names[0]) as inner:
                        yield inner
            else:
                yield raw
    except (EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(f"{path.name} is cut or damaged: get it whole again") from error
    except OSError as error:
        reason = error.strerror or "it is cut or damaged"
        raise InputError(f"{path.name} cannot be read ({reason}): check path and rights") from error


def head_of(path: Path, size: int = _HEAD) -> list[str]:
    """Return the first whole lines of a file, unpacked; none where it is no text."""
    with opened(path) as file:
        raw = file.read(size)
    if b"\0" in raw[:1024]:
        return []
    lines = raw.decode("utf-8-sig", "replace").splitlines()
    return lines[:-1] if len(raw) == size and len(lines) > 1 else lines


def table_of(path: Path, unheaded: dict[int, tuple[str, ...]] | None = None) -> Table:
    """Look at a file's first line. `unheaded` names the columns of known tables without a first
    line of names, by their number. Raises InputError where the file is empty or binary.
    """
    lines = [line for line in head_of(path) if line.strip()]
    if not lines:
        raise InputError(f"{path.name} is empty or no text: give a table of comma-separated values")
    delimiter = max(",;\t", key=lines[0].count)
    cells = next(csv.reader([lines[0]], delimiter=delimiter))
    numbers = sum(bool(re.fullmatch(r"\s*-?\d+(\.\d*)?([eE][-+]?\d+)?\s*", c)) for c in cells)
    if numbers > len(cells) // 4 or (numbers and len(cells) in (unheaded or {})):
        names = (unheaded or {}).get(len(cells))
        if names is None:
            raise InputError(
                f"{path.name} has {len(cells)} columns and no line that names them: add one"
            )
        return Table(path, tuple(key_of(n) for n in names), delimiter, False, names)
    titles = tuple(cell.strip() for cell in cells)
    return Table(path, tuple(_unique([key_of(c) for c in cells])), delimiter, True, titles)


def _unique(names: list[str]) -> list[str]:
    """Return names with the second of a kind as `name.1`."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        number = seen.get(name, 0)
        seen[name] = number + 1
        out.append(f"{name}.{number}" if number else name)
    return out


def pieces(table: Table, limit: int | None, writer: Writer) -> Iterator[Any]:
    """Yield pandas frames of a table; rows with too many cells are left out and counted."""
    import pandas as pd  # noqa: PLC0415

    size = max(256, CELLS // max(1, len(table.columns)))
    with opened(table.path) as file, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        reader = pd.read_csv(
            file, sep=table.delimiter, header=None, names=list(table.columns),
            skiprows=1 if table.headed else 0, chunksize=size if limit is None else
            min(size, max(1, limit)), on_bad_lines="warn", low_memory=False, index_col=False,
            nrows=limit, encoding="utf-8", encoding_errors="replace", skip_blank_lines=True,
            skipinitialspace=True,
        )  # fmt: skip
        try:
            for frame in reader:
                long = sum(str(w.message).count("Skipping line") for w in told)
                told.clear()
                writer.count("rows read", len(frame) + long)
                writer.count("dropped: too many cells", long)
                if len(frame):
                    yield frame
        except pd.errors.EmptyDataError:
            return
        except pd.errors.ParserError as error:
            raise InputError(
                f"{table.path.name} is no whole table ({error}): get it again"
            ) from error


def numbers(column: Any, writer: Writer) -> F64:
    """Return float64[b]; text that is no number is NaN and counted."""
    import pandas as pd  # noqa: PLC0415

    if column.dtype.kind in "iufb":
        return np.asarray(column, dtype=np.float64)
    text = column.astype("string").str.strip()
    values = np.asarray(pd.to_numeric(text, errors="coerce"), dtype=np.float64)
    blank = np.asarray(text.isna() | (text == ""), dtype=np.bool_)
    writer.count("values no number", np.count_nonzero(np.isnan(values) & ~blank))
    return values


def texts(column: Any) -> list[str]:
    """Return the cells as text, empty where missing."""
    return ["" if value is None or value != value else str(value) for value in column.tolist()]  # noqa: PLR0124


def feature_values(feature: Feature, column: Any, writer: Writer) -> F64:
    """Return float64[b] of one feature, NaN where missing."""
    if feature.form == "is":
        import pandas as pd  # noqa: PLC0415

        codes, found = pd.factorize(column, use_na_sentinel=False)
        hit = np.array([t.strip().lower() in feature.values for t in texts(found)], np.float64)
        where: Array = np.asarray(codes)
        return hit[where]
    values = numbers(column, writer)
    if np.isfinite(feature.high):
        with np.errstate(invalid="ignore"):
            beyond = np.isfinite(values) & (np.abs(values) > feature.high)
        writer.count("values cut", np.count_nonzero(beyond))
        values = np.where(beyond, np.copysign(feature.high, values), values)
    if feature.form == "log":
        return np.asarray(np.sign(values) * np.log1p(np.abs(values)))
    return values


def column_of(names: Sequence[str], columns: Sequence[str]) -> str | None:
    """Return the first of `names` that the columns have."""
    have = set(columns)
    return next((key for name in names if (key := key_of(name)) in have), None)


def present(mapping: Mapping, tables: Sequence[Table], writer: Writer, echo: Echo) -> list[Feature]:
    """Return the features whose column every table has; tell what is missing and what is unknown.

    Raises InputError where a table has less than the mapping's least share of the features.
    """
    features = list(mapping.features)
    for table in tables:
        here = [f for f in mapping.features if column_of(f.columns, table.columns)]
        if len(here) < mapping.least * len(mapping.features):
            lacking = [f.columns[0] for f in mapping.features if f not in here]
            raise InputError(
                f"{table.path.name} has {len(here)} of {len(mapping.features)} columns that are"
                f" needed; it lacks {', '.join(lacking[:5])}"
            )
        features = [f for f in features if f in here]
    missing = [f.name for f in mapping.features if f not in features]
    known = {key_of(n) for f in mapping.features for n in f.columns}
    known |= {key_of(n) for n in (*mapping.dropped, *mapping.label_columns)}
    unknown = {c for t in tables for c in t.columns} - known
    writer.count("columns missing", len(missing))
    writer.count("columns unknown", len(unknown))
    if missing:
        echo(f"not every file has {', '.join(missing[:8])}{_more(missing)}: left out")
    if unknown:
        echo(f"unknown columns {', '.join(sorted(unknown)[:8])}{_more(unknown)}: left out")
    return features


def _more(names: Sequence[str] | set[str]) -> str:
    return f" and {len(names) - 8} more" if len(names) > 8 else ""


def labels_of(
    mapping: Mapping, texts_: Sequence[str], where: str, writer: Writer
) -> tuple[Array, Array]:
    """Return int16[b] of classes and bool[b] of rows to keep; those dropped are counted by text."""
    codes = {text: mapping.class_of(text, where) for text in set(texts_) if text.strip()}
    codes |= dict.fromkeys((t for t in set(texts_) if not t.strip()), DROP)
    number = {name: k for k, name in enumerate(mapping.classes)} | {DROP: -2, "": -1}
    label = np.array([number[codes[text]] for text in texts_], dtype=np.int16)
    for text, name in codes.items():
        if name == DROP:
            many = sum(t == text for t in texts_)
            writer.count(f"dropped: label {text.strip().lower() or 'missing'}", many)
    return label, label != -2

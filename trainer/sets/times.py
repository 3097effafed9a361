"""Times as tables write them, to seconds since 1970. A time without a zone is taken as UTC."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from guardian.tables import F64
from trainer.sets.writer import Writer

_DAY_FIRST = (
    "%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%d/%m/%Y %I:%M:%S %p", "%d/%m/%Y %I:%M %p",
)  # fmt: skip
_FORMS = (
    (r"\d{4}-\d", ("ISO8601",)),
    (r"\d{4}/\d", ("%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M")),
    (r"\d{8} ", ("%Y%m%d %H:%M:%S",)),
    (r"\d{1,2}/\d{1,2}/\d{4}", _DAY_FIRST),
)
_OPENING_H = 8
"""No working day of a laboratory begins earlier: 1:30 on a clock of twelve hours is afternoon."""


def seconds(column: Any, writer: Writer, *, twelve: bool = False) -> F64:
    """Return float64[b]; a time that cannot be read is that of the row before, and counted.

    Knows seconds since 1970, ISO and day/month/year. With `twelve`, day/month/year without AM or
    PM is on a clock of twelve hours.
    """
    import pandas as pd  # noqa: PLC0415

    if column.dtype.kind in "iuf":
        return _without_gaps(np.asarray(column, dtype=np.float64), writer)
    text = column.astype("string").str.strip()
    first = next((t for t in text.tolist() if isinstance(t, str) and t), "")
    forms = next((forms for look, forms in _FORMS if re.match(look, first)), ())
    best = np.full(len(text), np.nan)
    used = ""
    for form in forms:
        stamp = pd.to_datetime(text, format=form, errors="coerce", utc=True)
        missing = np.asarray(stamp.isna(), dtype=np.bool_)
        values = np.asarray(
            stamp.dt.tz_localize(None).to_numpy(dtype="datetime64[ns]").view("int64") / 1e9
        )
        values[missing] = np.nan
        if np.isnan(best).sum() > missing.sum():
            best, used = values, form
        if not missing.any():
            break
    if not forms:
        best = np.asarray(pd.to_numeric(text, errors="coerce"), dtype=np.float64)
    if twelve and used in _DAY_FIRST[:2]:
        best = np.where(best % 86_400 < _OPENING_H * 3_600, best + 43_200, best)
    return _without_gaps(best, writer)


def _without_gaps(values: F64, writer: Writer) -> F64:
    missing = ~np.isfinite(values)
    writer.count("times unreadable", np.count_nonzero(missing))
    values = np.concatenate([[writer.clock], np.where(missing, 0.0, values)])
    at = np.where(np.concatenate([[False], missing]), 0, np.arange(len(values)))
    filled: F64 = values[np.maximum.accumulate(at)]
    writer.clock = float(filled[-1])
    return filled[1:]

"""What a reader does with its columns, as data: its document and its digest come from the same."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Literal

from guardian.errors import InputError

DROP = "drop"
"""The class of rows of which nobody said what they are: they are left out and counted."""

Form = Literal["raw", "log", "is"]
"""raw: the number. log: sign(v) * log1p(|v|), since amounts reach from one to billions. is: 1
where the column has one of `values`, else 0."""


@dataclass(frozen=True)
class Feature:
    """One feature and the column it comes from."""

    name: str
    columns: tuple[str, ...]
    """The column's name in each naming that is known; blanks, underscores and case do not count."""
    unit: str = "number"
    form: Form = "raw"
    values: tuple[str, ...] = ()
    """For `is`, in lower case."""
    high: float = float("inf")
    """A larger value is cut to this, a smaller one to its negative; before the log."""


@dataclass(frozen=True)
class Mapping:
    """From the columns of a kind of file to features and classes."""

    version: int
    """Goes up when the reader's code changes what comes out; its data below are in the digest."""
    features: tuple[Feature, ...]
    classes: tuple[str, ...]
    labels: dict[str, str]
    """Text in lower case to class, or to DROP."""
    unsaid: tuple[str, ...] = ()
    """Labels that end so are dropped."""
    label_columns: tuple[str, ...] = ()
    """The first that a file has is used."""
    dropped: dict[str, str] = field(default_factory=dict)
    """Columns that are no features, and why."""
    order: str = ""
    """Where time comes from, in words."""
    groups: str = ""
    """What a group is, in words."""
    notes: tuple[str, ...] = ()
    least: float = 0.5
    """Share of the features without whose columns a file is refused."""
    fill: Literal["zero", "previous"] = "zero"
    """What stands for a missing or infinite value."""
    twice: Literal["drop", "keep"] = "drop"
    """What becomes of a row whose features and label were there before: in tables of flows it
    would stand in train and test; in a series of times it is a reading like the one before."""

    def class_of(self, text: str, where: str) -> str:
        """Return the class of a label. Raises InputError for one that stands nowhere."""
        key = label_key(text)
        if key.endswith(self.unsaid):
            return DROP
        if key not in self.labels:
            raise InputError(
                f"{where}: the label {text!r} has no class: give it one in the reader's LABELS"
            )
        return self.labels[key]

    def digest(self) -> str:
        """Return sha256 in hex: it changes with anything above."""
        return hashlib.sha256(repr(self).encode()).hexdigest()


def key_of(column: str) -> str:
    """Return a column's name without what namings of one tool differ in."""
    return re.sub(r"[\s_]+", " ", column.strip().strip("'\"").strip()).strip().lower()


def label_key(text: str) -> str:
    """Return a label as LABELS have it: lower case, one blank, any dash a plain one."""
    plain = re.sub(r"[\u2010-\u2015\ufffd\x96]", "-", str(text))
    return re.sub(r"\s+", " ", plain).strip().lower()


def one_of(name: str, column: str | tuple[str, ...], *values: str) -> Feature:
    """Return a feature that is 1 where the column has one of these values."""
    columns = (column,) if isinstance(column, str) else column
    return Feature(name, columns, "flag", "is", values)

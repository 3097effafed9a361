"""How far the features of two sets lie apart, and `python -m trainer.drift A B`.

A and B are prepared sets (their folder in the cache), files or folders of data, or a stretch of a
daemon's database: `guardian.db@2026-W46` (a week) or `guardian.db@2026-11-02..2026-11-09` (days,
the last not included). A database alone is its last seven days against the seven before.
"""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import click
import numpy as np

from guardian.errors import GuardianError, InputError
from guardian.tables import F32, F64, I64, Array
from trainer.sets.prepared import FACTS, Prepared, load

BINS = 10
FLOOR = 1e-4
"""What a share of 0 counts as: PSI has its logarithm."""
MOST_ROWS = 50_000
"""Rows of either side, spread over all."""
MUCH = 0.25
"""PSI up to which drift is commonly called little, and from which on it is called much."""
STATED = (
    f"PSI over {BINS} bins by the deciles of the first set (equal ones fall together) and one on"
    f" either side for values that it never has; a share of 0 counts as {FLOOR:g}. KS is the"
    " largest distance between the two distribution functions. 'By chance' is what one of twenty"
    " pairs of samples without drift exceeds if rows are independent; rows that follow in time are"
    " not, so their chance is larger."
)
WEEK = timedelta(days=7)


def drift(a: F32, b: F32, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return one row for each feature of float32[n, F] and float32[m, F], largest PSI first.

    Raises InputError where one side has no rows.
    """
    if not len(a) or not len(b):
        raise InputError("drift is between two sets of rows, and one has none: give another")
    both = 1 / len(a) + 1 / len(b)
    out = []
    for k, name in enumerate(names):
        one, two = np.sort(a[:, k].astype(np.float64)), np.sort(b[:, k].astype(np.float64))
        value, bins = psi(one, two)
        out.append({
            "feature": name, "psi": value, "psi_by_chance": _chance(bins) * both,
            "ks": ks(one, two), "ks_by_chance": 1.358 * math.sqrt(both),
            "median": [float(np.median(one)), float(np.median(two))],
        })  # fmt: skip
    return sorted(out, key=lambda row: (-row["psi"], -row["ks"], row["feature"]))


def ks(a: F64, b: F64) -> float:
    """Return the largest distance of the distribution functions of two sorted samples."""
    at = np.concatenate([a, b])
    below = [np.searchsorted(side, at, side="right") / len(side) for side in (a, b)]
    return float(np.abs(below[0] - below[1]).max())


def psi(a: F64, b: F64) -> tuple[float, int]:
    """Return the population stability index of two sorted samples, and how many bins have rows
    of the first; the bins are as STATED.
    """
    inner = np.quantile(a, np.arange(1, BINS) / BINS, method="inverted_cdf")
    edges = np.unique([np.nextafter(a[0], -np.inf), *inner, a[-1]])
    held = [_shares(side, edges) for side in (a, b)]
    first, second = (np.maximum(share, FLOOR) for share in held)
    value = float(((second - first) * np.log(second / first)).sum())
    return value, int((held[0] > 0).sum())


def _shares(side: F64, edges: F64) -> F64:
    """Return the share of a sorted sample up to each edge from the one before, and above all."""
    below = np.searchsorted(side, edges, side="right")
    counts: F64 = np.diff(below, prepend=0, append=len(side)) / len(side)
    return counts


def _chance(bins: int) -> float:
    """Return what a chi-squared value with bins - 1 degrees of freedom exceeds in one of twenty
    cases, by Wilson and Hilferty.
    """
    free = max(bins - 1, 1)
    return free * (1 - 2 / (9 * free) + 1.645 * math.sqrt(2 / (9 * free))) ** 3


def rows_of(prepared: Prepared, rows: Array) -> F32:
    """Return the features of some rows, at most MOST_ROWS, spread evenly."""
    if len(rows) > MOST_ROWS:
        rows = rows[np.linspace(0, len(rows) - 1, MOST_ROWS).astype(np.int64)]
    return np.asarray(prepared.x[rows], np.float32)


def benign(prepared: Prepared, rows: I64) -> I64:
    """Return the rows that count as benign; all where a set has no labels. More attacks are no
    drift of the home.
    """
    if (prepared.label < 0).all():
        return rows
    quiet: I64 = rows[prepared.label[rows] == 0]
    return quiet


def between(
    a: tuple[Prepared, I64], b: tuple[Prepared, I64], names: tuple[str, str]
) -> dict[str, Any]:
    """Return the drift from benign rows of one set to those of another, as JSON has it.

    Raises InputError where they have other features or one has no benign row.
    """
    if a[0].features != b[0].features:
        raise InputError(
            f"{names[0]} and {names[1]} have other features: give two sets of one reader"
        )
    one, two = benign(*a), benign(*b)
    for side, name in ((one, names[0]), (two, names[1])):
        if not len(side):
            raise InputError(f"{name} has no benign row: give more, or another stretch")
    return {
        "from": names[0], "to": names[1], "rows": [len(one), len(two)],
        "features": drift(rows_of(a[0], one), rows_of(b[0], two), a[0].features),
    }  # fmt: skip


def text(found: dict[str, Any], most: int = 20) -> str:
    """Return the table for a terminal: the features that drifted most."""
    rows = found["features"]
    drifted = sum(row["psi"] > MUCH for row in rows)
    wide = max([7, *(len(row["feature"]) for row in rows[:most])])
    lines = [
        f"{found['rows'][0]:,} benign rows of {found['from']} beside {found['rows'][1]:,} of"
        f" {found['to']}: {drifted} of {len(rows)} features drifted much (PSI above {MUCH})",
        "",
        f"{'feature':<{wide}}  {'PSI':>7}  {'chance':>7}  {'KS':>6}  {'chance':>6}  medians",
    ]
    lines += [
        f"{row['feature']:<{wide}}  {row['psi']:7.3f}  {row['psi_by_chance']:7.3f}  "
        f"{row['ks']:6.3f}  {row['ks_by_chance']:6.3f}  "
        f"{row['median'][0]:.4g} to {row['median'][1]:.4g}"
        for row in rows[:most]
    ]
    if len(rows) > most:
        lines.append(f"and {len(rows) - most} more, below PSI {rows[most - 1]['psi']:.3f}")
    return "\n".join([*lines, "", STATED])


# --- what A and B name --------------------------------------------------------------------


def chosen(
    spoken: str, kind: str | None, cache: Path | None, limit: int | None
) -> tuple[Prepared, I64]:
    """Return the set and the rows that `A` or `B` names. Raises InputError."""
    from trainer.sets.registry import prepare, sniff  # noqa: PLC0415 - all readers

    name, _, stretch = spoken.partition("@") if not Path(spoken).exists() else (spoken, "", "")
    path = Path(name)
    if (path / FACTS).is_file():
        prepared = load(path)
    else:
        files = [p for p in sorted(path.rglob("*")) if p.is_file()] if path.is_dir() else [path]
        kind = kind or sniff(files[0] if files else path)
        prepared = prepare(kind, [path], cache=cache, limit=limit)
    if not stretch:
        return prepared, np.arange(len(prepared))
    begin, end = span(stretch)
    return prepared, np.flatnonzero((prepared.ts >= begin) & (prepared.ts < end))


def span(stretch: str) -> tuple[float, float]:
    """Return begin and end (seconds since 1970) of a week or of days, in UTC."""
    try:
        if "-W" in stretch:
            begin = datetime.strptime(f"{stretch}-1", "%G-W%V-%u").replace(tzinfo=timezone.utc)
            return begin.timestamp(), (begin + WEEK).timestamp()
        first, last = stretch.split("..")
        days = [
            datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=timezone.utc) for day in (first, last)
        ]
    except ValueError as error:
        raise InputError(
            f"{stretch!r} is no stretch of time: write 2026-W46, or 2026-11-02..2026-11-09"
        ) from error
    return days[0].timestamp(), days[1].timestamp()


def last_weeks(prepared: Prepared) -> tuple[I64, I64]:
    """Return the rows of the seven days before the last seven, and of these."""
    end = float(prepared.ts.max(initial=0.0))
    age = (end - prepared.ts) / WEEK.total_seconds()
    return np.flatnonzero((age >= 1) & (age < 2)), np.flatnonzero(age < 1)


@click.command(name="python -m trainer.drift")
@click.argument("a")
@click.argument("b", required=False)
@click.option("--set", "kind", help="The reader of both; else their first bytes tell.")
@click.option("--cache", type=click.Path(path_type=Path), help="Keep prepared sets here.")
@click.option("--limit", type=click.IntRange(min=1), help="First rows of each file alone.")
@click.option("-o", "--out", type=click.Path(path_type=Path),
              help="Write drift.html and drift.json into this folder.")  # fmt: skip
def main(
    a: str, b: str | None, kind: str | None, cache: Path | None, limit: int | None, out: Path | None
) -> None:
    """Tell how far the features of B lie from those of A."""
    try:
        one = chosen(a, kind, cache, limit)
        if b is None:
            before, after = last_weeks(one[0])
            names = (f"{Path(a).name}, the week before", f"{Path(a).name}, the last seven days")
            found = between((one[0], before), (one[0], after), names)
        else:
            found = between(one, chosen(b, kind, cache, limit), (Path(a).name, Path(b).name))
        click.echo(text(found))
        if out is not None:
            from trainer.pages.driftpage import write_drift  # noqa: PLC0415 - draws

            click.echo(f"wrote {write_drift(found, out)}", err=True)
    except (GuardianError, json.JSONDecodeError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()

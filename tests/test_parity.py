"""Our records beside Zeek's own, column by column. docs/parity.md names what differs and why."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.zeekpairs import COLUMNS, KEY, Line, Pair, matched, ours, pairs

EQUAL = 0.97
"""Share of rows found, and of equal cells in each column, that plain captures must reach."""
SERVICE_EQUAL = 0.97
"""What is reached of service; the rest is named in docs/parity.md."""


def agrees(column: str, theirs: Line, mine: Line) -> bool:
    if column == "service":
        return set(theirs[column].split(",")) == set(mine[column].split(","))
    if column == "duration" and "-" not in (theirs[column], mine[column]):
        return abs(float(theirs[column]) - float(mine[column])) < 2e-6  # rounding
    return theirs[column] == mine[column]


def compare(chosen: list[Pair]) -> tuple[int, int, Counter[str], Counter[str]]:
    """Return rows, rows found, and per column the cells compared and those equal."""
    rows = found = 0
    seen: Counter[str] = Counter()
    equal: Counter[str] = Counter()
    for pair in chosen:
        for theirs, mine in matched(pair.rows, ours(pair)):
            rows += 1
            if mine is None:
                continue
            found += 1
            for column in COLUMNS:
                if column not in theirs or (column == "service" and pair.tier == "bare"):
                    continue
                seen[column] += 1
                equal[column] += agrees(column, theirs, mine)
    return rows, found, seen, equal


def test_plain_captures(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = [pair for pair in pairs(data / "zeek-parity") if pair.category == "plain"]
    assert len(chosen) == 44
    rows, found, seen, equal = compare(chosen)
    with capsys.disabled():
        print(f"\nzeek-parity plain: {found} of {rows} rows found")
        for column in COLUMNS:
            share = 100 * equal[column] / seen[column]
            print(f"  {column:14} {equal[column]:4} of {seen[column]:4}  {share:6.2f} %")
    assert found >= EQUAL * rows
    for column in COLUMNS:
        floor = SERVICE_EQUAL if column == "service" else EQUAL
        assert equal[column] >= floor * seen[column], column


@pytest.mark.parametrize(("category", "count"), [("link-layer", 11), ("tunnel", 17)])
def test_link_layers_and_tunnels(
    data: Path, capsys: pytest.CaptureFixture[str], category: str, count: int
) -> None:
    chosen = [pair for pair in pairs(data / "zeek-parity") if pair.category == category]
    assert len(chosen) == count
    rows, found, seen, equal = compare(chosen)
    with capsys.disabled():
        print(f"\nzeek-parity {category}: {found} of {rows} rows found")
        for column in COLUMNS:
            print(f"  {column:14} {equal[column]:4} of {seen[column]:4}")
    assert found >= rows - 1
    for column in COLUMNS:
        assert seen[column] == equal[column], column


def parents(row: Line, rows: list[Line]) -> Counter[str]:
    """Return a row's tunnels by their 5-tuple; those without a row (GRE) have none."""
    if row["tunnel_parents"] == "-":
        return Counter()
    by_uid = {r["uid"]: " ".join(r[k] for k in KEY) for r in rows}
    return Counter(by_uid.get(uid, "without a row") for uid in row["tunnel_parents"].split(","))


def test_tunnel_parents(data: Path) -> None:
    """Each inner connection names the tunnels that Zeek names."""
    inner = 0
    for pair in pairs(data / "zeek-parity"):
        mine = ours(pair)
        for theirs, my_row in matched(pair.rows, mine):
            if my_row is not None and "tunnel_parents" in theirs:
                assert parents(my_row, mine) == parents(theirs, pair.rows), pair.name
                inner += theirs["tunnel_parents"] != "-"
    assert inner == 30


def test_cut_logs(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The pairs of which Zeek's test kept only some columns, mostly service and history."""
    seen: Counter[str] = Counter()
    equal: Counter[str] = Counter()
    for pair in pairs(data / "zeek-parity-partial", "conn.cut.tsv"):
        mine = ours(pair)
        for theirs in pair.rows:
            columns = [c for c in ("history", "service", "conn_state") if c in theirs]
            rest = [m for m in mine if all(m[c] == theirs[c] for c in columns)]
            best = rest[0] if rest else max(
                mine, key=lambda m: sum(m[c] == theirs[c] for c in columns), default=None
            )  # fmt: skip
            for column in columns:
                seen[column] += 1
                equal[column] += best is not None and agrees(column, theirs, best)
    with capsys.disabled():
        print("\nzeek-parity-partial:", {c: f"{equal[c]} of {seen[c]}" for c in seen})
    assert equal["history"] == seen["history"]
    assert equal["conn_state"] == seen["conn_state"]
    assert equal["service"] == seen["service"]

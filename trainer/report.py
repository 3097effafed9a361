"""The evaluation as tables in markdown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trainer.card import share, table
from trainer.evaluate import COUNTERS

NOTE = """\
A record counts with the highest score of its slices. AUC is against the benign records of all
captures left out, each capture weighing alike; "at 1 %" is the share of attack records above the
line that 1 % of those benign records reach (below 100 records k of n). "line" is the shipped
threshold. The last columns are the plainest counters at the same 1 %.\
"""


def markdown(report: dict[str, Any]) -> str:
    """Return the whole report."""
    parts = [f"## Captures left out of training\n\nBundle {_bundle(report)}. {NOTE}\n"]
    parts.append(attacks(report["attacks"]))
    parts.append("\nFalse positives on benign captures left out:\n")
    parts.append(benign(report["benign"]))
    sham = report.get("placebo")
    if sham:
        n = sham["records"]
        shares = {key: share(value, n) for key, value in sham.items() if key.startswith("reach")}
        parts.append(
            f"\nPlacebo: {sham['grafts']} stretches of one left-out device's benign traffic put"
            f" into another's life, {n:,} records: {shares['reach_pooled_1%']} reach the 1 % line,"
            f" {shares['reach_pooled_0.1%']} the 0.1 % line, {shares['reach_threat']} the shipped"
            " one."
        )
    if report.get("not_judged"):
        parts.append(
            f"\nNot judged: {', '.join(report['not_judged'])}. These captures hold what came from"
            " outside alone; a machine that never sends is no known device of the home."
        )
    left = report.get("leave_one_out")
    if left:
        parts.append(
            "\n### Captures that teach the shipped bundle\n\nEach judged by models trained without"
            ' it and without all else from its network, with their own thresholds. "own" is the'
            " AUC against the benign records of the same capture.\n"
        )
        parts.append(attacks(left["attacks"], own=True))
        parts.append("")
        parts.append(benign(left["benign"]))
    return "\n".join(parts) + "\n"


def _bundle(report: dict[str, Any]) -> str:
    about = report["bundle"]
    return f"{about['name']} {about['version']} ({about['digest'][:12]})"


def attacks(rows: Iterable[dict[str, Any]], *, own: bool = False) -> str:
    """Return the table of attack captures."""
    head = ["capture", "records", "AUC int8", "AUC float", "at 1 %", "at 0.1 %", "line"]
    head += ["AUC own"] if own else []
    head += ["autoencoder AUC", "autoencoder at 1 %", *(f"{name} AUC, at 1 %" for name in COUNTERS)]
    told = any(row["incidents"] is not None for row in rows)
    head += ["incidents"] if told else []
    out = []
    for row in rows:
        n, threat, anomaly = row["records"], row["threat"], row["anomaly"]
        cells = [row["capture"], f"{n:,}", _auc(threat), _auc(row.get("threat float"))]
        cells += [share(threat["found_at_1%"], n), share(threat["found_at_0.1%"], n)]
        cells += [share(row["found_at_shipped_line"], n)]
        if own:
            value = threat.get("auc_own_benign")
            cells.append("-" if value is None else f"{value:.3f}")
        cells += [_auc(anomaly), share(anomaly["found_at_1%"], n)]
        cells += [f"{_auc(row[c])}, {share(row[c]['found_at_1%'], n)}" for c in COUNTERS]
        cells += ["-" if row["incidents"] is None else str(row["incidents"])] if told else []
        out.append(cells)
    return table(head, out)


def benign(rows: Iterable[dict[str, Any]]) -> str:
    """Return the table of benign captures."""
    head = ["capture", "records", "hours", "threat at line", "anomaly at line", "highest threat"]
    told = any(row["incidents"] is not None for row in rows)
    head += ["incidents"] if told else []
    out = []
    for row in rows:
        n = row["records"]
        cells = [row["capture"], f"{n:,}", f"{row['hours']:g}", share(row["reach_threat"], n)]
        cells += [share(row["reach_anomaly"], n), f"{row['highest_threat']:.3f}"]
        cells += ["-" if row["incidents"] is None else str(row["incidents"])] if told else []
        out.append(cells)
    return table(head, out)


def _auc(figures: dict[str, Any] | None) -> str:
    return "-" if figures is None else f"{figures['auc']:.3f}"

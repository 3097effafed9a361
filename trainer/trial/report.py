"""From judged cases to the report: plain dicts and lists, as the JSON has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from guardian.gathered import TOLD
from trainer.trial import figures
from trainer.trial.bench import GATEWAY, MODELS
from trainer.trial.figures import Case, Found, Pools
from trainer.trial.goals import EVIDENCE, OURS
from trainer.trial.subjects import CLASSES, SETUP, Subject

AT = ("10%", "1%", "0.1%")
"""Keys of figures.SHARES."""


def attack_row(subject: Subject, cases: Sequence[Case], pools: Pools) -> dict[str, Any]:
    """Return what became of an attack as it was recorded."""
    row: dict[str, Any] = {
        "capture": subject.name,
        "family": next((c.family for c in cases if c.family), ""),
        "note": subject.note,
    }
    for whose in (GATEWAY, MODELS):
        row[whose] = devices([f for c in cases for f in figures.found(c, whose)])
        row[whose]["false"] = sum(len(figures.false(c, whose)) for c in cases)
    row["scorers"] = by_scorer(cases, pools)
    row["records"] = sum(int((c.played.label > 0).sum()) for c in cases)
    row["own"] = own(cases)
    return row


def devices(told: Sequence[Found]) -> dict[str, Any]:
    """Return how many infected devices were found, and how soon."""
    hits = [f for f in told if f.seconds is not None]
    return {
        "infected": len(told),
        "found": len(hits),
        "seconds": _median(f.seconds for f in hits),
        "packets": _median(f.packets for f in hits if f.packets is not None),
        "connections": _median(f.connections for f in hits if f.connections is not None),
        "slowest_seconds": max((f.seconds for f in hits if f.seconds is not None), default=None),
        "causes": sorted({f.cause for f in hits}),
        "speakers": sorted({f.speaker for f in hits}),
        "each": [
            {
                "kind": f.kind,
                "seconds": f.seconds,
                "packets": f.packets,
                "connections": f.connections if f.seconds is not None else None,
            }
            for f in told
        ],
        "by_class": {
            kind: {"infected": len(own), "found": sum(f.seconds is not None for f in own)}
            for kind in CLASSES
            if (own := [f for f in told if f.kind == kind])
        },
    }


def by_scorer(cases: Sequence[Case], pools: Pools) -> dict[str, Any]:
    """Return the figures by record of every scorer; lines rest on homes of other networks."""
    out: dict[str, Any] = {}
    marked = [c for c in cases if (c.played.label > 0).any()]
    for case in marked:
        pool = pools.without(case.groups)
        for name in case.played.scores:
            one = figures.recall(case, name, pool)
            if one is None:
                continue
            row = out.setdefault(name, {"records": 0, "auc": [], "ap": [], **dict.fromkeys(AT, 0)})
            row["records"] += one.records
            row["auc"].append(one.auc)
            row["ap"].append(one.precision)
            for at, share in zip(AT, figures.SHARES, strict=True):
                row[at] += one.found[share]
    for row in out.values():
        row["auc"], row["ap"] = float(np.mean(row["auc"])), float(np.mean(row["ap"]))
    return out


def home_row(subject: Subject, cases: Sequence[Case]) -> dict[str, Any]:
    """Return what a benign home raised."""
    row: dict[str, Any] = {
        "capture": subject.name,
        "kind": subject.kind,
        "records": sum(int((c.played.label == 0).sum()) for c in cases),
        "captures": len(cases),
        "by_class": _days(cases),
    }
    row["days"] = sum(part["days"] for part in row["by_class"].values())
    for whose in (GATEWAY, MODELS):
        told = [len(figures.false(c, whose)) for c in cases]
        row[whose] = {"false": sum(told), "captures_with_one": sum(n > 0 for n in told)}
        row[whose]["causes"] = sorted(
            {f"{o.cause} ({o.speaker})" for c in cases for o in figures.false(c, whose)}
        )
    return row


def _days(cases: Sequence[Case]) -> dict[str, dict[str, Any]]:
    """Return by class of device its days and the false incidents on it."""
    out: dict[str, dict[str, Any]] = {}
    for case in cases:
        for kind, days in figures.device_days(case).items():
            part = out.setdefault(kind, {"days": 0.0, "devices": 0, GATEWAY: 0, MODELS: 0})
            part["days"] += days
        for device in case.played.lives:
            out[case.class_of(device)]["devices"] += 1
        for whose in (GATEWAY, MODELS):
            for one in figures.false(case, whose):
                kind = case.class_of(one.device)
                part = out.setdefault(kind, {"days": 0.0, "devices": 0, GATEWAY: 0, MODELS: 0})
                part[whose] += 1
    return out


def false_rates(rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return by class of device, set-ups apart, the false incidents a device-day with the upper
    bound of CONFIDENCE."""
    out: dict[str, dict[str, Any]] = {}
    for row in rows:
        for kind, part in row["by_class"].items():
            for name in ("set-ups" if row["kind"] == SETUP else kind, "all"):
                if name == "all" and row["kind"] == SETUP:
                    continue
                sums = out.setdefault(name, {"days": 0.0, "devices": 0, GATEWAY: 0, MODELS: 0})
                for key in sums:
                    sums[key] += part[key]
    for sums in out.values():
        for whose in (GATEWAY, MODELS):
            many, days = sums[whose], sums["days"]
            sums[f"{whose} a day"] = many / days if days else None
            sums[f"{whose} a day, at most"] = figures.poisson_bound(many) / days if days else None
    return out


def macro(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the mean over captures of each scorer's figures by record."""
    names = dict.fromkeys(name for row in rows for name in row["scorers"])
    out = {}
    for name in names:
        parts = [row["scorers"][name] for row in rows if name in row["scorers"]]
        out[name] = {
            "captures": len(parts),
            "auc": float(np.mean([p["auc"] for p in parts])),
            "ap": float(np.mean([p["ap"] for p in parts])),
            **{at: float(np.mean([p[at] / p["records"] for p in parts])) for at in AT},
            "devices over 0.1%": sum(p["0.1%"] > 0 for p in parts),
        }
    return out


def families(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return, by family of attack, devices found and the mean figures of our scorers."""
    out: dict[str, dict[str, Any]] = {}
    for family in sorted({row["family"] or "not labelled" for row in rows}):
        own = [row for row in rows if (row["family"] or "not labelled") == family]
        means = macro(own)
        out[family] = {
            "captures": len(own),
            "infected": sum(row[GATEWAY]["infected"] for row in own),
            "found": sum(row[GATEWAY]["found"] for row in own),
            **{scorer: means[scorer] for scorer in OURS if scorer in means},
        }
    return out


def graft_row(
    name: str, family: str, trials: Sequence[tuple[Case, Case]], pools: Pools
) -> dict[str, Any]:
    """Return what became of one guest in several lives; each trial has the attack and its
    placebo. A trial whose placebo raises an incident counts as not found."""
    row: dict[str, Any] = {"capture": name, "family": family, "note": ""}
    for whose in (GATEWAY, MODELS):
        every, net, shams = [], [], 0
        for attack, sham in trials:
            (one,) = figures.found(attack, whose)
            fired = figures.found(sham, whose)[0].seconds is not None
            shams += fired
            every.append(one)
            net.append(replace(one, seconds=None, cause="") if fired else one)
        row[whose] = devices(net)
        row[whose] |= {
            "before placebo": sum(f.seconds is not None for f in every),
            "placebos": shams, "false": 0,
        }  # fmt: skip
    row["scorers"] = by_scorer([attack for attack, _ in trials], pools)
    row["records"] = sum(int((attack.played.label > 0).sum()) for attack, _ in trials)
    row["own"] = own([attack for attack, _ in trials])
    return row


def own(cases: Iterable[Case]) -> dict[str, int]:
    """Return how many records the hosts of an attack have of their own, and how many of them are
    taken for part of it."""
    out = {"records": 0, "told": 0}
    for case in cases:
        mine = case.played.label == 0
        out["records"] += int(mine.sum())
        if EVIDENCE in case.played.scores:
            out["told"] += int((mine & (case.played.scores[EVIDENCE] >= TOLD)).sum())
    return out


def lookalike_row(name: str, cases: Sequence[Case]) -> dict[str, Any]:
    """Return what a benign event raised in several lives."""
    row: dict[str, Any] = {"event": name, "lives": len(cases)}
    for whose in (GATEWAY, MODELS):
        told = [figures.found(case, whose)[0] for case in cases]
        row[whose] = sum(one.seconds is not None for one in told)
        row[f"{whose} causes"] = sorted({one.cause for one in told if one.cause})
    return row


def placebo(shams: Sequence[Case], pools: Pools) -> dict[str, Any]:
    """Return what benign traffic raised where it was put into another device's life: incidents,
    and records over the lines."""
    out: dict[str, Any] = {"placebos": len(shams), "records": 0, "over": {}}
    for whose in (GATEWAY, MODELS):
        told = [(c, figures.found(c, whose)[0]) for c in shams]
        fired = [f"{c.name}: {one.cause}" for c, one in told if one.seconds is not None]
        out[whose] = len(fired)
        out[f"{whose} fired"] = fired
    for case in shams:
        guest = np.char.startswith(case.played.uid, b"g")
        pool = pools.without(case.groups)
        out["records"] += int(guest.sum())
        for name, scores in case.played.scores.items():
            over = out["over"].setdefault(name, dict.fromkeys(AT, 0))
            for at, share in zip(AT, figures.SHARES, strict=True):
                over[at] += int((scores[guest] >= pool.line(name, share)).sum())
    return out


def summed(shams: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return placebos of several folds as one."""
    out: dict[str, Any] = {
        key: sum(sham[key] for sham in shams) for key in ("placebos", "records", GATEWAY, MODELS)
    }
    for whose in (GATEWAY, MODELS):
        out[f"{whose} fired"] = [text for sham in shams for text in sham[f"{whose} fired"]]
    out["over"] = {
        name: {at: sum(sham["over"][name][at] for sham in shams) for at in AT}
        for name in shams[0]["over"]
    }
    return out


def part(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return rows of attacks with their sums and means."""
    return {
        "rows": list(rows),
        "total": total(rows, GATEWAY),
        "models alone": total(rows, MODELS),
        "macro": macro(rows),
        "families": families(rows),
        "classes": by_class(rows),
        "own": {
            key: sum(r.get("own", {}).get(key, 0) for r in rows) for key in ("records", "told")
        },
    }


def by_class(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Return by class of device how many infected ones there were, and how many were found."""
    out: dict[str, dict[str, int]] = {}
    for row in rows:
        for kind, part in row[GATEWAY]["by_class"].items():
            sums = out.setdefault(kind, {"infected": 0, "found": 0})
            sums["infected"] += part["infected"]
            sums["found"] += part["found"]
    return out


def total(rows: Sequence[dict[str, Any]], whose: str) -> dict[str, int]:
    """Return sums over captures."""
    return {key: sum(row[whose][key] for row in rows) for key in ("infected", "found", "false")}


def _median(values: Iterable[float | int | None]) -> float | None:
    known = [float(v) for v in values if v is not None]
    return float(np.median(known)) if known else None

"""What the seed of a fit makes on networks left out: `python -m trainer.trial.seeds`.

The shipped classifier is fitted anew with seed after seed, without the networks of an inner fold,
and judged on their captures, record by record, against benign traffic that taught nothing. All of
it may teach, so nothing here looks at a capture that is kept for evaluation. Each fit takes two
minutes or more on two cores; with KERAS_BACKEND=jax it runs on a GPU.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from guardian.bundle import Scaler
from guardian.scoring import softmax
from guardian.tables import F32, F64, I32, I64, Array
from trainer import calibrate, catalogue, metrics, recipe
from trainer.recipe import Material, Recipe
from trainer.rows import Rows
from trainer.run import taught
from trainer.streams import sequences
from trainer.zoo.views import VIEWS

Echo = Callable[[str], None]

FOLDS = (
    ("pi-a", "njrat", "exposed", "joy-camera"),
    ("pi-b", "nmap", "windows-pcs", "joy-ikea"),
)
"""Networks that a fit lacks together."""
WAYS = {
    "shipped": Recipe(),
    "six epochs": replace(Recipe(), epochs=6),
    "evened": replace(Recipe(), epochs=6, evened=True),
}
ALL = "mean of the views"
NAMED = (*(f"{kind} on {', '.join(groups)}" for kind, groups in VIEWS), ALL)
BATCH = 4_096

Figures = tuple[float, float, float]
"""AUC, recall at 1 % and at 0.1 % of benign records; each the mean over captures."""


@dataclass(frozen=True)
class Judged:
    """All sequences of a capture, and which record each is of."""

    name: str
    x: F32
    length: I32
    record: I64
    label: Array
    """int8[records]: class of each record."""


def captures(networks: Sequence[str], data: Path) -> list[Judged]:
    """Return the captures of networks left out, and those of homes that never teach."""
    taught = {source.group for source in catalogue.of("train")}
    found = []
    for source in (*catalogue.of("train"), *catalogue.of("calibrate")):
        if source.group in networks or (source.use == "calibrate" and source.group not in taught):
            found += [one for one in [_judged(source, data)] if one is not None]
    return found


def _judged(source: catalogue.Source, data: Path) -> Judged | None:
    parts: list[tuple[F32, I32, I64]] = []
    labels: list[Array] = []
    total = 0
    for _, stream in catalogue.streams(source, data):
        _, first, record = np.unique(stream.slices.uid, return_index=True, return_inverse=True)
        label = stream.label[first]
        for chunk in sequences(stream):
            of = record[chunk.at]
            keep = label[of] >= 0
            made = chunk.sequences
            parts.append((made.x[keep], made.length[keep], of[keep] + total))
        labels.append(label)
        total += len(first)
    if not sum(len(part[0]) for part in parts):
        return None
    x, length, record = (np.concatenate([part[k] for part in parts]) for k in range(3))
    seen, record = np.unique(record, return_inverse=True)
    return Judged(source.name, x, length, record, np.concatenate(labels)[seen])


def of_homes(held_out: Rows) -> Judged:
    """Return the benign rows of simulated homes that never teach, each a record of its own."""
    simulated = np.array([group == "simulated" for group, _ in held_out.names])
    rows = held_out.take(np.flatnonzero((held_out.label == 0) & simulated[held_out.instance]))
    return Judged("simulated homes", rows.x, rows.length, np.arange(len(rows)), rows.label)


def fitted(train: Rows, held_out: Rows, how: Recipe, seed: int, echo: Echo) -> tuple[Any, Scaler]:
    """Fit the classifier as trainer.run does; return a model that gives the logits of every view,
    side by side, and the scaler of its input.
    """
    train = train.take(np.random.default_rng(seed).permutation(len(train)))
    weight, benign = train.weights(), train.label == 0
    scaler = calibrate.scaler(train.x[benign, -1], weight[benign])
    keras.utils.set_random_seed(seed)
    z, z_out = (scaler.apply(rows.x, rows.length) for rows in (train, held_out))
    learner, _ = taught(train, z, held_out, z_out, replace(how, seed=seed), echo)
    return learner.model, scaler


def threats(model: Any, scaler: Scaler, one: Judged) -> dict[str, F64]:
    """Return by view the threat of each record: that of its surest sequence."""
    logits = model.predict(scaler.apply(one.x, one.length), batch_size=BATCH, verbose=0)
    views = np.split(np.asarray(logits, np.float32), len(VIEWS), axis=1)
    out = {}
    for name, found in zip(NAMED, [*views, np.mean(views, axis=0)], strict=True):
        threat = np.zeros(len(one.label))
        np.maximum.at(threat, one.record, 1.0 - softmax(found)[:, 0].astype(np.float64))
        out[name] = threat
    return out


def figures(scores: Sequence[tuple[Array, F64]]) -> list[Figures]:
    """Return the figures of each capture that holds malice; `scores` has label and threat of its
    records. All captures' benign records draw the lines, each capture counting alike.
    """
    benign = [threat[label == 0] for label, threat in scores if (label == 0).any()]
    pool = np.concatenate(benign)
    weight = np.concatenate([np.full(len(one), 1.0 / len(one)) for one in benign])
    lines = [calibrate.threshold(pool, share, weight) for share in (0.01, 0.001)]
    out = []
    for label, threat in scores:
        bad = threat[label > 0]
        if len(bad):
            first, second = (metrics.found(bad, line) / len(bad) for line in lines)
            out.append((metrics.auc(pool, bad, weight), first, second))
    return out


def one_seed(
    material: Material, judged: Sequence[Sequence[Judged]], how: Recipe, seed: int, echo: Echo
) -> dict[str, Figures]:
    """Return by view the mean figures over the captures of all folds, for one seed."""
    rows: dict[str, list[Figures]] = {name: [] for name in NAMED}
    for networks, own in zip(FOLDS, judged, strict=True):
        rest = material.held_out.without(networks)
        model, scaler = fitted(material.train.without(networks), rest, how, seed, echo)
        found = [(one.label, threats(model, scaler, one)) for one in (*own, of_homes(rest))]
        for name in NAMED:
            rows[name] += figures([(label, threat[name]) for label, threat in found])
    return {name: _mean(several) for name, several in rows.items()}


def _mean(rows: Sequence[Figures]) -> Figures:
    auc, first, second = np.mean(np.array(rows), axis=0).tolist()
    return auc, first, second


def table(way: str, found: Mapping[str, Sequence[Figures]]) -> str:
    """Return rows of a table: mean and standard deviation over seeds."""
    out = []
    for name, rows in found.items():
        values = np.array(rows)
        mean = values.mean(axis=0)
        spread = values.std(axis=0, ddof=1) if len(rows) > 1 else np.full(3, np.nan)
        cells = [f"{mean[0]:.3f} ± {spread[0]:.3f}"]
        cells += [f"{100 * mean[k]:.0f} ± {100 * spread[k]:.0f} %" for k in (1, 2)]
        out.append(f"| {way}: {name} | {len(rows)} | " + " | ".join(cells) + " |")
    return "\n".join(out)


def main() -> int:
    """Print the tables; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--way", choices=WAYS, action="append", help="all where none is given")
    parser.add_argument("--quick", action="store_true", help="little material: to try the way")
    given = parser.parse_args()

    def echo(text: str) -> None:
        sys.stderr.write(text + "\n")

    material = recipe.prepare(given.data, [], recipe.QUICK if given.quick else Recipe(), echo)
    judged = [captures(networks, given.data) for networks in FOLDS]
    print("| classifier | seeds | AUC | at 1 % | at 0.1 % |\n|---|---|---|---|---|")
    for way in given.way or WAYS:
        seeds = [one_seed(material, judged, WAYS[way], 1 + k, echo) for k in range(given.seeds)]
        print(table(way, {name: [one[name] for one in seeds] for name in NAMED}), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

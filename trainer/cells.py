"""The cells of the table of models by set: what is trained on what, how small, and one of them.

A cell is a run's folder named by the digest of all that decides it, so a table goes on where it
was killed.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from guardian.errors import GuardianError
from guardian.featurelist import NAMES
from trainer.fitting.how import Fit
from trainer.fitting.run import Splitting, write_json
from trainer.sets.prepared import Prepared
from trainer.zoo.config import Config
from trainer.zoo.family import REGISTRY, Family

Echo = Callable[[str], None]

VERSION = 1
"""Counted up where the same settings give other figures: every cell is then made anew."""
CELL = "cell.json"
WINDOW = 10
EPOCHS, PATIENCE = 4, 2
TREES = 50
SEED = 1


@dataclass(frozen=True)
class Plan:
    """How one set is taken into the table: small enough to finish."""

    name: str
    by: str
    folds: tuple[tuple[str, ...], ...] = ((),)
    """Captures that are the test of each fold; () where `by` deals the rows out."""
    stride: int = 1
    """Every so manieth sequence is taken, of train, validation and test."""
    limit: int | None = None
    """First rows of each file alone."""
    most: int | None = None
    """Rows spread evenly, of a set without order."""
    note: str = ""
    """What a reader must know of this set to read its figures."""


def _iot23(malware: str, honeypot: str) -> tuple[str, ...]:
    return (f"CTU-Malware-Capture-{malware}-labeled", f"CTU-Honeypot-Capture-{honeypot}-labeled")


IOT23_FOLDS = (
    _iot23("8-1", "4-1"), _iot23("20-1", "4-1"), _iot23("42-1", "5-1"), _iot23("44-1", "5-1"),
)  # fmt: skip
_IOT23_NOTE = (
    "Four folds: each malware capture is the test once, with one honeypot beside it, and nothing"
    " of the two is in train or validation; figures are means over the folds. Each capture has"
    " its own malware with its own kind of C&C, so what is left out was never seen, and a model"
    " that is sure of what it knows ranks it below the bursts of benign devices: an AUC below 0.5"
    " is no mistake of labels (split by time within the captures, boosted trees have 1.000 on the"
    " same rows). Benign rows of a malware capture are the infected Pi's own, between its attacks."
    " Two fifths of the rows of 42-1 are C&C, so neighbours of both kinds share sequences."
)

PLANS: dict[str, Plan] = {
    plan.name: plan
    for plan in (
        Plan("nbaiot", "time", limit=10_000, note=(
            "Split by time within each file: by group only one class would be in train. The jitter"
            " columns (HH_jit) hold times since 1970, which are cut here; without them most rows of"
            " the TCP flood are equal, and of the whole set 20,296 of 20,447 test rows also stand"
            " in train. Benign test sequences are 61, so figures at 0.1 % and 1 % false positives"
            " rest on none or one of them. Always to say attack has an F1 of 0.985 here, and one"
            " feature parts the files: a high figure shows nothing."
        )),
        Plan("iot23-gateway", "group", IOT23_FOLDS, stride=4, note=_IOT23_NOTE),
        Plan("iot23", "group", (IOT23_FOLDS[0], IOT23_FOLDS[2]), stride=4, note=_IOT23_NOTE),
        Plan("nslkdd", "row", most=12_000),
        Plan("cicids2017", "row", most=12_000),
        Plan("unswnb15", "row"),
        Plan("unswnb15-10k", "row"),
        Plan("iotid20", "row"),
        Plan("stratosphere-gateway", "group", stride=4),
        Plan("stratosphere", "time", stride=2, note=(
            "Split by time within each host: benign rows are in two captures and nine more, too few"
            " to keep captures apart for train, validation and test."
        )),
        Plan("mqttset", "group", note=(
            "Each attack has its own capture: the one in test, a slow denial of service, was never"
            " seen in train. A machine that is attacked is benign itself."
        )),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One family on one fold of one set."""

    plan: Plan
    family: str
    fold: int = 0
    part: str = ""
    """Of the ablation table: what is off."""
    changes: tuple[tuple[str, Any], ...] = ()
    seed: int = SEED

    def config(self) -> Config:
        """Return the family's hyperparameters, small."""
        family = REGISTRY[self.family]
        wished = {"window": WINDOW, "stride": self.plan.stride, "epochs": EPOCHS,
                  "patience": PATIENCE, "trees": TREES, "monte_carlo": 0}  # fmt: skip
        changes: dict[str, Any] = {k: value for k, value in wished.items() if k in family.uses}
        return family.config(**changes, **dict(self.changes))

    def split(self) -> Splitting:
        """Return how the rows are dealt out."""
        return Splitting(self.plan.by, SEED, test=self.plan.folds[self.fold])


def fits(family: Family, prepared: Prepared) -> str:
    """Return why a family cannot be had on a set; empty where it can."""
    if family.own and prepared.features != tuple(NAMES):
        return "reads the gateway's own features alone"
    return ""


def cells_of(plan: Plan, families: list[str]) -> Iterator[Cell]:
    """Yield the cells of a set."""
    for family in families:
        for fold in range(len(plan.folds)):
            yield Cell(plan, family, fold)


ABLATED = ("nbaiot", "iot23-gateway")
ABLATION_SEEDS = (1, 2, 3)
"""The whole model by several seeds says how much chance alone moves a figure."""
ABLATION_FOLDS = 2


def ablation_cells(plan: Plan) -> Iterator[Cell]:
    """Yield the cells of the ablation table of temporal-attention on one set."""
    from trainer.zoo.temporal_attention import ablations  # noqa: PLC0415 - needs keras

    folds = plan.folds if len(plan.folds) < ABLATION_FOLDS else plan.folds[::2]
    small = replace(plan, stride=2 * plan.stride, folds=folds)
    base = Cell(small, "temporal-attention").config()
    for number, (part, config) in enumerate(ablations(base)):
        off = tuple(
            (key, value) for key, value in asdict(config).items() if getattr(base, key) != value
        )
        for seed in ABLATION_SEEDS if not number else (SEED,):
            for fold in range(len(small.folds)):
                yield Cell(small, "temporal-attention", fold, part, off, seed)


def thinned(prepared: Prepared, most: int | None) -> Prepared:
    """Return a set without order with at most so many rows, and say so."""
    if most is None or len(prepared) <= most:
        return prepared
    rows = np.linspace(0, len(prepared) - 1, most).astype(np.int64)
    return replace(
        prepared.take(rows),
        digest=hashlib.sha256(f"{prepared.digest} {most}".encode()).hexdigest(),
        comparable=False,
        why=f"{prepared.why} {most:,} of {len(prepared):,} rows were taken, spread evenly.".strip(),
    )


def place_of(cell: Cell, prepared: Prepared, runs: Path) -> Path:
    """Return the folder of a cell: its name has the digest of all that decides it."""
    decides = [VERSION, cell.family, cell.fold, asdict(cell.config()), asdict(cell.split()),
               cell.seed, prepared.digest]  # fmt: skip
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
    return runs / f"{cell.plan.name}-{cell.family}-{digest[:12]}"


def made(cell: Cell, prepared: Prepared, runs: Path) -> dict[str, Any] | None:
    """Return what a cell came to, where it was made."""
    try:
        found: dict[str, Any] = json.loads(
            (place_of(cell, prepared, runs) / CELL).read_text(encoding="utf-8")
        )
    except (OSError, ValueError):
        return None
    return found


def make(
    cell: Cell, prepared: Prepared, runs: Path, *, other: Path | None, echo: Echo
) -> dict[str, Any]:
    """Return what a cell came to; it is trained unless its folder has that already.

    The model's form is made for the first fold alone: another fold's has the same layers. A cell
    that cannot be made says why.
    """
    if known := made(cell, prepared, runs):
        return known
    from trainer.experiment import run_experiment  # noqa: PLC0415 - what is made needs none

    folder = place_of(cell, prepared, runs)
    config = cell.config()
    how = Fit(epochs=config.epochs, batch=config.batch, rate=config.rate,
              patience=config.patience, weight_decay=config.weight_decay)  # fmt: skip
    begun = time.process_time()
    try:
        result = run_experiment(
            prepared, cell.family, config, cell.split(), folder, how=how, seed=cell.seed,
            echo=_silent,
        )  # fmt: skip
        spent = time.process_time() - begun
        about = result.about
        out: dict[str, Any] = {
            "set": cell.plan.name, "family": cell.family, "fold": cell.fold, "part": cell.part,
            "seed": cell.seed, "processor_seconds": round(spent, 1),
            **{key: about[key] for key in (
                "digest", "split", "rows", "sequences", "parameters", "comparable", "warnings",
                "baselines", "seconds")},
            "test": _short(about["metrics"]["test"]),
        }  # fmt: skip
        if not cell.part and not cell.fold:
            out["forms"] = _forms(folder, prepared, other)
    except GuardianError as error:
        out = {"set": cell.plan.name, "family": cell.family, "fold": cell.fold, "part": cell.part,
               "error": str(error)}  # fmt: skip
    write_json(folder / CELL, out)
    _clear()
    auc = out.get("test", {}).get("auc")
    echo(f"{cell.plan.name} {cell.family} {cell.part} fold {cell.fold + 1}: "
         f"{'AUC ' + format(auc, '.3f') if auc is not None else out.get('error', 'no AUC')}, "
         f"{time.process_time() - begun:.0f} s")  # fmt: skip
    return out


def _short(test: dict[str, Any]) -> dict[str, Any]:
    keys = ("sequences", "attacks", "auc", "average_precision", "recall_at_0.001",
            "recall_at_0.01", "recall_at_0.1")  # fmt: skip
    return {key: test.get(key) for key in keys} | {
        "f1": test["at"]["f1"], "accuracy": test["at"]["accuracy"], "line": test["at"]["method"],
    }  # fmt: skip


def _forms(folder: Path, prepared: Prepared, other: Path | None) -> dict[str, Any]:
    """Return the int8 form of a run's model, or the better one where int8 loses too much."""
    from trainer.forms import keep_rows, write_forms  # noqa: PLC0415 - needs keras
    from trainer.zoo.export import FORMS, MOST_LOST_AUC  # noqa: PLC0415

    keep_rows(folder, prepared)
    for forms in (("int8",), FORMS):
        found = write_forms(
            folder, folder / "forms", forms=forms, other=other, seconds=0.05, echo=_silent
        )
        parts = found.get("members", {"": found}).values()
        lost = [f["auc_lost"] or 0.0 for part in parts for f in part["forms"]]
        if max(lost) <= MOST_LOST_AUC:
            break
    return found


def _clear() -> None:
    """Forget the models of the last cell."""
    import sys  # noqa: PLC0415

    if "keras" in sys.modules:
        sys.modules["keras"].backend.clear_session()


def _silent(_line: str) -> None:
    """Tell nobody."""

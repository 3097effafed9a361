"""The table of models by set: its cells go on where they were killed, its page says what is so."""

# ruff: noqa: PLC0415 - collecting tests needs no tensorflow
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guardian.errors import ConfigError, GuardianError, InputError
from tests.conftest import ROOT
from tests.test_experiment import made as toy
from trainer import published, tablepage
from trainer.cells import PLANS, Cell, ablation_cells, place_of, thinned
from trainer.fitting.run import Splitting, read_config
from trainer.sets.athand import SETS
from trainer.sets.split import split
from trainer.zoo.family import REGISTRY

PAGE = ROOT / "docs" / "models-by-set.md"


def committed() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(PAGE.with_suffix(".json").read_text(encoding="utf-8"))
    return found


@pytest.mark.train
def test_a_killed_table_goes_on_where_it_was(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorflow")
    from trainer import table

    wanted: dict[str, Any] = {"only": ("boosted", "forest"), "sets": ("unswnb15-10k",)}
    first = table.fill(data, tmp_path, **wanted)
    (entry,) = first["sets"]
    assert [cell["family"] for cell in entry["cells"]] == ["boosted", "forest"]
    for cell in entry["cells"]:
        assert 0.5 < cell["test"]["auc"] <= 1
        assert cell["forms"]["forms"][0]["bytes"] > 1_000
        assert set(cell["baselines"]) == {"majority", "best feature", "pca"}

    trained: list[str] = []

    def instead(*given: Any, **how: Any) -> Any:
        trained.append(given[1])
        raise InputError("no more")

    monkeypatch.setattr("trainer.experiment.run_experiment", instead)
    assert table.fill(data, tmp_path, **wanted) == first
    assert not trained
    next(tmp_path.glob("*-forest-*/cell.json")).unlink()
    again = table.fill(data, tmp_path, **wanted)
    assert trained == ["forest"]  # alone, and what cannot be made says why
    assert again["sets"][0]["cells"][1]["error"] == "no more"
    assert "`forest` could not be made: no more." in tablepage.page(again)
    with pytest.raises(GuardianError, match="did you mean nbaiot"):
        table.fill(data, tmp_path, sets=("nbaoit",))
    with pytest.raises(ConfigError, match="did you mean boosted"):
        table.fill(data, tmp_path, only=("bosted",))


def test_a_cells_folder_follows_from_all_that_decides_it(tmp_path: Path) -> None:
    prepared = toy()
    cell = Cell(PLANS["nslkdd"], "boosted")
    place = place_of(cell, prepared, tmp_path)
    assert place == place_of(Cell(PLANS["nslkdd"], "boosted"), prepared, tmp_path)
    for other in (
        replace(cell, family="forest"), replace(cell, seed=2),
        replace(cell, changes=(("leaves", 5),)), replace(cell, plan=PLANS["nbaiot"]),
    ):  # fmt: skip
        assert place_of(other, prepared, tmp_path) != place
    assert place_of(cell, replace(prepared, digest="x"), tmp_path) != place


def test_a_set_is_thinned_evenly_and_says_so() -> None:
    prepared = toy(ordered=False)
    small = thinned(prepared, 100)
    assert len(small) == 100
    assert set(small.group.tolist()) == set(prepared.group.tolist())
    assert small.digest != prepared.digest
    assert "100 of 960 rows" in small.why
    assert thinned(prepared, 1_000) is prepared


@pytest.mark.train
def test_every_part_is_off_once_in_the_ablations() -> None:
    pytest.importorskip("tensorflow")
    from trainer.zoo.temporal_attention import SWITCHES

    cells = list(ablation_cells(PLANS["nbaiot"]))
    off = {cell.part: dict(cell.changes) for cell in cells if cell.seed == 1}
    assert off["all parts"] == {}
    assert off["no part"] == dict.fromkeys(SWITCHES, False)
    assert {f"without {name}" for name in SWITCHES} < set(off)
    assert all(off[f"without {name}"] == {name: False} for name in SWITCHES)
    assert len({cell.seed for cell in cells if cell.part == "all parts"}) == 3


def test_captures_that_are_named_are_the_test_and_nothing_else_is() -> None:
    prepared = toy()
    left = ("capture1", "capture4")
    dealt = split(prepared, by="group", test=left)
    groups = np.array(prepared.groups)
    assert set(groups[prepared.group[dealt.test]]) == set(left)
    taught = set(groups[prepared.group[np.concatenate([dealt.train, dealt.valid])]])
    assert taught == set(groups) - set(left)
    assert len(dealt.train) > 0 < len(dealt.valid)
    assert len(dealt.train) + len(dealt.valid) + len(dealt.test) == len(prepared)
    assert "test capture1 and capture4" in dealt.how
    for by, test, words in (
        ("group", ("capture9",), "no capture capture9"),
        ("time", left, "split by group"),
        ("group", tuple(prepared.groups[1:]), "no two captures are left"),
    ):
        with pytest.raises(InputError, match=words):
            split(prepared, by=by, test=test)  # type: ignore[arg-type]


@pytest.mark.train
def test_a_run_remembers_which_captures_were_its_test(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    from trainer.experiment import run_experiment

    config = REGISTRY["boosted"].config(window=4, trees=5)
    splitting = Splitting("group", 1, test=("capture2",))
    found = run_experiment(toy(), "boosted", config, splitting, tmp_path, echo=lambda _line: None)
    assert list(found.about["metrics"]["test"]["by_group"]) == ["capture2"]
    assert read_config(tmp_path).split == splitting


@pytest.mark.train
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_rare_class_does_not_spoil_the_others_of_boosted_trees(data: Path) -> None:
    pytest.importorskip("sklearn")
    from threadpoolctl import threadpool_limits

    from trainer.metrics import auc
    from trainer.sets.registry import prepare
    from trainer.zoo.boosted import fit

    prepared = thinned(prepare("nslkdd", [data], cache=None), 12_000)
    dealt = split(prepared, by="row")
    assert 0 < (prepared.label[dealt.train] == prepared.classes.index("u2r")).sum() < 20
    x = np.asarray(prepared.x)[:, None, :]
    config = REGISTRY["boosted"].config(trees=50)
    with threadpool_limits(1):  # threads that wait for each other take minutes on a busy machine
        grown = fit(x[dealt.train], prepared.label[dealt.train], None, config, 1)
    from guardian import trees

    score = grown.score(trees.summary(x[dealt.test]))
    attack = prepared.label[dealt.test] > 0
    assert auc(score[~attack], score[attack]) > 0.999


# --- the page ---------------------------------------------------------------------------


def cell(family: str, auc: float, trivial: float, fold: int = 0, **more: Any) -> dict[str, Any]:
    test = {"sequences": 100, "attacks": 40, "auc": auc, "average_precision": 0.5, "f1": 0.6,
            "accuracy": 0.7, "recall_at_0.001": 0.1, "recall_at_0.01": 0.2}  # fmt: skip
    return {
        "family": family, "fold": fold, "part": "", "seed": 1, "test": test, "parameters": 5_000,
        "processor_seconds": 3.2, "sequences": {"window": 10}, "config": {"stride": 1},
        "split": f"by captures: 3 train, 1 valid, test capture{fold}",
        "baselines": {"best feature": {"feature": "a", "high_is_attack": True, "auc": trivial},
                      "pca": {"auc": 0.5}},
    } | more  # fmt: skip


def entry(*cells: dict[str, Any], name: str = "nbaiot") -> dict[str, Any]:
    facts = {"rows": 1_000, "features": 4, "classes": {"benign": 600, "attack": 400},
             "comparable": False, "why": "It is made up."}  # fmt: skip
    table = {
        "name": name,
        "facts": facts,
        "note": "Mind this.",
        "left_out": {},
        "cells": list(cells),
    }
    return {"sets": [table], "ablations": []}


def test_a_model_that_is_worse_than_one_feature_is_called_so() -> None:
    text = tablepage.page(entry(cell("boosted", 0.7, 0.9), cell("forest", 0.95, 0.9),
                                cell("vae", 0.9, 0.9)))  # fmt: skip
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    assert "**worse** by 0.200" in rows["`boosted`"]
    assert "better by 0.050" in rows["`forest`"]
    assert "the same" in rows["`vae`"]
    assert "| (0.700) |" in text
    assert "| always attack | 0.500 | 0.400 | 0.571 | 0.400 |" in text
    assert "Published: N-BaIoT, 115 features" in text
    assert "accuracy 98.5 %, AUC 99.2 %, F1 98.7 %" in text
    for words in ("It is made up.", "**Not comparable**", "Mind this."):
        assert words in text


def test_folds_are_means_and_stand_one_by_one() -> None:
    text = tablepage.page(entry(cell("boosted", 0.2, 0.9), cell("boosted", 0.8, 0.7, fold=1)))
    (row,) = (line for line in text.splitlines() if line.startswith("| `boosted` | 0.200 |"))
    assert row == "| `boosted` | 0.200 | 0.800 |"
    assert "| `boosted` | 0.500 | 0.500 | 0.600 |" in text
    assert "| one feature | 0.900 | 0.700 |" in text


def test_the_page_in_docs_is_made_of_the_figures_beside_it() -> None:
    assert PAGE.read_text(encoding="utf-8") == tablepage.page(committed())


def test_every_set_at_hand_is_in_the_table_or_has_nothing_to_judge() -> None:
    without = {"homes", "hai"}  # benign alone; not at hand
    assert set(PLANS) == set(SETS) - without
    sets = {entry["name"]: entry for entry in committed()["sets"]}
    assert set(sets) == set(PLANS)
    for name, found in sets.items():
        told = {cell["family"] for cell in found["cells"]} | set(found["left_out"])
        assert told == set(REGISTRY), name
        for done in found["cells"]:
            assert "error" in done or done["test"]["sequences"] > 0
            if "error" not in done and not done["fold"]:
                parts = done["forms"].get("members") or {"": done["forms"]}
                for part in parts.values():
                    for form in part["forms"]:
                        runtimes = set(form["microseconds"])
                        assert runtimes in ({"numpy"}, {"ai_edge_litert", "tflite_runtime"})
    assert {found["name"] for found in committed()["ablations"]} == {"nbaiot", "iot23-gateway"}


def test_published_figures_name_their_caveat() -> None:
    for claim in published.PUBLISHED:
        assert claim.caveat
        assert all(name in SETS for name in claim.sets)
        assert all(0 < value <= 1 for _, value in claim.figures)
    assert dict(published.of("nbaiot")[0].figures) == {"accuracy": 0.985, "auc": 0.992, "f1": 0.987}

"""The search looks at validation alone, goes on where it was stopped, and finds what is best."""

# ruff: noqa: PLC0415 - collecting tests needs no tensorflow
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guardian.errors import ConfigError, InputError
from tests.test_experiment import QUICK, made
from trainer.fitting.run import Splitting
from trainer.zoo.config import Config
from trainer.zoo.family import REGISTRY

pytestmark = pytest.mark.train
pytest.importorskip("optuna")


def hill(config: Config, folder: Path) -> float:
    """Best at a rate of 3e-3 and half the width."""
    return float(-abs(np.log(config.rate / 3e-3)) - config.hidden[0] / 100.0)


def searched(folder: Path, trials: int, attempt: Any = hill, seed: int = 1) -> Any:
    from trainer.fitting.search import search

    family = REGISTRY["lstm-classifier"]
    lines: list[str] = []
    found = search(
        family, family.config(hidden=[20, 10]), attempt, folder, trials=trials, seed=seed,
        echo=lines.append,
    )  # fmt: skip
    return (*found, lines)


def test_it_finds_what_is_better_and_keeps_it(tmp_path: Path) -> None:
    config, value, lines = searched(tmp_path, 15)
    start = hill(REGISTRY["lstm-classifier"].config(hidden=[20, 10]), tmp_path)
    assert value > start + 0.05
    assert hill(config, tmp_path) == pytest.approx(value)
    kept = json.loads((tmp_path / "best.json").read_text())
    assert kept["config"]["rate"] == config.rate
    assert len(lines) == 15
    assert f"{start:.4f}" in lines[0]  # the config itself comes first


def test_an_interrupted_search_goes_on_as_it_would_have(tmp_path: Path) -> None:
    seen: list[float] = []

    def stopping(config: Config, folder: Path) -> float:
        if len(seen) == 4:
            raise KeyboardInterrupt
        seen.append(config.rate)
        return hill(config, folder)

    with pytest.raises(KeyboardInterrupt):
        searched(tmp_path / "a", 8, stopping)
    _, _, more = searched(tmp_path / "a", 8)
    assert len(more) == 4
    assert more[0].startswith("trial 5/8")
    whole, value, _ = searched(tmp_path / "b", 8)
    again, same, _ = searched(tmp_path / "a", 8)
    assert value == searched(tmp_path / "c", 8)[1]  # the same seed finds the same
    assert same == value == hill(again, tmp_path)
    assert whole == searched(tmp_path / "b", 8)[0]


def test_failing_trials_are_told_and_another_search_is_refused(tmp_path: Path) -> None:
    def failing(config: Config, folder: Path) -> float:
        if config.hidden[0] == 20:
            raise InputError("no sequence to learn from")
        return hill(config, folder)

    _, _, lines = searched(tmp_path, 8, failing)
    assert "trial 1/8: no sequence to learn from" in lines
    with pytest.raises(InputError, match="another search"):
        searched(tmp_path, 8, failing, seed=2)

    def never(config: Config, folder: Path) -> float:
        raise InputError("nothing works")

    with pytest.raises(InputError, match="every trial failed"):
        searched(tmp_path / "b", 2, never)
    with pytest.raises(ConfigError, match="1 or more"):
        searched(tmp_path / "c", 0)


@pytest.mark.parametrize("family", sorted(set(REGISTRY) - {"ensemble"}))
def test_every_family_has_a_space_of_configs_it_takes(family: str) -> None:
    import optuna

    from trainer.fitting.search import _base, space

    config = REGISTRY[family].config()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    study.enqueue_trial(_base(REGISTRY[family], config))
    assert space(study.ask(), REGISTRY[family], config) == config
    for _ in range(5):
        drawn = space(study.ask(), REGISTRY[family], config)
        if "heads" in REGISTRY[family].uses:
            assert drawn.hidden[0] % drawn.heads == 0


def test_the_search_never_sees_test_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer import experiment, material
    from trainer.sets.split import split

    prepared = made()
    tests = set(split(prepared, by="group", seed=1).test.tolist())
    looked: list[set[int]] = []
    plain = material.Sequences.x

    def watched(self: Any, pick: Any = slice(None)) -> Any:
        looked.append(set(self.ends[pick].tolist()) & tests)
        return plain(self, pick)

    monkeypatch.setattr(material.Sequences, "x", watched)
    at_end: list[int] = []

    def echo(line: str) -> None:
        if line.startswith("trial 3/3"):
            at_end.append(len(looked))

    config = REGISTRY["boosted"].config(window=6, trees=6)
    found = experiment.search_experiment(
        prepared, "boosted", config, Splitting(), tmp_path, trials=3, how=QUICK, echo=echo
    )
    assert not any(looked[: at_end[0]])  # none in three trials
    assert any(looked[at_end[0] :])  # then once, to judge the best
    assert found.figure("auc") is not None
    assert (tmp_path / "search" / "study.db").exists()
    assert json.loads((tmp_path / "search" / "trial-0" / "result.json").read_text())[
        "metrics"
    ].keys() == {"valid"}

"""Lines through scores: properties that hold for any scores, and known distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from guardian.errors import ConfigError
from guardian.tables import F64, Array
from trainer import thresholds
from trainer.thresholds import METHODS, Scored, draw, extreme, judged, percentile, table

values = st.floats(-1e6, 1e6, width=32)
scores = npst.arrays(np.float64, st.integers(2, 60), elements=values)
pairs = st.tuples(scores, scores)


@given(scores, st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=100)
def test_a_higher_percentile_never_flags_more(found: F64, one: float, two: float) -> None:
    none = np.zeros(0)
    few, many = sorted((one, two))
    above_few = found > percentile(few)(found, none)
    above_many = found > percentile(many)(found, none)
    assert above_few.sum() <= above_many.sum()
    assert above_few.mean() <= few + 1e-9  # and never more than was wished


@given(scores, st.floats(0, 10), st.floats(0, 10))
@settings(max_examples=50)
def test_more_sigmas_never_flag_more(found: F64, one: float, two: float) -> None:
    none = np.zeros(0)
    low, high = sorted((one, two))
    assert thresholds.mean_sigma(low)(found, none) <= thresholds.mean_sigma(high)(found, none)


@given(scores, st.floats(1e-6, 0.5), st.floats(1e-6, 0.5))
@settings(max_examples=50)
def test_a_rarer_extreme_is_never_lower(found: F64, one: float, two: float) -> None:
    rare, often = sorted((one, two))
    data = np.concatenate([found] * 20) + np.random.default_rng(0).normal(size=20 * len(found))
    none = np.zeros(0)
    if often <= 0.05:  # within one tail
        assert extreme(rare)(data, none) >= extreme(often)(data, none) - 1e-6


@given(scores, scores, st.sampled_from(sorted(METHODS)))
@settings(max_examples=150)
def test_every_line_is_a_number(benign: F64, attacks: F64, method: str) -> None:
    for many in (benign, np.repeat(benign, 40)):
        assert math.isfinite(METHODS[method](many, attacks))


@given(pairs)
@settings(max_examples=100)
def test_the_best_lines_are_best(data: tuple[F64, F64]) -> None:
    benign, attacks = data

    def at(line: float) -> tuple[float, float]:
        hits, false = (attacks > line).mean(), (benign > line).mean()
        found = hits * len(attacks)
        return math.sqrt(hits * (1 - false)), 2 * found / (
            found + false * len(benign) + len(attacks)
        )

    every = [at(line) for line in np.concatenate([benign, attacks, [-1e9]])]
    gmean, f1 = (thresholds.best_gmean(*data), thresholds.best_f1(*data))
    assert at(gmean)[0] == pytest.approx(max(g for g, _ in every))
    assert at(f1)[1] == pytest.approx(max(f for _, f in every))


@pytest.mark.parametrize("rate", [1e-2, 1e-3, 1e-4])
def test_extreme_values_hit_the_wished_rate_on_exponential_scores(rate: float) -> None:
    rng = np.random.default_rng(1)
    lines = np.array([extreme(rate)(rng.exponential(3.0, 20_000), np.zeros(0)) for _ in range(20)])
    reached = np.exp(-lines / 3.0)  # the true share above each line
    assert rate / 1.5 < np.median(reached) < rate * 1.5
    assert (reached < rate * 4).all()
    assert (reached > rate / 4).all()


@pytest.mark.parametrize(("shape", "draws"), [(0.3, "pareto"), (-0.5, "uniform-like")])
def test_the_tails_shape_is_found(shape: float, draws: str) -> None:
    u = np.random.default_rng(2).uniform(size=50_000)
    peaks = np.sort(2.0 / shape * (u**-shape - 1.0))
    found, scale = thresholds._pareto(peaks)
    assert found == pytest.approx(shape, abs=0.03), draws
    assert scale == pytest.approx(2.0, rel=0.03)


def test_an_extreme_line_may_lie_beyond_all_that_was_seen() -> None:
    seen = np.random.default_rng(3).exponential(size=2_000)
    assert extreme(1e-6)(seen, np.zeros(0)) > seen.max()
    few = np.arange(30.0)
    assert extreme(1e-3)(few, np.zeros(0)) == percentile(1e-3)(few, np.zeros(0))


def rows(seed: int = 0, sizes: tuple[int, ...] = (400, 300, 20)) -> tuple[F64, Array, Array]:
    """Scores of three groups on different levels; a tenth are attacks, higher by 5."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)) * 7, sizes)
    attack = rng.uniform(size=len(group)) < 0.1
    return rng.normal(size=len(group)) + group / 7 + 5.0 * attack, attack, group


@pytest.mark.parametrize("method", METHODS)
def test_a_group_with_few_rows_takes_the_global_line(method: str) -> None:
    score, attack, group = rows()
    line = draw(method, score, attack, group, scope="device")
    assert set(line.groups) == {0, 7}
    assert line.of(np.array([14, 3, 99])).tolist() == [line.value] * 3
    assert line.value == draw(method, score, attack).value
    apart = draw(method, score, attack, group, scope="device", shrink=0.0)
    for number in (0, 7):  # drawn toward the global one, not past it
        ends = sorted((apart.groups[number], line.value))
        assert ends[0] <= line.groups[number] <= ends[1]
        own = group == number
        assert apart.groups[number] == draw(method, score[own], attack[own]).value
    assert draw(method, score, attack, group, fewest=10_000).groups == {}


def test_shrinking_grows_toward_the_global_line() -> None:
    score, attack, group = rows()
    distance = [
        abs(line.groups[0] - line.value)
        for shrink in (0.0, 100.0, 1e4, 1e9)
        for line in [draw("1 % false positives", score, attack, group, shrink=shrink)]
    ]
    assert distance == sorted(distance, reverse=True)
    assert distance[-1] < 1e-4 < distance[0]


def test_lines_are_drawn_on_validation_alone() -> None:
    score, attack, group = rows()
    valid = Scored(score, attack, {"device": group})
    other = rows(1)
    one = table(valid, Scored(other[0], other[1], {"device": other[2]}))
    two = table(valid, Scored(other[0] * -3, ~other[1], {"device": other[2]}))
    assert [r["threshold"] for r in one] == [r["threshold"] for r in two]
    assert [r["valid"] for r in one] == [r["valid"] for r in two]
    assert [r["test"] for r in one] != [r["test"] for r in two]


def test_the_table_is_what_a_user_chooses_from() -> None:
    score, attack, group = rows()
    found = table(
        Scored(score, attack, {"device": group}), Scored(score, attack, {"device": group})
    )
    assert len(found) == 2 * len(METHODS)
    ten = next(r for r in found if r["method"] == "10 % false positives")
    assert ten["valid"]["false_positives"] == pytest.approx(0.1, abs=0.002)
    line = draw("10 % false positives", score, attack)
    wanted = float((score[attack] > line.value).mean())
    assert ten["test"]["detection"] == wanted
    text = thresholds.markdown(found)
    promised = f"{ten['valid']['false_positives']:.2%}"
    assert (
        f"| 10 % false positives | global | {line.value:.4g} | {promised} | {wanted:.2%} |" in text
    )
    assert "device (2 lines of their own)" in text
    strangers = Scored(score, attack, {"device": group + 1})  # none has a line of its own
    assert len(table(Scored(score, attack, {"device": group}), strangers)) == len(METHODS)
    # Devices on different levels: lines of their own spare the quiet ones' attacks.
    own = next(r for r in found if (r["method"], r["scope"]) == ("1 % false positives", "device"))
    all_ = next(r for r in found if (r["method"], r["scope"]) == ("1 % false positives", "global"))
    assert own["test"]["detection"] > all_["test"]["detection"]


def test_without_attacks_only_lines_that_need_none() -> None:
    score, attack, _ = rows()
    benign = Scored(score[~attack], attack[~attack], {})
    names = [r["method"] for r in table(benign, benign)]
    assert set(METHODS) - set(names) == set(thresholds.NEED_ATTACKS)
    assert judged(draw("mean + 3 sigma", benign.score, benign.attack), benign.score,
                  benign.attack, np.zeros(len(benign.score)))["detection"] is None  # fmt: skip


def test_what_cannot_be_drawn_is_said() -> None:
    score, attack, _ = rows()
    with pytest.raises(ConfigError, match="no threshold 'p99'"):
        draw("p99", score, attack)
    with pytest.raises(ConfigError, match="needs attacks"):
        draw("best F1", score, np.zeros(len(score), np.bool_))
    with pytest.raises(ConfigError, match="benign rows"):
        draw("best F1", score, np.ones(len(score), np.bool_))
    with pytest.raises(ConfigError, match="finite"):
        draw("best F1", np.where(attack, np.nan, score), attack)

"""What a week's limit costs: the formula is that of the week itself, the figures those told."""

from __future__ import annotations

import random
import re

import pytest

from guardian.const import NS
from guardian.week import FALSE_A_WEEK, SILENT, Week, cost, full
from tests.conftest import ROOT

WEEK_S = 7 * 86_400


@pytest.mark.parametrize(("most", "a_week"), [(1, 0.5), (1, 4.0), (2, 1.0), (2, 6.5), (7, 6.5)])
def test_a_week_is_full_as_often_as_it_says(most: int, a_week: float) -> None:
    """Incidents come by chance; those that find no room are the share in which there is none."""
    rng, week, at, none = random.Random(7), Week(), 1e9, 0
    for _ in range(20_000):
        at += rng.expovariate(a_week / WEEK_S)
        now = int(at) * NS
        if week.room_at(most) > now:
            none += 1
        else:
            week.spend(now, most)
    assert full(most, a_week) == pytest.approx(none / 20_000, abs=0.015)


def test_what_is_spent_comes_back_after_seven_days() -> None:
    week, day = Week(), 86_400 * NS
    assert week.spent(0, 2) == 0.0
    week.spend(day, 2)
    assert (week.spent(2 * day, 2), week.spent(2 * day, 0)) == (0.5, 0.0)
    week.spend(3 * day, 2)
    assert week.spent(4 * day, 2) == week.spent(4 * day, 1) == 1.0
    assert week.spent(8 * day, 2) == 0.5
    assert week.spent(10 * day, 2) == 0.0


def test_no_limit_costs_nothing_and_a_higher_one_less() -> None:
    assert full(0, 6.5) == full(2, 0.0) == 0.0
    shares = [full(most, 6.5) for most in range(1, 40)]
    assert shares == sorted(shares, reverse=True)
    assert cost(0) == "nothing is held back"
    assert "less than 1 of 100" in cost(100)


def test_the_figures_are_those_that_were_measured() -> None:
    """docs/incidents.md has the tables of `python -m trainer.trial.budget`."""
    page = (ROOT / "docs" / "incidents.md").read_text(encoding="utf-8")
    made = page.partition("<!-- budget: begin -->")[2].partition("<!-- budget: end -->")[0]
    rows = re.findall(r"^\| (captures|simulated) \| \d+ \| (\d+) \|.*\| (\d+) \|$", made, re.M)
    assert len(rows) == 2
    silent = sum(int(never) for _, _, never in rows) / sum(int(found) for _, found, _ in rows)
    assert silent == pytest.approx(SILENT, abs=0.005)
    rate = re.search(r"\| a week \| ([\d.]+) false a week", made)
    assert rate is not None
    assert float(rate[1]) == pytest.approx(FALSE_A_WEEK, abs=0.05)
    told = re.findall(r"^\| (\d+) \| (\d+) %, (\d+) %", made, re.M)
    assert len(told) == 3
    for most, busy, lost in told:
        share = full(int(most), FALSE_A_WEEK)
        assert round(100 * share) == pytest.approx(int(busy), abs=1)
        assert round(100 * share * SILENT) == pytest.approx(int(lost), abs=1)

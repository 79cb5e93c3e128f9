"""Splits: which the prices bear out, which are left aside and why, and what was known of them at a moment."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from condvest.domain.actions import EPOCH, Dividend, Split, Verdict, applied_splits, judge_splits, known_at
from property import oracle
from property.oracle import Bars, Values
from property.tables import SEEN, as_split, values

FIRST = date(2024, 3, 4)
FAR = date(2030, 1, 1)


def judged(splits: Sequence[Split], bars: Bars, *, through: date = FAR) -> list[Verdict]:
    """Judge splits by plain bars."""
    days = [(day - EPOCH).days for day in sorted(bars)]
    rows = [bars[day] for day in sorted(bars)]
    return judge_splits(splits, days, [row.open for row in rows], [row.close for row in rows], through=through)


def jumping(factor: float) -> Bars:
    """Return two sessions of which the second opens at `factor` times the close of the first."""
    bar = Values(100.0, 100.0, 100.0, 100.0, 1.0, None, None)
    return {FIRST: bar, FIRST + timedelta(days=1): bar._replace(open=100.0 * factor)}


def split(day: date, old: float, new: float, kind: str = "forward_split") -> Split:
    """Return a split of the symbol A."""
    return Split("A", day, old, new, kind, SEEN)


ON = FIRST + timedelta(days=1)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[oracle.Split], Bars]:
    """Draw bars with gaps whose prices jump here and there, and splits of which some stand where they jump."""
    rand = random.Random(draw(st.integers(0, 10**6)))
    ratios = [(1.0, 2.0), (2.0, 1.0), (1.0, 4.0), (2.0, 4.0), (3.0, 2.0), (10.0, 11.0), (1.0, 7.0), (1.0, 1.0)]
    day, price, bars, splits = FIRST, 100.0, dict[date, Values](), list[oracle.Split]()
    for _ in range(draw(st.integers(1, 25))):
        day += timedelta(days=rand.choice([1, 1, 1, 2, 15, 16, 30]))
        if rand.random() < 0.4:
            old, new = rand.choice(ratios)
            price *= rand.choice([1.0, old / new, 0.7])
            splits += [oracle.Split(day, old, new)] * rand.choice([1, 1, 2])
            if rand.random() < 0.3:
                splits.append(oracle.Split(day, *rand.choice(ratios)))
        if rand.random() < 0.9:
            bars[day] = values(rand)._replace(open=price, close=price * rand.uniform(0.8, 1.25))
    return splits, bars


@settings(deadline=None, max_examples=200)
@given(cases(), st.integers(0, 200))
def test_the_splits_that_count_equal_plain_python(case: tuple[list[oracle.Split], Bars], reach: int) -> None:
    """Whatever the prices, gaps, duplicates and order of the listing: the same splits are applied, ascending by date."""
    given_splits, bars = case
    through = FIRST + timedelta(days=reach)
    shuffled = random.Random(reach).sample(given_splits, len(given_splits))
    verdicts = judged([as_split("A", one) for one in shuffled], bars, through=through)
    found = [(one.execution_date, one.price_factor) for one in applied_splits(verdicts)]
    assert found == [(one.day, one.old / one.new) for one in oracle.applied(given_splits, bars, through)]
    assert len(verdicts) == sum(one.day <= through for one in given_splits)
    assert len({day for day, _ in found}) == len(found), "two splits on one date were both applied"
    assert all(verdict.applied or verdict.reason for verdict in verdicts)


@pytest.mark.parametrize(("old", "new"), [(1, 2), (1, 7), (10, 1), (3, 2)])
@pytest.mark.parametrize("day_moves", [0.85, 1.0, 1.2])
def test_a_split_that_the_price_bears_out_is_applied(old: float, new: float, day_moves: float) -> None:
    """The open on its date is near the last close times old/new; an ordinary day's move beside it is no contradiction."""
    (verdict,) = judged([split(ON, old, new)], jumping(old / new * day_moves))
    assert verdict.applied


@pytest.mark.parametrize(("old", "new", "jump"), [(1, 2, 1.0), (10, 1, 1.0), (1, 2, 2.0), (1, 4, 0.9), (1, 20, 0.5)])
def test_a_split_that_the_price_contradicts_is_flagged(old: float, new: float, jump: float) -> None:
    """No jump, one the other way, or one of another size: the split is not applied, and the reason says the prices."""
    (verdict,) = judged([split(ON, old, new)], jumping(jump))
    assert not verdict.applied
    assert verdict.reason.startswith("the price jumped by")


def test_a_stock_dividend_is_too_small_to_contradict() -> None:
    """10 for 11 moves prices less than many a day does: it is applied without a jump."""
    assert judged([split(ON, 10, 11, "stock_dividend")], jumping(1.0))[0].applied


def test_a_split_told_twice_is_applied_once() -> None:
    """The provider repeats rows, under other names too: one is applied, the other is flagged."""
    verdicts = judged([split(ON, 1, 2), split(ON, 1, 2, "stock_dividend"), split(ON, 2, 4)], jumping(0.5))
    assert [verdict.applied for verdict in verdicts] == [True, False, False]
    assert {verdict.reason for verdict in verdicts[1:]} == {"the same split stands twice on this date"}


def test_of_two_ratios_the_one_in_the_prices_is_applied() -> None:
    """Two different splits on one date are never both applied; without a price to tell them apart neither is."""
    both = [split(ON, 1, 2), split(ON, 1, 3)]
    told = judged(both, jumping(1 / 3))
    assert [verdict.split.split_to for verdict in told if verdict.applied] == [3]
    assert [verdict.reason for verdict in told if not verdict.applied] == ["another split stands on this date"]
    untold = judged(both, {})
    assert not applied_splits(untold)
    assert "several splits on this date and no price to tell them apart" in {verdict.reason for verdict in untold}


@pytest.mark.parametrize("days", [1, 15, 16])
def test_an_old_close_is_no_evidence(days: int) -> None:
    """After a gap of more than 15 days a price says nothing about the jump: the split is applied."""
    first, second = jumping(1.0).values()
    bars = {ON - timedelta(days=days): first, ON: second}
    assert judged([split(ON, 1, 2)], bars)[0].applied is (days > 15)


def test_without_a_bar_on_its_date_there_is_no_evidence() -> None:
    """A halted symbol, a first bar, or a date without a session: the provider is believed."""
    only_before, only_on = [{day: bar} for day, bar in jumping(1.0).items()]
    for bars in ({}, only_before, only_on):
        assert judged([split(ON, 1, 2)], bars)[0].applied


def test_a_split_to_come_is_not_judged() -> None:
    """Until the lake has reached its date there is nothing to say."""
    assert judged([split(ON, 1, 2)], jumping(0.5), through=FIRST) == []
    assert len(judged([split(ON, 1, 2)], jumping(0.5), through=ON)) == 1


def test_arrays_are_judged_like_lists() -> None:
    """The resampler passes views of its arrays."""
    bars = jumping(0.5)
    days = np.array([(day - EPOCH).days for day in bars], np.int32)
    prices = np.array([bar.open for bar in bars.values()]), np.array([bar.close for bar in bars.values()])
    views = days.data, prices[0].data, prices[1].data
    assert judge_splits([split(ON, 1, 2)], *views, through=FAR) == judged([split(ON, 1, 2)], bars)


def test_what_was_known_at_a_moment() -> None:
    """As of an instant count the actions seen by then and not withdrawn by then; without one, those that stand now."""
    hour = timedelta(hours=1)
    stays, late = split(ON, 1, 2), Split("A", ON, 1, 5, "forward_split", SEEN + hour)
    gone = Split("A", ON, 1, 3, "forward_split", SEEN, SEEN + 2 * hour)
    splits = [stays, gone, late]
    assert known_at(splits, None) == [stays, late]
    assert known_at(splits, SEEN - hour) == []
    assert known_at(splits, SEEN) == [stays, gone]
    assert known_at(splits, SEEN + hour) == [stays, gone, late]
    assert known_at(splits, SEEN + 2 * hour) == [stays, late]
    paid = [Dividend("A", ON, 0.5, "USD", "recurring", SEEN + hour)]
    assert (known_at(paid, SEEN), known_at(paid, None)) == ([], paid)

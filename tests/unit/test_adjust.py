"""Adjusted prices: factors of splits and dividends, cumulated backwards, against plain Python and by their laws."""

from __future__ import annotations

import math
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from condvest.domain.actions import EPOCH, Dividend, Split
from condvest.domain.adjust import adjusted, dividend_factors, split_factors
from property import oracle
from property.oracle import Bars, Values
from property.tables import SEEN, answer_table, as_split, bars, splits

DAYS = [date(2024, 3, 4) + timedelta(days=number) for number in range(5)]
NUMBERS = np.array([(day - EPOCH).days for day in DAYS], np.int32)


def bar(close: float) -> Values:
    """Return a flat bar."""
    return Values(close, close, close, close, 100.0, close, 7)


def dividend(day: date, cash: float) -> Dividend:
    """Return a dividend of the symbol A."""
    return Dividend("A", day, cash, "USD", "recurring", SEEN)


def plain(history: Bars, split: list[Split], dividends: list[Dividend]) -> Bars:
    """Adjust bars and return them as plain values."""
    rows = adjusted(answer_table("A", history), split, dividends).to_pylist()
    return {row.pop("date"): Values(**{key: row[key] for key in Values._fields}) for row in rows}


@settings(deadline=None, max_examples=100)
@given(st.data(), bars())
def test_split_adjusted_bars_equal_plain_python(data: st.DataObject, history: Bars) -> None:
    """Prices times old/new of every later split, volume the other way; what is absent stays absent."""
    told = data.draw(splits(history))
    found = plain(history, [as_split("A", split) for split in told], [])
    expected = oracle.on_last_basis(history, told)
    assert list(found) == list(expected)
    assert oracle.differences(list(found.values()), list(expected.values())) == []


@settings(deadline=None, max_examples=60)
@given(st.data(), bars())
def test_money_and_the_last_basis_stay(data: st.DataObject, history: Bars) -> None:
    """Price times volume is the same on every basis, and a bar after the last split is what it was."""
    told = data.draw(splits(history))
    found = plain(history, [as_split("A", split) for split in told], [])
    for day, raw in history.items():
        assert math.isclose(found[day].close * found[day].volume, raw.close * raw.volume, rel_tol=1e-12)
        assert found[day].transactions == raw.transactions
        if all(split.day <= day for split in told):
            assert found[day] == raw


@settings(deadline=None, max_examples=60)
@given(st.data(), bars(), st.floats(0.01, 400))
def test_dividends_give_total_returns(data: st.DataObject, history: Bars, cash: float) -> None:
    """Across an ex-date the adjusted close moves by (close + what the dividend was worth) over the close before it."""
    day = data.draw(st.sampled_from(sorted(history)))
    found = plain(history, [], [dividend(day, cash)])
    before = [other for other in sorted(history) if other < day]
    if not before or cash >= history[before[-1]].close:
        assert found == history
        return
    last = history[before[-1]].close
    for other in before:
        assert found[other].close == pytest.approx(history[other].close * (1 - cash / last), rel=1e-12)
        assert found[other].volume == history[other].volume
    assert all(found[other] == history[other] for other in history if other >= day)


def test_factors_cumulate_backwards_in_any_order_of_the_listing() -> None:
    """Two splits and two dividends: each factor works on the sessions before its own date alone."""
    two = [Split("A", DAYS[3], 1, 2, "", SEEN), Split("A", DAYS[1], 1, 4, "", SEEN)]
    assert split_factors(NUMBERS, two).tolist() == [1 / 8, 1 / 2, 1 / 2, 1, 1]
    closes = np.array([100.0, 100.0, 100.0, 100.0, 100.0])
    paid = [dividend(DAYS[4], 10.0), dividend(DAYS[2], 50.0)]
    assert dividend_factors(NUMBERS, closes, paid, []).tolist() == pytest.approx([0.45, 0.45, 0.9, 0.9, 1.0])


def test_a_split_on_the_ex_date_puts_the_close_before_on_its_basis() -> None:
    """A dividend is per share of its ex-date: 1 dollar after a 2-for-1 split of a 100-dollar share is 2 %, not 1 %."""
    split = Split("A", DAYS[1], 1, 2, "", SEEN)
    closes = np.array([100.0, 50.0])
    assert dividend_factors(NUMBERS[:2], closes, [dividend(DAYS[1], 1.0)], [split])[0] == pytest.approx(0.98)
    after = Split("A", DAYS[2], 1, 2, "", SEEN)
    assert dividend_factors(NUMBERS[:2], closes, [dividend(DAYS[1], 1.0)], [after])[0] == pytest.approx(0.99)


def test_an_ex_date_without_a_bar_uses_the_last_close_before_it() -> None:
    """A gap or a weekend at the ex-date changes nothing of the formula; a dividend before the first bar is left out."""
    history = {DAYS[0]: bar(80.0), DAYS[1]: bar(100.0), DAYS[4]: bar(90.0)}
    found = plain(history, [], [dividend(DAYS[3], 10.0), dividend(DAYS[0], 5.0)])
    assert [row.close for row in found.values()] == pytest.approx([72.0, 90.0, 90.0])


@pytest.mark.parametrize("cash", [100.0, 250.0])
def test_a_dividend_that_is_not_below_the_close_is_left_out(cash: float) -> None:
    """No price becomes zero or negative."""
    history = {DAYS[0]: bar(100.0), DAYS[1]: bar(100.0)}
    assert plain(history, [], [dividend(DAYS[1], cash)]) == history


def test_no_actions_no_change() -> None:
    """Without actions the bars come back as they were, nulls and order included; so do no bars at all."""
    table = answer_table("A", {DAYS[0]: bar(3.0)._replace(vwap=None, transactions=None)})
    assert adjusted(table, [], []) == table
    assert adjusted(table.slice(0, 0), [Split("A", DAYS[1], 1, 2, "", SEEN)], []).num_rows == 0

"""The resampling kernel against plain Python, and the laws that period bars keep whatever the bars."""

from __future__ import annotations

from datetime import date
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from condvest.domain.calendar import INTERVALS, group_of
from condvest.domain.resample import PERIOD_SCHEMA, period_table, periods_in, resample
from condvest.errors import DataError
from property import oracle
from property.oracle import Bars, Split, Values
from property.tables import CALENDAR, SESSIONS, TABLE, as_split, bars, block, lakes, period_list, splits

lengths = st.sampled_from(INTERVALS) | st.integers(1, 300)
PLAIN = Values(10.0, 12.0, 8.0, 11.0, 100.0, 10.0, 5)


def lake_reach(lake: dict[str, Bars]) -> date:
    """Return the last session of a lake."""
    return max(day for history in lake.values() for day in history)


def expected(
    lake: dict[str, Bars], length: int, counted: dict[str, list[Split]], *, from_listing: bool = False
) -> list[oracle.Period]:
    """Return the period bars of plain Python, ordered by symbol and date."""
    found = []
    for symbol in sorted(lake):
        origin = min(lake[symbol]) if from_listing else oracle.ZERO_SESSION
        history = lake[symbol]
        cut = oracle.groups(SESSIONS, length, min(history), max(history), origin)
        found += oracle.period_bars(symbol, history, cut, counted.get(symbol, []), lake_reach(lake))
    return found


def kernel(lake: dict[str, Bars], length: int, counted: dict[str, list[Split]] | None = None) -> list[oracle.Period]:
    """Return the period bars of the kernel, groups counted from the calendar's ordinal 0."""
    names = sorted(lake)
    given = [(names.index(name), as_split(name, split)) for name in names for split in (counted or {}).get(name, [])]
    return period_list(resample(block(lake), length, TABLE, given), names, lake_reach(lake))


@settings(deadline=None, max_examples=150)
@given(st.data(), lakes(), lengths)
def test_period_bars_equal_plain_python(data: st.DataObject, lake: dict[str, Bars], length: int) -> None:
    """Any number of sessions, any gaps, splits inside groups, absent vwap, before 1970 and at the calendar's ends."""
    counted = {symbol: data.draw(splits(history)) for symbol, history in lake.items()}
    assert oracle.differences(kernel(lake, length, counted), expected(lake, length, counted)) == []


@settings(deadline=None, max_examples=80)
@given(st.data(), lakes(), lengths)
def test_groups_counted_from_the_listing(data: st.DataObject, lake: dict[str, Bars], length: int) -> None:
    """With an origin for each row groups are counted from it: the first bar of a symbol begins its first group."""
    counted = {symbol: data.draw(splits(history)) for symbol, history in lake.items()}
    names = sorted(lake)
    given = [(names.index(name), as_split(name, split)) for name in names for split in counted[name]]
    daily = block(lake)
    firsts = np.array([CALENDAR.ordinal(min(lake[name])) for name in names], np.int32)
    found = resample(daily, length, TABLE, given, origin=firsts[daily.codes])
    rows = period_list(found, names, lake_reach(lake))
    assert oracle.differences(rows, expected(lake, length, counted, from_listing=True)) == []
    assert {row.symbol: row.start for row in reversed(rows)} == {name: min(lake[name]) for name in names}


@settings(deadline=None, max_examples=60)
@given(lakes(), lengths)
def test_period_bars_tile_the_sessions(lake: dict[str, Bars], length: int) -> None:
    """Every session with a bar is in just one period bar, and period bars of one symbol never touch each other."""
    rows = kernel(lake, length)
    for symbol, history in lake.items():
        of_symbol = [row for row in rows if row.symbol == symbol]
        inside = [day for row in of_symbol for day in history if row.start <= day <= row.end]
        assert sorted(inside) == sorted(history)
        assert all(before.end < after.start for before, after in pairwise(of_symbol))
        assert [row.n_sessions for row in of_symbol] == [
            sum(row.start <= day <= row.end for day in history) for row in of_symbol
        ]


@settings(deadline=None, max_examples=60)
@given(lakes(), lengths)
def test_without_splits_volume_is_kept_and_prices_are_real(lake: dict[str, Bars], length: int) -> None:
    """The shares of all period bars are those of all daily bars; highs, lows, opens and closes are some bar's own."""
    rows = kernel(lake, length)
    for symbol, history in lake.items():
        of_symbol = [row for row in rows if row.symbol == symbol]
        assert sum(row.volume for row in of_symbol) == sum(bar.volume for bar in history.values())
        for row in of_symbol:
            inside = [bar for day, bar in history.items() if row.start <= day <= row.end]
            assert row.low <= min(row.open, row.close) <= max(row.open, row.close) <= row.high
            assert row.high in {bar.high for bar in inside}
            assert row.low in {bar.low for bar in inside}
            assert (row.open, row.close) == (inside[0].open, inside[-1].close)


@settings(deadline=None, max_examples=60)
@given(st.data(), bars(), lengths)
def test_from_a_later_group_on_it_is_the_tail_of_everything(data: st.DataObject, history: Bars, length: int) -> None:
    """Groups are fixed: built from a later group's first session on, period bars equal the tail of a full build."""
    counted = data.draw(splits(history))
    everything = kernel({"A": history}, length, {"A": counted})
    start = data.draw(st.sampled_from([row.start for row in everything]))
    later = {day: bar for day, bar in history.items() if day >= start}
    assert kernel({"A": later}, length, {"A": counted}) == [row for row in everything if row.start >= start]


@settings(deadline=None, max_examples=40)
@given(bars())
def test_one_session_is_its_own_period(history: Bars) -> None:
    """With one session a group, a period bar is the daily bar; vwap is null where nothing was traded."""
    for row, (day, bar) in zip(kernel({"A": history}, 1), history.items(), strict=True):
        assert (row.start, row.end, row.n_sessions) == (day, day, 1)
        assert row[3:8] == bar[:5]
        assert row.transactions == bar.transactions
        assert row.vwap == (None if bar.volume == 0 or bar.vwap is None else pytest.approx(bar.vwap, rel=1e-12))


@settings(deadline=None, max_examples=40)
@given(bars(), lengths)
def test_the_table_holds_what_the_kernel_made(history: Bars, length: int) -> None:
    """Period bars go into silver's table and come back as they were; absent numbers are null, never NaN."""
    found = resample(block({"A": history}), length, TABLE)
    table = period_table(found, ["A"], 0)
    plain = table.set_column(0, "symbol", table["symbol"].cast("string"))
    assert plain.schema == PERIOD_SCHEMA
    back = periods_in(plain, found["symbol"])
    assert back.keys() == found.keys()
    for name, values in found.items():
        assert back[name].dtype == values.dtype
        assert np.array_equal(back[name], values, equal_nan=values.dtype.kind == "f")
    assert all(number is None or number == number for number in table["vwap"].to_pylist())


def test_groups_before_ordinal_zero_floor_downwards() -> None:
    """The group before 1970-01-02 ends on the session before it, and is numbered -1."""
    eve = CALENDAR.previous_session(oracle.ZERO_SESSION)
    history = {eve: PLAIN, oracle.ZERO_SESSION: PLAIN}
    before, after = kernel({"A": history}, 5)
    assert (before.end, after.start) == (eve, oracle.ZERO_SESSION)
    assert group_of(CALENDAR.ordinal(eve), 5) == -1


def test_two_splits_inside_one_group_multiply() -> None:
    """Sessions before both splits take both factors, the session between takes one; money stays what it was."""
    days = CALENDAR.sessions(oracle.ZERO_SESSION, date(1970, 1, 6))
    history = {days[0]: PLAIN, days[1]: PLAIN, days[2]: PLAIN}
    (row,) = kernel({"A": history}, 3, {"A": [Split(days[1], 1, 2), Split(days[2], 1, 3)]})
    assert row.open == pytest.approx(10 / 6)
    assert row.high == 12.0
    assert row.low == pytest.approx(8 / 6)
    assert row.close == 11.0
    assert row.volume == pytest.approx(600 + 300 + 100)
    assert row.vwap == pytest.approx(3 * 1000 / 1000)


def test_a_split_outside_the_group_touches_nothing() -> None:
    """A split that executes on a group's first session, or on the day after its last, leaves the bar as it is."""
    days = CALENDAR.sessions(oracle.ZERO_SESSION, date(1970, 1, 30))
    lake = {"A": dict.fromkeys(days[3:6], PLAIN)}
    for day in (days[3], days[6]):
        assert kernel(lake, 3, {"A": [Split(day, 1, 2)]}) == kernel(lake, 3)


def test_complete_means_that_the_lake_reached_the_end() -> None:
    """A period bar is complete from the day on which the lake, not the symbol, reached its last scheduled session."""
    days = CALENDAR.sessions(oracle.ZERO_SESSION, date(1970, 1, 30))
    found = resample(block({"A": {days[0]: PLAIN}}), 3, TABLE)
    assert [period_list(found, ["A"], reach)[0].complete for reach in days[:4]] == [False, False, True, True]


def test_no_bars_no_periods() -> None:
    """An empty block gives columns of the same types, without a bar."""
    empty, one = resample(block({"A": {}}), 3, TABLE), resample(block({"A": {oracle.ZERO_SESSION: PLAIN}}), 3, TABLE)
    assert {name: len(values) for name, values in empty.items()} == dict.fromkeys(one, 0)
    assert {name: values.dtype for name, values in empty.items()} == {
        name: values.dtype for name, values in one.items()
    }


@pytest.mark.parametrize("day", [date(2024, 7, 4), date(2024, 7, 6), date(1950, 1, 3), date(2150, 1, 4)])
def test_a_bar_on_a_day_without_a_session_is_refused(day: date) -> None:
    """A holiday, a weekend and days outside the calendar are named, never put into some group."""
    with pytest.raises(DataError, match=f"{day}.*without a session.*condvest verify"):
        block({"A": {day: PLAIN}})

"""Real bars, through the real jobs: period bars and adjusted closes against plain Python and the sample's own figures.

The bars are of `bokeh-sampledata`: AAPL, FB, GOOG, IBM and MSFT, 2000-03-01 to 2013-03-01, raw, three splits inside.
"""

from __future__ import annotations

from dataclasses import astuple
from datetime import UTC, date, timedelta
from itertools import pairwise
from typing import Any

import pytest

from condvest import Lake
from condvest.demo.market import Market
from condvest.demo.sample import SAMPLE_SYMBOLS, sample_adjusted_closes, sample_market
from condvest.domain.adjust import Adjustment
from condvest.domain.calendar import INTERVALS, Calendar
from condvest.jobs.consolidate import consolidate
from condvest.jobs.fetch_bars import fetch_bars
from condvest.jobs.fetch_meta import fetch_meta
from condvest.jobs.resample import resample
from condvest.state import State
from condvest.storage.opening import open_store
from property import oracle
from property.oracle import Bars, Period, Split, Values
from property.provider import InProcess

CALENDAR = Calendar.shipped()
SESSIONS = CALENDAR.sessions(CALENDAR.first, CALENDAR.last)
#: The last sessions come day by day, as in real life; all before them at once.
DAILY = 6


@pytest.fixture(scope="module")
def market() -> Market:
    """The sample; no test here changes it."""
    return sample_market()


@pytest.fixture(scope="module")
def lake(market: Market, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake that the jobs made of the sample: backfill, a few evenings, metadata, consolidation, resampling."""
    folder = tmp_path_factory.mktemp("real") / "lake"
    store = open_store(str(folder), fsync=False)
    sessions = sorted(market.bars)
    now = [CALENDAR.close_instant(sessions[-DAILY - 1]) + timedelta(hours=1)]
    source = InProcess(market, lambda: now[0])
    with State.open(f"sqlite:///{folder}/.condvest/state.sqlite", migrate=True) as state:
        fetch_bars(store, source, state, calendar=CALENDAR, now=now[0], sessions=sessions[:-DAILY])
        fetch_meta(store, source, state, now=now[0])
        for position, session in enumerate(sessions[-DAILY:]):
            now[0] = CALENDAR.close_instant(session) + timedelta(hours=1)
            assert not fetch_bars(store, source, state, calendar=CALENDAR, now=now[0]).left
            if position % 2 == 0:  # the rest is merged with the next
                consolidate(store, now=now[0])
                resample(store, calendar=CALENDAR)
        consolidate(store, now=now[0])
        resample(store, calendar=CALENDAR)
    return Lake.open(str(folder))


def raw_bars(market: Market, symbol: str) -> Bars:
    """Return one symbol's bars as the sample has them."""
    days = [day for day in sorted(market.bars) if symbol in market.bars[day]]
    return {day: Values(*astuple(market.bars[day][symbol])[:7]) for day in days}


def told_splits(market: Market, symbol: str) -> list[Split]:
    """Return one symbol's splits as the provider tells them."""
    rows = [row for row in market.splits if row["ticker"] == symbol]
    return [Split(date.fromisoformat(str(r["execution_date"])), *_ratio(r)) for r in rows]


def _ratio(row: dict[str, object]) -> tuple[float, float]:
    return float(str(row["split_from"])), float(str(row["split_to"]))


def expected(market: Market, symbol: str, length: int) -> list[Period]:
    """Return one symbol's period bars in plain Python."""
    bars, reach = raw_bars(market, symbol), max(market.bars)
    counted = oracle.applied(told_splits(market, symbol), bars, reach)
    cut = oracle.groups(SESSIONS, length, min(bars), max(bars))
    return oracle.period_bars(symbol, bars, cut, counted, reach)


def closes(lake: Lake, symbol: str, adjustment: Adjustment) -> dict[date, float]:
    """Return one symbol's closes."""
    table = lake.bars(symbol, adjusted=adjustment)
    return dict(zip(table["date"].to_pylist(), table["close"].to_pylist(), strict=True))


def rows(table: Any) -> list[tuple[Any, ...]]:
    """Return a table's rows."""
    return list(zip(*table.to_pydict().values(), strict=True))


@pytest.mark.parametrize("symbol", SAMPLE_SYMBOLS)
def test_daily_bars_are_the_samples(lake: Lake, market: Market, symbol: str) -> None:
    """What the provider served is what the lake gives back, bit for bit, nulls included."""
    table = lake.bars(symbol).select(["date", *Values._fields])
    assert {row[0]: Values(*row[1:]) for row in rows(table)} == raw_bars(market, symbol)


@pytest.mark.parametrize("length", INTERVALS)
def test_silver_equals_plain_python(lake: Lake, market: Market, length: int) -> None:
    """All stored period bars of 13 years, the groups with a split inside too, equal an independent computation."""
    found = rows(lake.sql(f"SELECT * FROM silver_{length}d ORDER BY symbol, date"))
    wanted = [bar for symbol in SAMPLE_SYMBOLS for bar in expected(market, symbol, length)]
    assert oracle.differences([row[: len(Period._fields)] for row in found], wanted) == []


@pytest.mark.parametrize("length", INTERVALS)
@pytest.mark.parametrize(
    ("symbol", "day"), [("AAPL", date(2000, 6, 21)), ("AAPL", date(2005, 2, 28)), ("MSFT", date(2003, 2, 18))]
)
def test_a_bar_with_a_split_inside_stands_on_one_basis(
    lake: Lake, market: Market, symbol: str, day: date, length: int
) -> None:
    """The period bar around a split has prices of the basis after it: no false fall by half, and twice the shares."""
    (bar,) = [bar for bar in expected(market, symbol, length) if bar.start <= day <= bar.end]
    raw = {session: row for session, row in raw_bars(market, symbol).items() if bar.start <= session <= bar.end}
    before = [row for session, row in raw.items() if session < day]
    after = [row for session, row in raw.items() if session >= day]
    assert bar.open == (before[0].open / 2 if before else after[0].open)
    assert bar.high == max([row.high / 2 for row in before] + [row.high for row in after])
    assert bar.low == min([row.low / 2 for row in before] + [row.low for row in after])
    assert bar.close == after[-1].close
    assert bar.volume == sum(row.volume * 2 for row in before) + sum(row.volume for row in after)
    query = f"SELECT * FROM silver_{length}d WHERE symbol = '{symbol}' AND date = DATE '{bar.start}'"
    assert oracle.differences([row[: len(bar)] for row in rows(lake.sql(query))], [bar]) == []
    assert bar.high / bar.low < 1.6


@pytest.mark.parametrize("length", [4, 13, 55])
@pytest.mark.parametrize("symbol", ["AAPL", "GOOG"])
def test_period_bars_counted_from_the_listing(lake: Lake, market: Market, symbol: str, length: int) -> None:
    """With the listing as anchor the first period bar begins on the first bar, and all equal plain Python."""
    bars, reach = raw_bars(market, symbol), max(market.bars)
    cut = oracle.groups(SESSIONS, length, min(bars), max(bars), min(bars))
    wanted = oracle.period_bars(symbol, bars, cut, told_splits(market, symbol), reach)
    found = rows(lake.bars(symbol, interval=f"{length}d", anchor="listing"))
    assert oracle.differences([row[: len(Period._fields)] for row in found], wanted) == []
    assert found[0][1] == min(bars)


@pytest.mark.parametrize("symbol", ["GOOG", "FB"])
def test_without_dividends_split_adjusted_closes_are_the_samples_own(lake: Lake, symbol: str) -> None:
    """Where nothing but splits happened, the returns of 9 years are those of the sample's adjusted series."""
    found, own = closes(lake, symbol, "splits"), sample_adjusted_closes(symbol)
    scale = own[max(own)] / found[max(own)]
    assert {day: close * scale for day, close in found.items()} == pytest.approx(own, rel=1e-9)


def test_aapl_across_both_splits_up_to_dividends(lake: Lake) -> None:
    """AAPL paid nothing from 2000 to August 2012: through both splits its split-adjusted closes are the sample's own."""
    found, own = closes(lake, "AAPL", "splits"), sample_adjusted_closes("AAPL")
    before_dividends = [day for day in own if day < date(2012, 8, 9)]
    assert {date(2000, 6, 20), date(2000, 6, 21), date(2005, 2, 25), date(2005, 2, 28)} <= set(before_dividends)
    last = before_dividends[-1]
    ratios = {day: found[day] / found[last] for day in before_dividends}
    assert ratios == pytest.approx({day: own[day] / own[last] for day in before_dividends}, rel=1e-3)
    # The raw closes do not: they fall by half twice.
    raw = closes(lake, "AAPL", "none")
    assert raw[before_dividends[0]] / raw[last] == pytest.approx(4 * ratios[before_dividends[0]], rel=1e-12)
    # A real fall of half is no split, and stays.
    assert found[date(2000, 9, 29)] / found[date(2000, 9, 28)] == pytest.approx(0.48, abs=0.01)


@pytest.mark.parametrize(
    ("symbol", "tolerance"), [("AAPL", 1e-3), ("FB", 1e-9), ("GOOG", 1e-9), ("IBM", 1e-3), ("MSFT", 4e-3)]
)
def test_fully_adjusted_closes_are_the_samples_own(lake: Lake, symbol: str, tolerance: float) -> None:
    """With splits and dividends all returns of 13 years are the sample's own, but for the cents it rounds to."""
    found, own = closes(lake, symbol, "all"), sample_adjusted_closes(symbol)
    scale = own[max(own)] / found[max(own)]
    assert {day: close * scale for day, close in found.items()} == pytest.approx(own, rel=tolerance)


def test_adjusted_bars_have_no_gap_where_a_split_was(lake: Lake, market: Market) -> None:
    """No split-adjusted open is far from the close before it on a split's date; a split changes no bar after it."""
    for row in market.splits:
        symbol, day = str(row["ticker"]), date.fromisoformat(str(row["execution_date"]))
        table = lake.bars(symbol, adjusted="splits")
        dates, opens, ends = (table[name].to_pylist() for name in ("date", "open", "close"))
        at = dates.index(day)
        assert opens[at] / ends[at - 1] == pytest.approx(1.0, abs=0.1)
    found, raw = closes(lake, "AAPL", "splits"), closes(lake, "AAPL", "none")
    assert all(found[day] == raw[day] for day in raw if day >= date(2005, 2, 28))
    assert [day for day, following in pairwise(raw) if raw[following] / raw[day] < 0.55] == [
        date(2000, 6, 20),
        date(2000, 9, 28),
        date(2005, 2, 25),
    ]


def test_as_of_before_the_splits_were_heard_of(lake: Lake) -> None:
    """As of an instant at which the lake knew no split, split-adjusted prices are the raw ones."""
    early = lake.bars("AAPL", adjusted="splits", as_of=CALENDAR.close_instant(date(2013, 1, 2)).astimezone(UTC))
    assert early["close"].to_pylist() == lake.bars("AAPL")["close"].to_pylist()

"""The sample market: real bars, checked against the calendar, their own adjusted closes and common sense."""

from __future__ import annotations

import sys
from datetime import date
from itertools import pairwise

import pytest

from condvest.demo import sample
from condvest.demo.market import Bar, Market
from condvest.demo.sample import SAMPLE_SYMBOLS, sample_adjusted_closes, sample_market
from condvest.domain.calendar import Calendar
from condvest.errors import ConfigError

FIRST, LAST = date(2000, 3, 1), date(2013, 3, 1)


@pytest.fixture(scope="module")
def market() -> Market:
    """Return the sample; no test here changes it."""
    return sample_market()


def series(market: Market, symbol: str) -> dict[date, Bar]:
    """Return one symbol's bars, ascending."""
    return {session: market.bars[session][symbol] for session in sorted(market.bars) if symbol in market.bars[session]}


def test_each_session_is_there_once(market: Market) -> None:
    """The sample's dates are just the scheduled sessions, and no symbol has a gap after its first day."""
    sessions = Calendar.shipped().sessions(FIRST, LAST)
    assert sorted(market.bars) == sessions
    counts = {symbol: len(series(market, symbol)) for symbol in SAMPLE_SYMBOLS}
    assert counts == {"AAPL": 3270, "FB": 196, "GOOG": 2148, "IBM": 3270, "MSFT": 3270}
    for symbol in SAMPLE_SYMBOLS:
        held = list(series(market, symbol))
        assert held == sessions[-len(held) :]


def test_no_bar_breaks_a_rule(market: Market) -> None:
    """High and low enclose open and close, prices and volumes are positive; what the file lacks is absent."""
    for day in market.bars.values():
        for bar in day.values():
            assert 0 < bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high
            assert bar.volume > 0
            assert isinstance(bar.volume, float)
            assert (bar.vwap, bar.transactions) == (None, None)


def test_known_values(market: Market) -> None:
    """Prices are as printed on the day, not adjusted."""
    assert market.bars[FIRST]["AAPL"] == Bar(118.56, 132.06, 118.5, 130.31, 9616100.0)
    assert market.bars[LAST]["GOOG"] == Bar(797.8, 807.14, 796.15, 806.19, 4346400.0)


def test_splits_match_the_jumps(market: Market) -> None:
    """The splits are just those days at which raw and adjusted closes part by a third and more."""
    found = set()
    for symbol in SAMPLE_SYMBOLS:
        bars, adjusted = series(market, symbol), sample_adjusted_closes(symbol)
        for before, day in pairwise(bars):
            step = (bars[day].close / bars[before].close) / (adjusted[day] / adjusted[before])
            if step < 0.67:
                assert step == pytest.approx(0.5, rel=1e-4)
                found.add((symbol, str(day)))
    assert found == {(row["ticker"], row["execution_date"]) for row in market.splits}
    assert found == {("AAPL", "2000-06-21"), ("AAPL", "2005-02-28"), ("MSFT", "2003-02-18")}


@pytest.mark.parametrize(
    ("symbol", "tolerance"), [("AAPL", 2e-4), ("FB", 1e-9), ("GOOG", 1e-9), ("IBM", 4e-4), ("MSFT", 2e-3)]
)
def test_actions_explain_the_adjusted_closes(market: Market, symbol: str, tolerance: float) -> None:
    """Raw closes, splits and dividends give the file's adjusted closes over 13 years, but for its rounding."""
    bars, adjusted = series(market, symbol), sample_adjusted_closes(symbol)
    splits = {row["execution_date"]: 0.5 for row in market.splits if row["ticker"] == symbol}
    paid = {
        row["ex_dividend_date"]: float(str(row["cash_amount"])) for row in market.dividends if row["ticker"] == symbol
    }
    days = list(bars)
    assert {*splits, *paid} <= {str(day) for day in days}
    factor = adjusted[days[-1]] / bars[days[-1]].close
    for before, day in reversed(list(pairwise(days))):
        factor *= splits.get(str(day), 1.0) * (1 - paid.get(str(day), 0.0) / bars[before].close)
        assert bars[before].close * factor == pytest.approx(adjusted[before], rel=tolerance)


def test_tickers_and_pandas(market: Market) -> None:
    """All five are active tickers with their names, and reading them loaded no pandas."""
    assert sorted(market.tickers) == sorted(SAMPLE_SYMBOLS)
    assert market.tickers["IBM"]["primary_exchange"] == "XNYS"
    assert "pandas" not in sys.modules


def test_each_call_gives_a_market_of_its_own() -> None:
    """A test may change its market without harm to the next."""
    sample_market().remove_bar("AAPL", LAST)
    assert "AAPL" in sample_market().bars[LAST]


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package there is one line that says what to install."""
    sample._rows.cache_clear()
    monkeypatch.setitem(sys.modules, "bokeh_sampledata", None)
    with pytest.raises(ConfigError, match=r"bokeh-sampledata is not installed.*install it with `make setup`") as caught:
        sample_market()
    assert "\n" not in str(caught.value)

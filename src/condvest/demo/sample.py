"""Real daily bars that anyone can install: the package `bokeh-sampledata`, read without pandas.

AAPL, IBM and MSFT from 2000-03-01, GOOG from 2004-08-19, FB from 2012-05-18, all to 2013-03-01: 12,154 bars, prices
as printed (not adjusted), volume in shares, neither vwap nor transactions. Each session of those years is there once
and no bar breaks a rule. Beside the raw close the file has an adjusted one, as of some day after 2014.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from datetime import date
from functools import cache
from importlib.resources import files

from condvest.demo.market import Bar, Market
from condvest.errors import ConfigError

SAMPLE_SYMBOLS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")

# symbol -> fields of the provider's details answer that do not change with time
_COMPANIES = {
    "AAPL": {"name": "Apple Inc.", "primary_exchange": "XNAS", "sic_code": "3571", "list_date": "1980-12-12"},
    "FB": {"name": "Facebook, Inc.", "primary_exchange": "XNAS", "sic_code": "7370", "list_date": "2012-05-18"},
    "GOOG": {"name": "Google Inc.", "primary_exchange": "XNAS", "sic_code": "7370", "list_date": "2004-08-19"},
    "IBM": {"name": "International Business Machines", "primary_exchange": "XNYS", "sic_code": "3570"},
    "MSFT": {"name": "Microsoft Corp", "primary_exchange": "XNAS", "sic_code": "7372", "list_date": "1986-03-13"},
}
_SPLITS = (("AAPL", "2000-06-21", 1, 2), ("AAPL", "2005-02-28", 1, 2), ("MSFT", "2003-02-18", 1, 2))
# Cash a share as declared; the ex-dates are those at which the file's adjusted closes step.
_DIVIDENDS = {
    "AAPL": {2.65: "2012-08-09 2012-11-07 2013-02-07"},
    "IBM": {
        0.13: "2000-05-08 2000-08-08 2000-11-08 2001-02-07",
        0.14: "2001-05-08 2001-08-08 2001-11-07 2002-02-06",
        0.15: "2002-05-08 2002-08-07 2002-11-06 2003-02-06",
        0.16: "2003-05-07 2003-08-06 2003-11-06 2004-02-06",
        0.18: "2004-05-06 2004-08-06 2004-11-08 2005-02-08",
        0.20: "2005-05-06 2005-08-08 2005-11-08 2006-02-08",
        0.30: "2006-05-08 2006-08-08 2006-11-08 2007-02-07",
        0.40: "2007-05-08 2007-08-08 2007-11-07 2008-02-06",
        0.50: "2008-05-07 2008-08-06 2008-11-06 2009-02-06",
        0.55: "2009-05-06 2009-08-06 2009-11-06 2010-02-08",
        0.65: "2010-05-06 2010-08-06 2010-11-08 2011-02-08",
        0.75: "2011-05-06 2011-08-08 2011-11-08 2012-02-08",
        0.85: "2012-05-08 2012-08-08 2012-11-07 2013-02-06",
    },
    "MSFT": {
        0.16: "2003-10-15 2010-11-16 2011-02-15 2011-05-17 2011-08-16",
        0.08: "2003-02-19 2004-08-23 2005-02-15 2005-05-16 2005-08-15 2005-11-15",
        3.08: "2004-11-15",  # 3.00 of it was a special dividend
        0.09: "2006-02-15 2006-05-15 2006-08-15",
        0.10: "2006-11-14 2007-02-13 2007-05-15 2007-08-14",
        0.11: "2007-11-13 2008-02-19 2008-05-13 2008-08-19",
        0.13: "2008-11-18 2009-02-17 2009-05-19 2009-08-18 2009-11-17 2010-02-16 2010-05-18 2010-08-17",
        0.20: "2011-11-15 2012-02-14 2012-05-15 2012-08-14",
        0.23: "2012-11-13 2013-02-19",
    },
}


def sample_market() -> Market:
    """Return a new market of the sample's bars with its true splits and dividends, each call one of its own.

    ConfigError when the package is not installed.
    """
    market = Market()
    for symbol in SAMPLE_SYMBOLS:
        market.add_ticker(symbol, **_COMPANIES[symbol])
    for symbol, session, bar, _ in _rows():
        market.bars.setdefault(session, {})[symbol] = bar
    for symbol, day, split_from, split_to in _SPLITS:
        market.add_split(symbol, date.fromisoformat(day), split_from, split_to)
    for symbol, amounts in _DIVIDENDS.items():
        for amount, days in amounts.items():
            for day in days.split():
                market.add_dividend(symbol, date.fromisoformat(day), amount)
    return market


def sample_adjusted_closes(symbol: str) -> dict[date, float]:
    """Return the file's own adjusted closes of one symbol, ascending by session.

    Adjusted for splits and dividends up to some day after 2014: compare ratios of two sessions, not levels.
    """
    return {session: adjusted for name, session, _, adjusted in _rows() if name == symbol}


@cache
def _rows() -> tuple[tuple[str, date, Bar, float], ...]:
    return tuple(_read())


def _read() -> Iterator[tuple[str, date, Bar, float]]:
    try:
        packed = files("bokeh_sampledata").joinpath("_data", "stocks.csv.gz").read_bytes()
    except (ModuleNotFoundError, FileNotFoundError):
        raise ConfigError(
            "bokeh-sampledata is not installed; the sample market is made of its bars; install it with `make setup`"
            " or `python -m pip install --no-deps bokeh-sampledata`"
        ) from None
    for row in csv.DictReader(gzip.decompress(packed).decode("utf-8").splitlines()):
        bar = Bar(float(row["Open"]), float(row["High"]), float(row["Low"]), float(row["Close"]), float(row["Volume"]))
        yield row["Ticker"], date.fromisoformat(row["Date"]), bar, float(row["Adj Close"])

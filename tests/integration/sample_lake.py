"""A lake to read from, made by the real jobs: the sample's real bars of some years, and two symbols made of them.

`BCpC` has vwap and transactions. `CON` splits 1:3 on 2005-01-12, in the middle of most groups, and does not trade from that
day to 2005-01-19: no price bears the split out, and some group ends before it trades again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import pyarrow as pa

from condvest.demo.market import Bar
from condvest.demo.sample import SAMPLE_SYMBOLS, sample_market
from condvest.domain.actions import Dividend, Split
from condvest.domain.bars import DAILY_SCHEMA
from condvest.domain.calendar import INTERVALS, Calendar
from condvest.jobs.consolidate import consolidate
from condvest.jobs.resample import resample
from condvest.storage import layout
from condvest.storage.actions import update_dividends, update_splits
from condvest.storage.parquet import encode_history, encode_row
from condvest.storage.store import Store

FIRST, LAST = date(2004, 6, 1), date(2005, 6, 30)
CON_SPLIT = date(2005, 1, 12)
SEEN = datetime(2013, 3, 2, 16, 5, tzinfo=UTC)
History = dict[date, Bar]


def sample_histories(first: date = FIRST, last: date = LAST) -> dict[str, History]:
    """Return the bars of each symbol from first to last, ascending by session; symbols without any are left out."""
    market = sample_market()
    days = [day for day in sorted(market.bars) if first <= day <= last]
    found = {
        symbol: {day: market.bars[day][symbol] for day in days if symbol in market.bars[day]}
        for symbol in SAMPLE_SYMBOLS
    }
    ibm, msft = found["IBM"], found["MSFT"]
    found["BCpC"] = {
        day: replace(bar, vwap=(bar.high + bar.low) / 2, transactions=1000 + number)
        for number, (day, bar) in enumerate(msft.items())
    }
    found["CON"] = {
        day: bar if day > CON_SPLIT else Bar(bar.open * 3, bar.high * 3, bar.low * 3, bar.close * 3, bar.volume / 3)
        for day, bar in ibm.items()
        if not CON_SPLIT <= day <= date(2005, 1, 19)
    }
    return {symbol: bars for symbol, bars in sorted(found.items()) if bars}


def table_of(symbol: str, bars: Mapping[date, Bar]) -> pa.Table:
    """Return bars with `DAILY_SCHEMA`."""
    rows = [
        {
            "symbol": symbol,
            "date": day,
            **{name: getattr(bar, name) for name in DAILY_SCHEMA.names[2:-1]},
            "ingested_at": SEEN,
        }
        for day, bar in bars.items()
    ]
    return pa.Table.from_pylist(rows, DAILY_SCHEMA)


def split(symbol: str, day: date, old: float, new: float, *, withdrawn_at: datetime | None = None) -> Split:
    """Return a split that the lake saw at noon ten days before."""
    return Split(symbol, day, old, new, "forward_split", _noon(day - timedelta(days=10)), withdrawn_at)


def dividend(symbol: str, day: date, amount: float, *, currency: str = "USD") -> Dividend:
    """Return a dividend that the lake saw at noon ten days before."""
    return Dividend(symbol, day, amount, currency, "recurring", _noon(day - timedelta(days=10)))


def true_splits() -> list[Split]:
    """Return the sample's splits and that of CON."""
    rows = sample_market().splits
    known = [
        split(
            str(row["ticker"]),
            date.fromisoformat(str(row["execution_date"])),
            _number(row, "split_from"),
            _number(row, "split_to"),
        )
        for row in rows
    ]
    return [*known, split("CON", CON_SPLIT, 1, 3)]


def true_dividends() -> list[Dividend]:
    """Return the sample's dividends."""
    return [
        dividend(str(row["ticker"]), date.fromisoformat(str(row["ex_dividend_date"])), _number(row, "cash_amount"))
        for row in sample_market().dividends
    ]


def write_histories(store: Store, histories: Mapping[str, History]) -> None:
    """Write all but the last three sessions of each symbol as `data.parquet`, and those as `date=` files."""
    for symbol, bars in histories.items():
        days = list(bars)
        store.put(layout.data_key(symbol), encode_history(table_of(symbol, {day: bars[day] for day in days[:-3]})))
        store.put_many(
            (layout.daily_key(symbol, day), encode_row(table_of(symbol, {day: bars[day]}))) for day in days[-3:]
        )


def build(store: Store, histories: Mapping[str, History], *, silver: bool = True) -> None:
    """Make the lake: bars, the true splits and dividends, consolidated and, unless told otherwise, resampled."""
    write_histories(store, histories)
    update_splits(store, lambda _: true_splits())
    update_dividends(store, lambda _: true_dividends())
    consolidate(store, now=SEEN, skip_cleanup=True)
    if silver:
        resample(store, calendar=Calendar.shipped(), intervals=INTERVALS)


def _noon(day: date) -> datetime:
    return datetime.combine(day, time(12), UTC)


def _number(row: Mapping[str, object], name: str) -> float:
    return float(str(row[name]))

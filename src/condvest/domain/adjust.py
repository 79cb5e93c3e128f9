"""Adjusted prices, as a matter of reading: factors for splits and dividends, cumulated backwards from the last bar."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final, Literal

import numpy as np
import pyarrow as pa

from condvest.domain.actions import Dividend, Split
from condvest.domain.resample import Floats, floats

Adjustment = Literal["none", "splits", "all"]
ADJUSTMENTS: Final = ("none", "splits", "all")


def split_factors(dates: Sequence[date], splits: Sequence[Split]) -> Floats:
    """Return for each date the product of from/to over the splits that execute after it."""
    return _backwards(dates, [split.execution_date for split in splits], [split.price_factor for split in splits])


def dividend_factors(
    dates: Sequence[date], closes: Floats, dividends: Sequence[Dividend], splits: Sequence[Split]
) -> Floats:
    """Return for each date the product of `1 - dividend / close before` over the dividends that go ex after it.

    `dates` ascend, `closes` are raw. The close before is brought to the basis of the ex-date where a split lies between.
    A dividend before the first bar changes nothing; one that is not below that close is left out (no factor is negative).
    Formula: CRSP's and the field's cumulative dividend factor.
    """
    days, factors = [], []
    for dividend in dividends:
        before = int(np.searchsorted(_days(dates), np.datetime64(dividend.ex_dividend_date, "D"))) - 1
        if before < 0:
            continue
        close = float(closes[before])
        for split in splits:
            if dates[before] < split.execution_date <= dividend.ex_dividend_date:
                close *= split.price_factor
        if dividend.cash_amount < close:
            days.append(dividend.ex_dividend_date)
            factors.append(1.0 - dividend.cash_amount / close)
    return _backwards(dates, days, factors)


def adjusted(bars: pa.Table, splits: Sequence[Split], dividends: Sequence[Dividend]) -> pa.Table:
    """Return one symbol's daily bars with prices on the basis of its last bar; columns and order stay.

    Prices and vwap are multiplied by both factors, volume is divided by the split factor; transactions stay.
    """
    dates = bars["date"].to_pylist()
    by_split = split_factors(dates, splits)
    by_all = by_split * dividend_factors(dates, floats(bars["close"]), dividends, splits)
    for name in ("open", "high", "low", "close", "vwap"):
        column = pa.array(floats(bars[name]) * by_all, from_pandas=True)
        bars = bars.set_column(bars.schema.get_field_index(name), name, column)
    volume = pa.array(floats(bars["volume"]) / by_split)
    return bars.set_column(bars.schema.get_field_index("volume"), "volume", volume)


def _backwards(dates: Sequence[date], days: Sequence[date], factors: Sequence[float]) -> Floats:
    order = sorted(range(len(days)), key=lambda index: days[index])
    after = np.ones(len(days) + 1)
    for position in range(len(order) - 1, -1, -1):
        after[position] = after[position + 1] * factors[order[position]]
    ascending = [days[index] for index in order]
    return after[np.searchsorted(_days(ascending), _days(dates), side="right")]


def _days(dates: Sequence[date]) -> np.ndarray[tuple[int], np.dtype[np.datetime64]]:
    return np.array(dates, "datetime64[D]")

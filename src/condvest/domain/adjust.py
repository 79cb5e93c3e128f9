"""Adjusted prices, as a matter of reading: factors for splits and dividends, cumulated backwards from the last bar."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Final, Literal

import numpy as np
import pyarrow as pa

from condvest.domain.actions import EPOCH, Dividend, Split
from condvest.domain.resample import Floats, Ints, day_numbers, floats

Adjustment = Literal["none", "splits", "all"]
ADJUSTMENTS: Final = ("none", "splits", "all")


def split_factors(days: Ints, splits: Sequence[Split]) -> Floats:
    """Return for each day (since 1970-01-01, ascending) the product of from/to over the splits that execute after it."""
    return _backwards(days, [split.execution_date for split in splits], [split.price_factor for split in splits])


def dividend_factors(days: Ints, closes: Floats, dividends: Sequence[Dividend], splits: Sequence[Split]) -> Floats:
    """Return for each day the product of `1 - dividend / close before` over the dividends that go ex after it.

    `days` (since 1970-01-01) ascend, `closes` are raw. The close before is brought to the basis of the ex-date where a split
    lies between. A dividend before the first bar changes nothing; one that is not below that close is left out (no factor is
    negative). Formula: CRSP's and the field's cumulative dividend factor.
    """
    gone_ex, factors = [], []
    befores = np.searchsorted(days, _numbers([dividend.ex_dividend_date for dividend in dividends])) - 1
    for dividend, before in zip(dividends, befores.tolist(), strict=True):
        if before < 0:
            continue
        close, day = float(closes[before]), EPOCH + timedelta(days=int(days[before]))
        for split in splits:
            if day < split.execution_date <= dividend.ex_dividend_date:
                close *= split.price_factor
        if dividend.cash_amount < close:
            gone_ex.append(dividend.ex_dividend_date)
            factors.append(1.0 - dividend.cash_amount / close)
    return _backwards(days, gone_ex, factors)


def adjusted(bars: pa.Table, splits: Sequence[Split], dividends: Sequence[Dividend]) -> pa.Table:
    """Return one symbol's daily bars with prices on the basis of its last bar; columns and order stay.

    Prices and vwap are multiplied by both factors, volume is divided by the split factor; transactions stay.
    """
    days = day_numbers(bars["date"])
    by_split = split_factors(days, splits)
    by_all = by_split * dividend_factors(days, floats(bars["close"]), dividends, splits)
    for name in ("open", "high", "low", "close", "vwap"):
        column = pa.array(floats(bars[name]) * by_all, from_pandas=True)
        bars = bars.set_column(bars.schema.get_field_index(name), name, column)
    volume = pa.array(floats(bars["volume"]) / by_split)
    return bars.set_column(bars.schema.get_field_index("volume"), "volume", volume)


def _backwards(days: Ints, dates: Sequence[date], factors: Sequence[float]) -> Floats:
    """Return for each day the product of the factors of later dates."""
    order = sorted(range(len(dates)), key=lambda index: dates[index])
    after = np.ones(len(dates) + 1)
    for position in range(len(order) - 1, -1, -1):
        after[position] = after[position + 1] * factors[order[position]]
    return after[np.searchsorted(_numbers([dates[index] for index in order]), days, side="right")]


def _numbers(dates: Sequence[date]) -> Ints:
    return np.array([(day - EPOCH).days for day in dates], np.int32)

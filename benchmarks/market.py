"""A generated market: seeded, with listing lengths, halts, splits and dividends like a real one. No bar in it is real."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa

from condvest.domain.actions import Dividend, Split
from condvest.domain.bars import DAILY_SCHEMA, stamp
from condvest.domain.calendar import Calendar

LAST = date(2025, 11, 20)
INGESTED_AT = datetime(2025, 11, 20, 21, 5, tzinfo=UTC)

_HALTED = 0.01  # of all sessions of a symbol
_SPLIT = 0.25  # of all symbols have one split
_RATIOS = (2.0, 3.0, 4.0, 10.0, 0.1)
_PAYING = 3  # each third symbol pays a dividend each quarter, 0.5 % of the close
_QUARTER = 63  # sessions


@dataclass(frozen=True)
class History:
    """One symbol's daily bars (`DAILY_SCHEMA`, raw prices), its split, if it has one, and its dividends."""

    symbol: str
    bars: pa.Table
    split: Split | None
    dividends: list[Dividend]


def symbol_name(number: int) -> str:
    """Return a ticker of one to four letters for a number."""
    letters = ""
    number += 1
    while number:
        number, letter = divmod(number - 1, 26)
        letters = chr(65 + letter) + letters
    return letters


def histories(symbols: int, *, years: int = 20, seed: int = 7) -> Iterator[History]:
    """Yield the history of each symbol up to `LAST`.

    A symbol is listed for 10 years on the average, at most for `years`; 1 % of its sessions it is halted; one of four
    symbols has a split, one of three pays dividends. 5,400 symbols of 20 years have about 13.5 million bars.
    """
    days = np.array(Calendar.shipped().sessions(date(LAST.year - years, LAST.month, LAST.day), LAST), "datetime64[D]")
    twenty_years = len(days) * 20 / years
    random = np.random.default_rng(seed)
    for number in range(symbols):
        length = int(np.clip(random.exponential(0.65) * twenty_years, 60, len(days)))
        traded = days[len(days) - length :][random.random(length) > _HALTED]
        yield _history(symbol_name(number), traded, random, pays=number % _PAYING == 1)


def _history(symbol: str, traded: np.ndarray, random: np.random.Generator, *, pays: bool) -> History:
    rows = len(traded)
    close = 30 * np.exp(np.cumsum(random.normal(0.0002, 0.02, rows)))
    split = None
    if random.random() < _SPLIT:
        at, ratio = int(random.integers(1, rows)), float(random.choice(_RATIOS))
        close[:at] *= ratio
        split = Split(symbol, traded[at].astype(object), 1.0, ratio, "", INGESTED_AT)
    close = np.round(close, 2) + 0.01
    opened = np.round(close * np.exp(random.normal(0, 0.008, rows)), 2) + 0.01
    high = np.round(np.maximum(opened, close) * (1 + np.abs(random.normal(0, 0.006, rows))), 2) + 0.01
    low = np.round(np.minimum(opened, close) * (1 - np.abs(random.normal(0, 0.006, rows))), 2)
    low = np.maximum(np.minimum(low, np.minimum(opened, close)), 0.01)
    volume = np.floor(random.lognormal(12, 1.2, rows))
    values = {
        "symbol": pa.repeat(symbol, rows),
        "date": pa.array(traded),
        "open": opened,
        "high": high,
        "low": low,
        "close": close,
        "volume": volume,
        "vwap": np.round((high + low + close) / 3, 4),
        "transactions": np.floor(volume / 120).astype(np.int64),
    }
    quarters = slice(_QUARTER if pays else rows, None, _QUARTER)
    dividends = [
        Dividend(symbol, day, cash, "USD", "recurring", INGESTED_AT)
        for day, cash in zip(traded[quarters].tolist(), np.round(close[quarters] * 0.005, 4).tolist(), strict=True)
        if cash
    ]
    return History(symbol, stamp(pa.table(values), INGESTED_AT).cast(DAILY_SCHEMA), split, dividends)

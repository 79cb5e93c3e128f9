"""A generated market: seeded, with listing lengths, halts and splits like a real one. No bar in it is real."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa

from condvest.domain.bars import DAILY_SCHEMA, stamp
from condvest.domain.calendar import Calendar

LAST = date(2025, 11, 19)
INGESTED_AT = datetime(2025, 11, 20, 16, 5, tzinfo=UTC)


def symbol_name(number: int) -> str:
    """Return a ticker of one to four letters for a number."""
    letters = ""
    number += 1
    while number:
        number, letter = divmod(number - 1, 26)
        letters = chr(65 + letter) + letters
    return letters


def histories(symbols: int, *, seed: int = 7) -> Iterator[pa.Table]:
    """Yield each symbol's daily bars (`DAILY_SCHEMA`): listed for 10 years on the average, at most 20; 1 % of the days halted."""
    calendar = Calendar.shipped()
    sessions = calendar.sessions(date(2005, 11, 21), LAST)
    days = np.array(sessions, "datetime64[D]")
    random = np.random.default_rng(seed)
    for number in range(symbols):
        length = int(np.clip(random.exponential(0.6) * len(days), 40, len(days)))
        traded = days[len(days) - length :][random.random(length) > 0.01]
        yield _history(symbol_name(number), traded, random)


def _history(symbol: str, traded: np.ndarray, random: np.random.Generator) -> pa.Table:
    rows = len(traded)
    close = np.round(30 * np.exp(np.cumsum(random.normal(0.0002, 0.02, rows))), 2) + 0.01
    opened = np.round(close * np.exp(random.normal(0, 0.008, rows)), 2) + 0.01
    high = np.round(np.maximum(opened, close) * (1 + np.abs(random.normal(0, 0.006, rows))), 2) + 0.01
    low = np.maximum(np.round(np.minimum(opened, close) * (1 - np.abs(random.normal(0, 0.006, rows))), 2), 0.01)
    volume = np.floor(random.lognormal(12, 1.2, rows))
    table = pa.table(
        {
            "symbol": pa.repeat(symbol, rows),
            "date": pa.array(traded),
            "open": opened,
            "high": high,
            "low": np.minimum(low, np.minimum(opened, close)),
            "close": close,
            "volume": volume,
            "vwap": np.round((high + low + close) / 3, 4),
            "transactions": np.floor(volume / 120).astype(np.int64),
        }
    )
    return stamp(table, INGESTED_AT).cast(DAILY_SCHEMA)

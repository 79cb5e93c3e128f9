"""Strategies for daily bars as plain values, and their way into the tables and blocks of the code under test."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from condvest.domain.actions import Split
from condvest.domain.bars import ANSWER_SCHEMA, DAILY_SCHEMA
from condvest.domain.calendar import Calendar
from condvest.domain.resample import DailyBlock, SessionTable, daily_block, period_table
from property.oracle import Bars, History, Period, Values
from property.oracle import Split as PlainSplit

CALENDAR = Calendar.shipped()
SESSIONS = CALENDAR.sessions(CALENDAR.first, CALENDAR.last)
TABLE = SessionTable(CALENDAR)
SEEN = datetime(2024, 1, 1, tzinfo=UTC)


def values(rand: random.Random) -> Values:
    """Return one sound bar; volume may be 0 or a fraction, vwap and transactions may be absent.

    Numbers are sixteenths: their sums, and products with powers of two, are exact.
    """
    low, first, second, high = sorted(rand.randrange(16, 8000) / 16 for _ in range(4))
    opened, closed = rand.sample([first, second], 2)
    volume = rand.choice([0.0, 0.25, 100.0, rand.randrange(16 * 10**6) / 16])
    vwap = rand.choice([None, opened, closed, 0.0])
    return Values(opened, high, low, closed, volume, vwap, rand.choice([None, rand.randrange(10**6), 0, 1]))


@st.composite
def bars(draw: st.DrawFn, *, most: int = 40) -> Bars:
    """Draw one symbol's bars: anywhere in the calendar, its ends and ordinal 0 among others, with gaps of any size."""
    start = draw(
        st.sampled_from([0, 1, 1990, 2010, 2020, 12_000, len(SESSIONS) - 30]) | st.integers(0, len(SESSIONS) - 1)
    )
    count, rand = draw(st.integers(1, most)), random.Random(draw(st.integers(0, 10**6)))
    dense = rand.random()
    positions = [start]
    while len(positions) < count:
        positions.append(positions[-1] + (1 if rand.random() < dense else rand.choice([2, 3, 17])))
    return {SESSIONS[at]: values(rand) for at in positions if at < len(SESSIONS)}


@st.composite
def lakes(draw: st.DrawFn) -> dict[str, Bars]:
    """Draw the bars of one to three symbols."""
    return {symbol: draw(bars()) for symbol in draw(st.sampled_from([("A",), ("A", "B"), ("A", "Aa", "B")]))}


@st.composite
def splits(draw: st.DrawFn, history: Bars) -> list[PlainSplit]:
    """Draw splits around a symbol's bars, ascending, some on days without a session, some twice on one day."""
    days = sorted(history)
    day = st.integers(days[0].toordinal() - 3, min(days[-1].toordinal() + 9, SESSIONS[-1].toordinal()))
    ratio = st.sampled_from([(1.0, 2.0), (2.0, 1.0), (1.0, 4.0), (2.0, 4.0), (3.0, 2.0), (10.0, 11.0), (1.0, 7.0)])
    found = draw(st.lists(st.tuples(day.map(date.fromordinal), ratio), max_size=5))
    return sorted(PlainSplit(when, *how) for when, how in found)


def as_split(symbol: str, split: PlainSplit) -> Split:
    """Return a plain split as the code under test has it."""
    return Split(symbol, split.day, split.old, split.new, "forward_split", SEEN)


def answer_table(symbol: str, history: Mapping[date, Values]) -> pa.Table:
    """Return a symbol's bars as a table with the columns of an answer."""
    rows = [{"symbol": symbol, "date": day, **bar._asdict()} for day, bar in history.items()]
    return pa.Table.from_pylist(rows, ANSWER_SCHEMA)


def daily_table(symbol: str, history: History) -> pa.Table:
    """Return a symbol's bars as the lake holds them."""
    rows = [
        {"symbol": symbol, "date": day, **bar.values._asdict(), "ingested_at": bar.seen} for day, bar in history.items()
    ]
    return pa.Table.from_pylist(rows, DAILY_SCHEMA)


def block(lake: Mapping[str, Bars]) -> DailyBlock:
    """Return bars as a block; a symbol's code is its place in ascending order."""
    tables = [answer_table(symbol, lake[symbol]) for symbol in sorted(lake)]
    codes = np.repeat(np.arange(len(tables), dtype=np.int32), [table.num_rows for table in tables])
    return daily_block(pa.concat_tables(tables).combine_chunks(), codes, TABLE)


def period_list(found: Any, names: Sequence[str], reach: date) -> list[Period]:
    """Return the kernel's period bars as plain rows, by way of the table that silver is written from."""
    columns = period_table(found, names, (reach - date(1970, 1, 1)).days).to_pydict()
    return [Period(*row) for row in zip(*columns.values(), strict=True)]

"""The resampling kernel: daily bars of many symbols to period bars of N sessions, on contiguous numpy arrays.

A group is `floor(ordinal / N)` of the session ordinal: fixed for all symbols and all time. Nothing here reads or writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from condvest.domain.actions import EPOCH, Split
from condvest.domain.calendar import Calendar
from condvest.errors import DataError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]

PERIOD_SCHEMA: Final = pa.schema(
    [
        ("symbol", pa.string()),
        ("date", pa.date32()),
        ("end_date", pa.date32()),
        ("open", pa.float64()),
        ("high", pa.float64()),
        ("low", pa.float64()),
        ("close", pa.float64()),
        ("volume", pa.float64()),
        ("vwap", pa.float64()),
        ("transactions", pa.int64()),
        ("n_sessions", pa.int32()),
        ("complete", pa.bool_()),
    ]
)

#: Period bars by column, ordered by symbol and date. int32: `symbol` (an index into names), `date`, `end_date` (days since
#: 1970-01-01), `n_sessions`. float64, NaN where null: `open`, `high`, `low`, `close`, `volume`, `vwap`, `transactions`.
PeriodBars: TypeAlias = Mapping[str, npt.NDArray[Any]]

_NO_SESSION: Final = np.iinfo(np.int32).min


class SessionTable:
    """A calendar as arrays, for whole columns at once: day since 1970-01-01 <-> session ordinal."""

    def __init__(self, calendar: Calendar) -> None:
        """Build the arrays; about 20,000 sessions."""
        sessions = calendar.sessions(calendar.first, calendar.last)
        self.days: Ints = np.array([(session - EPOCH).days for session in sessions], np.int32)
        self.first_ordinal: int = calendar.ordinal(sessions[0])
        self._first_day = int(self.days[0])
        # By the day, counted from the one before the first session; neither that one nor the last one here is a session.
        self._ordinals = np.full(int(self.days[-1]) - self._first_day + 3, _NO_SESSION, np.int32)
        self._ordinals[self.days - self._first_day + 1] = np.arange(len(sessions), dtype=np.int32) + self.first_ordinal

    def ordinals(self, days: Ints) -> Ints:
        """Return the ordinals of days. DataError names the first day that is no session."""
        found = self._ordinals.take(days.astype(np.int64) - (self._first_day - 1), mode="clip")
        wrong = found == _NO_SESSION
        if wrong.any():
            day = np.datetime64(int(days[np.flatnonzero(wrong)[0]]), "D")
            raise DataError(f"{day}: a daily bar on a day without a session; run `condvest verify` to find it")
        return found

    def ordinal_on_or_after(self, day: date) -> int:
        """Return the ordinal of the first session on or after a day."""
        return int(np.searchsorted(self.days, (day - EPOCH).days)) + self.first_ordinal

    def day_at(self, ordinals: Ints) -> Ints:
        """Return the days of ordinals; those outside the table get its first or last day."""
        return self.days.take(ordinals - self.first_ordinal, mode="clip")


@dataclass(frozen=True, slots=True)
class DailyBlock:
    """Daily bars of several symbols: contiguous arrays, ordered by symbol code, then session.

    `codes` index a list of names that the caller keeps. Prices are raw, in USD. `money` is vwap * volume, 0 where nothing was
    traded: the same on every basis. It and `transactions` are NaN where null.
    """

    codes: Ints
    ordinals: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    money: Floats
    transactions: Floats

    def __len__(self) -> int:
        """Return the count of bars."""
        return len(self.codes)


def daily_block(bars: pa.Table, codes: Ints, table: SessionTable) -> DailyBlock:
    """Turn a table with the daily columns, ordered by symbol and session, into a block; `codes` has a row's symbol code."""
    volume = floats(bars["volume"])
    return DailyBlock(
        codes=codes,
        ordinals=table.ordinals(day_numbers(bars["date"])),
        open=floats(bars["open"]),
        high=floats(bars["high"]),
        low=floats(bars["low"]),
        close=floats(bars["close"]),
        volume=volume,
        money=np.where(volume == 0.0, 0.0, floats(bars["vwap"]) * volume),
        transactions=floats(bars["transactions"]),
    )


def floats(column: pa.ChunkedArray) -> Floats:
    """Return a numeric column as contiguous float64, null as NaN."""
    return np.ascontiguousarray(column.to_numpy(), dtype=np.float64)


def day_numbers(column: pa.ChunkedArray) -> Ints:
    """Return a date column as days since 1970-01-01."""
    days = column.combine_chunks().view(pa.int32()).to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(days, dtype=np.int32)


def resample(
    block: DailyBlock,
    sessions: int,
    table: SessionTable,
    splits: Sequence[tuple[int, Split]] = (),
    *,
    origin: Ints | None = None,
) -> PeriodBars:
    """Return the period bars of a block, ordered as it is.

    `splits` are (symbol code, split) in ascending order of code and date; one that executes inside a group is applied to the
    group's sessions before it: prices times from/to, volume the other way. `origin`: an ordinal for each row from which
    groups are counted in place of 0. The period's vwap is sum(vwap * volume) / sum(volume); null where a session that traded
    has none. transactions: the sum; null where one is null. `date` and `end_date` are the group's scheduled bounds.
    """
    relative = block.ordinals if origin is None else block.ordinals - origin
    groups = relative // np.int32(sessions)
    begins = np.ones(len(block), np.bool_)
    begins[1:] = (groups[1:] != groups[:-1]) | (block.codes[1:] != block.codes[:-1])
    starts = np.flatnonzero(begins)
    stops = np.concatenate((starts, [len(block)]))[1:]
    first = groups[starts] * np.int32(sessions) + (0 if origin is None else origin[starts])
    price, volume = _basis(block, sessions, table, splits, origin)
    traded = np.add.reduceat(block.volume if volume is None else block.volume * volume, starts)
    none = traded == 0.0
    with np.errstate(invalid="ignore"):
        vwap = np.where(none, np.nan, np.add.reduceat(block.money, starts) / np.where(none, 1.0, traded))
    return {
        "symbol": block.codes[starts],
        "date": table.day_at(first),
        "end_date": table.day_at(first + np.int32(sessions - 1)),
        "n_sessions": (stops - starts).astype(np.int32),
        "open": (block.open if price is None else block.open * price)[starts],
        "high": np.maximum.reduceat(block.high if price is None else block.high * price, starts),
        "low": np.minimum.reduceat(block.low if price is None else block.low * price, starts),
        "close": (block.close if price is None else block.close * price)[stops - 1],
        "volume": traded,
        "vwap": vwap,
        "transactions": np.add.reduceat(block.transactions, starts),
    }


def _basis(
    block: DailyBlock, sessions: int, table: SessionTable, splits: Sequence[tuple[int, Split]], origin: Ints | None
) -> tuple[Floats | None, Floats | None]:
    """Return the factors for prices and volumes of each row, (None, None) where no split executes inside a group."""
    if not splits:
        return None, None
    price, volume = np.ones(len(block)), np.ones(len(block))
    # One ascending number a row: its symbol in the high half, its ordinal in the low half.
    keys = (block.codes.astype(np.int64) << 32) + (block.ordinals.astype(np.int64) + 2**31)
    codes = np.array([code for code, _ in splits], np.int64)
    executed = np.array([(split.execution_date - EPOCH).days for _, split in splits], np.int64)
    at = np.searchsorted(table.days, executed) + table.first_ordinal  # the first session on or after it
    base = np.zeros(len(splits), np.int64)
    if origin is not None:
        rows = np.clip(np.searchsorted(block.codes, codes), 0, len(block) - 1)
        base = origin[rows].astype(np.int64)
    begin = (at - base) // sessions * sessions + base
    first = np.searchsorted(keys, (codes << 32) + (begin + 2**31))
    stop = np.searchsorted(keys, (codes << 32) + (at + 2**31))
    for index in np.flatnonzero(stop > first).tolist():
        split = splits[index][1]
        before = slice(first[index], stop[index])
        price[before] *= split.price_factor
        volume[before] *= split.split_to / split.split_from
    return price, volume


def period_table(bars: PeriodBars | npt.NDArray[Any], names: Sequence[str], reach_day: int) -> pa.Table:
    """Return period bars as a table with `PERIOD_SCHEMA`; complete where `end_date` is not after `reach_day`.

    They are `PeriodBars`, or an array of rows with fields of those names, ordered by symbol and date; `names` are in ascending
    order: the bytes of a file made of the table depend on the bars alone. `reach_day` (days since 1970-01-01) is the last session
    of the consolidated lake.
    """
    codes = bars["symbol"]
    begins = np.ones(len(codes), np.bool_)
    np.not_equal(codes[1:], codes[:-1], out=begins[1:])
    symbols = pa.DictionaryArray.from_arrays(
        pa.array(np.cumsum(begins, dtype=np.int32) - np.int32(1)),
        pa.array([names[code] for code in codes[begins].tolist()], pa.string()),
    )
    return pa.table({"symbol": symbols, **period_columns(bars, reach_day)})


def period_columns(bars: PeriodBars | npt.NDArray[Any], reach_day: int) -> dict[str, pa.Array]:
    """Return the columns of `period_table` but for `symbol`, in the order of `PERIOD_SCHEMA`."""
    columns: dict[str, pa.Array] = {
        "date": pa.array(bars["date"]).view(pa.date32()),
        "end_date": pa.array(bars["end_date"]).view(pa.date32()),
    }
    for name in ("open", "high", "low", "close", "volume"):
        columns[name] = pa.array(bars[name])
    for name in ("vwap", "transactions"):
        columns[name] = pa.array(bars[name], from_pandas=True)  # NaN becomes null
    columns["transactions"] = columns["transactions"].cast(pa.int64())
    columns["n_sessions"] = pa.array(bars["n_sessions"])
    columns["complete"] = pa.array(bars["end_date"] <= reach_day)
    return columns


def periods_in(table: pa.Table, codes: Ints) -> PeriodBars:
    """Return the bars of a table with `PERIOD_SCHEMA`: the inverse of `period_table`, but for `complete`."""
    bars = {"symbol": codes, "date": day_numbers(table["date"]), "end_date": day_numbers(table["end_date"])}
    bars["n_sessions"] = table["n_sessions"].to_numpy()
    return bars | {
        name: floats(table[name]) for name in ("open", "high", "low", "close", "volume", "vwap", "transactions")
    }

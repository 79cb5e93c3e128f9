"""Pandas as a peer, with pyarrow as its engine for parquet. Meant for a tenth of the market: it holds all rows several times.

Resample: one read of all files, one group-by an interval with an integer key of symbol and group, months written by two
threads. Slower: a read a file, `partition_cols` of `to_parquet`.

Consolidate and session: a loop over symbols in two threads, a loop over rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from command import (
    BRONZE,
    INTERVALS,
    THREADS,
    Answer,
    Options,
    Pending,
    make_symbol_folders,
    pending,
    row_path,
    run,
    timed,
)

VALUES = ["open", "high", "low", "close", "volume", "vwap", "transactions"]
PERIOD = {
    "symbol": "first",
    "date": "first",
    "open": "first",
    "high": "max",
    "low": "min",
    "close": "last",
    "volume": "sum",
    "money": "sum",
    "transactions": "sum",
    "n_sessions": "sum",
}
_DATES = {"date_as_object": False}


def resample(options: Options) -> Answer:
    """Write all period bars."""
    return timed(lambda: _resample(options))


def _resample(options: Options) -> int:
    sessions = pd.read_parquet(options.sessions, to_pandas_kwargs=_DATES)
    daily = pd.read_parquet(
        sorted((options.lake / BRONZE).glob("symbol=*/data.parquet")),
        columns=["symbol", "date", *VALUES],
        partitioning=None,
        to_pandas_kwargs=_DATES,
    )
    daily["symbol"] = daily["symbol"].astype("category")
    daily["money"] = daily["vwap"] * daily["volume"]
    daily["n_sessions"] = np.int32(1)
    at = sessions["date"].searchsorted(daily["date"])
    symbols = daily["symbol"].cat.codes.to_numpy().astype(np.int64) << 32
    rows = 0
    for n in INTERVALS:
        groups = sessions["ordinal"] // n
        starts = sessions["date"].groupby(groups).transform("min").to_numpy()
        key = symbols + groups.to_numpy()[at]
        bars = daily.assign(date=starts[at]).groupby(key, sort=False).agg(PERIOD)
        bars.insert(7, "vwap", bars.pop("money") / bars["volume"])
        _write_months(options, n, bars)
        rows += len(bars)
    return rows


def _write_months(options: Options, n: int, bars: pd.DataFrame) -> None:
    def write(month: tuple[tuple[int, int], pd.DataFrame]) -> None:
        (year, number), rows = month
        folder = options.out / f"silver_{n}d/year={year}/month={number}"
        folder.mkdir(parents=True)
        rows.to_parquet(folder / "data.parquet", index=False)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(write, _months(bars)))


def _months(bars: pd.DataFrame) -> Iterator[tuple[tuple[int, int], pd.DataFrame]]:
    return iter(bars.groupby([bars["date"].dt.year, bars["date"].dt.month]))


def consolidate(options: Options) -> Answer:
    """Write `data.parquet` of each symbol that has `date=` files."""
    return timed(lambda: _consolidate(options))


def _consolidate(options: Options) -> int:
    def merge(one: Pending) -> int:
        rows = pd.read_parquet([one.data, *one.dated], partitioning=None, to_pandas_kwargs=_DATES)
        rows = rows.sort_values(["date", "ingested_at"]).drop_duplicates("date", keep="last")
        rows.to_parquet(one.target, index=False)
        return len(rows)

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(merge, pending(options)))


def session(options: Options) -> Answer:
    """Write each row of a table as a file of its own."""
    bars = pd.read_parquet(options.bars)
    make_symbol_folders(options, bars["symbol"])

    def write() -> int:
        for at, (symbol, day) in enumerate(zip(bars["symbol"], bars["date"], strict=True)):
            bars.iloc[at : at + 1].to_parquet(row_path(options, symbol, day), index=False, compression=None)
        return len(bars)

    return timed(write)


if __name__ == "__main__":
    run({"resample": resample, "consolidate": consolidate, "session": session})

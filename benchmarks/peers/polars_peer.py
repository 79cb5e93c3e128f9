"""Polars as a peer: lazy frames, the streaming engine, two threads.

Resample: one scan of the market, six group-bys, six partitioned sinks, all in one `collect_all`. Slower or no faster: frames
first, then files, through `partition_by` and from two threads; reading eagerly; symbols as categories; one sorted integer as
the key. Rows are not sorted in their files.

Consolidate: all `date=` files in one read, then a loop over symbols in two threads. Slower: one `date=` file after the other, a
lazy frame a symbol.

Session: one partitioned sink. A `write_parquet` a row takes half as long again.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from command import (
    INTERVALS,
    SYMBOL_INTERVAL,
    THREADS,
    Answer,
    Options,
    Pending,
    compared,
    make_symbol_folders,
    pending,
    row_path,
    run,
    timed,
)

os.environ["POLARS_MAX_THREADS"] = str(THREADS)

# Only now: it reads the number of threads when it is imported.
import polars as pl

VALUES = ("open", "high", "low", "close", "volume", "vwap", "transactions")
PERIOD = (
    pl.first("open"),
    pl.max("high"),
    pl.min("low"),
    pl.last("close"),
    pl.sum("volume"),
    ((pl.col("vwap") * pl.col("volume")).sum() / pl.sum("volume")).alias("vwap"),
    pl.sum("transactions"),
    pl.len().cast(pl.Int32).alias("n_sessions"),
)


def resample(options: Options) -> Answer:
    """Write all period bars; rows are counted afterwards."""
    answer = timed(lambda: _resample(options))
    written = pl.scan_parquet(f"{options.out}/**/*.parquet", hive_partitioning=False)
    return answer | {"rows": written.select(pl.len()).collect().item()}


def _resample(options: Options) -> int:
    daily = (
        pl.scan_parquet(options.histories, hive_partitioning=False)
        .select("symbol", "date", *VALUES)
        .join(_starts(options, INTERVALS).lazy(), on="date", maintain_order="left")
    )
    sinks = [
        daily.group_by("symbol", pl.col(f"start_{n}").alias("date"))
        .agg(PERIOD)
        .with_columns(year=pl.col("date").dt.year(), month=pl.col("date").dt.month())
        .sink_parquet(
            pl.PartitionBy(options.out / f"silver_{n}d", key=["year", "month"], include_key=False),
            compression="snappy",
            mkdir=True,
            lazy=True,
        )
        for n in INTERVALS
    ]
    pl.collect_all(sinks, engine="streaming")
    return 0


def consolidate(options: Options) -> Answer:
    """Write `data.parquet` of each symbol that has `date=` files."""
    return timed(lambda: _consolidate(options))


def _consolidate(options: Options) -> int:
    found = pending(options)
    dated = pl.read_parquet([path for one in found for path in one.dated], hive_partitioning=False, glob=False)
    new = {key[0]: rows for key, rows in dated.partition_by("symbol", as_dict=True).items()}

    def merge(one: Pending) -> int:
        rows = pl.concat([pl.read_parquet(one.data, hive_partitioning=False, glob=False), new[one.symbol]])
        rows = rows.sort("date", "ingested_at").unique("date", keep="last", maintain_order=True)
        rows.write_parquet(one.target, compression="snappy")
        return rows.height

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(merge, found))


def session(options: Options) -> Answer:
    """Write each row of a table as a file of its own."""
    bars = pl.read_parquet(options.bars)
    sessions = dict(bars.select("symbol", "date").iter_rows())
    make_symbol_folders(options, sessions)

    def path(part: pl.FileProviderArgs) -> str:
        symbol = part.partition_keys.item()
        return row_path(options, symbol, sessions[symbol]).removeprefix(f"{options.out}/")

    def write() -> int:
        target = pl.PartitionBy(options.out, key="symbol", include_key=True, file_path_provider=path)
        bars.write_parquet(target, compression="uncompressed", statistics=False)
        return bars.height

    return timed(write)


def symbol(options: Options) -> Answer:
    """Read one symbol's bars: eagerly from its daily bars, which is the faster way for one small file, lazily from silver."""
    starts = _starts(options, (SYMBOL_INTERVAL,)).select(pl.col(f"start_{SYMBOL_INTERVAL}").alias("start"))
    starts = starts.unique().sort("start").set_sorted("start")
    stored = pl.scan_parquet(options.silver, hive_partitioning=False).filter(pl.col("symbol") == options.symbol)

    def computed() -> int:
        daily = pl.read_parquet(
            options.history, columns=["symbol", "date", *VALUES], hive_partitioning=False, glob=False
        )
        grouped = daily.set_sorted("date").join_asof(starts, left_on="date", right_on="start", coalesce=False)
        return grouped.group_by("start", maintain_order=True).agg(pl.first("symbol"), *PERIOD).height

    return compared(options, computed, lambda: stored.collect(engine="streaming").height)


def _starts(options: Options, intervals: tuple[int, ...]) -> pl.DataFrame:
    """Return the sessions, each with the first session of its group: one column an interval."""
    group = pl.col("ordinal")
    return pl.read_parquet(options.sessions).select(
        "date", *(pl.col("date").min().over(group.floordiv(n)).alias(f"start_{n}") for n in intervals)
    )


if __name__ == "__main__":
    run({"resample": resample, "consolidate": consolidate, "session": session, "symbol": symbol})

"""The manner of an earlier public implementation of the same specification, written anew: what that manner costs.

Resample, each interval by itself and nothing kept for the next: a view over all files; counts of the whole market, for the log;
one statement that finds the days of each symbol, numbers them with ROW_NUMBER, cuts the numbers into groups of N and joins
the days back to the daily rows by symbol and a range of times (the costly part: an inequality join inside each symbol); the
result as one pandas frame, ordered by time; then month after month through a temporary file that is uploaded (here: copied).

Consolidate, ten threads, a symbol at a time: a DuckDB connection of its own; the old file and the `date=` files in one
UNION ALL, fetched as a pandas frame; rows made distinct by all columns; the whole file written with pyarrow's defaults; at
the end a manifest.

Its results are not those of the other peers: groups go by row number, there is no `vwap`, and a restated bar becomes two.
Left out: S3, its log, its deletion of old files, loading DuckDB's S3 extension in each thread.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from command import INTERVALS, Answer, Options, Pending, pending, run, timed

WORKERS = 10

COUNTS = "select min(date), max(date), count(*), count(distinct symbol), count(distinct date::date) from daily"
PERIODS = """
    with days as (
        select symbol, date::date as day, min(date) as earliest, max(date) as latest from daily group by symbol, date::date
    ),
    numbered as (
        select symbol, earliest, latest, row_number() over (partition by symbol order by day) - 1 as position from days
    )
    select min(numbered.earliest) as ts, numbered.symbol, first(daily.open order by daily.date) as open,
        max(daily.high) as high, min(daily.low) as low, first(daily.close order by daily.date desc) as close,
        sum(daily.volume) as volume
    from numbered
    join daily on daily.symbol = numbered.symbol and daily.date >= numbered.earliest and daily.date <= numbered.latest
    group by numbered.symbol, floor(numbered.position / {n})
    order by ts, numbered.symbol"""


def resample(options: Options) -> Answer:
    """Write all period bars."""

    def work() -> int:
        with duckdb.connect() as base, tempfile.TemporaryDirectory() as scratch:
            return sum(_interval(base, options, n, Path(scratch)) for n in INTERVALS)

    return timed(work)


def _interval(base: duckdb.DuckDBPyConnection, options: Options, n: int, scratch: Path) -> int:
    base.execute(
        f"create or replace view daily as select symbol, date, open, high, low, close, volume from '{options.histories}'"
    )
    base.execute(COUNTS).fetchone()
    bars = base.execute(PERIODS.format(n=n)).df()
    started = pd.to_datetime(bars["ts"])
    bars["year"], bars["month"] = started.dt.year, started.dt.month
    for (year, month), rows in bars.groupby(["year", "month"]):
        name = f"data_{n}d_{year}{month:02}.parquet"
        rows.drop(columns=["year", "month"]).to_parquet(scratch / name, compression="snappy", index=False)
        folder = options.out / f"silver_{n}d/year={year}/month={month:02}"
        folder.mkdir(parents=True)
        shutil.copyfile(scratch / name, folder / name)
        (scratch / name).unlink()
    return len(bars)


def consolidate(options: Options) -> Answer:
    """Write `data.parquet` of each symbol that has `date=` files, and a manifest."""

    def work() -> int:
        with ThreadPoolExecutor(WORKERS) as pool:
            records = list(pool.map(_merge, pending(options)))
        folder = options.out / "processing_metadata"
        folder.mkdir()
        _write(pd.DataFrame(records), folder / "consolidation_manifest.parquet")
        return sum(record["row_count"] for record in records)

    return timed(work)


def _merge(found: Pending) -> dict[str, object]:
    with duckdb.connect() as base:
        rows = base.execute(
            f"""select * from read_parquet('{found.data}', hive_partitioning = false)
                union all select * from read_parquet({found.dated}, hive_partitioning = false)"""
        ).df()
    rows = rows.drop_duplicates()
    _write(rows, Path(found.target))
    return {
        "symbol": found.symbol,
        "last_consolidated_date": rows["date"].max(),
        "row_count": len(rows),
        "last_updated": datetime.now(UTC),
    }


def _write(rows: pd.DataFrame, path: Path) -> None:
    encoded = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), encoded, compression="snappy")
    path.write_bytes(encoded.getvalue())


if __name__ == "__main__":
    run({"resample": resample, "consolidate": consolidate})

"""DuckDB as a peer: SQL alone, two threads.

Resample: one read of the market into a table that has the first session of each of the six groups as a column, then one
GROUP BY and one partitioned COPY an interval. Slower or no faster: groups by ordinal with the date as one more aggregate; a join
with the groups afterwards; period bars in tables of their own first; GROUPING SETS (six groupings of one scan); no insertion
order; symbols as an ENUM. Rows are not sorted in their files: a partitioned COPY keeps no order, even with ORDER BY.

Consolidate: a statement a symbol, two threads with a connection each. No faster: all symbols in one statement with a
partitioned COPY, ROW_NUMBER or ARG_MAX in place of DISTINCT ON, all `date=` files in one table first.

Session: one partitioned COPY, then the files get their names. A COPY a row takes at least twice as long.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
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

PERIOD = """arg_min(open, date) as open, max(high) as high, min(low) as low, arg_max(close, date) as close,
    sum(volume) as volume, sum(vwap * volume) / sum(volume) as vwap, sum(transactions)::bigint as transactions,
    count(*)::integer as n_sessions"""


def resample(options: Options) -> Answer:
    """Write all period bars."""
    return timed(lambda: _resample(options))


def _resample(options: Options) -> int:
    base = _connect(THREADS)
    _create_starts(base, options, INTERVALS)
    base.execute(
        f"""create table daily as select symbol, date, open, high, low, close, volume, vwap, transactions, starts.* exclude (date)
            from read_parquet('{options.histories}', hive_partitioning = false) join starts using (date)"""
    )
    rows = 0
    for n in INTERVALS:
        copied = base.execute(
            f"""copy (select symbol, start_{n} as date, {PERIOD}, year(start_{n}) as year, month(start_{n}) as month
                from daily group by symbol, start_{n})
                to '{options.out}/silver_{n}d' (format parquet, partition_by (year, month))"""
        ).fetchone()
        rows += copied[0]
    return rows


def consolidate(options: Options) -> Answer:
    """Write `data.parquet` of each symbol that has `date=` files."""
    return timed(lambda: _consolidate(options))


def _consolidate(options: Options) -> int:
    own = threading.local()

    def merge(found: Pending) -> int:
        if not hasattr(own, "base"):
            own.base = _connect(1)
        copied = own.base.execute(
            f"""copy (select distinct on (date) * from read_parquet({[found.data, *found.dated]}, hive_partitioning = false)
                order by date, ingested_at desc) to '{found.target}' (format parquet)"""
        )
        return copied.fetchone()[0]

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(merge, pending(options)))


def session(options: Options) -> Answer:
    """Write each row of a table as a file of its own."""
    base = _connect(THREADS)
    base.execute(f"create table bars as from '{options.bars}'")
    sessions = dict(base.execute("select symbol, date from bars").fetchall())
    make_symbol_folders(options, sessions)

    def write() -> int:
        copied = base.execute(
            f"""copy bars to '{options.out}' (format parquet, compression uncompressed, partition_by (symbol),
                write_partition_columns true, filename_pattern 'row_{{i}}', overwrite_or_ignore true)"""
        ).fetchone()
        for symbol, day in sessions.items():
            Path(f"{options.out}/symbol={symbol}/row_0.parquet").rename(row_path(options, symbol, day))
        return copied[0]

    return timed(write)


def symbol(options: Options) -> Answer:
    """Read one symbol's bars; footers of files once read are kept."""
    base = _connect(THREADS)
    base.execute("set parquet_metadata_cache = true")
    _create_starts(base, options, (SYMBOL_INTERVAL,))
    start = f"start_{SYMBOL_INTERVAL}"
    computed = f"""select symbol, {start} as date, {PERIOD}
        from read_parquet('{options.history}', hive_partitioning = false) join starts using (date)
        group by symbol, {start} order by {start}"""
    stored = f"""select * from read_parquet('{options.silver}', hive_partitioning = false)
        where symbol = '{options.symbol}' order by date"""
    return compared(
        options,
        lambda: base.sql(computed).to_arrow_table().num_rows,
        lambda: base.sql(stored).to_arrow_table().num_rows,
    )


def _connect(threads: int) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"threads": threads})


def _create_starts(base: duckdb.DuckDBPyConnection, options: Options, intervals: tuple[int, ...]) -> None:
    """Create the table of sessions, each with the first session of its group: one column an interval."""
    starts = (f"min(date) over (partition by floor(ordinal / {n})) as start_{n}" for n in intervals)
    base.execute(f"create table starts as select date, {', '.join(starts)} from '{options.sessions}'")


if __name__ == "__main__":
    run({"resample": resample, "consolidate": consolidate, "session": session, "symbol": symbol})

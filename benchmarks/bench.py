"""Measure the jobs beside their floors and a peer, in one run on one generated market; print ratios, which is what counts.

    python benchmarks/bench.py [--symbols 540] [--rounds 3] [--folder /dev/shm/condvest-bench]

Floors: the same bytes decoded by pyarrow, the same bytes written. Peer: DuckDB's best SQL for the same period bars.
Goals are those of the project's performance page. Absolute seconds depend on the machine and on what else it does.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent))
from market import LAST, histories

from condvest.analytics.reader import Lake
from condvest.domain.calendar import INTERVALS, Calendar
from condvest.domain.resample import SessionTable
from condvest.jobs.consolidate import consolidate
from condvest.jobs.resample import resample
from condvest.jobs.write_bars import write_bars
from condvest.storage import layout
from condvest.storage.opening import open_store
from condvest.storage.parquet import encode_history
from condvest.storage.store import Store

NOW = datetime(2025, 11, 20, 22, tzinfo=UTC)
NEW_SESSION = date(2025, 11, 20)


def main() -> None:
    """Run everything and print a table."""
    options = _options()
    folder = Path(options.folder)
    shutil.rmtree(folder, ignore_errors=True)
    store = open_store(str(folder / "lake"), fsync=False)
    rows = _fill(store, options.symbols)
    print(f"{options.symbols} symbols, {rows:,} daily bars, {folder}; medians of {options.rounds} interleaved rounds")
    times: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for name, work in _works(store, folder, options.symbols).items():
            times.setdefault(name, []).append(work())
    seconds = {name: statistics.median(found) for name, found in times.items()}
    for name, median in seconds.items():
        print(f"{name:44} {median:9.4f} s")
    _ratios(seconds)
    print(f"peak memory of a full resample as a process: {_peak_mib(folder)} MiB")
    shutil.rmtree(folder)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=540)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", default="/dev/shm/condvest-bench" if Path("/dev/shm").is_dir() else "bench-lake")
    return parser.parse_args()


def _fill(store: Store, symbols: int) -> int:
    rows = 0
    for history in histories(symbols):
        store.put(layout.data_key(history["symbol"][0].as_py()), encode_history(history))
        rows += history.num_rows
    consolidate(store, now=NOW)
    return rows


def _works(store: Store, folder: Path, symbols: int) -> dict[str, Callable[[], float]]:
    calendar = Calendar.shipped()
    return {
        "floor: decode every data.parquet": lambda: _timed(lambda: _decode(store)),
        "full resample, six intervals": lambda: _timed(lambda: _full(store, calendar)),
        "floor: write the same silver bytes": lambda: _write_floor(store, folder),
        "DuckDB SQL, six intervals, COPY": lambda: _timed(lambda: _duckdb(folder, calendar)),
        "resample with nothing new": lambda: _timed(lambda: resample(store, calendar=calendar)),
        **_one_session(store, folder, symbols, calendar),
        "floor: decode one data.parquet": lambda: _timed(lambda: _decode_one(store), repeat=200),
        "Lake.bars of one symbol, warm": lambda: _bars(folder),
    }


def _timed(work: Callable[[], object], *, repeat: int = 1) -> float:
    begin = time.perf_counter()
    for _ in range(repeat):
        work()
    return (time.perf_counter() - begin) / repeat


def _decode(store: Store) -> None:
    keys = [info.key for info in store.list(layout.BRONZE) if info.key.endswith("/data.parquet")]
    for _ in store.map(keys, lambda _, stored: pq.ParquetFile(pa.BufferReader(stored.data)).read(use_threads=False)):
        pass


def _decode_one(store: Store) -> pa.Table:
    return pq.ParquetFile(pa.BufferReader(store.get(layout.data_key("A")).data)).read(use_threads=False)


def _full(store: Store, calendar: Calendar) -> None:
    """Build silver from nothing: no month file and no checkpoint."""
    store.delete_many([info.key for info in store.list(layout.SILVER)])
    store.delete_many([layout.checkpoint_key(sessions) for sessions in INTERVALS])
    resample(store, calendar=calendar)


def _write_floor(store: Store, folder: Path) -> float:
    objects = [(info.key, store.get(info.key).data) for info in store.list(layout.SILVER)]
    shutil.rmtree(folder / "copy", ignore_errors=True)
    return _timed(lambda: open_store(str(folder / "copy"), fsync=False).put_many(objects))


def _duckdb(folder: Path, calendar: Calendar) -> None:
    table = SessionTable(calendar)
    days = pa.array(table.days).cast(pa.date32())
    sessions = pa.table({"date": days, "ordinal": range(table.first_ordinal, table.first_ordinal + len(days))})
    with duckdb.connect() as base:
        base.register("sessions", sessions)
        base.execute(
            f"create table daily as select d.*, s.ordinal from read_parquet('{folder}/lake/{layout.BRONZE}*/data.parquet',"
            " hive_partitioning=false) d join sessions s using (date)"
        )
        for n in INTERVALS:
            base.execute(
                f"""copy (select symbol, min(date) as date, arg_min(open, ordinal) as open, max(high) as high,
                    min(low) as low, arg_max(close, ordinal) as close, sum(volume) as volume,
                    sum(vwap * volume) / sum(volume) as vwap, sum(transactions) as transactions, count(*) as n_sessions,
                    year(min(date)) as year, month(min(date)) as month
                    from daily group by symbol, floor(ordinal / {n}) order by symbol, date)
                    to '{folder}/duckdb_{n}' (format parquet, partition_by (year, month), overwrite_or_ignore)"""
            )
    for n in INTERVALS:
        shutil.rmtree(folder / f"duckdb_{n}")


def _one_session(store: Store, folder: Path, symbols: int, calendar: Calendar) -> dict[str, Callable[[], float]]:
    """One new session for every symbol that trades: written, consolidated, resampled; then taken back."""
    last = [history.slice(history.num_rows - 1) for history in histories(symbols)]
    bars = pa.concat_tables([row for row in last if row["date"][0].as_py() == LAST]).sort_by("symbol").combine_chunks()
    bars = bars.set_column(1, "date", pa.repeat(pa.scalar(NEW_SESSION, pa.date32()), bars.num_rows))

    def copied() -> Store:
        shutil.rmtree(folder / "day", ignore_errors=True)
        shutil.copytree(folder / "lake", folder / "day")
        day = open_store(str(folder / "day"), fsync=False)
        # A copied file is another version to the lake: let the caches settle before anything is timed.
        consolidate(day, now=NOW)
        resample(day, calendar=calendar)
        return day

    def write() -> float:
        day = copied()
        return _timed(lambda: write_bars(day, bars, now=NOW))

    def merge() -> float:
        return _timed(lambda: consolidate(open_store(str(folder / "day"), fsync=False), now=NOW))

    def update() -> float:
        return _timed(lambda: resample(open_store(str(folder / "day"), fsync=False), calendar=calendar))

    def plain() -> float:
        rows = [bars.slice(index, 1) for index in range(bars.num_rows)]
        shutil.rmtree(folder / "plain", ignore_errors=True)
        (folder / "plain").mkdir()
        return _timed(lambda: [pq.write_table(row, folder / "plain" / f"{at}.parquet") for at, row in enumerate(rows)])

    def copy_floor() -> float:
        data = [(i.key, store.get(i.key).data) for i in store.list(layout.BRONZE) if i.key.endswith("/data.parquet")]
        shutil.rmtree(folder / "copy", ignore_errors=True)
        return _timed(lambda: open_store(str(folder / "copy"), fsync=False).put_many(data))

    return {
        "pyarrow's default writer, one row a file": plain,
        "write one session as date= files": write,
        "floor: write the same data.parquet bytes": copy_floor,
        "consolidate one new session": merge,
        "resample one new session": update,
    }


def _bars(folder: Path) -> float:
    lake = Lake.open(str(folder / "lake"))
    lake.bars("A")
    return _timed(lambda: lake.bars("A"), repeat=200)


def _peak_mib(folder: Path) -> int:
    code = (
        "import sys; from condvest.domain.calendar import Calendar; from condvest.jobs.resample import resample;"
        "from condvest.storage.store import open_store;"
        "resample(open_store(sys.argv[1], fsync=False), calendar=Calendar.shipped(), force_full=True)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder / "lake")], check=True)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024


def _ratios(seconds: dict[str, float]) -> None:
    floors = seconds["floor: decode every data.parquet"] + seconds["floor: write the same silver bytes"]
    full = seconds["full resample, six intervals"]
    lines = [
        ("full resample / floors", full / floors, "<= 2.5"),
        ("DuckDB SQL / full resample", seconds["DuckDB SQL, six intervals, COPY"] / full, ">= 2"),
        ("resample of one new session / full", seconds["resample one new session"] / full, "<= 0.1"),
        (
            "consolidate one session / write floor",
            seconds["consolidate one new session"] / seconds["floor: write the same data.parquet bytes"],
            "<= 14",
        ),
        (
            "write one session / pyarrow's default writer",
            seconds["write one session as date= files"] / seconds["pyarrow's default writer, one row a file"],
            "<= 0.75",
        ),
        (
            "Lake.bars / decode of that file",
            seconds["Lake.bars of one symbol, warm"] / seconds["floor: decode one data.parquet"],
            "<= 2",
        ),
    ]
    print()
    for name, ratio, goal in lines:
        print(f"{name:46} {ratio:8.3f}   goal {goal}")


if __name__ == "__main__":
    main()

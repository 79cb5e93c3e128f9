"""Lakes to measure on, made from the generated market by the project's own writers; and steps of jobs, measured alone.

    python benchmarks/lakes.py market LAKE --symbols 5400 --years 20 --pending 1 --rows FILE
    python benchmarks/lakes.py part LAKE TO --step 10
    python benchmarks/lakes.py pending LAKE --rows FILE [--symbols 540]
    python benchmarks/lakes.py session FILE --symbols 10000
    python benchmarks/lakes.py sessions FILE
    python benchmarks/lakes.py landing LAKE --symbols 10000 --years 20

Each prints one JSON object.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
from market import INGESTED_AT, LAST, histories, symbol_name

from condvest.domain.bars import DAILY_SCHEMA, stamp
from condvest.domain.calendar import Calendar
from condvest.jobs.write_bars import write_daily
from condvest.storage import layout
from condvest.storage.actions import update_dividends, update_splits
from condvest.storage.opening import open_store
from condvest.storage.parquet import encode_history

_NEW_YORK = ZoneInfo("America/New_York")


def main() -> None:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("market", "part", "pending", "session", "sessions", "landing"))
    parser.add_argument("place")
    parser.add_argument("to", nargs="?")
    for name, default in (("symbols", 540), ("years", 20), ("pending", 1), ("step", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rows", type=Path)
    options = parser.parse_args()
    if options.command == "market":
        said = make_market(options.place, options.symbols, options.years, options.pending, options.rows)
    elif options.command == "part":
        said = make_part(Path(options.place), Path(options.to), options.step)
    elif options.command == "pending":
        said = add_pending(options.place, options.rows)
    elif options.command == "sessions":
        said = make_sessions(Path(options.place))
    elif options.command == "session":
        said = make_session(Path(options.place), options.symbols)
    else:
        said = make_landing(options.place, options.symbols, options.years)
    print(json.dumps(said))


def make_market(lake: str, symbols: int, years: int, pending: int, rows: Path) -> dict[str, int]:
    """Write each symbol's `data.parquet` without the last `pending` sessions, whose bars go to the file `rows`."""
    held_back = Calendar.shipped().sessions(date(2025, 1, 2), LAST)[-pending:] if pending else []
    since = pa.scalar(held_back[0] if held_back else date.max, pa.date32())
    later, splits, dividends, count = [], [], [], 0

    def files() -> Iterator[tuple[str, bytes]]:
        nonlocal count
        for history in histories(symbols, years=years):
            first = history.bars["date"].combine_chunks()
            known = int(np.searchsorted(first.cast(pa.int32()).to_numpy(), since.cast(pa.int32()).as_py()))
            later.append(history.bars.slice(known))
            splits.extend([history.split] if history.split else [])
            dividends.extend(history.dividends)
            count += known
            yield layout.data_key(history.symbol), encode_history(history.bars.slice(0, known))

    store = open_store(lake, fsync=False)
    store.put_many(files())
    update_splits(store, lambda _: splits)
    update_dividends(store, lambda _: dividends)
    pq.write_table(pa.concat_tables(later).sort_by([("date", "ascending"), ("symbol", "ascending")]), rows)
    return {"rows": count}


def make_part(lake: Path, to: Path, step: int) -> dict[str, int]:
    """Take each `step`-th symbol of a lake: its `data.parquet`, as a hard link."""
    taken = sorted(lake.glob("bronze/raw_ohlcv/*/data.parquet"))[::step]
    for path in taken:
        target = to / path.relative_to(lake)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target)
    return {"symbols": len(taken)}


def add_pending(lake: str, rows: Path) -> dict[str, int]:
    """Write the bars of a file as `date=` files, of those symbols that the lake has."""
    store = open_store(lake, fsync=False)
    keys = (layout.parse_bronze_key(info.key) for info in store.list(layout.BRONZE))
    symbols = pa.array(sorted({key.symbol for key in keys if key is not None}), pa.string())
    bars = pq.read_table(rows, schema=DAILY_SCHEMA)
    bars = bars.filter(pa.compute.is_in(bars["symbol"], value_set=symbols)).combine_chunks()
    write_daily(store, bars)
    return {"rows": bars.num_rows}


def make_session(path: Path, symbols: int) -> dict[str, int]:
    """Write one session of a market as one table."""
    bars = _session(symbols, LAST, np.random.default_rng(11))
    pq.write_table(stamp(bars, INGESTED_AT).cast(DAILY_SCHEMA), path)
    return {"rows": bars.num_rows}


def make_sessions(path: Path) -> dict[str, int]:
    """Write the sessions of the calendar and their ordinals, by which groups are counted."""
    calendar = Calendar.shipped()
    days = calendar.sessions(calendar.first, calendar.last)
    ordinals = pa.array([calendar.ordinal(day) for day in days], pa.int32())
    pq.write_table(pa.table({"date": pa.array(days, pa.date32()), "ordinal": ordinals}), path)
    return {"sessions": len(days)}


def make_landing(lake: str, symbols: int, years: int) -> dict[str, int]:
    """Land every session of some years as the provider's flat files, each with all symbols; compressed two at a time."""
    store = open_store(lake, fsync=False)
    sessions = Calendar.shipped().sessions(date(LAST.year - years, LAST.month, LAST.day), LAST)

    def landed(number: int) -> tuple[str, bytes]:
        session = sessions[number]
        body = _flat_file(_session(symbols, session, np.random.default_rng(number)), session)
        at = datetime.combine(session, time(23), tzinfo=UTC)
        return layout.landing_key("flat_files", session, at, f"{number:016x}"), gzip.compress(body, 3, mtime=0)

    with ThreadPoolExecutor(2) as pool:
        store.put_many(_ahead(pool, landed, len(sessions)))
    return {"sessions": len(sessions), "rows": symbols * len(sessions)}


def _ahead(pool: ThreadPoolExecutor, work: object, count: int) -> Iterable[tuple[str, bytes]]:
    """Yield results in order, a few under way; the bodies of all sessions need not lie in memory."""
    for begin in range(0, count, 64):
        yield from pool.map(work, range(begin, min(begin + 64, count)))  # type: ignore[arg-type]


def _session(symbols: int, session: date, random: np.random.Generator) -> pa.Table:
    close = np.round(20 + 80 * random.random(symbols), 2)
    opened = np.round(close * (0.99 + 0.02 * random.random(symbols)), 2)
    volume = np.floor(random.lognormal(12, 1.2, symbols))
    return pa.table(
        {
            "symbol": pa.array(sorted(map(symbol_name, range(symbols)))),
            "date": pa.repeat(pa.scalar(session, pa.date32()), symbols),
            "open": opened,
            "high": np.round(np.maximum(opened, close) + 0.05, 2),
            "low": np.round(np.minimum(opened, close) - 0.05, 2),
            "close": close,
            "volume": volume,
            "vwap": np.round((opened + close) / 2, 4),
            "transactions": np.floor(volume / 120).astype(np.int64),
        }
    )


def _flat_file(bars: pa.Table, session: date) -> bytes:
    begin = datetime.combine(session, time(0), tzinfo=_NEW_YORK)
    sink = io.BytesIO()
    columns = {
        "ticker": bars["symbol"],
        "volume": bars["volume"].cast(pa.int64()),
        "open": bars["open"],
        "close": bars["close"],
        "high": bars["high"],
        "low": bars["low"],
        "window_start": pa.repeat(int(begin.timestamp()) * 1_000_000_000, bars.num_rows),
        "transactions": bars["transactions"],
    }
    sink.write((",".join(columns) + "\n").encode())
    pc.write_csv(pa.table(columns), sink, pc.WriteOptions(include_header=False, quoting_style="none"))
    return sink.getvalue()


if __name__ == "__main__":
    main()

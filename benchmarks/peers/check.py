"""Hold what the peers make against each other and against condvest, on a small market: exit 1 with the first difference.

    .venv/bin/python benchmarks/peers/check.py      (after `make peers`)

The market has late listings, halts, one pending session for each symbol and a restated one for some. Period bars must have the
same keys and counts, and values equal to 1e-9; merged files and one-row files must have equal rows. The earlier
implementation's results differ by design: it is only run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from condvest.domain.bars import DAILY_SCHEMA
from condvest.domain.calendar import Calendar
from condvest.domain.resample import SessionTable
from condvest.jobs.consolidate import consolidate
from condvest.jobs.resample import resample
from condvest.storage import layout
from condvest.storage.opening import open_store
from condvest.storage.parquet import encode_history, encode_row
from condvest.storage.store import Store

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-peers/bin/python"
CALENDAR = Calendar.shipped()
FIRST, LAST = date(2023, 6, 1), date(2025, 11, 19)
FETCHED, REFETCHED = datetime(2025, 11, 20, 2, tzinfo=UTC), datetime(2025, 11, 21, 2, tzinfo=UTC)
INTERVALS = (3, 5, 8, 13, 21, 34)
KEYS = ["symbol", "date"]
EXACT = [*KEYS, "open", "high", "low", "close", "transactions", "n_sessions"]
NEAR = ["volume", "vwap"]
TOLERANCE = 1e-9


def main() -> None:
    """Build the market, run the peers, compare."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = open_store(str(folder / "lake"), fsync=False)
        last = _fill(store, 30)
        consolidate(store, now=FETCHED)
        resample(store, calendar=CALENDAR)
        _write_sessions(folder / "sessions.parquet")
        _check_resample(folder)
        _check_symbol(folder)
        _check_session(folder, last)
        _check_consolidate(folder, store, last)


def _fill(store: Store, symbols: int) -> pa.Table:
    """Put the histories of symbols; return the last bar of each."""
    days = np.array(CALENDAR.sessions(FIRST, LAST), "datetime64[D]")
    random = np.random.default_rng(11)
    last = []
    for number in range(symbols):
        listed = days[random.integers(0, len(days) - 40) :]
        bars = _history(f"S{number}", listed[random.random(len(listed)) > 0.05], random)
        store.put(layout.data_key(f"S{number}"), encode_history(bars))
        last.append(bars.slice(bars.num_rows - 1))
    return pa.concat_tables(last).sort_by("symbol").combine_chunks()


def _history(symbol: str, days: np.ndarray, random: np.random.Generator) -> pa.Table:
    count = len(days)
    close = 30 * np.exp(np.cumsum(random.normal(0, 0.02, count)))
    opened = close * np.exp(random.normal(0, 0.01, count))
    volume = np.floor(random.lognormal(12, 1.2, count))
    values = {
        "symbol": pa.repeat(symbol, count),
        "date": pa.array(days),
        "open": opened,
        "high": np.maximum(opened, close) * 1.01,
        "low": np.minimum(opened, close) * 0.99,
        "close": close,
        "volume": volume,
        "vwap": (opened + close) / 2,
        "transactions": np.floor(volume / 120).astype(np.int64),
        "ingested_at": pa.repeat(pa.scalar(FETCHED, DAILY_SCHEMA.field("ingested_at").type), count),
    }
    return pa.table(values).cast(DAILY_SCHEMA)


def _write_sessions(path: Path) -> None:
    table = SessionTable(CALENDAR)
    ordinals = pa.array(np.arange(len(table.days), dtype=np.int32) + np.int32(table.first_ordinal))
    pq.write_table(pa.table({"date": pa.array(table.days).cast(pa.date32()), "ordinal": ordinals}), path)


def _check_resample(folder: Path) -> None:
    for peer in ("duckdb", "polars", "pandas", "earlier"):
        out = _run(folder, peer, "resample")
        for n in INTERVALS if peer != "earlier" else ():
            what = f"{peer}, {n} sessions"
            found, expected = _rows(out / f"silver_{n}d"), _rows(folder / f"lake/silver/silver_{n}d")
            _compare(what, found.select([*EXACT, *NEAR]), expected.select([*EXACT, *NEAR]))
            _check_months(what, out / f"silver_{n}d")


def _check_months(what: str, folder: Path) -> None:
    """Hold that a file's folder names the year and the month of its bars."""
    for path in folder.rglob("*.parquet"):
        year, month = (int(part.partition("=")[2]) for part in path.parts[-3:-1])
        dates = pq.ParquetFile(path).read()["date"]
        if pc.unique(pc.year(dates)).to_pylist() != [year] or pc.unique(pc.month(dates)).to_pylist() != [month]:
            sys.exit(f"{what}: {path} holds bars of another month")


def _check_symbol(folder: Path) -> None:
    for peer in ("duckdb", "polars", "pyarrow"):
        _run(folder, peer, "symbol", "--symbol", "S3", "--repeat", "2")


def _check_session(folder: Path, bars: pa.Table) -> None:
    pq.write_table(bars, folder / "bars.parquet")
    for peer in ("duckdb", "polars", "pandas", "pyarrow"):
        out = _run(folder, peer, "session", "--bars", str(folder / "bars.parquet"))
        names = zip(bars["symbol"].to_pylist(), bars["date"].to_pylist(), strict=True)
        paths = {out / f"symbol={symbol}/date={day}.parquet" for symbol, day in names}
        if paths != set(out.rglob("*.parquet")):
            sys.exit(f"{peer}, session: other files than one a symbol")
        _compare(f"{peer}, session", _rows(out), bars)


def _check_consolidate(folder: Path, store: Store, last: pa.Table) -> None:
    """Add a session for every symbol, restate the last bar of each third, and compare what the peers and condvest make of it."""
    added = last.set_column(1, "date", pa.repeat(pa.scalar(date(2025, 11, 20), pa.date32()), last.num_rows))
    third = last.filter(pa.array(np.arange(last.num_rows) % 3 == 0))
    restated = third.set_column(5, "close", pc.multiply(third["close"], 1.001))
    for bars in (added, restated):
        stamp = pa.repeat(pa.scalar(REFETCHED, DAILY_SCHEMA.field("ingested_at").type), bars.num_rows)
        later = bars.set_column(9, "ingested_at", stamp)
        for at, (symbol, day) in enumerate(zip(later["symbol"].to_pylist(), later["date"].to_pylist(), strict=True)):
            store.put(layout.daily_key(symbol, day), encode_row(later.slice(at, 1)))
    outs = {peer: _run(folder, peer, "consolidate") for peer in ("duckdb", "polars", "pandas", "earlier")}
    consolidate(store, now=REFETCHED)
    for peer in ("duckdb", "polars", "pandas"):
        for path in (folder / "lake").rglob("data.parquet"):
            found = pq.ParquetFile(outs[peer] / path.relative_to(folder / "lake")).read()
            _compare(f"{peer}, {path.parent.name}", found, pq.ParquetFile(path).read(), ordered=True)


def _run(folder: Path, peer: str, command: str, *more: str) -> Path:
    """Run a peer as a process of its own; return the folder that it wrote to."""
    out = folder / f"{peer}-{command}"
    where = ["--lake", str(folder / "lake"), "--out", str(out), "--sessions", str(folder / "sessions.parquet")]
    call = [str(PYTHON), str(HERE / f"{peer}_peer.py"), command, *where, *more]
    answer = json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
    print(peer, command, answer)
    return out


def _rows(folder: Path) -> pa.Table:
    tables = [pq.ParquetFile(path).read() for path in sorted(folder.rglob("*.parquet"))]
    return pa.concat_tables([_plain(table) for table in tables])


def _plain(table: pa.Table) -> pa.Table:
    """Return a table with the lake's types: one tool has its own for texts, dates, counts and times."""
    types = {"symbol": pa.string(), "date": pa.date32(), "transactions": pa.int64(), "n_sessions": pa.int32()}
    types["ingested_at"] = DAILY_SCHEMA.field("ingested_at").type
    fields = [pa.field(field.name, types.get(field.name, field.type)) for field in table.schema]
    return table.cast(pa.schema(fields))


def _compare(what: str, found: pa.Table, expected: pa.Table, *, ordered: bool = False) -> None:
    """Exit unless two tables have the same rows, `NEAR` columns to within TOLERANCE; in the same order if it counts."""
    found, expected = (_plain(table).select(expected.column_names) for table in (found, expected))
    if not ordered:
        order = [(name, "ascending") for name in KEYS]
        found, expected = found.sort_by(order), expected.sort_by(order)
    if found.num_rows != expected.num_rows:
        sys.exit(f"{what}: {found.num_rows} rows, expected {expected.num_rows}")
    for name in expected.column_names:
        mine, theirs = found[name].combine_chunks(), expected[name].combine_chunks()
        if name in NEAR and not np.allclose(mine.to_numpy(), theirs.to_numpy(), rtol=TOLERANCE, atol=0):
            sys.exit(f"{what}: {name} differs by more than {TOLERANCE}")
        if name not in NEAR and not mine.equals(theirs):
            sys.exit(f"{what}: {name} differs")


if __name__ == "__main__":
    main()
    print("all results agree")

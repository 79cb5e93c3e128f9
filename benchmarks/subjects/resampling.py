"""Full and incremental resample, beside decode and write floors, DuckDB, polars, and on a tenth pandas and the earlier SQL."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from goals import Goal, at_least, at_most
from harness import PEERS, Measured, alone, copy_lake, job, tool
from sizes import Bench

FULL = "condvest resample, all six intervals from nothing"
DAY = "condvest resample, one new session"
DECODE = "floor: decode every data.parquet"
WRITE = "floor: write the same silver bytes"
DUCKDB = "DuckDB, best SQL"
POLARS = "polars, lazy"
DAY_ALONE = "condvest resample, one new session, its work alone"
FULL_ALONE = "condvest resample, all six intervals, its work alone"
TENTH = "a tenth: condvest resample, from nothing, its work alone"
EARLIER = "a tenth: the earlier implementation's SQL"
PANDAS = "a tenth: pandas"


def measure(bench: Bench) -> list[Goal]:
    """Measure on the whole market, then on a tenth of it."""
    board, market = bench.board, bench.market
    sessions = sessions_file(bench)
    day = bench.with_pending(market, "market", "resample-day")
    job(day, "consolidate")
    board.in_turn(
        {
            DECODE: lambda: tool("floors.py", "decode", str(market)),
            FULL: lambda: from_nothing(bench, market),
            FULL_ALONE: lambda: alone(board.last(FULL)),
            WRITE: lambda: tool("floors.py", "write", str(market), str(fresh(bench, "written"))),
            DUCKDB: partial(peer, bench, "duckdb_peer.py", market, sessions),
            POLARS: partial(peer, bench, "polars_peer.py", market, sessions),
            DAY: lambda: job(copy_lake(day, bench.folder / "work"), "resample"),
            DAY_ALONE: lambda: alone(board.last(DAY)),
        }
    )
    board.in_turn({TENTH: lambda: alone(from_nothing(bench, bench.tenth))})
    board.in_turn(
        {
            PANDAS: partial(peer, bench, "pandas_peer.py", bench.tenth, sessions),
            EARLIER: partial(peer, bench, "earlier_peer.py", bench.tenth, sessions),
        },
        rounds=1,
    )
    full = board.seconds(FULL)
    floors = board.seconds(DECODE) + board.seconds(WRITE)
    return [
        at_most("full resample", "x (decode + write floors)", full / floors, 2.5),
        at_least("full resample", "x faster than the best DuckDB SQL", board.seconds(DUCKDB) / full, 2),
        at_least("full resample", "x faster than polars lazy", board.seconds(POLARS) / full, 2.5),
        at_least(
            "full resample, a tenth",
            "x faster than the earlier SQL",
            board.seconds(EARLIER) / board.seconds(TENTH),
            200,
        ),
        at_most("full resample", "peak memory, MiB", board.peak_mib(FULL), 512),
        at_most(
            "resample of one new session",
            "x a full one, work alone",
            board.seconds(DAY_ALONE) / board.seconds(FULL_ALONE),
            0.1,
        ),
    ]


def from_nothing(bench: Bench, lake: Path) -> Measured:
    """Resample a copy of a lake without silver and without checkpoints."""
    copied = copy_lake(lake, bench.folder / "work", without=["silver"])
    for checkpoint in copied.glob("processing_metadata/silver_*"):
        checkpoint.unlink()
    return job(copied, "resample")


def peer(bench: Bench, script: str, lake: Path, sessions: Path) -> Measured:
    """Let another tool do a full resample."""
    out = fresh(bench, "peer")
    return tool(
        f"peers/{script}", "resample", "--lake", str(lake), "--out", str(out), "--sessions", str(sessions), python=PEERS
    )


def sessions_file(bench: Bench) -> Path:
    """Return a file with the sessions of the calendar and their ordinals, for those that have no calendar."""
    path = bench.folder / "sessions.parquet"
    if not path.exists():
        tool("lakes.py", "sessions", str(path))
    return path


def fresh(bench: Bench, name: str) -> Path:
    """Return an empty folder."""
    folder = bench.folder / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder

"""Consolidation of one and of 30 pending sessions, beside a copy of the same bytes, polars, DuckDB and the earlier way."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from goals import Goal, at_least, at_most
from harness import PEERS, Measured, alone, copy_lake, job, tool
from sizes import Bench

from subjects.resampling import fresh

COPY = "floor: copy every data.parquet"
ONE = "condvest consolidate, one new session"
ONE_POLARS = "polars, one new session merged"
TENTH_ONE = "a tenth: condvest consolidate, one new session, its work alone"
TENTH_ONE_EARLIER = "a tenth: the earlier implementation, one new session"
TENTH_MANY = "a tenth: condvest consolidate, 30 pending sessions, its work alone"
TENTH_MANY_PEERS = {
    "polars": "a tenth: polars, 30 pending sessions",
    "duckdb": "a tenth: DuckDB, 30 pending sessions",
    "earlier": "a tenth: the earlier implementation, 30 pending sessions",
}
_PENDING = 30


def measure(bench: Bench) -> list[Goal]:
    """Measure on the whole market, then on a tenth of it."""
    board = bench.board
    day = bench.with_pending(bench.market, "market", "consolidate-day")
    board.in_turn(
        {
            COPY: lambda: tool("floors.py", "copy", str(bench.market), str(fresh(bench, "copied"))),
            ONE: partial(_merged, bench, day),
            ONE_POLARS: partial(_peer, bench, "polars", day),
        }
    )
    tenth = bench.with_pending(bench.tenth, "market", "tenth-day")
    many = bench.with_pending(
        bench.made("behind", bench.size.symbols // bench.size.tenth_step, bench.size.years, pending=_PENDING),
        "behind",
        "tenth-many",
    )
    board.in_turn(
        {
            TENTH_ONE: lambda: alone(_merged(bench, tenth)),
            TENTH_MANY: lambda: alone(_merged(bench, many)),
            TENTH_MANY_PEERS["polars"]: partial(_peer, bench, "polars", many),
            TENTH_MANY_PEERS["duckdb"]: partial(_peer, bench, "duckdb", many),
        }
    )
    board.in_turn(
        {
            TENTH_ONE_EARLIER: partial(_peer, bench, "earlier", tenth),
            TENTH_MANY_PEERS["earlier"]: partial(_peer, bench, "earlier", many),
        },
        rounds=1,
    )
    one, many_seconds = board.seconds(ONE), board.seconds(TENTH_MANY)
    peers = {name: board.seconds(named) / many_seconds for name, named in TENTH_MANY_PEERS.items()}
    earlier = board.seconds(TENTH_ONE_EARLIER) / board.seconds(TENTH_ONE)
    return [
        at_most("consolidation, one session", "x the copy floor", one / board.seconds(COPY), 14),
        at_least("consolidation, one session", "x faster than polars", board.seconds(ONE_POLARS) / one, 2.5),
        at_least("consolidation, one session, a tenth", "x faster than the earlier one", earlier, 10),
        at_least("consolidation, 30 pending, a tenth", "x polars", peers["polars"], 1),
        at_least("consolidation, 30 pending, a tenth", "x DuckDB", peers["duckdb"], 1),
        at_least("consolidation, 30 pending, a tenth", "x faster than the earlier one", peers["earlier"], 5),
    ]


def _merged(bench: Bench, lake: Path) -> Measured:
    return job(copy_lake(lake, bench.folder / "work"), "consolidate")


def _peer(bench: Bench, name: str, lake: Path) -> Measured:
    out = fresh(bench, "peer")
    return tool(f"peers/{name}_peer.py", "consolidate", "--lake", str(lake), "--out", str(out), python=PEERS)

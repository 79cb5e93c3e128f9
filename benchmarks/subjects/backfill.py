"""A bulk backfill of many years, from the landed answers to `data.parquet`, beside decoding and writing the same bytes."""

from __future__ import annotations

from goals import Goal, at_most
from harness import tool
from sizes import Bench

from subjects.resampling import fresh

OURS = "merge_landed: all sessions into data.parquet"
FLOOR = "floor: decode what landed, write the same data.parquet"


def measure(bench: Bench) -> list[Goal]:
    """Measure once: it is long, and both parts are."""
    size, lake = bench.size, fresh(bench, "backfill")
    counts = ["--symbols", str(size.backfill_symbols), "--years", str(size.backfill_years)]
    made = tool("lakes.py", "landing", str(lake), *counts)
    print(f"  landed: {made.said['sessions']:,} sessions, {made.said['rows']:,} rows", flush=True)
    board = bench.board
    board.in_turn({OURS: lambda: tool("steps.py", "backfill", str(lake))}, rounds=1)
    board.in_turn({FLOOR: lambda: tool("floors.py", "landing", str(lake), str(fresh(bench, "copied")))}, rounds=1)
    ours = board.last(OURS)
    what = f"backfill, {size.backfill_years} years x {size.backfill_symbols:,} symbols"
    return [
        at_most(what, "x (decode landing + write)", ours.seconds / board.seconds(FLOOR), 3),
        at_most(what, "peak memory, MiB", ours.peak_mib, 1024),
        at_most(what, "PUTs a symbol and chunk", ours.traffic["puts"] / size.backfill_symbols, 1.01),
    ]

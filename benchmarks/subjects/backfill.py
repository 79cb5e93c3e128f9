"""A bulk backfill of many years, from the landed answers to `data.parquet`, beside decoding and writing the same bytes."""

from __future__ import annotations

from goals import Goal, at_most
from harness import copy_lake, tool
from sizes import Bench

from subjects.resampling import fresh

OURS = "merge_landed: all sessions into data.parquet"
FLOOR = "floor: decode what landed, write the same data.parquet"


def measure(bench: Bench) -> list[Goal]:
    """Measure in turn, as all else: single runs of one program differ by more than a tenth."""
    size, lake = bench.size, fresh(bench, "backfill")
    counts = ["--symbols", str(size.backfill_symbols), "--years", str(size.backfill_years)]
    made = tool("lakes.py", "landing", str(lake), *counts)
    print(f"  landed: {made.said['sessions']:,} sessions, {made.said['rows']:,} rows", flush=True)
    board, work = bench.board, bench.folder / "work"
    board.in_turn(
        {
            OURS: lambda: tool("steps.py", "backfill", str(copy_lake(lake, work))),
            # With what was just made.
            FLOOR: lambda: tool("floors.py", "landing", str(work), str(fresh(bench, "copied"))),
        }
    )
    ours = board.last(OURS)
    what = f"backfill, {size.backfill_years} years x {size.backfill_symbols:,} symbols"
    return [
        at_most(what, "x (decode landing + write)", board.seconds(OURS) / board.seconds(FLOOR), 3),
        at_most(what, "peak memory, MiB", board.peak_mib(OURS), 1024),
        at_most(what, "PUTs a symbol and chunk", ours.traffic["puts"] / size.backfill_symbols, 1.01),
    ]

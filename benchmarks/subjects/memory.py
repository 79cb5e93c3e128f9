"""Peak memory of the jobs at the market's size and at a multiple of its symbols: it grows with the chunk, not with the market."""

from __future__ import annotations

from goals import Goal, at_most
from harness import job
from sizes import Bench

from subjects.resampling import FULL, from_nothing

MOST_MIB = 2048


def measure(bench: Bench) -> list[Goal]:
    """Measure each job on the market and on a larger one."""
    board, times = bench.board, bench.size.larger
    if FULL not in board.runs:
        board.in_turn({FULL: lambda: from_nothing(bench, bench.market)}, rounds=1)
    larger = bench.made("larger", bench.size.symbols * times, bench.size.years, pending=1)
    jobs = ("consolidate", "consolidate --force-full", "resample --force-full", "vacuum", "status")
    for label, lake, rows in (("1x", bench.market, "market"), (f"{times}x", larger, "larger")):
        copied = bench.with_pending(lake, rows, "work")
        board.in_turn(
            {f"{label}: condvest {words}": lambda words=words, at=copied: job(at, *words.split()) for words in jobs},
            rounds=1,
        )
    board.in_turn({f"{times}x: {FULL}": lambda: from_nothing(bench, larger)})
    growth = board.peak_mib(f"{times}x: {FULL}") / board.peak_mib(FULL)
    peaks = [board.peak_mib(f"{times}x: condvest {words}") for words in jobs]
    return [
        at_most(f"memory of a full resample at {times} x the symbols", "x that at 1 x", growth, 1.15),
        at_most(f"memory of any job at {times} x the symbols", "MiB", max(peaks), MOST_MIB),
    ]

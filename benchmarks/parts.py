"""Where the CPU seconds of a job go: each part by the thread that does it, summed over all threads.

    python benchmarks/parts.py resample|day|consolidate [--symbols 5400] [--folder /dev/shm/condvest-parts]

`resample` builds silver from nothing, `day` brings it up by one session, `consolidate` merges one. Parts do not overlap; what
none of them is (planning, listing, threads that wait for each other) is `the rest`.
"""

from __future__ import annotations

import argparse
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any

from harness import Board
from sizes import SIZES, Bench

from condvest import process
from condvest.domain.calendar import Calendar
from condvest.jobs import consolidate as consolidation
from condvest.jobs import merging, silver_build, silver_write, spool
from condvest.jobs import resample as resampling
from condvest.storage import folder, recent
from condvest.storage.opening import open_store

_NOW = datetime(2025, 11, 20, 22, tzinfo=UTC)
_PARTS: dict[str, list[tuple[Any, str, str]]] = {
    "resample": [
        (silver_build, "read_files", "decode and check every data.parquet"),
        (silver_build, "daily_block", "one array a column"),
        (silver_build, "judge_splits", "judge splits"),
        (silver_build, "resample", "the kernel, six intervals"),
        (silver_build, "by_month", "order by month"),
        (spool.MonthSpool, "add", "spool"),
        (spool.MonthSpool, "read", "read the spool"),
        (silver_write, "period_table", "one column each"),
        (silver_write, "encode_periods", "encode month files"),
    ],
    "day": [
        (resampling, "_sources", "list bronze; read manifest, splits"),
        (silver_build, "read_recent", "read recent bars"),
        (silver_build, "_cached", "take the bars that reach back"),
        (silver_build, "_block", "one array a column, judge splits"),
        (silver_build, "resample", "the kernel, six intervals"),
        (silver_build, "by_month", "order by month"),
        (resampling, "read_checkpoints", "read checkpoints"),
        (resampling, "list_months", "list months"),
        (resampling, "plan_interval", "plan six intervals"),
        (silver_write, "_kept", "read what months hold"),
        (silver_write, "period_table", "one column each"),
        (silver_write, "encode_periods", "encode month files"),
    ],
    "consolidate": [
        (consolidation, "_planned", "list bronze, plan"),
        (merging, "_committed", "entries of the manifest"),
        (merging, "read_files", "decode and check every file"),
        (merging, "_combined", "merge"),
        (merging, "encode_history", "encode every data.parquet"),
        (merging, "last_bars", "copy the last bars"),
        (recent.RecentWriter, "add", "put recent bars together"),
        (recent.RecentWriter, "write", "write recent bars"),
        (consolidation, "update_manifest", "write the manifest"),
    ],
}
_STORE = [
    (folder.FolderStore, "_read", "read files"),
    (folder.FolderStore, "_write_aside", "write files"),
    (folder.FolderStore, "_place", "rename files"),
]


def main() -> None:
    """Run a job on a market of its own and print its parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=_PARTS)
    parser.add_argument("--symbols", type=int, default=SIZES["full"].symbols)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm/condvest-parts"))
    options = parser.parse_args()
    process.tune()
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    bench = Bench(SIZES["full"], options.folder, Board(1))
    lake = bench.made("market", options.symbols, 20, pending=1)
    store = open_store(str(bench.with_pending(lake, "market", "work")))
    calendar = Calendar.shipped()
    if options.job == "day":
        resampling.resample(store, calendar=calendar)
        consolidation.consolidate(store, now=_NOW)
    seconds = _watched([*_PARTS[options.job], *_STORE])
    started, used = time.perf_counter(), time.process_time()
    if options.job == "resample":
        store.delete_many([info.key for info in store.list("silver/")])
        resampling.resample(store, calendar=calendar, force_full=True)
    elif options.job == "day":
        resampling.resample(store, calendar=calendar)
    else:
        consolidation.consolidate(store, now=_NOW)
    wall, used = time.perf_counter() - started, time.process_time() - used
    shutil.rmtree(options.folder)
    for name, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"{name:40} {spent:6.2f} s  {spent / used:4.0%}")
    print(f"{'the rest':40} {used - sum(seconds.values()):6.2f} s")
    print(f"{'all':40} {used:6.2f} s in {wall:.2f} s of time")


def _watched(parts: list[tuple[Any, str, str]]) -> dict[str, float]:
    """Let functions note the CPU seconds of their thread, without those of parts that they call; return where they do."""
    seconds: dict[str, float] = defaultdict(float)
    inside: dict[int, list[float]] = defaultdict(list)

    def watch(owner: Any, name: str, part: str) -> None:
        function: Callable[..., Any] = getattr(owner, name)

        @wraps(function)
        def noting(*args: Any, **named: Any) -> Any:
            stack = inside[threading.get_ident()]
            stack.append(0.0)
            begun = time.thread_time()
            try:
                return function(*args, **named)
            finally:
                spent = time.thread_time() - begun
                seconds[part] += spent - stack.pop()
                if stack:
                    stack[-1] += spent

        setattr(owner, name, noting)

    for owner, name, part in parts:
        watch(owner, name, part)
    return seconds


if __name__ == "__main__":
    main()

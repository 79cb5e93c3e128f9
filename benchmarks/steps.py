"""Single steps of jobs and calls of the reading API, each by the project's own function; what is measured is it alone.

    python benchmarks/steps.py session LAKE FILE        write one session as date= files, as a fetch does once it has landed
    python benchmarks/steps.py backfill LAKE            merge all that landed, as a backfill does once it has landed
    python benchmarks/steps.py bars LAKE SYMBOL         Lake.bars of one symbol, and the decode of its file, warm

Each prints one JSON object with `seconds` and what the store was asked.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from condvest.analytics.reader import Lake
from condvest.domain.bars import DAILY_SCHEMA
from condvest.domain.calendar import Calendar
from condvest.jobs.backfill import merge_landed
from condvest.jobs.write_bars import write_bars
from condvest.storage import layout
from condvest.storage.landing import read_index
from condvest.storage.opening import open_store

_NOW = datetime(2025, 11, 20, 22, tzinfo=UTC)
_CALLS = 300


def main() -> None:
    """Do what the arguments say."""
    step: Callable[..., dict[str, Any]] = {"session": session, "backfill": backfill, "bars": bars}[sys.argv[1]]
    print(json.dumps(step(*sys.argv[2:])))


def session(lake: str, file: str) -> dict[str, Any]:
    """Write the bars of one session."""
    rows, store = pq.read_table(file, schema=DAILY_SCHEMA), open_store(lake)
    started = time.perf_counter()
    left = write_bars(store, rows, now=_NOW)
    return {"seconds": time.perf_counter() - started, "left": left, "traffic": asdict(store.meter.snapshot())}


def backfill(lake: str) -> dict[str, Any]:
    """Merge what landed."""
    store = open_store(lake)
    started = time.perf_counter()
    index = read_index(store)
    merged = merge_landed(store, sorted(index.answers), index, calendar=Calendar.shipped())
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "rows": merged.rows, "left": merged.unmerged, "traffic": asdict(store.meter.snapshot())}


def bars(lake: str, symbol: str) -> dict[str, Any]:
    """Read one symbol's bars again and again."""
    opened = Lake.open(lake)
    data = opened.store.get(layout.data_key(symbol)).data

    def decode() -> None:
        pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)

    return {
        "rows": opened.bars(symbol).num_rows,
        "seconds": _median(lambda: opened.bars(symbol)),
        "adjusted_seconds": _median(lambda: opened.bars(symbol, adjusted="all")),
        "period_seconds": _median(lambda: opened.bars(symbol, interval="13d")),
        "decode_seconds": _median(decode),
    }


def _median(call: Callable[[], object]) -> float:
    found = []
    for _ in range(_CALLS):
        started = time.perf_counter()
        call()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


if __name__ == "__main__":
    main()

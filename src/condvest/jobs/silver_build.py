"""Compute period bars: each symbol's daily bars read once, the groups of every interval spooled by month."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa

from condvest.aio import in_order
from condvest.domain.actions import EPOCH, Split, applied_splits, judge_splits
from condvest.domain.bars import SERIES_NAMES
from condvest.domain.calendar import Calendar
from condvest.domain.resample import DailyBlock, Ints, SessionTable, daily_block, resample
from condvest.errors import CommitConflict, DataError
from condvest.jobs.bronze import ReadFile, blocks, read_files
from condvest.jobs.progress import Progress
from condvest.jobs.silver_plan import IntervalPlan
from condvest.jobs.spool import ByMonth, MonthSpool, by_month
from condvest.storage import layout
from condvest.storage.recent import Recent, read_recent
from condvest.storage.store import Store, Stored

#: What a symbol's bars come from: cached bars, or a key and the object under it.
_Content: TypeAlias = "pa.Table | tuple[str, Stored | None]"
_THREADS: Final = 2
#: Symbols that a thread computes at a time: memory grows with it, not with the market. Of cached bars there are few a symbol.
_BLOCK_SYMBOLS: Final = 64
_BLOCK_CACHED: Final = 512
#: A split is judged by a close up to 15 days before it: cached bars must reach back so much further.
_EVIDENCE: Final = timedelta(days=20)
_EVERYTHING: Final = np.iinfo(np.int32).min
_NOTHING: Final = np.iinfo(np.int32).max


@dataclass(frozen=True, slots=True)
class Work:
    """What all intervals share: the symbols in order, the ETags of their `data.parquet`, their splits, the calendar's arrays."""

    names: list[str]
    codes: dict[str, int]
    etags: dict[str, str]
    splits: dict[str, list[Split]]
    reach: date
    table: SessionTable
    calendar: Calendar


@dataclass(slots=True)
class Computed:
    """How many symbols were read whole, and how many came from the cache of recent bars."""

    symbols_read: int = 0
    symbols_cached: int = 0


def compute(
    store: Store, work: Work, plans: Sequence[IntervalPlan], spools: Mapping[int, MonthSpool], progress: Progress
) -> Computed:
    """Compute the dirty groups of every interval and spool them. Memory is bounded by a few blocks of symbols."""
    starts = {plan.interval_sessions: group_starts(work, plan) for plan in plans}
    wanted = [name for name in work.names if any(plan.rebuild or name in plan.dirty for plan in plans)]
    is_partial = bool(wanted) and not any(plan.rebuild for plan in plans)
    cached = _cached(work, wanted, read_recent(store), starts) if is_partial else {}
    unread = [layout.data_key(symbol) for symbol in wanted if symbol not in cached]
    # One reading for all blocks: the next ones are read while some are computed.
    read = store.map(unread, lambda key, stored: (key, stored))
    contents = ((symbol, cached[symbol] if symbol in cached else next(read)) for symbol in wanted)

    def built(block: Sequence[tuple[str, _Content]]) -> dict[int, ByMonth]:
        daily, splits = _block(work, block)
        return {sessions: _built(work, daily, splits, sessions, since) for sessions, since in starts.items()}

    at_a_time = _BLOCK_SYMBOLS if unread else _BLOCK_CACHED
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="condvest-resample") as pool:
        found = in_order(lambda block: pool.submit(built, block), blocks(contents, at_a_time), ahead=_THREADS)
        for done, bars in enumerate(found, 1):
            for sessions, of_interval in bars.items():
                spools[sessions].add(of_interval)
            progress("resample", min(done * at_a_time, len(wanted)), len(wanted))
    return Computed(len(unread), len(cached))


def _built(work: Work, daily: DailyBlock, splits: list[tuple[int, Split]], sessions: int, starts: Ints) -> ByMonth:
    """Return the bars of the groups that are to be built, of one interval and some symbols."""
    bars = resample(daily, sessions, work.table, splits)
    return by_month(bars, bars["date"] >= starts[bars["symbol"]])


def group_starts(work: Work, plan: IntervalPlan) -> Ints:
    """Return for each symbol code the first day of the first group to build; past everything where it is clean."""
    starts = np.full(len(work.names), _EVERYTHING if plan.rebuild else _NOTHING, np.int32)
    known: dict[date | None, int] = {None: _EVERYTHING}
    for symbol, first in plan.dirty.items():
        if first not in known and first is not None:
            group = work.table.ordinal_on_or_after(first) // plan.interval_sessions
            known[first] = (work.calendar.group_bounds(group, plan.interval_sessions)[0] - EPOCH).days
        starts[work.codes[symbol]] = known[first]
    return starts


def _cached(work: Work, symbols: Sequence[str], recent: Recent, starts: Mapping[int, Ints]) -> dict[str, pa.Table]:
    """Return the cached bars of the symbols for which they reach back far enough."""
    cached = {}
    firsts = np.minimum.reduce(list(starts.values())).tolist()
    for symbol in symbols:
        first = firsts[work.codes[symbol]]
        found = recent.of(symbol, work.etags[symbol])
        if found is not None and first != _EVERYTHING and found[0] <= EPOCH + timedelta(days=first) - _EVIDENCE:
            cached[symbol] = found[1]
    return cached


def history(file: ReadFile) -> pa.Table:
    """Return the bars of a `data.parquet`; DataError when it cannot be read, CommitConflict when it is gone."""
    if file.error is not None:
        raise DataError(file.error)
    if file.bars is None:
        raise CommitConflict(f"{file.key}: gone since it was listed")
    return file.bars


def _block(work: Work, block: Sequence[tuple[str, _Content]]) -> tuple[DailyBlock, list[tuple[int, Split]]]:
    symbols = [symbol for symbol, _ in block]
    files = iter(read_files([content for _, content in block if not isinstance(content, pa.Table)]))
    tables = [
        content if isinstance(content, pa.Table) else history(next(files)).select(SERIES_NAMES) for _, content in block
    ]
    counts = np.array([table.num_rows for table in tables])
    codes = np.repeat(np.array([work.codes[symbol] for symbol in symbols], np.int32), counts)
    daily = daily_block(pa.concat_tables(tables).combine_chunks(), codes, work.table)
    days = work.table.day_at(daily.ordinals)
    stops = np.cumsum(counts)
    splits = []
    for symbol, start, stop in zip(symbols, stops - counts, stops, strict=True):
        if symbol in work.splits:
            rows = slice(start, stop)
            # memoryviews: their items are plain numbers, several times faster to reach one by one than an array's.
            seen = days[rows].data, daily.open[rows].data, daily.close[rows].data
            verdicts = judge_splits(work.splits[symbol], *seen, through=work.reach)
            splits += [(work.codes[symbol], split) for split in applied_splits(verdicts)]
    return daily, splits

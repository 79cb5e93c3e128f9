"""Resample: consolidated daily bars to period bars of N sessions, read once for all intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from condvest.domain.actions import EPOCH, Split, applied_splits, judge_splits
from condvest.domain.bars import ANSWER_SCHEMA
from condvest.domain.calendar import INTERVALS, Calendar
from condvest.domain.resample import (
    PERIOD_SCHEMA,
    DailyBlock,
    Ints,
    SessionTable,
    daily_block,
    period_rows,
    period_table,
)
from condvest.domain.resample import (
    resample as resample_block,
)
from condvest.errors import CommitConflict, DataError
from condvest.jobs.bronze import blocks, list_bronze, read_file
from condvest.jobs.progress import Progress, silent
from condvest.jobs.silver_plan import IntervalPlan, Source, plan_interval, source_mark, splits_by_symbol
from condvest.jobs.spool import MonthSpool
from condvest.log import event
from condvest.storage import layout
from condvest.storage.actions import read_splits
from condvest.storage.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from condvest.storage.manifest import read_manifest
from condvest.storage.parquet import WRITER, decode, encode_periods
from condvest.storage.recent import Recent, read_recent
from condvest.storage.store import IF_ABSENT, Store, Stored, if_match

#: Kernel version and writer version: silver built by another is built anew.
BUILDER: Final = f"kernel1/writer{WRITER}"
_BLOCK_SYMBOLS: Final = 512
_MONTHS_AT_A_TIME: Final = 32
_ATTEMPTS: Final = 8
#: A split is judged by a close up to 15 days before it: cached bars must reach back so much further.
_EVIDENCE: Final = timedelta(days=20)
_EVERYTHING: Final = np.iinfo(np.int32).min


@dataclass(slots=True)
class ResampleReport:
    """What a resample did: per interval how (`rebuilt`, `updated`, `unchanged`), month files and period bars written."""

    intervals: dict[int, str] = field(default_factory=dict)
    symbols_read: int = 0
    symbols_cached: int = 0
    months_written: int = 0
    months_removed: int = 0
    bars_written: int = 0
    reach: date | None = None

    @property
    def nothing_new(self) -> bool:
        """Whether nothing was written."""
        return all(how == "unchanged" for how in self.intervals.values())


@dataclass(frozen=True, slots=True)
class _Work:
    """What all intervals share: the symbols in order, their sources and splits, the calendar's arrays."""

    names: list[str]
    codes: dict[str, int]
    sources: dict[str, Source]
    splits: dict[str, list[Split]]
    reach: date
    table: SessionTable
    calendar: Calendar


def resample(
    store: Store,
    *,
    calendar: Calendar,
    intervals: Sequence[int] = INTERVALS,
    force_full: bool = False,
    progress: Progress = silent,
) -> ResampleReport:
    """Bring silver of each interval up to the consolidated bars. Idempotent; equal to a full rebuild, byte for byte.

    Only groups that hold a changed session are computed again. All is rebuilt with `force_full`, without a usable checkpoint,
    and where the calendar, the kernel or a month file changed. Memory is bounded by a block of 512 symbols and a few months.

    Raises:
        DataError: a `data.parquet` cannot be read; nothing was written. CommitConflict: 8 other writers were first.
    """
    for _ in range(_ATTEMPTS):
        try:
            return _attempt(store, calendar, sorted(set(intervals)), force_full, progress)
        except CommitConflict as conflict:
            event("resample_again", reason=conflict)
    raise CommitConflict(f"silver: {_ATTEMPTS} other writers were first; run again when fewer jobs run")


def _attempt(
    store: Store, calendar: Calendar, intervals: Sequence[int], force_full: bool, progress: Progress
) -> ResampleReport:
    report = ResampleReport()
    sources = _sources(store)
    if not sources:
        report.intervals = dict.fromkeys(intervals, "unchanged")
        return report
    report.reach = reach = _reach(store, sources)
    splits = splits_by_symbol(read_splits(store))
    marks = {source.symbol: source_mark(source, splits.get(source.symbol, ()), reach) for source in sources}
    names = sorted(marks)
    work = _Work(
        names,
        {symbol: code for code, symbol in enumerate(names)},
        {source.symbol: source for source in sources},
        splits,
        reach,
        SessionTable(calendar),
        calendar,
    )
    plans, conditions, listed = [], {}, {}
    for sessions in intervals:
        checkpoint, conditions[sessions] = read_checkpoint(store, sessions)
        listed[sessions] = _listed_months(store, sessions)
        plan = plan_interval(
            sessions,
            checkpoint,
            listed[sessions],
            sources,
            marks,
            reach=reach,
            calendar=calendar,
            builder=BUILDER,
            force_full=force_full,
        )
        report.intervals[sessions] = "unchanged" if plan.nothing_to_do else "rebuilt" if plan.rebuild else "updated"
        event("resample_planned", interval=sessions, how=report.intervals[sessions], reason=plan.reason or None)
        plans.append(plan)
    busy = [plan for plan in plans if not plan.nothing_to_do]
    with ExitStack() as stack:
        spools = {plan.interval_sessions: stack.enter_context(MonthSpool()) for plan in busy}
        _compute(store, work, busy, spools, report, progress)
        for plan in busy:
            sessions = plan.interval_sessions
            months = _write_months(store, work, plan, spools[sessions], listed[sessions], report)
            fresh = Checkpoint(sessions, calendar.version, BUILDER, reach, plan.sources, months)
            if fresh == read_checkpoint(store, sessions)[0]:
                report.intervals[sessions] = "unchanged"
            else:
                write_checkpoint(store, fresh, conditions[sessions])
    return report


def _sources(store: Store) -> list[Source]:
    manifest = read_manifest(store)
    found = []
    for files in list_bronze(store):
        if files.data_etag is not None:
            entry = manifest.get(files.symbol)
            trusted = entry if entry is not None and entry.data_etag == files.data_etag else None
            found.append(Source(files.symbol, files.data_etag, trusted))
    return found


def _reach(store: Store, sources: Sequence[Source]) -> date:
    """Return the last session of the consolidated lake; symbols that the manifest does not know are read."""
    days = [source.entry.last_consolidated_date for source in sources if source.entry is not None]
    unknown = [layout.data_key(source.symbol) for source in sources if source.entry is None]
    days += store.map(unknown, lambda key, stored: _history(key, stored)["date"][-1].as_py())
    return max(days)


def _history(key: str, stored: Stored | None) -> pa.Table:
    file = read_file(key, stored)
    if file.error is not None:
        raise DataError(file.error)
    if file.bars is None:
        raise CommitConflict(f"{key}: gone since it was listed")
    return file.bars


def _listed_months(store: Store, sessions: int) -> dict[str, str]:
    months = {}
    for info in store.list(layout.silver_prefix(sessions)):
        found = layout.parse_silver_key(info.key)
        if found is not None:
            months[f"{found.year:04d}-{found.month:02d}"] = info.etag
    return months


def _month_key(sessions: int, month: str) -> str:
    return layout.silver_key(sessions, int(month[:4]), int(month[5:]))


def _compute(
    store: Store,
    work: _Work,
    plans: Sequence[IntervalPlan],
    spools: Mapping[int, MonthSpool],
    report: ResampleReport,
    progress: Progress,
) -> None:
    """Compute the dirty groups of every interval, reading each symbol once, and spool them by month."""
    starts = {plan.interval_sessions: _group_starts(work, plan) for plan in plans}
    wanted = [name for code, name in enumerate(work.names) if any(plan.rebuild or name in plan.dirty for plan in plans)]
    recent = Recent({}) if any(plan.rebuild for plan in plans) else read_recent(store)
    for done, block in enumerate(blocks(wanted, _BLOCK_SYMBOLS), 1):
        tables = _bars_of(store, work, block, recent, starts, report)
        daily, splits = _block(work, block, tables)
        for plan in plans:
            sessions = plan.interval_sessions
            bars = resample_block(daily, sessions, work.table, splits)
            keep = bars["date"] >= starts[sessions][bars["symbol"]]
            spools[sessions].add(bars if keep.all() else bars[keep])
        progress("resample", min(done * _BLOCK_SYMBOLS, len(wanted)), len(wanted))


def _group_starts(work: _Work, plan: IntervalPlan) -> Ints:
    """Return for each symbol code the first day of the first group to build; past everything where it is clean."""
    starts = np.full(len(work.names), _EVERYTHING if plan.rebuild else np.iinfo(np.int32).max, np.int32)
    known: dict[date | None, int] = {None: _EVERYTHING}
    for symbol, first in plan.dirty.items():
        if first not in known and first is not None:
            group = work.calendar.ordinal(first) // plan.interval_sessions
            known[first] = (work.calendar.group_bounds(group, plan.interval_sessions)[0] - EPOCH).days
        starts[work.codes[symbol]] = known[first]
    return starts


def _bars_of(
    store: Store,
    work: _Work,
    block: Sequence[str],
    recent: Recent,
    starts: Mapping[int, Ints],
    report: ResampleReport,
) -> list[pa.Table]:
    """Return the bars of each symbol: cached ones where they reach back far enough, else all of `data.parquet`."""
    cached: dict[str, pa.Table] = {}
    for symbol in block:
        first = min(int(of_interval[work.codes[symbol]]) for of_interval in starts.values())
        found = recent.of(symbol, work.sources[symbol].etag)
        if found is not None and first != _EVERYTHING and found[0] <= EPOCH + timedelta(days=first) - _EVIDENCE:
            cached[symbol] = found[1]
    unread = [symbol for symbol in block if symbol not in cached]
    read = zip(unread, store.map([layout.data_key(symbol) for symbol in unread], _history), strict=True)
    tables = cached | {symbol: bars.select(ANSWER_SCHEMA.names) for symbol, bars in read}
    report.symbols_read += len(unread)
    report.symbols_cached += len(cached)
    return [tables[symbol] for symbol in block]


def _block(work: _Work, block: Sequence[str], tables: Sequence[pa.Table]) -> tuple[DailyBlock, list[tuple[int, Split]]]:
    counts = np.array([table.num_rows for table in tables])
    codes = np.repeat(np.array([work.codes[symbol] for symbol in block], np.int32), counts)
    daily = daily_block(pa.concat_tables(tables).combine_chunks(), codes, work.table)
    days = work.table.day_at(daily.ordinals)
    stops = np.cumsum(counts)
    splits = []
    for symbol, start, stop in zip(block, stops - counts, stops, strict=True):
        if symbol in work.splits:
            rows = slice(start, stop)
            # memoryviews: their items are plain numbers, several times faster to reach one by one than an array's.
            seen = days[rows].data, daily.open[rows].data, daily.close[rows].data
            verdicts = judge_splits(work.splits[symbol], *seen, through=work.reach)
            splits += [(work.codes[symbol], split) for split in applied_splits(verdicts)]
    return daily, splits


def _write_months(
    store: Store,
    work: _Work,
    plan: IntervalPlan,
    spool: MonthSpool,
    listed: Mapping[str, str],
    report: ResampleReport,
) -> dict[str, str]:
    """Write the month files that differ from what lies there, remove those without bars; return all ETags by month."""
    sessions = plan.interval_sessions
    starts = _group_starts(work, plan)
    months = dict(listed)
    todo = sorted({*spool.months(), *plan.months})
    for some in blocks(todo, _MONTHS_AT_A_TIME):
        existing = _existing(store, sessions, [month for month in some if month in listed])
        writes = []
        for month in some:
            kept = (
                None if plan.rebuild or month not in existing else _kept(existing[month], work, starts, sessions, month)
            )
            bars = _merged(kept, spool.read(month))
            body = encode_periods(period_table(bars, work.names, (work.reach - EPOCH).days))
            if month not in existing or existing[month].data != body:
                when = if_match(existing[month].etag) if month in existing else IF_ABSENT
                writes.append((_month_key(sessions, month), body, when))
                report.bars_written += len(bars)
            else:
                months[month] = existing[month].etag
        for result in store.put_many_if(writes):
            if result.etag is None:
                raise CommitConflict(f"{result.key}: another writer was first")
            found = layout.parse_silver_key(result.key)
            if found is not None:
                months[f"{found.year:04d}-{found.month:02d}"] = result.etag
        report.months_written += len(writes)
    stale = sorted(listed.keys() - set(spool.months())) if plan.rebuild else []
    store.delete_many([_month_key(sessions, month) for month in stale])
    report.months_removed += len(stale)
    return {month: etag for month, etag in months.items() if month not in stale}


def _existing(store: Store, sessions: int, months: Sequence[str]) -> dict[str, Stored]:
    keys = [_month_key(sessions, month) for month in months]
    found = zip(months, store.map(keys, lambda _, stored: stored), strict=True)
    return {month: stored for month, stored in found if stored is not None}


def _kept(stored: Stored, work: _Work, starts: Ints, sessions: int, month: str) -> npt.NDArray[Any]:
    """Return the bars of a month file that are not built again."""
    table = decode(stored.data, PERIOD_SCHEMA, _month_key(sessions, month))
    symbols = table["symbol"].combine_chunks().dictionary_encode()
    try:
        of_dictionary = np.array([work.codes[symbol] for symbol in symbols.dictionary.to_pylist()], np.int32)
    except KeyError as unknown:
        raise DataError(
            f"{_month_key(sessions, month)}: holds symbol {unknown}, which has no data.parquet; run"
            " `condvest resample --force-full`"
        ) from None
    rows = period_rows(table, of_dictionary[symbols.indices.to_numpy()])
    kept: npt.NDArray[Any] = rows[rows["date"] < starts[rows["symbol"]]]
    return kept


def _merged(kept: npt.NDArray[Any] | None, built: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if kept is None or len(kept) == 0:
        return built
    rows = np.concatenate([kept, built])
    return rows[np.lexsort((rows["date"], rows["symbol"]))]


def silver_tables(store: Store, *, calendar: Calendar, sessions: int) -> Iterator[tuple[str, bytes]]:
    """Yield each month (`YYYY-MM`) of an interval and its file's bytes as a full rebuild makes them; writes nothing."""
    sources = _sources(store)
    if not sources:
        return
    splits = splits_by_symbol(read_splits(store))
    names = sorted(source.symbol for source in sources)
    codes = {symbol: code for code, symbol in enumerate(names)}
    by_symbol = {source.symbol: source for source in sources}
    work = _Work(names, codes, by_symbol, splits, _reach(store, sources), SessionTable(calendar), calendar)
    plan = IntervalPlan(sessions, True, "asked for", {}, frozenset(), {})
    with MonthSpool() as spool:
        _compute(store, work, [plan], {sessions: spool}, ResampleReport(), silent)
        for month in sorted(spool.months()):
            yield month, encode_periods(period_table(spool.read(month), names, (work.reach - EPOCH).days))

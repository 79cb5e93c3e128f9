"""Resample: consolidated daily bars to period bars of N sessions, read once for all intervals."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from typing import Final

import pyarrow as pa

from condvest.domain.actions import EPOCH, Split
from condvest.domain.calendar import INTERVALS, Calendar
from condvest.domain.resample import SessionTable, period_table
from condvest.errors import CommitConflict, DataError
from condvest.jobs.bronze import list_bronze, read_file
from condvest.jobs.progress import Progress, silent
from condvest.jobs.silver_build import Work, compute, history
from condvest.jobs.silver_plan import Changes, IntervalPlan, Source, plan_interval, splits_by_symbol
from condvest.jobs.silver_write import list_months, write_months
from condvest.jobs.spool import MonthSpool
from condvest.log import event
from condvest.storage import layout
from condvest.storage.actions import splits_in
from condvest.storage.checkpoint import Checkpoint, read_checkpoints, sources_of, write_checkpoint
from condvest.storage.manifest import entries_in
from condvest.storage.parquet import WRITER, encode_periods
from condvest.storage.store import Store, When

#: Kernel version and writer version: silver built by another is built anew.
BUILDER: Final = f"kernel1/writer{WRITER}"
_ATTEMPTS: Final = 8


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
class _Interval:
    """One interval to build: what of it, its checkpoint and the condition for replacing that, and its month files."""

    plan: IntervalPlan
    checkpoint: Checkpoint | None
    when: When
    listed: dict[str, str]


def resample(
    store: Store,
    *,
    calendar: Calendar,
    intervals: Sequence[int] = INTERVALS,
    force_full: bool = False,
    universe: Collection[str] | None = None,
    progress: Progress = silent,
) -> ResampleReport:
    """Bring silver of each interval up to the consolidated bars. Idempotent; equal to a full rebuild, byte for byte.

    Only groups that hold a changed session are computed again. All is rebuilt with `force_full`, without a usable checkpoint,
    and where the calendar, the kernel or a month file changed. Symbols beyond the `universe` (None: there are none) may be
    gone, and their period bars go with them. Memory is bounded by a few blocks of symbols and a few months.

    Raises:
        DataError: a `data.parquet` cannot be read, or is gone though the manifest knows it or silver was built from it;
            nothing was written.
        CommitConflict: 8 other writers were first.
    """
    for _ in range(_ATTEMPTS):
        try:
            return _attempt(store, calendar, sorted(set(intervals)), force_full, universe, progress)
        except CommitConflict as conflict:
            event("resample_again", reason=conflict)
    raise CommitConflict(f"silver: {_ATTEMPTS} other writers were first; run again when fewer jobs run")


def _attempt(
    store: Store,
    calendar: Calendar,
    intervals: Sequence[int],
    force_full: bool,
    universe: Collection[str] | None,
    progress: Progress,
) -> ResampleReport:
    report = ResampleReport(dict.fromkeys(intervals, "unchanged"))
    planned = _planned(store, calendar, intervals, force_full, universe)
    if planned is None:
        return report
    work, busy = planned
    # What one step decoded would stay with its threads, and others do the next.
    pa.default_memory_pool().release_unused()
    report.reach = work.reach
    with ExitStack() as stack:
        spools = {one.plan.interval_sessions: stack.enter_context(MonthSpool()) for one in busy}
        computed = compute(store, work, [one.plan for one in busy], spools, progress)
        report.symbols_read, report.symbols_cached = computed.symbols_read, computed.symbols_cached
        pa.default_memory_pool().release_unused()
        for one in busy:
            _commit(store, work, one, spools[one.plan.interval_sessions], report)
    return report


def _planned(
    store: Store, calendar: Calendar, intervals: Sequence[int], force_full: bool, universe: Collection[str] | None
) -> tuple[Work, list[_Interval]] | None:
    """Return what there is to build from and the intervals to build, None for a lake without consolidated bars.

    The manifest is held in here alone: it grows with the market, and nothing of it is needed to compute.
    """
    # Before the listing: what they were built from is there by then. Any interval tells of a history that is lost.
    checkpoints = read_checkpoints(store, sorted({*INTERVALS, *intervals}))
    sources, splits = _sources(store, universe, built=sources_of(checkpoints))
    if not sources:
        return None
    work = _work(store, calendar, sources, splits)
    busy: list[_Interval] = []
    changes = Changes(sources, work.reach)
    months = list_months(store, intervals)
    for sessions in dict.fromkeys(intervals):
        (checkpoint, when), listed = checkpoints[sessions], months[sessions]
        plan = plan_interval(
            sessions, checkpoint, listed, changes, calendar=calendar, builder=BUILDER, force_full=force_full
        )
        if not plan.nothing_to_do:
            event("resample_planned", interval=sessions, symbols=len(plan.dirty) or None, rebuild=plan.reason or None)
            busy.append(_Interval(plan, checkpoint, when, listed))
    return work, busy


def _commit(store: Store, work: Work, one: _Interval, spool: MonthSpool, report: ResampleReport) -> None:
    """Write the month files of one interval, then the checkpoint that points at them."""
    plan, sessions = one.plan, one.plan.interval_sessions
    months = write_months(store, work, plan, spool, one.listed)
    fresh = Checkpoint(sessions, work.calendar.version, BUILDER, work.reach, plan.sources, months.etags)
    is_fresh = fresh != one.checkpoint
    if is_fresh:
        write_checkpoint(store, fresh, one.when)
    if is_fresh or months.written or months.removed:
        report.intervals[sessions] = "rebuilt" if plan.rebuild else "updated"
    report.months_written += months.written
    report.months_removed += months.removed
    report.bars_written += months.bars


def _work(store: Store, calendar: Calendar, sources: Sequence[Source], splits: dict[str, list[Split]]) -> Work:
    etags = {source.symbol: source.etag for source in sources}
    names = sorted(etags)
    codes = {symbol: code for code, symbol in enumerate(names)}
    return Work(names, codes, etags, splits, _reach(store, sources), SessionTable(calendar), calendar)


def _sources(
    store: Store, universe: Collection[str] | None, *, built: Collection[str] = ()
) -> tuple[list[Source], dict[str, list[Split]]]:
    """Return each `data.parquet` with what the manifest knows of it, and the splits by symbol.

    DataError: the manifest knows of one that is gone, or silver was `built` from it; its bars would go from there as well.
    """
    actions, cache = store.map([layout.SPLITS, layout.MANIFEST], lambda _, stored: stored)
    splits, manifest, found = splits_by_symbol(splits_in(actions)), entries_in(store, cache), list[Source]()
    for files in list_bronze(store, manifest=manifest):
        if files.data_etag is not None:
            entry = manifest.get(files.symbol)
            trusted = entry if entry is not None and entry.data_etag == files.data_etag else None
            found.append(Source(files.symbol, files.data_etag, trusted, splits.get(files.symbol, ())))
    lost = {*manifest, *built} - {source.symbol for source in found}
    if gone := sorted(lost if universe is None else lost.intersection(universe)):
        raise DataError(
            f"{layout.data_key(gone[0])}: is gone, though the lake had it{f' ({len(gone)} such)' if gone[1:] else ''};"
            " silver keeps its bars; run `condvest consolidate --force-full`, which rebuilds it from landing, or restore it from"
            " a copy"
        )
    return found, splits


def _reach(store: Store, sources: Sequence[Source]) -> date:
    """Return the last session of the consolidated lake; symbols that the manifest does not know are read."""
    days = [source.entry.last_consolidated_date for source in sources if source.entry is not None]
    unknown = [layout.data_key(source.symbol) for source in sources if source.entry is None]
    days += store.map(unknown, lambda key, stored: history(read_file(key, stored))["date"][-1].as_py())
    return max(days)


def silver_tables(
    store: Store, *, calendar: Calendar, sessions: int, universe: Collection[str] | None = None
) -> Iterator[tuple[str, bytes]]:
    """Yield each month (`YYYY-MM`) of an interval and its file's bytes as a full rebuild makes them; writes nothing."""
    sources, splits = _sources(store, universe)
    if not sources:
        return
    work = _work(store, calendar, sources, splits)
    plan = IntervalPlan(sessions, True, "asked for", {}, frozenset(), {})
    with MonthSpool() as spool:
        compute(store, work, [plan], {sessions: spool}, silent)
        for month in sorted(spool.months()):
            yield month, encode_periods(period_table(spool.read(month), work.names, (work.reach - EPOCH).days))

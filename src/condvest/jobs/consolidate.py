"""Consolidate: merge the `date=` files that lie there into each symbol's `data.parquet`, then clean up behind it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from condvest.domain.calendar import Calendar
from condvest.domain.shard import WHOLE, Shard
from condvest.jobs.backfill import LandedMerge, take_landed
from condvest.jobs.bronze import SymbolFiles, list_bronze
from condvest.jobs.merging import Merged, MergeTask, contains, merge_symbols
from condvest.jobs.progress import Progress, silent
from condvest.jobs.stopping import Stop, never, until
from condvest.jobs.transpose import Transposition
from condvest.jobs.vacuum import Removal, check_retention, is_expired, remove
from condvest.log import event
from condvest.storage.landing import read_index
from condvest.storage.manifest import Entry, file_mark, read_manifest, update_manifest
from condvest.storage.recent import RecentWriter
from condvest.storage.store import Store


@dataclass(slots=True)
class ConsolidateReport:
    """What a consolidation did. `left`: what could not be merged, with the reason; the next run tries just that again.

    `remaining`: symbols that it did not look at, as it was asked to stop.
    """

    symbols: int = 0
    symbols_read: int = 0
    symbols_changed: int = 0
    sessions_added: int = 0
    sessions_changed: int = 0
    files_removed: int = 0
    left: list[str] = field(default_factory=list)
    remaining: list[str] = field(default_factory=list)
    last_session: date | None = None
    caches_written: bool = False

    @property
    def nothing_new(self) -> bool:
        """Whether nothing was written and nothing removed."""
        return not (self.symbols_changed or self.files_removed or self.caches_written)


def consolidate(
    store: Store,
    *,
    now: datetime,
    symbols: Collection[str] | None = None,
    shard: Shard = WHOLE,
    universe: Collection[str] | None = None,
    calendar: Calendar | None = None,
    force_full: bool = False,
    retention_days: int = 30,
    skip_cleanup: bool = False,
    stop: Stop = never,
    progress: Progress = silent,
) -> ConsolidateReport:
    """Merge every `date=` file that is not in its symbol's `data.parquet` yet, whatever its age. Idempotent.

    What there is to do follows from a listing; the manifest only spares reading what is merged already. `force_full` ignores
    it, reads every file again and merges all that landed as well (of the symbols in `universe`; None: all): a `data.parquet`
    that cannot be read is set aside in quarantine and rebuilt. Unless `skip_cleanup`, `date=` files older than
    `retention_days` (7 at least) go once their rows are proven to be in the committed `data.parquet`. Runs of several shards
    at once keep out of each other's way. Asked to stop, it commits what it merged.
    """
    check_retention(retention_days)
    manifest = read_manifest(store)
    report = ConsolidateReport()
    entries: list[Entry] = []
    removals: list[Removal] = []
    recent = RecentWriter(store)
    cleanup_after = None if skip_cleanup else retention_days
    with Transposition() as landed:
        listed = (files for files in list_bronze(store, symbols) if shard.holds(files.symbol))
        tasks = list(_tasks(listed, {} if force_full else manifest, now, cleanup_after, report))
        event("consolidate_planned", symbols=report.symbols, to_merge=len(tasks))
        planned: Iterable[MergeTask] = tasks
        if force_full:
            wanted = universe if symbols is None else symbols
            _take_landed(store, landed, wanted, calendar or Calendar.shipped(), report, progress)
            planned = _with_landed(landed, tasks, shard)
        todo = {task.files.symbol for task in tasks} | {name for name in landed.symbols if shard.holds(name)}
        for done, merged in enumerate(merge_symbols(store, until(stop, planned), manifest), 1):
            todo.discard(merged.symbol)
            _count(report, merged)
            if merged.entry is not None and merged.bars is not None:
                entries.append(merged.entry)
                recent.add(merged.bars, merged.entry.data_etag)
                if cleanup_after is not None:
                    removals += _proven(merged, now, cleanup_after)
            progress("consolidate", done, max(done, len(tasks)))
    report.remaining = sorted(todo)
    report.caches_written = any([recent.write(), update_manifest(store, entries)])
    report.files_removed = remove(store, removals, now=now, retention_days=retention_days, forced=False)
    return report


def _tasks(
    listed: Iterator[SymbolFiles],
    manifest: Mapping[str, Entry],
    now: datetime,
    cleanup_after: int | None,
    report: ConsolidateReport,
) -> Iterator[MergeTask]:
    for files in listed:
        report.symbols += 1
        entry = manifest.get(files.symbol)
        trusted = entry is not None and entry.data_etag == files.data_etag
        read = tuple(
            file
            for file in files.daily
            if not (trusted and entry is not None and file_mark(file.session, file.etag) in entry.merged)
            or (cleanup_after is not None and is_expired(file.session, now, cleanup_after))
        )
        if read or not trusted:
            yield MergeTask(files, read)


def _take_landed(
    store: Store,
    landed: Transposition,
    symbols: Collection[str] | None,
    calendar: Calendar,
    report: ConsolidateReport,
    progress: Progress,
) -> None:
    """Read all that landed for some symbols (None: for all)."""
    found = LandedMerge()
    take_landed(store, None, read_index(store), landed, found, universe=symbols, calendar=calendar, progress=progress)
    report.left += found.unread.values()


def _with_landed(landed: Transposition, tasks: Sequence[MergeTask], shard: Shard) -> Iterator[MergeTask]:
    """Yield each task together with all that landed for its symbol, and one for each symbol that only landing has."""
    by_symbol = {task.files.symbol: task for task in tasks}
    for symbol, bars in landed.histories():
        if shard.holds(symbol):
            task = by_symbol.pop(symbol, MergeTask(SymbolFiles(symbol, None, ()), ()))
            yield replace(task, extra=bars, rebuild=True)
    yield from by_symbol.values()


def _proven(merged: Merged, now: datetime, retention_days: int) -> Iterator[Removal]:
    for file, row in merged.daily:
        if is_expired(file.session, now, retention_days) and merged.bars is not None and contains(merged.bars, row):
            yield Removal(merged.symbol, file.session, file.key)


def _count(report: ConsolidateReport, merged: Merged) -> None:
    report.symbols_read += 1
    report.symbols_changed += merged.written
    report.sessions_added += merged.added
    report.sessions_changed += merged.changed
    report.left += merged.errors
    if merged.entry is not None:
        last = merged.entry.last_consolidated_date
        report.last_session = max(last, report.last_session or last)

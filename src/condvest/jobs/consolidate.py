"""Consolidate: merge the `date=` files that lie there into each symbol's `data.parquet`, then clean up behind it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from condvest.domain.calendar import Calendar
from condvest.domain.shard import WHOLE, Shard
from condvest.jobs.backfill import LandedMerge, take_landed
from condvest.jobs.bronze import SymbolFiles, list_bronze, without_files
from condvest.jobs.histories import known_histories
from condvest.jobs.known_rows import with_known_rows
from condvest.jobs.merging import Merged, MergeTask, merge_symbols
from condvest.jobs.progress import Progress, silent
from condvest.jobs.stopping import Stop, never, until
from condvest.jobs.transpose import Transposition
from condvest.jobs.vacuum import Removal, check_retention, first_kept, is_expired, remove
from condvest.log import event
from condvest.storage.landing import read_index
from condvest.storage.manifest import Entry, file_mark, read_manifest, update_manifest
from condvest.storage.recent import RecentWriter
from condvest.storage.store import Store


@dataclass(slots=True)
class ConsolidateReport:
    """What a consolidation did. `left`: what could not be merged, with the reason; the next run tries just that again.

    `symbols_unknown`: how many were asked for by a name that the lake has not. `sessions`: those of the `date=` files that were
    new. `sessions_added` and `sessions_changed`: bars that are new, and that have another value than before. `files_set_aside`:
    unreadable `data.parquet` that were kept in quarantine and replaced.
    `remaining`: symbols that it did not look at, as it was asked to stop. `landing_unread`: it was asked to before a full run
    had read all that landed, so that nothing was merged.
    """

    symbols: int = 0
    symbols_unknown: int = 0
    symbols_read: int = 0
    symbols_changed: int = 0
    sessions: set[date] = field(default_factory=set)
    sessions_added: int = 0
    sessions_changed: int = 0
    files_set_aside: int = 0
    landing_unread: bool = False
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
    how = _How(symbols, shard, universe, calendar, force_full, retention_days, skip_cleanup)
    run = _Run(store, now, how, stop, progress, read_manifest(store), RecentWriter(store))
    with Transposition() as landed:
        tasks = _planned(run, landed)
        _merge(run, tasks, landed)
    return _committed(run)


@dataclass(frozen=True, slots=True)
class _How:
    """The options of one consolidation."""

    symbols: Collection[str] | None
    shard: Shard
    universe: Collection[str] | None
    calendar: Calendar | None
    force_full: bool
    retention_days: int
    skip_cleanup: bool

    @property
    def cleanup_after(self) -> int | None:
        """After how many days a merged `date=` file may go; None: none goes."""
        return None if self.skip_cleanup else self.retention_days


@dataclass(frozen=True, slots=True)
class _Run:
    """What every step of one consolidation needs, and what it leaves for the end."""

    store: Store
    now: datetime
    how: _How
    stop: Stop
    progress: Progress
    manifest: Mapping[str, Entry]
    recent: RecentWriter
    report: ConsolidateReport = field(default_factory=ConsolidateReport)
    entries: list[Entry] = field(default_factory=list)
    removals: list[Removal] = field(default_factory=list)

    @property
    def kept_since(self) -> date:
        """The first session whose `date=` files may not go yet; the first of all where none goes."""
        after = self.how.cleanup_after
        return date.min if after is None else first_kept(self.now, after)


def _planned(run: _Run, landed: Transposition) -> list[MergeTask]:
    """Return what there is to merge of `date=` files; a full run takes all that landed besides."""
    bronze = list_bronze(run.store, run.how.symbols, manifest=run.manifest)
    listed = (files for files in bronze if run.how.shard.holds(files.symbol))
    trusted = {} if run.how.force_full else run.manifest
    found: list[str] = []
    tasks = list(_tasks(listed, trusted, run.now, run.how.cleanup_after, found))
    run.report.symbols = len(found)
    event("consolidate_planned", symbols=run.report.symbols, to_merge=len(tasks))
    if run.how.force_full:
        _take_landed(run, landed)
        # Merging a part of what landed could take it for all.
        run.report.landing_unread = run.stop()
    tasks += _gone(run, found)
    if run.how.symbols is not None and not run.report.landing_unread:
        asked = [symbol for symbol in run.how.symbols if run.how.shard.holds(symbol)]
        unknown = without_files(asked, {*found, *landed.symbols, *run.manifest})
        run.report.symbols_unknown = len(unknown)
        run.report.left += unknown
    return tasks


def _gone(run: _Run, found: Collection[str]) -> list[MergeTask]:
    """Return a task without files for each symbol that the manifest knows and no listing shows: its bars are lost."""
    limit = run.how.universe if run.how.symbols is None else run.how.symbols
    gone = run.manifest.keys() - set(found)
    if limit is not None:
        gone &= set(limit)
    return [MergeTask(SymbolFiles(symbol, None, ()), ()) for symbol in sorted(filter(run.how.shard.holds, gone))]


def _merge(run: _Run, tasks: Sequence[MergeTask], landed: Transposition) -> None:
    """Merge until all is done, or until it is asked to stop."""
    planned = _with_landed(landed, tasks, run.how.shard) if run.how.force_full else _with_known(run, tasks)
    todo = {task.files.symbol for task in tasks} | {name for name in landed.symbols if run.how.shard.holds(name)}
    wanted = () if run.report.landing_unread else until(run.stop, planned)
    known = known_histories(run.store, (task.files for task in tasks), run.manifest)
    merges = merge_symbols(run.store, wanted, run.manifest, known, prove_before=run.kept_since)
    for done, merged in enumerate(merges, 1):
        todo.discard(merged.symbol)
        _count(run, merged)
        if merged.entry is not None and merged.recent is not None:
            run.entries.append(merged.entry)
            run.recent.add(merged.recent, merged.entry.data_etag)
            run.removals.extend(Removal(merged.symbol, file.session, file.key) for file in merged.proven)
        run.progress("consolidate", done, max(done, len(tasks)))
    run.report.remaining = sorted(todo)


def _committed(run: _Run) -> ConsolidateReport:
    """Bring manifest and recent bars up to what was merged, then clean up behind it."""
    report, store = run.report, run.store
    report.caches_written = any([run.recent.write(), update_manifest(store, run.entries)])
    report.files_removed = remove(store, run.removals, now=run.now, retention_days=run.how.retention_days, forced=False)
    return report


def _tasks(
    listed: Iterator[SymbolFiles],
    manifest: Mapping[str, Entry],
    now: datetime,
    cleanup_after: int | None,
    found: list[str],
) -> Iterator[MergeTask]:
    """Yield what there is to merge of the files that are listed; the symbols of all of them come into `found`."""
    for files in listed:
        found.append(files.symbol)
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


def _take_landed(run: _Run, landed: Transposition) -> None:
    """Read all that landed for some symbols (None: for all)."""
    found = LandedMerge()
    take_landed(
        run.store,
        None,
        read_index(run.store),
        landed,
        found,
        universe=run.how.universe if run.how.symbols is None else run.how.symbols,
        calendar=run.how.calendar or Calendar.shipped(),
        progress=run.progress,
        stop=run.stop,
    )
    run.report.left += dict.fromkeys(found.unread.values())  # one range answer may be about thousands of sessions


def _with_landed(landed: Transposition, tasks: Sequence[MergeTask], shard: Shard) -> Iterator[MergeTask]:
    """Yield each task together with all that landed for its symbol, and one for each symbol that only landing has."""
    by_symbol = {task.files.symbol: task for task in tasks}
    for symbol, bars in landed.histories():
        if shard.holds(symbol):
            task = by_symbol.pop(symbol, MergeTask(SymbolFiles(symbol, None, ()), ()))
            yield replace(task, extra=bars, rebuild=True)
    yield from by_symbol.values()


def _with_known(run: _Run, tasks: Sequence[MergeTask]) -> Iterable[MergeTask]:
    """Spare reading files whose rows are known; of one that may go afterwards nothing counts but what it holds."""
    lake = max(len(run.manifest), run.report.symbols)
    return with_known_rows(run.store, tasks, since=run.kept_since, symbols=lake)


def _count(run: _Run, merged: Merged) -> None:
    report, before = run.report, run.manifest.get(merged.symbol)
    report.symbols_read += 1
    report.symbols_changed += merged.written
    report.sessions_added += merged.added
    report.sessions_changed += merged.changed
    report.files_set_aside += merged.set_aside
    report.left += merged.errors
    if merged.written:
        known = before.merged if before is not None else frozenset()
        report.sessions.update(file.session for file in merged.files if file_mark(file.session, file.etag) not in known)
    if merged.entry is not None:
        last = merged.entry.last_consolidated_date
        report.last_session = max(last, report.last_session or last)

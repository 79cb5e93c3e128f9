"""Merging rows into `data.parquet`: the one place that writes it, always on condition that nobody else did meanwhile."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from itertools import islice
from typing import Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from condvest.aio import in_order
from condvest.domain.bars import changed_history, contained, merge_history
from condvest.errors import CommitConflict
from condvest.jobs.bronze import BLOCK_SYMBOLS, DailyFile, ReadFile, SymbolFiles, blocks, list_bronze, read_files
from condvest.jobs.histories import why_lost
from condvest.log import event, warn
from condvest.storage import layout
from condvest.storage.manifest import KEPT_CHANGES, Change, Entry, file_mark
from condvest.storage.parquet import encode_history
from condvest.storage.recent import last_bars
from condvest.storage.second_look import reads_the_same
from condvest.storage.store import IF_ABSENT, Store, Stored, When, if_match

_ROUNDS: Final = 20
_AGAIN: Final = "another writer was first, or two readings of a file differed"
_THREADS: Final = 2
#: Symbols whose files a thread decodes together, and how many times that are merged and not yet written.
_AT_A_TIME: Final = 16
_AHEAD: Final = 4
#: A key, and the object under it; None where it is gone.
_Object: TypeAlias = "tuple[str, Stored | None]"
#: A task, and what to write; or the `data.parquet` that cannot be used; or None where a file is gone since it was listed.
_Outcome: TypeAlias = "tuple[MergeTask, _Plan | ReadFile | None]"


@dataclass(frozen=True, slots=True)
class MergeTask:
    """What to merge into one symbol's `data.parquet`: which of its `date=` files to read, and rows that are known without.

    `known`: the `date=` files whose rows are among those. `rebuild`: a `data.parquet` that cannot be read is set aside in
    quarantine and built again from the rest.
    """

    files: SymbolFiles
    read: tuple[DailyFile, ...]
    extra: pa.Table | None = None
    known: tuple[DailyFile, ...] = ()
    rebuild: bool = False


@dataclass(frozen=True, slots=True)
class Merged:
    """One symbol after its merge: its manifest entry and the last of the committed rows, both None where it failed.

    `files`: all whose rows are in it now, those that were read and those that were known; `proven`: those that were asked for
    and whose rows are, by content, in what was committed. `added` and `changed` count sessions; `errors` say what could not be
    used and stays as it is. `set_aside`: a `data.parquet` that could not be read was kept in quarantine and replaced.
    """

    symbol: str
    recent: pa.Table | None
    entry: Entry | None
    files: tuple[DailyFile, ...]
    proven: tuple[DailyFile, ...]
    written: bool
    added: int
    changed: int
    errors: tuple[str, ...]
    set_aside: bool = False


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to write for one symbol, and what is told of it afterwards: of its merged history no more stays in memory.

    `unread`: the bytes of a `data.parquet` that cannot be read and is to be replaced. `last`, `rows` and `updated`: the last
    session, how many there are, and when a value was last seen first.
    """

    task: MergeTask
    when: When
    unread: bytes | None
    body: bytes | None
    last: date
    rows: int
    updated: datetime
    recent: pa.Table
    files: tuple[DailyFile, ...]
    proven: tuple[DailyFile, ...]
    added: int
    changed: int
    first_changed: date | None
    errors: tuple[str, ...]


@dataclass(slots=True)
class _Round:
    """One block of symbols: those that are settled, and those that have to be planned again."""

    done: list[Merged] = field(default_factory=list)
    again: list[MergeTask] = field(default_factory=list)


def merge_symbols(
    store: Store,
    tasks: Iterable[MergeTask],
    manifest: Mapping[str, Entry],
    known: Collection[str],
    *,
    prove_before: date = date.min,
) -> Iterator[Merged]:
    """Merge each task and yield what came of it, block by block, in no promised order. Idempotent.

    `known`: the symbols of which one without a `data.parquet` has lost it; see `histories.known_histories`. A
    `data.parquet` that already holds the rows is not written. Where another writer was first, or a file reads otherwise the
    second time, the symbol is listed and merged again. Files of sessions before `prove_before` are proven to be in what is
    committed. Memory is bounded by two blocks of symbols.
    """
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="condvest-merge") as pool:
        lost: list[Merged] = []
        merges = _merges(store, _guarded(tasks, manifest, known, lost), pool, prove_before)
        # One pipeline for all blocks: while one is written, the next is read and merged.
        while True:
            block = _round(store, islice(merges, BLOCK_SYMBOLS), manifest)
            if not (block.done or block.again):
                break
            yield from block.done
            for _ in range(_ROUNDS):
                if not block.again:
                    break
                event("merge_again", symbols=len(block.again), reason=_AGAIN)
                again = _guarded(_again(store, block.again), manifest, known, lost)
                block = _round(store, _merges(store, again, pool, prove_before), manifest)
                yield from block.done
            if block.again:
                symbols = ",".join(task.files.symbol for task in block.again[:5])
                raise CommitConflict(f"{symbols}: {_ROUNDS} times {_AGAIN}; run again when fewer jobs run")
        yield from lost


def _guarded(
    tasks: Iterable[MergeTask], manifest: Mapping[str, Entry], known: Collection[str], lost: list[Merged]
) -> Iterator[MergeTask]:
    """Set apart the symbols whose `data.parquet` is gone: what is left would be taken for their whole history."""
    for task in tasks:
        symbol = task.files.symbol
        if task.files.data_etag is None and symbol in known and not task.rebuild:
            lost.append(_lost(task, manifest.get(symbol)))
        else:
            yield task


def _lost(task: MergeTask, entry: Entry | None) -> Merged:
    why = why_lost(task.files.symbol, entry)
    warn("data_lost", symbol=task.files.symbol, error=why)
    return _failed(task, why)


def _failed(task: MergeTask, why: str) -> Merged:
    return Merged(task.files.symbol, None, None, (), (), False, 0, 0, (why,))


def _again(store: Store, tasks: Sequence[MergeTask]) -> list[MergeTask]:
    """List the symbols of some tasks anew; all their `date=` files are read then."""
    listed = {files.symbol: files for files in list_bronze(store, [task.files.symbol for task in tasks])}
    found = [(task, listed.get(task.files.symbol, SymbolFiles(task.files.symbol, None, ()))) for task in tasks]
    return [replace(task, files=files, read=files.daily, known=()) for task, files in found]


def _merges(
    store: Store, tasks: Iterable[MergeTask], pool: ThreadPoolExecutor, prove_before: date
) -> Iterator[_Outcome]:
    """Read and merge, some tasks at the same time, and yield each with what came of it."""
    works = blocks(_read(store, tasks), _AT_A_TIME)
    for some in in_order(lambda part: pool.submit(_merge_some, part, prove_before), works, ahead=_AHEAD):
        yield from some


def _round(store: Store, merges: Iterable[_Outcome], manifest: Mapping[str, Entry]) -> _Round:
    """Write what was merged, each on condition that nobody else wrote meanwhile."""
    result, plans = _Round(), list[_Plan]()

    def writes() -> Iterator[tuple[str, bytes, When]]:
        for task, outcome in merges:
            if outcome is None:
                result.again.append(task)
            elif isinstance(outcome, ReadFile):
                result.done.append(_unusable(task, outcome))
            elif outcome.unread is not None and not _set_aside(store, task, outcome.unread):
                result.again.append(task)
            else:
                plans.append(outcome)
                if outcome.body is not None:
                    yield layout.data_key(task.files.symbol), outcome.body, outcome.when

    etags = {put.key: put.etag for put in store.put_many_if(writes())}
    for plan in plans:
        etag = plan.when.etag if plan.body is None else etags[layout.data_key(plan.task.files.symbol)]
        if etag is None:
            result.again.append(plan.task)
        else:
            result.done.append(_committed(plan, etag, manifest.get(plan.task.files.symbol)))
    return result


def _read(store: Store, tasks: Iterable[MergeTask]) -> Iterator[tuple[MergeTask, list[_Object]]]:
    """Yield each task and what lies under its keys: its `data.parquet` first where there is one, then its `date=` files."""
    # Block by block: tasks without a key would all be taken in search of the next one.
    for block in blocks(tasks):
        keys = [_keys(task) for task in block]
        files = store.map((key for group in keys for key in group), lambda key, stored: (key, stored))
        for task, group in zip(block, keys, strict=True):
            yield task, [next(files) for _ in group]


def _keys(task: MergeTask) -> list[str]:
    data = [layout.data_key(task.files.symbol)] if task.files.data_etag is not None else []
    return data + [file.key for file in task.read]


def _merge_some(works: Sequence[tuple[MergeTask, list[_Object]]], prove_before: date) -> list[_Outcome]:
    """Decode the files of some tasks together, then merge each."""
    files = iter(read_files([found for _, objects in works for found in objects]))
    return [(task, _merge(task, [next(files) for _ in objects], prove_before)) for task, objects in works]


def _merge(task: MergeTask, files: list[ReadFile], prove_before: date) -> _Plan | ReadFile | None:
    """Return the plan; or the unusable `data.parquet`; or None when a file is gone since it was listed."""
    if any(file.bars is None and file.error is None for file in files):
        return None
    data = files.pop(0) if task.files.data_etag is not None else None
    if data is not None and data.error is not None and not task.rebuild:
        return data
    before = data.bars if data is not None else None
    daily = tuple(
        (replace(listed, etag=file.etag or ""), file.bars)
        for listed, file in zip(task.read, files, strict=True)
        if file.bars is not None
    )
    rest = merge_history([*([task.extra] if task.extra is not None else []), *(bars for _, bars in daily)])
    bars, added, changed, first_changed = _combined(before, rest)
    when = if_match(data.etag or "") if data is not None else IF_ABSENT
    errors = tuple(file.error for file in files if file.error is not None)
    if bars.num_rows == 0:
        return ReadFile(layout.data_key(task.files.symbol), None, None, "; ".join(errors) or "no rows")
    same = before is not None and added == changed == 0
    return _Plan(
        task=task,
        when=when,
        unread=data.data if data is not None and data.error is not None else None,
        body=None if same else encode_history(bars),
        last=bars["date"][-1].as_py(),
        rows=bars.num_rows,
        updated=pc.max(bars["ingested_at"]).as_py(),
        recent=last_bars(bars),
        files=(*(file for file, _ in daily), *task.known),
        proven=_proven(bars, [(file, row) for file, row in daily if file.session < prove_before]),
        added=added,
        changed=changed,
        first_changed=first_changed,
        errors=errors,
    )


def _proven(bars: pa.Table, daily: Sequence[tuple[DailyFile, pa.Table]]) -> tuple[DailyFile, ...]:
    """Return the files whose row is, by content, in a symbol's bars."""
    held = contained(bars, [row for _, row in daily])
    return tuple(file for (file, _), is_in in zip(daily, held, strict=True) if is_in)


def _combined(before: pa.Table | None, rest: pa.Table) -> tuple[pa.Table, int, int, date | None]:
    """Return a symbol's bars after a merge, how many sessions are new, how many differ, and the first of both.

    Only the sessions that `rest` touches are compared: a day's work on a long history stays small.
    """
    first = rest["date"][0].as_py() if rest.num_rows else None
    if before is None:
        return rest, rest.num_rows, 0, first
    if first is not None and first > before["date"][-1].as_py():  # the usual day: nothing is touched
        return pa.concat_tables([before, rest]), rest.num_rows, 0, first  # not copied: the file's bytes are the same
    where = pc.drop_null(pc.index_in(rest["date"], value_set=before["date"].combine_chunks()))
    touched = before.take(where)
    delta = changed_history(touched, merge_history([touched, rest]) if touched.num_rows else rest)
    if delta.num_rows == 0:
        return before, 0, 0, None
    bars = merge_history([before, delta])
    added = bars.num_rows - before.num_rows
    return bars, added, delta.num_rows - added, delta["date"][0].as_py()


def _set_aside(store: Store, task: MergeTask, unread: bytes) -> bool:
    """Keep the bytes of an unreadable `data.parquet` that is about to be replaced; say whether it is the file that is bad.

    What a network spoiled reads otherwise the second time: then the file has to be read again.
    """
    key = layout.data_key(task.files.symbol)
    if not reads_the_same(store, key, unread):
        return False
    aside = layout.quarantined_file_key(task.files.symbol, hashlib.sha256(unread).hexdigest()[:16])
    store.put(aside, unread)
    warn("file_set_aside", key=key, kept_as=aside)
    return True


def _unusable(task: MergeTask, file: ReadFile) -> Merged:
    warn("file_unusable", key=file.key, error=file.error)
    return _failed(task, file.error or "")


def _committed(plan: _Plan, etag: str, known: Entry | None) -> Merged:
    symbol = plan.task.files.symbol
    if plan.unread is not None:
        # What stood in it is not known, even where it went bad under the ETag that the manifest knows: bars may be gone.
        changes: tuple[Change, ...] = ()
        merged: frozenset[int] = frozenset()
    elif known is None or known.data_etag != plan.when.etag:
        # What happened before the version read is not known: who was further behind takes all.
        changes = (Change(plan.when.etag, None),) if plan.when.etag else ()
        merged = frozenset()
    else:
        changes, merged = known.changes, known.merged
    if plan.body is not None:
        changes = (*changes, Change(etag, plan.first_changed))[-KEPT_CHANGES:]
    listed = {file_mark(file.session, file.etag) for file in plan.task.files.daily}
    entry = Entry(
        symbol=symbol,
        last_consolidated_date=plan.last,
        row_count=plan.rows,
        last_updated=plan.updated,
        data_etag=etag,
        merged=(merged & listed) | {file_mark(file.session, file.etag) for file in plan.files},
        changes=changes,
    )
    return Merged(
        symbol,
        plan.recent,
        entry,
        plan.files,
        plan.proven,
        plan.body is not None,
        plan.added,
        plan.changed,
        plan.errors,
        plan.unread is not None,
    )

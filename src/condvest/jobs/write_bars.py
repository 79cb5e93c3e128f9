"""Write the bars of a fetch to bronze so that none of them can get lost, and set aside the rows that break a rule."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from condvest.aio import in_chunks
from condvest.domain.answers import ParsedBars
from condvest.domain.bars import UTC_MICROSECONDS, Reject
from condvest.domain.calendar import new_york_date
from condvest.jobs.bronze import SymbolFiles, list_bronze
from condvest.jobs.histories import known_histories
from condvest.jobs.merging import MergeTask, merge_symbols
from condvest.log import warn
from condvest.storage import layout
from condvest.storage.fetched import write_fetched
from condvest.storage.manifest import Entry, read_manifest, update_manifest
from condvest.storage.parquet import encode_row, encode_table
from condvest.storage.recent import RecentWriter
from condvest.storage.store import ALWAYS, Store, When

#: A vacuum never removes a `date=` file younger than 7 days. What is older than this is therefore merged into `data.parquet`
#: before it is acknowledged: its `date=` file may be removed at any moment.
_SAFE_DAYS: Final = 5
#: Files that a thread encodes at a time, and how many times that are encoded and not yet written.
_THREADS: Final = 2
_AT_A_TIME: Final = 64
_AHEAD: Final = 4


def write_bars(store: Store, bars: pa.Table, *, now: datetime, may_begin: bool = False) -> list[str]:
    """Write bars (`DAILY_SCHEMA`) as `date=` files; those of sessions more than 5 days ago into `data.parquet` as well.

    When this returns without errors every row is durable. Returns what could not be merged. Idempotent. `may_begin`: as
    `merge_parts` has it.
    """
    write_daily(store, bars)
    old = [is_merged_at_once(day, now) for day in bars["date"].to_pylist()]
    return merge_bars(store, bars.filter(pa.array(old, pa.bool_())), may_begin=may_begin) if any(old) else []


def is_merged_at_once(session: date, now: datetime) -> bool:
    """Say whether a session is so old that its bars go into `data.parquet` before they are acknowledged."""
    return (new_york_date(now) - session).days > _SAFE_DAYS


def write_daily(store: Store, bars: pa.Table) -> None:
    """Write bars (`DAILY_SCHEMA`) as `date=` files, in place of those that lie there; encoded in two threads.

    Then what spares reading them one by one: an object a session with what was written for it.
    """
    symbols, days = bars["symbol"].to_pylist(), bars["date"].to_pylist()

    def file(position: int) -> tuple[str, bytes, When]:
        return layout.daily_key(symbols[position], days[position]), encode_row(bars.slice(position, 1)), ALWAYS

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="condvest-encode") as pool:
        files = in_chunks(pool, file, range(len(symbols)), ahead=_AHEAD, size=_AT_A_TIME)
        written = store.put_many_if(files)
    write_fetched(store, bars, [put.etag or "" for put in written])


def merge_bars(store: Store, bars: pa.Table, *, may_begin: bool = False) -> list[str]:
    """Merge bars of any symbols and sessions straight into each symbol's `data.parquet`; return what could not be.

    `may_begin`: as `merge_parts` has it.
    """
    bars = bars.sort_by([("symbol", "ascending"), ("date", "ascending")]).combine_chunks()
    symbols = bars["symbol"].combine_chunks()
    counts = symbols.value_counts()
    parts, offset = [], 0
    for symbol, count in zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True):
        parts.append((symbol, bars.slice(offset, count)))
        offset += count
    return merge_parts(store, parts, [symbol for symbol, _ in parts], may_begin=may_begin)[0]


def merge_parts(
    store: Store, parts: Iterable[tuple[str, pa.Table]], symbols: Collection[str], *, may_begin: bool = False
) -> tuple[list[str], int]:
    """Merge each symbol's bars into its `data.parquet` and bring the manifest up to it.

    `may_begin`: the caller has seen that a history which is begun here is not begun from a part; else none is that silver was
    built from. Returns what could not be merged, and how many bars are new or changed.
    """
    manifest = read_manifest(store)
    listed = {files.symbol: files for files in list_bronze(store, symbols, manifest=manifest)}
    files = {symbol: listed.get(symbol, SymbolFiles(symbol, None, ())) for symbol in symbols}
    known = manifest.keys() if may_begin else known_histories(store, files.values(), manifest)
    tasks = (MergeTask(files[symbol], (), bars) for symbol, bars in parts)
    recent, entries, left, rows = RecentWriter(store), list[Entry](), list[str](), 0
    for merged in merge_symbols(store, tasks, manifest, known):
        left += merged.errors
        rows += merged.added + merged.changed
        if merged.entry is not None and merged.recent is not None:
            entries.append(merged.entry)
            recent.add(merged.recent, merged.entry.data_etag)
    recent.write()
    update_manifest(store, entries)
    return left, rows


def quarantine(session: date, parsed: ParsedBars, rejects: Sequence[Reject], at: datetime) -> tuple[str, bytes]:
    """Return the object that keeps the rows of one answer that break a rule, with the rule's name."""
    warn("rows_quarantined", session=session, rows=len(rejects), rules=",".join(sorted({row.rule for row in rejects})))
    return layout.quarantine_key(session, at, parsed.digest), encode_table(_table(rejects, at))


def wanted_rejects(rejects: Sequence[Reject], universe: Collection[str] | None) -> list[Reject]:
    """Return the rejected rows that concern a universe; one without a readable symbol concerns every one."""
    return [row for row in rejects if universe is None or not row.symbol or row.symbol in universe]


def _table(rejects: Sequence[Reject], at: datetime) -> pa.Table:
    return pa.table(
        {
            "symbol": pa.array([row.symbol for row in rejects], pa.string()),
            "date": pa.array([row.session for row in rejects], pa.date32()),
            "rule": pa.array([row.rule for row in rejects], pa.string()),
            "detail": pa.array([row.detail for row in rejects], pa.string()),
            "raw": pa.array([row.raw for row in rejects], pa.string()),
            "fetched_at": pa.array([at] * len(rejects), UTC_MICROSECONDS),
        }
    )


def count_not_in(known: pa.Table, answer: pa.Table) -> int:
    """Count the known symbols that an answer no longer holds."""
    if known.num_rows == 0:
        return 0
    held = pc.is_in(known["symbol"], value_set=answer["symbol"].combine_chunks())
    return len(known.filter(pc.invert(held)))

"""Checks of caches (manifest, checkpoints, recent and fetched bars) and of what lies beside the bars."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from condvest.domain.bars import SERIES_NAMES, UTC_MICROSECONDS, contained
from condvest.errors import CondvestError, DataError, ObjectNotFound
from condvest.jobs.contents import SymbolContent
from condvest.jobs.findings import Findings, shown
from condvest.storage import layout, manifest, recent
from condvest.storage.actions import read_dividends
from condvest.storage.closures import read_closures
from condvest.storage.fetched import Fetched, fetched_sessions, try_fetched
from condvest.storage.manifest import Entry, file_mark
from condvest.storage.parquet import decode
from condvest.storage.store import Store, Stored

_QUARANTINE_SCHEMA: Final = pa.schema(
    [
        ("symbol", pa.string()),
        ("date", pa.date32()),
        ("rule", pa.string()),
        ("detail", pa.string()),
        ("raw", pa.string()),
        ("fetched_at", UTC_MICROSECONDS),
    ]
)
_REPAIR: Final = "run `condvest verify --repair`, which builds it from bronze"
_REMOVE: Final = "run `condvest verify --repair`, which removes it: the files themselves are read then"
_FROM_LANDING: Final = (
    "restore it from a copy, or run `condvest consolidate --force-full`, which rebuilds it from landing"
)
_ABSENT: Final = "run `condvest verify --repair`, or `condvest consolidate`, which builds it"


@dataclass(slots=True)
class CachesCheck:
    """Holds manifest, recent and fetched bars against each symbol's files, and counts rows that wait to be merged."""

    store: Store
    findings: Findings
    universe: Collection[str] | None = None
    entries: dict[str, Entry] = field(init=False)
    _recent: recent.Recent = field(init=False)
    _fetched: Fetched = field(init=False)
    _absent: list[str] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)
    _gone: set[str] = field(default_factory=set)
    _has_data: bool = False
    _behind: list[str] = field(default_factory=list)
    _waiting: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """Read the caches; one that cannot be read counts as empty."""
        self.entries, self._recent = {}, recent.Recent.nothing()
        if self._is_readable(layout.MANIFEST, manifest.SCHEMA):
            self.entries = manifest.read_manifest(self.store)
        if self._is_readable(layout.RECENT_BARS, recent.SCHEMA):
            self._recent = recent.read_recent(self.store)
        self._fetched, errors = try_fetched(self.store, fetched_sessions(self.store))
        for error in errors.values():  # no rule is broken: all do without it
            self.findings.wrong.caches = True
            self.findings.notice("cache", error.split(";")[0], _REMOVE)

    def _is_readable(self, key: str, schema: pa.Schema) -> bool:
        try:
            decode(self.store.get(key).data, schema, key)
        except ObjectNotFound:
            self._absent.append(key)
            return False
        except DataError as error:
            self._broken(str(error).split(";")[0])
            return False
        return True

    def take(self, content: SymbolContent) -> None:
        """Check what the caches say of one symbol."""
        self._seen.add(content.symbol)
        entry = self.entries.get(content.symbol)
        trusted = entry is not None and entry.data_etag == content.data_etag
        if content.data is not None:
            self._has_data = True
            if not trusted:
                self._behind.append(content.symbol)
            elif entry is not None:
                self._check_entry(entry, content.data)
            self._check_recent(content.symbol, content.data_etag or "", content.data)
        if content.data_etag is None and content.is_known and entry is not None:
            self._gone.add(content.symbol)
        for file, row in content.daily:
            if self._fetched.is_other(content.symbol, file.session, file.etag, row):
                what = f"{layout.fetched_key(file.session)}: {content.symbol} is not as in its date= file"
                self._broken(what, _REMOVE)
        if content.is_known:
            self._check_pending(content, entry if trusted else None)

    def _check_entry(self, entry: Entry, data: pa.Table) -> None:
        says = (entry.row_count, entry.last_consolidated_date, entry.last_updated)
        holds = (data.num_rows, data["date"][-1].as_py(), pc.max(data["ingested_at"]).as_py())
        if says != holds:
            told = f"{says[0]:,} rows to {says[1]} by it, {holds[0]:,} to {holds[1]} in fact"
            what = f"{layout.MANIFEST}: {entry.symbol} has {told}"
            self._broken(what)

    def _check_recent(self, symbol: str, etag: str, data: pa.Table) -> None:
        found = self._recent.of(symbol, etag)
        if found is None:
            return
        since, bars = found
        rows = data.select(SERIES_NAMES).filter(pc.greater_equal(data["date"], pa.scalar(since, pa.date32())))
        if not rows.combine_chunks().equals(bars.combine_chunks()):
            self._broken(f"{layout.RECENT_BARS}: {symbol} is not as in its data.parquet")

    def _check_pending(self, content: SymbolContent, entry: Entry | None) -> None:
        rows = [row for _, row in content.daily]
        merged = [False] * len(rows) if content.data is None else contained(content.data, rows)
        for (file, _), is_in in zip(content.daily, merged, strict=True):
            if is_in:
                continue
            self._waiting[content.symbol] += 1
            if entry is not None and file_mark(file.session, file.etag) in entry.merged:
                what = f"{layout.MANIFEST}: {file.key} is merged by it, and its row is not in data.parquet"
                self._broken(what)

    def _broken(self, what: str, remedy: str = _REPAIR) -> None:
        self.findings.wrong.caches = True
        self.findings.broken("cache", what, remedy)

    def finish(self) -> None:
        """Report what concerns the caches as a whole, and what waits to be merged."""
        for key in self._absent:
            self.findings.wrong.caches |= self._has_data
            self.findings.notice("cache", f"{key}: absent", _ABSENT)
        if self._behind and self.entries:
            self.findings.wrong.caches = True
            what = f"{layout.MANIFEST}: of an older version of {len(self._behind):,} data.parquet: {shown(sorted(self._behind))}"
            self.findings.notice("cache", what, "the next `condvest consolidate` brings it up")
        self.findings.counts["pending_rows"] += self._waiting.total()
        if self._waiting:
            files, symbols = self._waiting.total(), len(self._waiting)
            what = f"{files:,} date= files of {symbols:,} symbols wait to be merged: {shown(sorted(self._waiting))}"
            self.findings.notice("pending", what, "run `condvest consolidate`")

    def report_gone(self, built_from: Collection[str]) -> None:
        """Report each `data.parquet` that is not there, though the manifest knows it or silver was built from it.

        It is a notice where the symbol is outside of the universe.
        """
        gone = self._gone | (self.entries.keys() - self._seen) | set(built_from)
        outside = [] if self.universe is None else sorted(gone.difference(self.universe))
        if outside:
            what = f"{layout.MANIFEST}: has {len(outside):,} symbols without a file: {shown(outside)}"
            self.findings.notice("cache", what, "none: they are not in the universe")
        for symbol in sorted(gone.difference(outside)):
            entry = self.entries.get(symbol)
            held = f"it held {entry.row_count:,} bars up to {entry.last_consolidated_date}" if entry else ""
            told = f"is gone, though {held or 'silver was built from it'}"
            self.findings.broken("bronze_file", f"{layout.data_key(symbol)}: {told}", _FROM_LANDING)


def check_beside(store: Store, findings: Findings, intervals: Collection[int]) -> None:
    """Check what lies beside the bars: dividends, quarantine, closures, cleanup manifest, and files that are not condvest's."""
    for rule, read in (("corporate_actions", read_dividends), ("closures", read_closures)):
        try:
            read(store)
        except CondvestError as error:
            findings.error(rule, error)
    _check_cleanup_manifest(store, findings)
    _check_quarantine(store, findings)
    foreign = [info.key for info in store.list("") if not _is_ours(info.key, intervals)]
    findings.counts["foreign_files"] += len(foreign)
    if foreign:
        what = f"{len(foreign):,} files are not the lake's: {shown(foreign)}"
        findings.notice("foreign_file", what, "none: they are passed over; move them out")


def _check_cleanup_manifest(store: Store, findings: Findings) -> None:
    try:
        runs = json.loads(store.get(layout.CLEANUP_MANIFEST).data)["runs"]
        if not isinstance(runs, list):
            raise TypeError(type(runs).__name__)
        findings.counts["cleanups"] += len(runs)
    except ObjectNotFound:
        return
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        what = f"{layout.CLEANUP_MANIFEST}: cannot be read ({type(error).__name__})"
        findings.broken(
            "cleanup_manifest", what, "restore it from a copy, or delete it: the next vacuum begins a new one"
        )


def _check_quarantine(store: Store, findings: Findings) -> None:
    keys = [info.key for info in store.list(layout.QUARANTINE) if layout.parse_quarantine_key(info.key)]
    rules: Counter[str] = Counter()
    for rows in store.map(keys, _quarantined):
        if isinstance(rows, str):
            findings.error("quarantine_file", rows)
        else:
            rules.update(rows)
    findings.counts["quarantined_rows"] += rules.total()
    if rules:
        told = ", ".join(f"{rule} {count:,}" for rule, count in sorted(rules.items()))
        findings.notice("quarantine", f"{rules.total():,} rows in quarantine: {told}", "look at bronze/quarantine/")
    kept = [info.key for info in store.list(layout.QUARANTINE) if layout.parse_quarantined_file_key(info.key)]
    if kept:
        what = f"{len(kept):,} unreadable files were set aside: {shown(kept)}"
        findings.notice("quarantine", what, "delete them when nothing in them is wanted")


def _quarantined(key: str, stored: Stored | None) -> list[Any] | str:
    try:
        return decode(stored.data, _QUARANTINE_SCHEMA, key)["rule"].to_pylist() if stored else []
    except DataError as error:
        return str(error).split(";")[0] + "; restore it from a copy; landing has the rows as they came"


def _is_ours(key: str, intervals: Collection[int]) -> bool:
    fixed = {layout.SPLITS, layout.DIVIDENDS, layout.MANIFEST, layout.CLEANUP_MANIFEST, layout.CLOSURES}
    fixed |= {layout.unfinished_key(kind) for kind in ("tickers", "splits", "dividends")}
    fixed |= {layout.RECENT_BARS, *(layout.checkpoint_key(sessions) for sessions in intervals)}
    parsers = (
        layout.parse_bronze_key,
        layout.parse_landing_key,
        layout.parse_quarantine_key,
        layout.parse_quarantined_file_key,
        layout.parse_silver_key,
        layout.parse_fetched_key,
    )
    return key in fixed or any(parse(key) for parse in parsers)

"""Vacuum: remove `date=` files that are past retention and proven to be in the committed `data.parquet`."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final

from condvest.domain.bars import contained
from condvest.domain.calendar import new_york_date
from condvest.domain.shard import WHOLE, Shard
from condvest.errors import CommitConflict, ConfigError, DataError
from condvest.jobs.bronze import ReadFile, SymbolFiles, blocks, list_bronze, read_each, without_files
from condvest.jobs.progress import Progress, silent
from condvest.log import event, warn
from condvest.storage import layout
from condvest.storage.manifest import read_manifest
from condvest.storage.second_look import look
from condvest.storage.store import Store, Stored, When

#: The shortest retention without force. Fetches merge what is older than 5 days before they acknowledge it, so a file that
#: may be removed never holds the only copy of an acknowledged row.
LEAST_RETENTION_DAYS: Final = 7
_NAMED_KEYS: Final = 50
_ATTEMPTS: Final = 20


@dataclass(frozen=True, slots=True)
class Removal:
    """One `date=` file whose rows are proven to be in `data.parquet`."""

    symbol: str
    session: date
    key: str


@dataclass(slots=True)
class VacuumReport:
    """What a vacuum removed, or with `dry_run` would remove; `kept` counts files past retention that are not proven."""

    dry_run: bool
    files_removed: int = 0
    removed: list[str] = field(default_factory=list)
    kept: int = 0
    left: list[str] = field(default_factory=list)

    @property
    def nothing_new(self) -> bool:
        """Whether nothing was removed."""
        return self.dry_run or not self.files_removed


def check_retention(retention_days: int, *, force: bool = False) -> None:
    """Refuse a retention below 7 days unless forced, and a negative one always."""
    if retention_days < 0:
        raise ConfigError(f"retention {retention_days} days: must not be negative; the default is 30")
    if retention_days < LEAST_RETENTION_DAYS and not force:
        raise ConfigError(
            f"retention {retention_days} days: must be {LEAST_RETENTION_DAYS} at least, since later fetches may still change"
            " younger files; use `condvest vacuum --force` while no fetch runs, if that is what you mean"
        )


def is_expired(session: date, now: datetime, retention_days: int) -> bool:
    """Say whether a session is more than `retention_days` days before the New York date of `now`."""
    return session < first_kept(now, retention_days)


def first_kept(now: datetime, retention_days: int) -> date:
    """Return the first date that is not more than `retention_days` days before the New York date of `now`."""
    today = new_york_date(now)
    return today - timedelta(days=min(retention_days, (today - date.min).days))


def vacuum(
    store: Store,
    *,
    now: datetime,
    symbols: Collection[str] | None = None,
    shard: Shard = WHOLE,
    retention_days: int = 30,
    dry_run: bool = False,
    force: bool = False,
    progress: Progress = silent,
) -> VacuumReport:
    """Remove the `date=` files older than `retention_days` whose rows are, by content, in the committed `data.parquet`.

    Without a `data.parquet` nothing of a symbol goes. `dry_run` proves the same and removes nothing. Idempotent;
    runs of several shards at once keep out of each other's way.
    """
    check_retention(retention_days, force=force)
    report = VacuumReport(dry_run)
    removals: list[Removal] = []
    bronze = list_bronze(store, symbols, manifest=read_manifest(store) if symbols is None else None)
    listed = (files for files in bronze if shard.holds(files.symbol))
    found: list[str] = []
    for done, block in enumerate(blocks(listed), 1):
        found += [files.symbol for files in block]
        removals += _proven(store, block, now, retention_days, report)
        progress("vacuum", done, None)
    if symbols is not None:
        report.left += without_files([symbol for symbol in symbols if shard.holds(symbol)], found)
    report.removed = [removal.key for removal in removals]
    report.files_removed = len(removals)
    if not dry_run:
        remove(store, removals, now=now, retention_days=retention_days, forced=force)
    return report


def _proven(
    store: Store, block: Sequence[SymbolFiles], now: datetime, retention_days: int, report: VacuumReport
) -> Iterator[Removal]:
    plans = [
        (files, [file for file in files.daily if is_expired(file.session, now, retention_days)]) for files in block
    ]
    report.kept += sum(len(expired) for files, expired in plans if files.data_etag is None)
    plans = [(files, expired) for files, expired in plans if expired and files.data_etag is not None]
    keys = [[layout.data_key(files.symbol), *(file.key for file in expired)] for files, expired in plans]
    read = read_each(store, (key for group in keys for key in group))
    for files, expired in plans:
        data, rows = next(read), [next(read) for _ in expired]
        _tell_unusable([data, *rows], report)
        found = [(file, row.bars) for file, row in zip(expired, rows, strict=True) if row.bars is not None]
        bars = [row for _, row in found]
        are_in = [False] * len(bars) if data.bars is None else contained(data.bars, bars)
        report.kept += are_in.count(False)
        for (file, _), is_in in zip(found, are_in, strict=True):
            if is_in:
                yield Removal(files.symbol, file.session, file.key)


def _tell_unusable(files: Sequence[ReadFile], report: VacuumReport) -> None:
    for file in files:
        if file.error is not None and file.error not in report.left:
            warn("file_unusable", key=file.key, error=file.error)
            report.left.append(file.error)


def remove(store: Store, removals: Sequence[Removal], *, now: datetime, retention_days: int, forced: bool) -> int:
    """Record what goes and why in the cleanup manifest, then delete it. Nothing to remove writes nothing."""
    if not removals:
        return 0
    _record(store, _entry(removals, now, retention_days, forced))
    store.delete_many(removal.key for removal in removals)
    event("date_files_removed", files=len(removals), retention_days=retention_days)
    return len(removals)


def _entry(removals: Sequence[Removal], now: datetime, retention_days: int, forced: bool) -> dict[str, Any]:
    keys = sorted(removal.key for removal in removals)
    sessions = Counter(removal.session.isoformat() for removal in removals)
    return {
        "at": now.isoformat(),
        "why": "past retention, and each row found by content in the committed data.parquet",
        "retention_days": retention_days,
        "forced": forced,
        "files": len(removals),
        "sessions": dict(sorted(sessions.items())),
        "keys_sha256": hashlib.sha256("\n".join(keys).encode()).hexdigest(),
        "keys": keys[:_NAMED_KEYS],
    }


def _record(store: Store, entry: dict[str, Any]) -> None:
    for _ in range(_ATTEMPTS):
        runs, when = _runs(store)
        body = json.dumps({"version": 1, "runs": [*runs, entry]}, indent=1).encode()
        try:
            store.put(layout.CLEANUP_MANIFEST, body, when=when)
        except CommitConflict:
            continue
        return
    raise CommitConflict(
        f"{layout.CLEANUP_MANIFEST}: {_ATTEMPTS} other writers were first; nothing was removed; run again"
    )


def _runs(store: Store) -> tuple[list[Any], When]:
    found = look(store, layout.CLEANUP_MANIFEST, _decoded)
    if found.error is not None:
        remedy = "a new one is begun; past removals are not needed"
        warn("cleanup_manifest_unreadable", error=found.error, remedy=remedy)
    return found.content or [], found.when


def _decoded(stored: Stored) -> list[Any]:
    try:
        runs = json.loads(stored.data)["runs"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{layout.CLEANUP_MANIFEST}: {error}") from error
    if not isinstance(runs, list):
        raise DataError(f"{layout.CLEANUP_MANIFEST}: runs are a {type(runs).__name__}, must be a list")
    return runs

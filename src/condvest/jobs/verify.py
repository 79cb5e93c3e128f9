"""Verify: read the whole lake and hold it against its rules. Writes nothing."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime
from typing import TYPE_CHECKING

from condvest.domain.actions import Split
from condvest.domain.calendar import Calendar
from condvest.errors import CondvestError
from condvest.jobs.checks_bronze import BronzeCheck
from condvest.jobs.checks_caches import CachesCheck, check_beside
from condvest.jobs.checks_landing import check_listings, is_ledger_lost
from condvest.jobs.checks_ledger import LedgerCheck, check_watermarks
from condvest.jobs.checks_rows import RowsCheck, is_done
from condvest.jobs.checks_silver import check_silver, listed_intervals
from condvest.jobs.checksums import SessionGrid
from condvest.jobs.contents import read_bronze
from condvest.jobs.findings import Finding, Findings, VerifyReport
from condvest.jobs.progress import Progress, silent
from condvest.jobs.silver_plan import Source, source_mark, splits_by_symbol
from condvest.storage.actions import read_splits
from condvest.storage.landing import read_index
from condvest.storage.store import Store

if TYPE_CHECKING:
    from condvest.state import State

__all__ = ["Finding", "VerifyReport", "examine", "verify"]


def verify(
    store: Store,
    state: State,
    *,
    calendar: Calendar,
    now: datetime,
    universe: Collection[str] | None = None,
    progress: Progress = silent,
) -> VerifyReport:
    """Read the whole lake and hold it against its rules; a file that cannot be read is a finding and stops nothing.

    Checked: every bronze file and bar; that each landed bar is, by content, in bronze and nothing else is; the session ledger
    against landing; the watermarks against bronze; silver against a full rebuild, byte for byte; manifest, checkpoints and
    other caches; splits against prices. Writes nothing. Memory: blocks of symbols, checksums of sessions and symbols, and
    the rows of range answers. `universe` is the one that the fetches have. Run it while no other job writes: what is
    written meanwhile may look broken.

    Raises:
        ConfigError, TransientError: the store or the state database does not answer.
    """
    return examine(store, state, calendar=calendar, now=now, universe=universe, progress=progress).report()


def examine(
    store: Store,
    state: State,
    *,
    calendar: Calendar,
    now: datetime,
    universe: Collection[str] | None = None,
    progress: Progress = silent,
) -> Findings:
    """Verify, and return all that was found: beside the report, what a repair has to build again."""
    findings, grid = Findings(), SessionGrid(calendar)
    ledger = state.sessions()
    rows = RowsCheck(store, findings, grid, read_index(store), {row.session_date: row for row in ledger}, universe)
    rows.read_landing(progress)
    splits = _splits(store, findings, universe)
    done = grid.flags([row.session_date for row in ledger if is_done(row)])
    bronze, caches = BronzeCheck(findings, grid, done, splits), CachesCheck(store, findings, universe)
    etags, reach = _read_bronze(store, rows, bronze, caches, progress)
    caches.finish()
    rows.compare(bronze.unreadable, progress)
    LedgerCheck(findings, ledger, rows.index, rows.counts, calendar, universe).run(now)
    check_watermarks(findings, state, last=bronze.last, last_done=bronze.last_done, unreadable=bronze.unreadable)
    sources = [Source(symbol, etag, None, splits.get(symbol, ())) for symbol, etag in etags.items()]
    marks = {source.symbol: source_mark(source, reach) for source in sources}
    intervals = listed_intervals(store)
    gone = check_silver(
        store, findings, intervals, calendar=calendar, marks=marks, universe=universe, progress=progress
    )
    caches.report_gone(gone)
    check_listings(store, findings)
    is_ledger_lost(store, findings, "dividends", universe)
    check_beside(store, findings, intervals)
    return findings


def _splits(store: Store, findings: Findings, universe: Collection[str] | None) -> dict[str, list[Split]]:
    """Return the splits; where they are lost or cannot be read, silver must not be built without them."""
    try:
        found = read_splits(store)
    except CondvestError as error:
        findings.wrong.splits = True
        findings.error("corporate_actions", error)
        return {}
    if is_ledger_lost(store, findings, "splits", universe):
        findings.wrong.splits = True
    return splits_by_symbol(found)


def _read_bronze(
    store: Store, rows: RowsCheck, bronze: BronzeCheck, caches: CachesCheck, progress: Progress
) -> tuple[dict[str, str], date]:
    """Read bronze once for all checks; return the ETag of each `data.parquet` and the last session in any of them."""
    etags, reach = dict[str, str](), date.min
    for done, content in enumerate(read_bronze(store, manifest=caches.entries), 1):
        bars = bronze.take(content)
        if bars is not None:
            rows.take(content.symbol, bars)
        caches.take(content)
        if content.data_etag is not None:
            etags[content.symbol] = content.data_etag
        if content.data is not None:
            reach = max(reach, content.data["date"][-1].as_py())
        progress("read bronze", done, None)
    return etags, reach

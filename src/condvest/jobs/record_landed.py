"""Record all that landed: sessions, ranges and listings of symbols, each found in the lake, none of it told by a fetch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from condvest.domain.answers import SessionRefusal
from condvest.domain.calendar import Calendar
from condvest.jobs.record_ranges import record_ranges
from condvest.jobs.record_sessions import RecordReport, record_sessions
from condvest.jobs.record_symbols import record_symbols
from condvest.jobs.stopping import Stop, never
from condvest.storage.landing import read_index
from condvest.storage.store import Store

if TYPE_CHECKING:
    from condvest.state import State


def record_landed(
    store: Store,
    state: State,
    *,
    calendar: Calendar,
    now: datetime,
    refused: Sequence[SessionRefusal] = (),
    universe: Collection[str] | None = None,
    stop: Stop = never,
    wait_seconds: float | None = None,
) -> RecordReport:
    """Bring ledger, watermarks and symbols up to what landed and is not recorded yet. Idempotent; the lake is only read.

    When nothing is new it costs the listings of landing: two keys a session, 1,000 keys a request. `refused` are sessions
    without an answer, which leave nothing in the lake. It takes turns with the fetches that can reach the database. Asked to
    stop, it ends with what it did recorded; the next call goes on. `wait_seconds`: how long it waits for its turn; None: as long
    as a fetch does.

    Raises:
        TransientError: its turn did not come in that time.
    """
    with state.exclusive() if wait_seconds is None else state.exclusive(wait_seconds=wait_seconds):
        index = read_index(store)
        report = record_sessions(
            store, state, index, calendar=calendar, now=now, refused=refused, universe=universe, stop=stop
        )
        ranges = record_ranges(store, state, index, calendar=calendar, now=now, universe=universe, stop=stop)
        symbols = record_symbols(store, state, universe=universe, stop=stop)
        report.symbols_moved, report.remaining_symbols = ranges.moved, ranges.remaining
        report.symbols_changed, report.remaining_listings = symbols.changed, symbols.remaining
        report.listings_recorded = symbols.listings
        report.incomplete_others = ranges.left + symbols.left
        return report

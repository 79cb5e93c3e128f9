"""Rows of the ledger and watermarks that are not as landing and bronze have them: just those are made to follow."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime
from typing import TYPE_CHECKING, Final

from condvest.domain.calendar import Calendar
from condvest.domain.ledger import LedgerRow
from condvest.jobs.checksums import SessionGrid
from condvest.jobs.findings import shown
from condvest.jobs.rebuild import last_outside
from condvest.jobs.record_sessions import record_sessions
from condvest.storage.landing import read_index
from condvest.storage.store import Store

if TYPE_CHECKING:
    from condvest.state import State

_DONE: Final = ("provisional", "final")
_REASON: Final = "repair"


def repair_sessions(
    store: Store,
    state: State,
    *,
    sessions: Collection[date],
    calendar: Calendar,
    now: datetime,
    universe: Collection[str] | None,
) -> list[str]:
    """Make the ledger's rows of some days follow from landing and bronze; return what was done. Idempotent.

    A day without a session has none. A done session of which nothing landed becomes `missing`, so that the next fetch asks
    for it. Another one is recorded as `record_sessions` does; where bronze lacks bars of it, it stays as it is.
    """
    known = {row.session_date: row for row in state.sessions()}
    index = read_index(store, sorted(sessions))
    scheduled = [day for day in sorted(sessions) if calendar.first <= day <= calendar.last and calendar.is_session(day)]
    drop = sorted(set(sessions).intersection(known).difference(scheduled))
    unlanded = [known[day] for day in scheduled if day in known and index.last(day) is None]
    rows = [_missing(row) for row in unlanded if row.state in _DONE]
    state.repair_ledger(rows, drop=drop, now=now)
    landed = [day for day in scheduled if index.last(day) is not None]
    told = [f"session ledger: {len(drop):,} rows of days without a session dropped: {shown(drop)}"] if drop else []
    if rows:
        days = shown(row.session_date for row in rows)
        told.append(f"session ledger: {len(rows):,} sessions missing, as nothing of them landed: {days}")
    if landed:
        done = record_sessions(
            store, state, index, calendar=calendar, now=now, universe=universe, sessions=landed, reason=_REASON
        )
        if done.changed:
            told.append(
                f"session ledger: {done.changed:,} sessions as landing and bronze have them: {shown(done.changed_sessions)}"
            )
    return told


def _missing(row: LedgerRow) -> LedgerRow:
    reason = f"{row.state} before, but no answer of it lies in landing"
    return LedgerRow(session_date=row.session_date, state="missing", reason=reason)


def repair_watermarks(
    store: Store, state: State, *, symbols: Collection[str], calendar: Calendar, now: datetime, may_move_back: bool
) -> tuple[list[str], list[str]]:
    """Set the watermarks of some symbols to their last bar in bronze outside of open sessions, with the reason `repair`.

    Returns what was done, and the symbols whose watermark stays since it may not move back: none may without
    `may_move_back`, and never that of a symbol with a file that cannot be read. Idempotent.
    """
    grid = SessionGrid(calendar)
    is_open = grid.flags([row.session_date for row in state.sessions() if row.state not in _DONE])
    current = state.symbol_watermarks()
    last, unread = last_outside(store, symbols, grid, is_open)
    moved, kept = dict[str, date | None](), list[str]()
    for symbol in sorted(symbols):
        have, should = current.get(symbol), last.get(symbol)
        is_back = have is not None and (should is None or should < have)
        if is_back and (symbol in unread or not may_move_back):
            kept.append(symbol)
        elif have != should:
            moved[symbol] = should
    state.restate_watermarks(moved, reason=_REASON, now=now)
    texts = [f"{symbol} {current.get(symbol) or 'none'} to {session or 'none'}" for symbol, session in moved.items()]
    return ([f"watermarks: {len(moved):,} moved to the last bar in bronze: {shown(texts)}"] if moved else []), kept

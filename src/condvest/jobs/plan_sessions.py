"""What a fetch without a database has to know of its sessions: from the ledger, or where that is out of reach, from landing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date, datetime
from typing import Final

from condvest.domain.calendar import Calendar
from condvest.domain.ledger import LedgerRow, due
from condvest.jobs.landed import ledger_row, read_landed, read_ranges
from condvest.storage.landing import LandingIndex, read_index
from condvest.storage.store import Store

#: Landed sessions beside those asked for: enough to tell a short answer.
_NEAR: Final = 20
#: The same, where each costs the reading of an answer.
_NEAR_READ: Final = 3
_DONE: Final = ("provisional", "final")


def rows_for(rows: Sequence[LedgerRow], sessions: Sequence[date]) -> list[LedgerRow]:
    """Return the ledger's rows of some sessions (ascending, at least one), and of the landed ones near them."""
    wanted = set(sessions)
    done = [row for row in rows if row.state in _DONE and row.session_date not in wanted]
    near = {row.session_date: row for row in _nearest(done, sessions[0], _NEAR)}
    near.update((row.session_date, row) for row in rows if row.session_date in wanted)
    return [near[session] for session in sorted(near)]


def rows_from_landing(
    store: Store,
    calendar: Calendar,
    now: datetime,
    *,
    sessions: Sequence[date] | None,
    universe: Collection[str] | None = None,
) -> tuple[list[date], list[LedgerRow]]:
    """Return the sessions to fetch (with None: those that are due), and the rows that a ledger would have of them.

    Whether bronze holds what landed is not looked at: that is for `record_sessions`, which leaves a session pending where it
    does not. A lake where nothing landed has nothing due.
    """
    index = read_index(store)
    landed = [_outline(session, index, calendar) for session in sorted(index.answers) if calendar.is_session(session)]
    chosen = due(landed, calendar, now) if sessions is None else list(sessions)
    if not chosen:
        return [], []
    near = [row.session_date for row in _nearest(landed, chosen[0], _NEAR_READ)]
    known = sorted({*near, *(session for session in chosen if session in index.answers)})
    found = read_landed(store, known, index, read_ranges(store, index, universe), universe)
    return chosen, [ledger_row(one, index, calendar) for one in found]


def _outline(session: date, index: LandingIndex, calendar: Calendar) -> LedgerRow:
    """Return a landed session's row as far as the keys tell it."""
    seen = index.seen_through(session)
    is_final = seen is not None and seen >= calendar.final_due(session)
    return LedgerRow(session_date=session, state="final" if is_final else "provisional")


def _nearest(rows: Sequence[LedgerRow], session: date, count: int) -> list[LedgerRow]:
    """Return the last rows before a session, or where there are none the first after it; `rows` are ascending."""
    before = [row for row in rows if row.session_date < session]
    return before[-count:] or list(rows)[:count]

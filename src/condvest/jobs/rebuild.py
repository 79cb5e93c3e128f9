"""Rebuild: session ledger and watermarks from landing and bronze alone, for an empty state beside a filled lake."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import date, datetime
from typing import TYPE_CHECKING

import numpy as np

from condvest.domain.calendar import Calendar
from condvest.domain.ledger import LedgerRow
from condvest.domain.resample import day_numbers
from condvest.jobs.checksums import Flags, SessionGrid, SymbolCodes, Tally, day_of
from condvest.jobs.contents import read_bronze
from condvest.jobs.landed import INCOMPLETE, ledger_row, read_landed, read_ranges
from condvest.storage.landing import LandingIndex, read_index
from condvest.storage.store import Store

if TYPE_CHECKING:
    from condvest.state import State


def rebuild_ledger(
    store: Store,
    state: State,
    *,
    calendar: Calendar,
    now: datetime,
    universe: Collection[str] | None = None,
    reason: str = "rebuild",
    only_empty: bool = False,
) -> int:
    """Make the session ledger and the watermarks follow from the lake; return how many sessions it has. Idempotent.

    A session whose landed bars (of the symbols in `universe`; None: of all) are all in bronze by content is final when its
    answer was seen from 11:00 New York time of the next day on, else provisional. Another one that landed is pending: the
    next fetch completes it from landing. A symbol's watermark is its last bar in bronze outside of pending sessions. One
    transaction; the lake is only read. Fetches wait until it is done.

    With `only_empty` a ledger that has rows by the time it is this one's turn stays as it is, and 0 is returned: another run
    rebuilt it, and what was recorded since the lake does not know.

    What the lake does not know is not rebuilt: sessions that were never answered (`missing`, `not_entitled`, `pending`
    without an answer) are absent, which is as good as missing; a re-fetch that brought the same values again leaves no
    trace after the first receipt, so `fetched_at` may be earlier; `restated` and `withdrawn` count over all landed answers,
    also those that a backfill or a range brought.
    """
    with state.exclusive():
        if only_empty and not state.ledger_is_empty():
            return 0
        return _rebuild(store, state, calendar, now, universe, reason)


def _rebuild(
    store: Store, state: State, calendar: Calendar, now: datetime, universe: Collection[str] | None, reason: str
) -> int:
    grid, codes, index = SessionGrid(calendar), SymbolCodes(), read_index(store)
    landed, bronze = (Tally(grid, codes, grid.flags([])) for _ in range(2))
    rows = _landed_rows(store, index, grid, landed, calendar, universe)
    last = _read_bronze(store, bronze, universe)
    short = landed.sessions_unlike(bronze)
    pending = grid.flags([row.session_date for row in rows if row.state == "pending"])
    pending |= short & grid.flags([row.session_date for row in rows])
    open_sessions = {grid.sessions[place] for place in np.flatnonzero(pending).tolist()}
    rows = [_opened(row) if row.session_date in open_sessions else row for row in rows]
    watermarks = {symbol: day for symbol, day in last.items() if day not in open_sessions}
    watermarks |= last_outside(store, last.keys() - watermarks.keys(), grid, pending)[0]
    state.replace_ledger(rows, watermarks=watermarks, reason=reason, now=now)
    return len(rows)


def _opened(row: LedgerRow) -> LedgerRow:
    return replace(row, state="pending", answer_digest=None, reason=row.reason or INCOMPLETE)


def _landed_rows(
    store: Store,
    index: LandingIndex,
    grid: SessionGrid,
    tally: Tally,
    calendar: Calendar,
    universe: Collection[str] | None,
) -> list[LedgerRow]:
    """Return a row of each session of which the whole market landed, as if its bars were in bronze; their bars are tallied."""
    scheduled = set(grid.sessions)
    sessions = sorted(session for session in index.answers if session in scheduled)
    rows = []
    for found in read_landed(store, sessions, index, read_ranges(store, index, universe), universe):
        tally.add(found.bars)
        rows.append(ledger_row(found, index, calendar))
    return rows


def _read_bronze(store: Store, tally: Tally, universe: Collection[str] | None) -> dict[str, date]:
    """Tally the bars of a universe and return the last session of every symbol."""
    last = {}
    for content in read_bronze(store):
        bars = content.bars()
        if bars.num_rows:
            if universe is None or content.symbol in universe:
                tally.add(bars)
            last[content.symbol] = bars["date"][-1].as_py()
    return last


def last_outside(
    store: Store, symbols: Collection[str], grid: SessionGrid, pending: Flags
) -> tuple[dict[str, date], set[str]]:
    """Return the last session of some symbols that is not pending, and the symbols with a file that cannot be read.

    Those without any such session are left out of the first; what the second ones have may be later.
    """
    last, unread = dict[str, date](), set[str]()
    for content in read_bronze(store, symbols) if symbols else ():
        if content.problems:
            unread.add(content.symbol)
        days = day_numbers(content.bars()["date"])
        places, known = grid.find(days)
        done = days[~(known & pending[places])]
        if len(done):
            last[content.symbol] = day_of(int(done[-1]))
    return last, unread

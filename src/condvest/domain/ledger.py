"""The session ledger: what is known of each scheduled session, and what follows from it. Pure."""

from __future__ import annotations

import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from condvest.domain.calendar import Calendar

SessionState = Literal["missing", "pending", "provisional", "final", "not_entitled"]
SESSION_STATES: tuple[SessionState, ...] = ("missing", "pending", "provisional", "final", "not_entitled")

# States of a session whose bars are not in the lake though they may come.
_OPEN: frozenset[SessionState] = frozenset({"missing", "pending"})
# States of a session whose answer landed.
_LANDED: frozenset[SessionState] = frozenset({"provisional", "final"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """One scheduled session as the ledger has it.

    `missing`: never fetched. `pending`: asked for, not handed out yet. `provisional`: landed before the provider's
    final run. `final`: landed or confirmed after it. `not_entitled`: the plan does not include it.

    Attributes:
        session_date: the session (America/New_York date).
        state: one of `SESSION_STATES`.
        source: where the bars came from (`grouped`, `flat_files`); None before the first answer.
        rows: good bars that landed.
        answer_rows: rows of the provider's whole answer, before any universe filter and quarantine.
        quarantined: rows that broke a rule.
        restated: bars that a later answer changed, summed over all re-fetches.
        withdrawn: bars that a later answer no longer holds, summed over all re-fetches.
        answer_digest: 16 hex digits of the answer's values.
        fetched_at: when the last answer came (UTC).
        reason: why the session is in this state, for a person.
        updated_at: when this row last changed (UTC); set by the ledger, ignored in what is written to it.
    """

    session_date: date
    state: SessionState
    source: str | None = None
    rows: int = 0
    answer_rows: int = 0
    quarantined: int = 0
    restated: int = 0
    withdrawn: int = 0
    answer_digest: str | None = None
    fetched_at: datetime | None = None
    reason: str | None = None
    updated_at: datetime | None = None


def watermark(rows: Sequence[LedgerRow], calendar: Calendar) -> date | None:
    """Return the last session before the first gap; None for an empty ledger, or when its first session is a gap.

    See `gaps` for what a gap is. `rows` may come in any order.
    """
    reached: date | None = None
    for session, is_gap in _walk(rows, calendar):
        if is_gap:
            break
        reached = session
    return reached


def gaps(rows: Sequence[LedgerRow], calendar: Calendar) -> list[date]:
    """Return the gaps, ascending: scheduled sessions that are absent, missing or pending.

    Looked at are those from the first ledger row to the last, both inclusive. A session that is provisional, final or
    not entitled is no gap. `rows` may come in any order.
    """
    return [session for session, is_gap in _walk(rows, calendar) if is_gap]


def due(rows: Sequence[LedgerRow], calendar: Calendar, now: datetime) -> list[date]:
    """Return the sessions to fetch at `now`, ascending: from the first ledger row to the last session closed by `now`.

    Due is what is absent, missing or pending, and what is provisional once its final bars are out
    (`calendar.final_due`). A session that the plan does not include is not due. An empty ledger has nothing due:
    where to begin is not known.
    """
    if not rows:
        return []
    states = {row.session_date: row.state for row in rows}
    first, last = min(states), calendar.last_closed(now)
    if last < first:
        return []
    found = []
    for session in calendar.sessions(first, last):
        state = states.get(session, "missing")
        if state in _OPEN or (state == "provisional" and now >= calendar.final_due(session)):
            found.append(session)
    return found


def usual_rows(rows: Sequence[LedgerRow], session: date, window: int = 20) -> int | None:
    """Return the usual number of rows of a whole answer around `session`, or None when no other session landed.

    It is the lower median of `answer_rows` of the nearest `window` landed sessions before it, or, when there are
    none, after it.
    """
    return UsualRows(rows, window).around(session)


class UsualRows:
    """The usual number of rows of a whole answer, kept up as sessions land; see `usual_rows`."""

    def __init__(self, rows: Sequence[LedgerRow], window: int = 20) -> None:
        """Begin with the sessions that landed already."""
        landed = sorted((row.session_date, row.answer_rows) for row in rows if row.state in _LANDED)
        self._days = [day for day, _ in landed]
        self._counts = [count for _, count in landed]
        self._window = window

    def note(self, session: date, answer_rows: int) -> None:
        """Take the count of a session that landed."""
        at = bisect_left(self._days, session)
        if at < len(self._days) and self._days[at] == session:
            self._counts[at] = answer_rows
        else:
            self._days.insert(at, session)
            self._counts.insert(at, answer_rows)

    def around(self, session: date) -> int | None:
        """Return the lower median of the nearest landed sessions before, or else after, a session; None without any."""
        before, after = bisect_left(self._days, session), bisect_right(self._days, session)
        nearest = self._counts[max(0, before - self._window) : before] or self._counts[after : after + self._window]
        return statistics.median_low(nearest) if nearest else None


def _walk(rows: Sequence[LedgerRow], calendar: Calendar) -> list[tuple[date, bool]]:
    """Each scheduled session between the first and the last ledger row, and whether it is a gap."""
    if not rows:
        return []
    states = {row.session_date: row.state for row in rows}
    return [(day, states.get(day, "missing") in _OPEN) for day in calendar.sessions(min(states), max(states))]

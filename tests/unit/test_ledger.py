"""The session ledger's pure questions: watermark, gaps, what is due, what is usual."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta

import pytest

from condvest.domain.calendar import Calendar
from condvest.domain.ledger import SESSION_STATES, LedgerRow, SessionState, UsualRows, due, gaps, usual_rows, watermark

CALENDAR = Calendar.shipped()
# Thanksgiving (Nov 27) is no session, Nov 28 closes early (18:00 UTC).
WEEK = [date(2025, 11, day) for day in (24, 25, 26, 28)]
MON, TUE, WED, FRI = WEEK


def ledger(*states: SessionState) -> list[LedgerRow]:
    """Return rows for the first days of the week, in these states."""
    return [LedgerRow(session_date=day, state=state) for day, state in zip(WEEK, states, strict=False)]


def test_watermark_is_the_last_session_before_the_first_gap() -> None:
    """Lake rule 4: the watermark stops at the first gap, whatever landed after it."""
    assert watermark(ledger("final", "provisional", "not_entitled", "final"), CALENDAR) == FRI
    assert watermark(ledger("final", "pending", "final", "final"), CALENDAR) == MON
    assert watermark(ledger("final", "final", "missing", "final"), CALENDAR) == TUE


def test_a_session_without_a_row_is_a_gap() -> None:
    """A hole in the ledger itself counts like a missing session; a holiday does not."""
    rows = [row for row in ledger("final", "final", "final", "final") if row.session_date != TUE]
    assert watermark(rows, CALENDAR) == MON
    assert gaps(rows, CALENDAR) == [TUE]


def test_there_is_no_watermark_when_the_first_session_is_a_gap() -> None:
    """Nothing is claimed before the first session landed."""
    assert watermark([], CALENDAR) is None
    assert gaps([], CALENDAR) == []
    assert watermark(ledger("missing", "final"), CALENDAR) is None


def test_a_closure_announced_later_is_no_gap() -> None:
    """A day that turned out to be a closure holds nothing up, though the ledger expected it."""
    closed = Calendar.shipped([TUE])
    rows = ledger("final", "missing", "final", "final")
    assert (watermark(rows, closed), gaps(rows, closed)) == (FRI, [])


@pytest.mark.parametrize("seed", range(20))
def test_watermark_and_gaps_agree_with_a_walk_by_hand(seed: int) -> None:
    """For any ledger, in any order: the first gap is the session after the watermark, and gaps are exactly what is open."""
    chance = random.Random(seed)
    sessions = CALENDAR.sessions(date(2025, 1, 2), date(2025, 3, 31))
    states = {day: chance.choice((*SESSION_STATES, None)) for day in sessions}
    rows = [LedgerRow(session_date=day, state=state) for day, state in states.items() if state]
    chance.shuffle(rows)
    inside = [day for day in sessions if min(r.session_date for r in rows) <= day <= max(r.session_date for r in rows)]
    wanted = [day for day in inside if states[day] in (None, "missing", "pending")]
    assert gaps(rows, CALENDAR) == wanted
    before = [day for day in inside if not wanted or day < wanted[0]]
    assert watermark(rows, CALENDAR) == (before[-1] if before else None)


def test_due_is_what_is_open_up_to_the_last_closed_session() -> None:
    """What never came is due, up to the last session closed by now, rows or not; a session that runs is not."""
    rows = ledger("final", "pending", "not_entitled")
    assert due(rows, CALENDAR, datetime(2025, 11, 28, 17, 59, tzinfo=UTC)) == [TUE]
    assert due(rows, CALENDAR, datetime(2025, 11, 28, 18, 0, tzinfo=UTC)) == [TUE, FRI]
    assert due([], CALENDAR, datetime(2025, 11, 28, 18, 0, tzinfo=UTC)) == []


def test_a_provisional_session_is_due_once_its_final_bars_are_out() -> None:
    """The re-fetch that makes a session final is due from 11:00 New York time of the next day, not before (D11)."""
    rows = ledger("provisional")
    final_due = CALENDAR.final_due(MON)
    assert due(rows, CALENDAR, final_due - timedelta(microseconds=1)) == []
    assert due(rows, CALENDAR, final_due) == [MON]


def test_nothing_is_due_before_the_first_session_closed() -> None:
    """A ledger that begins in the future waits."""
    assert due(ledger("missing"), CALENDAR, datetime(2025, 11, 24, 20, 59, tzinfo=UTC)) == []


def test_usual_rows_is_the_median_of_the_nearest_answers_before() -> None:
    """A short answer is measured against whole answers of the sessions just before it; a bad one among them does not weigh."""
    days = CALENDAR.sessions(date(2025, 9, 2), date(2025, 10, 31))
    rows = [LedgerRow(session_date=day, state="final", answer_rows=10_000 + n) for n, day in enumerate(days)]
    rows[-1] = LedgerRow(session_date=days[-1], state="final", answer_rows=3)
    nearest = [row.answer_rows for row in rows[-3:]]
    assert usual_rows(rows, MON, window=3) == sorted(nearest)[1]
    assert usual_rows(rows, days[1]) == 10_000
    assert usual_rows(rows, MON, window=20) == 10_000 + len(days) - 12


def test_usual_rows_looks_ahead_when_nothing_landed_before() -> None:
    """A backfill to earlier years is measured against what follows; an empty ledger says nothing; pending rows do not count."""
    rows = [LedgerRow(session_date=TUE, state="final", answer_rows=7), LedgerRow(session_date=MON, state="pending")]
    assert usual_rows(rows, MON) == 7
    assert usual_rows(rows, TUE) is None
    assert usual_rows([], TUE) is None


@pytest.mark.parametrize("seed", range(5))
def test_usual_rows_kept_up_equals_usual_rows_anew(seed: int) -> None:
    """Noting sessions as they land, in any order and again, says the same as the whole ledger does."""
    chance = random.Random(seed)
    days = CALENDAR.sessions(date(2025, 1, 2), date(2025, 2, 28))
    landed: dict[date, LedgerRow] = {}
    usual = UsualRows([], window=5)
    for _ in range(60):
        row = LedgerRow(session_date=chance.choice(days), state="provisional", answer_rows=chance.randrange(100))
        landed[row.session_date] = row
        usual.note(row.session_date, row.answer_rows)
        asked = chance.choice(days)
        assert usual.around(asked) == usual_rows(list(landed.values()), asked, window=5)

"""Which sessions the options of a fetch name, and what is said when they name none."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from condvest.app.dates import Asked, DateOptions, asked_sessions, check_no_gap, read_date
from condvest.domain.calendar import Calendar
from condvest.errors import ConfigError

CALENDAR = Calendar.shipped()
THURSDAY, FRIDAY, MONDAY = date(2025, 11, 20), date(2025, 11, 21), date(2025, 11, 24)
WEEKEND = datetime(2025, 11, 22, 18, tzinfo=UTC)  # Saturday noon in New York: Friday has closed
FRIDAY_NOON = datetime(2025, 11, 21, 17, tzinfo=UTC)


@pytest.mark.parametrize(
    ("options", "sessions"),
    [
        (DateOptions(), None),
        (DateOptions(day="2025-11-21"), [FRIDAY]),
        (DateOptions(first="2025-11-20"), [THURSDAY, FRIDAY]),
        (DateOptions(first="2025-11-20", last="2025-11-22"), [THURSDAY, FRIDAY]),
        (DateOptions(first="2025-11-15", last="2025-11-17"), [date(2025, 11, 17)]),
        (DateOptions(first="2025-11-20", last="2025-11-20"), [THURSDAY]),
    ],
)
def test_dates_name_the_sessions_inside(options: DateOptions, sessions: list[date] | None) -> None:
    """A range takes the sessions inside it; without its end it goes to the last session that has closed."""
    asked = asked_sessions(options, CALENDAR, WEEKEND)
    assert (asked.sessions if asked else None) == sessions


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (DateOptions(day="2025-11-21", first="2025-11-20"), "--date does not go with"),
        (DateOptions(day="2025-11-21", last="2025-11-21"), "--date does not go with"),
        (DateOptions(last="2025-11-21"), "needs --from"),
        (DateOptions(day="2025-11-22"), "2025-11-21 and 2025-11-24"),
        (DateOptions(day="2025-11-24"), "has not closed"),
        (DateOptions(day="1950-01-03"), "outside the calendar"),
        (DateOptions(first="2025-11-22", last="2025-11-22"), "2025-11-21 and 2025-11-24"),
        (DateOptions(first="2025-11-21", last="2025-11-20"), "is after"),
        (DateOptions(first="2025-11-20", last="2025-11-25"), "in the future"),
        (DateOptions(first="2025-11-22"), "session 2025-11-24 has not closed"),
        (DateOptions(first="2025-11-24"), "session 2025-11-24 has not closed"),
        (DateOptions(day="20251121"), "write year-month-day"),
        (DateOptions(day="2025-02-30"), "no such date"),
    ],
)
def test_dates_that_cannot_be_are_told_what_to_write(options: DateOptions, said: str) -> None:
    """The message names the value and what would do."""
    with pytest.raises(ConfigError, match=said) as caught:
        asked_sessions(options, CALENDAR, WEEKEND)
    assert "\n" not in str(caught.value)


def test_a_session_that_is_still_open_is_refused() -> None:
    """Its bars come after its close; the message says when that is."""
    with pytest.raises(ConfigError, match="closes at 2025-11-21T21:00:00Z"):
        asked_sessions(DateOptions(first="2025-11-20", last="2025-11-21"), CALENDAR, FRIDAY_NOON)
    asked = asked_sessions(DateOptions(first="2025-11-20"), CALENDAR, FRIDAY_NOON)
    assert asked is not None
    assert (asked.first, asked.last) == (THURSDAY, THURSDAY)


def test_a_gap_before_the_lake_is_refused_with_the_exact_command() -> None:
    """What is before the lake's first session has to reach up to it, or the watermark would fall behind the gap."""
    asked = Asked([date(2025, 11, 3), date(2025, 11, 4)])
    with pytest.raises(ConfigError, match="--from 2025-11-03 --to 2025-11-19"):
        check_no_gap(asked, THURSDAY, CALENDAR)
    check_no_gap(asked, date(2025, 11, 5), CALENDAR)
    check_no_gap(asked, date(2025, 11, 4), CALENDAR)
    check_no_gap(asked, None, CALENDAR)
    check_no_gap(Asked([MONDAY]), THURSDAY, CALENDAR)


def test_a_date_is_written_one_way() -> None:
    """Weeks, ordinals and other orders of day and month are refused."""
    assert read_date(" 2025-11-20 ", name="--from") == THURSDAY
    for text in ("2025-W47-4", "2025-324", "20.11.2025", "11/20/2025", "today", ""):
        with pytest.raises(ConfigError, match="--from is"):
            read_date(text, name="--from")

"""The calendar: real sessions, ordinals that never move, groups that tile it, closes in UTC."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condvest.domain.calendar import INTERVALS, Calendar, group_of, new_york_date
from condvest.errors import ConfigError

ROOT = Path(__file__).parents[2]
CALENDAR = Calendar.shipped()
LOWEST, HIGHEST = CALENDAR.ordinal(CALENDAR.first), CALENDAR.ordinal(date(2050, 12, 30))

ORDINALS = st.integers(LOWEST, HIGHEST)
DATES = st.dates(CALENDAR.first, CALENDAR.last)
INSIDE = st.dates(CALENDAR.first + timedelta(days=2), CALENDAR.last - timedelta(days=1))
MOMENTS = st.timedeltas(timedelta(0), timedelta(days=32_000)).map(
    lambda passed: datetime(1962, 1, 3, tzinfo=UTC) + passed
)


def build_calendar(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the tool of a checkout in the environment that has the library."""
    python = ROOT / ".venv-calendar/bin/python"
    assert python.exists(), "the environment that compares the calendar is not there: run `make calendar`"
    command = [str(python), str(root / "tools/build_calendar.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_table_agrees_with_the_library() -> None:
    """The shipped table is what pandas_market_calendars gives, date by date; a difference is a new calendar version."""
    check = build_calendar(ROOT, "--check")
    assert check.returncode == 0, check.stdout + check.stderr


def test_the_comparison_finds_what_differs(tmp_path: Path) -> None:
    """The tool writes the shipped file byte for byte, and its comparison names each date that was changed since."""
    table = tmp_path / "src/condvest/domain/data/xnys.csv"
    for folder in (table.parent, tmp_path / "tools"):
        folder.mkdir(parents=True)
    shutil.copy(ROOT / "tools/build_calendar.py", tmp_path / "tools")
    assert build_calendar(tmp_path).returncode == 0
    written = table.read_text()
    assert written == (ROOT / "src/condvest/domain/data/xnys.csv").read_text()

    table.write_text(
        written.replace("2025-01-09,closed,\n", "").replace("2025-11-28,early,13:00", "2025-11-28,early,14:00")
    )
    check = build_calendar(tmp_path, "--check")
    assert check.returncode == 1
    assert check.stdout.splitlines() == [
        "2025-01-09 closed: only in the library",
        "2025-11-28 early 13:00: only in the library",
        "2025-11-28 early 14:00: only in the table",
    ]


@pytest.mark.parametrize(
    ("year", "count"),
    [
        (1962, 252),
        (1968, 226),
        (1970, 254),
        (1987, 253),
        (2001, 248),
        (2012, 250),
        (2020, 253),
        (2021, 252),
        (2022, 251),
        (2023, 250),
        (2024, 252),
        (2025, 250),
        (2026, 251),
    ],
)
def test_years_have_the_sessions_that_the_exchange_held(year: int, count: int) -> None:
    """The number of sessions of a year is the exchange's own."""
    assert len(CALENDAR.sessions(date(year, 1, 1) if year > 1962 else CALENDAR.first, date(year, 12, 31))) == count


@pytest.mark.parametrize(
    "day",
    [
        "1963-11-25",  # funeral of President Kennedy
        "1968-06-12",  # Wednesdays of the paperwork crisis
        "1968-12-18",
        "1969-02-10",  # snow
        "1969-07-21",  # moon landing
        "1977-07-14",  # blackout
        "1980-11-04",  # election day
        "1985-09-27",  # hurricane Gloria
        "1994-04-27",  # funeral of President Nixon
        "2001-09-11",
        "2001-09-14",
        "2007-01-02",  # mourning for President Ford
        "2012-10-29",  # hurricane Sandy
        "2012-10-30",
        "2018-12-05",  # mourning for President Bush
        "2022-06-20",  # Juneteenth, observed
        "2025-01-09",  # mourning for President Carter
        "2025-06-19",
        "2025-11-22",  # a Saturday
        "2026-04-03",  # Good Friday
    ],
)
def test_days_without_a_session(day: str) -> None:
    """Closures that no rule foretells, and those that one does, are known."""
    closed = date.fromisoformat(day)
    assert not CALENDAR.is_session(closed)
    with pytest.raises(ConfigError, match=f"{day} is no session of XNYS; the nearest sessions are"):
        CALENDAR.ordinal(closed)


@pytest.mark.parametrize("day", ["1968-06-05", "2001-09-10", "2001-09-17", "2012-10-31", "2021-06-18", "2021-12-31"])
def test_days_with_a_session(day: str) -> None:
    """The days beside a closure were sessions, and so were days before a holiday was kept or was moved."""
    assert CALENDAR.is_session(date.fromisoformat(day))


@pytest.mark.parametrize(
    ("day", "ordinal"),
    [
        ("1962-01-02", -1987),
        ("1969-12-31", -1),
        ("1970-01-02", 0),
        ("1970-01-05", 1),
        ("1970-12-31", 253),
        ("2000-03-01", 7622),
        ("2025-11-19", 14092),
    ],
)
def test_ordinals_never_move(day: str, ordinal: int) -> None:
    """The ordinal of a session is fixed for ever: all period bars hang on it."""
    assert CALENDAR.ordinal(date.fromisoformat(day)) == ordinal


@given(ORDINALS)
def test_ordinals_and_sessions_are_inverse(ordinal: int) -> None:
    """Each ordinal is one session, and the next ordinal is the next session."""
    session = CALENDAR.session_at(ordinal)
    assert CALENDAR.ordinal(session) == ordinal
    assert session.weekday() < 5
    if ordinal < HIGHEST:
        assert CALENDAR.next_session(session) == CALENDAR.session_at(ordinal + 1)
        assert CALENDAR.previous_session(CALENDAR.session_at(ordinal + 1)) == session


@given(INSIDE)
def test_neighbours_of_any_date(day: date) -> None:
    """The sessions before and after a date are the nearest ones, the date itself left out."""
    before, after = CALENDAR.previous_session(day), CALENDAR.next_session(day)
    assert before < day < after
    between = CALENDAR.sessions(before, after)
    assert between == ([before, day, after] if CALENDAR.is_session(day) else [before, after])


@given(DATES, DATES)
def test_sessions_of_a_range(first: date, last: date) -> None:
    """A range holds each session between its bounds, both inclusive, once and in order; a reversed one holds none."""
    days = [first + timedelta(count) for count in range(min((last - first).days + 1, 400))]
    expected = [day for day in days if CALENDAR.is_session(day)]
    assert CALENDAR.sessions(first, last)[: len(expected)] == expected
    if last < first:
        assert CALENDAR.sessions(first, last) == []


@given(ORDINALS, st.sampled_from([*INTERVALS, 1, 2, 250]))
def test_groups_hold_their_sessions(ordinal: int, sessions: int) -> None:
    """A session lies inside the bounds of its group, and only its group."""
    group = group_of(ordinal, sessions)
    first, last = CALENDAR.group_bounds(group, sessions)
    assert first <= CALENDAR.session_at(ordinal) <= last
    assert len(CALENDAR.sessions(first, last)) == sessions or group in (LOWEST // sessions, HIGHEST // sessions)
    assert CALENDAR.group_of(ordinal, sessions) == group


@pytest.mark.parametrize("sessions", INTERVALS)
def test_groups_tile_the_calendar(sessions: int) -> None:
    """The groups of an interval cover each session of the table exactly once, in order."""
    tiled: list[date] = []
    for group in range(group_of(LOWEST, sessions), group_of(HIGHEST, sessions) + 1):
        tiled += CALENDAR.sessions(*CALENDAR.group_bounds(group, sessions))
    assert tiled == CALENDAR.sessions(CALENDAR.first, CALENDAR.last)


def test_groups_of_known_sessions() -> None:
    """Groups start at 1970-01-02 and floor downwards before it."""
    assert CALENDAR.group_bounds(0, 3) == (date(1970, 1, 2), date(1970, 1, 6))
    assert CALENDAR.group_bounds(-1, 3) == (date(1969, 12, 29), date(1969, 12, 31))
    assert CALENDAR.group_bounds(group_of(14092, 13), 13) == (date(2025, 11, 19), date(2025, 12, 8))


def test_a_group_at_the_edge_is_cut_and_one_beyond_is_refused() -> None:
    """The table's first and last group have the sessions that it knows; beyond them nothing is guessed."""
    first, last = group_of(LOWEST, 34), group_of(HIGHEST, 34)
    assert CALENDAR.group_bounds(first, 34)[0] == CALENDAR.first
    assert CALENDAR.group_bounds(last, 34)[1] == CALENDAR.session_at(HIGHEST)
    for group in (first - 1, last + 1):
        with pytest.raises(ConfigError, match=f"group {group} of 34 sessions is outside the calendar"):
            CALENDAR.group_bounds(group, 34)


@pytest.mark.parametrize(
    ("day", "close"),
    [
        ("1962-01-02", "1962-01-02T20:30"),  # 15:30 was the regular close
        ("1963-11-22", "1963-11-22T19:07"),  # the day President Kennedy was shot
        ("1969-03-10", "1969-03-10T19:00"),  # short hours of the paperwork crisis
        ("1987-10-26", "1987-10-26T19:00"),  # and after the crash
        ("2025-03-07", "2025-03-07T21:00"),  # last session before daylight saving time
        ("2025-03-10", "2025-03-10T20:00"),
        ("2025-07-03", "2025-07-03T17:00"),  # eve of Independence Day
        ("2025-10-31", "2025-10-31T20:00"),
        ("2025-11-03", "2025-11-03T21:00"),  # first one after it
        ("2025-11-28", "2025-11-28T18:00"),  # day after Thanksgiving
        ("2025-12-24", "2025-12-24T18:00"),
    ],
)
def test_closes_are_instants(day: str, close: str) -> None:
    """A close is an instant in UTC: daylight saving time moves it, early closes and old hours count."""
    instant = CALENDAR.close_instant(date.fromisoformat(day))
    assert instant == datetime.fromisoformat(close).replace(tzinfo=UTC)
    assert instant.tzinfo is UTC


def test_no_close_without_a_session() -> None:
    """A holiday has no close."""
    with pytest.raises(ConfigError, match="2025-12-25 is no session"):
        CALENDAR.close_instant(date(2025, 12, 25))


@pytest.mark.parametrize(
    ("now", "session"),
    [
        ("2025-11-19T20:59:59.999999+00:00", "2025-11-18"),
        ("2025-11-19T21:00:00+00:00", "2025-11-19"),
        ("2025-11-19T16:00:00-05:00", "2025-11-19"),
        ("2025-11-20T04:59:00+00:00", "2025-11-19"),  # still the evening of the 19th in New York
        ("2025-11-20T14:00:00+00:00", "2025-11-19"),
        ("2025-11-28T18:00:00+00:00", "2025-11-28"),  # 13:00 on the day after Thanksgiving
        ("2025-11-30T12:00:00+00:00", "2025-11-28"),
        ("2025-03-09T12:00:00+00:00", "2025-03-07"),  # the clocks go forward
        ("2025-03-10T20:00:00+00:00", "2025-03-10"),
        ("2025-11-02T06:30:00+00:00", "2025-10-31"),  # and back
        ("2025-11-03T20:30:00+00:00", "2025-10-31"),
    ],
)
def test_last_closed(now: str, session: str) -> None:
    """The last closed session changes at the instant of a close and at no other."""
    assert CALENDAR.last_closed(datetime.fromisoformat(now)) == date.fromisoformat(session)


@given(MOMENTS, st.timedeltas(timedelta(0), timedelta(days=10)))
def test_last_closed_never_goes_back(now: datetime, later: timedelta) -> None:
    """As time goes on, sessions close and stay closed."""
    session = CALENDAR.last_closed(now)
    assert CALENDAR.close_instant(session) <= now < CALENDAR.close_instant(CALENDAR.next_session(session))
    assert session <= CALENDAR.last_closed(now + later)


@pytest.mark.parametrize(
    ("day", "due"),
    [
        ("2025-11-19", "2025-11-20T16:00"),
        ("2025-07-01", "2025-07-02T15:00"),
        ("2025-10-31", "2025-11-01T15:00"),  # a Friday: due on Saturday
        ("2025-03-08", "2025-03-09T15:00"),  # the clocks went forward in the night
        ("2025-11-01", "2025-11-02T16:00"),
    ],
)
def test_final_due(day: str, due: str) -> None:
    """Bars are final from 11:00 in New York on the next calendar day, daylight saving time counted."""
    assert CALENDAR.final_due(date.fromisoformat(day)) == datetime.fromisoformat(due).replace(tzinfo=UTC)


def test_new_york_date() -> None:
    """The date of an instant is New York's, whatever the zone it is given in."""
    assert new_york_date(datetime(2025, 11, 20, 4, 59, tzinfo=UTC)) == date(2025, 11, 19)
    assert new_york_date(datetime(2025, 11, 20, 5, 0, tzinfo=UTC)) == date(2025, 11, 20)
    assert new_york_date(datetime(2025, 7, 1, 4, 0, tzinfo=UTC)) == date(2025, 7, 1)


def test_an_instant_without_a_zone_or_date_is_refused() -> None:
    """No host's time zone is ever assumed."""
    with pytest.raises(ConfigError, match="2025-11-19T16:00:00 has no time zone; end it with Z"):
        CALENDAR.last_closed(datetime(2025, 11, 19, 16, 0))  # noqa: DTZ001  (what the test is about)
    with pytest.raises(ConfigError, match="has no New York date"):
        new_york_date(datetime.min.replace(tzinfo=UTC))


@pytest.mark.parametrize("day", [date(1962, 1, 1), date(2051, 1, 1), date.min, date.max])
def test_dates_outside_the_table_are_refused(day: date) -> None:
    """Nothing is guessed where the table does not reach: the message has the date and the bounds."""
    rule = f"{day} is outside the calendar, which has 1962-01-02 to 2050-12-31; use a date inside it"
    for ask in (
        CALENDAR.is_session,
        CALENDAR.ordinal,
        CALENDAR.next_session,
        CALENDAR.previous_session,
        CALENDAR.close_instant,
        CALENDAR.final_due,
    ):
        with pytest.raises(ConfigError, match=rule):
            ask(day)
    for first, last in ((day, date(2025, 1, 1)), (date(2025, 1, 1), day)):
        with pytest.raises(ConfigError, match=rule):
            CALENDAR.sessions(first, last)


def test_the_ends_of_the_table() -> None:
    """Beyond the first and last session there is none, and it says so."""
    with pytest.raises(ConfigError, match="no session before 1962-01-02 in the calendar"):
        CALENDAR.previous_session(CALENDAR.first)
    with pytest.raises(ConfigError, match="no session after 2050-12-31 in the calendar"):
        CALENDAR.next_session(CALENDAR.last)
    for ordinal in (LOWEST - 1, HIGHEST + 1):
        with pytest.raises(ConfigError, match=f"session ordinal {ordinal} is outside the calendar"):
            CALENDAR.session_at(ordinal)


def test_a_later_closure_wins() -> None:
    """A closure announced after the table was made takes its session away, moves later ordinals, is a new version."""
    day = date(2026, 12, 1)
    closed = Calendar.shipped([day])
    assert CALENDAR.is_session(day)
    assert not closed.is_session(day)
    assert closed.version != CALENDAR.version
    assert closed.next_session(date(2026, 11, 30)) == date(2026, 12, 2)
    assert closed.ordinal(date(2026, 12, 2)) == CALENDAR.ordinal(day)
    assert closed.ordinal(date(2026, 11, 30)) == CALENDAR.ordinal(date(2026, 11, 30))
    with pytest.raises(ConfigError, match="2026-12-01 is no session"):
        closed.close_instant(day)


def test_a_closure_that_changes_nothing_is_no_new_version() -> None:
    """A closure on a weekend, or one that the table has by now, asks for no rebuild; nor does the order of several."""
    assert Calendar.shipped([date(2025, 12, 25), date(2025, 11, 22)]).version == CALENDAR.version
    days = [date(2026, 12, 1), date(2026, 12, 2)]
    assert Calendar.shipped(days) == Calendar.shipped(reversed(days))


def test_a_closure_outside_the_table_is_refused() -> None:
    """A slip in the year of a recorded closure is found, not ignored."""
    with pytest.raises(ConfigError, match="closure 2205-01-09 is outside the calendar"):
        Calendar.shipped([date(2205, 1, 9)])


def test_the_shipped_version() -> None:
    """The version stands in lakes: if this changes, sessions did, and every lake is resampled."""
    assert CALENDAR.version == "97ca2e8e5877a6cf"
    assert Calendar.shipped() is CALENDAR

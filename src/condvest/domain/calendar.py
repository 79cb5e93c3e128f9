"""The calendar of the New York Stock Exchange (XNYS): sessions, their ordinals, close times and groups.

The table `data/xnys.csv` is shipped with the package; `tools/build_calendar.py` makes it and compares it with the
library that it comes from. A session is a `date` in New York; instants are aware `datetime`s in UTC.
"""

from __future__ import annotations

import csv
import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

from condvest.errors import ConfigError

INTERVALS = (3, 5, 8, 13, 21, 34)
"""Lengths of the period bars that silver holds, in sessions."""

ORDINAL_ZERO = date(1970, 1, 2)
"""The session whose ordinal is 0."""

NEW_YORK = ZoneInfo("America/New_York")
FINAL_DUE = time(11, 0)
"""When the provider has recomputed a session's bars: New York time of the next calendar day."""


def new_york_date(instant: datetime) -> date:
    """Return the New York date of an aware instant; ConfigError when it has no time zone or no such date."""
    if instant.tzinfo is None:
        raise ConfigError(f"instant {instant.isoformat()} has no time zone; end it with Z or an offset such as +00:00")
    try:
        return instant.astimezone(NEW_YORK).date()
    except OverflowError:
        raise ConfigError(
            f"instant {instant.isoformat()} has no New York date; use one inside years 2 to 9998"
        ) from None


def group_of(ordinal: int, sessions: int) -> int:
    """Return the fixed group of a session: floor(ordinal / sessions).

    Ordinals count scheduled XNYS sessions from 1970-01-02 (0); earlier ones are negative and floor downwards.
    """
    return ordinal // sessions


@dataclass(frozen=True, slots=True)
class Calendar:
    """Every scheduled session between two dates, and what depends on their order alone.

    Attributes:
        version: Hash of the sessions, 16 hex digits. Calendars of one version give every session the same ordinal, so a
            change means that all period bars are built anew. Close times are not in it: they move no bar.
        first: First date that the table knows, inclusive; a session.
        last: Last date that the table knows, inclusive.
    """

    version: str
    first: date
    last: date
    _sessions: tuple[date, ...] = field(repr=False, compare=False)
    _ordinals: Mapping[date, int] = field(repr=False, compare=False)
    _closes: _Closes = field(repr=False, compare=False)

    @staticmethod
    def shipped(extra_closures: Iterable[date] = ()) -> Calendar:
        """Return the shipped calendar less closures that were announced after it was made.

        Args:
            extra_closures: Dates without a session; they win over the table. One that is no session anyway changes
                nothing, the version included. ConfigError for a date outside the table.
        """
        return _calendar(frozenset(extra_closures))

    def is_session(self, d: date) -> bool:
        """Say whether a session is scheduled on a date; ConfigError outside the table."""
        return self._inside(d) in self._ordinals

    def ordinal(self, d: date) -> int:
        """Return how many sessions lie between 1970-01-02 (0) and a session; earlier ones are negative.

        ConfigError when no session is scheduled on that date or the table does not reach it.
        """
        try:
            return self._ordinals[d]
        except KeyError:
            before, after = self._around(self._inside(d))
            near = " and ".join(str(session) for session in (before, after) if session)
            raise ConfigError(f"{d} is no session of XNYS; the nearest sessions are {near}") from None

    def session_at(self, ordinal: int) -> date:
        """Return the session with an ordinal; ConfigError outside the table."""
        index = ordinal - self._ordinals[self._sessions[0]]
        if not 0 <= index < len(self._sessions):
            first = self._ordinals[self._sessions[0]]
            raise ConfigError(
                f"session ordinal {ordinal} is outside the calendar, which has {first} ({self._sessions[0]})"
                f" to {first + len(self._sessions) - 1} ({self._sessions[-1]}); use one of these"
            )
        return self._sessions[index]

    def sessions(self, first: date, last: date) -> list[date]:
        """Return the scheduled sessions from first to last, both inclusive, ascending; empty when last is before first.

        ConfigError when a bound is outside the table.
        """
        start = bisect_left(self._sessions, self._inside(first))
        return list(self._sessions[start : bisect_right(self._sessions, self._inside(last))])

    def next_session(self, d: date) -> date:
        """Return the first session strictly after any date; ConfigError when the table has none."""
        return self._found(self._around(self._inside(d))[1], d, "after")

    def previous_session(self, d: date) -> date:
        """Return the last session strictly before any date; ConfigError when the table has none."""
        return self._found(self._around(self._inside(d))[0], d, "before")

    def close_instant(self, d: date) -> datetime:
        """Return when a session closes, in UTC: an early close, else the regular one of its time (16:00 since 1974).

        Times are the library's, which has 16:00 from 1974-01-02 on, though the exchange kept 15:30 until that October.
        ConfigError when no session is scheduled on that date.
        """
        self.ordinal(d)
        return _new_york_instant(d, self._closes.of(d))

    def last_closed(self, now: datetime) -> date:
        """Return the last session that has closed by an aware instant, the instant of its close included.

        ConfigError before the table's first close and after its last date.
        """
        today = new_york_date(now)
        if self.is_session(today) and self.close_instant(today) <= now:
            return today
        return self.previous_session(today)

    def final_due(self, d: date) -> datetime:
        """Return when a session's bars can be final, in UTC: 11:00 New York time of the next calendar day.

        ConfigError for a date outside the table.
        """
        return _new_york_instant(self._inside(d) + timedelta(days=1), FINAL_DUE)

    def group_of(self, ordinal: int, sessions: int) -> int:
        """Return the fixed group of a session: floor(ordinal / sessions), for all symbols and all time."""
        return group_of(ordinal, sessions)

    def group_bounds(self, group: int, sessions: int) -> tuple[date, date]:
        """Return the first and the last scheduled session of a group.

        A group that the table holds in part is cut at the table's end; ConfigError when it lies wholly outside.
        """
        lowest, highest = self._ordinals[self._sessions[0]], self._ordinals[self._sessions[-1]]
        start, stop = group * sessions, group * sessions + sessions - 1
        if stop < lowest or start > highest:
            raise ConfigError(
                f"group {group} of {sessions} sessions is outside the calendar, which has {self.first} to {self.last};"
                f" use a group from {group_of(lowest, sessions)} to {group_of(highest, sessions)}"
            )
        return self.session_at(max(start, lowest)), self.session_at(min(stop, highest))

    def _inside(self, d: date) -> date:
        if not self.first <= d <= self.last:
            raise ConfigError(
                f"{d} is outside the calendar, which has {self.first} to {self.last}; use a date inside it"
            )
        return d

    def _around(self, d: date) -> tuple[date | None, date | None]:
        """Return the sessions strictly before and strictly after a date."""
        before, after = bisect_left(self._sessions, d), bisect_right(self._sessions, d)
        return (
            self._sessions[before - 1] if before else None,
            self._sessions[after] if after < len(self._sessions) else None,
        )

    def _found(self, session: date | None, d: date, side: str) -> date:
        if session is None:
            raise ConfigError(
                f"no session {side} {d} in the calendar, which has {self.first} to {self.last}; use a date inside it"
            )
        return session


@dataclass(frozen=True, slots=True)
class _Closes:
    """Close times in New York: the regular ones from a date on, ascending, and the early ones."""

    regular_from: tuple[date, ...]
    regular: tuple[time, ...]
    early: Mapping[date, time]

    def of(self, d: date) -> time:
        return self.early.get(d) or self.regular[bisect_right(self.regular_from, d) - 1]


@dataclass(frozen=True, slots=True)
class _Table:
    """The shipped file: bounds, weekdays without a session, close times."""

    first: date
    last: date
    closures: frozenset[date]
    closes: _Closes


def _new_york_instant(d: date, at: time) -> datetime:
    return datetime.combine(d, at, NEW_YORK).astimezone(UTC)


@cache
def _table() -> _Table:
    bounds, *lines = files("condvest.domain").joinpath("data/xnys.csv").read_text(encoding="ascii").splitlines()
    first, last = bounds.split(",")[0].removeprefix("# XNYS ").split(" to ")
    days: dict[str, dict[date, str]] = {"closed": {}, "regular": {}, "early": {}}
    for row in csv.DictReader(lines):
        days[row["kind"]][date.fromisoformat(row["date"])] = row["close"]
    return _Table(
        first=date.fromisoformat(first),
        last=date.fromisoformat(last),
        closures=frozenset(days["closed"]),
        closes=_Closes(
            regular_from=tuple(days["regular"]),
            regular=tuple(time.fromisoformat(close) for close in days["regular"].values()),
            early={day: time.fromisoformat(close) for day, close in days["early"].items()},
        ),
    )


@cache
def _calendar(extra_closures: frozenset[date]) -> Calendar:
    table = _table()
    if outside := sorted(day for day in extra_closures if not table.first <= day <= table.last):
        raise ConfigError(
            f"closure {outside[0]} is outside the calendar, which has {table.first} to {table.last};"
            " remove it from the recorded closures"
        )
    closed = table.closures | extra_closures
    days = map(date.fromordinal, range(table.first.toordinal(), table.last.toordinal() + 1))
    sessions = tuple(day for day in days if day.weekday() < 5 and day not in closed)
    zero = bisect_left(sessions, ORDINAL_ZERO)
    settled = [table.first, table.last, *sorted(day for day in closed if day.weekday() < 5)]
    return Calendar(
        version=hashlib.sha256(" ".join(map(str, settled)).encode("ascii")).hexdigest()[:16],
        first=table.first,
        last=table.last,
        _sessions=sessions,
        _ordinals={session: index - zero for index, session in enumerate(sessions)},
        _closes=table.closes,
    )

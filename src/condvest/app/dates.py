"""Which sessions a command asks for: texts of dates become sessions, or an error that says what to write. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from condvest.domain.calendar import Calendar, new_york_date
from condvest.errors import ConfigError

_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
EXAMPLE: Final = "2020-01-02"


@dataclass(frozen=True, slots=True, kw_only=True)
class DateOptions:
    """The options `--date`, `--from` and `--to` as they were written; None: not given.

    `sign` stands before their names in messages: two dashes for a command's options, nothing for an event's fields.
    """

    day: str | None = None
    first: str | None = None
    last: str | None = None
    sign: str = "--"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options ask for: whole sessions, ascending and at least one."""

    sessions: list[date]

    @property
    def first(self) -> date:
        """The first session."""
        return self.sessions[0]

    @property
    def last(self) -> date:
        """The last session."""
        return self.sessions[-1]


def read_date(text: str, *, name: str) -> date:
    """Return the date in `2020-01-02`; ConfigError, naming `name`, for another text."""
    if _ISO.fullmatch(text.strip()):
        try:
            return date.fromisoformat(text.strip())
        except ValueError:
            raise ConfigError(f"{name} is {text!r}: there is no such date; correct it") from None
    raise ConfigError(f"{name} is {text!r}: this is no date; write year-month-day, for example {EXAMPLE}")


def asked_sessions(options: DateOptions, calendar: Calendar, now: datetime) -> Asked | None:
    """Return the sessions that the options name, or None when they name none.

    `--date` must be a session; `--from` and `--to` (default: the last session closed by `now`) take those between them.
    Raises ConfigError for options that exclude each other, and for sessions that have not closed by `now`.
    """
    sign = options.sign
    if options.day is not None:
        if options.first is not None or options.last is not None:
            raise ConfigError(f"{sign}date does not go with {sign}from or {sign}to; give either one date or a range")
        day = read_date(options.day, name=f"{sign}date")
        calendar.ordinal(day)  # says which sessions are near when it is none
        _check_closed(day, calendar, now, name=f"{sign}date")
        return Asked([day])
    if options.first is None:
        if options.last is not None:
            raise ConfigError(
                f"{sign}to {options.last} needs {sign}from; add {sign}from, for example {sign}from {EXAMPLE}"
            )
        return None
    first = read_date(options.first, name=f"{sign}from")
    last = calendar.last_closed(now) if options.last is None else read_date(options.last, name=f"{sign}to")
    if last > new_york_date(now):
        raise ConfigError(
            f"{sign}to is {last}: that is in the future; the last session that has closed is {calendar.last_closed(now)}"
        )
    return Asked(_between(first, last, calendar, now, sign=sign, given=options.last is not None))


def check_no_gap(asked: Asked, known_from: date | None, calendar: Calendar) -> None:
    """Refuse sessions before the lake's first one that would leave a gap between.

    A watermark behind such a gap would fall back to before it, years perhaps, until it is filled.
    """
    if known_from is None or asked.last >= known_from:
        return
    wanted = calendar.previous_session(known_from)
    if asked.last < wanted:
        raise ConfigError(
            f"session {asked.last} is before the lake's first, {known_from}, and would leave a gap between; fetch all up to"
            f" it: condvest fetch bars --from {asked.first} --to {wanted}"
        )


def _between(first: date, last: date, calendar: Calendar, now: datetime, *, sign: str, given: bool) -> list[date]:
    if first > last:
        if given:
            raise ConfigError(
                f"{sign}from {first} is after {sign}to {last}; a range goes from the earlier date to the later one"
            )
        _check_closed(
            calendar.next_session(first) if not calendar.is_session(first) else first, calendar, now, name=f"{sign}from"
        )
    sessions = calendar.sessions(first, last)
    if not sessions:
        before, after = calendar.previous_session(first), calendar.next_session(last)
        raise ConfigError(f"no session lies from {first} to {last}; the nearest sessions are {before} and {after}")
    _check_closed(sessions[-1], calendar, now, name=f"{sign}to" if given else f"{sign}from")
    return sessions


def _check_closed(session: date, calendar: Calendar, now: datetime, *, name: str) -> None:
    last = calendar.last_closed(now)
    if session > last:
        raise ConfigError(
            f"{name}: session {session} has not closed by {now:%Y-%m-%dT%H:%M:%SZ} (it closes at"
            f" {calendar.close_instant(session):%Y-%m-%dT%H:%M:%SZ}); ask for {last} or an earlier one"
        )

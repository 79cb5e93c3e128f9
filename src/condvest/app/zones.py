"""The day in two zones: what talks to the provider has no database, what talks to the database has no provider.

`plan` (database) says what to fetch, `fetch_planned` and `land_meta` (provider) bring it to the lake, `record` (database)
acknowledges what landed, which it finds in the lake. In one process `condvest.app.fetching` does all three with the same jobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Final, Literal

from condvest.app.dates import EXAMPLE, DateOptions, asked_sessions, check_no_gap
from condvest.app.runs import JobResult, run_job
from condvest.app.wiring import App
from condvest.domain.answers import SessionRefusal
from condvest.domain.ledger import SESSION_STATES, LedgerRow, due, watermark
from condvest.domain.metadata import LISTINGS, ListingName
from condvest.errors import ConfigError
from condvest.jobs.fetch_report import FetchReport
from condvest.jobs.plan_sessions import rows_for, rows_from_landing
from condvest.jobs.record_landed import record_landed
from condvest.jobs.session_log import DetachedLog
from condvest.jobs.stopping import Stop, never
from condvest.storage import layout

#: Sessions planned at a time. Their rows travel in an event, which may have 256 KiB.
PLANNED_SESSIONS: Final = 250
#: Most letters of a reason that travels: the provider may say as much as it likes, of each session.
_REASON_LETTERS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPlan:
    """Which sessions to fetch, ascending, and what the ledger knows of them and of some near them.

    `refused`: sessions that an earlier call with this plan got no answer for. `next_from`: the first session that did not
    fit into the plan, None where all did.
    """

    sessions: list[date]
    ledger: list[LedgerRow] = field(default_factory=list)
    refused: list[SessionRefusal] = field(default_factory=list)
    next_from: date | None = None


def plan(app: App, dates: DateOptions) -> FetchPlan:
    """Say what to fetch: the sessions that `dates` name, or else all that are due, 250 at the most. Needs the database.

    `record` comes first: what landed counts, and a database that was lost is filled again before anything is decided.

    Raises:
        ConfigError: dates that exclude each other, have not closed or would leave a gap; an empty lake without dates.
    """
    asked = asked_sessions(dates, app.calendar, app.now())
    rows = app.state.sessions()
    if asked is not None:
        check_no_gap(asked, rows[0].session_date if rows else None, app.calendar)
    elif not rows:
        raise ConfigError(_needs_from(app))
    sessions = asked.sessions if asked is not None else due(rows, app.calendar, app.now())
    chosen, rest = sessions[:PLANNED_SESSIONS], sessions[PLANNED_SESSIONS:]
    if not chosen:
        return FetchPlan(sessions=[])
    app.state.expect(chosen, now=app.now())
    return FetchPlan(
        sessions=chosen, ledger=rows_for(app.state.sessions(), chosen), next_from=rest[0] if rest else None
    )


def plan_from_landing(app: App, dates: DateOptions) -> FetchPlan:
    """Say what to fetch as `plan` does, from the lake alone: for a fetch that nobody planned."""
    asked = asked_sessions(dates, app.calendar, app.now())
    if asked is None and not app.store.holds(layout.LANDING):
        raise ConfigError(_needs_from(app))
    sessions, rows = rows_from_landing(
        app.store,
        app.calendar,
        app.now(),
        sessions=asked.sessions if asked is not None else None,
        universe=app.universe,
    )
    return FetchPlan(sessions=sessions, ledger=rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What came of a planned fetch: what was refused so far, and the plan to call it with again, None when all was done."""

    result: JobResult
    refused: list[SessionRefusal]
    again: FetchPlan | None


def fetch_planned(app: App, plan: FetchPlan, *, accept_short: bool = False, stop: Stop = never) -> Fetched:
    """Bring the planned sessions to landing and bronze. Needs no database."""
    from condvest.jobs.fetch_bars import fetch_bars as job

    client, log = app.source(), DetachedLog(plan.ledger)
    reports: list[FetchReport] = []

    def work() -> FetchReport:
        report = job(
            app.store,
            client,
            log,
            calendar=app.calendar,
            now=app.now(),
            sessions=plan.sessions,
            universe=app.universe,
            accept_short=accept_short,
            stop=stop,
        )
        reports.append(report)
        return report

    result = run_job(app, "fetch bars", {"sessions": plan.sessions, "accept_short": accept_short}, work)
    rows = {row.session_date: row for row in log.sessions()}
    refused = list(plan.refused)
    for session in [*reports[0].not_entitled, *reports[0].pending]:
        state: Literal["pending", "not_entitled"] = "pending" if session in reports[0].pending else "not_entitled"
        reason = rows[session].reason or reports[0].pending.get(session, "")
        refused.append(SessionRefusal(session, state, reason[:_REASON_LETTERS]))
    remaining = sorted(reports[0].remaining)
    again = replace(plan, sessions=remaining, refused=refused) if remaining else None
    return Fetched(result=result, refused=refused, again=again)


def fetch_ranges(app: App, symbols: Sequence[str], dates: DateOptions, *, stop: Stop = never) -> JobResult:
    """Bring the bars of some symbols to landing and bronze, by the range endpoint. Needs no database, and both dates.

    Raises:
        ConfigError: a date is missing, no session lies between them, or a symbol is outside the universe.
    """
    from condvest.jobs.fetch_symbols import fetch_symbols as job

    symbols = app.limited(",".join(symbols), name="symbols")
    asked = asked_sessions(dates, app.calendar, app.now())
    if asked is None:
        raise ConfigError(f"symbols need a date, or from and to; name them, for example from {EXAMPLE}")
    client = app.source()
    return run_job(
        app,
        "fetch bars",
        {"symbols": symbols, "first": asked.first, "last": asked.last},
        lambda: job(
            app.store,
            client,
            DetachedLog([]),
            calendar=app.calendar,
            now=app.now(),
            symbols=symbols,
            first=asked.first,
            last=asked.last,
            stop=stop,
        ),
    )


def land_meta(
    app: App,
    *,
    details: Sequence[str] = (),
    listings: Sequence[ListingName] = LISTINGS,
    resume: datetime | None = None,
    stop: Stop = never,
) -> JobResult:
    """Land what the provider says of symbols, splits, dividends and closures. Needs no database.

    Raises:
        ConfigError: a symbol of `details` is outside the universe.
    """
    from condvest.jobs.fetch_meta import land_meta as job

    details = app.limited(",".join(details), name="details") if details else []
    client = app.source()
    return run_job(
        app,
        "fetch meta",
        {"details": details, "listings": listings},
        lambda: job(
            app.store,
            client,
            now=app.now(),
            details=details,
            listings=listings,
            resume=resume,
            universe=app.universe,
            stop=stop,
        ),
    )


def record(app: App, *, refused: Sequence[SessionRefusal] = (), stop: Stop = never) -> JobResult:
    """Acknowledge all that landed and is not acknowledged yet: ledger, watermarks and symbols. Needs no provider.

    Nothing is told to it but `refused`, sessions without an answer: they leave nothing in the lake, and count only where
    nothing landed.
    """
    return run_job(
        app,
        "record",
        {"refused": len(refused)},
        lambda: record_landed(
            app.store,
            app.state,
            calendar=app.calendar,
            now=app.now(),
            refused=refused,
            universe=app.universe,
            stop=stop,
            wait_seconds=app.fetch_wait_seconds(),
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far the lake is: the watermark, the last session that has closed, how many closed ones come after the watermark."""

    watermark: date | None
    last_closed: date
    sessions_behind: int
    due: list[date]
    states: dict[str, int]


def reach(app: App) -> Reach:
    """Say how far the ledger is. Needs the database."""
    calendar, now = app.calendar, app.now()
    rows = app.state.sessions()
    reached, last = watermark(rows, calendar), calendar.last_closed(now)
    first = calendar.next_session(reached) if reached is not None else rows[0].session_date if rows else last
    return Reach(
        watermark=reached,
        last_closed=last,
        sessions_behind=len(calendar.sessions(first, last)) if first <= last else 0,
        due=due(rows, calendar, now),
        states={state: sum(row.state == state for row in rows) for state in SESSION_STATES},
    )


def _needs_from(app: App) -> str:
    return (
        f"the lake at {app.store.url} is empty, so where to begin is not known; name the first session:"
        f' {{"from": "{EXAMPLE}"}}'
    )

"""Fetching, by itself or as the first part of the whole day: what is asked for is checked before anything is opened.

Jobs are imported where they are used: fetching must not load numpy, which only resampling needs.
"""

from __future__ import annotations

from datetime import date
from typing import Literal, TypeAlias

from condvest.app.dates import EXAMPLE, DateOptions, asked_sessions, check_no_gap
from condvest.app.runs import JobResult, run_job
from condvest.app.wiring import App
from condvest.domain.answers import SessionSource
from condvest.errors import ConfigError
from condvest.jobs.progress import Progress, silent

SourceName: TypeAlias = Literal["rest", "flat-files"]


def fetch_bars(
    app: App,
    *,
    dates: DateOptions = DateOptions(),  # noqa: B008 - frozen
    symbols: str | None = None,
    source: SourceName = "rest",
    accept_short: bool = False,
    progress: Progress = silent,
) -> JobResult:
    """Fetch the sessions that `dates` name, or else all that are due; with `symbols`, just those, by the range endpoint.

    Raises:
        ConfigError: dates that exclude each other, have not closed or would leave a gap; an empty lake without dates; a
            key that is missing or refused. Nothing is changed then.
    """
    if symbols is not None:
        return _fetch_symbols(app, dates, symbols, source, accept_short, progress)
    from condvest.jobs import fetch_bars as job

    client = _client(app, source)
    sessions = _sessions(app, dates)
    state = app.ready_state()
    return run_job(
        app,
        "fetch bars",
        _named(dates) | {"source": source, "accept_short": accept_short},
        lambda: job.fetch_bars(
            app.store,
            client,
            state,
            calendar=app.calendar,
            now=app.now(),
            sessions=sessions,
            universe=app.universe,
            accept_short=accept_short,
            progress=progress,
        ),
    )


def _sessions(app: App, dates: DateOptions) -> list[date] | None:
    """Return the sessions that are asked for; None: all that are due, which a lake without a ledger does not know."""
    asked = asked_sessions(dates, app.calendar, app.now())
    known = _known_range(app)
    if asked is None:
        if known is None:
            raise ConfigError(_needs_from(app))
        return None
    check_no_gap(asked, known[0] if known else None, app.calendar)
    return asked.sessions


def _fetch_symbols(
    app: App, dates: DateOptions, text: str, source: SourceName, accept_short: bool, progress: Progress
) -> JobResult:
    from condvest.jobs.fetch_symbols import fetch_symbols as job

    if source != "rest" or accept_short:
        option = "--accept-short" if source == "rest" else f"--source {source}"
        raise ConfigError(
            f"{option} does not go with --symbols: those come by the provider's range endpoint; leave one out"
        )
    symbols = app.limited(text)
    calendar, now = app.calendar, app.now()
    asked = asked_sessions(dates, calendar, now)
    client = app.source()
    known = (asked.first, asked.last) if asked else _known_range(app)
    if known is None:
        raise ConfigError(_needs_from(app))
    first, last = known
    state = app.ready_state()
    return run_job(
        app,
        "fetch bars",
        {"symbols": symbols, "first": first, "last": last},
        lambda: job(
            app.store,
            client,
            state,
            calendar=calendar,
            now=now,
            symbols=symbols,
            first=first,
            last=last,
            progress=progress,
        ),
    )


def fetch_meta(app: App, *, details: int = 0, progress: Progress = silent) -> JobResult:
    """Fetch tickers, splits and dividends, and the details of at most `details` tickers (one request each)."""
    from condvest.jobs.fetch_meta import fetch_meta as job

    client, state = app.source(), app.state
    return run_job(
        app,
        "fetch meta",
        {"details": details},
        lambda: job(app.store, client, state, now=app.now(), details=details, universe=app.universe, progress=progress),
    )


def run(
    app: App,
    *,
    source: SourceName = "rest",
    accept_short: bool = False,
    details: int = 0,
    retention_days: int = 30,
    progress: Progress = silent,
) -> JobResult:
    """Do the whole day; see `jobs.run_day`. ConfigError on an empty lake: where it begins is not known."""
    from condvest.jobs.run_day import run_day as job
    from condvest.jobs.vacuum import check_retention

    check_retention(retention_days)
    bars, meta, intervals = _client(app, source), app.source(), app.intervals
    if _known_range(app) is None:
        raise ConfigError(_needs_from(app))
    state = app.ready_state()
    return run_job(
        app,
        "run",
        {"source": source, "accept_short": accept_short, "details": details, "retention_days": retention_days},
        lambda: job(
            app.store,
            bars,
            meta,
            state,
            calendar=app.read_calendar,
            now=app.now(),
            intervals=intervals,
            universe=app.universe,
            accept_short=accept_short,
            details=details,
            retention_days=retention_days,
            progress=progress,
        ),
    )


def _client(app: App, source: SourceName) -> SessionSource:
    return app.flat_files() if source == "flat-files" else app.source()


def _known_range(app: App) -> tuple[date, date] | None:
    """Return the first and the last session of the ledger; None for a lake that does not know any."""
    if app.is_new():
        return None
    rows = app.ready_state().sessions()
    return (rows[0].session_date, rows[-1].session_date) if rows else None


def _needs_from(app: App) -> str:
    return (
        f"the lake at {app.store.url} is empty, so where to begin is not known; name the first session:"
        f" condvest fetch bars --from {EXAMPLE}"
    )


def _named(dates: DateOptions) -> dict[str, object]:
    given = {"date": dates.day, "first": dates.first, "last": dates.last}
    return {name: value for name, value in given.items() if value is not None}

"""One function a job on what is in the lake: checks what was asked, then runs it as a recorded run.

Jobs are imported where they are used: consolidating must not load numpy, which only resampling needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from condvest.app.dates import EXAMPLE, DateOptions, asked_sessions
from condvest.app.runs import JobResult, run_job
from condvest.app.wiring import App
from condvest.domain.calendar import Calendar
from condvest.domain.shard import WHOLE, Shard
from condvest.errors import ConfigError
from condvest.jobs.progress import Progress, silent
from condvest.jobs.stopping import Stop, never
from condvest.storage.closures import read_closures, record_closures


def consolidate(
    app: App,
    *,
    symbols: str | None = None,
    force_full: bool = False,
    retention_days: int = 30,
    skip_cleanup: bool = False,
    shard: Shard = WHOLE,
    stop: Stop = never,
    progress: Progress = silent,
) -> JobResult:
    """Merge `date=` files into `data.parquet`, then clean up behind it unless `skip_cleanup`."""
    from condvest.jobs.consolidate import consolidate as job
    from condvest.jobs.vacuum import check_retention

    check_retention(retention_days)
    chosen = _chosen(app, symbols)
    return run_job(
        app,
        "consolidate",
        {"symbols": chosen, "force_full": force_full, "retention_days": retention_days, "skip_cleanup": skip_cleanup},
        lambda: job(
            app.store,
            now=app.now(),
            symbols=chosen,
            shard=shard,
            universe=app.universe,
            calendar=app.calendar,
            force_full=force_full,
            retention_days=retention_days,
            skip_cleanup=skip_cleanup,
            stop=stop,
            progress=progress,
        ),
    )


def vacuum(
    app: App,
    *,
    symbols: str | None = None,
    retention_days: int = 30,
    dry_run: bool = False,
    force: bool = False,
    shard: Shard = WHOLE,
    progress: Progress = silent,
) -> JobResult:
    """Remove `date=` files past retention whose rows are in `data.parquet`; `dry_run` only says which."""
    from condvest.jobs.vacuum import check_retention
    from condvest.jobs.vacuum import vacuum as job

    check_retention(retention_days, force=force)
    chosen = _chosen(app, symbols)
    return run_job(
        app,
        "vacuum",
        {"symbols": chosen, "retention_days": retention_days, "dry_run": dry_run, "force": force},
        lambda: job(
            app.store,
            now=app.now(),
            symbols=chosen,
            shard=shard,
            retention_days=retention_days,
            dry_run=dry_run,
            force=force,
            progress=progress,
        ),
        reads_only=dry_run,
    )


def resample(
    app: App, *, intervals: Sequence[int] | None = None, force_full: bool = False, progress: Progress = silent
) -> JobResult:
    """Bring silver up to the consolidated bars; `intervals` None takes those of RESAMPLING_INTERVALS."""
    from condvest.jobs.resample import resample as job

    wanted = app.intervals if intervals is None else intervals
    app.require_lake()
    return run_job(
        app,
        "resample",
        {"intervals": wanted, "force_full": force_full},
        lambda: job(
            app.store,
            calendar=app.calendar,
            intervals=wanted,
            force_full=force_full,
            universe=app.universe,
            progress=progress,
        ),
    )


def verify(app: App, *, progress: Progress = silent) -> JobResult:
    """Read the whole lake and hold it against its rules; each broken one is `left`."""
    from condvest.jobs.verify import verify as job

    app.require_lake()
    state = app.ready_state()
    return run_job(
        app,
        "verify",
        {},
        lambda: job(app.store, state, calendar=app.calendar, now=app.now(), universe=app.universe, progress=progress),
        left=lambda report: [f"{found.rule}: {found.what}; {found.remedy}" for found in report.broken],
        reads_only=True,
    )


def repair(app: App, *, progress: Progress = silent) -> JobResult:
    """Verify, build again what follows from the rest of the lake, verify again; what is still broken is `left`."""
    from condvest.jobs.repair import repair as job

    app.require_lake()
    return run_job(
        app,
        "verify --repair",
        {},
        lambda: job(
            app.store, app.state, calendar=app.calendar, now=app.now(), universe=app.universe, progress=progress
        ),
    )


def replay(app: App, *, dates: DateOptions, symbols: str | None = None, progress: Progress = silent) -> JobResult:
    """Bring bronze of the sessions that `dates` name back from landing alone; with `symbols`, just those.

    Raises:
        ConfigError: dates that are none, exclude each other or have not closed; a symbol outside the universe.
    """
    from condvest.jobs.replay import replay as job

    chosen = _chosen(app, symbols)
    asked = asked_sessions(dates, app.calendar, app.now())
    if asked is None:
        raise ConfigError(f"no session is named; name the first and the last: --from {EXAMPLE} --to {EXAMPLE}")
    state = app.ready_state()
    return run_job(
        app,
        "replay",
        {"first": asked.first, "last": asked.last, "symbols": chosen},
        lambda: job(
            app.store,
            state,
            calendar=app.calendar,
            now=app.now(),
            sessions=asked.sessions,
            symbols=chosen,
            universe=app.universe,
            progress=progress,
        ),
    )


def closures(app: App, *, add: Sequence[date] = ()) -> list[date]:
    """Return the closures recorded in the lake, after adding some.

    ConfigError for a date that is no session anyway, and for one of which bars landed: silver could not place them any more.
    """
    app.require_lake()
    if add:
        from condvest.jobs.landed import traded

        known = read_closures(app.store)
        fresh, calendar = sorted(set(add).difference(known)), Calendar.shipped(known)
        for day in fresh:
            calendar.ordinal(day)
        for day in traded(app.store, fresh):
            raise ConfigError(
                f"{day}: what landed of that day is not empty, so the exchange was open; record a day without trading"
            )
        record_closures(app.store, add)
    return read_closures(app.store)


def upgrade_state(app: App) -> str:
    """Bring the state database's tables to this version and return its address, without the password. Idempotent."""
    if app.settings.rds_host is None:
        app.require_lake()
    with app.open_state(migrate=True) as state:
        return state.url_shown


def _chosen(app: App, text: str | None) -> list[str] | None:
    """Return the symbols of an option, None when it is not given; makes sure that there is a lake."""
    chosen = None if text is None else app.limited(text)
    app.require_lake()
    return chosen

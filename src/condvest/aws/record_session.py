"""Lambda: plan a fetch by the ledger, and record in ledger and watermarks what landed. Reaches the database, and no provider."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from condvest.app import zones
from condvest.app.commands import upgrade_state
from condvest.app.dates import asked_sessions
from condvest.app.runs import JobResult, plain
from condvest.aws.events import RecordEvent, Request, plan_as_json
from condvest.aws.runtime import Answer, Context, Invocation, handle, run_here
from condvest.aws.secrets import with_database_password
from condvest.domain.calendar import new_york_date
from condvest.errors import ConfigError, WorkLeft

NAME: Final = "record-session"


def lambda_handler(event: dict[str, Any], context: Context) -> Answer:
    """Do what `mode` says. Idempotent.

    `plan` answers with the events of the steps that follow: `bars`, `meta`, `consolidate`, whether to `run` at all and `why`
    not, and `next`, the request for sessions that did not fit in; it records first. `record` brings ledger, watermarks and
    symbols up to what landed, which it finds in the lake. Both end early where the time runs out: `remaining` says how much
    is to do, and the same call goes on (`again`). `upgrade` migrates the database's tables. `status` says how far the lake is.

    Raises:
        ConfigError: the event or a setting is wrong, or the database's tables are not at this version. WorkLeft: what landed
            is not whole in bronze; the next fetch completes it. TransientError: the database cannot be reached.
    """
    return handle(NAME, RecordEvent, event, context, _act, secrets=with_database_password, has_database=True)


def _act(run: Invocation, asked: RecordEvent) -> Answer:
    if run.settings.rds_host is None:
        raise ConfigError("RDS_HOST is not set, nor a host in the secret of RDS_SECRET_ARN; name the state database")
    if asked.mode == "upgrade":
        return {"job": "upgrade", "state": upgrade_state(run.app)}
    if asked.mode == "plan":
        return _plan(run, asked.request)
    if asked.mode == "record":
        return _record(run, asked)
    return {"job": "status", **plain(zones.reach(run.app))}


def _plan(run: Invocation, asked: Request) -> Answer:
    _check(run, asked)
    today = new_york_date(run.app.now())
    if asked.schedule == "close" and not run.app.calendar.is_session(today):
        return _nothing(f"{today} is no session")
    recorded = zones.record(run.app, stop=run.stop)
    run.count(recorded)
    if recorded.remaining:
        _check_progress(recorded)
        again = asked.model_dump(by_alias=True, exclude_unset=True)
        return {
            **_nothing("the time was over before all that landed was recorded"),
            "remaining": recorded.remaining,
            "again": again,
        }
    details = run.app.state.stale_details(asked.details, run.app.now()) if asked.details else []
    bars, following = _bars(run, asked)
    # What cannot be recorded is told by the step that records, so that somebody hears of it.
    if asked.schedule == "final" and bars.get("plan", {}).get("sessions") == [] and not recorded.left:
        return _nothing("nothing is due")
    return {
        **_nothing(""),
        "run": True,
        "bars": {**bars, "orchestrated": True},
        "meta": {"details": details, "orchestrated": True},
        "consolidate": asked.model_dump(include={"mode", "retention_days", "skip_cleanup"}),
        "next": following,
        "has_next": bool(following),
    }


def _check(run: Invocation, asked: Request) -> None:
    """Refuse what a later step would refuse, after hours of fetching perhaps."""
    from condvest.jobs.vacuum import check_retention

    check_retention(asked.retention_days)
    asked_sessions(asked.dates, run.app.calendar, run.app.now())


def _bars(run: Invocation, asked: Request) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fetcher's event, and the request for what comes after it."""
    if asked.symbols:
        symbols = run.app.limited(",".join(asked.symbols), name="symbols")
        return {"symbols": symbols, **(asked.dates_as_json() or _whole_lake(run))}, {}
    plan = zones.plan(run.app, asked.dates)
    following: dict[str, Any] = {}
    if plan.next_from is not None:
        named = {"from": plan.next_from.isoformat(), "to": asked.last} if asked.first is not None else {}
        kept = asked.model_dump(include={"accept_short", "mode", "retention_days", "skip_cleanup"})
        following = {**kept, **{name: value for name, value in named.items() if value is not None}}
    return {"plan": plan_as_json(plan), "accept_short": asked.accept_short}, following


def _whole_lake(run: Invocation) -> dict[str, str]:
    rows = run.app.state.sessions()
    if not rows:
        raise ConfigError("the lake is empty, so symbols need dates; name from and to")
    return {"from": rows[0].session_date.isoformat(), "to": rows[-1].session_date.isoformat()}


def _nothing(why: str) -> Answer:
    return {
        "job": "plan",
        "run": False,
        "why": why,
        "remaining": 0,
        "again": {},
        "bars": {},
        "meta": {},
        "consolidate": {},
        "next": {},
        "has_next": False,
    }


def _record(run: Invocation, asked: RecordEvent) -> Answer:
    result = zones.record(run.app, refused=asked.refusals(), stop=run.stop)
    reach = zones.reach(run.app)
    run.measures["WatermarkLagSessions"] = reach.sessions_behind
    told = {"watermark": plain(reach.watermark), "sessions_behind": reach.sessions_behind}
    if not result.remaining:
        return run.told(result, **told)
    _check_progress(result)
    # The next call meets what is not whole in bronze once more, and names it.
    again = asked.model_dump(exclude_unset=True) | {"mode": "record"}
    return run.told(dataclasses.replace(result, left=[]), again=again, **told)


def _check_progress(result: JobResult) -> None:
    """Refuse to go on where another call would only repeat this one."""
    counts = result.counts
    if not (counts["changed"] or counts["symbols_moved"] or counts["listings_recorded"]):
        first = f"; first: {result.left[0]}" if result.left else ""
        raise WorkLeft(
            f"record: {result.remaining} remain, and nothing could be recorded in the function's time{first}"
        )


if __name__ == "__main__":
    run_here(lambda_handler)

"""Lambda: plan a fetch by the ledger, and record in ledger and watermarks what landed. Reaches the database, and no provider."""

from __future__ import annotations

from typing import Any, Final

from condvest.app import zones
from condvest.app.commands import upgrade_state
from condvest.app.dates import DateOptions
from condvest.app.runs import plain
from condvest.aws.events import RecordEvent, Request, plan_as_json
from condvest.aws.runtime import Answer, Context, Invocation, handle, meter, run_here, told
from condvest.aws.secrets import with_database_password
from condvest.domain.calendar import new_york_date
from condvest.errors import ConfigError

NAME: Final = "record-session"


def lambda_handler(event: dict[str, Any], context: Context) -> Answer:
    """Do what `mode` says. Idempotent.

    `plan` answers with the events of the steps that follow: `bars`, `meta`, `consolidate`, whether to `run` at all and `why`
    not, and `next`, the request for sessions that did not fit in. `record` brings ledger and watermarks up to what landed.
    `upgrade` migrates the database's tables. `status` says how far the lake is.

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
    today = new_york_date(run.app.now())
    if asked.schedule == "close" and not run.app.calendar.is_session(today):
        return _nothing(f"{today} is no session")
    details = run.app.state.stale_details(asked.details, run.app.now()) if asked.details else []
    bars, following = _bars(run, asked)
    if asked.schedule == "final" and bars.get("plan", {}).get("sessions") == []:
        return _nothing("nothing is due")
    consolidate = asked.model_dump(include={"mode", "retention_days", "skip_cleanup"})
    return {
        "job": "plan",
        "run": True,
        "why": "",
        "bars": {**bars, "accept_short": asked.accept_short, "orchestrated": True},
        "meta": {"details": details, "orchestrated": True},
        "consolidate": consolidate,
        "next": following,
        "has_next": bool(following),
    }


def _bars(run: Invocation, asked: Request) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fetcher's event, and the request for what comes after it."""
    if asked.symbols:
        dates = asked.model_dump(include={"day", "first", "last"}, by_alias=True, exclude_none=True)
        return {"symbols": asked.symbols, **(dates or _whole_lake(run))}, {}
    plan = zones.plan(run.app, asked.dates)
    following: dict[str, Any] = {}
    if plan.next_from is not None:
        named = {"from": plan.next_from.isoformat(), "to": asked.last} if asked.first is not None else {}
        kept = asked.model_dump(include={"accept_short", "mode", "retention_days", "skip_cleanup"})
        following = {**kept, **{name: value for name, value in named.items() if value is not None}}
    return {"plan": plan_as_json(plan)}, following


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
        "bars": {},
        "meta": {},
        "consolidate": {},
        "next": {},
        "has_next": False,
    }


def _record(run: Invocation, asked: RecordEvent) -> Answer:
    bars, meta = asked.bars.landed, asked.meta.landed
    landed = zones.Landed(
        refused=bars.refusals(),
        listings=meta.listings,
        listed_at=meta.listed_at,
        symbols=bars.symbols,
        dates=bars.dates if bars.symbols else DateOptions(),
    )
    result = zones.record(run.app, landed, stop=run.stop)
    reach = zones.reach(run.app)
    meter(NAME, {"WatermarkLagSessions": reach.sessions_behind})
    return told(NAME, result, watermark=plain(reach.watermark), sessions_behind=reach.sessions_behind)


if __name__ == "__main__":
    run_here(lambda_handler)

"""Lambda: fetch daily bars from the provider into landing and bronze. Reaches no database."""

from __future__ import annotations

from typing import Any, Final

from condvest.app import zones
from condvest.app.zones import FetchPlan
from condvest.aws.events import FetchEvent, plan_as_json, refused_as_json
from condvest.aws.next_event import tell_next
from condvest.aws.runtime import Answer, Context, Invocation, handle, run_here, told
from condvest.aws.secrets import with_provider_key

NAME: Final = "daily-ohlcv-fetcher"


def lambda_handler(event: dict[str, Any], context: Context) -> Answer:
    """Fetch what the event names: `date`, `from` and `to`, `symbols`, a `plan`, or (`{}`) all sessions that are due.

    Idempotent: what landed is not asked for again, and the same values write nothing. The answer has the counts, `landed`
    for `record_session`, and where the time ran out `remaining` (how much) with `again`, the event to go on with.

    Raises:
        ConfigError: the event, a setting or the key is wrong. WorkLeft: sessions got no answer, or a short one; it names
            them, and the next run asks for just those. TransientError: the store or the provider cannot be reached.
    """
    return handle(NAME, FetchEvent, event, context, _fetch, secrets=with_provider_key)


def _fetch(run: Invocation, asked: FetchEvent) -> Answer:
    if asked.symbols:
        return _fetch_symbols(run, asked)
    plan = asked.planned() or zones.plan_from_landing(run.app, asked.dates)
    fetched = zones.fetch_planned(run.app, plan, accept_short=asked.accept_short, stop=run.stop)
    counts = fetched.result.counts
    came = sorted([*counts["provisional"], *counts["final"]])
    _tell(run, asked, came, counts["rows"])
    return told(
        NAME,
        fetched.result,
        landed={"refused": refused_as_json(fetched.refused)},
        again=_again(asked, fetched.again) if fetched.again else {},
    )


def _fetch_symbols(run: Invocation, asked: FetchEvent) -> Answer:
    result = zones.fetch_ranges(run.app, asked.symbols, asked.dates, stop=run.stop)
    _tell(run, asked, [], result.counts["rows"])
    remaining = result.counts["remaining_symbols"]
    dates = asked.model_dump(include={"day", "first", "last"}, by_alias=True, exclude_none=True)
    event = {**dates, "symbols": remaining, "orchestrated": asked.orchestrated}
    return told(NAME, result, landed={"symbols": asked.symbols, **dates}, again=event if remaining else {})


def _again(asked: FetchEvent, plan: FetchPlan) -> dict[str, Any]:
    return {"plan": plan_as_json(plan), "accept_short": asked.accept_short, "orchestrated": asked.orchestrated}


def _tell(run: Invocation, asked: FetchEvent, came: list[str], rows: int) -> None:
    if came or rows:
        first, last = (came[0], came[-1]) if came else (asked.day or asked.first, asked.day or asked.last)
        tell_next(
            run.settings,
            {
                "run_id": run.run_id,
                "sessions": len(came),
                "rows": rows,
                "first_session": first,
                "last_session": last,
                "orchestrated": asked.orchestrated,
            },
        )


if __name__ == "__main__":
    run_here(lambda_handler)

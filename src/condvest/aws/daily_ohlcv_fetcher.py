"""Lambda: fetch daily bars from the provider into landing and bronze. Reaches no database."""

from __future__ import annotations

from typing import Any, Final

from condvest.app import zones
from condvest.app.runs import JobResult
from condvest.aws.events import FetchEvent, plan_as_json, refused_as_json
from condvest.aws.next_event import tell_next
from condvest.aws.runtime import Answer, Context, Invocation, handle, run_here
from condvest.aws.secrets import with_provider_key
from condvest.errors import TransientError

NAME: Final = "daily-ohlcv-fetcher"


def lambda_handler(event: dict[str, Any], context: Context) -> Answer:
    """Fetch what the event names: `date`, `from` and `to`, `symbols`, a `plan`, or (`{}`) all sessions that are due.

    Idempotent: what landed is not asked for again, and the same values write nothing. The answer has the counts, `refused`
    (sessions without an answer, which leave nothing in the lake), and where the time ran out `remaining` (how much) with
    `again`, the event to go on with.

    Raises:
        ConfigError: the event, a setting or the key is wrong. WorkLeft: sessions got no answer, or a short one; it names
            them, and the next run asks for just those. TransientError: the store or the provider cannot be reached, or
            nothing came in the function's time.
    """
    return handle(NAME, FetchEvent, event, context, _fetch, secrets=with_provider_key)


def _fetch(run: Invocation, asked: FetchEvent) -> Answer:
    if asked.symbols:
        return _fetch_symbols(run, asked)
    plan = asked.planned() or zones.plan_from_landing(run.app, asked.dates)
    fetched = zones.fetch_planned(run.app, plan, accept_short=asked.accept_short, stop=run.stop)
    counts = fetched.result.counts
    _tell(run, asked, sorted([*counts["provisional"], *counts["final"]]), counts["rows"])
    again: dict[str, Any] = {}
    if fetched.again is not None:
        if len(fetched.again.sessions) == len(plan.sessions) and not counts["landed"]:
            raise _nothing_came(run, fetched.result)
        again = {
            "plan": plan_as_json(fetched.again),
            "accept_short": asked.accept_short,
            "orchestrated": asked.orchestrated,
        }
    return run.told(fetched.result, again=again, left=asked.left, refused=refused_as_json(fetched.refused))


def _fetch_symbols(run: Invocation, asked: FetchEvent) -> Answer:
    result = zones.fetch_ranges(run.app, asked.symbols, asked.dates, stop=run.stop)
    _tell(run, asked, [], result.counts["rows"])
    remaining = result.counts["remaining_symbols"]
    if len(remaining) == len(asked.symbols):
        raise _nothing_came(run, result)
    again = {**asked.dates_as_json(), "symbols": remaining, "orchestrated": asked.orchestrated} if remaining else {}
    return run.told(result, again=again, left=asked.left, refused=[])


def _nothing_came(run: Invocation, result: JobResult) -> TransientError:
    """Return the error of a call that another one like it would only repeat."""
    run.count(result)
    return TransientError("fetch bars: not one answer came in the function's time; the provider may be down")


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

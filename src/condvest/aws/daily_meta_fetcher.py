"""Lambda: fetch symbols, splits, dividends and closures from the provider into the lake. Reaches no database."""

from __future__ import annotations

from typing import Any, Final

from condvest.app import zones
from condvest.aws.events import MetaEvent
from condvest.aws.runtime import Answer, Context, Invocation, handle, run_here
from condvest.aws.secrets import with_provider_key
from condvest.errors import TransientError

NAME: Final = "daily-meta-fetcher"


def lambda_handler(event: dict[str, Any], context: Context) -> Answer:
    """Fetch the listings that the event names (without: all), and the details of the symbols in `details`. Idempotent.

    The answer has the counts, and where the time ran out `remaining` with `again`, the event to go on with: no page is asked
    for twice.

    Raises:
        ConfigError: the event, a setting or the key is wrong. WorkLeft: a row cannot be read or a listing is short.
            TransientError: the store or the provider cannot be reached, or nothing came in the function's time.
    """
    return handle(NAME, MetaEvent, event, context, _fetch, secrets=with_provider_key)


def _fetch(run: Invocation, asked: MetaEvent) -> Answer:
    result = zones.land_meta(
        run.app, details=asked.details, listings=asked.listings, resume=asked.resume, stop=run.stop
    )
    counts = result.counts
    if not result.remaining:
        return run.told(result, left=asked.left)
    if not counts["pages"] and not counts["details"]:
        run.count(result)
        raise TransientError("fetch meta: not one page came in the function's time; the provider may be down")
    again = {
        "listings": counts["remaining_listings"],
        "details": counts["remaining"],
        "orchestrated": asked.orchestrated,
    }
    if counts["unfinished_since"] is not None:
        again["resume"] = counts["unfinished_since"]
    return run.told(result, again=again, left=asked.left)


if __name__ == "__main__":
    run_here(lambda_handler)

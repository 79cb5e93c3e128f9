"""Lambda: fetch symbols, splits, dividends and closures from the provider into the lake. Reaches no database."""

from __future__ import annotations

from typing import Any, Final

from condvest.app import zones
from condvest.aws.events import MetaEvent
from condvest.aws.runtime import Answer, Context, Invocation, handle, run_here, told
from condvest.aws.secrets import with_provider_key

NAME: Final = "daily-meta-fetcher"


def lambda_handler(event: dict[str, Any], context: Context) -> Answer:
    """Fetch the listings, and the details of the symbols that the event names in `details`, one request each. Idempotent.

    The answer has the counts, `landed` for `record_session`, and where the time ran out `remaining` with `again`.

    Raises:
        ConfigError: the event, a setting or the key is wrong. WorkLeft: a row cannot be read or a listing is short.
            TransientError: the store or the provider cannot be reached.
    """
    return handle(NAME, MetaEvent, event, context, _fetch, secrets=with_provider_key)


def _fetch(run: Invocation, asked: MetaEvent) -> Answer:
    listed_at = run.app.now()
    result = zones.land_meta(run.app, details=asked.details, listings=asked.listings, stop=run.stop)
    remaining = result.counts["remaining"]
    again = {"listings": False, "details": remaining, "orchestrated": asked.orchestrated} if remaining else {}
    landed = {"listings": result.counts["landed"], "listed_at": listed_at.isoformat()}
    return told(NAME, result, landed=landed, again=again)


if __name__ == "__main__":
    run_here(lambda_handler)

"""Lambda: merge `date=` files into each symbol's `data.parquet`, then clean up behind it. Reaches the lake alone."""

from __future__ import annotations

from typing import Any, Final

from condvest.app.commands import consolidate
from condvest.aws.events import ConsolidateEvent
from condvest.aws.runtime import Answer, Context, Invocation, handle, run_here, told
from condvest.errors import ConfigError

NAME: Final = "consolidate-bronze-daily"


def lambda_handler(event: dict[str, Any], context: Context) -> Answer:
    """Consolidate as the event says: `mode`, `symbols` (empty: all), `retention_days`, `skip_cleanup`. Idempotent.

    The answer has the counts, and where the time ran out `remaining` (how many symbols) with `again`, the event to go on with.

    Raises:
        ConfigError: the event or a setting is wrong, or not one symbol fits into the function's time. WorkLeft: files cannot
            be merged; it names them. CommitConflict: too many other writers were first.
    """
    return handle(NAME, ConsolidateEvent, event, context, _consolidate)


def _consolidate(run: Invocation, asked: ConsolidateEvent) -> Answer:
    result = consolidate(
        run.app,
        symbols=",".join(asked.symbols) if asked.symbols else None,
        force_full=asked.mode == "full",
        retention_days=asked.retention_days,
        skip_cleanup=asked.skip_cleanup,
        stop=run.stop,
    )
    remaining = result.counts["remaining"]
    if remaining and not result.counts["symbols_read"]:
        raise ConfigError(
            f"{len(remaining)} symbols remain and the time ran out before the first: this does not fit into the function's"
            " time; run it on Batch: python -m condvest.aws.batch consolidate, with --force-full for mode full"
        )
    again = asked.model_dump()
    if asked.mode == "full":
        # What is left to do does not show in the lake, as it does after an incremental run.
        again["symbols"] = remaining
    return told(NAME, result, again=again if remaining else {})


if __name__ == "__main__":
    run_here(lambda_handler)

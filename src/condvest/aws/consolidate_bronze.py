"""Lambda: merge `date=` files into each symbol's `data.parquet`, then clean up behind it. Reaches the lake alone."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from condvest.app.commands import consolidate
from condvest.aws.events import ConsolidateEvent
from condvest.aws.runtime import Answer, Context, Invocation, handle, run_here
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
    remaining, read = result.counts["remaining"], result.counts["symbols_read"]
    if result.counts["landing_unread"] or (remaining and not read):
        run.count(result)
        raise ConfigError(
            f"{len(remaining)} symbols remain and the time ran out before the first: this does not fit into the function's"
            " time; run it on Batch: python -m condvest.aws.batch consolidate, with --force-full for mode full"
        )
    if not remaining:
        return run.told(result, left=asked.left)
    again = asked.model_dump(exclude_none=True)
    if asked.mode == "full":
        # What is left to do does not show in the lake, as it does after an incremental run.
        return run.told(result, again=again | {"symbols": remaining}, left=asked.left)
    if len(result.left) - result.counts["symbols_unknown"] >= read:
        # Another call would begin with these again; names that the lake has not cost no time.
        return run.told(result, left=asked.left)
    # The next call meets what this one could not merge once more, and names it.
    return run.told(dataclasses.replace(result, left=[]), again=again)


if __name__ == "__main__":
    run_here(lambda_handler)

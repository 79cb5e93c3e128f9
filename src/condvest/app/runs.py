"""A job as a run: recorded with what it was asked, what came of it and what it cost."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Protocol

from condvest.app.run_log import RunLog, Unrecorded
from condvest.app.wiring import App
from condvest.domain.records import RunOutcome, Traffic
from condvest.errors import CondvestError, NotWritable
from condvest.log import warn

#: A longer list stands in the record of runs as its length: a backfill names thousands of sessions.
_RECORDED_ITEMS: Final = 20
#: What a report calls the work that it was asked to stop before.
_UNDONE: Final = ("remaining", "remaining_symbols", "remaining_listings")


class Report(Protocol):
    """What every job's report tells; most have `left` besides, and all are dataclasses."""

    @property
    def nothing_new(self) -> bool:
        """Whether the lake is as it was."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """What came of a job, in plain values that JSON knows. `left`: what the next run has to do, one line each.

    `remaining`: how much it did not begin, as it was asked to stop; `counts` names it. `provider_bytes`: what came from the
    provider, as transferred. `seconds`: the job with its records, without the start of the process.
    """

    job: str
    outcome: RunOutcome
    counts: dict[str, Any]
    left: list[str]
    remaining: int = 0
    traffic: Traffic
    provider_bytes: int = 0
    seconds: float

    @property
    def exit_code(self) -> int:
        """0: all is done. 1: something is left or broken."""
        return 1 if self.left else 0

    def as_json(self) -> dict[str, Any]:
        """Return all of it as one JSON object."""
        return dataclasses.asdict(self)


def run_job(
    app: App,
    job: str,
    arguments: Mapping[str, object],
    work: Callable[[], Report],
    *,
    left: Callable[[Any], Sequence[str]] = lambda report: getattr(report, "left", ()),
    reads_only: bool = False,
) -> JobResult:
    """Do `work` as a recorded run and return what came of it; what it raises is recorded and goes on.

    The outcome is `partial` when something is left, `nothing_new` when the report says so and nothing was written or
    deleted, else `done`. `arguments` hold no secret. Its traffic is all that `app` asked since its last run. One that
    `reads_only` is done, and not recorded, where nothing may be written: who may only read a lake may look at it.
    """
    told = {name: plain(value) for name, value in arguments.items()}
    bytes_before = app.provider_bytes
    runs, run, started = _begin(app, job, told, reads_only)
    try:
        report = work()
    except BaseException as error:
        # A message of ours holds no secret; another's might.
        reason = str(error) if isinstance(error, CondvestError) else type(error).__name__
        with suppress(CondvestError):  # the first error is the one to tell
            runs.finish_run(run, "failed", counts={}, now=app.now(), traffic=app.take_traffic(), error=reason)
        raise
    cost, remaining, counts = app.take_traffic(), list(left(report)), fields(report)
    is_new = not report.nothing_new or cost.puts or cost.deletes
    undone = sum(len(counts.get(name, ())) for name in _UNDONE)
    outcome: RunOutcome = "partial" if remaining or undone else "done" if is_new else "nothing_new"
    rest = f"{len(remaining)} left, first: {remaining[0]}" if remaining else None
    recorded = {name: shortened(value) for name, value in counts.items()}
    runs.finish_run(run, outcome, counts=recorded, now=app.now(), traffic=cost, error=rest)
    seconds = round(time.perf_counter() - started, 3)
    return JobResult(
        job=job,
        outcome=outcome,
        counts=counts,
        left=remaining,
        remaining=undone,
        traffic=cost,
        provider_bytes=app.provider_bytes - bytes_before,
        seconds=seconds,
    )


def _begin(app: App, job: str, told: Mapping[str, object], reads_only: bool) -> tuple[RunLog, int, float]:
    """Record that a run begins; return where it is recorded, its number, and the clock's time once the state is open."""
    try:
        runs = app.runs  # opening the state is the process's start, not the job's work
        started = time.perf_counter()
        return runs, runs.start_run(job, told, app.now()), started
    except NotWritable as error:
        if not reads_only:
            raise
        warn("run_not_recorded", job=job, why=str(error))
        return Unrecorded(), 0, time.perf_counter()


def fields(record: object) -> dict[str, Any]:
    """Return the fields of a dataclass as plain values, without `left`, which stands beside them."""
    if not dataclasses.is_dataclass(record):
        return {}
    names = [field.name for field in dataclasses.fields(record) if field.name != "left"]
    return {name: plain(getattr(record, name)) for name in names}


def plain(value: object) -> Any:
    """Return a value as JSON knows it: dates and instants as ISO text, records and mappings as objects, sets sorted."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, date):
        return value.isoformat()
    if dataclasses.is_dataclass(value):
        return fields(value)
    if isinstance(value, Mapping):
        return {str(plain(name)): plain(item) for name, item in value.items()}
    if isinstance(value, Collection):
        items = [plain(item) for item in value]
        return sorted(items) if isinstance(value, set | frozenset) else items
    return str(value)


def shortened(value: Any) -> Any:
    """Return a plain value with longer lists and objects than a record should hold as their lengths."""
    if isinstance(value, dict):
        return {name: shortened(item) for name, item in value.items()} if len(value) <= _RECORDED_ITEMS else len(value)
    return len(value) if isinstance(value, list) and len(value) > _RECORDED_ITEMS else value

"""One invocation: an event read, settings with their secrets, the time that is left, logs and metrics, an answer or an error."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Protocol, TextIO, TypeVar

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers
from aws_lambda_powertools.metrics import MetricUnit

from condvest import process
from condvest.app import App
from condvest.app.runs import JobResult, shortened
from condvest.aws.events import Event, Left, read_event
from condvest.config import Settings, load_settings
from condvest.domain.records import Traffic
from condvest.errors import CondvestError, ConfigError, WorkLeft
from condvest.jobs.stopping import Stop

Model = TypeVar("Model", bound=Event)
Answer = dict[str, Any]

#: The share of a function's time that is kept for ending cleanly, and its bounds.
_RESERVE: Final = 0.2
_LEAST_RESERVE_MS: Final = 60_000
_METRICS: Final = "condvest"
_COUNTED: Final = ("Sessions", "Rows", "Quarantined", "Restated", "Requests", "Bytes", "Remaining")
#: Which fields of a job's report make up which metric.
_REPORTED: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "fetch bars": {
        "Sessions": ("provisional", "final"),
        "Rows": ("rows",),
        "Quarantined": ("quarantined",),
        "Restated": ("restated",),
    },
    "fetch meta": {"Rows": ("symbols", "splits", "dividends", "details")},
    "record": {
        "Sessions": ("provisional", "final"),
        "Rows": ("rows",),
        "Quarantined": ("quarantined",),
        "Restated": ("restated",),
    },
    "consolidate": {
        "Sessions": ("sessions",),
        "Rows": ("sessions_added", "sessions_changed"),
        "Quarantined": ("files_set_aside",),
        "Restated": ("sessions_changed",),
    },
}


class Context(Protocol):
    """What a handler needs of Lambda's context."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        """Return how much time is left before Lambda ends the process."""
        ...


@dataclass(frozen=True, slots=True)
class Invocation:
    """One lake, and when to stop. `run_id` stands in every line of the log; `measures` become metrics at the end."""

    app: App
    settings: Settings
    stop: Stop
    run_id: str
    measures: dict[str, float]

    def told(
        self, result: JobResult, *, again: Mapping[str, Any] | None = None, left: Left | None = None, **more: Any
    ) -> Answer:
        """Count what came of a job, and return the answer: with `again`, the event to go on with, where something remains.

        `left`: what earlier calls of the run left. It travels on in `again`, with what this one left; WorkLeft: the run is at
        its end, and something is left of it.
        """
        self.count(result)
        together = _together(left, result.left)
        if together is not None and not again:
            raise WorkLeft(f"{result.job}: {together.count} left, first: {together.first}")
        carried = {"left": together.model_dump()} if together is not None else {}
        return {**_answer(result), "again": {**again, **carried} if again else {}, **more}

    def count(self, result: JobResult) -> None:
        """Add what a job did to the metrics of this call."""
        for name, value in _measures(result).items():
            self.measures[name] = self.measures.get(name, 0) + value


def handle(
    service: str,
    model: type[Model],
    event: object,
    context: Context,
    work: Callable[[Invocation, Model], Answer],
    *,
    secrets: Callable[[Settings], Settings] = lambda settings: settings,
    has_database: bool = False,
) -> Answer:
    """Do one invocation of a function and return its answer; what goes wrong is logged and raised, by its own class.

    A bug is raised as it is: Lambda logs it with its traceback, under the same id.
    `service` is the function's name. `secrets` fills in what this function alone may read. Metrics are written once, whether
    it ends well or not.
    """
    process.tune()
    logger, started = start_log(service, context.aws_request_id), time.perf_counter()
    stop, seconds = _stop(context)
    deadline, measures = time.monotonic() + seconds, dict.fromkeys(_COUNTED, 0.0)
    try:
        asked = read_event(model, event)
        settings = secrets(_settings())
        with App(settings, records_runs=has_database, deadline=deadline) as app:
            try:
                answer = work(Invocation(app, settings, stop, context.aws_request_id, measures), asked)
            finally:
                measures |= _traffic(app.traffic, app.provider_bytes)
                tell_asked(logger, app.traffic)
    except CondvestError as error:
        logger.error("failed", extra={"kind": type(error).__name__, "error": str(error)})
        raise
    finally:
        meter(service, measures | {"Seconds": round(time.perf_counter() - started, 3)})
    logger.info("answered", extra={"answer": {name: shortened(_brief(value)) for name, value in answer.items()}})
    return answer


def _brief(value: Any) -> Any:
    """Return a part of an answer as the log holds it: an event that travels on can be as long as a plan."""
    if not isinstance(value, dict):
        return value
    return {name: shortened(item if not isinstance(item, dict) else sorted(item)) for name, item in value.items()}


def _together(before: Left | None, left: list[str]) -> Left | None:
    """Return what is left after some calls of one run."""
    if before is None:
        return Left(count=len(left), first=left[0]) if left else None
    return Left(count=before.count + len(left), first=before.first)


def start_log(service: str, run_id: str) -> Logger:
    """Send the events of condvest to stdout as JSON lines that carry the run's id, and return the logger."""
    logger = _logger(service)
    logger.append_keys(run_id=run_id)
    copy_config_to_registered_loggers(logger, include={"condvest"})
    logging.getLogger("condvest").propagate = False
    return logger


def tell_asked(logger: Logger, traffic: Traffic) -> None:
    """Log by kind what a call asked of provider and store, one line a call, however it ends.

    A zone without a database records no run, and its metrics have the sum alone, while S3 takes a price for each kind.
    """
    logger.info("asked", extra={"asked": dataclasses.asdict(traffic)})


@cache
def _logger(service: str) -> Logger:
    """Return the one logger of a service: a process of Lambda serves many invocations."""
    level = os.environ.get("POWERTOOLS_LOG_LEVEL", "INFO")
    return Logger(service=service, level=level, utc=True, logger_handler=_Stdout())


def told(service: str, result: JobResult) -> Answer:
    """Log and meter what came of a job, and return the answer. WorkLeft where it could not do all it was asked for."""
    answer = _answer(result)
    seconds = {"Seconds": result.seconds}
    meter(
        service,
        dict.fromkeys(_COUNTED, 0.0) | _measures(result) | _traffic(result.traffic, result.provider_bytes) | seconds,
    )
    _logger(service).info("answered", extra={"answer": answer})
    if result.left:
        raise WorkLeft(f"{result.job}: {len(result.left)} left, first: {result.left[0]}")
    return answer


def _answer(result: JobResult) -> Answer:
    return {
        "job": result.job,
        "outcome": result.outcome,
        "counts": {name: shortened(value) for name, value in result.counts.items()},
        "seconds": result.seconds,
        "requests": result.traffic.requests,
        "remaining": result.remaining,
    }


def meter(service: str, measures: dict[str, float]) -> None:
    """Write metrics as one line of CloudWatch's embedded format, in namespace `condvest` by service."""
    metrics = Metrics(namespace=os.environ.get("POWERTOOLS_METRICS_NAMESPACE", _METRICS), service=service)
    for name, value in measures.items():
        metrics.add_metric(name, MetricUnit.Seconds if name == "Seconds" else _unit(name), value)
    metrics.flush_metrics()


def _unit(name: str) -> MetricUnit:
    return MetricUnit.Bytes if name == "Bytes" else MetricUnit.Count


def _measures(result: JobResult) -> dict[str, float]:
    """Return what a job's report counts, by the names that all services share (docs/aws.md says what each means)."""
    counts = result.counts
    names = _REPORTED.get(result.job, {})
    return {name: sum(_size(counts.get(field)) for field in fields) for name, fields in names.items()} | {
        "Remaining": result.remaining
    }


def _size(value: Any) -> float:
    return len(value) if isinstance(value, list | dict) else value or 0


def _traffic(traffic: Traffic, provider_bytes: int) -> dict[str, float]:
    return {
        "Requests": traffic.requests + traffic.gets + traffic.puts + traffic.deletes + traffic.lists,
        "Bytes": traffic.bytes_in + traffic.bytes_out + provider_bytes,
    }


def _settings() -> Settings:
    settings = load_settings()
    if "AWS_LAMBDA_FUNCTION_NAME" in os.environ and not settings.lake.startswith("s3://"):
        raise ConfigError("S3_BUCKET is not set: a function's own disk does not last; name the lake's bucket")
    return settings


def _stop(context: Context) -> tuple[Stop, float]:
    """Return what says when so little time is left that no other piece of work should begin, and in how many seconds that is."""
    total = context.get_remaining_time_in_millis()
    reserve = min(max(total * _RESERVE, _LEAST_RESERVE_MS), total / 2)
    return lambda: context.get_remaining_time_in_millis() < reserve, (total - reserve) / 1000


class _Stdout(logging.StreamHandler[TextIO]):
    """Writes to what is stdout when a line comes, not to what it was when the logger was made."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stdout
        super().emit(record)


class _Here:
    """A context for a handler that runs on this machine: there is time enough."""

    aws_request_id: str

    def __init__(self) -> None:
        self.aws_request_id = f"here-{uuid.uuid4()}"
        self._end = time.monotonic() + 24 * 3600

    def get_remaining_time_in_millis(self) -> int:
        return int((self._end - time.monotonic()) * 1000)


def run_here(handler: Callable[[Any, Context], Answer]) -> None:
    """Run a handler on this machine with the event of the command line, and print its answer. Exit code 1 or 2: it failed."""
    parser = argparse.ArgumentParser(description=sys.modules[handler.__module__].__doc__)
    parser.add_argument("event", nargs="?", default="{}", help='the event as JSON, for example {"mode": "incremental"}')
    try:
        print(json.dumps(handler(json.loads(parser.parse_args().event), _Here()), indent=1))  # noqa: T201 - the answer
    except (json.JSONDecodeError, RecursionError) as error:
        parser.error(f"the event is no JSON: {error}")
    except CondvestError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2 if isinstance(error, ConfigError) else 1)

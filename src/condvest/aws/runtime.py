"""One invocation: an event read, settings with their secrets, the time that is left, logs and metrics, an answer or an error."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Protocol, TextIO, TypeVar

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers
from aws_lambda_powertools.metrics import MetricUnit

from condvest.app import App
from condvest.app.runs import JobResult, shortened
from condvest.aws.events import Event, read_event
from condvest.config import Settings, load_settings
from condvest.errors import CondvestError, ConfigError, WorkLeft
from condvest.jobs.stopping import Stop

Model = TypeVar("Model", bound=Event)
Answer = dict[str, Any]

#: The share of a function's time that is kept for ending cleanly, and its bounds.
_RESERVE: Final = 0.2
_LEAST_RESERVE_MS: Final = 60_000
_METRICS: Final = "condvest"


class Context(Protocol):
    """What a handler needs of Lambda's context."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        """Return how much time is left before Lambda ends the process."""
        ...


@dataclass(frozen=True, slots=True)
class Invocation:
    """One lake, and when to stop. `run_id` stands in every line of the log."""

    app: App
    settings: Settings
    stop: Stop
    run_id: str


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

    `service` is the function's name. `secrets` fills in what this function alone may read.
    """
    logger = start_log(service, context.aws_request_id)
    try:
        asked = read_event(model, event)
        settings = secrets(_settings())
        with App(settings, records_runs=has_database) as app:
            answer = work(Invocation(app, settings, _stop(context), context.aws_request_id), asked)
    except CondvestError as error:
        logger.error("failed", extra={"kind": type(error).__name__, "error": str(error)})
        raise
    return answer


def start_log(service: str, run_id: str) -> Logger:
    """Send the events of condvest to stdout as JSON lines that carry the run's id, and return the logger."""
    logger = _logger(service)
    logger.append_keys(run_id=run_id)
    copy_config_to_registered_loggers(logger, include={"condvest"})
    logging.getLogger("condvest").propagate = False
    return logger


@cache
def _logger(service: str) -> Logger:
    """Return the one logger of a service: a process of Lambda serves many invocations."""
    level = os.environ.get("POWERTOOLS_LOG_LEVEL", "INFO")
    return Logger(service=service, level=level, utc=True, logger_handler=_Stdout())


def told(service: str, result: JobResult, **more: Any) -> Answer:
    """Log and meter what came of a job, and return the answer. WorkLeft where it could not do all it was asked for."""
    answer: Answer = {
        "job": result.job,
        "outcome": result.outcome,
        "counts": {name: shortened(value) for name, value in result.counts.items()},
        "seconds": result.seconds,
        "requests": result.traffic.requests,
        "remaining": result.remaining,
        "again": {},
        **more,
    }
    meter(service, _measures(result))
    _logger(service).info("answered", extra={"answer": {**answer, "again": bool(answer["again"])}})
    if result.left:
        raise WorkLeft(f"{result.job}: {len(result.left)} left, first: {result.left[0]}")
    return answer


def meter(service: str, measures: dict[str, float]) -> None:
    """Write metrics as one line of CloudWatch's embedded format, in namespace `condvest` by service."""
    metrics = Metrics(namespace=os.environ.get("POWERTOOLS_METRICS_NAMESPACE", _METRICS), service=service)
    for name, value in measures.items():
        metrics.add_metric(name, MetricUnit.Seconds if name == "Seconds" else _unit(name), value)
    metrics.flush_metrics()


def _unit(name: str) -> MetricUnit:
    return MetricUnit.Bytes if name == "Bytes" else MetricUnit.Count


def _measures(result: JobResult) -> dict[str, float]:
    counts, traffic = result.counts, result.traffic
    sessions = [counts.get(name) for name in ("provisional", "final")]
    return {
        "Sessions": sum(len(found) for found in sessions if isinstance(found, list)),
        "Rows": counts.get("rows", 0),
        "Quarantined": counts.get("quarantined", 0),
        "Restated": counts.get("restated", 0),
        "Requests": traffic.requests + traffic.gets + traffic.puts + traffic.deletes + traffic.lists,
        "Bytes": traffic.bytes_in + traffic.bytes_out,
        "Seconds": result.seconds,
        "Remaining": result.remaining,
    }


def _settings() -> Settings:
    settings = load_settings()
    if "AWS_LAMBDA_FUNCTION_NAME" in os.environ and not settings.lake.startswith("s3://"):
        raise ConfigError("S3_BUCKET is not set: a function's own disk does not last; name the lake's bucket")
    return settings


def _stop(context: Context) -> Stop:
    """Return what says when so little time is left that no other piece of work should begin."""
    total = context.get_remaining_time_in_millis()
    reserve = min(max(total * _RESERVE, _LEAST_RESERVE_MS), total / 2)
    return lambda: context.get_remaining_time_in_millis() < reserve


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
    except json.JSONDecodeError as error:
        parser.error(f"the event is no JSON: {error}")
    except CondvestError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2 if isinstance(error, ConfigError) else 1)

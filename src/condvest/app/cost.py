"""What a month of a lake costs on S3: its recorded runs and what lies in it, times the prices of a table."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from condvest.app.status import read_status
from condvest.app.wiring import App
from condvest.domain.cost import (
    WINDOW,
    JobCost,
    Prices,
    cost_of_runs,
    month_factor,
    read_prices,
    recorded_days,
    storage_price,
)
from condvest.domain.records import RunRow
from condvest.errors import ConfigError

#: The price table that comes with condvest; `benchmarks/price_month.py` uses it as well.
SHIPPED: Final = "prices.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """What lies in one part of the lake, and what S3 takes for it a month."""

    objects: int
    size_bytes: int
    month: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LakeCost:
    """What a lake costs by its runs of the last 31 days. Amounts are in the currency of `prices`.

    Attributes:
        on_aws: whether S3 bills it; else it is what the same would cost there.
        since: 31 days before `now`; runs that began after it count.
        first_run: when the first of them began; None: none of them has ended.
        last_run: when the last run on record began, however long ago.
        recorded_days: for how many of the 31 days runs are on record; 0: none has ended.
        factor: by what the cost of these days is multiplied for a month of 30.4; None: too little is on record.
        unfinished: how many runs have no end on record; what these asked is not known.
        jobs: the runs that ended, by job; `runs`: all of them.
        storage: all layers.
        month: runs and storage, a month; None where `factor` is.
    """

    lake: str
    on_aws: bool
    now: datetime
    since: datetime
    first_run: datetime | None
    last_run: datetime | None
    recorded_days: int
    factor: float | None
    unfinished: int
    prices: Prices
    jobs: Mapping[str, JobCost]
    runs: JobCost
    layers: Mapping[str, LayerCost]
    storage: LayerCost
    month: float | None


def load_prices(file: Path | None) -> tuple[Prices, dict[str, Any]]:
    """Return the prices of S3 and the whole table they are in: the one that comes with condvest, or the one in `file`.

    Raises:
        ConfigError: the file cannot be read, or is no price table.
    """
    shipped = resources.files("condvest.app") / SHIPPED
    shown = SHIPPED if file is None else ascii(str(file))[:200]
    remedy = f"mend it, or begin with a copy of {shipped}"
    try:
        content = shipped.read_bytes() if file is None else file.read_bytes()
    except (OSError, ValueError) as error:  # not there, a folder, a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else "no name of a file"
        raise ConfigError(
            f"price table {shown} cannot be read ({reason}); name a file that can, or leave --prices out"
        ) from None
    try:
        table = json.loads(content)
        return read_prices(table), table
    except ConfigError as error:
        raise ConfigError(f"price table {shown}: {error}; {remedy}") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"price table {shown} is no JSON; a price table is one JSON object; {remedy}") from None


def read_cost(app: App, prices: Prices) -> LakeCost:
    """Price the runs of the last 31 days and what lies in the lake now; writes nothing. ConfigError: there is no lake."""
    status = read_status(app)
    since = status.now - WINDOW
    runs = app.state.runs_between(since, status.now)
    ended = [run for run in runs if run.finished_at is not None]
    first = runs[0].started_at if ended else None
    days = 0
    if first is not None:
        days = recorded_days(first, status.now, goes_back_further=app.state.has_runs_by(since))
    factor = month_factor(days)
    together = cost_of_runs(ended, prices, factor)
    layers = {name: _layer(layer.objects, layer.size_bytes, prices) for name, layer in sorted(status.layers.items())}
    storage = _layer(
        sum(layer.objects for layer in layers.values()), sum(layer.size_bytes for layer in layers.values()), prices
    )
    return LakeCost(
        lake=status.lake,
        on_aws=is_on_aws(app),
        now=status.now,
        since=since,
        first_run=first,
        last_run=status.runs[0].started_at if status.runs else None,
        recorded_days=days,
        factor=factor,
        unfinished=len(runs) - len(ended),
        prices=prices,
        jobs={job: cost_of_runs(some, prices, factor) for job, some in sorted(_by_job(ended).items())},
        runs=together,
        layers=layers,
        storage=storage,
        month=None if together.month is None else together.month + storage.month,
    )


def _layer(objects: int, size_bytes: int, prices: Prices) -> LayerCost:
    return LayerCost(objects=objects, size_bytes=size_bytes, month=storage_price(size_bytes, prices))


def _by_job(runs: list[RunRow]) -> dict[str, list[RunRow]]:
    found = defaultdict(list)
    for run in runs:
        found[run.job].append(run)
    return found


def is_on_aws(app: App) -> bool:
    """Say whether AWS bills the lake: not a folder, not memory, not another server that speaks S3."""
    endpoint = app.settings.aws_endpoint_url
    host = urlsplit(endpoint).hostname or "" if endpoint else "amazonaws.com"
    return app.store.url.startswith("s3://") and f".{host}".endswith((".amazonaws.com", ".amazonaws.com.cn"))

"""The record of runs: what was asked for, what came of it, what it cost."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, insert, select, update

from condvest.domain.records import RunOutcome, RunRow, Traffic
from condvest.errors import DataError
from condvest.state.tables import batch_jobs

_R = batch_jobs.c
_TRAFFIC = tuple(field.name for field in dataclasses.fields(Traffic))
_PLAIN = ("id", "job", "started_at", "finished_at", "outcome", "error")


def start(connection: Connection, job: str, arguments: Mapping[str, object], *, now: datetime) -> int:
    """Record that a run began, with outcome `running`, and return its number."""
    values = {"job": job, "started_at": now, "outcome": "running", "arguments": _json(arguments), "counts": "{}"}
    row = insert(batch_jobs).values(**values, **dataclasses.asdict(Traffic())).returning(_R.id)
    number: int = connection.execute(row).scalar_one()
    return number


def finish(
    connection: Connection,
    run: int,
    outcome: RunOutcome,
    *,
    counts: Mapping[str, object],
    traffic: Traffic,
    error: str | None,
    now: datetime,
) -> None:
    """Record how a run ended. Raises DataError when there is no such run."""
    values = {"outcome": outcome, "counts": _json(counts), "error": _storable(error or "") or None, "finished_at": now}
    written = connection.execute(update(batch_jobs).where(_R.id == run).values(**values, **dataclasses.asdict(traffic)))
    if written.rowcount == 0:
        raise DataError(f"run {run} is not in batch_jobs; only a run that was started can be finished; start it first")


def recent(connection: Connection, limit: int) -> list[RunRow]:
    """Return the last `limit` runs, the newest first."""
    return _read(connection, select(batch_jobs).order_by(_R.id.desc()).limit(limit))


def between(connection: Connection, after: datetime, until: datetime) -> list[RunRow]:
    """Return the runs that began after one instant and up to another, by when they began."""
    chosen = select(batch_jobs).where(_R.started_at > after, _R.started_at <= until)
    return _read(connection, chosen.order_by(_R.started_at, _R.id))


def any_by(connection: Connection, instant: datetime) -> bool:
    """Say whether a run had begun by an instant."""
    return connection.execute(select(_R.id).where(_R.started_at <= instant).limit(1)).first() is not None


def _read(connection: Connection, query: Select[Any]) -> list[RunRow]:
    rows = connection.execute(query).mappings()
    return [
        RunRow(
            **{name: row[name] for name in _PLAIN},
            arguments=json.loads(row["arguments"]),
            counts=json.loads(row["counts"]),
            traffic=Traffic(**{name: row[name] for name in _TRAFFIC}),
        )
        for row in rows
    ]


def _json(values: Mapping[str, object]) -> str:
    """Values that JSON does not know (dates) go in as their text."""
    return _storable(json.dumps(values, sort_keys=True, default=str, ensure_ascii=False))


def _storable(text: str) -> str:
    """Return a text with escapes for what a database refuses: NUL, and bytes of a file's name that are no UTF-8."""
    return text.encode(errors="backslashreplace").decode().replace("\0", r"\x00")

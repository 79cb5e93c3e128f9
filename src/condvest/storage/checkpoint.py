"""The resampler's checkpoints: a cache of what an interval of silver was built from. Lost or wrong, it is built anew."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Final

from condvest.errors import DataError
from condvest.log import warn
from condvest.storage import layout
from condvest.storage.second_look import settled
from condvest.storage.store import Store, Stored, When

_VERSION: Final = 1
_AS_IT_IS: Final = ("interval_sessions", "calendar_version", "builder", "sources", "months")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What silver of one interval was built from.

    `sources`: a symbol's mark of its `data.parquet` and of its splits, by symbol. `months`: the ETag of each month file, by
    `YYYY-MM`. `reach`: the last session of the consolidated lake then. `builder`: version of kernel and writer.
    """

    interval_sessions: int
    calendar_version: str
    builder: str
    reach: date
    sources: dict[str, str]
    months: dict[str, str]


def read_checkpoint(store: Store, sessions: int) -> tuple[Checkpoint | None, When]:
    """Return the checkpoint and the condition for replacing it; None where it is absent, or cannot be read twice in a row."""
    return read_checkpoints(store, [sessions])[sessions]


def read_checkpoints(store: Store, intervals: Collection[int]) -> dict[int, tuple[Checkpoint | None, When]]:
    """Return the same for several intervals."""
    read = store.map([layout.checkpoint_key(sessions) for sessions in intervals], lambda _, stored: stored)
    return {sessions: _settled(store, sessions, stored) for sessions, stored in zip(intervals, read, strict=True)}


def sources_of(checkpoints: Mapping[int, tuple[Checkpoint | None, When]]) -> set[str]:
    """Return the symbols that silver was built from, in any of its intervals: each of them had a history."""
    return {symbol for found, _ in checkpoints.values() if found is not None for symbol in found.sources}


def _settled(store: Store, sessions: int, stored: Stored | None) -> tuple[Checkpoint | None, When]:
    key = layout.checkpoint_key(sessions)
    found = settled(store, key, stored, partial(_decoded, sessions))
    if found.error is not None:
        warn("checkpoint_unreadable", key=key, error=found.error, remedy="the interval is built anew")
    return found.content, found.when


def _decoded(sessions: int, stored: Stored) -> Checkpoint:
    try:
        content = json.loads(stored.data)
        if content["version"] != _VERSION or content["interval_sessions"] != sessions:
            raise ValueError(f"version {content['version']}, interval {content['interval_sessions']}")
        return Checkpoint(
            interval_sessions=sessions,
            calendar_version=str(content["calendar_version"]),
            builder=str(content["builder"]),
            reach=date.fromisoformat(content["reach"]),
            sources=_strings(content["sources"]),
            months=_strings(content["months"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{layout.checkpoint_key(sessions)}: {error}") from error


def write_checkpoint(store: Store, checkpoint: Checkpoint, when: When) -> None:
    """Put a checkpoint; CommitConflict when another writer was first."""
    content = {"version": _VERSION, "reach": checkpoint.reach.isoformat()}
    content |= {name: getattr(checkpoint, name) for name in _AS_IT_IS}
    body = json.dumps(content, separators=(",", ":"), sort_keys=True).encode()
    store.put(layout.checkpoint_key(checkpoint.interval_sessions), body, when=when)


def _strings(values: object) -> dict[str, str]:
    if not isinstance(values, dict) or not all(isinstance(text, str) for text in values.values()):
        raise TypeError(f"expected texts by name, found {type(values).__name__}")
    return values

"""The resampler's checkpoints: a cache of what an interval of silver was built from. Lost or wrong, it is built anew."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import Final

from condvest.log import warn
from condvest.storage import layout
from condvest.storage.store import IF_ABSENT, Store, Stored, When, if_match

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
    """Return the checkpoint, None where it is absent or cannot be read, and the condition for replacing it."""
    return read_checkpoints(store, [sessions])[sessions]


def read_checkpoints(store: Store, intervals: Collection[int]) -> dict[int, tuple[Checkpoint | None, When]]:
    """Return the same for several intervals."""
    read = store.map([layout.checkpoint_key(sessions) for sessions in intervals], lambda _, stored: stored)
    return {sessions: _decoded(sessions, stored) for sessions, stored in zip(intervals, read, strict=True)}


def _decoded(sessions: int, stored: Stored | None) -> tuple[Checkpoint | None, When]:
    if stored is None:
        return None, IF_ABSENT
    try:
        content = json.loads(stored.data)
        if content["version"] != _VERSION or content["interval_sessions"] != sessions:
            raise ValueError(f"version {content['version']}, interval {content['interval_sessions']}")
        checkpoint = Checkpoint(
            interval_sessions=sessions,
            calendar_version=str(content["calendar_version"]),
            builder=str(content["builder"]),
            reach=date.fromisoformat(content["reach"]),
            sources=_strings(content["sources"]),
            months=_strings(content["months"]),
        )
        return checkpoint, if_match(stored.etag)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        key = layout.checkpoint_key(sessions)
        warn("checkpoint_unreadable", key=key, error=error, remedy="the interval is built anew")
        return None, if_match(stored.etag)


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

"""Broken variants of the jobs, for null controls: a harness that does not catch them proves nothing.

Each is called in a process of its own, before the job, and may change modules for good.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext, suppress
from datetime import date
from types import ModuleType
from typing import Any

import pyarrow as pa

from condvest.errors import TransientError
from condvest.jobs import consolidate, fetch_bars, fetch_bulk, fetch_steps, vacuum
from condvest.jobs.write_bars import write_bars
from condvest.state import State
from condvest.storage import layout
from condvest.storage.folder import FolderStore
from condvest.storage.store import ALWAYS, PutResult, When
from faults.site import Site
from faults.stepping import SteppedStore


def sound(_site: Site) -> None:
    """Nothing is broken."""


def ledger_before_data(_site: Site) -> None:
    """A session is acknowledged before its bars are written (rule 5)."""

    def complete(fetch: Any, session: date, bars: pa.Table, *, rows: int, restated: int) -> None:
        row = fetch_steps.row_of(fetch, session, rows, restated)
        watermarks = dict.fromkeys(bars["symbol"].to_pylist(), session)
        fetch.log.record([row], watermarks=watermarks, reason="fetch", now=fetch.now)
        write_bars(fetch.store, bars, now=fetch.now)

    _replace("_complete", complete, fetch_bars)


def delete_before_verify(_site: Site) -> None:
    """What is past retention goes by its age alone (rule 3)."""
    _replace("contained", lambda _, rows: [True] * len(rows), vacuum, consolidate)


class _Plain(SteppedStore):
    """A store that knows no conditions."""

    def put(self, key: str, data: bytes, *, when: When = ALWAYS) -> str:
        """Write one object, whatever lies there."""
        return super().put(key, data)

    def put_many_if(self, items: Iterable[tuple[str, bytes, When]]) -> list[PutResult]:
        """Write objects, whatever lies there."""
        return super().put_many_if((key, data, ALWAYS) for key, data, _ in items)


def plain_overwrite(site: Site) -> None:
    """Conditional writes are plain ones (rule 6)."""
    site.store = _Plain(site.store, lambda _: None)


def write_in_place(_site: Site) -> None:
    """Files are written where they are read, half by half, in place of aside and renamed."""

    def commit(store: FolderStore, items: Iterable[tuple[str, bytes, When]]) -> Iterator[PutResult]:
        for key, data, _ in items:
            path = store.root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb", buffering=0) as file:
                for half in (data[: len(data) // 2], data[len(data) // 2 :]):
                    os.write(file.fileno(), half)
            yield PutResult(key, "written")

    FolderStore._commit = commit  # type: ignore[method-assign,assignment]


class _Careless(SteppedStore):
    """A store whose failures are passed over."""

    def put_many(self, items: Iterable[tuple[str, bytes]]) -> int:
        """Write what can be written."""
        written = 0
        for item in items:
            with suppress(TransientError):
                written += super().put_many([item])
        return written


def failures_passed_over(site: Site) -> None:
    """A write that failed counts as done (rule 10)."""
    site.store = _Careless(site.store, lambda _: None)


def landing_after_bronze(_site: Site) -> None:
    """The provider's answer lands after the bars that follow from it, or never (rule 5)."""
    landing = fetch_steps.landing

    def late(fetch: Any, answer: Any) -> Any:
        at, objects = landing(fetch, answer)
        return at, [item for item in objects if not item[0].startswith(layout.LANDING)]

    _replace("landing", late, fetch_bars, fetch_bulk)


def no_turns(_site: Site) -> None:
    """Fetches do not wait for each other."""
    State.exclusive = lambda *_, **__: nullcontext()  # type: ignore[assignment,method-assign]


def _replace(name: str, broken: Callable[..., Any], *modules: ModuleType) -> None:
    """Put something broken in place of what modules use; AttributeError where they no longer do, or nothing would be broken."""
    for module in modules:
        getattr(module, name)
        setattr(module, name, broken)


VARIANTS: dict[str, Callable[[Site], None]] = {
    variant.__name__: variant
    for variant in (
        sound,
        ledger_before_data,
        delete_before_verify,
        plain_overwrite,
        write_in_place,
        failures_passed_over,
        landing_after_bronze,
        no_turns,
    )
}

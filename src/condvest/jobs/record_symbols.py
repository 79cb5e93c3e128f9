"""Record symbols: what the landed listings say of symbols and their details, in the state database."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from condvest.domain.answer_rows import check_levels
from condvest.domain.metadata import details_of, parse_rows, symbol_of
from condvest.domain.records import SymbolRow
from condvest.errors import DataError
from condvest.jobs.stopping import Stop, never
from condvest.log import event, warn
from condvest.storage import layout
from condvest.storage.landing import unpack
from condvest.storage.layout import LandingKey
from condvest.storage.store import Store, Stored

if TYPE_CHECKING:
    from condvest.state import State

#: Listings that tell of symbols. At one instant the list itself comes first: it may make another security of a symbol.
_KINDS: Final[tuple[layout.ListingKind, ...]] = ("tickers", "details")


@dataclass(slots=True)
class SymbolsRecorded:
    """How many listings were recorded, and how many symbols are new or changed by them.

    `left`: listings that cannot be read. `remaining`: listings that it did not look at, as it was asked to stop.
    """

    listings: int = 0
    changed: int = 0
    left: list[str] = field(default_factory=list)
    remaining: list[str] = field(default_factory=list)


def record_symbols(
    store: Store, state: State, *, universe: Collection[str] | None = None, stop: Stop = never
) -> SymbolsRecorded:
    """Record the listings of symbols and details that landed since the last recorded ones, in their order. Idempotent.

    When the provider said something is when it landed. A state that knows no listing begins with the last one, and takes all
    details. What is recorded costs a listing of keys and nothing more. A listing that cannot be read stands in `left` until a
    later one of its kind is recorded; rows that cannot be read are passed over: who landed them named them.
    """
    report = SymbolsRecorded()
    todo = _unrecorded(store, state)
    # Read ahead as they lie there, compressed: unpacked, a few lists of the whole market fill the memory.
    read = store.map([key for key, _ in todo], lambda _, stored: stored)
    for done, ((key, found), stored) in enumerate(zip(todo, read, strict=True)):
        if stop():
            report.remaining = [key for key, _ in todo[done:]]
            break
        try:
            rows = [row for row in _rows(key, found, stored) if universe is None or row.symbol in universe]
        except DataError as error:
            warn("listing_unread", key=key, error=error)
            report.left.append(str(error))
            continue
        changed = state.upsert_symbols(rows, found.instant, landed_as=found.kind)
        event("listing_recorded", kind=found.kind, rows=len(rows), changed=changed)
        report.changed += changed
        report.listings += 1
    return report


def _unrecorded(store: Store, state: State) -> list[tuple[str, LandingKey]]:
    """Return the landed listings that are not recorded yet, in the order in which they came."""
    recorded = state.recorded_through()
    todo: list[tuple[str, LandingKey]] = []
    for kind in _KINDS:
        keys = [(info.key, layout.parse_landing_key(info.key)) for info in store.list(layout.landing_prefix(kind))]
        landed = [(key, found) for key, found in keys if found is not None]
        if kind in recorded:
            landed = [(key, found) for key, found in landed if found.instant > recorded[kind]]
        elif kind == "tickers":
            landed = landed[-1:]
        todo += landed
    return sorted(todo, key=lambda one: (one[1].instant, _KINDS.index(one[1].kind)))


def _rows(key: str, found: LandingKey, stored: Stored | None) -> list[SymbolRow]:
    parse = symbol_of if found.kind == "tickers" else partial(details_of, now=found.instant)
    return parse_rows(_results(key, stored), parse)[0]


def _results(key: str, stored: Stored | None) -> list[dict[str, Any]]:
    if stored is None:
        raise DataError(f"{key}: the landed listing is gone since it was listed; restore it from a copy")
    try:
        results = json.loads(unpack(stored.data, key))["results"]
        if not isinstance(results, list) or not all(isinstance(row, dict) for row in results):
            raise TypeError("results is no list of objects")
        check_levels(results, key)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{key}: the landed listing cannot be read ({error}); fetch metadata again") from error
    return results

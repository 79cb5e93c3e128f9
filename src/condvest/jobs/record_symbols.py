"""Record symbols: what the landed listings say of symbols and their details, in the state database."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from condvest.domain.metadata import details_of, parse_rows, symbol_of
from condvest.domain.records import SymbolRow
from condvest.errors import ConfigError, DataError
from condvest.storage import layout
from condvest.storage.landing import unpack
from condvest.storage.store import Store

if TYPE_CHECKING:
    from condvest.state import State


def record_symbols(
    store: Store, state: State, landed: Sequence[str], *, now: datetime, universe: Collection[str] | None = None
) -> int:
    """Record what landed listings (keys of kind `tickers` and `details`) say; return how many symbols changed. Idempotent.

    `now` is when the provider said it. Rows that cannot be read are passed over: who landed them named them.

    Raises:
        ConfigError: a key is none of such a listing. ObjectNotFound: nothing lies there. DataError: it cannot be read.
    """
    changed = 0
    for key in landed:
        rows = [row for row in _rows(store, key, now) if universe is None or row.symbol in universe]
        changed += state.upsert_symbols(rows, now)
    return changed


def _rows(store: Store, key: str, now: datetime) -> list[SymbolRow]:
    found = layout.parse_landing_key(key)
    if found is None or found.kind not in ("tickers", "details"):
        raise ConfigError(f"{key!r} is no landed listing of symbols; give keys such as a metadata fetch returns")
    parse = symbol_of if found.kind == "tickers" else partial(details_of, now=now)
    return parse_rows(_results(store, key), parse)[0]


def _results(store: Store, key: str) -> list[dict[str, Any]]:
    try:
        results = json.loads(unpack(store.get(key).data, key))["results"]
        if not isinstance(results, list) or not all(isinstance(row, dict) for row in results):
            raise TypeError("results is no list of objects")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{key}: the landed listing cannot be read ({error}); fetch metadata again") from error
    return results

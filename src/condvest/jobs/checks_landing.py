"""Checks of what landed beside bars: listings and receipts can be read, and the ledgers made of listings are there."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Literal

from condvest.domain.metadata import dividend_of, parse_rows, split_of
from condvest.errors import DataError, ObjectNotFound
from condvest.jobs.findings import Findings
from condvest.storage import layout
from condvest.storage.landing import unpack
from condvest.storage.store import Store, Stored

_META: Final = "restore it from a copy; the next `condvest fetch meta` lands the present listing beside it"
_RECEIPT: Final = "restore it from a copy; what it says stands in its name, so nothing else is lost"
#: When an action was seen does not matter here.
_ANY: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LEDGERS: Final = {"splits": layout.SPLITS, "dividends": layout.DIVIDENDS}


def check_listings(store: Store, findings: Findings) -> None:
    """Check that each landed listing, and each receipt, can be read."""
    for kind in ("tickers", "details", "splits", "dividends", "confirmed"):
        prefix, remedy = layout.landing_prefix(kind), _RECEIPT if kind == "confirmed" else _META
        keys = [info.key for info in store.list(prefix) if layout.parse_landing_key(info.key)]
        for problem in store.map(keys, _problem):
            if problem is not None:
                findings.broken("landing_file", problem, remedy)


def is_ledger_lost(
    store: Store, findings: Findings, kind: Literal["splits", "dividends"], universe: Collection[str] | None
) -> bool:
    """Say, and report, whether a ledger of corporate actions is gone though a listing with some of its symbols landed."""
    try:
        store.get(_LEDGERS[kind])
    except ObjectNotFound:
        pass
    else:
        return False
    parse: Callable[[Mapping[str, Any]], Any] = partial(split_of if kind == "splits" else dividend_of, seen=_ANY)

    def has_some(key: str, stored: Stored | None) -> str | None:
        actions = parse_rows(_rows(key, stored), parse)[0]
        return key if any(universe is None or action.symbol in universe for action in actions) else None

    for key in store.map((info.key for info in store.list(layout.landing_prefix(kind))), has_some):
        if key is not None:
            findings.broken(
                "corporate_actions",
                f"{_LEDGERS[kind]}: is gone, though {key} landed",
                "restore it from a copy; `condvest fetch meta` begins a new one, which does not know when each was first seen",
            )
            return True
    return False


def _rows(key: str, stored: Stored | None) -> list[dict[str, Any]]:
    try:
        return _results(key, stored.data) if stored is not None else []
    except DataError:
        return []  # named by `check_listings`


def _results(key: str, data: bytes) -> list[dict[str, Any]]:
    try:
        rows = json.loads(unpack(data, key))["results"]
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise TypeError("results is no list of objects")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{key}: the landed listing cannot be read ({type(error).__name__})") from error
    return rows


def _problem(key: str, stored: Stored | None) -> str | None:
    if stored is None:
        return None
    try:
        if not key.endswith(".gz"):
            json.loads(stored.data)["confirms"]
        else:
            _results(key, stored.data)
    except DataError as error:
        return str(error).partition(";")[0]
    except (ValueError, KeyError, TypeError) as error:
        return f"{key}: the receipt cannot be read ({type(error).__name__})"
    return None

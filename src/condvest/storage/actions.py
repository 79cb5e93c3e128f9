"""The ledger of corporate actions in the lake: `splits.parquet` and `dividends.parquet`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple
from typing import Any, Final, TypeVar

import pyarrow as pa

from condvest.domain.actions import DIVIDENDS_SCHEMA, SPLITS_SCHEMA, Dividend, Split
from condvest.errors import CommitConflict, ObjectNotFound
from condvest.storage import layout
from condvest.storage.parquet import decode, encode_table
from condvest.storage.store import IF_ABSENT, Store, When, if_match

Action = TypeVar("Action", Split, Dividend)
_ATTEMPTS: Final = 20


def read_splits(store: Store) -> list[Split]:
    """Return every split that the lake ever saw, withdrawn ones too; DataError when the file cannot be read."""
    return _read(store, layout.SPLITS, SPLITS_SCHEMA, Split)[0]


def read_dividends(store: Store) -> list[Dividend]:
    """Return every dividend that the lake ever saw, withdrawn ones too; DataError when the file cannot be read."""
    return _read(store, layout.DIVIDENDS, DIVIDENDS_SCHEMA, Dividend)[0]


def update_splits(store: Store, merge: Callable[[list[Split]], list[Split]]) -> bool:
    """Replace the splits by what `merge` makes of those that lie there; return whether anything was written."""
    return _update(store, layout.SPLITS, SPLITS_SCHEMA, Split, merge)


def update_dividends(store: Store, merge: Callable[[list[Dividend]], list[Dividend]]) -> bool:
    """Replace the dividends by what `merge` makes of those that lie there; return whether anything was written."""
    return _update(store, layout.DIVIDENDS, DIVIDENDS_SCHEMA, Dividend, merge)


def _read(store: Store, key: str, schema: pa.Schema, kind: type[Action]) -> tuple[list[Action], When]:
    try:
        stored = store.get(key)
    except ObjectNotFound:
        return [], IF_ABSENT
    table = decode(stored.data, schema, key)
    columns = [table[name].to_pylist() for name in schema.names]
    return [kind(*values) for values in zip(*columns, strict=True)], if_match(stored.etag)


def _update(
    store: Store, key: str, schema: pa.Schema, kind: type[Action], merge: Callable[[list[Action]], list[Action]]
) -> bool:
    for _ in range(_ATTEMPTS):
        known, when = _read(store, key, schema, kind)
        merged = sorted(merge(known), key=_order)
        if merged == known:
            return False
        try:
            store.put(key, encode_table(_table(merged, schema)), when=when)
        except CommitConflict:
            continue
        return True
    raise CommitConflict(f"{key}: {_ATTEMPTS} other writers were first; run again when fewer jobs run")


def _order(action: Split | Dividend) -> tuple[Any, ...]:
    return tuple("" if value is None else str(value) for value in astuple(action))


def _table(actions: Sequence[Split | Dividend], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*(astuple(action) for action in actions), strict=True)) or [() for _ in schema]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)

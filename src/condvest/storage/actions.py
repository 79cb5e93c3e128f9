"""The ledger of corporate actions in the lake: `splits.parquet` and `dividends.parquet`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from condvest.domain.actions import DIVIDENDS_SCHEMA, MOST_RATIO, SPLITS_SCHEMA, Dividend, Split
from condvest.domain.bars import MOST_VALUE
from condvest.errors import CommitConflict, DataError, ObjectNotFound
from condvest.storage import layout
from condvest.storage.parquet import decode, encode_table
from condvest.storage.store import IF_ABSENT, Store, Stored, When, if_match

Action = TypeVar("Action", Split, Dividend)
_ATTEMPTS: Final = 20
_ZERO: Final = pa.scalar(0.0, pa.float64())
_MOST: Final = pa.scalar(MOST_VALUE, pa.float64())
_MOST_RATIO: Final = pa.scalar(MOST_RATIO, pa.float64())
_LEAST_RATIO: Final = pa.scalar(1 / MOST_RATIO, pa.float64())
_FIELDS: Final = {kind: attrgetter(*kind.__match_args__) for kind in (Split, Dividend)}
_POSITIVE: Final = frozenset({"split_from", "split_to", "cash_amount"})


def read_splits(store: Store) -> list[Split]:
    """Return every split that the lake ever saw, withdrawn ones too; DataError when the file cannot be read."""
    return _read(store, layout.SPLITS, SPLITS_SCHEMA, Split)[0]


def splits_in(stored: Stored | None) -> list[Split]:
    """Return what `read_splits` does, of an object that was read together with others; None: it is absent."""
    return [] if stored is None else actions_in(_decoded(stored, layout.SPLITS, SPLITS_SCHEMA), Split)


def read_dividends(store: Store) -> list[Dividend]:
    """Return every dividend that the lake ever saw, withdrawn ones too; DataError when the file cannot be read."""
    return _read(store, layout.DIVIDENDS, DIVIDENDS_SCHEMA, Dividend)[0]


def split_table(store: Store) -> pa.Table:
    """Return what `read_splits` does as a table (`SPLITS_SCHEMA`)."""
    return _table_at(store, layout.SPLITS, SPLITS_SCHEMA)


def dividend_table(store: Store) -> pa.Table:
    """Return what `read_dividends` does as a table (`DIVIDENDS_SCHEMA`): a market has hundreds of thousands."""
    return _table_at(store, layout.DIVIDENDS, DIVIDENDS_SCHEMA)


def actions_in(table: pa.Table, kind: type[Action]) -> list[Action]:
    """Return the rows of such a table as splits or dividends."""
    columns = [_values(column) for column in table.columns]
    return [kind(*values) for values in zip(*columns, strict=True)]


def update_splits(store: Store, merge: Callable[[list[Split]], list[Split]]) -> bool:
    """Replace the splits by what `merge` makes of those that lie there; return whether anything was written."""
    return _update(store, layout.SPLITS, SPLITS_SCHEMA, Split, merge)


def update_dividends(store: Store, merge: Callable[[list[Dividend]], list[Dividend]]) -> bool:
    """Replace the dividends by what `merge` makes of those that lie there; return whether anything was written."""
    return _update(store, layout.DIVIDENDS, DIVIDENDS_SCHEMA, Dividend, merge)


def _table_at(store: Store, key: str, schema: pa.Schema) -> pa.Table:
    try:
        return _decoded(store.get(key), key, schema)
    except ObjectNotFound:
        return schema.empty_table()


def _read(store: Store, key: str, schema: pa.Schema, kind: type[Action]) -> tuple[list[Action], When]:
    try:
        stored = store.get(key)
    except ObjectNotFound:
        return [], IF_ABSENT
    return actions_in(_decoded(stored, key, schema), kind), if_match(stored.etag)


def _decoded(stored: Stored, key: str, schema: pa.Schema) -> pa.Table:
    table = decode(stored.data, schema, key, needed=schema.names[:-1])  # `withdrawn_at` alone may be null
    for name in _POSITIVE & set(schema.names):
        numbers = table[name]
        if not pc.all(pc.and_(pc.greater(numbers, _ZERO), pc.less_equal(numbers, _MOST)), min_count=0).as_py():
            raise DataError(f"{key}: column {name} holds what is no number above 0; restore it from a copy")
    if "split_to" in schema.names:
        ratio = pc.divide(table["split_to"], table["split_from"])
        sound = pc.and_(pc.less_equal(ratio, _MOST_RATIO), pc.greater_equal(ratio, _LEAST_RATIO))
        if not pc.all(sound, min_count=0).as_py():
            raise DataError(f"{key}: split_to and split_from make a ratio above {MOST_RATIO:g}; restore it from a copy")
    return table


def _values(column: pa.ChunkedArray) -> list[Any]:
    """Return a column's values: each that repeats is made once, in a third of the time and half of the memory."""
    coded = column.combine_chunks().dictionary_encode()
    values = [*coded.dictionary.to_pylist(), None]
    return [values[code] for code in coded.indices.fill_null(len(values) - 1).to_pylist()]


def _update(
    store: Store, key: str, schema: pa.Schema, kind: type[Action], merge: Callable[[list[Action]], list[Action]]
) -> bool:
    for _ in range(_ATTEMPTS):
        known, when = _read(store, key, schema, kind)
        merged = merge(known)
        if merged == known:  # to order it takes as long as all the rest
            return False
        merged = sorted(merged, key=_order)
        if merged == known:
            return False
        try:
            store.put(key, encode_table(_table(merged, schema)), when=when)
        except CommitConflict:
            continue
        return True
    raise CommitConflict(f"{key}: {_ATTEMPTS} other writers were first; run again when fewer jobs run")


def _order(action: Split | Dividend) -> tuple[str, ...]:
    return tuple("" if value is None else str(value) for value in _fields(action))


def _table(actions: Sequence[Split | Dividend], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*map(_fields, actions), strict=True)) or [() for _ in schema]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _fields(action: Split | Dividend) -> tuple[Any, ...]:
    fields: tuple[Any, ...] = _FIELDS[type(action)](action)
    return fields

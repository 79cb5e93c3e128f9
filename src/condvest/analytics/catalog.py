"""What is in a lake: its symbols and how far each is consolidated, the months of silver, and whether it is one at all."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Final

import pyarrow as pa

from condvest.domain.bars import UTC_MICROSECONDS
from condvest.domain.records import SymbolRow
from condvest.errors import DataError, ObjectNotFound
from condvest.log import warn
from condvest.storage import layout
from condvest.storage.parquet import decode
from condvest.storage.store import Store, Stored

#: What every lake knows of a symbol: the session of its last consolidated bar, and how many bars it has.
SUMMARY_SCHEMA: Final = pa.schema(
    [("symbol", pa.string()), ("last_consolidated_date", pa.date32()), ("row_count", pa.int64())]
)
#: Besides, what the state database has of it; null where it has nothing.
SYMBOLS_SCHEMA: Final = pa.schema(
    [
        *SUMMARY_SCHEMA,
        pa.field("name", pa.string()),
        pa.field("active", pa.bool_()),
        pa.field("type", pa.string()),
        pa.field("market", pa.string()),
        pa.field("primary_exchange", pa.string()),
        pa.field("currency", pa.string()),
        pa.field("cik", pa.string()),
        pa.field("composite_figi", pa.string()),
        pa.field("share_class_figi", pa.string()),
        pa.field("list_date", pa.date32()),
        pa.field("delisted_at", UTC_MICROSECONDS),
        pa.field("sic_code", pa.string()),
        pa.field("sic_description", pa.string()),
        pa.field("market_cap", pa.float64()),
    ]
)
_DATES: Final = pa.schema([("date", pa.date32())])


def read_summary(store: Store) -> pa.Table:
    """Return the symbols with consolidated bars, with `SUMMARY_SCHEMA`, ascending by code point.

    One object, the manifest of the last consolidation. Without a usable one every `data.parquet` is listed and read.
    """
    try:
        return decode(store.get(layout.MANIFEST).data, SUMMARY_SCHEMA, layout.MANIFEST, needed=SUMMARY_SCHEMA.names)
    except ObjectNotFound:
        pass
    except DataError as error:
        warn("manifest_unreadable", key=layout.MANIFEST, error=error, remedy="`condvest consolidate` builds it again")
    keys = dict(sorted(_data_keys(store)))
    dates = list(store.map(keys.values(), _read_dates))
    lasts = [column[-1].as_py() if len(column) else None for column in dates]
    columns = [list(keys), lasts, [len(column) for column in dates]]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SUMMARY_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SUMMARY_SCHEMA)


def _data_keys(store: Store) -> Iterator[tuple[str, str]]:
    for info in store.list(layout.BRONZE):
        found = layout.parse_bronze_key(info.key)
        if found is not None and found.session is None:
            yield found.symbol, info.key


def _read_dates(key: str, stored: Stored | None) -> pa.ChunkedArray:
    return (_DATES.empty_table() if stored is None else decode(stored.data, _DATES, key))["date"]


def with_metadata(summary: pa.Table, rows: Iterable[SymbolRow]) -> pa.Table:
    """Return a summary with what `rows` say of the same symbols, with `SYMBOLS_SCHEMA`; the summary decides which."""
    known = {row.symbol: row for row in rows}
    found = [known.get(symbol) for symbol in summary["symbol"].to_pylist()]
    table = summary
    for field in list(SYMBOLS_SCHEMA)[len(SUMMARY_SCHEMA) :]:
        values = [None if row is None else getattr(row, field.name) for row in found]
        table = table.append_column(field, pa.array(values, field.type))
    return table


def silver_months(store: Store, sessions: int) -> Iterator[tuple[str, int, int]]:
    """Yield key, year and month of each file of period bars of one length, ascending."""
    for info in store.list(layout.silver_prefix(sessions)):
        found = layout.parse_silver_key(info.key)
        if found is not None:
            yield info.key, found.year, found.month


def nearest(symbol: str, names: list[str]) -> list[str]:
    """Return up to three names that `symbol` may have been meant for, the likeliest first."""
    folded = {name.upper(): name for name in reversed(names)}
    return [folded[name] for name in difflib.get_close_matches(symbol.upper(), folded, cutoff=0.5)]

"""Tables to parquet bytes and back. The writer's settings are part of the lake's format: same rows, same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from condvest.errors import DataError

#: Names the writer's settings; a change of it means a full resample, since silver is compared byte for byte.
WRITER: Final = f"1-pyarrow{pa.__version__.split('.')[0]}"

# Dictionaries only where values repeat; ascending integers as deltas. Measured: 30 % fewer bytes than pyarrow's defaults
# in half the time. Snappy, because every engine that reads parquet reads it.
_COMMON: Final[dict[str, Any]] = {"compression": "snappy", "store_schema": False}
_HISTORY: Final = _COMMON | {
    "use_dictionary": ["symbol"],
    "column_encoding": dict.fromkeys(("date", "ingested_at", "transactions"), "DELTA_BINARY_PACKED"),
}
_PERIODS: Final = _COMMON | {
    "use_dictionary": ["symbol"],
    "column_encoding": dict.fromkeys(("date", "end_date", "transactions", "n_sessions"), "DELTA_BINARY_PACKED"),
}
_RECENT: Final = _COMMON | {
    "use_dictionary": ["symbol", "source"],
    "column_encoding": dict.fromkeys(("date", "transactions"), "DELTA_BINARY_PACKED"),
}
# Checksums: what a cache says goes into `data.parquet`, and nothing but the cache is read then.
_FETCHED: Final = _HISTORY | {"use_dictionary": False, "write_statistics": False, "write_page_checksum": True}
#: Files from this size on are decoded by several threads; of smaller ones several are decoded at a time.
_LARGE_BYTES: Final = 4 * 2**20
#: The first and last time that Python has, from the year 1 to the year 9999: in days, and in microseconds, the lake's one unit.
_BOUNDS: Final[dict[int, tuple[int, int]]] = {
    pa.date32().id: (-719_162, 2_932_896),
    pa.timestamp("us").id: (-62_135_596_800_000_000, 253_402_300_799_999_999),
}
_CODES: Final = pa.dictionary(pa.int32(), pa.string())
# One row: statistics and dictionaries would be larger than the row.
_SINGLE: Final = {"compression": "none", "store_schema": False, "use_dictionary": False, "write_statistics": False}


def encode_history(bars: pa.Table) -> bytes:
    """Encode one symbol's daily bars (`DAILY_SCHEMA`)."""
    return _encode(bars, _HISTORY)


def encode_periods(bars: pa.Table) -> bytes:
    """Encode one month's period bars (`PERIOD_SCHEMA`; `symbol` may be a dictionary)."""
    return _encode(bars, _PERIODS)


def encode_recent(bars: pa.Table) -> bytes:
    """Encode the recent bars of all symbols (`recent.SCHEMA`)."""
    return _encode(bars, _RECENT)


def encode_fetched(bars: pa.Table) -> bytes:
    """Encode the bars of all symbols of one session (`fetched.SCHEMA`)."""
    return _encode(bars, _FETCHED)


def encode_row(bars: pa.Table) -> bytes:
    """Encode a table of one row or a few."""
    return _encode(bars, _SINGLE)


def encode_table(table: pa.Table) -> bytes:
    """Encode a table of any other shape."""
    return _encode(table, _COMMON)


def coded(schema: pa.Schema, repeated: Sequence[str]) -> pa.Schema:
    """Return a schema with some columns of texts as dictionaries: where values repeat, codes are smaller and faster."""
    for name in repeated:
        at = schema.get_field_index(name)
        schema = schema.set(at, schema.field(at).with_type(_CODES))
    return schema


def decode(
    data: bytes, schema: pa.Schema, key: str, *, needed: Sequence[str] = (), repeated: Sequence[str] = ()
) -> pa.Table:
    """Decode a parquet file and hold it against its schema; the columns `needed` must hold no nulls.

    Texts of the columns `repeated` come as dictionaries; see `coded`.

    Raises:
        DataError: the bytes are no parquet file, a column is missing or of another type, or a value in it is none (texts
            that are not UTF-8, dates outside the years 1 to 9999); it names the key.
    """
    table = read_table(data, schema, key, repeated=repeated)
    problem = unsound(table, needed)
    if problem:
        raise DataError(f"{key}: {problem}; restore it from a copy or a version of the object")
    return table


def read_table(data: bytes, schema: pa.Schema, key: str, *, repeated: Sequence[str] = ()) -> pa.Table:
    """Decode as `decode` does, but for the values, which have to be looked at with `unsound`."""
    try:
        with pq.ParquetFile(
            pa.BufferReader(data), read_dictionary=list(repeated) or None, page_checksum_verification=True
        ) as file:
            table = file.read(columns=schema.names, use_threads=len(data) >= _LARGE_BYTES)
    except KeyError:  # one of `repeated` is missing or no plain column: what is wrong is told as of any other
        return conform(read_table(data, schema, key), coded(schema, repeated), key)
    except (pa.ArrowException, OSError, ValueError) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{key}: not a readable parquet file ({what}); restore it from a copy or a version of the object, or delete it"
            " and run `condvest consolidate --force-full`, which rebuilds from landing"
        ) from error
    return conform(table, coded(schema, repeated) if repeated else schema, key)


def unsound(table: pa.Table, needed: Sequence[str]) -> str | None:
    """Return what cannot be a value of its column: pyarrow itself reads whatever bits there are."""
    try:
        table.validate(full=True)
    except pa.ArrowException as error:
        return f"holds values that are none ({str(error).splitlines()[0]})"
    for name, column in zip(table.column_names, table.columns, strict=True):
        bounds = _BOUNDS.get(column.type.id)
        if bounds is not None:
            found = pc.min_max(column)
            # As numbers: a time that Python has not cannot be made a Python value.
            low, high = found["min"].value, found["max"].value
            if low is not None and (low < bounds[0] or high > bounds[1]):
                return f"column {name} holds a time outside the years 1 to 9999"
        if name in needed and column.null_count:
            return f"column {name}, which is never null, holds nulls"
    return None


def written_by(data: bytes) -> str:
    """Return the name and version of the program that wrote a readable parquet file."""
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        return str(file.metadata.created_by)


def conform(table: pa.Table, schema: pa.Schema, key: str) -> pa.Table:
    """Return the table's columns in the order of a schema; DataError when one is missing or of another type."""
    if table.schema.equals(schema):
        return table
    missing = [name for name in schema.names if table.column_names.count(name) != 1]
    if missing:
        count = "there twice" if missing[0] in table.column_names else "missing"
        raise DataError(f"{key}: column {missing[0]} is {count}; a file of the lake has {', '.join(schema.names)}")
    table = table.select(schema.names)
    wrong = [name for name in schema.names if table.schema.field(name).type != schema.field(name).type]
    if wrong:
        found, want = table.schema.field(wrong[0]).type, schema.field(wrong[0]).type
        if pa.types.is_dictionary(want):  # how it is read; a file has the texts themselves
            want = want.value_type
        raise DataError(f"{key}: column {wrong[0]} is {found}, a file of the lake has {want}; restore it from a copy")
    return pa.Table.from_arrays(table.columns, schema=schema)  # another writer's columns may be declared as never null


def _encode(table: pa.Table, options: dict[str, Any]) -> bytes:
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, **options) as writer:
        writer.write_table(table)
    return bytes(memoryview(sink.getvalue()))


def concat(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """Concatenate tables of one schema; without any, an empty table."""
    return pa.concat_tables(tables).combine_chunks() if tables else schema.empty_table()

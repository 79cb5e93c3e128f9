"""Files of daily bars as they lie in bronze: decoded, and held against the key under which they lie."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from itertools import accumulate
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from condvest.domain.bars import ANSWER_SCHEMA, DAILY_SCHEMA, MOST_TRANSACTIONS, MOST_VALUE, PRICE_NAMES, is_history
from condvest.errors import DataError
from condvest.storage import layout
from condvest.storage.layout import BronzeKey
from condvest.storage.parquet import decode, read_table, unsound

#: Columns of a daily bar that never hold nulls, besides its symbol.
_NEVER_NULL: Final = ("date", "open", "high", "low", "close", "volume", "ingested_at")

#: What is larger would leave the range of floats when bars are summed; the columns of one type are compared at once.
_MOST: Final = (
    ((*PRICE_NAMES, "volume", "vwap"), pa.scalar(MOST_VALUE, pa.float64())),
    (("transactions",), pa.scalar(MOST_TRANSACTIONS, pa.int64())),
)


def decode_bars(data: bytes, key: str, *, may_be_empty: bool = False) -> pa.Table:
    """Decode the file of daily bars under a key (`DAILY_SCHEMA`): one symbol's, strictly ascending by session.

    There is at least one, unless it `may_be_empty`. DataError, naming the key: it cannot be read, or does not hold what
    its key says.
    """
    bars = _of_one_symbol(data, DAILY_SCHEMA, key, may_be_empty=may_be_empty)
    if bars.num_rows == 0:
        return DAILY_SCHEMA.empty_table()
    symbol = pa.scalar(bars["symbol"][0].as_py(), pa.string())
    return bars.set_column(0, DAILY_SCHEMA.field("symbol"), pa.repeat(symbol, bars.num_rows))


def decode_series(data: bytes, key: str) -> pa.Table:
    """Decode what is computed with of such a file (`SERIES_NAMES`), which may be empty: `ingested_at` is not looked at."""
    return _of_one_symbol(data, ANSWER_SCHEMA, key, may_be_empty=True).remove_column(0)


def _of_one_symbol(data: bytes, schema: pa.Schema, key: str, *, may_be_empty: bool) -> pa.Table:
    """Decode a file and hold it against its key; see `decode_bars`. The symbol comes as a dictionary."""
    bars = decode(data, schema, key, needed=_NEVER_NULL, repeated=("symbol",))
    found = layout.parse_bronze_key(key)
    if may_be_empty and bars.num_rows == 0:
        return bars
    if found is None or bars.num_rows == 0:
        raise DataError(f"{key}: holds no bars; delete it and run `condvest consolidate --force-full`")
    if not _is_throughout(bars["symbol"], found.symbol):
        raise DataError(f"{key}: holds rows of another symbol than {found.symbol}; restore it from a copy")
    if found.session is not None and bars["date"].to_pylist() != [found.session]:
        raise DataError(f"{key}: must hold the one bar of {found.session}; delete it and fetch that session again")
    for names, most in _MOST:
        if not _is_bounded(bars, names, most):
            name = next(name for name in names if not _is_bounded(bars, [name], most))
            raise DataError(f"{key}: column {name} holds a number above {most.as_py():g}; restore it from a copy")
    if not is_history(bars):
        raise DataError(f"{key}: sessions are not strictly ascending; restore it from a copy")
    return bars


def decode_session(data: bytes, schema: pa.Schema, key: str, session: date | None) -> pa.Table:
    """Decode a file with the bars of one session, of any symbols (`DAILY_SCHEMA`, and what else is in the schema).

    DataError, naming the key: it cannot be read, or a row of it could stand in no `date=` file of that session.
    """
    bars = decode(data, schema, key, needed=schema.names[:1] + list(_NEVER_NULL))
    if not pc.all(pc.equal(bars["date"], pa.scalar(session, pa.date32()))).as_py():
        raise DataError(f"{key}: holds bars of another session; delete it, it is a cache")
    if not all(_is_bounded(bars, names, most) for names, most in _MOST):
        raise DataError(f"{key}: holds a number that is too large; delete it, it is a cache")
    return bars


def decode_together(files: Sequence[tuple[str, bytes]]) -> list[pa.Table] | None:
    """Decode several files, given by key and bytes, each to what `decode_bars` gives; None where any might be refused.

    The checks are made over the rows of all: one costs about as much for a thousand rows as for one. After None each file has
    to be decoded alone.
    """
    keys = [layout.parse_bronze_key(key) for key, _ in files]
    try:
        tables = [read_table(data, DAILY_SCHEMA, key) for key, data in files]
    except DataError:
        return None
    known = [key for key in keys if key is not None]
    if not tables or len(known) < len(keys) or any(table.num_rows == 0 for table in tables):
        return None
    return tables if _are_sound(pa.concat_tables(tables), known, [table.num_rows for table in tables]) else None


def _are_sound(rows: pa.Table, keys: Sequence[BronzeKey], counts: Sequence[int]) -> bool:
    """Say whether the rows of several files, one after the other, are what their keys say; see `decode_bars`."""
    if unsound(rows, ("symbol", *_NEVER_NULL)) is not None:
        return False
    ends = list(accumulate(counts))
    runs = pc.run_end_encode(rows["symbol"].combine_chunks())
    of_symbol = {end: key.symbol for key, end in zip(keys, ends, strict=True)}
    if any(
        of_symbol.get(end) != symbol
        for end, symbol in zip(runs.run_ends.to_pylist(), runs.values.to_pylist(), strict=True)
    ):
        return False
    if not {end for end, key, after in zip(ends, keys, keys[1:], strict=False) if key.symbol != after.symbol}.issubset(
        runs.run_ends.to_pylist()
    ):
        return False
    days = rows["date"].combine_chunks()
    single = [(end - 1, key.session, count) for key, end, count in zip(keys, ends, counts, strict=True) if key.session]
    if any(count != 1 for _, _, count in single):
        return False
    if days.take(pa.array([at for at, _, _ in single], pa.int64())).to_pylist() != [day for _, day, _ in single]:
        return False
    falls = pc.indices_nonzero(pc.greater_equal(days[:-1], days[1:])).to_pylist()
    return {at + 1 for at in falls}.issubset(ends) and all(_is_bounded(rows, names, most) for names, most in _MOST)


def _is_throughout(coded: pa.ChunkedArray, symbol: str) -> bool:
    """Say whether a column of codes holds one symbol and nothing else."""
    texts = {text for chunk in coded.chunks for text in chunk.dictionary.to_pylist()}
    # A dictionary may hold texts that no row has; to look at the rows takes ten times as long.
    return coded.null_count == 0 and (texts == {symbol} or coded.unique().to_pylist() == [symbol])


def _is_bounded(bars: pa.Table, names: Sequence[str], most: pa.Scalar) -> bool:
    """Say whether no value of some columns of one type is larger than the most that it may be; a NaN is no number."""
    values = pa.chunked_array([chunk for column in bars.select(names).columns for chunk in column.chunks])
    return pc.any(pc.greater(values, most)).as_py() is not True

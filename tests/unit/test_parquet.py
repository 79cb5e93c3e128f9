"""Tables to parquet bytes and back: same rows, same bytes; a file that is not what it should be is named."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from condvest.domain.bars import DAILY_SCHEMA
from condvest.domain.resample import PERIOD_SCHEMA
from condvest.errors import DataError
from condvest.storage.parquet import concat, conform, decode, encode_history, encode_periods, encode_row, encode_table

KEY = "bronze/raw_ohlcv/symbol=AAPL/data.parquet"
AT = datetime(2025, 11, 3, 21, 5, tzinfo=UTC)


def bars(number: int) -> pa.Table:
    """Return some daily bars of one symbol; every third has no vwap and no transactions."""
    rows = [
        {
            "symbol": "AAPL",
            "date": date(2025, 1, 2) + timedelta(days=day),
            "open": 1.5 + day,
            "high": 2.5 + day,
            "low": 0.5 + day,
            "close": 2.0 + day,
            "volume": 0.25 + day,
            "vwap": None if day % 3 == 0 else 1.75,
            "transactions": None if day % 3 == 0 else 2**53 + day,
            "ingested_at": AT + timedelta(microseconds=day),
        }
        for day in range(number)
    ]
    return pa.Table.from_pylist(rows, schema=DAILY_SCHEMA)


def periods() -> pa.Table:
    """Return two period bars whose symbols are a dictionary, as the resampler has them."""
    day = date(2025, 11, 3)
    values = {"open": 1.0, "high": 3.0, "low": 0.5, "close": 2.0, "volume": 9.0, "vwap": None, "transactions": None}
    rows = [
        {"symbol": s, "date": day, "end_date": day, **values, "n_sessions": 1, "complete": True} for s in ("A", "B")
    ]
    table = pa.Table.from_pylist(rows, schema=PERIOD_SCHEMA)
    return table.set_column(0, "symbol", table["symbol"].dictionary_encode())


@pytest.mark.parametrize("encode", [encode_history, encode_row, encode_table])
@pytest.mark.parametrize("number", [0, 1, 3, 1000])
def test_bars_come_back_as_they_were(encode: Callable[[pa.Table], bytes], number: int) -> None:
    """Every writer keeps values, nulls, types and order; 64-bit counts and microseconds too."""
    assert decode(encode(bars(number)), DAILY_SCHEMA, KEY).equals(bars(number))


def test_period_bars_come_back_with_plain_symbols() -> None:
    """How a symbol is held in memory is no part of the file."""
    found = decode(encode_periods(periods()), PERIOD_SCHEMA, KEY)
    assert found.schema.equals(PERIOD_SCHEMA)
    assert found.to_pylist() == periods().to_pylist()


@pytest.mark.parametrize("encode", [encode_history, encode_row, encode_table])
def test_same_rows_give_the_same_bytes(encode: Callable[[pa.Table], bytes]) -> None:
    """Chunks, slices and metadata leave no trace: files can be compared byte by byte."""
    whole = bars(10)
    pieces = pa.concat_tables([whole.slice(0, 4), whole.slice(4)])
    assert encode(pieces.combine_chunks()) == encode(whole)
    assert encode(bars(20).slice(0, 10).combine_chunks()) == encode(whole)


@pytest.mark.parametrize("number", [2, 1_023, 1_024, 1_025, 5_000, 140_000])
def test_the_pieces_of_a_history_do_not_show_in_its_bytes(number: int) -> None:
    """A merge writes old bars and new ones without copying them into one piece first, wherever they meet."""
    whole = bars(number)
    for new in {1, number // 2, min(number - 1, 1_024)}:
        pieces = pa.concat_tables([whole.slice(0, number - new), whole.slice(number - new)])
        assert pieces["close"].num_chunks == 2
        assert encode_history(pieces) == encode_history(whole)


def test_any_engine_can_read_a_file() -> None:
    """Plain parquet: no Arrow schema inside, snappy or nothing as the codec, UTC time stamps in microseconds."""
    for encode, codec in ((encode_history, "SNAPPY"), (encode_row, "UNCOMPRESSED")):
        meta = pq.read_metadata(io.BytesIO(encode(bars(5))))
        assert meta.metadata is None
        assert {meta.row_group(0).column(index).compression for index in range(10)} == {codec}
        logical = str(meta.schema.column(9).logical_type)
        assert "isAdjustedToUTC=true" in logical
        assert "microseconds" in logical


def test_a_file_of_one_row_is_small() -> None:
    """There is one a symbol and session."""
    assert len(encode_row(bars(1))) < 2500
    assert len(encode_row(bars(1))) < len(encode_table(bars(1)))


@pytest.mark.parametrize("data", [b"", b"PAR1", b"not parquet at all", b"PAR1" + bytes(50) + b"PAR1"])
def test_bytes_that_are_no_parquet_file_are_named(data: bytes) -> None:
    """One line with the key and the remedy."""
    with pytest.raises(DataError, match=f"^{KEY}: not a readable parquet file .*consolidate --force-full") as caught:
        decode(data, DAILY_SCHEMA, KEY)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.99])
def test_a_file_that_was_cut_is_named(keep: float) -> None:
    """A half-copied file is no file."""
    data = encode_history(bars(500))
    with pytest.raises(DataError, match=KEY):
        decode(data[: int(len(data) * keep)], DAILY_SCHEMA, KEY)


def test_a_file_with_damaged_pages_is_named() -> None:
    """A sound footer over spoiled pages is found when they are read."""
    data = bytearray(encode_history(bars(500)))
    data[4:400] = bytes(396)
    with pytest.raises(DataError, match=KEY):
        decode(bytes(data), DAILY_SCHEMA, KEY)


def test_columns_come_in_the_order_of_the_schema() -> None:
    """Another order, or more columns, is no matter."""
    table = bars(3).append_column("more", pa.array([1, 2, 3]))
    mixed = table.select([*reversed(DAILY_SCHEMA.names), "more"])
    assert conform(mixed, DAILY_SCHEMA, KEY).equals(bars(3))


def test_a_missing_column_is_named() -> None:
    """The message says the key, the column and what a file has."""
    with pytest.raises(DataError, match=rf"^{KEY}: column vwap is missing; .*symbol, date"):
        conform(bars(1).drop_columns("vwap"), DAILY_SCHEMA, KEY)


def test_D14_a_column_of_another_type_is_named() -> None:
    """Prices as decimals, or counts as floats, are not taken silently."""
    table = bars(1)
    decimal = table.set_column(2, "open", table["open"].cast(pa.decimal128(10, 2)))
    with pytest.raises(DataError, match=rf"^{KEY}: column open is decimal128\(10, 2\), a file of the lake has double"):
        decode(encode_table(decimal), DAILY_SCHEMA, KEY)


def test_a_column_of_texts_is_named_as_a_file_has_it() -> None:
    """How it is read, as codes, is nothing that a file must have."""
    data = encode_table(pa.table({"symbol": pa.array([1], pa.int64())}))
    schema = pa.schema([("symbol", pa.string())])
    for repeated in ((), ("symbol",)):
        with pytest.raises(DataError, match=rf"^{KEY}: column symbol is int64, a file of the lake has string;"):
            decode(data, schema, KEY, repeated=repeated)


def test_no_tables_make_an_empty_one() -> None:
    """Concatenation keeps the schema."""
    assert concat([], DAILY_SCHEMA).equals(DAILY_SCHEMA.empty_table())
    assert concat([bars(2), bars(1)], DAILY_SCHEMA).num_rows == 3


def test_values_that_are_none_are_named() -> None:
    """Bits that are no text and no date come out of any flip; pyarrow reads them, and Python would fail on them later."""
    table = bars(2)
    texts = pa.array([b"\xff\xfe", b"A"], pa.binary()).view(pa.string())
    with pytest.raises(DataError, match=rf"^{KEY}: holds values that are none"):
        decode(encode_table(table.set_column(0, "symbol", texts)), DAILY_SCHEMA, KEY)
    dates = pa.array([0, 2**31 - 1], pa.int32()).view(pa.date32())
    with pytest.raises(DataError, match=rf"^{KEY}: column date holds a time outside the years 1 to 9999"):
        decode(encode_table(table.set_column(1, "date", dates)), DAILY_SCHEMA, KEY)


def test_nulls_where_none_may_be_are_named() -> None:
    """Only the columns that are named as needed are looked at."""
    table = bars(2).set_column(2, "open", pa.nulls(2, pa.float64()))
    assert decode(encode_table(table), DAILY_SCHEMA, KEY).num_rows == 2
    with pytest.raises(DataError, match=rf"^{KEY}: column open, which is never null, holds nulls"):
        decode(encode_table(table), DAILY_SCHEMA, KEY, needed=["open"])


def test_a_column_that_is_there_twice_is_named() -> None:
    """Which of the two is meant nobody can tell."""
    with pytest.raises(DataError, match=rf"^{KEY}: column open is there twice"):
        conform(bars(1).append_column("open", pa.array([1.0])), DAILY_SCHEMA, KEY)

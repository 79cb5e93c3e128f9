"""A small lake with one of each kind of object, and all that can have happened to a parquet file of it."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from hypothesis import strategies as st

from condvest.storage import layout
from fuzz.strategies import damaged
from integration.jobs_kit import DAYS, Kit, market_of

SYMBOLS: Final = ("AAPL", "BCPC", "BCpC", "CON")
SPAN: Final = DAYS[:12]
INTERVALS: Final = (3, 5)


@cache
def built() -> tuple[Mapping[str, bytes], bytes]:
    """Return a lake and its state database: landing of days and of a range, all kinds of bronze, silver and metadata."""
    with tempfile.TemporaryDirectory() as folder:
        with Kit(Path(folder), market=market_of(SPAN, SYMBOLS)) as kit:
            fill(kit)
            files = kit.files()
        return files, Path(folder, "state.sqlite").read_bytes()


def objects() -> Mapping[str, bytes]:
    """Return the objects of the lake by key."""
    return built()[0]


def fill(kit: Kit) -> None:
    """Run the jobs of twelve sessions; the last two are not consolidated, the first ones are past a retention of 7 days."""
    kit.market.add_split("AAPL", SPAN[4], 1, 1)
    kit.market.add_split("MSFT", date(2003, 2, 18), 1, 2)
    kit.market.add_dividend("AAPL", SPAN[6], 0.5)
    kit.market.raw_rows[SPAN[2]] = [{"T": "IBM", "o": -1}]
    for session in SPAN[:10]:
        kit.evening(session).fetch(session)
        if session == SPAN[7]:
            kit.fetch_meta()
            kit.consolidate(skip_cleanup=True)
    kit.fetch_symbols("AAPL", first=SPAN[0], last=SPAN[3])
    kit.vacuum(retention_days=12, force=True)
    kit.resample(*INTERVALS)
    for session in SPAN[10:]:
        kit.evening(session).fetch(session)


def keys(*kinds: str) -> list[str]:
    """Return the keys that hold one of some texts, ascending."""
    return sorted(key for key in objects() if any(kind in key for kind in kinds))


def table_of(data: bytes) -> pa.Table | None:
    """Return a parquet file as it can be read; None for one that cannot."""
    try:
        found = pq.read_table(io.BytesIO(data), partitioning=None)
        found.validate(full=True)
        found.to_pylist()
    except (pa.ArrowException, OSError, ValueError, OverflowError):
        return None
    return found


def encoded(table: pa.Table) -> bytes:
    """Return a table as parquet."""
    sink = io.BytesIO()
    pq.write_table(table, sink, store_schema=False)
    return sink.getvalue()


def _set(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def _with_value(table: pa.Table, name: str, value: Any, at: int) -> pa.Table:
    """Put one value, given as what the column's storage holds, into a column."""
    column = table[name].combine_chunks()
    kind = column.type
    if pa.types.is_date32(kind) or pa.types.is_timestamp(kind):
        column = column.view(pa.int32() if pa.types.is_date32(kind) else pa.int64())
    mask = pa.array([row == at % max(1, len(column)) for row in range(len(column))], pa.bool_())
    return _set(table, name, pc.replace_with_mask(column, mask, pa.scalar(value, column.type)).view(kind))


def _invalid_text(table: pa.Table, name: str) -> pa.Table:
    return _set(table, name, pa.array([b"\xff\xfe"] * table.num_rows, pa.binary()).view(pa.string()))


_OF_DATES: Final = [-(2**31), -800_000, 0, 19_000, 3_000_000, 2**31 - 1]
_OF_TIMES: Final = [-(2**63) + 1, 0, 2**63 - 1, -62_135_596_800_000_001]
_OF_FLOATS: Final = [float("nan"), float("inf"), -1.0, 0.0, 1e308, 5e-324]
_OF_TEXTS: Final = ["", "../../x", "\x00", "MSFT", "é" * 9, "aapl"]


def _values(kind: pa.DataType) -> list[Any]:
    if pa.types.is_date32(kind):
        return [*_OF_DATES, None]
    if pa.types.is_timestamp(kind):
        return [*_OF_TIMES, None]
    if pa.types.is_floating(kind):
        return [*_OF_FLOATS, None]
    if pa.types.is_string(kind):
        return [*_OF_TEXTS, None]
    if pa.types.is_integer(kind):
        return [-1, 0, kind.bit_width and 2 ** (kind.bit_width - 1) - 1, None]
    return [None]


_SHAPES: Final[dict[str, Callable[[pa.Table, str], pa.Table]]] = {
    "empty": lambda table, _: table.slice(0, 0),
    "twice": lambda table, _: pa.concat_tables([table, table]),
    "reversed": lambda table, _: table.take(list(range(table.num_rows))[::-1]),
    "half": lambda table, _: table.slice(0, table.num_rows // 2),
    "dropped": lambda table, name: table.drop_columns([name]),
    "nothing": lambda table, _: table.select([]),
    "renamed": lambda table, name: table.rename_columns(
        [f"{old}_" if old == name else old for old in table.column_names]
    ),
    "extra": lambda table, _: table.append_column("extra", pa.nulls(table.num_rows, pa.int8())),
    "double": lambda table, name: table.append_column(name, table[name]),
    "nulls": lambda table, name: _set(table, name, pa.nulls(table.num_rows, table.schema.field(name).type)),
    "text": lambda table, name: _set(table, name, pa.array(["x"] * table.num_rows)),
    "numbers": lambda table, name: _set(table, name, pa.array([1.5] * table.num_rows, pa.float32())),
    "not utf-8": lambda table, name: (
        _invalid_text(table, name) if table.schema.field(name).type == pa.string() else table
    ),
}


@st.composite
def spoiled_files(draw: st.DrawFn, key: str) -> bytes:
    """Return a parquet file of the lake as an accident, another program or an enemy leaves it."""
    data = objects()[key]
    how = draw(st.sampled_from(["bytes", "bytes", "other", "shape", "shape", "value", "value"]))
    table = table_of(data)
    if how == "bytes" or table is None or not table.num_rows:
        return draw(damaged(data) | st.binary(max_size=12))
    if how == "other":
        return objects()[draw(st.sampled_from(keys(".parquet")))]
    name = draw(st.sampled_from(table.column_names))
    if how == "shape":
        return encoded(_SHAPES[draw(st.sampled_from(sorted(_SHAPES)))](table, name))
    value = draw(st.sampled_from(_values(table.schema.field(name).type)))
    if pa.types.is_nested(table.schema.field(name).type):
        return encoded(_SHAPES["nulls"](table, name))
    return encoded(_with_value(table, name, value, draw(st.integers(0, 30))))


def bars_of(files: Mapping[str, bytes]) -> dict[str, set[tuple[Any, ...]]]:
    """Return the sessions and closes of each symbol's bronze files, as far as they can be read."""
    found: dict[str, set[tuple[Any, ...]]] = {}
    for key, data in files.items():
        parsed = layout.parse_bronze_key(key)
        table = table_of(data) if parsed is not None else None
        if parsed is not None and table is not None and {"date", "close"} <= set(table.column_names):
            rows = zip(table["date"].to_pylist(), table["close"].to_pylist(), strict=True)
            found.setdefault(parsed.symbol, set()).update(rows)
    return found


def every_spoiling(key: str) -> Iterator[tuple[str, bytes]]:
    """Yield a file of the lake with every change of shape and every special value in each of its columns."""
    table = table_of(objects()[key])
    assert table is not None
    for field in table.schema:
        for how, change in _SHAPES.items():
            yield f"{how} {field.name}", encoded(change(table, field.name))
        if not pa.types.is_nested(field.type):
            for value in _values(field.type):
                yield f"{field.name} is {value!r}", encoded(_with_value(table, field.name, value, 0))

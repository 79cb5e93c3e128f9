"""The tables that a query finds in a lake, and which objects each is read from."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from functools import lru_cache, partial
from typing import Final

import pyarrow as pa
import pyarrow.dataset as ds

from condvest.analytics.catalog import SYMBOLS_SCHEMA, silver_months
from condvest.analytics.periods import Wanted
from condvest.analytics.sql import Part, View, object_view, table_view
from condvest.domain.actions import DIVIDENDS_SCHEMA, SPLITS_SCHEMA
from condvest.domain.adjust import Adjustment
from condvest.domain.bars import DAILY_SCHEMA
from condvest.domain.calendar import INTERVALS
from condvest.domain.resample import PERIOD_SCHEMA
from condvest.errors import DataError, ObjectNotFound
from condvest.storage import layout
from condvest.storage.bars_file import decode_bars
from condvest.storage.parquet import decode
from condvest.storage.store import Store, Stored

#: What is wanted of all of one symbol's daily bars, made of them.
Make = Callable[[str, pa.Table, Wanted], pa.Table]

_ADJUSTED: Final[tuple[Adjustment, ...]] = ("splits", "all")
_BY_SYMBOL: Final = ds.HivePartitioning(pa.schema([("symbol", pa.string())]))


def lake_views(
    store: Store, *, names: Callable[[], Iterable[str]], symbols: Callable[[], pa.Table], make: Make
) -> dict[str, View]:
    """Return the views of a lake by name: `bronze`, `silver_3d`, `..._adjusted_splits`, `symbols` and so on.

    `names` are the symbols that have a `data.parquet`. Nothing is called or read before a query needs it.
    """

    def parts() -> list[Part]:
        return [_of_symbol(layout.data_key(symbol)) for symbol in names()]

    views = {
        "symbols": table_view(SYMBOLS_SCHEMA, symbols),
        "splits": table_view(SPLITS_SCHEMA, partial(_ledger, store, layout.SPLITS, SPLITS_SCHEMA)),
        "dividends": table_view(DIVIDENDS_SCHEMA, partial(_ledger, store, layout.DIVIDENDS, DIVIDENDS_SCHEMA)),
        "bronze": object_view(store, DAILY_SCHEMA, parts, partial(_stored_bars, DAILY_SCHEMA)),
    }
    for sessions in INTERVALS:
        months = partial(_months, store, sessions)
        views[f"silver_{sessions}d"] = object_view(store, PERIOD_SCHEMA, months, partial(_stored_bars, PERIOD_SCHEMA))
    for adjusted in _ADJUSTED:
        daily = partial(_made_bars, make, Wanted(adjusted=adjusted))
        views[f"bronze_adjusted_{adjusted}"] = object_view(store, DAILY_SCHEMA, parts, daily)
        for sessions in INTERVALS:
            periods = partial(_made_bars, make, Wanted(sessions=sessions, adjusted=adjusted))
            views[f"silver_{sessions}d_adjusted_{adjusted}"] = object_view(store, PERIOD_SCHEMA, parts, periods)
    return views


@lru_cache(maxsize=65_536)
def _of_symbol(key: str) -> Part:
    return key, _BY_SYMBOL.parse(key)


def _months(store: Store, sessions: int) -> Iterator[Part]:
    day = ds.field("date")
    for key, year, month in silver_months(store, sessions):
        # Of a given type: to infer one, pyarrow looks for pandas, each time.
        first = pa.scalar(date(year, month, 1), pa.date32())
        last = pa.scalar(date(year, month, monthrange(year, month)[1]), pa.date32())
        yield key, (day >= first) & (day <= last)


def _stored_bars(schema: pa.Schema, key: str, stored: Stored | None, names: Sequence[str]) -> pa.Table:
    """Return the columns asked for of a file of bars."""
    return decode(_present(key, stored), pa.schema([schema.field(name) for name in names]), key)


def _made_bars(make: Make, wanted: Wanted, key: str, stored: Stored | None, _: Sequence[str]) -> pa.Table:
    """Return what is wanted of the daily bars in one symbol's file."""
    bars = decode_bars(_present(key, stored), key, may_be_empty=True)
    found = layout.parse_bronze_key(key)
    return make(found.symbol if found else "", bars, wanted)


def _present(key: str, stored: Stored | None) -> bytes:
    if stored is None:
        raise DataError(
            f"{key}: gone since it was listed; run `condvest consolidate` and `condvest resample`, ask again"
        )
    return stored.data


def _ledger(store: Store, key: str, schema: pa.Schema) -> pa.Table:
    try:
        return decode(store.get(key).data, schema, key)
    except ObjectNotFound:
        return schema.empty_table()

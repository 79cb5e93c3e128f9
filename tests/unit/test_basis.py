"""Which corporate actions apply to a symbol, found in the ledger of a whole market."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa

from condvest.analytics.basis import CorporateActions
from condvest.domain.actions import DIVIDENDS_SCHEMA, Dividend
from condvest.storage import layout
from condvest.storage.actions import read_dividends
from condvest.storage.opening import open_store
from condvest.storage.parquet import encode_table
from condvest.storage.store import Store

SEEN = datetime(2025, 11, 19, 21, 5, tzinfo=UTC)
DAY = date(2025, 3, 3)


def ledger(rows: list[tuple[str, int, datetime | None]]) -> Store:
    """Return a lake with the dividends of some symbols, by days after `DAY`, in the order given."""
    columns = [[name, DAY + timedelta(days=after), 0.5, "USD", "recurring", SEEN, gone] for name, after, gone in rows]
    table = pa.Table.from_arrays(
        [
            pa.array(values, field.type)
            for values, field in zip(zip(*columns, strict=True), DIVIDENDS_SCHEMA, strict=True)
        ],
        schema=DIVIDENDS_SCHEMA,
    )
    store = open_store(f"memory://{uuid.uuid4().hex}")
    store.put(layout.DIVIDENDS, encode_table(table))
    return store


def test_each_symbol_has_its_own_in_any_order_of_the_ledger() -> None:
    """Symbols may follow each other in any way, as another writer leaves them; what was withdrawn is left out."""
    store = ledger([("B", 1, None), ("A", 5, None), ("B", 0, None), ("b", 2, None), ("A", 3, SEEN), ("B", 9, None)])
    actions, through = CorporateActions(store), DAY + timedelta(days=8)
    for symbol, days in {"A": [5], "B": [1, 0], "b": [2], "C": []}.items():
        expected = [Dividend(symbol, DAY + timedelta(days=day), 0.5, "USD", "recurring", SEEN) for day in days]
        for _ in range(2):  # made the first time, found the second time
            assert actions.dividends(symbol, through=through, as_of=None) == expected
    assert [row.symbol for row in read_dividends(store)] == ["B", "A", "B", "b", "A", "B"]


def test_a_lake_without_a_ledger_has_no_actions() -> None:
    """Nothing was fetched: there are none, of whatever symbol."""
    actions = CorporateActions(open_store(f"memory://{uuid.uuid4().hex}"))
    assert actions.dividends("A", through=DAY, as_of=None) == []

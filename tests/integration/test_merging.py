"""Merging many symbols in one pipeline: bounded, and never a part of a history taken for the whole."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime

import pyarrow as pa
import pytest

from condvest.domain.bars import DAILY_SCHEMA
from condvest.jobs import merging
from condvest.jobs.bronze import SymbolFiles, list_bronze
from condvest.jobs.consolidate import consolidate
from condvest.jobs.merging import MergeTask, merge_symbols
from condvest.storage import layout
from condvest.storage.manifest import read_manifest
from condvest.storage.opening import open_store
from condvest.storage.parquet import encode_history, encode_row
from condvest.storage.store import Store

DAYS = [date(2025, 11, day) for day in (3, 4, 5, 6, 7)]
NOW = datetime(2025, 11, 7, 22, tzinfo=UTC)
BLOCK = 256


def bars(symbol: str, *days: date) -> pa.Table:
    """Return flat bars."""
    row = {
        "symbol": symbol,
        "open": 1.0,
        "high": 1.0,
        "low": 1.0,
        "close": 1.0,
        "volume": 1.0,
        "vwap": 1.0,
        "transactions": 1,
    }
    return pa.Table.from_pylist([{**row, "date": day, "ingested_at": NOW} for day in days], DAILY_SCHEMA)


def empty_store() -> Store:
    """Return a store in memory."""
    return open_store(f"memory://{uuid.uuid4().hex}")


def test_tasks_are_taken_as_they_are_merged() -> None:
    """A few symbols that are there and thousands that are new: their histories never lie in memory all at once."""
    store = empty_store()
    store.put_many((layout.data_key(name), encode_history(bars(name, *DAYS[:2]))) for name in ("AA", "AB", "AC"))
    listed = [MergeTask(files, (), bars(files.symbol, *DAYS)) for files in list_bronze(store)]
    taken = 0

    def tasks() -> Iterator[MergeTask]:
        nonlocal taken
        for task in listed:
            taken += 1
            yield task
        for number in range(2_000):
            taken += 1
            yield MergeTask(SymbolFiles(f"N{number}", None, ()), (), bars(f"N{number}", *DAYS))

    lead = 0
    for done, _ in enumerate(merge_symbols(store, tasks(), {}, ()), 1):
        lead = max(lead, taken - done)
    assert (done, lead <= 3 * BLOCK) == (2_003, True)


def test_a_history_that_vanishes_before_it_is_read_is_told_not_begun_anew() -> None:
    """Between the listing and the reading a `data.parquet` goes: the one bar of its `date=` file is not its whole history."""
    store = empty_store()
    store.put(layout.data_key("AA"), encode_history(bars("AA", *DAYS[:4])))
    consolidate(store, now=NOW)
    store.put(layout.daily_key("AA", DAYS[4]), encode_row(bars("AA", DAYS[4])))
    (files,) = list_bronze(store)
    store.delete_many([layout.data_key("AA")])
    manifest = read_manifest(store)
    (found,) = merge_symbols(store, [MergeTask(files, files.daily)], manifest, manifest.keys())
    assert (found.written, found.recent) == (False, None)
    assert "is gone, though it held 4 bars" in found.errors[0]
    assert not [files for files in list_bronze(store) if files.data_etag]


def test_a_file_is_proven_by_what_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by having been read: should a merge ever drop a row, its `date=` file is not among those that may go."""
    store = empty_store()
    store.put(layout.data_key("AA"), encode_history(bars("AA", *DAYS[:2])))
    store.put_many((layout.daily_key("AA", day), encode_row(bars("AA", day))) for day in DAYS[2:])
    (files,) = list_bronze(store)

    def proven() -> list[date]:
        (merged,) = merge_symbols(store, [MergeTask(files, files.daily)], {}, (), prove_before=DAYS[4])
        return [file.session for file in merged.proven]

    whole = merging._combined
    monkeypatch.setattr(merging, "_combined", lambda before, rest: whole(before, rest.slice(1)))
    assert proven() == [DAYS[3]]
    monkeypatch.undo()
    (files,) = list_bronze(store)
    assert proven() == DAYS[2:4]


def test_columns_that_another_writer_declared_as_never_null_are_the_same_columns() -> None:
    """A `data.parquet` that another program wrote, beside one of our own: both are merged."""
    store = empty_store()
    never_null = pa.schema([field.with_nullable(False) for field in DAILY_SCHEMA])
    store.put(layout.data_key("AA"), encode_history(bars("AA", *DAYS[:2]).cast(never_null)))
    store.put(layout.data_key("BB"), encode_history(bars("BB", *DAYS[:2])))
    for name in ("AA", "BB"):
        store.put(layout.daily_key(name, DAYS[2]), encode_row(bars(name, DAYS[2])))
    report = consolidate(store, now=NOW)
    assert (report.symbols_changed, report.left) == (2, [])

"""How many times in a row a job waits for its store: not once a symbol, a session or a month, since on S3 each wait is long."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from condvest.jobs.bronze import list_bronze
from condvest.jobs.held import not_held
from condvest.jobs.verify import verify
from condvest.storage import layout
from condvest.storage.landing import read_index
from condvest.storage.manifest import Entry, listing_cuts
from condvest.storage.opening import open_store
from condvest.storage.store import Store
from integration.jobs_kit import DAYS, SYMBOLS, Kit, market_of

_CALLS = ("get", "map", "put", "put_many", "put_many_if", "delete_many", "list", "list_many")
KNOWN_SINCE = datetime(2025, 11, 4, 21, 5, tzinfo=UTC)


@contextmanager
def kit_of(folder: Path, symbols: int) -> Iterator[Kit]:
    """Make a lake in memory of some symbols and a month of sessions, consolidated, with one more session fetched."""
    with Kit(
        folder, market=market_of(DAYS[:30], SYMBOLS[:symbols]), lake_url=f"memory://waits-{uuid.uuid4().hex}"
    ) as kit:
        kit.evening(DAYS[21]).fetch_symbols(*SYMBOLS[:symbols], first=DAYS[0], last=DAYS[21])
        kit.consolidate()
        kit.resample(3, 5)
        kit.evening(DAYS[22]).fetch(DAYS[22])
        yield kit


def waits(store: Store, job: Callable[[], object]) -> list[str]:
    """Run a job and return its calls of the store in a row: each waits for all that it asked for."""
    called: list[str] = []

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def count(*given: Any, **named: Any) -> Any:
            called.append(name)
            return call(*given, **named)

        return count

    with pytest.MonkeyPatch.context() as patch:
        for name in _CALLS:
            patch.setattr(store, name, counted(name, getattr(store, name)))
        job()
    return called


def test_landed_answers_of_some_sessions_are_listed_at_once(tmp_path: Path) -> None:
    """Whatever the number of sessions, and with the ranges."""
    with kit_of(tmp_path, 3) as kit:
        found = read_index(kit.store, DAYS[3:23])
        assert waits(kit.lake, lambda: read_index(kit.lake, DAYS[3:23])) == ["list_many"]
        assert found == read_index(kit.store)
        assert list(found.answers) == [DAYS[22]]


def test_folders_of_some_symbols_are_listed_at_once(tmp_path: Path) -> None:
    """By symbol, with what a listing of the whole layer says of them."""
    with kit_of(tmp_path, 9) as kit:
        assert waits(kit.lake, lambda: list(list_bronze(kit.lake, SYMBOLS))) == ["list_many"]
        whole = sorted(list_bronze(kit.store), key=lambda files: files.symbol)
        assert list(list_bronze(kit.store, SYMBOLS)) == whole


@pytest.mark.parametrize("lake_url", [pytest.param("s3", marks=pytest.mark.s3), "folder"], indirect=True)
def test_the_whole_layer_is_listed_from_many_keys_at_once(lake_url: str) -> None:
    """By the manifest, right or wrong: it says where to begin, and never what there is."""
    store = open_store(lake_url)
    symbols = [f"S{number}" for number in range(50)] + ["BRK", "BRK.B", "BRKA", "BCpC"]
    files = {
        symbol: [layout.data_key(symbol), *(layout.daily_key(symbol, day) for day in DAYS[:48])] for symbol in symbols
    }
    store.put_many((key, b"") for keys in files.values() for key in keys)
    whole = list(list_bronze(store))
    assert [found.symbol for found in whole] == sorted(symbols, key=layout.data_key)
    assert sum(1 + len(found.daily) for found in whole) == 49 * len(symbols)
    for known, keys in ((symbols, 48), (["IBM", "S7", "ZZZ"], 2000), (symbols, 0), ([], 0)):
        manifest = {symbol: Entry(symbol, DAYS[0], 1, KNOWN_SINCE, "", frozenset(range(keys)), ()) for symbol in known}
        before = store.meter.snapshot().lists
        assert list(list_bronze(store, manifest=manifest)) == whole
        assert store.meter.snapshot().lists - before <= 3 + len(listing_cuts(manifest))


def test_what_is_only_in_date_files_is_read_at_once(tmp_path: Path) -> None:
    """One wait for the histories of all symbols, one for the sessions that these lack."""
    with kit_of(tmp_path, 9) as kit:
        rows = [(symbol, kit.table(layout.daily_key(symbol, DAYS[22]))) for symbol in SYMBOLS]
        kit.store.delete_many([layout.daily_key(symbol, DAYS[22]) for symbol in SYMBOLS[::4]])
        found = list(not_held(kit.store, rows))
        assert found == [(symbol, table) for symbol, table in rows if symbol in SYMBOLS[::4]]
        assert waits(kit.lake, lambda: list(not_held(kit.lake, rows))) == ["map", "map"]


def test_a_day_costs_the_same_waits_whatever_the_market(tmp_path: Path) -> None:
    """Consolidation and resampling wait a few times, and a few more for each interval."""
    found = []
    for symbols in (3, 9):
        with kit_of(tmp_path / str(symbols), symbols) as kit:
            found.append([waits(kit.lake, kit.consolidate), waits(kit.lake, partial(kit.resample, 3, 5))])
    assert found[0] == found[1]
    # Two of the seven read nothing here. Of an interval: months read, months written, none removed, the checkpoint.
    assert len(found[0][1]) <= 7 + 2 * 4


def test_months_that_differ_are_read_at_once(tmp_path: Path) -> None:
    """A verification of silver that is spoiled throughout waits as often as one of silver with one spoiled file."""

    def check(kit: Kit) -> int:
        report = verify(kit.lake, kit.state, calendar=kit.calendar, now=kit.now)
        return len([one for one in report.broken if one.rule == "silver_file"])

    with kit_of(tmp_path, 3) as kit:
        months = kit.listed(layout.SILVER)
        kit.store.put(months[0], b"x")
        once = waits(kit.lake, lambda: check(kit))
        assert check(kit) == 1
        kit.store.put_many((month, b"x") for month in months)
        assert waits(kit.lake, lambda: check(kit)) == once
        assert check(kit) == len(months) > 2

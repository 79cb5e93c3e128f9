"""Which `date=` files a merge need not read: those whose rows an object of the session holds, where it is worth reading."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime

import pyarrow as pa
import pytest

from condvest.domain.bars import DAILY_SCHEMA
from condvest.jobs.bronze import DailyFile, SymbolFiles
from condvest.jobs.known_rows import with_known_rows
from condvest.jobs.merging import MergeTask
from condvest.storage.fetched import WORTH, write_fetched
from condvest.storage.opening import open_store
from condvest.storage.store import Store

DAY, NEXT = date(2025, 11, 14), date(2025, 11, 17)
NAMES = ("AAPL", "BCPC", "MSFT")


@pytest.fixture
def store() -> Store:
    """A store with the fetched bars of three symbols on two sessions; the ETag of a file is its symbol's name."""
    store = open_store(f"memory://{uuid.uuid4().hex}")
    prices = {"open": 1.0, "high": 9.0, "low": 0.5, "close": 2.0, "volume": 9.0, "vwap": None, "transactions": 3}
    at = {"ingested_at": datetime(2025, 11, 17, 21, 5, tzinfo=UTC)}
    rows = [{"symbol": name, "date": day} | prices | at for day in (DAY, NEXT) for name in NAMES]
    write_fetched(store, pa.Table.from_pylist(rows, DAILY_SCHEMA), [*NAMES, *NAMES])
    return store


def tasks(*etags: str) -> list[MergeTask]:
    """Return a task for each symbol, whose files of both sessions have one ETag."""
    files = [tuple(DailyFile(day, f"{etag} {day}", etag) for day in (DAY, NEXT)) for etag in etags]
    return [MergeTask(SymbolFiles(name, None, daily), daily) for name, daily in zip(NAMES, files, strict=False)]


def known(store: Store, given: list[MergeTask], *, since: date = DAY, symbols: int = 3) -> list[tuple[int, int]]:
    """Return how many files of each task are known, and how many are read; the rows are those of the known ones."""
    found = list(with_known_rows(store, given, since=since, symbols=symbols))
    assert [task.files for task in found] == [task.files for task in given]
    assert [0 if task.extra is None else task.extra.num_rows for task in found] == [len(task.known) for task in found]
    assert [sorted((*task.known, *task.read), key=lambda file: file.session) for task in found] == [
        list(task.read) for task in given
    ]
    return [(len(task.known), len(task.read)) for task in found]


def test_all_are_known_by_their_etags(store: Store) -> None:
    """Nothing is read; of a file of another version, the file."""
    assert known(store, tasks(*NAMES)) == [(2, 0)] * 3
    assert known(store, tasks("AAPL", "another", "MSFT")) == [(2, 0), (0, 2), (2, 0)]


def test_sessions_before_a_date_are_read(store: Store) -> None:
    """What may go has to be proven by what it holds."""
    assert known(store, tasks(*NAMES), since=NEXT) == [(1, 1)] * 3


@pytest.mark.parametrize(("symbols", "expected"), [(3 * WORTH, (2, 0)), (3 * WORTH + 1, (0, 2))])
def test_an_object_is_read_where_enough_of_the_lake_waits(
    store: Store, symbols: int, expected: tuple[int, int]
) -> None:
    """For three files of a large market their own reads are quicker."""
    assert known(store, tasks(*NAMES), symbols=symbols) == [expected] * 3


def test_every_task_of_a_market_comes_back(store: Store) -> None:
    """Thousands of symbols are looked up in handfuls; none of them is left out, known or not."""
    others = [MergeTask(SymbolFiles(f"N{number:03}", None, ()), ()) for number in range(600)]
    given = [*others[:300], *tasks(*NAMES), *others[300:]]
    assert known(store, given) == [(0, 0)] * 300 + [(2, 0)] * 3 + [(0, 0)] * 300


def test_one_file_alone_is_read(store: Store) -> None:
    """However small the lake is."""
    assert known(store, tasks("AAPL"), symbols=1) == [(0, 2)]

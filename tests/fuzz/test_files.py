"""Spoiled files in a lake: every job ends with an error of this project or a report, and no bar is lost by it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condvest import Lake
from condvest.domain.calendar import Calendar
from condvest.errors import CondvestError
from condvest.jobs.bronze import read_file, read_files
from condvest.jobs.consolidate import consolidate
from condvest.jobs.record_symbols import SymbolsRecorded, record_symbols
from condvest.jobs.resample import resample
from condvest.jobs.vacuum import vacuum
from condvest.jobs.verify import VerifyReport, verify
from condvest.state import State
from condvest.storage import layout
from condvest.storage.actions import read_dividends, read_splits
from condvest.storage.landing import pack
from condvest.storage.manifest import read_manifest
from condvest.storage.opening import open_store
from condvest.storage.recent import read_recent
from condvest.storage.store import Store, Stored
from fuzz.spoiling import (
    INTERVALS,
    SPAN,
    SYMBOLS,
    bars_of,
    built,
    every_spoiling,
    keys,
    objects,
    spoiled_files,
    table_of,
)
from fuzz.strategies import bodies, fuzzed

_CALENDAR = Calendar.shipped()
_NOW = _CALENDAR.final_due(SPAN[-1]) + timedelta(days=20)
_QUERIES = (
    "SELECT * FROM bronze ORDER BY ALL",
    "SELECT symbol, count(*), max(close) FROM silver_3d_adjusted_all GROUP BY ALL",
    "SELECT (SELECT count(*) FROM silver_5d), (SELECT max(name) FROM symbols), (SELECT max(first_seen) FROM splits)",
)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """The state database of the lake; nothing here writes to it."""
    path = tmp_path_factory.mktemp("state") / "state.sqlite"
    path.write_bytes(built()[1])
    with State.open(f"sqlite:///{path}", migrate=True) as opened:
        yield opened


def _lake(key: str, data: bytes) -> Store:
    """Return a lake in which one object is another, with the caches of the sound one."""
    store = open_store(f"memory://{uuid.uuid4().hex}")
    store.put_many(objects().items())
    consolidate(store, now=_NOW, skip_cleanup=True, symbols=SYMBOLS[1:3])
    resample(store, calendar=_CALENDAR, intervals=INTERVALS)
    store.put(key, data)
    return store


def _files(store: Store) -> dict[str, bytes]:
    return {info.key: store.get(info.key).data for info in store.list("")}


def _ends_well(act: Callable[[], object]) -> object:
    """Run a job; return its report, or the error of this project that it ended with, which must be one line."""
    try:
        return act()
    except CondvestError as error:
        assert "\n" not in str(error), str(error)
        return error


def _read_everything(store: Store) -> None:
    """Ask every question of the reading API; it writes nothing, whatever lies there."""
    before = store.meter.snapshot()
    for symbol in SYMBOLS[:2]:
        for interval, adjusted in (("1d", "none"), ("3d", "splits"), ("2d", "all")):
            _ends_well(lambda i=interval, a=adjusted, s=symbol: Lake(store).bars(s, interval=i, adjusted=a).to_pylist())  # type: ignore[misc]
    _ends_well(lambda: Lake(store).symbols().to_pylist())
    _ends_well(lambda: Lake(store).sessions().to_pylist())
    _ends_well(lambda: Lake(store).restatements(SPAN[2]).to_pylist())
    for query in _QUERIES:
        _ends_well(lambda q=query: Lake(store).sql(q).to_pylist())  # type: ignore[misc]
    after = store.meter.snapshot()
    assert (after.puts, after.deletes) == (before.puts, before.deletes)


def _survives(key: str, data: bytes, state: State) -> None:
    store = _lake(key, data)
    before = _files(store)
    rows = bars_of(before)
    _read_everything(store)
    assert _files(store) == before
    found = _ends_well(lambda: verify(store, state, calendar=_CALENDAR, now=_NOW))
    if key.startswith(layout.BRONZE) and (table_of(data) is None or key.endswith("data.parquet")):
        assert isinstance(found, VerifyReport)
        assert table_of(data) == table_of(objects()[key]) or found.broken, "verify saw nothing"
        assert table_of(data) is not None or any(key in one.what for one in found.findings)
    _ends_well(lambda: vacuum(store, now=_NOW, retention_days=0, force=True))
    _assert_kept(before, _files(store), rows)
    _ends_well(lambda: consolidate(store, now=_NOW, retention_days=7))
    _ends_well(lambda: resample(store, calendar=_CALENDAR, intervals=INTERVALS))
    _read_everything(store)
    _assert_kept(before, _files(store), rows)
    _ends_well(lambda: consolidate(store, now=_NOW, force_full=True, calendar=_CALENDAR, skip_cleanup=True))
    _ends_well(lambda: resample(store, calendar=_CALENDAR, intervals=INTERVALS, force_full=True))
    _ends_well(lambda: verify(store, state, calendar=_CALENDAR, now=_NOW))
    if not key.startswith(layout.LANDING):
        landed = {symbol: {day for day, _ in bars} for symbol, bars in bars_of(objects()).items()}
        healed = {symbol: {day for day, _ in bars} for symbol, bars in bars_of(_files(store)).items()}
        assert all(healed.get(symbol, set()) >= days for symbol, days in landed.items()), "landed rows are missing"


def _assert_kept(before: dict[str, bytes], after: dict[str, bytes], rows: dict[str, set[tuple[object, ...]]]) -> None:
    """No `data.parquet` goes or loses a session; a `date=` file goes only if its session is in `data.parquet`."""
    kept = bars_of(after)
    for key in before.keys() - after.keys():
        found = layout.parse_bronze_key(key)
        assert found is not None
        assert found.session is not None
        data = table_of(after[layout.data_key(found.symbol)])
        assert data is not None
        assert found.session in data["date"].to_pylist()
    for symbol, had in rows.items():
        assert {day for day, _ in had} <= {day for day, _ in kept[symbol]}, symbol
    for key, data in before.items():
        if key.endswith("/data.parquet"):
            assert table_of(data) is not None or after[key] == data
    assert all(before[key] == after[key] for key in before if key.startswith((layout.LANDING, layout.QUARANTINE)))


@pytest.mark.parametrize(
    "key", [layout.data_key("AAPL"), layout.SPLITS, layout.DIVIDENDS, layout.MANIFEST, layout.RECENT_BARS]
)
def test_each_column_with_each_value(key: str, subtests: pytest.Subtests) -> None:
    """What reads a file takes it or names it: each column missing, twice, null, of another type, with each odd value."""
    store = open_store(f"memory://{uuid.uuid4().hex}")
    store.put_many(objects().items())
    for how, data in every_spoiling(key):
        store.put(key, data)
        with subtests.test(how):
            _ends_well(lambda: (read_manifest(store), read_recent(store)))
            _ends_well(lambda: (read_splits(store), read_dividends(store)))
            _ends_well(lambda: Lake(store).bars("AAPL", interval="3d", adjusted="all").to_pylist())
            _ends_well(lambda: Lake(store).symbols().to_pylist())
            if key.endswith("data.parquet"):
                _ends_well(lambda: read_file(key, store.get(key)))


def _bars() -> list[str]:
    return keys(f"{layout.BRONZE}symbol=")


def _told(key: str, data: bytes | None) -> tuple[str, Stored | None]:
    return key, Stored(data, "an etag") if data is not None else None


@pytest.mark.parametrize("kind", ["/data.parquet", "/date="])
def test_files_read_together_are_read_as_each_alone(kind: str) -> None:
    """Beside sound ones, under its own key or another's, whatever is spoiled in it is found, and the others are as they are."""
    sound = [_told(key, objects()[key]) for key in _bars()]
    key = next(key for key in _bars() if kind in key)
    spoiled = [data for _, data in every_spoiling(key)]
    for number, data in enumerate([*spoiled, *(objects()[other] for other in _bars()), b"", None]):
        at = number % len(sound)
        several = [*sound[:at], _told(key, data), *sound[at:]]
        together = read_files(several)
        alone = [read_file(*one) for one in several]
        assert [(file.key, file.etag, file.error) for file in together] == [
            (file.key, file.etag, file.error) for file in alone
        ]
        rows = [[repr(file.bars and file.bars.to_pylist()) for file in files] for files in (together, alone)]
        assert rows[0] == rows[1]


@fuzzed(6)
@given(st.data())
def test_bronze(state: State, data: st.DataObject) -> None:
    """A spoiled file of bars is told of, and neither it nor what else there is of its symbol is lost."""
    key = data.draw(st.sampled_from(keys("symbol=AAPL/d", "symbol=BCPC/d")))
    _survives(key, data.draw(spoiled_files(key)), state)


@fuzzed(6)
@given(st.data())
def test_actions_silver_and_caches(state: State, data: st.DataObject) -> None:
    """A spoiled silver file, ledger of corporate actions, manifest or cache of recent bars stops nothing it need not."""
    key = data.draw(
        st.sampled_from(
            keys(
                "splits.parquet",
                "dividends.parquet",
                "silver/",
                "manifest.parquet",
                "recent_bars",
                "fetched_bars",
                "quarantine/",
            )
        )
    )
    _survives(key, data.draw(spoiled_files(key)), state)


@fuzzed(5)
@given(st.data())
def test_json(state: State, data: st.DataObject) -> None:
    """Checkpoints, closures, the record of removals and landed answers may hold anything."""
    key = data.draw(
        st.sampled_from(
            [layout.CLOSURES, *keys("checkpoint.json", "cleanup_manifest.json", "landing/range", "confirmed")]
        )
    )
    valid = {"closures": ["2025-11-05"]}
    if key.endswith(".json") and key in objects():
        valid = json.loads(objects()[key])
    body = data.draw(bodies(valid))
    _survives_json(key, body, state)


def _survives_json(key: str, body: bytes, state: State) -> None:
    if key in objects():
        _survives(key, body, state)
        return
    store = _lake(key, body)
    before = _files(store)
    _read_everything(store)
    _ends_well(lambda: verify(store, state, calendar=Lake(store).calendar, now=_NOW))
    _ends_well(lambda: resample(store, calendar=Lake(store).calendar, intervals=INTERVALS))
    assert _files(store)[key] == body
    assert before.keys() <= _files(store).keys()


@fuzzed(40)
@given(bodies({"results": [{"ticker": "AAPL", "active": True, "name": "Apple"}]}), st.booleans())
def test_landed_listings(tmp_path_factory: pytest.TempPathFactory, body: bytes, packed: bool) -> None:
    """A landed listing of symbols holds anything: symbols are recorded, or it is named as unreadable."""
    key = layout.listing_landing_key("tickers", _NOW, "0" * 16)
    store = open_store(f"memory://{uuid.uuid4().hex}")
    store.put(key, pack(body) if packed else body)
    path = tmp_path_factory.mktemp("listed") / "state.sqlite"
    path.write_bytes(built()[1])
    with State.open(f"sqlite:///{path}", migrate=True) as own:
        before = {row.symbol for row in own.symbols()}
        found = _ends_well(lambda: record_symbols(store, own))
        assert before <= {row.symbol for row in own.symbols()}
    assert isinstance(found, SymbolsRecorded)
    assert found.listings == 1 or any(key in line for line in found.left)

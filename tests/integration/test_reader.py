"""`Lake`: bars of any period and adjustment, symbols, sessions and restatements, held against plain Python on real bars."""

from __future__ import annotations

import copy
import gzip
import importlib.metadata
import json
import math
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import condvest
from condvest import Lake
from condvest.demo.market import Bar
from condvest.demo.sample import sample_adjusted_closes
from condvest.domain.answers import parse_grouped, parse_range
from condvest.domain.bars import DAILY_SCHEMA
from condvest.domain.calendar import INTERVALS, Calendar
from condvest.domain.ledger import LedgerRow
from condvest.domain.records import SymbolRow
from condvest.domain.resample import PERIOD_SCHEMA
from condvest.errors import ConfigError, DataError
from condvest.jobs.consolidate import consolidate
from condvest.state import State
from condvest.storage import layout
from condvest.storage.actions import update_dividends, update_splits
from condvest.storage.landing import pack, receipt
from condvest.storage.opening import open_store
from condvest.storage.parquet import decode, encode_history, encode_row
from condvest.storage.store import Store
from integration.sample_lake import (
    CON_SPLIT,
    FIRST,
    LAST,
    SEEN,
    History,
    build,
    dividend,
    sample_histories,
    split,
    table_of,
    true_splits,
)

CALENDAR = Calendar.shipped()
PRICES = ("open", "high", "low", "close", "vwap")


@pytest.fixture(scope="module")
def histories() -> dict[str, History]:
    """Return the bars that went into the lake."""
    return sample_histories()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, histories: dict[str, History]) -> Path:
    """A lake in a folder that no test changes."""
    folder = tmp_path_factory.mktemp("built") / "lake"
    build(open_store(str(folder), fsync=False), histories)
    return folder


@pytest.fixture
def lake(built: Path) -> Lake:
    """The lake that no test changes, opened."""
    return Lake.open(built)


@pytest.fixture
def own(tmp_path: Path) -> Store:
    """An empty lake in a folder, for a test to fill."""
    return open_store(str(tmp_path / "own"), fsync=False)


def price_factor(splits: Iterable[tuple[date, float, float]], day: date) -> float:
    """Return what a price of `day` is multiplied with to be on the basis after all `splits`."""
    return math.prod(old / new for executed, old, new in splits if day < executed)


def on_basis(bar: Bar, factor: float) -> Bar:
    """Return a bar with prices times the factor and volume divided by it."""
    vwap = None if bar.vwap is None else bar.vwap * factor
    return replace(
        bar,
        open=bar.open * factor,
        high=bar.high * factor,
        low=bar.low * factor,
        close=bar.close * factor,
        volume=bar.volume / factor,
        vwap=vwap,
    )


def plain_periods(
    bars: Mapping[date, Bar], sessions: int, splits: Iterable[tuple[date, float, float]], *, anchor: str = "calendar"
) -> list[dict[str, Any]]:
    """Compute period bars, one bar at a time, as the documents say it."""
    origin = CALENDAR.ordinal(min(bars)) if anchor == "listing" else 0
    groups: dict[int, list[tuple[date, Bar]]] = {}
    for day, bar in sorted(bars.items()):
        groups.setdefault((CALENDAR.ordinal(day) - origin) // sessions, []).append((day, bar))
    rows = []
    for group, members in groups.items():
        start = CALENDAR.session_at(group * sessions + origin)
        end = CALENDAR.session_at(group * sessions + origin + sessions - 1)
        inside = [one for one in splits if start < one[0] <= end]
        parts = [on_basis(bar, price_factor(inside, day)) for day, bar in members]
        volume = sum(part.volume for part in parts)
        traded = all(part.vwap is not None for part in parts)
        counted = all(part.transactions is not None for part in parts)
        rows.append(
            {
                "date": start,
                "end_date": end,
                "open": parts[0].open,
                "high": max(part.high for part in parts),
                "low": min(part.low for part in parts),
                "close": parts[-1].close,
                "volume": volume,
                "vwap": sum((part.vwap or 0) * part.volume for part in parts) / volume if traded else None,
                "transactions": sum(part.transactions or 0 for part in parts) if counted else None,
                "n_sessions": len(parts),
                "complete": end <= LAST,
            }
        )
    return rows


def assert_close(found: pa.Table, expected: list[dict[str, Any]]) -> None:
    """Hold a table against rows; numbers may differ in their last digits."""
    assert found.num_rows == len(expected)
    for row, want in zip(found.to_pylist(), expected, strict=True):
        for name, value in want.items():
            assert row[name] == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value), (name, want)


def known_splits(symbol: str) -> list[tuple[date, float, float]]:
    """Return a symbol's true splits up to the lake's last session."""
    return [
        (one.execution_date, one.split_from, one.split_to)
        for one in true_splits()
        if one.symbol == symbol and FIRST <= one.execution_date <= LAST
    ]


def test_daily_bars_are_what_was_consolidated(lake_url: str, histories: dict[str, History]) -> None:
    """On a folder and on S3, bars come back as they went in, in one read, and nothing is written or listed."""
    build(open_store(lake_url), histories, silver=False)
    lake = Lake.open(lake_url)
    before = lake.store.meter.snapshot()
    for symbol, bars in histories.items():
        assert lake.bars(symbol).equals(table_of(symbol, bars))
    took = lake.store.meter.snapshot() - before
    assert (took.gets, took.lists, took.puts, took.deletes) == (len(histories), 0, 0, 0)


def test_what_is_not_consolidated_is_not_seen(own: Store, histories: dict[str, History]) -> None:
    """A `date=` file counts only once it is merged; then it is seen at once."""
    build(own, {"IBM": histories["IBM"]}, silver=False)
    lake = Lake(own)
    seen = lake.bars("IBM")
    later = CALENDAR.next_session(LAST)
    bar = histories["IBM"][LAST]
    own.put(layout.daily_key("IBM", later), encode_row(table_of("IBM", {later: bar})))
    assert lake.bars("IBM").equals(seen)
    consolidate(own, now=SEEN, skip_cleanup=True)
    assert lake.bars("IBM")["date"].to_pylist()[-2:] == [LAST, later]
    assert lake.bars("IBM", interval="1d", first=later).num_rows == 1


@pytest.mark.parametrize("anchor", ["calendar", "listing"])
@pytest.mark.parametrize("sessions", [2, 3, 7, 13, 34, 400])
def test_period_bars_of_any_length(lake: Lake, histories: dict[str, History], sessions: int, anchor: Any) -> None:
    """Any number of sessions, in groups of the calendar or of the listing, equals plain Python; a split inside too."""
    for symbol, bars in histories.items():
        found = lake.bars(symbol, interval=f"{sessions}d", anchor=anchor)
        assert found.schema.equals(PERIOD_SCHEMA)
        assert set(found["symbol"].to_pylist()) == {symbol}
        assert_close(found, plain_periods(bars, sessions, known_splits(symbol), anchor=anchor))


def test_period_bars_equal_silver(lake: Lake, built: Path, histories: dict[str, History]) -> None:
    """Where silver has an interval, the bars computed on the fly are the same to the last bit."""
    store = open_store(str(built))
    for sessions in INTERVALS:
        months = [
            decode(store.get(info.key).data, PERIOD_SCHEMA, info.key)
            for info in store.list(layout.silver_prefix(sessions))
        ]
        silver = pa.concat_tables(months).sort_by([("symbol", "ascending"), ("date", "ascending")])
        read = pa.concat_tables(lake.bars(symbol, interval=f"{sessions}d") for symbol in sorted(histories))
        assert read.equals(silver.combine_chunks())


def test_complete_is_by_the_whole_lake(own: Store, histories: dict[str, History]) -> None:
    """A symbol that stopped trading has complete bars up to where the lake has got, not to its own last bar."""
    stopped = {day: bar for day, bar in histories["MSFT"].items() if day <= date(2005, 6, 14)}
    build(own, {"IBM": histories["IBM"], "MSFT": stopped}, silver=False)
    last = Lake(own).bars("MSFT", interval="5d").to_pylist()[-1]
    assert (last["date"], last["end_date"], last["complete"]) == (date(2005, 6, 14), date(2005, 6, 20), True)
    assert not Lake(own).bars("IBM", interval="34d").to_pylist()[-1]["complete"]


def test_split_adjusted_closes_agree_with_the_samples_own(tmp_path: Path) -> None:
    """Across both splits of AAPL, closes move as the sample's own adjusted closes do (it paid no dividend by then)."""
    bars = sample_histories(date(2000, 3, 1), date(2012, 7, 31))["AAPL"]
    store = open_store(str(tmp_path / "lake"), fsync=False)
    build(store, {"AAPL": bars}, silver=False)
    found = Lake(store).bars("AAPL", adjusted="splits")
    theirs = sample_adjusted_closes("AAPL")
    closes = dict(zip(found["date"].to_pylist(), found["close"].to_pylist(), strict=True))
    scale = theirs[date(2012, 7, 31)] / closes[date(2012, 7, 31)]
    for day, close in closes.items():
        assert close * scale == pytest.approx(theirs[day], rel=0.002, abs=0.011), day
    assert found["volume"][0].as_py() == bars[date(2000, 3, 1)].volume * 4
    assert closes[date(2005, 2, 25)] == bars[date(2005, 2, 25)].close / 2


def test_fully_adjusted_closes_agree_with_the_samples_own(tmp_path: Path) -> None:
    """With dividends as well, closes of MSFT and IBM move as the sample's adjusted closes do."""
    histories = sample_histories(date(2003, 1, 2), date(2013, 3, 1))
    store = open_store(str(tmp_path / "lake"), fsync=False)
    build(store, {symbol: histories[symbol] for symbol in ("MSFT", "IBM")}, silver=False)
    for symbol in ("MSFT", "IBM"):
        found = Lake(store).bars(symbol, adjusted="all")
        theirs = sample_adjusted_closes(symbol)
        scale = theirs[date(2013, 3, 1)] / found["close"][-1].as_py()
        for day, close in zip(found["date"].to_pylist(), found["close"].to_pylist(), strict=True):
            assert close * scale == pytest.approx(theirs[day], rel=0.004), (symbol, day)


@pytest.mark.parametrize("sessions", [1, 5, 13])
def test_adjusted_bars_are_adjusted_day_by_day_first(lake: Lake, histories: dict[str, History], sessions: int) -> None:
    """Adjusted period bars are period bars of adjusted daily bars: no split is applied twice, halted symbols too."""
    for symbol, bars in histories.items():
        splits = known_splits(symbol)
        adjusted = {day: on_basis(bar, price_factor(splits, day)) for day, bar in bars.items()}
        found = lake.bars(symbol, interval=f"{sessions}d", adjusted="splits")
        assert found.schema.equals(DAILY_SCHEMA if sessions == 1 else PERIOD_SCHEMA)
        assert_close(
            found.select([*PRICES, "volume"]),
            [{name: row[name] for name in (*PRICES, "volume")} for row in plain_periods(adjusted, sessions, [])],
        )


def test_dividends_lower_the_prices_before_them(lake: Lake, histories: dict[str, History]) -> None:
    """`all` multiplies each price by 1 - dividend / close before, for each dividend that goes ex after it; not volume."""
    bars, days = histories["MSFT"], list(histories["MSFT"])
    factor, expected = 1.0, {}
    paid = {date(2004, 8, 23): 0.08, date(2004, 11, 15): 3.08, date(2005, 2, 15): 0.08, date(2005, 5, 16): 0.08}
    for day, before in zip(reversed(days), [*reversed(days[:-1]), None], strict=True):
        expected[day] = bars[day].close * factor
        if day in paid and before is not None:
            factor *= 1 - paid[day] / bars[before].close
    found = lake.bars("MSFT", adjusted="all")
    assert found["close"].to_pylist() == pytest.approx([expected[day] for day in days], rel=1e-12)
    assert found["volume"].equals(lake.bars("MSFT")["volume"])
    assert lake.bars("MSFT", adjusted="splits").equals(lake.bars("MSFT"))


@pytest.mark.parametrize(
    ("as_of", "factor"),
    [
        ("2005-02-17T12:00:00+00:00", 1.0),  # not seen yet
        ("2005-02-18T12:00:00+00:00", 1.0),  # seen, not executed
        ("2005-02-28T04:59:59+00:00", 1.0),  # still the day before in New York
        ("2005-02-28T05:00:00+00:00", 0.5),
        (None, 0.5),
    ],
)
def test_as_of(lake: Lake, histories: dict[str, History], as_of: str | None, factor: float) -> None:
    """The adjustment is what the lake knew then, of what had taken effect by then; bars after it stay."""
    at = None if as_of is None else datetime.fromisoformat(as_of)
    found = lake.bars("AAPL", adjusted="splits", as_of=at)
    assert found["close"][0].as_py() == histories["AAPL"][FIRST].close * factor
    assert found["close"][-1].as_py() == histories["AAPL"][LAST].close
    raw = lake.bars("AAPL", interval="34d", as_of=at)
    splits = [] if factor == 1.0 else known_splits("AAPL")
    assert_close(raw, plain_periods(histories["AAPL"], 34, splits))


def test_splits_that_do_not_count(own: Store, histories: dict[str, History]) -> None:
    """Left out are a split that the price contradicts, one after the lake's last session, and, since then, a withdrawn one."""
    build(own, {"IBM": histories["IBM"]}, silver=False)
    withdrawn_at = datetime(2005, 4, 1, tzinfo=UTC)
    odd = [
        split("IBM", date(2004, 9, 1), 1, 3),
        split("IBM", date(2006, 1, 3), 1, 2),
        split("IBM", date(2005, 3, 1), 100, 110, withdrawn_at=withdrawn_at),
    ]
    update_splits(own, lambda _: odd)
    lake = Lake(own)
    assert lake.bars("IBM", adjusted="splits").equals(lake.bars("IBM"))
    before = lake.bars("IBM", adjusted="splits", as_of=withdrawn_at - timedelta(seconds=1))
    assert before["close"][0].as_py() == pytest.approx(histories["IBM"][FIRST].close / 1.1)
    assert lake.bars("IBM", adjusted="splits", as_of=withdrawn_at).equals(lake.bars("IBM"))


def test_dividends_that_do_not_count(own: Store, histories: dict[str, History]) -> None:
    """Left out are dividends in another currency than the prices, and those that go ex after the lake's last session."""
    build(own, {"IBM": histories["IBM"]}, silver=False)
    update_dividends(
        own, lambda _: [dividend("IBM", date(2005, 2, 8), 9, currency="CAD"), dividend("IBM", date(2006, 2, 8), 9)]
    )
    assert Lake(own).bars("IBM", adjusted="all").equals(Lake(own).bars("IBM"))


def test_bounds_are_inclusive(lake: Lake) -> None:
    """Daily bars are cut by session; period bars by the first session of their group, and never inside one."""
    found = lake.bars("AAPL", first=date(2005, 2, 25), last=date(2005, 3, 1))
    assert found["date"].to_pylist() == [date(2005, 2, 25), date(2005, 2, 28), date(2005, 3, 1)]
    every = lake.bars("AAPL", interval="13d")
    starts = every["date"].to_pylist()
    assert lake.bars("AAPL", interval="13d", first=starts[3], last=starts[5]).equals(every.slice(3, 3))
    some = lake.bars("AAPL", interval="13d", first=starts[3] + timedelta(days=1), last=starts[5] - timedelta(days=1))
    assert some.equals(every.slice(4, 1))
    assert lake.bars("AAPL", first=date(2020, 1, 2)).equals(DAILY_SCHEMA.empty_table())


class NotATime(datetime):
    """What pandas has for a missing time: a datetime that knows no offset."""

    def utcoffset(self) -> timedelta | None:
        """Raise what pandas raises."""
        raise ValueError("NaTType does not support utcoffset")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"interval": "0d"}, "interval '0d'"),
        ({"interval": "x"}, "interval 'x'"),
        ({"interval": "13"}, "interval '13'"),
        ({"interval": "100000d"}, "interval '100000d'"),
        ({"adjusted": "yes"}, "adjusted 'yes' is unknown; give one of none, splits, all"),
        ({"anchor": "moon"}, "anchor 'moon' is unknown; give one of calendar, listing"),
        ({"as_of": datetime(2005, 1, 1)}, "has no time zone"),  # noqa: DTZ001 - naive on purpose
        ({"as_of": NotATime(2005, 1, 1)}, "has no time zone"),
        ({"first": date(2005, 2, 1), "last": date(2005, 1, 1)}, "first 2005-02-01 is after last 2005-01-01"),
        ({"first": "2005-02-01"}, "first '2005-02-01' is no date"),
        ({"last": datetime(2005, 1, 1, tzinfo=UTC)}, "is no date"),
    ],
)
def test_bad_arguments(lake: Lake, options: dict[str, Any], says: str) -> None:
    """Each gets one line that says the value and the rule, before anything is read."""
    before = lake.store.meter.snapshot()
    with pytest.raises(ConfigError) as caught:
        lake.bars("AAPL", **options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert lake.store.meter.snapshot() == before


@pytest.mark.parametrize(
    ("symbol", "says"),
    [
        ("aapl", "did you mean AAPL?"),
        ("BCPC", "did you mean BCpC?"),
        ("MSTF", "did you mean MSFT?"),
        ("ZZZZ", "none is similar"),
        ("../x", "is not possible"),
    ],
)
def test_unknown_symbols(lake: Lake, symbol: str, says: str) -> None:
    """An unknown symbol is named with those that it may have been meant for; case matters."""
    with pytest.raises(ConfigError) as caught:
        lake.bars(symbol)
    assert symbol in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_lake(lake_url: str, tmp_path: Path) -> None:
    """Where nothing of a lake lies, opening says so and what to do, and makes nothing."""
    with pytest.raises(ConfigError, match=r"no lake at .*condvest fetch bars"):
        Lake.open(lake_url)
    assert not (tmp_path / "lake").exists()


def test_a_lake_that_only_landed(own: Store) -> None:
    """A lake without consolidated bars opens, and has no symbols."""
    _land(own, date(2005, 1, 3), {"IBM": Bar(1, 2, 1, 2, 10)}, datetime(2005, 1, 3, 22, tzinfo=UTC))
    lake = Lake.open(own.url)
    assert repr(lake) == f"Lake({own.url!r})"
    assert lake.symbols().num_rows == 0
    with pytest.raises(ConfigError, match="has no consolidated bars"):
        lake.bars("IBM")


def test_a_corrupt_file_is_named(own: Store, histories: dict[str, History]) -> None:
    """A file that is no parquet is a DataError with its key; other symbols go on."""
    build(own, {symbol: histories[symbol] for symbol in ("AAPL", "IBM")}, silver=False)
    own.put(layout.data_key("IBM"), b"PAR1 no longer")
    with pytest.raises(DataError, match=r"symbol=IBM/data\.parquet: not a readable parquet file"):
        Lake(own).bars("IBM")
    assert Lake(own).bars("AAPL").num_rows == len(histories["AAPL"])


def test_a_file_that_is_gone_is_named(own: Store, histories: dict[str, History]) -> None:
    """The manifest knows its symbol, so it is no unknown one."""
    build(own, {"IBM": histories["IBM"]}, silver=False)
    own.delete_many([layout.data_key("IBM")])
    with pytest.raises(
        DataError, match=r"symbol=IBM/data\.parquet: is gone from lake .*condvest consolidate --force-full"
    ):
        Lake(own).bars("IBM")


def test_a_file_without_rows(own: Store) -> None:
    """A `data.parquet` without rows gives no bars of any kind."""
    own.put(layout.data_key("IBM"), encode_history(DAILY_SCHEMA.empty_table()))
    lake = Lake.open(own.url)
    assert lake.bars("IBM", adjusted="all").equals(DAILY_SCHEMA.empty_table())
    assert lake.bars("IBM", interval="5d").equals(PERIOD_SCHEMA.empty_table())
    assert lake.symbols().select(["symbol", "row_count"]).to_pylist() == [{"symbol": "IBM", "row_count": 0}]


def test_symbols_with_and_without_a_state(built: Path, histories: dict[str, History], tmp_path: Path) -> None:
    """Each symbol with its last session and its rows; metadata where a state database is given, else null."""
    plain = Lake.open(str(built)).symbols()
    assert plain["symbol"].to_pylist() == sorted(histories)
    assert plain["last_consolidated_date"].to_pylist() == [max(histories[symbol]) for symbol in sorted(histories)]
    assert plain["row_count"].to_pylist() == [len(histories[symbol]) for symbol in sorted(histories)]
    assert plain["name"].null_count == len(histories)
    with State.open(f"sqlite:///{tmp_path}/state.sqlite", migrate=True) as state:
        rows = [SymbolRow(symbol="IBM", name="Business Machines", type="CS"), SymbolRow(symbol="NEW", name="No bars")]
        state.upsert_symbols(rows, SEEN)
        joined = Lake.open(str(built), state=state).symbols()
    assert joined.schema.equals(plain.schema)
    named = [row for row in joined.to_pylist() if row["name"] is not None]
    assert [(row["symbol"], row["name"], row["active"]) for row in named] == [("IBM", "Business Machines", True)]


@pytest.mark.parametrize("manifest", [None, b"no parquet"])
def test_the_manifest_is_only_a_cache(
    own: Store, histories: dict[str, History], manifest: bytes | None, lake: Lake
) -> None:
    """Without a manifest, or with a corrupt one, symbols and bars are the same: the files are listed and read."""
    build(own, histories, silver=False)
    if manifest is None:
        own.delete_many([layout.MANIFEST])
    else:
        own.put(layout.MANIFEST, manifest)
    assert Lake(own).symbols().equals(lake.symbols())
    assert Lake(own).bars("CON", interval="34d").equals(lake.bars("CON", interval="34d"))


def test_refresh_sees_new_corporate_actions(own: Store, histories: dict[str, History]) -> None:
    """Corporate actions are kept, so that bars cost one read; `refresh` forgets them."""
    build(own, {"AAPL": histories["AAPL"]}, silver=False)
    lake = Lake(own)
    assert lake.bars("AAPL", adjusted="splits")["close"][0].as_py() == histories["AAPL"][FIRST].close / 2
    before = own.meter.snapshot()
    lake.bars("AAPL", interval="5d", adjusted="splits")
    assert (own.meter.snapshot() - before).gets <= 2  # the bars, and once the closures
    update_splits(own, lambda _: [])
    assert lake.bars("AAPL", adjusted="splits")["close"][0].as_py() == histories["AAPL"][FIRST].close / 2
    lake.refresh()
    assert lake.bars("AAPL", adjusted="splits").equals(lake.bars("AAPL"))


def test_recorded_closures_count(own: Store, histories: dict[str, History]) -> None:
    """A closure that is recorded in the lake moves the ordinals after it, for the reader as for the jobs."""
    day = date(2005, 3, 1)
    bars = {session: bar for session, bar in histories["IBM"].items() if session != day}
    build(own, {"IBM": bars}, silver=False)
    own.put(layout.CLOSURES, json.dumps({"closures": [str(day)]}).encode())
    found = Lake(own).bars("IBM", interval="3d", first=date(2005, 2, 20), last=date(2005, 3, 20))
    closed = Lake(own, calendar=Calendar.shipped([day])).bars("IBM", interval="3d")
    assert set(found["n_sessions"].to_pylist()) == {3}
    assert found.to_pylist() == [row for row in closed.to_pylist() if row["date"] in found["date"].to_pylist()]


def test_reading_writes_nothing(built: Path, histories: dict[str, History]) -> None:
    """Whatever is read, no object and no folder is made, changed or removed."""

    def everything() -> list[tuple[str, int]]:
        return sorted((str(path), path.stat().st_mtime_ns) for path in built.rglob("*"))

    before = everything()
    lake = Lake.open(str(built))
    for symbol in histories:
        lake.bars(symbol, interval="8d", adjusted="all", anchor="listing")
    lake.refresh()
    lake.symbols(), lake.sessions(), lake.restatements(LAST)
    lake.sql("SELECT count(*) FROM bronze JOIN silver_3d USING (symbol, date)")
    assert everything() == before
    assert lake.store.meter.puts == lake.store.meter.deletes == 0


def _answer(session: date, bars: Mapping[str, Bar]) -> bytes:
    rows = [
        {"T": symbol, "o": bar.open, "h": bar.high, "l": bar.low, "c": bar.close, "v": bar.volume, "vw": bar.vwap}
        for symbol, bar in bars.items()
    ]
    return json.dumps({"status": "OK", "adjusted": False, "results": rows}).encode()


def _land(store: Store, session: date, bars: Mapping[str, Bar], at: datetime) -> layout.LandingKey:
    body = _answer(session, bars)
    key = layout.landing_key("grouped", session, at, parse_grouped(body, session).digest)
    store.put(key, pack(body))
    found = layout.parse_landing_key(key)
    assert found is not None
    return found


@pytest.fixture
def landed(own: Store) -> Store:
    """A lake of two sessions: one fetched in its evening, changed the next day, one confirmed."""
    day, other = date(2025, 11, 19), date(2025, 11, 20)
    first = {"AAPL": Bar(10, 12, 9, 11, 100, 10.5), "IBM": Bar(20, 22, 19, 21, 200), "MSFT": Bar(1, 2, 1, 2, 5)}
    _land(own, day, first, datetime(2025, 11, 19, 21, 5, tzinfo=UTC))
    changed = {"AAPL": Bar(10, 13, 9, 12, 101, 10.5), "IBM": first["IBM"], "NEW": Bar(1, 2, 1, 2, 5)}
    _land(own, day, changed, datetime(2025, 11, 20, 16, 5, tzinfo=UTC))
    key = _land(own, other, first, datetime(2025, 11, 20, 21, 5, tzinfo=UTC))
    now = datetime(2025, 11, 21, 16, 5, tzinfo=UTC)
    own.put(layout.confirmed_key(other, now, key.digest), receipt(key, now))
    _land(own, date(2025, 11, 21), first, datetime(2025, 11, 21, 21, 5, tzinfo=UTC))
    return own


def test_sessions_of_a_state(landed: Store, tmp_path: Path) -> None:
    """With a state database, sessions are its ledger."""
    rows = [
        LedgerRow(
            session_date=date(2025, 11, 19), state="final", source="grouped", rows=3, restated=1, fetched_at=SEEN
        ),
        LedgerRow(session_date=date(2025, 11, 20), state="pending", reason="not handed out yet"),
    ]
    with State.open(f"sqlite:///{tmp_path}/state.sqlite", migrate=True) as state:
        state.record(rows, watermarks={}, reason="fetch", now=SEEN)
        found = Lake(landed, state=state).sessions().to_pylist()
    assert [(row["session"], row["state"], row["rows"], row["restated"]) for row in found] == [
        (date(2025, 11, 19), "final", 3, 1),
        (date(2025, 11, 20), "pending", 0, 0),
    ]
    assert (found[0]["fetched_at"], found[1]["reason"]) == (SEEN, "not handed out yet")


def test_sessions_of_landing(landed: Store) -> None:
    """Without one, they are what landed: final when the provider was heard after its final run, by answer or receipt."""
    found = Lake.open(landed.url).sessions()
    assert [(row["session"].day, row["state"], row["source"], row["rows"]) for row in found.to_pylist()] == [
        (19, "final", "grouped", None),
        (20, "final", "grouped", None),
        (21, "provisional", "grouped", None),
    ]
    assert found["fetched_at"][1].as_py() == datetime(2025, 11, 20, 21, 5, tzinfo=UTC)


def test_restatements(landed: Store) -> None:
    """They name each bar that a later answer changed, with both values; new and withdrawn bars are none."""
    day = date(2025, 11, 19)
    body = json.dumps(
        {"ticker": "IBM", "results": [{"o": 20, "h": 22, "l": 19, "c": 20.5, "v": 200, "t": 1763528400000}]}
    ).encode()
    at = datetime(2025, 11, 25, tzinfo=UTC)
    landed.put(layout.range_landing_key("IBM", at, parse_range(body, "IBM").digest, day, day), pack(body))
    rows = Lake(landed).restatements(day).to_pylist()
    assert [(row["symbol"], row["date"], row["seen_at"]) for row in rows] == [
        ("AAPL", day, datetime(2025, 11, 20, 16, 5, tzinfo=UTC)),
        ("IBM", day, at),
    ]
    apple, ibm = rows
    assert [apple[name] for name in ("old_high", "new_high", "old_close", "new_close", "old_volume", "new_volume")] == [
        12, 13, 11, 12, 100, 101,
    ]  # fmt: skip
    assert (ibm["old_close"], ibm["new_close"], ibm["old_vwap"]) == (21, 20.5, None)
    assert Lake(landed).restatements(date(2025, 11, 20)).num_rows == 0
    assert Lake(landed).restatements(date(2025, 11, 24)).num_rows == 0
    with pytest.raises(ConfigError, match="is no date"):
        Lake(landed).restatements("2025-11-19")  # type: ignore[arg-type]  # what a person may try


def test_a_corrupt_landed_answer_is_named(landed: Store) -> None:
    """A landed answer that cannot be read is a DataError with its key."""
    key = next(info.key for info in landed.list(layout.landing_prefix("grouped", date(2025, 11, 19))))
    landed.put(key, gzip.compress(b"x")[:-4])
    with pytest.raises(DataError, match="the landed answer is corrupt"):
        Lake(landed).restatements(date(2025, 11, 19))


@pytest.mark.parametrize("move", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_lake_stays_in_its_process(lake: Lake, move: Callable[[Lake], object]) -> None:
    """Whoever would send it to another process is told what to send in its place."""
    with pytest.raises(TypeError, match=r"hand over its url, and open that with Lake\.open"):
        move(lake)


def test_import_is_light() -> None:
    """`import condvest` alone loads no library; `Lake` comes when it is asked for, and loads no DuckDB."""
    code = (
        "import sys, condvest\n"
        "assert not {'pyarrow', 'numpy', 'duckdb', 'sqlalchemy'} & sys.modules.keys()\n"
        "from condvest import Lake\n"
        "assert 'pyarrow' in sys.modules and not {'duckdb', 'sqlalchemy', 'obstore', 'httpx'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_version() -> None:
    """The package says the version that it was installed as; a name that it lacks is an AttributeError."""
    assert condvest.__version__ == importlib.metadata.version("condvest")
    with pytest.raises(AttributeError, match="no attribute 'Sea'"):
        condvest.Sea  # noqa: B018 - asking is the test


def test_no_bar_of_the_halted_symbol_is_lost(histories: dict[str, History]) -> None:
    """The made symbol is as its description says: the tests above mean something."""
    assert CON_SPLIT not in histories["CON"]
    assert max(day for day in histories["CON"] if day < CON_SPLIT) == date(2005, 1, 11)


def test_a_file_of_another_symbol_is_not_read(own: Store) -> None:
    """Swapped files give no bars under the wrong name."""
    build(own, {symbol: sample_histories()[symbol] for symbol in ("AAPL", "IBM")}, silver=False)
    own.put(layout.data_key("IBM"), own.get(layout.data_key("AAPL")).data)
    lake = Lake.open(own.url)
    with pytest.raises(DataError, match="another symbol than IBM"):
        lake.bars("IBM")
    with pytest.raises(DataError, match="another symbol than IBM"):
        lake.sql("FROM bronze_adjusted_all")

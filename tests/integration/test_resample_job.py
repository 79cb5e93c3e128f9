"""Resampling: whatever happens to the daily bars, silver ends byte for byte as one full run over them would make it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from itertools import count
from pathlib import Path

import pytest

from condvest.domain.calendar import INTERVALS
from condvest.errors import CommitConflict, DataError
from condvest.jobs import silver_write
from condvest.jobs.resample import resample
from condvest.storage import layout
from condvest.storage.parquet import encode_history
from integration.jobs_kit import DAYS, SYMBOLS, Kit, bar, market_of, survive_every_kill
from integration.watched_lake import pass_by

FEW = SYMBOLS[:3]
#: Groups of three sessions, by the calendar: the lake begins inside one.
#: 2025-10-31..11-04, 11-05..11-07, 11-10..11-12, 11-13..11-17, 11-18..11-20, 11-21..11-25, 11-26..12-01, 12-02..
TODAY = DAYS[10]  # Monday 17 November


@pytest.fixture
def built(tmp_path: Path) -> Iterator[Kit]:
    """Three symbols, eleven sessions, consolidated and resampled to 3 and 5 sessions."""
    with Kit(tmp_path / "built", market=market_of(DAYS[:30], FEW)) as kit:
        yield filled(kit)


def filled(kit: Kit) -> Kit:
    """Fetch eleven sessions of each symbol, consolidate and resample them."""
    symbols = sorted(kit.market.bars[TODAY])
    kit.evening(TODAY).fetch_symbols(*symbols, first=DAYS[0], last=TODAY)
    kit.consolidate()
    kit.resample(3, 5)
    kit.lake.touched = []
    return kit


def one_more(kit: Kit, session: date) -> None:
    """Do the evening's work of a session, up to consolidation."""
    kit.evening(session).fetch(session)
    kit.consolidate()
    kit.lake.touched = []


def periods(kit: Kit, sessions: int, symbol: str) -> list[tuple[date, date, float, float, int, bool]]:
    """Return start, end, open, close, sessions and completeness of a symbol's period bars, ascending."""
    names = ("date", "end_date", "open", "close", "n_sessions", "complete")
    rows = [row for key in kit.listed(layout.silver_prefix(sessions)) for row in kit.table(key).to_pylist()]
    found = sorted(tuple(row[name] for name in names) for row in rows if row["symbol"] == symbol)
    return [(start, end, first, last, number, whole) for start, end, first, last, number, whole in found]


def november(day: int) -> date:
    """Return a day of November 2025."""
    return date(2025, 11, day)


# --- what is built ----------------------------------------------------------------------------------------------


def test_D08_groups_are_those_of_the_calendar(built: Kit) -> None:
    """A group's bounds are scheduled sessions, wherever a symbol begins; a bar says if it is complete."""
    assert periods(built, 3, "AAPL") == [
        (date(2025, 10, 31), november(4), 99.0, 101.0, 2, True),
        (november(5), november(7), 101.0, 104.0, 3, True),
        (november(10), november(12), 104.0, 107.0, 3, True),
        (november(13), november(17), 107.0, 110.0, 3, True),
    ]
    last = periods(built, 5, "AAPL")[-1]
    assert last[-2:] == (built.calendar.ordinal(TODAY) % 5 + 1, built.calendar.ordinal(TODAY) % 5 == 4)


def test_all_columns_of_a_period_bar(built: Kit) -> None:
    """Highest high, lowest low, first open, last close, sums, and vwap weighted by volume."""
    (row,) = [
        row
        for row in built.table(layout.silver_key(3, 2025, 11)).to_pylist()
        if row["symbol"] == "BCpC" and row["date"] == november(5)
    ]
    assert (row["high"], row["low"], row["volume"], row["transactions"]) == (126.0, 119.0, 3001.5, 36)
    assert row["vwap"] == pytest.approx(122.5)


def test_a_file_holds_the_groups_that_start_in_its_month(built: Kit) -> None:
    """One object a month and interval, all symbols, sorted by symbol, then date."""
    assert built.listed(layout.silver_prefix(3)) == [layout.silver_key(3, 2025, 10), layout.silver_key(3, 2025, 11)]
    rows = built.table(layout.silver_key(3, 2025, 11)).to_pylist()
    assert [(row["symbol"], row["date"].day) for row in rows] == [(s, d) for s in FEW for d in (5, 10, 13)]


def test_an_unchanged_lake_writes_nothing(built: Kit) -> None:
    """Rule 8: 0 PUT, 0 DELETE, no daily bar read, and it says so."""
    reports, read = [], list[str]()
    built.lake.on_read = read.append
    cost = built.cost(lambda: reports.append(built.resample(3, 5)))
    assert (cost.puts, cost.deletes, reports[0].nothing_new) == (0, 0, True)
    assert [key for key in read if key.startswith(layout.BRONZE)] == []


def test_force_full_on_a_sound_lake_writes_nothing(built: Kit) -> None:
    """Incremental equals rebuild, byte for byte: there is nothing to write."""
    assert built.cost(lambda: built.resample(3, 5, force_full=True)).puts == 0


def test_months_of_a_large_market_are_built_alike(built: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is given back after each of them, with the same bytes as before."""
    monkeypatch.setattr(silver_write, "_LARGE_BARS", 1)
    assert built.cost(lambda: built.resample(3, 5, force_full=True)).puts == 0


def test_all_six_intervals_read_each_symbol_once(built: Kit) -> None:
    """Daily bars are read once for all intervals."""
    built.store.delete_many(built.listed(layout.SILVER))
    read: list[str] = []
    built.lake.on_read = read.append
    report = built.resample()
    assert sorted(report.intervals) == list(INTERVALS)
    assert sorted(key for key in read if key.startswith(layout.BRONZE)) == sorted(map(layout.data_key, FEW))
    built.assert_as_rebuilt(*INTERVALS)


def test_an_empty_lake_is_nothing_new(kit: Kit) -> None:
    """No bars, no files, no checkpoint."""
    assert kit.resample().nothing_new
    assert kit.listed() == []


# --- what changes -----------------------------------------------------------------------------------------------


def test_D07_every_new_session_is_as_rebuilt(built: Kit) -> None:
    """Day by day over a month's end and a holiday: each evening equals a full run."""
    built.evening(DAYS[15]).fetch_symbols(*FEW, first=DAYS[11], last=DAYS[15])
    for session in DAYS[16:24]:
        one_more(built, session)
        assert built.resample(3, 5).intervals == {3: "updated", 5: "updated"}
        built.assert_as_rebuilt()
    assert periods(built, 3, "AAPL")[-2:] == [
        (date(2025, 12, 2), date(2025, 12, 4), 119.0, 122.0, 3, True),
        (date(2025, 12, 5), date(2025, 12, 9), 122.0, 123.0, 1, False),
    ]


def test_a_new_session_costs_its_own_month_and_no_history(built: Kit) -> None:
    """Only the groups that hold it are computed again, from the cache of recent bars."""
    one_more(built, DAYS[11])
    report = built.resample(3)
    assert built.lake.touched == [layout.silver_key(3, 2025, 11), layout.checkpoint_key(3)]
    assert (report.symbols_read, report.symbols_cached, report.months_written, report.bars_written) == (0, 3, 1, 3)


def test_history_is_read_only_where_recent_bars_do_not_reach_back(tmp_path: Path) -> None:
    """A new session is computed from the cache; a restatement of long ago from the whole history."""
    sessions = Kit(tmp_path).calendar.sessions(date(2024, 11, 1), date(2025, 11, 14))
    with Kit(tmp_path / "long", market=market_of(sessions, FEW[:2])) as kit:
        kit.evening(sessions[-2]).fetch_symbols(*FEW[:2], first=sessions[0], last=sessions[-2])
        kit.resample(3, 34)
        one_more(kit, sessions[-1])
        report = kit.resample(3, 34)
        assert (report.symbols_read, report.symbols_cached) == (0, 2)
        kit.market.set_bar("BCPC", sessions[9], bar(9.0))
        kit.fetch(sessions[9])
        kit.consolidate()
        report = kit.resample(3, 34)
        assert (report.symbols_read, report.symbols_cached) == (1, 0)
        kit.assert_as_rebuilt()


def test_D06_a_month_file_keeps_its_other_bars(built: Kit) -> None:
    """The month file keeps its other bars; later groups are as they were."""
    before = periods(built, 3, "BCPC")
    built.market.set_bar("BCPC", DAYS[1], bar(500.0))
    built.fetch(DAYS[1])
    built.consolidate()
    built.lake.touched = []
    built.resample(3, 5)
    after = periods(built, 3, "BCPC")
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, True, True, True]
    assert after[0][3] == 500.0
    assert layout.silver_key(3, 2025, 11) not in built.lake.touched  # that group starts in October
    built.assert_as_rebuilt()


def test_D08_a_late_old_session_joins_its_group(built: Kit) -> None:
    """A hole is filled in place and moves no later bar."""
    late = built.market.bars[DAYS[4]].pop("AAPL")
    built.market.bars[DAYS[4]]["LATE"] = late
    built.fetch(DAYS[4])  # AAPL's bar of that day stays: what was given once is not taken back
    built.market.set_bar("LATE", DAYS[8], bar(20.0))
    built.fetch(DAYS[8])
    built.consolidate()
    built.resample(3, 5)
    assert [row[4] for row in periods(built, 3, "LATE")] == [1, 1]
    built.market.set_bar("LATE", DAYS[3], bar(30.0))
    built.fetch(DAYS[3])
    built.consolidate()
    built.resample(3, 5)
    assert [(row[0], row[4]) for row in periods(built, 3, "LATE")] == [(november(5), 2), (november(13), 1)]
    built.assert_as_rebuilt()


def test_a_symbol_that_stops_trading_completes_with_the_lake(built: Kit) -> None:
    """A group is complete when the lake has passed its end, whether or not the symbol still trades."""
    for session in DAYS[11:14]:
        built.market.remove_bar("BCPC", session)
    one_more(built, DAYS[11])
    built.market.set_bar("BCPC", DAYS[11], bar(90.0))
    built.fetch(DAYS[11])
    built.consolidate()
    built.resample(3, 5)
    assert periods(built, 3, "BCPC")[-1] == (november(18), november(20), 89.0, 90.0, 1, False)
    for session in DAYS[12:14]:
        one_more(built, session)
        built.resample(3, 5)
        built.assert_as_rebuilt()
    assert periods(built, 3, "BCPC")[-1] == (november(18), november(20), 89.0, 90.0, 1, True)


def test_a_new_symbol_is_built_whole(built: Kit) -> None:
    """A symbol that the checkpoint does not know comes with all its history."""
    built.market.set_bar("NEW", DAYS[11], bar(10.0))
    one_more(built, DAYS[11])
    built.fetch_symbols("NEW", first=DAYS[0], last=DAYS[11])
    built.resample(3, 5)
    assert periods(built, 3, "NEW") == [(november(18), november(20), 9.0, 10.0, 1, False)]
    built.assert_as_rebuilt()


def test_a_history_that_is_lost_does_not_leave_silver(built: Kit) -> None:
    """The manifest knows it: nothing is written, and the error says what brings it back."""
    before = built.files(layout.SILVER)
    built.store.delete_many([layout.data_key("BCpC")])
    with pytest.raises(DataError, match=r"BC%70C.*is gone.*consolidate --force-full"):
        built.resample(3, 5)
    assert built.files(layout.SILVER) == before
    built.consolidate(force_full=True)
    built.resample(3, 5)
    assert built.files(layout.SILVER) == before


def test_symbols_beyond_the_universe_may_be_taken_out(built: Kit) -> None:
    """Who narrows the universe may remove the other folders: silver follows, though the manifest still knows them."""
    universe = frozenset({"AAPL"})
    gone = [key for key in built.listed(layout.BRONZE) if not key.startswith(layout.symbol_prefix("AAPL"))]
    built.store.delete_many(gone)
    with pytest.raises(DataError, match="is gone"):
        built.resample(3)
    report = resample(built.lake, calendar=built.calendar, intervals=[3, 5], universe=universe)
    assert report.intervals == {3: "rebuilt", 5: "rebuilt"}
    assert periods(built, 3, "BCpC") == []
    assert len(periods(built, 3, "AAPL")) == 4


@pytest.mark.parametrize("lost", [["BCpC"], FEW])
def test_nor_where_silver_alone_knows_of_it(built: Kit, lost: list[str]) -> None:
    """Folder and manifest are lost, of one symbol or of all; the checkpoints tell what silver was built from."""
    before = built.files(layout.SILVER)
    folders = [key for symbol in lost for key in built.listed(layout.symbol_prefix(symbol))]
    built.store.delete_many([*folders, layout.MANIFEST])
    for intervals in ([3, 5], [5], [8]):
        with pytest.raises(DataError, match=r"is gone, though the lake had it.*consolidate --force-full"):
            built.resample(*intervals)
    assert built.files(layout.SILVER) == before
    built.consolidate(force_full=True)
    built.resample(3, 5)
    assert built.files(layout.SILVER) == before


def test_a_symbol_that_was_taken_out_leaves_silver(built: Kit) -> None:
    """Its files, what landed and all that knows of it were removed by hand: silver follows the consolidated bars."""
    caches = [layout.MANIFEST, layout.checkpoint_key(3), layout.checkpoint_key(5)]
    built.store.delete_many([*built.listed(layout.symbol_prefix("BCpC")), *caches])
    built.store.delete_many(built.listed(layout.LANDING))
    assert built.resample(3, 5).intervals == {3: "rebuilt", 5: "rebuilt"}
    assert periods(built, 3, "BCpC") == []
    assert len(periods(built, 3, "AAPL")) == 4


def test_many_consolidations_between_two_resamples(tmp_path: Path) -> None:
    """However far behind silver is, it catches up to what a full run gives."""
    with Kit(tmp_path, market=market_of(DAYS[:30], FEW[:1])) as kit:
        filled(kit)
        for session in DAYS[11:25]:
            one_more(kit, session)
        kit.market.set_bar("AAPL", DAYS[0], bar(700.0))
        kit.fetch(DAYS[0])
        kit.consolidate()
        kit.resample(3, 5)
        kit.assert_as_rebuilt()


def test_an_interval_can_be_built_later_and_alone(built: Kit) -> None:
    """Each interval has its own checkpoint."""
    one_more(built, DAYS[11])
    assert built.resample(3).intervals == {3: "updated"}
    one_more(built, DAYS[12])
    assert built.resample(5, 8).intervals == {5: "updated", 8: "rebuilt"}
    built.resample(3)
    built.assert_as_rebuilt(3, 5, 8)


def test_a_history_that_got_shorter_leaves_no_bar_behind(built: Kit) -> None:
    """A `data.parquet` is restored from an older copy: months in which the symbol has no bar any more lose its old ones."""
    key = layout.data_key("AAPL")
    bars = built.table(key)
    built.store.put(key, encode_history(bars.slice(0, 1)))
    assert built.resample(3, 5).intervals == {3: "rebuilt", 5: "rebuilt"}
    assert len(periods(built, 3, "AAPL")) == 1
    assert built.cost(lambda: built.resample(3, 5, force_full=True)).puts == 0


# --- splits -----------------------------------------------------------------------------------------------------


def with_split(kit: Kit, symbol: str, day: date, split_from: float, split_to: float) -> None:
    """Announce a split and fetch metadata."""
    kit.market.add_split(symbol, day, split_from, split_to)
    kit.after(minutes=1).fetch_meta()
    kit.lake.touched = []


def halved(kit: Kit, first: int) -> None:
    """Let AAPL trade at half from `DAYS[first]` on."""
    for number, session in enumerate(DAYS[:30]):
        if number >= first:
            kit.market.set_bar("AAPL", session, bar((100.0 + number) / 2))


def test_a_split_inside_a_group_brings_its_first_sessions_to_the_new_basis(tmp_path: Path) -> None:
    """Prices before it times from/to, volume the other way; groups before and after stay raw."""
    with Kit(tmp_path, market=market_of(DAYS[:30], FEW)) as kit:
        halved(kit, 6)  # Tuesday 11 November, the second session of its group
        filled(kit)
        before = periods(kit, 3, "AAPL")
        with_split(kit, "AAPL", DAYS[6], 1, 2)
        kit.resample(3, 5)
        after = periods(kit, 3, "AAPL")
        assert [old == new for old, new in zip(before, after, strict=True)] == [True, True, False, True]
        assert after[2] == (november(10), november(12), 52.0, 53.5, 3, True)
        (row,) = [
            row
            for row in kit.table(layout.silver_key(3, 2025, 11)).to_pylist()
            if row["symbol"] == "AAPL" and row["date"] == november(10)
        ]
        assert (row["high"], row["volume"]) == (55.5, 1000.5 * 4)
        kit.assert_as_rebuilt()


def test_a_split_at_the_start_of_a_group_touches_no_stored_bar(tmp_path: Path) -> None:
    """A later split changes no stored bar: adjusted prices are a matter of reading."""
    with Kit(tmp_path, market=market_of(DAYS[:30], FEW)) as kit:
        halved(kit, 5)
        filled(kit)
        files = kit.files(layout.silver_prefix(3))
        with_split(kit, "AAPL", DAYS[5], 1, 2)
        assert kit.resample(3).months_written == 0
        assert kit.files(layout.silver_prefix(3)) == files
        assert kit.resample(3).nothing_new
        kit.assert_as_rebuilt()


def test_a_split_that_is_withdrawn_leaves_no_trace(tmp_path: Path) -> None:
    """Silver goes back to what it is without it."""
    with Kit(tmp_path, market=market_of(DAYS[:30], FEW)) as kit:
        halved(kit, 6)
        filled(kit)
        raw = kit.files(layout.SILVER)
        with_split(kit, "AAPL", DAYS[6], 1, 2)
        kit.market.add_split("IBM", DAYS[0], 1, 2)  # so that the listing is not short
        kit.resample(3, 5)
        assert kit.files(layout.SILVER) != raw
        del kit.market.splits[0]
        kit.after(minutes=1).fetch_meta()
        kit.resample(3, 5)
        assert kit.files(layout.SILVER) == raw
        kit.assert_as_rebuilt()


def test_a_split_of_the_future_counts_from_its_day_on(tmp_path: Path) -> None:
    """Announced weeks before, it changes nothing until the lake reaches it, and then its own group."""
    with Kit(tmp_path, market=market_of(DAYS[:30], FEW)) as kit:
        halved(kit, 12)  # Wednesday 19 November, the second session of its group
        filled(kit)
        with_split(kit, "AAPL", DAYS[12], 1, 2)
        assert kit.resample(3, 5).nothing_new
        one_more(kit, DAYS[11])
        kit.resample(3, 5)
        assert periods(kit, 3, "AAPL")[-1][2:4] == (110.0, 111.0)
        one_more(kit, DAYS[12])
        kit.resample(3, 5)
        assert periods(kit, 3, "AAPL")[-1][2:4] == (55.0, 56.0)
        kit.assert_as_rebuilt()


@pytest.mark.parametrize("day", [DAYS[11], november(16)], ids=["a session", "a Sunday"])
def test_a_split_that_comes_into_effect_costs_the_months_of_its_own_group(tmp_path: Path, day: date) -> None:
    """Months before it are neither read nor written: many symbols split on an ordinary day."""
    with Kit(tmp_path, market=market_of(DAYS[:30], FEW)) as kit:
        halved(kit, 11 if day == DAYS[11] else 10)
        kit.evening(DAYS[9]).fetch_symbols(*FEW, first=DAYS[0], last=DAYS[9])
        kit.consolidate()
        with_split(kit, "AAPL", day, 1, 2)
        kit.resample(3, 5)
        kit.evening(DAYS[11]).fetch(DAYS[10], DAYS[11])
        kit.consolidate()
        read: list[str] = []
        kit.lake.on_read = read.append
        assert kit.resample(3, 5).months_written
        assert [
            key
            for key in read
            if key.startswith((layout.BRONZE + "symbol", layout.silver_prefix(3) + "year=2025/month=10"))
        ] == []
        kit.assert_as_rebuilt()


def test_a_split_that_the_price_contradicts_is_not_applied(built: Kit) -> None:
    """Wrong rows are common: a jump of nothing bears out no split. A restatement can turn the verdict."""
    raw = built.files(layout.SILVER)
    with_split(built, "AAPL", DAYS[6], 1, 2)
    built.resample(3, 5)
    assert built.files(layout.SILVER) == raw
    for session in DAYS[6:11]:
        built.market.set_bar("AAPL", session, bar(53.0))
    built.next_morning(TODAY).fetch(*DAYS[6:11])
    built.consolidate()
    built.resample(3, 5)
    assert periods(built, 3, "AAPL")[2][2] == 52.0
    built.assert_as_rebuilt()


# --- closures ---------------------------------------------------------------------------------------------------


def test_a_recorded_closure_rebuilds_silver(built: Kit) -> None:
    """Ordinals after it move by one: the calendar's version changes, and with it every later group."""
    built.market.add_closure(DAYS[12], "National Day of Mourning")
    del built.market.bars[DAYS[12]]
    built.fetch_meta()
    assert built.resample(3, 5).intervals == {3: "rebuilt", 5: "rebuilt"}
    for session in (DAYS[11], DAYS[13], DAYS[14]):
        one_more(built, session)
        built.resample(3, 5)
        built.assert_as_rebuilt()
    assert periods(built, 3, "AAPL")[-1] == (november(18), november(21), 110.0, 114.0, 3, True)


# --- caches and files that are lost or wrong --------------------------------------------------------------------


@pytest.mark.parametrize("body", [None, b"", b"{}", b'{"version": 99, "interval_sessions": 3}', b"\xff"])
def test_a_checkpoint_that_is_lost_or_corrupt_is_built_again(built: Kit, body: bytes | None) -> None:
    """Rule 7: the interval is computed anew; its files are right already, so only the checkpoint is written."""
    key, good = layout.checkpoint_key(3), built.store.get(layout.checkpoint_key(3)).data
    if body is None:
        built.store.delete_many([key])
    else:
        built.store.put(key, body)
    assert built.resample(3, 5).intervals == {3: "rebuilt", 5: "unchanged"}
    assert built.lake.touched == [key]
    assert built.store.get(key).data == good


def test_silver_of_another_writer_version_is_built_anew(built: Kit) -> None:
    """Bytes are compared, so a new kernel or parquet writer means a full run."""
    key = layout.checkpoint_key(3)
    content = json.loads(built.store.get(key).data)
    built.store.put(key, json.dumps(content | {"builder": "kernel0/writer0"}).encode())
    assert built.resample(3).intervals == {3: "rebuilt"}
    built.assert_as_rebuilt()


@pytest.mark.parametrize("how", ["lost", "corrupt", "foreign"])
def test_month_files_that_are_not_as_they_were_left_are_built_again(lake_url: str, tmp_path: Path, how: str) -> None:
    """Lost, corrupt, or one too many: silver is a function of the daily bars; and the run says that it wrote."""
    with Kit(tmp_path, market=market_of(DAYS[:30], FEW[:1]), lake_url=lake_url) as kit:
        filled(kit)
        key = layout.silver_key(3, 2025, 11)
        if how == "lost":
            kit.store.delete_many([key])
        elif how == "corrupt":
            kit.store.put(key, b"not parquet")
        else:
            kit.store.put(layout.silver_key(3, 1999, 1), kit.store.get(key).data)
        report = kit.resample(3, 5)
        assert (report.nothing_new, report.intervals) == (False, {3: "rebuilt", 5: "unchanged"})
        assert (report.months_written, report.months_removed) == ((0, 1) if how == "foreign" else (1, 0))
        kit.assert_as_rebuilt()
        assert kit.resample(3, 5).nothing_new


@pytest.mark.parametrize("how", ["lost", "corrupt", "stale", "wrong"])
def test_recent_bars_that_are_lost_or_stale_are_harmless(built: Kit, how: str) -> None:
    """Rule 7: a cache of another version is not used; without it the history is read."""
    old = built.store.get(layout.RECENT_BARS).data
    one_more(built, DAYS[11])
    if how == "lost":
        built.store.delete_many([layout.RECENT_BARS])
    else:
        body = {"corrupt": b"not parquet", "stale": old, "wrong": built.store.get(layout.MANIFEST).data}[how]
        built.store.put(layout.RECENT_BARS, body)
    report = built.resample(3, 5)
    assert (report.symbols_read, report.symbols_cached) == (3, 0)
    built.assert_as_rebuilt()


def test_a_lost_manifest_changes_nothing_in_silver(built: Kit) -> None:
    """Rule 7: what is not known is read; what is right is not written."""
    built.store.delete_many([layout.MANIFEST])
    assert built.resample(3, 5).nothing_new
    one_more(built, DAYS[11])
    built.store.delete_many([layout.MANIFEST])
    built.resample(3, 5)
    built.assert_as_rebuilt()


def test_a_corrupt_consolidated_file_stops_the_run_before_any_write(built: Kit) -> None:
    """Silver without one of its symbols would be wrong: nothing is written, the file is named."""
    one_more(built, DAYS[11])
    files = built.files("silver/")
    good = built.store.get(layout.data_key("BCPC")).data
    built.store.put(layout.data_key("BCPC"), b"not parquet")
    with pytest.raises(DataError, match=layout.data_key("BCPC")):
        built.resample(3, 5)
    assert built.files("silver/") == files
    built.store.put(layout.data_key("BCPC"), good)
    built.resample(3, 5)
    built.assert_as_rebuilt()


# --- two writers, crashes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [layout.silver_key(3, 2025, 11), layout.checkpoint_key(3), layout.checkpoint_key(5)])
def test_another_resample_in_between_is_planned_again(built: Kit, key: str) -> None:
    """Rule 6: the loser of a race reads again; both end in the same silver."""
    one_more(built, DAYS[11])

    def other() -> None:
        one_more(built, DAYS[12])
        built.resample(3, 5)

    built.lake.first(key, other)
    built.resample(3, 5)
    assert periods(built, 3, "AAPL")[-1][3] == 112.0
    built.assert_as_rebuilt()


def test_a_consolidation_in_between_is_caught_up_with(built: Kit) -> None:
    """Bars that change while silver is built: the next run brings them, none is taken for built."""
    one_more(built, DAYS[11])

    def other() -> None:
        built.market.set_bar("AAPL", DAYS[2], bar(900.0))
        built.fetch(DAYS[2])
        built.consolidate(skip_cleanup=True)

    built.lake.first(layout.silver_key(3, 2025, 11), other)
    built.resample(3, 5)
    built.resample(3, 5)
    built.assert_as_rebuilt()


def test_a_writer_that_never_gets_its_turn_gives_up_clearly(built: Kit) -> None:
    """After 8 lost races the run ends with an error."""
    one_more(built, DAYS[11])
    numbers = count()

    def always(key: str) -> None:
        if key == layout.checkpoint_key(3):
            built.store.put(key, json.dumps(next(numbers)).encode())

    built.lake.before_write = always
    with pytest.raises(CommitConflict, match="other writers were first"):
        built.resample(3)
    built.lake.before_write = pass_by
    built.resample(3, 5)
    built.assert_as_rebuilt()


def test_a_resample_that_is_killed_anywhere_is_completed_by_the_next(tmp_path: Path) -> None:
    """Rules 1 and 5: month files, then the checkpoint; after any kill the next run ends as a clean one."""
    numbers = count()

    @contextmanager
    def make() -> Iterator[Kit]:
        with Kit(tmp_path / str(next(numbers)), market=market_of(DAYS[:30], FEW[:1])) as kit:
            filled(kit).market.set_bar("AAPL", DAYS[0], bar(500.0))
            kit.fetch(DAYS[0])
            one_more(kit, DAYS[11])
            yield kit

    def check(kit: Kit) -> None:
        kit.resample(3, 5)
        kit.assert_as_rebuilt(3, 5)
        assert kit.resample(3, 5).nothing_new

    # Two months of 3 sessions, one of 5, and a checkpoint of each.
    assert survive_every_kill(make, lambda kit: kit.resample(3, 5), check) == 5


def test_on_every_kind_of_lake(lake_url: str, tmp_path: Path) -> None:
    """New session, restatement, split: the same on a folder and on S3."""
    with Kit(tmp_path, market=market_of(DAYS[:30], FEW), lake_url=lake_url) as kit:
        filled(kit)
        kit.market.set_bar("BCpC", DAYS[2], bar(444.0))
        kit.fetch(DAYS[2])
        with_split(kit, "BCPC", DAYS[11], 1, 2)
        kit.market.set_bar("BCPC", DAYS[11], bar(60.0))
        one_more(kit, DAYS[11])
        kit.resample(3, 5)
        kit.assert_as_rebuilt()
        assert kit.cost(lambda: kit.resample(3, 5)).puts == 0


def test_a_file_that_was_rebuilt_under_its_known_etag_may_have_lost_bars(built: Kit, tmp_path: Path) -> None:
    """Bytes that went bad in place keep the ETag that the manifest knows: what landing no longer has leaves silver too."""
    one_more(built, DAYS[11])
    built.resample(3, 5)
    path = tmp_path / "built" / "lake" / layout.data_key("AAPL")
    before = path.stat()
    path.write_bytes(bytes(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    lost = [key for key in built.listed(layout.landing_prefix("range")) if "symbol=AAPL" in key]
    built.store.delete_many([*lost, *(layout.daily_key("AAPL", day) for day in DAYS[:11])])
    assert built.consolidate(force_full=True).files_set_aside == 1
    built.resample(3, 5)
    assert [start for start, *_ in periods(built, 3, "AAPL")] == [november(18)]
    built.assert_as_rebuilt()

"""Consolidation: every `date=` file that lies there ends in its symbol's `data.parquet`, and nothing is lost on the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from itertools import count
from pathlib import Path

import pyarrow as pa
import pytest

from condvest.domain.bars import DAILY_SCHEMA
from condvest.domain.calendar import new_york_date
from condvest.domain.shard import Shard
from condvest.errors import CommitConflict, ConfigError, DataError, TransientError
from condvest.jobs.vacuum import first_kept
from condvest.storage import layout
from condvest.storage.fetched import write_fetched
from condvest.storage.manifest import read_manifest
from condvest.storage.opening import open_store
from condvest.storage.parquet import encode_history, encode_row
from integration.jobs_kit import DAYS, SYMBOLS, Kit, bar, market_of, survive_every_kill
from integration.watched_lake import pass_by
from servers.faulty_proxy import Answer, FaultyProxy, SpoilAnswer, running_proxy
from servers.seaweed import S3Server

DAY, NEXT, THIRD = DAYS[:3]
FEW = SYMBOLS[:3]
AAPL = layout.data_key("AAPL")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Kit]:
    """A lake of three symbols on the evening of the third session: two are consolidated, the third waits."""
    with Kit(tmp_path / "small", market=market_of(DAYS[:30], FEW)) as kit:
        yield filled(kit)


def filled(kit: Kit) -> Kit:
    """Fetch three sessions of each symbol and consolidate two."""
    kit.evening(NEXT).fetch_symbols(*sorted(kit.market.bars[DAY]), first=DAY, last=NEXT)
    kit.consolidate()
    kit.evening(THIRD).fetch(THIRD)
    kit.lake.touched = []
    return kit


def daily_row(kit: Kit, key: str, **changes: object) -> bytes:
    """Return a `date=` file with some of its values replaced."""
    (row,) = kit.table(key).to_pylist()
    return encode_row(pa.Table.from_pylist([row | changes], schema=DAILY_SCHEMA))


# --- what is merged ---------------------------------------------------------------------------------------------


def test_every_daily_file_ends_in_the_consolidated_one(small: Kit) -> None:
    """One row a session, ascending, the values as fetched, `ingested_at` too."""
    report = small.consolidate()
    assert (report.symbols, report.symbols_changed, report.sessions_added, report.sessions_changed) == (3, 3, 3, 0)
    assert (report.last_session, report.left, report.nothing_new) == (THIRD, [], False)
    rows = small.consolidated("BCpC")
    assert [(row["date"], row["close"]) for row in rows] == [(DAY, 120.0), (NEXT, 121.0), (THIRD, 122.0)]
    assert rows[2] == small.table(layout.daily_key("BCpC", THIRD)).to_pylist()[0]
    small.assert_as_rebuilt()


def test_data_then_what_points_at_it(small: Kit) -> None:
    """Rule 5: each `data.parquet`, then the caches that speak of them."""
    small.consolidate()
    assert sorted(small.lake.touched[:3]) == sorted(layout.data_key(symbol) for symbol in FEW)
    assert small.lake.touched[3:] == [layout.RECENT_BARS, layout.MANIFEST]


# --- what is read -----------------------------------------------------------------------------------------------


def test_files_whose_rows_are_known_are_not_read(small: Kit, tmp_path: Path) -> None:
    """One object a session takes the place of a read for each symbol; the result is that of reading all."""
    with Kit(tmp_path / "without", market=market_of(DAYS[:30], FEW)) as kit:
        filled(kit).store.delete_many([layout.fetched_key(THIRD)])
        by_file, with_it = kit.cost(lambda: kit.consolidate()), small.cost(lambda: small.consolidate())
        assert by_file.gets - with_it.gets == len(FEW)
        assert kit.consolidated("BCpC") == small.consolidated("BCpC")
    assert small.closes_of_data("BCpC")[THIRD] == 122.0
    small.assert_as_rebuilt()


def test_a_file_that_changed_since_it_was_written_is_read(small: Kit) -> None:
    """What is known of a file is true of one version of it; another one counts as it lies there."""
    key = layout.daily_key("BCpC", THIRD)
    later = small.table(key)["ingested_at"][0].as_py() + timedelta(minutes=1)
    small.store.put(key, daily_row(small, key, close=121.5, ingested_at=later))
    small.consolidate()
    assert (small.closes_of_data("BCpC")[THIRD], small.closes_of_data("AAPL")[THIRD]) == (121.5, 102.0)


@pytest.mark.parametrize("how", ["lost", "cut", "of another session"])
def test_without_the_fetched_bars_all_files_are_read(small: Kit, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """They are a cache: the result is the same, and one that is there and cannot be used is logged."""
    key = layout.fetched_key(THIRD)
    body = small.store.get(key).data
    small.store.delete_many([key])
    if how == "cut":
        small.store.put(key, body[: len(body) // 2])
    elif how == "of another session":
        small.evening(DAYS[3]).fetch(DAYS[3])
        small.store.put(key, small.store.get(layout.fetched_key(DAYS[3])).data)
    small.consolidate()
    assert small.closes_of_data("BCpC")[THIRD] == 122.0
    assert ("fetched_bars_unreadable" in caplog.text) == (how != "lost")
    small.assert_as_rebuilt()


def test_a_file_that_may_go_is_read(small: Kit) -> None:
    """Rule 7: what decides that a file goes is what it holds, never what a cache says of it."""
    key, other = layout.daily_key("BCpC", THIRD), layout.daily_key("AAPL", THIRD)
    true_rows = pa.concat_tables([small.table(key), small.table(other)])
    lying = small.store.put(key, small.store.get(other).data)
    write_fetched(small.store, true_rows, [lying, small.store.get(other).etag])
    report = small.after(days=40).consolidate()
    assert len(report.left) == 1
    assert key in small.files()
    assert other not in small.files()


@pytest.mark.parametrize("known", [True, False])
def test_a_file_goes_on_the_day_after_the_last_that_it_is_kept(small: Kit, known: bool) -> None:
    """A session as old as the retention stays; what is known without a read and what is read and removed share the boundary."""
    if not known:
        small.store.delete_many([layout.fetched_key(THIRD)])
    files = {layout.daily_key(symbol, THIRD) for symbol in FEW}
    assert new_york_date(small.now) == THIRD
    assert first_kept(small.now + timedelta(days=30), 30) == THIRD
    small.after(days=30).consolidate(retention_days=30)
    assert set(small.daily_keys()) == files
    assert small.after(days=1).consolidate(retention_days=30).files_removed == len(FEW)
    assert small.daily_keys() == []


def test_no_retention_is_too_long(small: Kit) -> None:
    """Whoever wants that nothing goes may say so by any number of days."""
    assert first_kept(small.now, 10**9) == date.min
    assert small.after(days=99).consolidate(retention_days=10**9).files_removed == 0


def test_of_a_few_symbols_the_files_are_read(small: Kit) -> None:
    """An object with a whole market is no shorter way to one bar."""
    with_it = small.cost(lambda: small.consolidate(symbols=["AAPL"])).gets
    small.store.delete_many([layout.fetched_key(THIRD)])
    assert with_it == small.cost(lambda: small.consolidate(symbols=["BCPC"])).gets


def test_a_full_run_reads_every_file(small: Kit) -> None:
    """It believes no cache."""
    key = layout.fetched_key(THIRD)
    read = small.cost(lambda: small.consolidate(force_full=True)).gets
    small.store.delete_many([key])
    assert small.cost(lambda: small.consolidate(force_full=True)).gets == read


# --- what is written --------------------------------------------------------------------------------------------


def test_a_second_run_with_nothing_new_writes_nothing(small: Kit) -> None:
    """Rule 8: 0 PUT, 0 DELETE, and it says so."""
    small.consolidate()
    reports = []
    cost = small.cost(lambda: reports.append(small.consolidate()))
    assert (cost.puts, cost.deletes, reports[0].nothing_new) == (0, 0, True)


def test_a_second_run_reads_no_bars(small: Kit) -> None:
    """The manifest spares reading what is merged already."""
    small.consolidate()
    read: list[str] = []
    small.lake.on_read = read.append
    small.consolidate()
    assert [key for key in read if key.startswith(layout.BRONZE)] == []


def test_D05_a_late_older_session_is_merged_like_any_other(small: Kit) -> None:
    """What there is to do follows from what lies there, not from the last date consolidated."""
    small.evening(DAYS[8]).fetch(DAYS[8])
    small.consolidate()
    small.fetch(DAYS[6])
    report = small.consolidate()
    assert (report.symbols_changed, report.sessions_added) == (3, 3)
    assert list(small.closes("AAPL")) == [DAY, NEXT, THIRD, DAYS[6], DAYS[8]]
    small.assert_as_rebuilt()


def test_D13_a_restated_bar_replaces_its_own_and_counts_once(small: Kit) -> None:
    """Two values of one session are one row, the later one."""
    small.consolidate()
    small.market.set_bar("AAPL", THIRD, bar(333.0))
    small.next_morning(THIRD).fetch()
    report = small.consolidate()
    assert (report.symbols_changed, report.sessions_added, report.sessions_changed) == (1, 0, 1)
    assert [row["close"] for row in small.consolidated("AAPL")] == [100.0, 101.0, 333.0]
    small.assert_as_rebuilt()


def test_an_older_value_never_replaces_a_newer_one(small: Kit) -> None:
    """A `date=` file with an earlier `ingested_at` changes nothing, whenever it turns up."""
    small.consolidate()
    key = layout.daily_key("AAPL", NEXT)
    early = small.now - timedelta(days=90)
    small.store.put(key, daily_row(small, key, close=1.0, ingested_at=early))
    report = small.consolidate()
    assert (report.symbols_changed, small.consolidated("AAPL")[1]["close"]) == (0, 101.0)


def test_single_symbols_can_be_consolidated(small: Kit) -> None:
    """`--symbols` limits the work; the manifest keeps the others."""
    report = small.consolidate(symbols=["BCpC"])
    assert (report.symbols, report.symbols_changed) == (1, 1)
    assert [len(small.consolidated(symbol)) for symbol in FEW] == [2, 2, 3]
    assert set(read_manifest(small.store)) == set(FEW)
    assert small.consolidate().symbols_changed == 2


@pytest.mark.parametrize("force_full", [False, True])
def test_a_symbol_that_the_lake_has_not_is_named(small: Kit, force_full: bool) -> None:
    """Rule 10: what was asked for by name and is not there is left, with its name; the rest is done."""
    report = small.consolidate(symbols=["BCpC", "bcpc"], force_full=force_full)
    assert [line.partition(": ")[0] for line in report.left] == ["symbol 'bcpc'"]
    assert len(small.consolidated("BCpC")) == 3


def test_each_part_of_the_market_names_its_own(small: Kit) -> None:
    """Of several parts at once one tells of a symbol that is not there."""
    told = [small.consolidate(symbols=["bcpc"], shard=Shard(part, 3)).left for part in range(3)]
    assert sorted(map(len, told)) == [0, 0, 1]


def test_the_manifest_says_what_each_file_holds(small: Kit) -> None:
    """symbol, last date, rows and the latest `ingested_at`: no clock time of a run, so a rebuild gives the same."""
    small.consolidate()
    entry = read_manifest(small.store)["BCpC"]
    assert (entry.last_consolidated_date, entry.row_count, entry.last_updated) == (THIRD, 3, small.now)


# --- caches that are lost or wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [None, b"", b"not parquet", b"PAR1garbagePAR1"])
def test_D02_a_manifest_that_is_lost_or_corrupt_is_built_again(small: Kit, body: bytes | None) -> None:
    """Old history stays, the manifest comes back as it was."""
    small.consolidate()
    files, manifest = small.files(layout.BRONZE), read_manifest(small.store)
    if body is None:
        small.store.delete_many([layout.MANIFEST])
    else:
        small.store.put(layout.MANIFEST, body)
    assert small.consolidate().left == []
    assert small.files(layout.BRONZE) == files
    assert {symbol: entry.row_count for symbol, entry in read_manifest(small.store).items()} == dict.fromkeys(FEW, 3)
    assert read_manifest(small.store)["AAPL"].merged == manifest["AAPL"].merged


def test_a_manifest_of_another_version_decides_nothing(small: Kit) -> None:
    """Rule 7: an entry is true of one version of a `data.parquet`; restored from a copy, it is not believed."""
    copy = small.store.get(AAPL).data
    small.consolidate()
    small.store.put(AAPL, copy)
    report = small.consolidate()
    assert report.symbols_changed == 1
    assert len(small.consolidated("AAPL")) == 3
    small.assert_as_rebuilt()


def test_D01_history_outlives_its_daily_files_and_the_manifest(small: Kit) -> None:
    """With `date=` files vacuumed and no manifest, a new session joins old history and does not replace it."""
    small.evening(THIRD).after(days=40)
    small.consolidate()
    assert small.daily_keys() == []
    small.store.delete_many([layout.MANIFEST])
    small.evening(DAYS[29]).fetch(DAYS[29])
    small.consolidate()
    assert list(small.closes("AAPL")) == [DAY, NEXT, THIRD, DAYS[29]]
    small.assert_as_rebuilt()


# --- files that cannot be used ----------------------------------------------------------------------------------


def test_a_corrupt_daily_file_is_left_and_named_while_the_rest_goes_on(small: Kit) -> None:
    """Rule 10: its symbol's other sessions and all other symbols are merged; the run says what is left, each time."""
    key = layout.daily_key("AAPL", THIRD)
    small.store.put(key, b"not parquet")
    small.evening(DAYS[3]).fetch(DAYS[3])
    report = small.consolidate()
    assert [line.startswith(f"{key}: not a readable parquet file") for line in report.left] == [True]
    assert list(small.closes_of_data("AAPL")) == [DAY, NEXT, DAYS[3]]
    assert len(small.consolidated("BCpC")) == 4
    assert small.consolidate().left == report.left
    small.fetch(THIRD)
    assert small.store.get(key).data == b"not parquet"  # a fetch that brings nothing new writes nothing
    assert small.consolidate(force_full=True).left == report.left
    assert len(small.consolidated("AAPL")) == 4  # from landing


@pytest.mark.parametrize(
    ("what", "spoil"),
    [
        ("another symbol", {"symbol": "BCPC"}),
        ("must hold the one bar", {"date": NEXT}),
        ("holds nulls", {"close": None}),
        ("holds nulls", {"ingested_at": None}),
    ],
)
def test_a_daily_file_that_is_not_what_its_key_says_is_left(small: Kit, what: str, spoil: dict[str, object]) -> None:
    """A file is held against its key: symbol, session, no nulls where none may be."""
    key = layout.daily_key("AAPL", THIRD)
    small.store.put(key, daily_row(small, key, **spoil))
    report = small.consolidate()
    assert [what in line and line.startswith(key) for line in report.left] == [True]
    assert len(small.consolidated("AAPL")) == 2


def test_a_foreign_file_is_passed_over(small: Kit) -> None:
    """What condvest did not write is neither read nor removed."""
    foreign = f"{layout.symbol_prefix('AAPL')}notes.txt"
    small.store.put(foreign, b"mine")
    assert small.consolidate().left == []
    assert small.store.get(foreign).data == b"mine"


def test_a_corrupt_consolidated_file_is_refused_and_stays(small: Kit) -> None:
    """It is never overwritten by recent files alone: the run names it, merges the other symbols and ends as left."""
    small.store.put(AAPL, b"not parquet")
    report = small.consolidate()
    assert [line.startswith(f"{AAPL}: not a readable parquet file") for line in report.left] == [True]
    assert small.store.get(AAPL).data == b"not parquet"
    assert len(small.consolidated("BCpC")) == 3


def test_force_full_sets_a_corrupt_file_aside_and_rebuilds_from_landing(small: Kit) -> None:
    """The bytes are kept in quarantine; every row that landed is back, vacuumed `date=` files or not."""
    small.after(days=40).consolidate()
    assert small.daily_keys() == []
    small.store.put(AAPL, b"not parquet")
    report = small.consolidate(force_full=True)
    assert (report.left, report.symbols_changed) == ([], 1)
    assert small.closes("AAPL") == {DAY: 100.0, NEXT: 101.0, THIRD: 102.0}
    (kept,) = small.listed(f"{layout.QUARANTINE}files/")
    assert layout.parse_quarantined_file_key(kept) is not None
    assert small.store.get(kept).data == b"not parquet"
    small.assert_as_rebuilt()


def test_an_answer_about_many_sessions_that_cannot_be_read_is_named_once(small: Kit) -> None:
    """Not once for each session that it is about: a range answer may be about twenty years of them."""
    small.fetch_symbols("BCpC", first=DAY, last=THIRD)
    small.market.set_bar("BCpC", DAY, bar(60.0))
    small.fetch_symbols("BCpC", first=DAY, last=THIRD)
    key = small.listed(layout.landing_prefix("range"))[-1]
    small.store.put(key, b"no answer")
    left = small.consolidate(force_full=True).left
    assert [line.partition(": ")[0] for line in left] == [key]


def test_D01_a_file_that_is_gone_is_not_begun_anew_from_recent_days(small: Kit) -> None:
    """What is left of a symbol's bars is never taken for all of them: it is named, until it is rebuilt."""
    key = layout.data_key("BCPC")
    small.lake.delete_many([key])
    report = small.consolidate()
    assert len(report.left) == 1
    assert report.left[0].startswith(f"{key}: is gone, though it held 2 bars up to {NEXT}")
    assert key not in small.listed(layout.BRONZE)
    assert small.consolidate(force_full=True).left == []
    assert [row["date"] for row in small.consolidated("BCPC")] == [DAY, NEXT, THIRD]


def test_D01_nor_is_it_where_the_manifest_is_lost_too(small: Kit) -> None:
    """Silver was built from it, which its checkpoint tells; what is new in the market has no such past."""
    key = layout.data_key("BCPC")
    small.resample(3)
    silver = small.files(layout.SILVER)
    small.market.set_bar("NEW", DAYS[3], bar(10.0))
    small.evening(DAYS[3]).fetch(DAYS[3])
    small.store.delete_many([key, layout.MANIFEST])
    for _ in range(2):  # the second time there is a manifest again, which does not know the symbol
        assert [line.partition(";")[0] for line in small.consolidate().left] == [
            f"{key}: is gone, though silver was built from it"
        ]
        assert small.closes_of_data("NEW").keys() == {DAYS[3]}
        with pytest.raises(DataError, match="is gone, though the lake had it"):
            small.resample(3)
    assert small.files(layout.SILVER) == silver
    assert small.consolidate(force_full=True).left == []
    assert [row["date"] for row in small.consolidated("BCPC")] == DAYS[:4]
    small.resample(3)
    small.assert_as_rebuilt()


def test_D01_nor_by_bars_of_a_range(small: Kit) -> None:
    """A backfill too merges into a history, and begins none where one is lost."""
    small.resample(3)
    small.store.delete_many([*small.listed(layout.symbol_prefix("BCPC")), layout.MANIFEST])
    report = small.evening(DAYS[24]).fetch_symbols("BCPC", first=DAYS[3], last=DAYS[24])
    assert "is gone, though silver was built from it" in "".join(report.unmerged)
    assert small.consolidated("BCPC") == []


def test_a_symbol_of_which_every_file_is_gone_is_named(small: Kit) -> None:
    """A folder that a restore left out is no symbol less: the manifest knows it, and it is told until it is back."""
    small.consolidate()
    lost = small.listed(layout.symbol_prefix("BCPC"))
    small.store.delete_many(lost)
    for symbols in (None, ["BCPC"]):
        report = small.consolidate(symbols=symbols)
        assert [line.partition(": ")[0] for line in report.left] == [layout.data_key("BCPC")]
    assert small.consolidate(symbols=["AAPL"]).left == []
    assert small.consolidate(force_full=True).left == []
    assert [row["date"] for row in small.consolidated("BCPC")] == [DAY, NEXT, THIRD]


def test_beyond_the_universe_no_symbol_is_missed(small: Kit) -> None:
    """Symbols that a lake is limited to no longer can be taken out of it."""
    small.consolidate()
    small.store.delete_many(small.listed(layout.symbol_prefix("BCPC")))
    small.universe = frozenset({"AAPL"})
    assert small.consolidate().left == []


def test_force_full_brings_back_a_file_that_is_gone(small: Kit) -> None:
    """Landing is the truth: a lost `data.parquet` whose `date=` files are gone too comes back whole."""
    small.after(days=40).consolidate()
    small.store.delete_many([AAPL])
    small.consolidate(force_full=True)
    assert small.closes("AAPL") == {DAY: 100.0, NEXT: 101.0, THIRD: 102.0}
    small.assert_as_rebuilt()


def test_force_full_changes_nothing_in_a_sound_lake(small: Kit) -> None:
    """Incremental equals rebuild: not one byte of bronze is written."""
    small.consolidate()
    reports = []
    cost = small.cost(lambda: reports.append(small.consolidate(force_full=True)))
    assert (cost.puts, cost.deletes, reports[0].nothing_new) == (0, 0, True)


# --- errors of the store ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [TransientError("503"), ConfigError("403")])
def test_D03_a_file_that_cannot_be_asked_for_is_not_absent(small: Kit, error: Exception) -> None:
    """Only a certain "not there" counts as absent; any other failure ends the run and changes nothing."""
    before = small.files(layout.BRONZE)
    small.lake.refuse(AAPL, error)
    with pytest.raises(type(error)):
        small.consolidate()
    assert small.files(layout.BRONZE) == before
    small.lake.on_read = pass_by
    small.consolidate()
    small.assert_as_rebuilt()


@pytest.fixture
def wired(
    s3_server: S3Server, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Kit, FaultyProxy]]:
    """A lake of one symbol on a real S3 server, whose jobs go through a proxy; `kit.store` goes there directly."""
    with (
        Kit(tmp_path, market=market_of(DAYS[:3], FEW[:1]), lake_url=s3_url) as kit,
        running_proxy(s3_server.endpoint_url) as proxy,
    ):
        filled(kit)
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        kit.lake.store = open_store(s3_url)
        yield kit, proxy


@pytest.mark.s3
def test_D03_a_server_that_refuses_a_read_is_not_taken_for_an_empty_lake(wired: tuple[Kit, FaultyProxy]) -> None:
    """On the wire: the server's answer to the read is 403."""
    kit, proxy = wired
    before = kit.files(layout.BRONZE)
    # The listing and the manifest pass; the file itself is refused.
    proxy.faults["GET"] = [None, None]
    proxy.always["GET"] = Answer(403)
    with pytest.raises(ConfigError, match="403"):
        kit.consolidate()
    assert "PUT" not in proxy.seen
    proxy.always.clear()
    assert kit.files(layout.BRONZE) == before
    kit.consolidate()
    assert len(kit.consolidated("AAPL")) == 3


@pytest.mark.s3
def test_a_file_that_the_network_spoiled_is_not_taken_for_a_bad_one(wired: tuple[Kit, FaultyProxy]) -> None:
    """A full run replaces what cannot be read; what reads otherwise the second time is read again, and keeps all its bars."""
    kit, proxy = wired
    kit.after(days=40).consolidate()
    kit.store.delete_many(kit.listed(layout.landing_prefix("range")))  # landing has one session of three
    left = [SpoilAnswer()]
    proxy.weather = lambda method, path: (
        left.pop() if left and method == "GET" and path.endswith("AAPL/data.parquet") else None
    )
    assert kit.consolidate(force_full=True).files_set_aside == 0
    assert left == []
    assert kit.closes_of_data("AAPL") == {DAY: 100.0, NEXT: 101.0, THIRD: 102.0}
    assert kit.listed(layout.QUARANTINE) == []


# --- two writers ------------------------------------------------------------------------------------------------


def other_merge(kit: Kit) -> None:
    """Another consolidation: it merges a session that this run has not listed."""
    kit.evening(DAYS[3]).fetch(DAYS[3])
    kit.consolidate(skip_cleanup=True)


def test_D25_another_writer_between_read_and_write_loses_nothing(small: Kit) -> None:
    """Rule 6: the loser reads again; both writers' sessions are there."""
    small.lake.first(AAPL, lambda: other_merge(small))
    report = small.consolidate()
    assert report.left == []
    assert list(small.closes_of_data("AAPL")) == [DAY, NEXT, THIRD, DAYS[3]]
    assert read_manifest(small.store)["AAPL"].row_count == 4
    small.consolidate()
    small.assert_as_rebuilt()


def test_another_writer_of_a_new_symbol_loses_nothing(small: Kit) -> None:
    """A first `data.parquet` is written only if there is none."""
    small.market.set_bar("NEW", DAYS[3], bar(10.0))
    small.market.set_bar("NEW", DAYS[4], bar(11.0))
    small.evening(DAYS[3]).fetch(DAYS[3])

    def other() -> None:
        small.evening(DAYS[4]).fetch(DAYS[4])
        small.consolidate(skip_cleanup=True)

    small.lake.first(layout.data_key("NEW"), other)
    small.consolidate()
    assert small.closes_of_data("NEW") == {DAYS[3]: 10.0, DAYS[4]: 11.0}
    small.assert_as_rebuilt()


def test_another_writer_of_the_manifest_keeps_its_entries(small: Kit) -> None:
    """Each writer puts its own symbols in place of their older entries and leaves the others."""

    def other() -> None:
        small.consolidate(symbols=["BCpC"], skip_cleanup=True)

    small.lake.first(layout.MANIFEST, other)
    small.consolidate(symbols=["AAPL"])
    manifest = read_manifest(small.store)
    assert {symbol: manifest[symbol].row_count for symbol in FEW} == {"AAPL": 3, "BCPC": 2, "BCpC": 3}


def test_a_daily_file_that_is_written_meanwhile_is_read_as_it_is_now(small: Kit) -> None:
    """A file restated between listing and reading is taken as read, and not read again for it by the next run."""
    key = layout.daily_key("AAPL", THIRD)
    fresh = daily_row(small, key, close=500.0, ingested_at=small.now + timedelta(hours=1))

    def rewrite(read: str) -> None:
        if read == AAPL:
            small.lake.on_read = pass_by
            small.store.put(key, fresh)

    small.lake.on_read = rewrite
    small.consolidate()
    assert small.consolidated("AAPL")[2]["close"] in (102.0, 500.0)
    small.consolidate()
    assert small.consolidated("AAPL")[2]["close"] == 500.0


def test_a_writer_that_never_gets_its_turn_gives_up_clearly(small: Kit) -> None:
    """After 20 lost races the run ends with an error that names the symbol; nothing is lost."""

    def always(key: str) -> None:
        if key == AAPL:
            small.store.put(AAPL, small.store.get(AAPL).data)

    small.lake.before_write = always
    with pytest.raises(CommitConflict, match="AAPL"):
        small.consolidate()
    small.lake.before_write = pass_by
    small.consolidate()
    small.assert_as_rebuilt()


# --- cleanup and settings ---------------------------------------------------------------------------------------


def test_files_past_retention_go_once_they_are_merged(small: Kit) -> None:
    """Cleanup follows the merge in the same run; sessions within retention stay."""
    small.evening(DAYS[20]).fetch(DAYS[20])
    report = small.consolidate(retention_days=7)
    assert report.files_removed == 9
    assert small.daily_keys() == sorted(layout.daily_key(symbol, DAYS[20]) for symbol in FEW)
    small.assert_as_rebuilt()


def test_skip_cleanup_keeps_every_file(small: Kit) -> None:
    """`skip_cleanup` merges and removes nothing."""
    small.after(days=40)
    assert small.consolidate(skip_cleanup=True).files_removed == 0
    assert len(small.daily_keys()) == 9
    assert small.consolidate().files_removed == 9


@pytest.mark.parametrize("retention_days", [-1, 0, 6])
def test_D04_a_retention_that_is_too_short_is_refused(small: Kit, retention_days: int) -> None:
    """Below 7 days nothing is done at all, merge included."""
    with pytest.raises(ConfigError, match=f"retention {retention_days} days"):
        small.consolidate(retention_days=retention_days)
    assert small.lake.touched == []


def test_an_empty_lake_is_nothing_new(kit: Kit) -> None:
    """No symbols, no writes, no error."""
    report = kit.consolidate()
    assert (report.nothing_new, report.symbols, kit.lake.touched) == (True, 0, [])
    assert kit.consolidate(force_full=True).nothing_new


# --- crashes ----------------------------------------------------------------------------------------------------


def test_a_consolidation_that_is_killed_anywhere_is_completed_by_the_next(tmp_path: Path) -> None:
    """Rules 1, 2, 5: after a kill before any write or delete every row is in a file, and the next run ends as a clean one."""
    numbers = count()

    @contextmanager
    def make() -> Iterator[Kit]:
        with Kit(tmp_path / str(next(numbers)), market=market_of(DAYS[:21], FEW[:1])) as kit:
            filled(kit).evening(DAYS[20]).fetch(DAYS[20])
            yield kit

    def check(kit: Kit) -> None:
        expected = {day: 100.0 + DAYS.index(day) for day in (DAY, NEXT, THIRD, DAYS[20])}
        assert kit.closes("AAPL") == expected
        report = kit.consolidate(retention_days=7)
        assert (report.left, kit.closes_of_data("AAPL")) == ([], expected)
        assert len(kit.daily_keys()) == 1
        kit.assert_as_rebuilt()

    # The data file, two caches, the cleanup manifest, three deletes.
    assert survive_every_kill(make, lambda kit: kit.consolidate(retention_days=7), check) == 7


def test_on_every_kind_of_lake(lake_url: str, tmp_path: Path) -> None:
    """Merge, restate, race, clean up: the same on a folder and on S3."""
    with Kit(tmp_path, market=market_of(DAYS[:22], FEW), lake_url=lake_url) as kit:
        filled(kit).lake.first(AAPL, lambda: other_merge(kit))
        kit.consolidate()
        kit.market.set_bar("BCpC", DAYS[3], bar(1234.0))
        kit.next_morning(DAYS[3]).fetch()
        kit.consolidate()
        assert kit.cost(kit.consolidate).puts == 0
        kit.after(days=60)
        assert kit.consolidate().files_removed == 12
        assert kit.closes("BCpC") == {DAY: 120.0, NEXT: 121.0, THIRD: 122.0, DAYS[3]: 1234.0}
        kit.assert_as_rebuilt()


def test_rows_of_the_same_instant_merge_the_same_in_any_order(small: Kit) -> None:
    """Should two values of a session share their `ingested_at`, the values decide: no order of files matters."""
    key = layout.daily_key("AAPL", THIRD)
    small.consolidate()
    merged = []
    for data_close, daily_close in ((300.0, 400.0), (400.0, 300.0)):
        rows = small.consolidated("AAPL")
        rows[2]["close"] = data_close
        small.store.put(AAPL, encode_history(pa.Table.from_pylist(rows, schema=DAILY_SCHEMA)))
        small.store.put(key, daily_row(small, key, close=daily_close))
        small.consolidate()
        merged.append(small.consolidated("AAPL")[2]["close"])
    assert merged[0] == merged[1]

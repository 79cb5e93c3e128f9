"""Vacuum: a `date=` file goes only when it is past retention and its row is, by content, in the committed `data.parquet`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path

import pyarrow as pa
import pytest

from condvest.domain.bars import DAILY_SCHEMA
from condvest.errors import CommitConflict, ConfigError
from condvest.storage import layout
from condvest.storage.parquet import encode_row
from integration.jobs_kit import DAYS, SYMBOLS, Kit, bar, market_of, survive_every_kill
from integration.watched_lake import pass_by

DAY, NEXT, THIRD = DAYS[:3]
FEW = SYMBOLS[:3]


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Kit]:
    """A lake of three symbols, three sessions consolidated, forty days later: nine `date=` files are past retention."""
    with Kit(tmp_path / "old", market=market_of(DAYS[:30], FEW)) as kit:
        yield filled(kit)


def filled(kit: Kit) -> Kit:
    """Fetch and consolidate three sessions of each symbol, and let forty days go by."""
    kit.evening(THIRD).fetch_symbols(*sorted(kit.market.bars[DAY]), first=DAY, last=THIRD)
    kit.consolidate(skip_cleanup=True)
    kit.lake.touched = []
    return kit.after(days=40)


def tamper(kit: Kit, key: str, *, later: timedelta = timedelta(0), **changes: object) -> None:
    """Replace values of a `date=` file, as if seen `later`."""
    (row,) = kit.table(key).to_pylist()
    changes["ingested_at"] = row["ingested_at"] + later
    kit.store.put(key, encode_row(pa.Table.from_pylist([row | changes], schema=DAILY_SCHEMA)))


# --- what goes --------------------------------------------------------------------------------------------------


def test_files_past_retention_go_and_their_bars_stay(old: Kit) -> None:
    """Every row is in `data.parquet` before and after."""
    before = old.files(layout.BRONZE)
    report = old.vacuum()
    assert (report.files_removed, report.kept, report.left, report.nothing_new) == (9, 0, [], False)
    assert old.files(layout.BRONZE) == {key: data for key, data in before.items() if key.endswith("data.parquet")}
    assert old.closes("BCpC") == {DAY: 120.0, NEXT: 121.0, THIRD: 122.0}
    old.assert_as_rebuilt()


def test_a_second_run_removes_and_writes_nothing(old: Kit) -> None:
    """Rule 8: 0 PUT, 0 DELETE, and it says so."""
    old.vacuum()
    reports = []
    cost = old.cost(lambda: reports.append(old.vacuum()))
    assert (cost.puts, cost.deletes, reports[0].nothing_new) == (0, 0, True)


def test_retention_counts_days_of_new_york_up_to_its_bound(old: Kit) -> None:
    """A session is past retention from one day more than `retention_days` on; the date is New York's, not UTC's."""
    old.now = datetime.fromisoformat("2025-12-04T04:30:00+00:00")  # 23:30 on 3 December in New York
    assert old.vacuum(retention_days=30).files_removed == 0
    old.now += timedelta(hours=1)
    report = old.vacuum(retention_days=30)
    assert report.removed == sorted(layout.daily_key(symbol, DAY) for symbol in FEW)


def test_a_symbol_that_the_lake_has_not_is_named(old: Kit) -> None:
    """Rule 10: what was asked for by name and is not there is left, with its name; the rest is done."""
    report = old.vacuum(symbols=["BCpC", "bcpc"])
    assert (report.files_removed, [line.partition(": ")[0] for line in report.left]) == (3, ["symbol 'bcpc'"])


def test_single_symbols_can_be_vacuumed(old: Kit) -> None:
    """`--symbols` limits the work."""
    assert old.vacuum(symbols=["BCpC"]).files_removed == 3
    assert len(old.daily_keys()) == 6


# --- what proves it ---------------------------------------------------------------------------------------------


def test_D04_a_row_that_differs_is_kept(old: Kit) -> None:
    """Proof is by content. The same session with another value is no proof."""
    key = layout.daily_key("AAPL", NEXT)
    tamper(old, key, close=101.5)
    report = old.vacuum()
    assert (report.files_removed, report.kept) == (8, 1)
    assert old.daily_keys() == [key]


def test_a_row_seen_later_is_kept_until_it_is_merged(old: Kit) -> None:
    """A restatement that no consolidation has read yet is the only copy: it stays, and goes after the merge."""
    key = layout.daily_key("AAPL", NEXT)
    tamper(old, key, later=timedelta(hours=1), close=101.5)
    assert old.vacuum().kept == 1
    report = old.consolidate()
    assert (report.sessions_changed, report.files_removed) == (1, 1)
    assert old.closes("AAPL")[NEXT] == 101.5
    assert old.daily_keys() == []


def test_a_row_that_a_later_value_replaced_goes(old: Kit) -> None:
    """What `data.parquet` holds is newer: the older value is in landing, and needed no more."""
    tamper(old, layout.daily_key("AAPL", NEXT), later=-timedelta(hours=1), close=99.0)
    assert old.vacuum().files_removed == 9
    assert old.closes("AAPL")[NEXT] == 101.0


def test_without_a_consolidated_file_nothing_goes(old: Kit) -> None:
    """Rule 3: no `data.parquet`, no proof."""
    old.store.delete_many([layout.data_key("AAPL")])
    report = old.vacuum()
    assert (report.files_removed, report.kept) == (6, 3)
    assert old.closes("AAPL") == {DAY: 100.0, NEXT: 101.0, THIRD: 102.0}


def test_a_corrupt_consolidated_file_proves_nothing(old: Kit) -> None:
    """Its symbol keeps every file and is named; the others are cleaned up."""
    key = layout.data_key("AAPL")
    old.store.put(key, b"not parquet")
    report = old.vacuum()
    assert report.files_removed == 6
    assert [line.startswith(f"{key}: not a readable parquet file") for line in report.left] == [True]


def test_a_corrupt_daily_file_is_kept_and_named(old: Kit) -> None:
    """A file that cannot be read cannot be proven."""
    key = layout.daily_key("BCPC", THIRD)
    old.store.put(key, b"not parquet")
    report = old.vacuum()
    assert (report.files_removed, old.daily_keys()) == (8, [key])
    assert [line.startswith(key) for line in report.left] == [True]


def test_the_manifest_decides_nothing(old: Kit) -> None:
    """Rule 7: lost or not, the proof is read from the files."""
    old.store.delete_many([layout.MANIFEST])
    tamper(old, layout.daily_key("AAPL", NEXT), close=101.5)
    assert old.vacuum().files_removed == 8


def test_a_foreign_file_is_not_removed(old: Kit) -> None:
    """What condvest did not write stays, and so does the landing zone."""
    foreign = f"{layout.symbol_prefix('AAPL')}date=2025-11-03.csv"
    old.store.put(foreign, b"mine")
    landed = old.listed(layout.LANDING)
    old.vacuum()
    assert old.store.get(foreign).data == b"mine"
    assert old.listed(layout.LANDING) == landed


# --- settings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("retention_days", "force"), [(-1, False), (-1, True), (0, False), (6, False)])
def test_D04_a_retention_that_is_too_short_is_refused(old: Kit, retention_days: int, force: bool) -> None:
    """Below 7 days only by force, below 0 never; nothing is removed."""
    with pytest.raises(ConfigError, match=f"retention {retention_days} days: must"):
        old.vacuum(retention_days=retention_days, force=force)
    assert len(old.daily_keys()) == 9


def test_force_allows_a_shorter_retention_and_is_recorded(old: Kit) -> None:
    """Forced by name, still proven by content."""
    old.evening(THIRD).after(days=1)
    assert old.vacuum(retention_days=0, force=True).files_removed == 9
    (run,) = json.loads(old.store.get(layout.CLEANUP_MANIFEST).data)["runs"]
    assert (run["retention_days"], run["forced"]) == (0, True)


def test_a_dry_run_says_exactly_what_a_real_run_removes(old: Kit) -> None:
    """The same proof, no write, no delete."""
    tamper(old, layout.daily_key("AAPL", NEXT), close=101.5)
    reports = []
    cost = old.cost(lambda: reports.append(old.vacuum(dry_run=True)))
    assert (cost.puts, cost.deletes, reports[0].nothing_new) == (0, 0, True)
    real = old.vacuum()
    assert (reports[0].removed, reports[0].kept, reports[0].left) == (real.removed, real.kept, real.left)
    assert len(real.removed) == 8


# --- the record -------------------------------------------------------------------------------------------------


def test_what_went_is_recorded_before_it_goes(old: Kit) -> None:
    """The cleanup manifest says what, when and why; it is written first."""
    old.vacuum()
    assert old.lake.touched[0] == layout.CLEANUP_MANIFEST
    (run,) = json.loads(old.store.get(layout.CLEANUP_MANIFEST).data)["runs"]
    assert run["files"] == 9
    assert run["sessions"] == {str(day): 3 for day in (DAY, NEXT, THIRD)}
    assert sorted(run["keys"]) == sorted(old.lake.touched[1:])
    assert run["at"] == old.now.isoformat()
    assert "data.parquet" in run["why"]


def test_each_run_adds_to_the_record(old: Kit) -> None:
    """Earlier runs stay in the cleanup manifest."""
    old.vacuum(symbols=["AAPL"])
    old.vacuum()
    runs = json.loads(old.store.get(layout.CLEANUP_MANIFEST).data)["runs"]
    assert [run["files"] for run in runs] == [3, 6]


def test_a_record_that_the_network_spoiled_is_not_begun_anew(old: Kit) -> None:
    """Read once more it is whole, and earlier runs stay in it."""
    old.vacuum(symbols=["AAPL"])
    old.lake.spoil(layout.CLEANUP_MANIFEST)
    old.vacuum()
    runs = json.loads(old.store.get(layout.CLEANUP_MANIFEST).data)["runs"]
    assert [run["files"] for run in runs] == [3, 6]


@pytest.mark.parametrize("body", [b"", b"[]", b'{"runs": 7}', b"\xff"])
def test_a_corrupt_record_is_begun_anew(old: Kit, body: bytes) -> None:
    """It decides nothing, so it never stands in the way."""
    old.store.put(layout.CLEANUP_MANIFEST, body)
    assert old.vacuum().files_removed == 9
    assert len(json.loads(old.store.get(layout.CLEANUP_MANIFEST).data)["runs"]) == 1


def test_two_vacuums_at_once_both_stand_in_the_record(old: Kit) -> None:
    """Rule 6: the loser of the race reads again and adds itself."""
    old.lake.first(layout.CLEANUP_MANIFEST, lambda: old.vacuum(symbols=["BCpC"]))
    old.vacuum(symbols=["AAPL"])
    runs = json.loads(old.store.get(layout.CLEANUP_MANIFEST).data)["runs"]
    assert [run["files"] for run in runs] == [3, 3]
    assert len(old.daily_keys()) == 3


def test_without_a_record_nothing_goes(old: Kit) -> None:
    """A record that can never be written ends the run with an error before the first delete."""

    def always(key: str) -> None:
        if key == layout.CLEANUP_MANIFEST:
            old.store.put(key, b'{"runs": []}')

    old.lake.before_write = always
    with pytest.raises(CommitConflict, match="nothing was removed"):
        old.vacuum()
    assert len(old.daily_keys()) == 9
    old.lake.before_write = pass_by
    assert old.vacuum().files_removed == 9


# --- crashes and races ------------------------------------------------------------------------------------------


def test_a_vacuum_that_is_killed_anywhere_is_completed_by_the_next(tmp_path: Path) -> None:
    """Rules 2 and 5: after a kill before any delete every bar is there, and the next run removes the rest."""
    numbers = count()

    @contextmanager
    def make() -> Iterator[Kit]:
        with Kit(tmp_path / str(next(numbers)), market=market_of(DAYS[:3], FEW[:1])) as kit:
            yield filled(kit)

    def check(kit: Kit) -> None:
        assert kit.closes("AAPL") == {DAY: 100.0, NEXT: 101.0, THIRD: 102.0}
        kit.vacuum()
        assert kit.daily_keys() == []
        kit.assert_as_rebuilt()

    assert survive_every_kill(make, lambda kit: kit.vacuum(), check) == 4


def test_a_late_session_fetched_during_a_vacuum_is_never_lost(old: Kit) -> None:
    """A fetch merges old sessions into `data.parquet` before it acknowledges them, so a vacuum at the same time is harmless."""
    old.market.set_bar("AAPL", NEXT, bar(777.0))
    old.lake.first(layout.CLEANUP_MANIFEST, lambda: old.fetch(NEXT))
    old.vacuum()
    assert old.daily_keys() == []
    assert old.closes("AAPL") == {DAY: 100.0, NEXT: 777.0, THIRD: 102.0}
    old.consolidate()
    old.assert_as_rebuilt()


def test_on_every_kind_of_lake(lake_url: str, tmp_path: Path) -> None:
    """The same on a folder and on S3."""
    with Kit(tmp_path, market=market_of(DAYS[:3], FEW), lake_url=lake_url) as kit:
        tamper(filled(kit), layout.daily_key("BCpC", NEXT), close=1.5)
        assert kit.vacuum(dry_run=True).removed == kit.vacuum().removed
        assert kit.daily_keys() == [layout.daily_key("BCpC", NEXT)]
        assert kit.cost(kit.vacuum).deletes == 0

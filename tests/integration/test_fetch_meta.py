"""Fetching metadata: symbols, their details, splits, dividends and announced closures, kept with when each was first seen."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from condvest.demo.standin import StandIn
from condvest.domain.metadata import LISTINGS, ListingName
from condvest.errors import DataError, TransientError
from condvest.jobs.fetch_meta import land_meta
from condvest.jobs.record_symbols import record_symbols
from condvest.sources.polygon import PolygonSource
from condvest.storage import layout
from condvest.storage.actions import read_dividends, read_splits
from condvest.storage.closures import read_closures
from condvest.storage.parquet import encode_table
from integration.jobs_kit import DAYS, QUICK, SYMBOLS, Kit, market_of, survive_every_kill

DAY, NEXT, THIRD = DAYS[:3]
SPLITS = "/stocks/v1/splits"


@pytest.fixture
def listed(kit: Kit) -> Kit:
    """A lake whose provider knows nine tickers, two splits and two dividends, on the evening of the first session."""
    kit.market.add_split("AAPL", date(2020, 8, 31), 1, 4)
    kit.market.add_split("MSFT", date(2003, 2, 18), 1, 2)
    kit.market.add_dividend("AAPL", date(2025, 8, 11), 0.26)
    kit.market.add_dividend("IBM", date(2025, 8, 8), 1.68, currency="CAD")
    return kit.evening(DAY)


def test_everything_comes_in_one_run(listed: Kit) -> None:
    """Symbols to the state, splits and dividends to the lake, each with when it was first seen."""
    report = listed.fetch_meta()
    assert (report.symbols, report.symbols_changed, report.splits, report.dividends) == (9, 9, 2, 2)
    assert (report.left, report.nothing_new) == ([], False)
    assert [row.symbol for row in listed.state.symbols()] == sorted(SYMBOLS)
    split = read_splits(listed.store)[0]
    assert (split.symbol, split.execution_date, split.split_from, split.split_to) == (
        "AAPL",
        date(2020, 8, 31),
        1.0,
        4.0,
    )
    assert (split.adjustment_type, split.first_seen, split.withdrawn_at) == ("forward_split", listed.now, None)
    dividend = read_dividends(listed.store)[1]
    assert (dividend.symbol, dividend.cash_amount, dividend.currency) == ("IBM", 1.68, "CAD")


def test_a_second_run_with_nothing_new_writes_nothing(listed: Kit) -> None:
    """Rule 8: 0 PUT, 0 DELETE, and it says so."""
    listed.fetch_meta()
    reports = []
    cost = listed.after(hours=1).cost(lambda: reports.append(listed.fetch_meta()))
    assert (cost.puts, cost.deletes, reports[0].nothing_new) == (0, 0, True)


def test_the_listing_lands_before_the_ledger(listed: Kit) -> None:
    """Rule 5: what the provider said can be replayed; the same listing lands once, whatever the order of its rows."""
    listed.fetch_meta()
    tickers, landed, ledger, *others = listed.lake.touched
    assert tickers.startswith(layout.landing_prefix("tickers"))
    assert landed.startswith(layout.landing_prefix("splits"))
    assert ledger == layout.SPLITS
    assert [key.startswith((layout.landing_prefix("dividends"), layout.DIVIDENDS)) for key in others] == [True, True]
    body = json.loads(gzip.decompress(listed.store.get(landed).data))
    assert {row["ticker"] for row in body["results"]} == {"AAPL", "MSFT"}
    listed.market.splits.reverse()
    listed.after(hours=1).fetch_meta()
    assert listed.listed(layout.landing_prefix("splits")) == [landed]


# --- symbols ----------------------------------------------------------------------------------------------------


def test_D16_delisted_tickers_are_kept(listed: Kit) -> None:
    """Active and inactive both, or survivorship bias creeps in."""
    listed.market.delist("TRUE", date(2025, 10, 1))
    listed.fetch_meta()
    (row,) = [row for row in listed.state.symbols() if row.symbol == "TRUE"]
    assert (row.active, row.delisted_at) == (False, datetime(2025, 10, 1, tzinfo=UTC))


def test_a_change_of_one_ticker_changes_one_row(listed: Kit) -> None:
    """What stays the same is not written again; when a symbol was first seen stays."""
    listed.fetch_meta()
    first = listed.now
    listed.market.add_ticker("IBM", name="International Business Machines")
    report = listed.after(hours=1).fetch_meta()
    assert report.symbols_changed == 1
    (row,) = [row for row in listed.state.symbols() if row.symbol == "IBM"]
    assert (row.name, row.first_seen) == ("International Business Machines", first)


def test_a_ticker_that_cannot_be_read_is_named_and_the_rest_comes(listed: Kit) -> None:
    """One bad row costs itself only."""
    listed.market.add_ticker("../up")
    report = listed.fetch_meta()
    assert ["'../up' is impossible" in line and line.startswith("ticker") for line in report.left] == [True]
    assert report.symbols == 9


def test_another_security_under_a_known_ticker_is_told(listed: Kit, caplog: pytest.LogCaptureFixture) -> None:
    """Two companies are not joined silently."""
    fb = listed.market.tickers["IBM"]
    fb["composite_figi"] = "BBG000MM2P62"
    listed.fetch_meta()
    assert "ticker_reused" not in caplog.text
    fb["composite_figi"] = "BBG01NEWETF0"
    listed.after(days=1).fetch_meta()
    assert "ticker_reused symbol=IBM before=BBG000MM2P62 now=BBG01NEWETF0" in caplog.text


def test_details_are_asked_for_within_a_budget(listed: Kit) -> None:
    """One request a ticker: new ones first, then those of more than 30 days ago, never more than allowed."""
    listed.market.add_ticker("AAPL", list_date="1980-12-12", sic_code="3571", market_cap=3.0e12)
    assert listed.fetch_meta(details=4).details == 4
    known = {row.symbol: row for row in listed.state.symbols() if row.details_at}
    assert len(known) == 4
    assert (known["AAPL"].list_date, known["AAPL"].sic_code) == (date(1980, 12, 12), "3571")
    assert listed.after(hours=1).fetch_meta(details=100).details == 5
    assert listed.fetch_meta(details=100).details == 0
    assert listed.after(days=31).fetch_meta(details=3).details == 3


def test_without_a_budget_no_details_are_asked_for(listed: Kit) -> None:
    """The default costs one request a page of each listing."""
    listed.fetch_meta()
    assert not [
        request for request in listed.provider.requests if request.path.count("/") > 3 and "tickers/" in request.path
    ]


def test_details_that_fail_are_left_and_the_others_come(listed: Kit) -> None:
    """A ticker whose details cannot be had is named; the next run asks for it again."""
    listed.provider.fail("/v3/reference/tickers/IBM", status=503, times=2)
    report = listed.fetch_meta(details=9)
    assert (report.details, [line.startswith("details of IBM:") for line in report.left]) == (8, [True])
    assert listed.fetch_meta(details=9).details == 1


def test_details_that_are_refused_or_of_another_ticker_cost_only_themselves(listed: Kit) -> None:
    """What came before and after them lands; else each run would ask for the same ones again and end at the same ticker."""
    listed.provider.fail("/v3/reference/tickers/IBM", status=400)
    listed.provider.fail("/v3/reference/tickers/MSFT", status=200, body={"status": "OK", "results": {"ticker": "msft"}})
    report = listed.fetch_meta(details=9)
    assert report.details == 7
    assert sorted(line.partition(":")[0] for line in report.left) == ["details of IBM", "details of MSFT"]


def test_a_ticker_that_the_provider_does_not_know_counts_as_asked(listed: Kit) -> None:
    """404 is an answer: it is not asked for again every day."""
    listed.provider.fail("/v3/reference/tickers/IBM", status=404)
    assert listed.fetch_meta(details=9).details == 9
    assert listed.fetch_meta(details=9).details == 0


def test_what_was_landed_apart_is_recorded_as_a_whole_run_records_it(listed: Kit, tmp_path: Path) -> None:
    """A fetch without a database, and a recording without a provider, give the symbols that one run gives."""
    listed.market.delist("TRUE", date(2025, 10, 1))
    listed.market.add_ticker("AAPL", list_date="1980-12-12", sic_code="3571", market_cap=3.0e12)
    report = land_meta(listed.lake, listed.source, now=listed.now, details=["AAPL", "IBM"])
    assert (report.details, report.symbols, report.symbols_changed, report.remaining) == (2, 9, 0, [])
    assert record_symbols(listed.lake, listed.state).changed == 9 + 2
    again = record_symbols(listed.lake, listed.state)
    assert (again.listings, again.changed) == (0, 0)
    with Kit(tmp_path / "whole", market=listed.market) as whole:
        whole.now = listed.now
        whole.fetch_meta(details=2)
        details = {row.symbol for row in whole.state.symbols() if row.details_at}
        assert details == {"AAPL", "BCPC"}
        assert [row for row in whole.state.symbols() if row.symbol in ("AAPL", "MSFT")] == [
            row for row in listed.state.symbols() if row.symbol in ("AAPL", "MSFT")
        ]


def test_details_stop_when_asked_to_and_name_the_rest(listed: Kit) -> None:
    """What was asked for is landed; the next call asks for just the rest, and for no listing."""
    asked = iter([False, False, True])
    report = land_meta(
        listed.lake, listed.source, now=listed.now, details=SYMBOLS, listings=[], stop=lambda: next(asked)
    )
    assert (report.details, report.remaining) == (2, list(SYMBOLS[2:]))
    requests = len(listed.provider.requests)
    again = land_meta(listed.lake, listed.source, now=listed.now, details=report.remaining, listings=[])
    assert (again.details, len(listed.provider.requests) - requests) == (7, 7)


def test_listings_stop_between_pages_and_go_on_from_there(listed: Kit, tmp_path: Path) -> None:
    """However often it is cut, no page is asked for twice, and the lake is that of one call."""
    listed.market.delist("TRUE", date(2025, 10, 1))
    with Kit(tmp_path / "whole", market=listed.market) as whole:
        whole.now = listed.now
        whole.fetch_meta(details=2)
        landed = whole.files("bronze/landing/")
    with StandIn(listed.market, now=lambda: listed.now, page_size=2) as provider:
        with PolygonSource(provider.url, provider.api_key, requests_per_minute=0, retry=QUICK) as source:
            listings: Sequence[ListingName] = LISTINGS
            resume, details, calls = None, ["AAPL", "BCPC"], 0
            while listings or details:
                looks = iter([False, False, True, True, True])
                report = land_meta(
                    listed.lake,
                    source,
                    now=listed.now,
                    listings=listings,
                    resume=resume,
                    details=details,
                    stop=lambda: next(looks),  # noqa: B023 - called in this turn alone
                )
                listings, resume = report.remaining_listings, report.unfinished_since
                details, calls = report.remaining, calls + 1
        asked = [(request.path, str(request.query)) for request in provider.requests]
    assert calls > 4
    assert len(asked) == len(set(asked))
    record_symbols(listed.lake, listed.state)
    assert {key: body for key, body in listed.files("bronze/landing/").items() if "/details/" not in key} == {
        key: body for key, body in landed.items() if "/details/" not in key
    }
    assert len(listed.state.symbols()) == 9
    assert len(read_splits(listed.store)) == 2


def test_a_listing_whose_pages_were_lost_begins_anew(listed: Kit) -> None:
    """What is kept of it is a cache: without it, or with that of another fetch, the first page is asked for again."""
    for spoil in (None, b"no gzip"):
        if spoil is not None:
            listed.store.put(layout.unfinished_key("splits"), spoil)
        report = land_meta(
            listed.lake, listed.source, now=listed.now, listings=["splits"], resume=listed.now - timedelta(hours=1)
        )
        assert (report.splits, report.remaining_listings) == (2, [])


def test_details_that_stay_the_same_count_as_asked_on_another_day(listed: Kit) -> None:
    """The same answer lands once a day, so that the recording knows when it was asked for."""
    for days, landings in ((0, 1), (0, 1), (31, 2)):
        land_meta(listed.lake, listed.source, now=listed.after(days=days).now, details=["IBM"], listings=[])
        assert len(listed.listed(layout.landing_prefix("details"))) == landings
    record_symbols(listed.lake, listed.state)
    assert [row.details_at for row in listed.state.symbols()] == [listed.now]


def test_a_corrupt_listing_is_named_until_a_later_one_comes(listed: Kit) -> None:
    """It says which object cannot be read, and what to do; the others are recorded."""
    land_meta(listed.lake, listed.source, now=listed.now, details=["IBM"])
    (key,) = listed.listed(layout.landing_prefix("tickers"))
    listed.store.put(key, gzip.compress(b'{"results": [1]}'))
    for _ in range(2):
        report = record_symbols(listed.lake, listed.state)
        assert [key in line and "cannot be read" in line for line in report.left] == [True]
    assert [row.symbol for row in listed.state.symbols()] == ["IBM"]
    listed.market.add_ticker("IBM", name="International Business Machines")
    land_meta(listed.lake, listed.source, now=listed.after(days=1).now)
    assert record_symbols(listed.lake, listed.state).left == []
    assert len(listed.state.symbols()) == 9


def test_a_state_that_knows_nothing_begins_with_the_last_listing(listed: Kit) -> None:
    """Years of listings are not read again for a database that was lost; all details are."""
    for name in ("one", "two", "three"):
        listed.market.add_ticker("IBM", name=name)
        land_meta(listed.lake, listed.source, now=listed.after(days=1).now, details=["IBM"])
    report = record_symbols(listed.lake, listed.state)
    assert report.listings == 1 + 3
    (row,) = [row for row in listed.state.symbols() if row.symbol == "IBM"]
    assert (row.name, row.details_at) == ("three", listed.now)


# --- splits and dividends ---------------------------------------------------------------------------------------


def test_a_new_action_joins_and_the_old_ones_keep_when_they_were_first_seen(listed: Kit) -> None:
    """`first_seen` is what `as_of` reads: it never moves."""
    listed.fetch_meta()
    first = listed.now
    listed.market.add_split("IBM", date(2025, 12, 1), 1, 2)
    report = listed.after(days=1).fetch_meta()
    assert (report.splits_changed, report.dividends_changed) == (True, False)
    seen = {split.symbol: split.first_seen for split in read_splits(listed.store)}
    assert seen == {"AAPL": first, "MSFT": first, "IBM": listed.now}


def test_an_action_that_is_no_longer_given_is_marked_and_stays(listed: Kit) -> None:
    """Withdrawn, never deleted: what was known then can still be asked for. Given again, it joins as a new one."""
    listed.fetch_meta()
    (gone,) = [row for row in listed.market.splits if row["ticker"] == "MSFT"]
    listed.market.splits.remove(gone)
    withdrawn = listed.after(days=1).now
    listed.fetch_meta()
    assert {split.symbol: split.withdrawn_at for split in read_splits(listed.store)} == {
        "AAPL": None,
        "MSFT": withdrawn,
    }
    listed.market.splits.append(gone)
    listed.after(days=1).fetch_meta()
    again = [split for split in read_splits(listed.store) if split.symbol == "MSFT"]
    assert sorted((split.first_seen, split.withdrawn_at is None) for split in again) == [
        (withdrawn - timedelta(days=1), False),
        (listed.now, True),
    ]


def test_a_corrected_ratio_withdraws_the_wrong_one(listed: Kit) -> None:
    """A split is what it says: another ratio is another split."""
    listed.fetch_meta()
    listed.market.splits[0] |= {"split_to": 5}
    listed.after(days=1).fetch_meta()
    aapl = [
        (split.split_to, split.withdrawn_at is None) for split in read_splits(listed.store) if split.symbol == "AAPL"
    ]
    assert aapl == [(4.0, False), (5.0, True)]


@pytest.mark.parametrize(("path", "kind"), [(SPLITS, "splits"), ("/stocks/v1/dividends", "dividends")])
def test_a_short_listing_is_not_believed(listed: Kit, path: str, kind: str) -> None:
    """Fewer than half of what is known withdraws nothing, lands nothing, and is left for the next run."""
    listed.fetch_meta()
    before = listed.files("bronze/")
    listed.provider.fail(path, kind="empty")
    report = listed.after(days=1).fetch_meta()
    assert report.left == [f"short listing: 0 {kind}, 2 are known; the ledger stays; fetch again later"]
    assert listed.files("bronze/") == before
    assert listed.fetch_meta().left == []


def test_splits_that_cannot_be_read_are_named_and_the_rest_comes(listed: Kit) -> None:
    """A ratio of 0 would destroy every price before it: such a row is never applied."""
    wrong: dict[str, dict[str, Any]] = {
        "split_from is 0": {"split_from": 0},
        "split_to is None": {"split_to": None},
        "split_to is True": {"split_to": True},
        "soon": {"execution_date": "soon"},
        "'A B' is impossible": {"ticker": "A B"},
    }
    good = listed.market.splits
    spoiled = [{**good[0], "ticker": "IBM"} | changes for changes in wrong.values()]
    listed.provider.fail(SPLITS, status=200, body={"results": [*good, *spoiled], "status": "OK"})
    report = listed.fetch_meta()
    assert [line.startswith("split ") and what in line for line, what in zip(report.left, wrong, strict=True)] == [
        True
    ] * 5
    assert {split.symbol for split in read_splits(listed.store)} == {"AAPL", "MSFT"}


@pytest.mark.parametrize("spoiled", [{"split_from": None}, {"ticker": None}])
def test_a_known_split_whose_row_cannot_be_read_is_not_withdrawn(listed: Kit, spoiled: dict[str, Any]) -> None:
    """It may well stand there: nothing of its symbol is withdrawn, nor of any where not even the symbol can be read."""
    listed.fetch_meta()
    before = read_splits(listed.store)
    first, *others = listed.market.splits
    listed.provider.fail(SPLITS, status=200, body={"results": [{**first, **spoiled}, *others], "status": "OK"})
    report = listed.after(days=1).fetch_meta()
    assert [line.startswith("split ") for line in report.left] == [True]
    assert read_splits(listed.store) == before
    assert listed.after(days=1).fetch_meta().left == []
    assert read_splits(listed.store) == before


def test_a_row_that_cannot_be_read_keeps_only_its_symbol_from_withdrawals(listed: Kit) -> None:
    """Other symbols' actions are withdrawn as ever."""
    listed.fetch_meta()
    aapl, msft = listed.market.splits
    listed.market.splits[:] = [{**aapl, "split_to": -1}, {**msft, "split_to": 3}]
    listed.after(days=1).fetch_meta()
    found = {(split.symbol, split.split_to): split.withdrawn_at is None for split in read_splits(listed.store)}
    assert found == {("AAPL", 4.0): True, ("MSFT", 2.0): False, ("MSFT", 3.0): True}


def test_a_dividend_that_cannot_be_read_is_named_and_the_rest_comes(listed: Kit) -> None:
    """An amount must be above 0."""
    listed.market.add_dividend("MSFT", date(2025, 8, 21), -1.0)
    report = listed.fetch_meta()
    assert [line.startswith("dividend ") and "cash_amount is -1.0" in line for line in report.left] == [True]
    assert {dividend.symbol for dividend in read_dividends(listed.store)} == {"AAPL", "IBM"}


def test_a_universe_limits_symbols_and_actions(listed: Kit) -> None:
    """A lake of some symbols keeps theirs; what lands is the whole listing."""
    listed.universe = frozenset({"AAPL"})
    report = listed.fetch_meta()
    assert (report.symbols, report.splits, report.dividends) == (1, 1, 1)
    assert [row.symbol for row in listed.state.symbols()] == ["AAPL"]
    assert [split.symbol for split in read_splits(listed.store)] == ["AAPL"]


def test_a_smaller_universe_withdraws_no_action_of_the_others(listed: Kit) -> None:
    """Of symbols outside of it nothing was asked: their actions stay as they were, and do not make the listing a short one."""
    for symbol in ("IBM", "TRUE"):
        listed.market.add_split(symbol, date(2020, 8, 31), 1, 2)
    listed.fetch_meta()
    before = {split.symbol: split for split in read_splits(listed.store)}
    listed.universe = frozenset({"AAPL"})
    listed.market.add_split("AAPL", date(2014, 6, 9), 1, 7)
    report = listed.after(days=1).fetch_meta()
    after = read_splits(listed.store)
    assert (report.left, report.splits) == ([], 2)
    assert {split.symbol: split for split in after if split.split_to != 7} == before
    assert [split.symbol for split in after if split.split_to == 7] == ["AAPL"]
    assert {dividend.symbol: dividend.withdrawn_at for dividend in read_dividends(listed.store)} == {
        "AAPL": None,
        "IBM": None,
    }


def test_a_corrupt_ledger_of_actions_is_refused(listed: Kit) -> None:
    """It holds what `first_seen` was: it is never overwritten, but named."""
    listed.store.put(layout.SPLITS, b"not parquet")
    with pytest.raises(DataError, match=layout.SPLITS):
        listed.fetch_meta()
    assert listed.store.get(layout.SPLITS).data == b"not parquet"


def test_two_runs_at_once_lose_no_action(listed: Kit) -> None:
    """Rule 6: the loser of the race reads again; what the winner first saw stays."""
    times: list[datetime] = []

    def other() -> None:
        times.append(listed.now)
        listed.fetch_meta()
        listed.after(minutes=1)

    listed.lake.first(layout.SPLITS, other)
    listed.fetch_meta()
    assert [split.first_seen for split in read_splits(listed.store)] == times * 2


def test_a_provider_that_fails_ends_the_run_and_the_next_completes_it(listed: Kit) -> None:
    """What came before the failure is kept."""
    listed.provider.fail("/stocks/v1/dividends", status=500, times=2)
    with pytest.raises(TransientError):
        listed.fetch_meta()
    assert len(read_splits(listed.store)) == 2
    report = listed.fetch_meta()
    assert (report.splits_changed, report.dividends_changed) == (False, True)


# --- closures ---------------------------------------------------------------------------------------------------


def test_an_announced_closure_is_recorded_and_is_no_session_any_more(listed: Kit) -> None:
    """A day of mourning that the shipped calendar does not know is kept in the lake and wins."""
    listed.market.add_closure(DAYS[6], "National Day of Mourning")
    report = listed.fetch_meta()
    assert report.closures_recorded == 1
    assert read_closures(listed.store) == [DAYS[6]]
    assert not listed.calendar.is_session(DAYS[6])
    assert listed.after(hours=1).fetch_meta().nothing_new


def test_a_day_of_which_bars_landed_is_no_closure(listed: Kit) -> None:
    """Its bars could be placed in no period any more: the announcement is named and not recorded, and silver goes on."""
    listed.fetch(DAY)
    listed.market.add_closure(DAY, "announced by mistake")
    listed.market.add_closure(DAYS[6], "National Day of Mourning")
    report = listed.fetch_meta()
    assert report.left == [
        f"announced closure {DAY}: what landed of that day is not empty, so the exchange was open; it is not recorded"
    ]
    assert read_closures(listed.store) == [DAYS[6]]
    listed.consolidate()
    assert set(listed.resample().intervals.values()) == {"rebuilt"}


def test_holidays_and_early_closes_change_nothing(listed: Kit) -> None:
    """Thanksgiving is no session anyway, and on the day after there is one."""
    listed.market.add_closure(date(2025, 11, 27), "Thanksgiving")
    listed.market.add_closure(
        date(2025, 11, 28), "Thanksgiving", early_close=datetime(2025, 11, 28, 13, tzinfo=UTC).time()
    )
    assert listed.fetch_meta().closures_recorded == 0
    assert read_closures(listed.store) == []


def test_closures_of_another_exchange_do_not_count(listed: Kit) -> None:
    """The calendar is that of NYSE."""
    listed.market.upcoming.append({"date": str(DAYS[6]), "exchange": "OTC", "name": "x", "status": "closed"})
    assert listed.fetch_meta().closures_recorded == 0


def test_an_announcement_that_cannot_be_read_is_left(listed: Kit) -> None:
    """No closure is guessed at."""
    listed.market.upcoming.append({"date": "tomorrow", "exchange": "NYSE", "name": "x", "status": "closed"})
    report = listed.fetch_meta()
    assert [line.startswith("announced closures:") for line in report.left] == [True]
    assert read_closures(listed.store) == []


# --- crashes, every kind of state -------------------------------------------------------------------------------


def test_a_run_that_is_killed_anywhere_is_completed_by_the_next(tmp_path: Path) -> None:
    """Rule 5: landing, ledger, closures; the next run ends as a clean one."""
    numbers = count()

    @contextmanager
    def make() -> Iterator[Kit]:
        with Kit(tmp_path / str(next(numbers)), market=market_of(DAYS[:1], SYMBOLS[:1])) as kit:
            kit.market.add_split("AAPL", date(2020, 8, 31), 1, 4)
            kit.market.add_dividend("AAPL", date(2025, 8, 11), 0.26)
            kit.market.add_closure(DAYS[6], "National Day of Mourning")
            yield kit.evening(DAY)

    def check(kit: Kit) -> None:
        kit.after(minutes=1).fetch_meta()
        assert (len(read_splits(kit.store)), len(read_dividends(kit.store))) == (1, 1)
        assert read_closures(kit.store) == [DAYS[6]]
        assert len(kit.listed(layout.LANDING)) == 3
        assert kit.fetch_meta().nothing_new

    assert survive_every_kill(make, lambda kit: kit.fetch_meta(), check) == 6


def test_on_every_kind_of_lake_and_state(lake_url: str, state_url: str, tmp_path: Path) -> None:
    """The same on a folder and on S3, on SQLite and on PostgreSQL."""
    with Kit(tmp_path, market=market_of(DAYS[:1]), lake_url=lake_url, state_url=state_url) as kit:
        kit.market.add_split("BCpC", date(2020, 8, 31), 1, 4)
        assert kit.evening(DAY).fetch_meta(details=2).details == 2
        assert [split.symbol for split in read_splits(kit.store)] == ["BCpC"]
        assert {row.symbol for row in kit.state.symbols()} == set(SYMBOLS)
        assert kit.cost(lambda: kit.after(hours=1).fetch_meta()).puts == 0


def test_a_ledger_of_actions_with_nulls_is_an_error(listed: Kit) -> None:
    """A split without a date would end every reader and job with a bug's traceback; it is named, and stays as it is."""
    listed.fetch_meta()
    table = listed.table(layout.SPLITS)
    for name, values in (
        ("execution_date", pa.nulls(table.num_rows, pa.date32())),
        ("split_from", pa.array([0.0] * table.num_rows)),
    ):
        spoiled = encode_table(table.set_column(table.column_names.index(name), name, values))
        listed.store.put(layout.SPLITS, spoiled)
        with pytest.raises(DataError, match=name):
            listed.fetch_meta()
        assert listed.store.get(layout.SPLITS).data == spoiled


def test_a_closure_outside_the_calendar_ends_nothing(listed: Kit) -> None:
    """It is the provider's date that is wrong, not a setting of ours: it is told of, and the rest is taken."""
    rows = json.dumps([{"exchange": "NYSE", "status": "closed", "date": "3024-03-05"}])
    listed.provider.fail("/v1/marketstatus/upcoming", status=200, body=rows)
    report = listed.fetch_meta()
    assert report.splits_changed
    assert any("3024-03-05" in line for line in report.left)

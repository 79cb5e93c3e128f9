"""Fetching single symbols by the range endpoint: bars come to bronze, the session ledger stays as it is."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from condvest.errors import DataError, TransientError
from condvest.storage import layout
from integration.jobs_kit import DAYS, SYMBOLS, Kit, bar, market_of, survive_every_kill
from integration.watched_lake import Killed

DAY, NEXT, THIRD = DAYS[:3]
RANGE = "/v2/aggs/ticker"


def test_a_few_sessions_of_one_symbol_come_to_bronze(kit: Kit) -> None:
    """The answer lands with its bounds, then the bars as `date=` files; nothing is said of whole sessions."""
    report = kit.evening(THIRD).fetch_symbols("AAPL", first=DAY, last=THIRD)
    (key, *bars) = kit.lake.touched
    found = layout.parse_landing_key(key)
    assert found is not None
    assert (found.kind, found.symbol, found.first, found.last) == ("range", "AAPL", DAY, THIRD)
    assert bars == [layout.daily_key("AAPL", day) for day in (DAY, NEXT, THIRD)]
    assert kit.closes("AAPL") == {DAY: 100.0, NEXT: 101.0, THIRD: 102.0}
    assert (report.asked, report.landed, report.rows, report.left) == (1, 1, 3, [])
    assert kit.states() == {}
    assert kit.state.symbol_watermarks() == {"AAPL": THIRD}


def test_many_sessions_go_straight_into_the_consolidated_file(kit: Kit) -> None:
    """Years of one symbol make one object, not one a session."""
    kit.evening(DAYS[39]).fetch_symbols("BCpC", first=DAY, last=DAYS[39])
    assert kit.daily_keys() == []
    assert len(kit.consolidated("BCpC")) == 40
    assert kit.closes("BCpC")[DAYS[39]] == 159.0
    kit.assert_as_rebuilt()


def test_a_history_that_is_new_asks_for_no_file_of_each_day(kit: Kit) -> None:
    """No `date=` file of it is there: one listing tells that, where a request a bar is a million for a few hundred symbols."""
    kit.evening(DAYS[39])
    assert kit.cost(lambda: kit.fetch_symbols("BCpC", first=DAY, last=DAYS[39])).gets < 20
    assert len(kit.closes("BCpC")) == 40


def test_a_listing_of_several_pages_is_one_answer(kit: Kit) -> None:
    """All pages lie in one landed body, so that a replay needs no other."""
    kit.provider.page_size = 7
    kit.evening(DAYS[19]).fetch_symbols("AAPL", first=DAY, last=DAYS[19])
    (key,) = kit.listed(layout.landing_prefix("range"))
    assert len(json.loads(gzip.decompress(kit.store.get(key).data))["results"]) == 20
    assert len(kit.closes("AAPL")) == 20


def test_a_second_run_with_nothing_new_writes_nothing(kit: Kit) -> None:
    """Rule 8: the same values land once."""
    kit.evening(THIRD).fetch_symbols("AAPL", "IBM", first=DAY, last=THIRD)
    reports = []
    cost = kit.after(hours=1).cost(lambda: reports.append(kit.fetch_symbols("AAPL", "IBM", first=DAY, last=THIRD)))
    assert (cost.puts, cost.deletes, reports[0].nothing_new) == (0, 0, True)


def test_a_symbol_without_bars_is_no_error(kit: Kit) -> None:
    """It may not have been listed then: nothing lands, and the others come."""
    report = kit.evening(THIRD).fetch_symbols("NOSUCH", "AAPL", first=DAY, last=THIRD)
    assert (report.asked, report.landed, report.left) == (2, 1, [])
    assert kit.listed(layout.symbol_prefix("NOSUCH")) == []


def test_D12_bars_that_the_whole_session_brought_already_are_not_written_again(kit: Kit) -> None:
    """The same value from another endpoint is no restatement: its `ingested_at` stays."""
    kit.evening(DAY).fetch(DAY)
    before = kit.files(layout.BRONZE)
    report = kit.next_morning(DAY).fetch_symbols("AAPL", first=DAY, last=DAY)
    assert report.rows == 0
    assert kit.files(layout.BRONZE) == before
    kit.consolidate()
    kit.assert_as_rebuilt()


def test_a_later_range_answer_restates_a_bar(kit: Kit) -> None:
    """The last answer wins, whichever endpoint it came from; the ledger of sessions is not touched."""
    kit.next_morning(DAY).fetch(DAY)
    ledger = kit.state.sessions()
    kit.market.set_bar("AAPL", DAY, bar(104.0))
    kit.after(hours=1).fetch_symbols("AAPL", first=DAY, last=DAY)
    assert kit.closes("AAPL") == {DAY: 104.0}
    assert kit.state.sessions() == ledger
    kit.consolidate()
    kit.assert_as_rebuilt()


def test_the_last_answer_wins_when_endpoints_take_turns(kit: Kit) -> None:
    """Whole session A, range B, whole session A again, range B again: bronze and a rebuild follow each."""
    kit.next_morning(DAY).fetch(DAY)
    for close, by_range in ((105.0, True), (100.0, False), (105.0, True), (100.0, False)):
        kit.market.set_bar("AAPL", DAY, bar(close))
        kit.after(hours=1)
        if by_range:
            kit.fetch_symbols("AAPL", first=DAY, last=DAY)
        else:
            kit.fetch(DAY)
        kit.consolidate()
        assert kit.closes("AAPL") == {DAY: close}
        kit.assert_as_rebuilt()


def test_a_whole_session_wins_over_a_range_of_before_though_the_clock_went_back(kit: Kit) -> None:
    """The order in which answers came decides, not the clock of the machine."""
    kit.next_morning(DAY).fetch_symbols("AAPL", first=DAY, last=DAY)
    kit.market.set_bar("AAPL", DAY, bar(107.0))
    kit.after(hours=-2).fetch(DAY)
    kit.consolidate()
    assert kit.closes("AAPL") == {DAY: 107.0}
    kit.assert_as_rebuilt()


def test_the_whole_session_joins_what_ranges_brought_before(kit: Kit) -> None:
    """A session of which only some symbols came by range is fetched whole afterwards, as any other."""
    kit.next_morning(DAY).fetch_symbols("AAPL", "IBM", first=DAY, last=DAY)
    report = kit.after(hours=1).fetch(DAY)
    assert (report.restated, kit.states()) == (0, {DAY: "final"})
    assert [kit.closes(symbol)[DAY] for symbol in SYMBOLS] == [100.0 + 10 * number for number in range(9)]
    kit.consolidate()
    kit.assert_as_rebuilt()


def test_a_backfill_takes_range_answers_along(kit: Kit) -> None:
    """Landing is one truth: a backfill of whole sessions and a fetch of symbols end in the same rows."""
    kit.evening(DAYS[24]).fetch_symbols("AAPL", first=DAY, last=DAYS[9])
    kit.market.set_bar("AAPL", DAYS[5], bar(77.0))
    kit.after(hours=1).fetch(*DAYS[:25])
    assert kit.closes("AAPL")[DAYS[5]] == 77.0
    assert kit.consolidated("AAPL")[0]["ingested_at"] < kit.consolidated("AAPL")[5]["ingested_at"]
    kit.assert_as_rebuilt()


def test_a_bar_on_a_day_without_a_session_goes_to_quarantine(kit: Kit) -> None:
    """Ordinals know sessions only: what the provider prints for a Sunday is kept aside with the rule's name."""
    sunday = date(2025, 11, 9)
    kit.market.set_bar("AAPL", sunday, bar(10.0))
    report = kit.evening(DAYS[5]).fetch_symbols("AAPL", first=DAY, last=DAYS[5])
    (row,) = kit.quarantine()
    assert (row["rule"], row["date"], report.quarantined) == ("not_a_session", sunday, 1)
    assert sunday not in kit.closes("AAPL")
    kit.consolidate()
    kit.assert_as_rebuilt()


def test_a_bad_row_goes_to_quarantine_and_the_rest_comes(kit: Kit) -> None:
    """One bad bar costs its own session only."""
    kit.market.set_bar("AAPL", NEXT, bar(101.0, high=1.0))
    kit.evening(THIRD).fetch_symbols("AAPL", first=DAY, last=THIRD)
    assert [(row["rule"], row["date"]) for row in kit.quarantine()] == [("high_below_low", NEXT)]
    assert list(kit.closes("AAPL")) == [DAY, THIRD]


@pytest.mark.parametrize("day", [date(2207, 9, 3), THIRD])
def test_a_range_answer_with_bars_of_other_days_is_refused(kit: Kit, day: date) -> None:
    """They would land under bounds that do not tell of them; and a day that no calendar reaches is no wrong setting."""
    values = {"o": 10.0, "h": 11.0, "l": 9.0, "c": 10.5, "v": 1000.0}
    rows = [
        values | {"t": int(datetime(one.year, one.month, one.day, 16, tzinfo=UTC).timestamp()) * 1000}
        for one in (DAY, day)
    ]
    kit.provider.fail(f"{RANGE}/IBM", status=200, body={"status": "OK", "ticker": "IBM", "results": rows})
    kit.evening(NEXT)
    with pytest.raises(DataError, match=f"IBM: holds a bar of {day}, asked for were {DAY} to {NEXT}"):
        kit.fetch_symbols("AAPL", "IBM", first=DAY, last=NEXT)
    assert ["AAPL" in key for key in kit.listed(layout.landing_prefix("range"))] == [True]


def test_sessions_before_the_plan_are_named_and_asked_for_once(tmp_path: Path) -> None:
    """A plan that does not reach back so far is no failure: what came before the refusal stays, and one request tells it."""
    with Kit(tmp_path, plan_start=THIRD) as kit:
        report = kit.evening(THIRD).fetch_symbols("AAPL", "IBM", first=DAY, last=NEXT)
        assert (report.asked, report.not_entitled, report.left) == (1, [DAY, NEXT], [])
        assert report.nothing_new
        report = kit.fetch_symbols("AAPL", "IBM", first=DAY, last=THIRD)
        assert (report.asked, report.not_entitled, report.rows) == (2, [], 2)


def test_days_without_a_session_ask_for_nothing(kit: Kit) -> None:
    """A weekend has no session: no request is made."""
    report = kit.evening(DAYS[5]).fetch_symbols("AAPL", first=date(2025, 11, 8), last=date(2025, 11, 9))
    assert (report.asked, report.nothing_new, kit.provider.requests) == (0, True, [])


def test_a_provider_that_fails_leaves_what_landed_for_the_next_run(kit: Kit) -> None:
    """An error ends the run; the symbols that landed are completed by the next one."""
    kit.evening(THIRD)
    kit.provider.fail(f"{RANGE}/IBM", status=503, times=2)
    with pytest.raises(TransientError):
        kit.fetch_symbols("AAPL", "IBM", first=DAY, last=THIRD)
    report = kit.fetch_symbols("AAPL", "IBM", first=DAY, last=THIRD)
    assert (report.landed, report.rows) == (1, 6)
    assert kit.closes("AAPL")[DAY] == 100.0
    assert kit.closes("IBM")[DAY] == 150.0


def test_a_corrupt_file_of_an_old_session_is_left_and_moves_no_watermark(kit: Kit) -> None:
    """What could not be merged is not acknowledged."""
    kit.store.put(layout.data_key("AAPL"), b"not parquet")
    kit.now = kit.evening(DAY).now + timedelta(days=20)
    report = kit.fetch_symbols("AAPL", first=DAY, last=DAY)
    assert layout.data_key("AAPL") in report.left[0]
    assert kit.state.symbol_watermarks() == {}


def test_a_run_that_is_killed_anywhere_is_completed_by_the_next(tmp_path: Path) -> None:
    """Rule 5: landing, then bars, then the watermark."""
    numbers = count()

    @contextmanager
    def make() -> Iterator[Kit]:
        with Kit(tmp_path / str(next(numbers)), market=market_of(DAYS[:2], SYMBOLS[:2])) as kit:
            kit.next_morning(DAY).fetch(DAY)
            kit.market.set_bar("AAPL", DAY, bar(104.0))
            yield kit.evening(NEXT)

    def act(kit: Kit) -> None:
        kit.fetch_symbols("AAPL", first=DAY, last=NEXT)

    def check(kit: Kit) -> None:
        act(kit)
        assert kit.closes("AAPL") == {DAY: 104.0, NEXT: 101.0}
        kit.consolidate()
        kit.assert_as_rebuilt()

    assert survive_every_kill(make, act, check) == 3


def test_a_range_that_was_killed_after_landing_is_not_lost_to_the_next_whole_session(kit: Kit) -> None:
    """Landing says more than bronze holds: the next fetch of the session brings bronze up to it."""
    kit.evening(DAY).fetch(DAY)
    kit.market.set_bar("AAPL", DAY, bar(104.0))
    kit.lake.kill_at(1)
    with pytest.raises(Killed):
        kit.after(hours=1).fetch_symbols("AAPL", first=DAY, last=DAY)
    kit.lake.kill_at(None)
    kit.next_morning(DAY).fetch()
    assert kit.states() == {DAY: "final"}
    assert kit.closes("AAPL") == {DAY: 104.0}
    kit.consolidate()
    kit.assert_as_rebuilt()


def test_ranges_on_every_kind_of_lake_and_state(lake_url: str, state_url: str, tmp_path: Path) -> None:
    """The same promises on a folder and on S3, on SQLite and on PostgreSQL."""
    with Kit(tmp_path, market=market_of(DAYS[:25], SYMBOLS[:3]), lake_url=lake_url, state_url=state_url) as kit:
        kit.evening(DAYS[24]).fetch_symbols("BCpC", first=DAY, last=DAYS[24])
        assert len(kit.consolidated("BCpC")) == 25
        assert kit.state.symbol_watermarks() == {"BCpC": DAYS[24]}
        assert kit.cost(lambda: kit.fetch_symbols("BCpC", first=DAY, last=DAYS[24])).puts == 0
        kit.assert_as_rebuilt()

"""Fetching whole sessions day by day: what lands, what stands in bronze, what the ledger says, and what a crash leaves."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from condvest.domain.bars import DAILY_SCHEMA, VALUE_NAMES
from condvest.errors import ConfigError
from condvest.storage import layout
from integration.jobs_kit import DAYS, SYMBOLS, Kit, bar, market_of, survive_every_kill
from integration.watched_lake import Killed

DAY, NEXT, THIRD = DAYS[:3]
GROUPED = "/v2/aggs/grouped"


def landed(kit: Kit, kind: layout.LandingKind = "grouped") -> list[str]:
    """Return the keys of the answers of one kind."""
    return kit.listed(layout.landing_prefix(kind))


# --- one evening ------------------------------------------------------------------------------------------------


def test_an_answer_lands_before_its_bars_and_bars_before_the_ledger(kit: Kit) -> None:
    """Rule 5: the provider's answer first, then one `date=` file a symbol and what spares reading them, then the ledger."""
    at_first_write: list[dict[date, str]] = []
    kit.lake.before_write = lambda _: at_first_write.append(kit.states())
    report = kit.evening(DAY).fetch(DAY)
    assert kit.lake.touched[0].startswith("bronze/landing/grouped/date=2025-11-03/20251103T210500000000Z-")
    files = [layout.daily_key(symbol, DAY) for symbol in SYMBOLS]
    assert kit.lake.touched[1:] == [*files, layout.fetched_key(DAY)]
    assert at_first_write == [{DAY: "missing"}] * 11
    assert (report.landed, report.rows, report.provisional, report.left) == (1, 9, [DAY], [])
    assert kit.states() == {DAY: "provisional"}


def test_D10_a_session_costs_one_request_for_raw_prices(kit: Kit) -> None:
    """One grouped request brings the whole market of a session, raw prices."""
    kit.evening(DAY).fetch(DAY)
    (request,) = kit.provider.requests
    assert request.path == "/v2/aggs/grouped/locale/us/market/stocks/2025-11-03"
    assert request.query["adjusted"] == "false"


def test_a_bar_stands_in_bronze_as_the_provider_printed_it(kit: Kit) -> None:
    """Values are raw, absent ones null, `date` is the session asked for, `ingested_at` the instant of the fetch."""
    kit.market.set_bar("NA", DAY, bar(7.25, vwap=None, transactions=None, volume=0.5))
    kit.evening(DAY).fetch(DAY)
    table = kit.table(layout.daily_key("NA", DAY))
    assert table.schema.names == DAILY_SCHEMA.names
    assert [field.type for field in table.schema] == [field.type for field in DAILY_SCHEMA]
    prices = {"open": 6.25, "high": 9.25, "low": 4.25, "close": 7.25}
    values = prices | {"volume": 0.5, "vwap": None, "transactions": None}
    assert table.to_pylist() == [{"symbol": "NA", "date": DAY, **values, "ingested_at": kit.now}]


def test_the_landed_answer_is_what_the_provider_sent(kit: Kit) -> None:
    """Landing keeps the whole body, so that any day can be replayed without the provider."""
    kit.evening(DAY).fetch(DAY)
    (key,) = landed(kit)
    body = json.loads(gzip.decompress(kit.store.get(key).data))
    assert body["resultsCount"] == 9
    assert {row["T"] for row in body["results"]} == set(SYMBOLS)


def test_symbols_that_differ_in_case_alone_stay_apart(kit: Kit) -> None:
    """`BCPC` and `BCpC` are two securities; reserved names and dots are no trouble either."""
    kit.evening(DAY).fetch(DAY)
    kit.consolidate()
    assert kit.closes("BCPC") == {DAY: 110.0}
    assert kit.closes("BCpC") == {DAY: 120.0}
    assert {row["symbol"] for symbol in SYMBOLS for row in kit.consolidated(symbol)} == set(SYMBOLS)


def test_watermarks_move_with_the_bars(kit: Kit) -> None:
    """Each symbol's watermark is the last session whose bar is durable, one current row a symbol."""
    kit.market.remove_bar("IBM", NEXT)
    kit.evening(DAY).fetch(DAY)
    kit.evening(NEXT).fetch()
    marks = kit.state.symbol_watermarks()
    assert marks == {**dict.fromkeys(SYMBOLS, NEXT), "IBM": DAY}
    assert [row.is_current for row in kit.state.watermark_history("AAPL")] == [False, True]


# --- the next morning -------------------------------------------------------------------------------------------


def test_D11_the_same_values_next_morning_make_a_session_final_with_one_receipt(kit: Kit) -> None:
    """A re-fetch that brings the same values writes no bar: a receipt says that they are final."""
    kit.evening(DAY).fetch(DAY)
    bars, kit.lake.touched = kit.files(layout.BRONZE), []
    report = kit.next_morning(DAY).fetch()
    assert [layout.parse_landing_key(key) is not None for key in kit.lake.touched] == [True]
    assert kit.lake.touched == landed(kit, "confirmed")
    assert kit.files(layout.BRONZE) == bars
    assert (report.final, report.restated, report.rows) == ([DAY], 0, 0)
    assert kit.states() == {DAY: "final"}


def test_a_restatement_rewrites_just_the_bars_that_changed(kit: Kit) -> None:
    """Of a changed answer only the changed bars are written; both answers stay in landing; the change is counted."""
    kit.evening(DAY).fetch(DAY)
    kit.market.set_bar("MSFT", DAY, bar(161.5))
    kit.lake.touched = []
    report = kit.next_morning(DAY).fetch()
    assert kit.lake.touched[1:] == [layout.daily_key("MSFT", DAY)]
    assert len(landed(kit)) == 2
    assert (report.final, report.restated) == ([DAY], 1)
    assert kit.state.sessions()[0].restated == 1
    kit.consolidate()
    assert kit.closes("MSFT") == {DAY: 161.5}
    kit.assert_as_rebuilt()


def test_a_value_that_comes_back_is_a_restatement_too(kit: Kit) -> None:
    """A, then B, then A again: the last answer counts, both changes are recorded."""
    for close, now in (
        (100.0, kit.evening(DAY).now),
        (105.0, kit.next_morning(DAY).now),
        (100.0, kit.evening(NEXT).now),
    ):
        kit.now = now
        kit.market.set_bar("AAPL", DAY, bar(close))
        kit.fetch(DAY)
        kit.consolidate()
    assert kit.closes("AAPL") == {DAY: 100.0}
    assert kit.consolidated("AAPL")[0]["ingested_at"] == kit.now
    assert kit.state.sessions()[0].restated == 2
    assert len(landed(kit)) == 3
    kit.assert_as_rebuilt()


def test_a_restatement_counts_though_the_clock_stands_still_or_goes_back(kit: Kit) -> None:
    """The order in which answers came decides, not the clock of the machine."""
    kit.next_morning(DAY).fetch(DAY)
    for number, step in enumerate((timedelta(0), timedelta(hours=-3), timedelta(0))):
        kit.now += step
        kit.market.set_bar("AAPL", DAY, bar(200.0 + number))
        assert kit.fetch(DAY).restated == 1
        kit.consolidate()
        assert kit.closes("AAPL") == {DAY: 200.0 + number}
    kit.assert_as_rebuilt()


def test_a_bar_that_the_provider_withdraws_stays(kit: Kit) -> None:
    """What was acknowledged is not lost: the last value stays, and the withdrawal is counted."""
    kit.evening(DAY).fetch(DAY)
    kit.market.remove_bar("TRUE", DAY)
    report = kit.next_morning(DAY).fetch()
    assert (report.withdrawn, report.final) == (1, [DAY])
    assert kit.closes("TRUE") == {DAY: 180.0}
    assert kit.state.sessions()[0].withdrawn == 1
    kit.consolidate()
    kit.assert_as_rebuilt()


def test_a_bar_that_comes_late_joins_its_session(kit: Kit) -> None:
    """A symbol that the evening's answer did not have is taken from the morning's."""
    late = kit.market.bars[DAY].pop("IBM")
    kit.evening(DAY).fetch(DAY)
    kit.market.bars[DAY]["IBM"] = late
    report = kit.next_morning(DAY).fetch()
    assert (report.rows, report.restated) == (1, 0)
    assert kit.closes("IBM") == {DAY: 150.0}
    assert kit.state.sessions()[0].rows == 9


def test_without_sessions_all_that_is_due_is_fetched(kit: Kit) -> None:
    """Gaps, provisional sessions whose final bars are out and new sessions come by themselves, however many they are."""
    kit.evening(DAY).fetch(DAY)
    kit.evening(DAYS[4]).fetch(DAYS[4])
    report = kit.next_morning(DAYS[4]).fetch()
    assert report.asked == 5
    assert kit.states() == dict.fromkeys(DAYS[:5], "final")


def test_a_final_session_is_not_asked_for_again_unless_named(kit: Kit) -> None:
    """Final is final; a session that is named is asked for whatever its state."""
    kit.next_morning(DAY).fetch(DAY)
    assert kit.fetch().asked == 0
    assert kit.fetch(DAY).asked == 1


def test_a_second_run_with_nothing_new_writes_nothing(kit: Kit) -> None:
    """Rule 8: 0 PUT, 0 DELETE, and the report says that nothing was new."""
    kit.next_morning(DAY).fetch(DAY)
    reports = []
    cost = kit.cost(lambda: reports.append(kit.fetch()))
    assert (cost.puts, cost.deletes, reports[0].nothing_new) == (0, 0, True)
    cost = kit.cost(lambda: reports.append(kit.fetch(DAY)))
    assert (cost.puts, cost.deletes, reports[1].nothing_new) == (0, 0, True)


# --- rows that break a rule -------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "T": "BAD",
    "o": 10.0,
    "h": 12.0,
    "l": 9.0,
    "c": 11.0,
    "v": 100.0,
    "t": 1762203600000,
    "vw": 10.5,
    "n": 3,
}


#: A row that breaks each rule, in each way that it can be broken.
BROKEN: dict[str, list[dict[str, Any]]] = {
    "symbol": [{"T": "../up"}, {"T": "A B"}, {"T": ""}],
    "price": [{"o": 0}, {"l": -1.0}, {"c": None}],
    "high_below_low": [{"h": 8.0}],
    "volume": [{"v": -1}, {"v": None}],
    "vwap": [{"vw": -0.5}],
    "transactions": [{"n": -1}, {"n": 2**53 + 1}],
    "malformed": [{"o": "ten"}, {"T": 17}, {"n": 1.5}, {"v": True}],
}


def test_rows_that_break_a_rule_go_to_quarantine_and_the_rest_lands(kit: Kit) -> None:
    """A bad row costs its own symbol only; it is kept as it came, with the rule's name."""
    given = [(rule, change) for rule, changes in BROKEN.items() for change in changes]
    sent = [(rule, {**GOOD, "T": f"BAD{number}"} | change) for number, (rule, change) in enumerate(given)]
    kit.market.raw_rows[DAY] = [row for _, row in sent]
    report = kit.evening(DAY).fetch(DAY)
    found = kit.quarantine()
    assert sorted((row["rule"], row["raw"]) for row in found) == sorted(
        (rule, json.dumps(row, sort_keys=True, separators=(",", ":"))) for rule, row in sent
    )
    assert {(row["date"], row["fetched_at"], row["detail"] != "") for row in found} == {(DAY, kit.now, True)}
    assert (report.quarantined, report.rows, report.left) == (16, 9, [])
    assert kit.states() == {DAY: "provisional"}
    assert len(kit.daily_keys()) == 9


def test_two_different_rows_of_one_symbol_both_go_to_quarantine(kit: Kit) -> None:
    """Which of two is right is not guessed at; equal ones count once."""
    kit.market.raw_rows[DAY] = [GOOD, GOOD | {"c": 10.0}, {**GOOD, "T": "TWIN"}, {**GOOD, "T": "TWIN"}]
    kit.evening(DAY).fetch(DAY)
    assert [(row["symbol"], row["rule"]) for row in kit.quarantine()] == [("BAD", "duplicate")] * 2
    assert kit.closes("TWIN") == {DAY: 11.0}
    assert kit.listed(layout.symbol_prefix("BAD")) == []


def test_a_row_that_is_corrected_lands_the_next_morning(kit: Kit) -> None:
    """Quarantine is no verdict on the symbol: a later sound answer counts."""
    kit.market.raw_rows[DAY] = [GOOD | {"h": 8.0}]
    kit.evening(DAY).fetch(DAY)
    kit.market.raw_rows[DAY] = [GOOD]
    kit.next_morning(DAY).fetch()
    assert kit.closes("BAD") == {DAY: 11.0}
    assert len(kit.quarantine()) == 1
    kit.consolidate()
    kit.assert_as_rebuilt()


# --- answers that cannot be taken -------------------------------------------------------------------------------


def test_D18_an_empty_answer_is_no_holiday(kit: Kit) -> None:
    """Rule 9: on a scheduled session it is asked for again, then reported; the next run fetches just that session."""
    kit.evening(DAY)
    kit.provider.fail(GROUPED, kind="empty", times=2)
    report = kit.fetch(DAY)
    assert list(report.pending) == [DAY]
    assert [line.startswith("2025-11-03: empty answer") for line in report.left] == [True]
    assert (kit.states(), kit.listed()) == ({DAY: "pending"}, [])
    assert len(kit.provider.requests) == 2
    assert kit.fetch().provisional == [DAY]


def test_a_short_answer_stays_out_until_it_is_accepted(kit: Kit) -> None:
    """Fewer than half of the usual rows are not believed, unless the caller says that they are right."""
    kit.evening(DAY).fetch(DAY)
    kit.market.bars[NEXT] = {symbol: kit.market.bars[NEXT][symbol] for symbol in SYMBOLS[:4]}
    report = kit.evening(NEXT).fetch(NEXT)
    assert report.left == [
        "2025-11-04: short answer: 4 rows, usual are 9; it is asked for again by the next fetch; if it is right, take it with"
        " `condvest fetch bars --date 2025-11-04 --accept-short`"
    ]
    assert kit.states() == {DAY: "provisional", NEXT: "pending"}
    assert not [key for key in kit.listed() if str(NEXT) in key]
    assert kit.fetch(NEXT, accept_short=True).provisional == [NEXT]
    assert kit.closes("AAPL") == {DAY: 100.0, NEXT: 101.0}


def test_a_short_answer_takes_nothing_from_a_session_that_is_done(kit: Kit) -> None:
    """A session that landed stays as it is when its re-fetch comes short, and is asked for again."""
    kit.evening(DAY).fetch(DAY)
    kit.evening(NEXT).fetch()
    kit.next_morning(NEXT)
    kit.provider.fail(f"{GROUPED}/locale/us/market/stocks/{NEXT}", kind="short")
    report = kit.fetch()
    assert list(report.pending) == [NEXT]
    assert (report.withdrawn, kit.states()) == (0, {DAY: "final", NEXT: "provisional"})
    assert kit.fetch().final == [NEXT]


def test_a_session_that_is_not_over_stays_pending(kit: Kit) -> None:
    """The provider refuses today before the end of the day; that passes and is not taken for the plan's limit."""
    kit.evening(DAY)
    kit.now -= timedelta(hours=3)
    report = kit.fetch(DAY)
    assert kit.states() == {DAY: "pending"}
    assert "before end of day" in report.left[0]


def test_a_session_outside_the_plan_is_said_once_and_not_asked_for_again(tmp_path: Path) -> None:
    """`not_entitled` is no work left and no gap; what the plan includes goes on."""
    with Kit(tmp_path, plan_start=NEXT) as kit:
        report = kit.evening(NEXT).fetch(DAY, NEXT)
        assert (report.not_entitled, report.provisional, report.left) == ([DAY], [NEXT], [])
        assert kit.states() == {DAY: "not_entitled", NEXT: "provisional"}
        assert kit.fetch().asked == 0


def test_D17_one_session_that_fails_does_not_hold_up_the_others(kit: Kit) -> None:
    """A failed session stays pending with its reason; later ones land; the next run asks for it alone."""
    kit.evening(THIRD)
    kit.provider.fail(f"{GROUPED}/locale/us/market/stocks/{NEXT}", status=503, times=2)
    report = kit.fetch(DAY, NEXT, THIRD)
    assert list(report.pending) == [NEXT]
    assert kit.states() == {DAY: "final", NEXT: "pending", THIRD: "provisional"}
    report = kit.fetch()
    assert (report.asked, report.left) == (1, [])
    assert kit.states()[NEXT] == "final"


def test_a_refused_key_stops_at_once(kit: Kit) -> None:
    """A wrong key is a wrong setting: nothing lands, nothing is called pending."""
    kit.provider.api_key = "another"
    kit.evening(NEXT)
    with pytest.raises(ConfigError, match="POLYGON_API_KEY"):
        kit.fetch(DAY, NEXT)
    assert kit.listed() == []
    assert kit.states() == {DAY: "missing", NEXT: "missing"}


def test_a_universe_limits_bronze_and_never_landing(kit: Kit) -> None:
    """A lake of a few symbols keeps whole answers, so that it can be widened later without the provider."""
    kit.universe = frozenset({"AAPL", "IBM"})
    report = kit.evening(DAY).fetch(DAY)
    assert kit.daily_keys() == [layout.daily_key(symbol, DAY) for symbol in ("AAPL", "IBM")]
    assert report.rows == 2
    (key,) = landed(kit)
    assert len(json.loads(gzip.decompress(kit.store.get(key).data))["results"]) == 9
    kit.universe = None
    kit.consolidate(force_full=True)
    assert kit.closes("MSFT") == {DAY: 160.0}


# --- old sessions -----------------------------------------------------------------------------------------------


def test_a_session_of_more_than_five_days_ago_is_merged_before_it_is_acknowledged(kit: Kit) -> None:
    """A vacuum may remove a `date=` file from 7 days on, so the only copy of an older bar is never in one."""
    kit.now = kit.evening(DAY).now + timedelta(days=6)
    kit.fetch(DAY)
    assert {row["date"] for symbol in SYMBOLS for row in kit.consolidated(symbol)} == {DAY}
    kit.now = kit.evening(NEXT).now + timedelta(days=5)
    kit.fetch(NEXT)
    assert {row["date"] for symbol in SYMBOLS for row in kit.consolidated(symbol)} == {DAY}


def test_D19_an_old_session_that_cannot_be_merged_is_left_and_not_acknowledged(kit: Kit) -> None:
    """A corrupt `data.parquet` is named; the ledger waits until the rows are durable."""
    kit.store.put(layout.data_key("IBM"), b"not parquet")
    kit.now = kit.evening(DAY).now + timedelta(days=20)
    report = kit.fetch(DAY)
    assert len(report.left) == 1
    assert layout.data_key("IBM") in report.left[0]
    assert kit.states() == {DAY: "missing"}
    kit.consolidate(force_full=True)
    requests = len(kit.provider.requests)
    assert kit.fetch(DAY).final == [DAY]
    assert len(kit.provider.requests) == requests
    kit.assert_as_rebuilt()


# --- crashes ----------------------------------------------------------------------------------------------------


def few(tmp_path: Path, numbers: Iterator[int]) -> Kit:
    """Return a lake of two symbols in a folder of its own."""
    return Kit(tmp_path / str(next(numbers)), market=market_of(DAYS[:3], SYMBOLS[:2]))


def test_a_fetch_that_is_killed_goes_on_from_landing(tmp_path: Path) -> None:
    """Wherever it is killed the ledger knows nothing, and what landed is completed without asking the provider."""
    numbers = count()

    def make() -> Kit:
        return few(tmp_path, numbers)

    def check(kit: Kit) -> None:
        if kit.states() == {DAY: "missing"}:
            was_landed, requests = bool(landed(kit)), len(kit.provider.requests)
            report = kit.fetch()
            assert report.resumed == was_landed
            assert len(kit.provider.requests) - requests == (not was_landed)
        assert kit.states() == {DAY: "provisional"}
        kit.consolidate()
        assert kit.closes("AAPL") == {DAY: 100.0}
        kit.assert_as_rebuilt()

    assert survive_every_kill(make, lambda kit: kit.evening(DAY).fetch(DAY), check) == 4


def test_a_restatement_that_is_killed_is_not_lost(tmp_path: Path) -> None:
    """An answer that landed but did not reach bronze is not taken for known by the next run."""
    numbers = count()

    @contextmanager
    def make() -> Iterator[Kit]:
        with few(tmp_path, numbers) as kit:
            kit.evening(DAY).fetch(DAY)
            for symbol in SYMBOLS[:2]:
                kit.market.set_bar(symbol, DAY, bar(555.0))
            yield kit.next_morning(DAY)

    def check(kit: Kit) -> None:
        kit.after(minutes=1).fetch()
        assert kit.states() == {DAY: "final"}
        kit.consolidate()
        assert kit.closes("AAPL") == kit.closes("BCPC") == {DAY: 555.0}
        kit.assert_as_rebuilt()

    assert survive_every_kill(make, lambda kit: kit.fetch(), check) == 4


def test_an_old_session_that_is_killed_between_its_files_is_completed(tmp_path: Path) -> None:
    """Landing, `date=` files, `data.parquet`, caches: after a kill between any two the next run ends as a clean one."""
    numbers = count()

    def act(kit: Kit) -> None:
        kit.now = kit.evening(DAY).now + timedelta(days=20)
        kit.fetch(DAY)

    def check(kit: Kit) -> None:
        kit.fetch(DAY)
        assert kit.states() == {DAY: "final"}
        assert kit.consolidate().left == []
        kit.assert_as_rebuilt()

    assert survive_every_kill(lambda: few(tmp_path, numbers), act, check) == 8


def test_a_kill_before_the_ledger_costs_no_request(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything was written but the ledger: the next run writes the ledger and asks nobody."""

    def kill(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(kit.state, "record", kill)
        with pytest.raises(Killed):
            kit.evening(DAY).fetch(DAY)
    assert kit.states() == {DAY: "missing"}
    report = kit.fetch()
    assert (report.asked, report.resumed, report.provisional) == (0, 1, [DAY])
    assert len(kit.provider.requests) == 1


def test_what_landed_in_the_evening_is_asked_for_again_when_final_bars_are_out(kit: Kit) -> None:
    """A killed evening run is completed from landing only while asking again would bring nothing better."""
    kit.lake.kill_at(1)
    with pytest.raises(Killed):
        kit.evening(DAY).fetch(DAY)
    kit.lake.kill_at(None)
    kit.market.set_bar("AAPL", DAY, bar(101.0))
    report = kit.next_morning(DAY).fetch()
    assert (report.asked, report.final) == (1, [DAY])
    assert kit.closes("AAPL") == {DAY: 101.0}
    kit.consolidate()
    kit.assert_as_rebuilt()


def test_a_fetch_of_a_done_session_that_is_killed_before_landing_asks_again(kit: Kit) -> None:
    """The ledger was told that a later answer comes, and none did: what is landed is the old one, and does not serve."""
    kit.next_morning(DAY).fetch(DAY)
    kit.market.set_bar("AAPL", DAY, bar(111.0))
    kit.lake.kill_at(0)
    with pytest.raises(Killed):
        kit.after(days=1).fetch(DAY)
    kit.lake.kill_at(None)
    assert kit.states() == {DAY: "pending"}
    report = kit.fetch(DAY)
    assert (report.asked, report.resumed, report.restated) == (1, 0, 1)
    assert kit.closes("AAPL") == {DAY: 111.0}


def test_a_row_that_came_and_went_and_came_while_runs_were_killed_is_as_rebuilt(kit: Kit) -> None:
    """Two answers landed in runs that were killed, the second with the values of before: bronze follows landing."""
    kit.evening(DAY).fetch(DAY)
    kit.next_morning(DAY)
    for close in (105.0, 100.0):
        kit.market.set_bar("AAPL", DAY, bar(close))
        kit.lake.kill_at(1)
        with pytest.raises(Killed):
            kit.after(minutes=1).fetch()
    kit.lake.kill_at(None)
    kit.after(minutes=1).fetch()
    kit.consolidate()
    kit.assert_as_rebuilt()


# --- on every kind of store and state ---------------------------------------------------------------------------


def test_an_evening_and_a_morning_on_every_kind_of_lake_and_state(
    lake_url: str, state_url: str, tmp_path: Path
) -> None:
    """The same promises on a folder and on S3, on SQLite and on PostgreSQL."""
    market = market_of(DAYS[:2], SYMBOLS[:3])
    with Kit(tmp_path, market=market, lake_url=lake_url, state_url=state_url) as kit:
        kit.evening(DAY).fetch(DAY)
        kit.market.set_bar("BCpC", DAY, replace(kit.market.bars[DAY]["BCpC"], close=121.0))
        report = kit.next_morning(DAY).fetch()
        assert (report.restated, kit.states()) == (1, {DAY: "final"})
        assert kit.cost(lambda: kit.fetch(DAY)).puts == 0
        kit.consolidate()
        assert kit.closes("BCpC") == {DAY: 121.0}
        assert set(VALUE_NAMES) < set(kit.consolidated("BCpC")[0])
        kit.assert_as_rebuilt()

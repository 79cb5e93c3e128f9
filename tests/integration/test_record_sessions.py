"""Recording what landed: the ledger of a fetch without a database is the ledger of a fetch with one."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from condvest.domain.answers import SessionRefusal
from condvest.domain.ledger import LedgerRow
from condvest.jobs.fetch_bars import fetch_bars
from condvest.jobs.fetch_meta import land_meta
from condvest.jobs.fetch_report import FetchReport
from condvest.jobs.fetch_symbols import fetch_symbols
from condvest.jobs.landed import LandedRanges, read_ranges
from condvest.jobs.record_landed import record_landed
from condvest.jobs.record_sessions import RecordReport
from condvest.jobs.session_log import DetachedLog
from condvest.jobs.stopping import Stop, never
from condvest.storage import layout
from condvest.storage.landing import LandingIndex
from condvest.storage.store import Store
from integration.jobs_kit import DAYS, SYMBOLS, Kit, bar, market_of, survive_every_kill

DAY, NEXT, THIRD = DAYS[:3]


class Apart(Kit):
    """A lake whose fetches see no database, and whose recordings see no provider."""

    def fetch_apart(self, *sessions: date, stop_after: int | None = None) -> FetchReport:
        """Fetch sessions with what the ledger knows of them, and record nothing."""
        asked = iter(range(stop_after if stop_after is not None else 10_000))
        return fetch_bars(
            self.lake,
            self.source,
            DetachedLog(self.state.sessions()),
            calendar=self.calendar,
            now=self.now,
            sessions=list(sessions),
            universe=self.universe,
            stop=lambda: next(asked, None) is None,
        )

    def ranges_apart(self, *symbols: str, first: date, last: date) -> FetchReport:
        """Fetch symbols by the range endpoint, and record nothing."""
        return fetch_symbols(
            self.lake,
            self.source,
            DetachedLog([]),
            calendar=self.calendar,
            now=self.now,
            symbols=symbols,
            first=first,
            last=last,
        )

    def record(self, *refused: SessionRefusal, stop: Stop = never) -> RecordReport:
        """Record what landed."""
        return record_landed(
            self.lake,
            self.state,
            calendar=self.calendar,
            now=self.now,
            refused=refused,
            universe=self.universe,
            stop=stop,
        )

    def ledger(self) -> list[LedgerRow]:
        """Return the ledger without what the two ways tell of differently: when a row was written, and looked up."""
        return [replace(row, updated_at=None, fetched_at=None) for row in self.state.sessions()]


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Apart]:
    """A lake with the two zones apart."""
    with Apart(tmp_path / "apart") as kit:
        yield kit


def live(kit: Kit, fetch: object) -> None:
    """Three days: provisional, final, restated with a bar that breaks a rule, and a symbol that comes and one that goes."""
    assert callable(fetch)
    kit.evening(DAY)
    fetch(DAY)
    kit.market.set_bar("IBM", DAY, bar(77.0))
    kit.next_morning(DAY)
    fetch(DAY)
    kit.market.set_bar("NEW", NEXT, bar(5.0))
    kit.market.set_bar("TRUE", NEXT, bar(9.0, high=1.0))
    kit.evening(NEXT)
    fetch(NEXT)
    kit.next_morning(NEXT)
    fetch(NEXT)


def test_the_ledger_is_the_one_that_a_fetch_with_a_database_writes(apart: Apart, tmp_path: Path) -> None:
    """The same days give the same rows, the same watermarks and the same lake, whichever way they were recorded."""
    live(apart, lambda day: (apart.fetch_apart(day), apart.record()))
    with Apart(tmp_path / "whole") as whole:
        live(whole, whole.fetch)
        assert apart.ledger() == whole.ledger()
        assert apart.state.symbol_watermarks() == whole.state.symbol_watermarks()
        assert content(apart) == content(whole)


def content(kit: Kit) -> dict[str, object]:
    """Return what a lake's objects hold, but for the versions of others that they name."""
    known = {key: kit.table(key).drop_columns("etag").to_pylist() for key in kit.listed(layout.FETCHED)}
    return kit.files() | known


def test_a_backfill_is_recorded_as_one_with_a_database_is(apart: Apart, tmp_path: Path) -> None:
    """More than 20 sessions go past the `date=` files, and are held against each `data.parquet`."""
    days = DAYS[:25]
    apart.evening(days[-1]).fetch_apart(*days)
    report = apart.record()
    assert (len(report.final), len(report.provisional), report.left) == (24, 1, [])
    with Apart(tmp_path / "whole") as whole:
        whole.evening(days[-1]).fetch(*days)
        assert apart.ledger() == whole.ledger()
        assert apart.state.symbol_watermarks() == whole.state.symbol_watermarks()


def test_recording_again_changes_nothing_and_reads_no_bar(apart: Apart) -> None:
    """What the ledger knows costs a listing."""
    apart.evening(DAY).fetch_apart(DAY)
    apart.record()
    reports: list[RecordReport] = []
    cost = apart.after(minutes=5).cost(lambda: reports.append(apart.record()))
    assert (cost.gets, cost.puts, cost.deletes, reports[0].nothing_new) == (1, 0, 0, True)  # the closures


def test_a_confirmed_session_becomes_final_without_reading_its_bars(apart: Apart) -> None:
    """The same values again leave a receipt; bronze was proven before."""
    apart.evening(DAY).fetch_apart(DAY)
    apart.record()
    apart.next_morning(DAY).fetch_apart(DAY)
    cost = apart.cost(lambda: apart.record())
    assert apart.states() == {DAY: "final"}
    assert cost.gets == 2  # the closures and the answer


def test_a_session_that_is_not_whole_in_bronze_is_pending(apart: Apart) -> None:
    """The ledger never says more than bronze holds, and a fetch completes the session without asking again."""
    apart.evening(DAY).fetch_apart(DAY)
    apart.store.delete_many([layout.daily_key("IBM", DAY)])
    report = apart.record()
    assert [line.startswith(f"{DAY}: landed, but not all") for line in report.left] == [True]
    assert (apart.states(), apart.state.symbol_watermarks()) == ({DAY: "pending"}, {})
    asked = len(apart.provider.requests)
    assert apart.fetch_apart(DAY).resumed == 1
    assert len(apart.provider.requests) == asked
    assert (apart.record().provisional, apart.states()) == ([DAY], {DAY: "provisional"})


def test_a_done_session_whose_later_answer_is_not_in_bronze_is_opened_again(apart: Apart) -> None:
    """A fetch that was killed between landing and bronze leaves no session final that is not."""
    apart.next_morning(DAY).fetch_apart(DAY)
    apart.record()
    old = apart.store.get(layout.daily_key("IBM", DAY)).data
    apart.market.set_bar("IBM", DAY, bar(50.0))
    apart.after(hours=1).fetch_apart(DAY)
    apart.store.put(layout.daily_key("IBM", DAY), old)
    assert apart.record().incomplete.keys() == {DAY}
    assert apart.states() == {DAY: "pending"}
    apart.fetch_apart(DAY)
    apart.record()
    assert (apart.states(), apart.closes("IBM")[DAY]) == ({DAY: "final"}, 50.0)


def test_a_backfilled_session_that_data_parquet_lacks_is_pending(apart: Apart, tmp_path: Path) -> None:
    """Also where 25 sessions are held against one file a symbol: only the session that is short stays open."""
    days = DAYS[:25]
    apart.evening(days[-1]).fetch_apart(*days)
    key = layout.data_key("IBM")
    with Apart(tmp_path / "other") as other:
        other.evening(DAYS[25]).fetch_apart(*days[:3], *days[4:26])
        apart.store.put(key, other.store.get(key).data)
    assert apart.record().incomplete.keys() == {days[3]}
    assert [day for day, state in apart.states().items() if state == "pending"] == [days[3]]
    assert apart.state.symbol_watermarks()["IBM"] == days[-1]


def test_what_is_refused_is_recorded_where_nothing_landed(apart: Apart) -> None:
    """A session that the plan does not include is not asked for each day anew; one that landed tells for itself."""
    apart.evening(DAY).fetch_apart(DAY)
    report = apart.record(
        SessionRefusal(DAY, "pending", "down"), SessionRefusal(NEXT, "not_entitled", "the plan begins later")
    )
    assert (report.refused, apart.states()) == (1, {DAY: "provisional", NEXT: "not_entitled"})
    assert apart.state.sessions()[1].reason == "the plan begins later"


def test_an_answer_that_cannot_be_read_leaves_its_session_pending(apart: Apart) -> None:
    """It is named, and the other sessions are recorded."""
    apart.evening(NEXT).fetch_apart(DAY, NEXT)
    (key,) = apart.listed(layout.landing_prefix("grouped", DAY))
    apart.store.put(key, b"no gzip")
    assert [key in line for line in apart.record().left] == [True]
    assert apart.states() == {DAY: "pending", NEXT: "provisional"}


def confirmed(apart: Apart) -> str:
    """Record one day as provisional, let its final answer land, and return the key of that."""
    apart.evening(DAY).fetch_apart(DAY)
    apart.record()
    apart.market.set_bar("IBM", DAY, bar(50.0))
    apart.next_morning(DAY).fetch_apart(DAY)
    return apart.listed(layout.landing_prefix("grouped", DAY))[-1]


@pytest.mark.parametrize("of_bronze", [False, True], ids=["answer", "file"])
def test_what_the_network_spoiled_takes_nothing_back(apart: Apart, of_bronze: bool) -> None:
    """A landed answer, or a file of bronze, is spoiled at two readings: the session is done as it was, and now final."""
    key = confirmed(apart)
    apart.lake.spoil(layout.daily_key("IBM", DAY) if of_bronze else key, times=2)
    report = apart.record()
    assert (report.left, report.final, apart.states()) == ([], [DAY], {DAY: "final"})
    assert set(apart.lake.spoiled.values()) == {0}


def test_a_done_session_with_an_answer_that_cannot_be_read_stays_done(apart: Apart) -> None:
    """What was acknowledged is not taken back: the answer is named, and recorded once it can be read."""
    key = confirmed(apart)
    data, before = apart.store.get(key).data, apart.state.sessions()
    apart.store.put(key, b"no gzip")
    for _ in range(2):
        report = apart.record()
        assert [key in line for line in report.left] == [True]
        assert (report.nothing_new, apart.state.sessions()) == (True, before)
    apart.store.put(key, data)
    assert (apart.record().final, apart.states()) == ([DAY], {DAY: "final"})


def test_ranges_move_the_watermarks_of_what_bronze_holds(apart: Apart) -> None:
    """Symbols fetched one by one are found among what landed, and recorded by what bronze holds of it, as sessions are."""
    apart.evening(THIRD).ranges_apart("IBM", "NA", first=DAY, last=THIRD)
    held = apart.store.get(layout.daily_key("NA", THIRD)).data
    apart.store.delete_many([layout.daily_key("NA", THIRD)])
    report = apart.record()
    assert [line.startswith("NA: ") for line in report.left] == [True]
    assert (apart.state.symbol_watermarks(), report.symbols_moved) == ({"IBM": THIRD}, ["IBM"])
    apart.after(days=3)
    assert [line.startswith("NA: ") for line in apart.record().left] == [True], "it is told until it is whole"
    apart.store.put(layout.daily_key("NA", THIRD), held)
    assert apart.record().left == []
    assert apart.state.symbol_watermarks() == {"IBM": THIRD, "NA": THIRD}


def test_ranges_are_read_once_for_all_blocks_of_sessions(apart: Apart, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty years are twenty blocks, and each range answer may reach over all of them."""
    monkeypatch.setattr("condvest.jobs.record_sessions._BLOCK_SESSIONS", 21)
    read: list[int] = []

    def counted(store: Store, index: LandingIndex, symbols: Collection[str] | None = None) -> LandedRanges:
        read.append(len(index.ranges))
        return read_ranges(store, index, symbols)

    monkeypatch.setattr("condvest.jobs.record_sessions.read_ranges", counted)
    apart.evening(DAYS[41]).ranges_apart("IBM", first=DAY, last=DAYS[41])
    apart.fetch_apart(*DAYS[:42])
    report = apart.record()
    assert (len(report.final) + len(report.provisional), report.left) == (42, [])
    assert read == [1]


def test_ranges_that_are_recorded_cost_a_listing(apart: Apart) -> None:
    """Neither one that moved a watermark nor one that ends early is read again: after a day a delisted symbol costs nothing."""
    for day in (NEXT, THIRD):
        del apart.market.bars[day]["NA"]
    apart.evening(THIRD).ranges_apart("IBM", "NA", first=DAY, last=THIRD)
    apart.record()
    assert apart.state.symbol_watermarks() == {"IBM": THIRD, "NA": DAY}
    apart.after(days=1, hours=1).ranges_apart("MSFT", first=DAY, last=THIRD)
    assert apart.record().symbols_moved == ["MSFT"]
    cost = apart.after(minutes=5).cost(lambda: apart.record())
    assert (cost.gets, cost.puts) == (1, 0)  # the closures


def test_a_range_that_lands_while_another_is_recorded_is_not_lost(apart: Apart) -> None:
    """A fetch lands under the instant at which it began: one that began before a recording and ended after it counts."""
    began = apart.evening(THIRD).now
    apart.after(minutes=10).ranges_apart("IBM", first=DAY, last=THIRD)
    apart.record()
    apart.now = began
    apart.ranges_apart("NA", first=DAY, last=THIRD)
    apart.after(minutes=20)
    assert apart.record().symbols_moved == ["NA"]


def test_a_restating_range_is_counted_and_held_by_value(apart: Apart) -> None:
    """A range that says what a session's answer said is in bronze already; one that says otherwise counts as a restatement."""
    apart.evening(DAY).fetch_apart(DAY)
    assert apart.after(minutes=1).ranges_apart("IBM", first=DAY, last=DAY).restated == 0
    assert apart.record().left == []
    apart.market.set_bar("IBM", DAY, bar(50.0))
    assert apart.after(minutes=1).ranges_apart("IBM", first=DAY, last=DAY).restated == 1
    assert apart.record().left == []


def test_a_recording_that_is_asked_to_stop_goes_on_in_the_next_call(apart: Apart) -> None:
    """Sessions, symbols and listings that it did not come to are named, and found again."""
    apart.evening(THIRD).fetch_apart(DAY, NEXT)
    apart.ranges_apart("NEW", "IBM", first=DAY, last=THIRD)
    land_meta(apart.lake, apart.source, now=apart.now, details=["IBM"])
    report = apart.record(stop=lambda: True)
    assert (report.remaining, report.remaining_symbols) == ([DAY, NEXT], ["IBM"])
    assert [key.split("/")[2] for key in report.remaining_listings] == ["tickers", "details"]
    assert apart.states() == {}
    report = apart.record()
    assert (report.left, set(apart.states()), apart.state.symbol_watermarks()["IBM"]) == ([], {DAY, NEXT}, THIRD)
    assert {row.symbol for row in apart.state.symbols() if row.details_at} == {"IBM"}


def test_what_is_not_whole_keeps_nothing_else_waiting(apart: Apart, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions that the last recording found broken are looked at after the others."""
    monkeypatch.setattr("condvest.jobs.record_sessions._BLOCK_SESSIONS", 1)
    apart.evening(DAY).fetch_apart(DAY)
    apart.store.delete_many([layout.daily_key("IBM", DAY)])
    apart.record()
    apart.evening(NEXT).fetch_apart(NEXT)
    looks = iter([False, True, True, True, True])
    report = apart.record(stop=lambda: next(looks))
    assert (report.provisional, report.remaining) == ([NEXT], [DAY])


def test_the_cost_of_a_day_does_not_grow_with_history(apart: Apart) -> None:
    """After 25 sessions, ranges and listings a day costs the reads that the second day did: its answer and its bars."""
    costs = []
    for day in DAYS[:25]:
        apart.evening(day).fetch_apart(day)
        apart.market.add_ticker("IBM", name=f"International {day}")
        land_meta(apart.lake, apart.source, now=apart.now)
        costs.append(apart.cost(lambda: apart.record()))
    assert {cost.gets for cost in costs[1:]} == {costs[1].gets}


def test_a_fetch_that_is_asked_to_stop_leaves_the_rest_for_the_next_call(apart: Apart) -> None:
    """What it did is whole; what it names is what it did not."""
    report = apart.evening(THIRD).fetch_apart(DAY, NEXT, THIRD, stop_after=1)
    assert (report.remaining, report.left) == ([NEXT, THIRD], [])
    apart.record()
    assert apart.states() == {DAY: "final"}
    assert apart.fetch_apart(*report.remaining).remaining == []
    apart.record()
    assert set(apart.states()) == {DAY, NEXT, THIRD}


def test_a_backfill_that_is_asked_to_stop_goes_on_from_what_landed(apart: Apart) -> None:
    """No answer is asked for twice, however often it is called."""
    days = DAYS[:25]
    apart.evening(days[-1])
    report, calls = apart.fetch_apart(*days, stop_after=12), 1
    while report.remaining:
        report, calls = apart.fetch_apart(*report.remaining, stop_after=12), calls + 1
    assert calls >= 2
    grouped = [request for request in apart.provider.requests if "/grouped/" in request.path]
    assert len(grouped) <= 25 + 4 * calls  # requests in flight when it stopped
    assert apart.record().left == []
    assert len(apart.states()) == 25


def test_a_zone_that_is_killed_anywhere_leaves_nothing_that_the_next_run_does_not_heal(tmp_path: Path) -> None:
    """Fetch and record, killed before each of their writes in turn, run again: the ledger is that of a clean run."""
    number = iter(range(1000))

    @contextmanager
    def make() -> Iterator[Apart]:
        with Apart(tmp_path / str(next(number)), market=market_of(DAYS[:2], SYMBOLS[:3])) as kit:
            kit.evening(DAY).fetch_apart(DAY)
            kit.record()
            kit.market.set_bar("AAPL", DAY, bar(50.0))
            yield kit.next_morning(DAY)

    def act(kit: Kit) -> None:
        assert isinstance(kit, Apart)
        kit.fetch_apart(DAY)
        kit.record()

    def check(kit: Kit) -> None:
        assert isinstance(kit, Apart)
        kit.record()
        if kit.states() != {DAY: "final"}:
            act(kit)
        assert (kit.states(), kit.closes("AAPL")[DAY]) == ({DAY: "final"}, 50.0)

    assert survive_every_kill(make, act, check) >= 2

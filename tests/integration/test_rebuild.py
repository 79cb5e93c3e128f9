"""Rebuilding the ledger: an empty state beside a filled lake learns from the lake what the lost one knew."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from condvest.domain.calendar import Calendar
from condvest.domain.ledger import LedgerRow
from condvest.jobs.rebuild import rebuild_ledger
from condvest.jobs.verify import verify
from condvest.state import State
from condvest.storage import layout
from integration.jobs_kit import DAYS, SYMBOLS, Kit, bar, market_of
from integration.watched_lake import Killed

RESTATED, WITHDRAWN, REJECTED, LAST = DAYS[22], DAYS[23], DAYS[24], DAYS[25]
CALENDAR = Calendar.shipped()


def build(kit: Kit) -> None:
    """Make sessions of every kind: backfilled, confirmed, restated, with a withdrawn bar or a rejected row, provisional."""
    kit.market.raw_rows[REJECTED] = [{"T": "BAD", "o": 1, "h": 1, "l": 2, "c": 1, "v": 1, "t": 0}]
    kit.evening(DAYS[21]).fetch(*DAYS[:22])
    for day in DAYS[22:26]:
        kit.next_morning(CALENDAR.previous_session(day)).fetch()
        kit.evening(day).fetch()
        kit.market.set_bar("BCpC", RESTATED, bar(141.5))
        if day == WITHDRAWN:
            kit.market.remove_bar("NA", day)
    kit.consolidate()


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    """An empty lake beside a market of its own."""
    with Kit(tmp_path / "known", market=market_of(DAYS[:40])) as made:
        yield made


@contextmanager
def without_state(kit: Kit, folder: Path) -> Iterator[Kit]:
    """The same lake in another folder (hard links keep the ETags), with an empty state and the same market and clock."""
    with Kit(folder / "lost", market=kit.market) as other:
        other.now, other.universe = kit.now, kit.universe
        shutil.copytree(folder / "known" / "lake", folder / "lost" / "lake", copy_function=os.link)
        yield other


def rebuild(kit: Kit) -> int:
    """Rebuild, and make sure that the lake is only read."""
    before = kit.store.meter.snapshot()
    sessions = rebuild_ledger(kit.lake, kit.state, calendar=CALENDAR, now=kit.now, universe=kit.universe)
    cost = kit.store.meter.snapshot() - before
    assert (cost.puts, cost.deletes) == (0, 0)
    return sessions


def rows(state: State) -> dict[date, LedgerRow]:
    """Return the ledger without the time of its last write."""
    return {row.session_date: replace(row, updated_at=None) for row in state.sessions()}


def test_a_ledger_that_another_run_rebuilt_meanwhile_is_left_alone(kit: Kit) -> None:
    """Two runs find it lost: what the first recorded since, which the lake does not know, outlives the second's turn."""
    build(kit)
    kit.state.expect([DAYS[39]], now=kit.now)
    before = rows(kit.state)
    assert rebuild_ledger(kit.lake, kit.state, calendar=CALENDAR, now=kit.now, only_empty=True) == 0
    assert rows(kit.state) == before


def test_the_ledger_is_as_it_was(kit: Kit, tmp_path: Path) -> None:
    """States, counts, digests, restatements, withdrawn bars and watermarks follow from landing and bronze alone."""
    build(kit)
    with without_state(kit, tmp_path) as lost:
        assert rebuild(lost) == 26
        assert rows(lost.state) == rows(kit.state)
        found = rows(lost.state)
        assert (found[RESTATED].restated, found[WITHDRAWN].withdrawn, found[REJECTED].quarantined) == (1, 1, 1)
        assert (found[DAYS[0]].state, found[DAYS[21]].state, found[LAST].state) == ("final", "final", "provisional")
        assert lost.state.symbol_watermarks() == kit.state.symbol_watermarks()
        assert verify(lost.lake, lost.state, calendar=CALENDAR, now=lost.now).broken == []
        before = lost.state.watermark_history("AAPL")
        rebuild(lost)
        assert lost.state.watermark_history("AAPL") == before


def test_the_next_fetch_does_the_same(kit: Kit, tmp_path: Path) -> None:
    """After a rebuild the next runs ask, write and report just what they would have with the lost state."""
    build(kit)
    with without_state(kit, tmp_path) as lost:
        rebuild(lost)
        kit.market.set_bar("MSFT", LAST, bar(50.0))
        for both in (kit, lost):
            both.lake.touched.clear()
            both.next_morning(LAST)
        assert lost.fetch() == kit.fetch()
        assert lost.evening(DAYS[27]).fetch() == kit.evening(DAYS[27]).fetch()
        assert lost.lake.touched == kit.lake.touched
        assert rows(lost.state) == rows(kit.state)
        assert lost.files(layout.BRONZE).keys() == kit.files(layout.BRONZE).keys()
        lost.consolidate()
        lost.consolidate()
        lost.consolidate()
        lost.consolidate()
        lost.assert_as_rebuilt()


def test_what_a_killed_fetch_left_is_pending(kit: Kit, tmp_path: Path) -> None:
    """A session of which bars lack in bronze is pending, and the next fetch completes it without asking."""
    kit.evening(DAYS[0]).fetch(DAYS[0])
    kit.evening(DAYS[1]).lake.kill_at(len(SYMBOLS))
    with pytest.raises(Killed):
        kit.fetch(DAYS[1])
    kit.lake.kill_at(None)
    with without_state(kit, tmp_path) as lost:
        rebuild(lost)
        assert lost.states() == {DAYS[0]: "provisional", DAYS[1]: "pending"}
        reason = lost.state.sessions()[1].reason
        assert reason == "landed, but not all of its bars are in bronze; the next fetch completes it"
        marks = lost.state.symbol_watermarks()
        assert set(marks.values()) == {DAYS[0]}
        assert len(lost.daily_keys()) == 2 * len(SYMBOLS) - 1
        report = lost.fetch()
        assert (report.asked, report.resumed, report.left) == (1, 1, [])
        assert lost.states() == {DAYS[0]: "final", DAYS[1]: "provisional"}
        assert set(lost.state.symbol_watermarks().values()) == {DAYS[1]}


def test_a_lost_bar_makes_its_session_pending(kit: Kit, tmp_path: Path) -> None:
    """What the lake lost is not called final: it is named, and a full consolidation brings it back from landing."""
    build(kit)
    kit.store.delete_many(kit.listed(layout.symbol_prefix("NA")))
    with without_state(kit, tmp_path) as lost:
        rebuild(lost)
        assert {day for day, state in lost.states().items() if state == "pending"} == set(DAYS[:26])
        assert lost.state.symbol_watermarks() == {}
        assert "is gone" in "".join(lost.next_morning(LAST).fetch().left)
        lost.consolidate(force_full=True)
        lost.fetch()
        assert set(lost.states().values()) == {"final"}
        assert len(lost.closes("NA")) == 26
        assert verify(lost.lake, lost.state, calendar=CALENDAR, now=lost.now).broken == []


def test_a_corrupt_answer_makes_its_session_pending(kit: Kit, tmp_path: Path) -> None:
    """A landed answer that cannot be read stops nothing: its session is pending and says why."""
    build(kit)
    (key,) = kit.listed(layout.landing_prefix("grouped", DAYS[3]))
    kit.store.put(key, b"spoiled")
    with without_state(kit, tmp_path) as lost:
        rebuild(lost)
        row = rows(lost.state)[DAYS[3]]
        assert row.state == "pending"
        assert key in (row.reason or "")
        assert sum(state == "pending" for state in lost.states().values()) == 1
        assert set(lost.state.symbol_watermarks().values()) == {LAST}


def test_ranges_make_watermarks_not_sessions(kit: Kit, tmp_path: Path) -> None:
    """A session of which only ranges landed has no row in the ledger; its bars count for their symbols."""
    kit.evening(DAYS[0]).fetch(DAYS[0])
    kit.evening(DAYS[5]).fetch_symbols("MSFT", first=DAYS[0], last=DAYS[5])
    with without_state(kit, tmp_path) as lost:
        assert rebuild(lost) == 1
        assert lost.states() == {DAYS[0]: "provisional"}
        assert lost.state.symbol_watermarks() == kit.state.symbol_watermarks()
        assert lost.state.symbol_watermarks()["MSFT"] == DAYS[5]


def test_a_universe_limits_what_must_be_in_bronze(kit: Kit, tmp_path: Path) -> None:
    """A lake of some symbols is whole without the others; all of them landed."""
    kit.universe = frozenset({"AAPL", "NA"})
    build(kit)
    with without_state(kit, tmp_path) as lost:
        rebuild(lost)
        assert rows(lost.state) == rows(kit.state)
        assert lost.state.symbol_watermarks() == kit.state.symbol_watermarks()
        lost.universe = None
        rebuild(lost)
        assert set(lost.states().values()) == {"pending"}


def test_what_the_lake_does_not_know_is_absent(tmp_path: Path) -> None:
    """Sessions without an answer have no row after a rebuild: one that the plan does not include, one that is due."""
    with Kit(tmp_path / "known", market=market_of(DAYS[:40]), plan_start=DAYS[2]) as kit:
        kit.evening(DAYS[3]).fetch(*DAYS[1:4])
        kit.evening(DAYS[4])
        kit.provider.fail("/v2/aggs/grouped", times=9, kind="empty")
        kit.fetch(DAYS[4])
        assert kit.states() == {
            DAYS[1]: "not_entitled",
            DAYS[2]: "final",
            DAYS[3]: "provisional",
            DAYS[4]: "pending",
        }
        with without_state(kit, tmp_path) as lost:
            rebuild(lost)
            assert lost.states() == {DAYS[2]: "final", DAYS[3]: "provisional"}


def test_an_empty_lake_gives_an_empty_ledger(kit: Kit) -> None:
    """Nothing landed, so nothing is known."""
    assert rebuild(kit) == 0
    assert kit.state.ledger_is_empty()

"""Everything that can happen to a lake, in any order: what the provider does, what jobs do, what breaks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple
from datetime import date, timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from condvest.demo.market import NEW_YORK
from condvest.domain.calendar import INTERVALS
from condvest.jobs.consolidate import consolidate
from condvest.jobs.rebuild import rebuild_ledger
from condvest.jobs.resample import resample
from condvest.jobs.vacuum import vacuum
from condvest.storage import layout
from property import oracle
from property.laws import Laws
from property.oracle import Values
from property.provider import ERAS, PAST, SYMBOLS, TRUE_SPLITS, WINDOW, Kind, World, evening

positions = st.integers(0, WINDOW - 1)
symbols = st.sampled_from(SYMBOLS)
flags = st.sampled_from([False, False, False, True])


class LakeLaws(Laws):
    """Every rule is something that happens; the laws are checked after each."""

    @initialize(
        seed=st.integers(0, 9999),
        era=st.sampled_from(ERAS),
        entitled_from=st.sampled_from([0, 0, 0, 2, 30]),
        filled=st.sampled_from([0, 5, 30]),
    )
    def begin(self, seed: int, era: date, entitled_from: int, filled: int) -> None:
        """Make the world, and a lake that is empty or holds its last sessions."""
        self.copies: dict[str, list[bytes]] = {}
        self.world = World(seed, era, entitled_from=entitled_from)
        self.source = self.things.enter_context(self.place.serve(self.world))
        if filled:
            self.fetch(self.past_from(PAST - filled), "grouped")
            self.consolidate(False, False, 30, None)
            self.resample(INTERVALS, False)

    # --- what happens outside ------------------------------------------------------------------------------------

    @rule(sessions=st.integers(1, 9))
    def days_pass(self, sessions: int) -> None:
        """It is the evening of a later session."""
        to_come = [session for session in self.world.sessions if evening(session) > self.world.now]
        self.world.now = max([self.world.now, *map(evening, to_come[:sessions])])

    @rule()
    def morning_comes(self) -> None:
        """It is the next morning: what is past can be final."""
        local = self.world.now.astimezone(NEW_YORK)
        if local.hour >= 16:
            self.world.now = (local + timedelta(days=1)).replace(hour=11, minute=1)

    @rule()
    def clock_is_set_back(self) -> None:
        """The clock goes back by a little, as clocks do when they are corrected."""
        self.world.now -= timedelta(seconds=2)

    @rule(at=positions)
    def session_is_late(self, at: int) -> None:
        """The provider has no answer for a session."""
        self.world.withhold(self.world.sessions[at])

    @rule()
    def late_sessions_come(self) -> None:
        """The provider has an answer for every session again."""
        self.world.release()

    @rule(at=positions, symbol=symbols, variant=st.sampled_from([0, 0, 1, 2, 3, None]))
    def bar_is_restated(self, at: int, symbol: str, variant: int | None) -> None:
        """The provider changes a bar, brings its old value back, adds one or withdraws one."""
        self.world.tell(self.world.sessions[at], symbol, variant)

    @rule(at=positions, symbol=symbols, how=st.integers(0, 5))
    def answer_is_spoiled(self, at: int, symbol: str, how: int) -> None:
        """An answer holds a row that breaks a rule, or no longer."""
        self.world.spoil(self.world.sessions[at], symbol, how)

    @rule(symbol=symbols, kind=st.sampled_from(["forward_split", "stock_dividend"]))
    def true_split_is_announced(self, symbol: str, kind: str) -> None:
        """The provider tells of a split that the prices bear out: past, to come, or told twice."""
        at, old, new = TRUE_SPLITS[symbol]
        self.world.market.add_split(symbol, self.world.sessions[at], old, new, adjustment_type=kind)

    @rule(
        at=positions, symbol=symbols, ratio=st.sampled_from([(1, 2), (2, 1), (1, 4), (10, 11)]), days=st.integers(0, 3)
    )
    def any_split_is_announced(self, at: int, symbol: str, ratio: tuple[int, int], days: int) -> None:
        """The provider tells of a split, true or false, on a day that may be no session."""
        self.world.market.add_split(symbol, self.world.sessions[at] + timedelta(days=days), *ratio)

    @precondition(lambda self: self.world.market.splits)
    @rule(which=st.integers(0, 99))
    def split_is_withdrawn(self, which: int) -> None:
        """The provider no longer tells of a split."""
        splits = self.world.market.splits
        del splits[which % len(splits)]

    @rule(sessions=st.integers(1, 6))
    def closure_is_announced(self, sessions: int) -> None:
        """The exchange will not open on a day to come; the lake hears of it."""
        today = self.world.now.astimezone(NEW_YORK).date()
        to_come = [session for session in self.world.sessions if session > today][:sessions]
        if to_come and len(self.world.closed) < 2 and to_come[-1] != oracle.ZERO_SESSION:
            self.world.close(to_come[-1])
            self.store.spare()
            self.fetch_metadata()

    # --- jobs ----------------------------------------------------------------------------------------------------

    @rule(after=st.integers(0, 25))
    def next_job_is_killed(self, after: int) -> None:
        """The next job dies after so many writes."""
        self.store.kill_after(after)

    @rule()
    def fetch_due(self) -> None:
        """Fetch what the ledger has as due."""
        self.fetch(None, "grouped")

    @rule(at=positions, count=st.integers(1, 6), kind=st.sampled_from(["grouped", "grouped", "flat_files"]))
    def fetch_some(self, at: int, count: int, kind: Kind) -> None:
        """Fetch a few sessions, again if they are there."""
        self.fetch(self.past_from(at)[:count], kind)

    @rule(at=st.integers(0, 20), count=st.integers(21, WINDOW), kind=st.sampled_from(["grouped", "flat_files"]))
    def backfill(self, at: int, count: int, kind: Kind) -> None:
        """Fetch more than 20 sessions, which go straight into `data.parquet`."""
        self.fetch(self.past_from(at)[:count], kind)

    @rule(at=positions, count=st.integers(1, 30), some=st.lists(symbols, min_size=1, max_size=2, unique=True))
    def fetch_ranges(self, at: int, count: int, some: list[str]) -> None:
        """Fetch some symbols by the range endpoint; the session ledger stays as it is."""
        sessions = self.past_from(at)[:count]
        before = self.state.sessions()
        asked = (tuple(some), sessions[0], sessions[-1])
        self.unfinished_ranges.append(asked)
        if self.run(lambda: self.fetch_symbols_report(asked)) is not None:
            self.unfinished_ranges.remove(asked)
            landed = self.landing()
            for (symbol, session), told in self._told_by_ranges(some, sessions).items():
                held = landed.get(symbol, {}).get(session)
                assert held is not None, f"{symbol} {session} did not land"
                assert held.values == told, f"{symbol} {session} did not land"
                self.acknowledged.setdefault(symbol, {})[session] = held
        assert self.state.sessions() == before, "a fetch of symbols changed the session ledger"

    def _told_by_ranges(self, some: list[str], sessions: list[date]) -> dict[tuple[str, date], Values]:
        bars = self.world.market.bars
        return {
            (symbol, session): Values(*astuple(bars[session][symbol])[:7])
            for symbol in some
            for session in sessions
            if session >= self.world.plan_start and symbol in bars.get(session, {})
        }

    @rule()
    def fetch_metadata(self) -> None:
        """Fetch splits and closures."""
        self.run(self.fetch_meta_report)

    @rule(
        force_full=flags,
        skip_cleanup=st.booleans(),
        days=st.sampled_from([7, 30]),
        some=st.none() | st.lists(symbols, unique=True),
    )
    def consolidate(self, force_full: bool, skip_cleanup: bool, days: int, some: list[str] | None) -> None:
        """Merge `date=` files, with or without cleanup."""
        self.run(
            lambda: consolidate(
                self.store,
                now=self.now,
                symbols=some,
                calendar=self.calendar,
                force_full=force_full,
                retention_days=days,
                skip_cleanup=skip_cleanup,
            )
        )

    @rule(days=st.sampled_from([0, 7, 30]), dry_run=flags)
    def vacuum(self, days: int, dry_run: bool) -> None:
        """Remove `date=` files; a dry run says just what a real one then removes."""
        options: dict[str, Any] = {"now": self.now, "retention_days": days, "force": days < 7}
        if not dry_run:
            self.run(lambda: vacuum(self.store, **options))
            return
        self.store.spare()
        before = {info.key for info in self.bare.list(layout.BRONZE)}
        announced = vacuum(self.store, dry_run=True, **options).removed
        assert {info.key for info in self.bare.list(layout.BRONZE)} == before, "a dry run removed something"
        self.run(lambda: vacuum(self.store, **options))
        gone = before - {info.key for info in self.bare.list(layout.BRONZE)}
        assert gone == set(announced), "a vacuum did not remove what its dry run said"

    @rule(intervals=st.just(INTERVALS) | st.sets(st.sampled_from(INTERVALS), min_size=1), force_full=flags)
    def resample(self, intervals: Iterable[int], force_full: bool) -> None:
        """Bring silver of some intervals up to date: it then holds what plain Python computes from the same bars."""
        chosen = sorted(intervals)
        options: dict[str, Any] = {"calendar": self.calendar, "intervals": chosen, "force_full": force_full}
        if self.run(lambda: resample(self.store, **options)) is not None:
            self.check_silver(chosen)

    # --- damage --------------------------------------------------------------------------------------------------

    @rule(which=st.integers(0, 99), how=st.sampled_from(["lost", "corrupt", "old"]))
    def cache_is_damaged(self, which: int, how: str) -> None:
        """A manifest or checkpoint is lost, cut short, or comes back as it was some time ago."""
        keys = [key for key in self.view.keys(layout.METADATA) if key != layout.CLOSURES]
        if keys:
            self._damage(keys[which % len(keys)], how)

    @rule(which=st.integers(0, 99), how=st.sampled_from(["lost", "corrupt"]))
    def silver_is_damaged(self, which: int, how: str) -> None:
        """A month file of silver is lost or cut short."""
        if keys := self.view.keys(layout.SILVER):
            self._damage(keys[which % len(keys)], how)

    @rule(symbol=symbols, how=st.sampled_from(["lost", "corrupt"]))
    def history_is_damaged(self, symbol: str, how: str) -> None:
        """A `data.parquet` is lost or cut short, and a full consolidation brings it back."""
        key = layout.data_key(symbol)
        if key in self.view.keys(layout.BRONZE):
            self._damage(key, how)
            self.store.spare()
            self.consolidate(True, False, 30, None)

    @rule()
    def state_is_lost(self) -> None:
        """The state database is gone, and is rebuilt from the lake."""
        self.state = self.new_state()
        rebuild_ledger(self.bare, self.state, calendar=self.calendar, now=self.now)

    def _damage(self, key: str, how: str) -> None:
        body = self.bare.get(key).data
        copies = self.copies.setdefault(key, [])
        if how == "lost":
            self.bare.delete_many([key])
        else:
            self.bare.put(key, copies[len(copies) // 2] if how == "old" and copies else body[: len(body) // 2])
        copies.append(body)

"""The laws that a lake has to keep at every step, and when everything has come to rest."""

from __future__ import annotations

import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, cast

from hypothesis.stateful import RuleBasedStateMachine, invariant

from condvest.demo.market import NEW_YORK
from condvest.domain.calendar import INTERVALS, Calendar
from condvest.jobs.consolidate import consolidate
from condvest.jobs.fetch_bars import fetch_bars
from condvest.jobs.fetch_meta import MetaReport, fetch_meta
from condvest.jobs.fetch_report import FetchReport
from condvest.jobs.fetch_symbols import fetch_symbols
from condvest.jobs.resample import resample
from condvest.jobs.vacuum import vacuum
from condvest.jobs.verify import verify
from condvest.state import State
from condvest.storage import layout
from condvest.storage.closures import read_closures
from condvest.storage.opening import open_store
from property import oracle
from property.killing import Killed, KillingState, KillingStore
from property.lake_view import LakeView, history_of, symbol_of
from property.oracle import History, Values
from property.provider import SYMBOLS, Kind, Source, World

Asked = tuple[tuple[str, ...], date, date]


class Report(Protocol):
    """What every job's report tells."""

    @property
    def nothing_new(self) -> bool:
        """Whether nothing changed."""


R = TypeVar("R", bound=Report)


@dataclass(frozen=True)
class Place:
    """Where a lake lies (a new URL each time; empty: in a new folder), and how its provider is reached."""

    new_url: Callable[[], str]
    serve: Callable[[World], AbstractContextManager[Source]]


class Laws(RuleBasedStateMachine):
    """One lake, one provider, one clock, and the laws between them."""

    place: ClassVar[Place]
    world: World
    source: Source

    def __init__(self) -> None:
        """Make an empty lake."""
        super().__init__()
        self._handled = sys.exception()
        self.things = ExitStack()
        fast = "/dev/shm" if Path("/dev/shm").is_dir() else None
        self._folder = Path(tempfile.mkdtemp(prefix="condvest-laws-", dir=fast))
        self.things.callback(shutil.rmtree, self._folder)
        url = self.place.new_url()
        self.bare = open_store(url) if url else open_store(str(self._folder / "lake"), fsync=False)
        self.store = KillingStore(self.bare)
        self.state = self.new_state()
        self.view = LakeView(self.bare)
        self.acknowledged: dict[str, History] = {}
        self.known_splits: list[dict[str, Any]] = []
        self.unfinished_ranges: list[Asked] = []

    def new_state(self) -> State:
        """Return an empty state database; a job may be killed between data and ledger."""
        path = self._folder / f"{uuid.uuid4().hex}.sqlite"
        path.write_bytes(_empty_state())
        state = State.open(f"sqlite:///{path}", migrate=False)
        self.things.callback(state.close)
        return cast(State, KillingState(state, self.store))

    # --- at every step -------------------------------------------------------------------------------------------

    @invariant()
    def nothing_acknowledged_is_lost(self) -> None:
        """Rule 2: every acknowledged row is in `data.parquet` or in a `date=` file, or a later value of it is."""
        held = self.view.bronze() if self.acknowledged else {}
        for symbol, history in self.acknowledged.items():
            for day, bar in history.items():
                have = held.get(symbol, {}).get(day)
                assert have is not None, f"{symbol} {day}: an acknowledged row is gone"
                assert have == bar or have.seen > bar.seen, f"{symbol} {day}: {bar} was acknowledged, {have} is there"

    def run(self, job: Callable[[], R]) -> R | None:
        """Run a job; None when it was killed. One that wrote nothing has to say so."""
        before = self.bare.meter.snapshot()
        try:
            report = job()
        except Killed:
            return None
        finally:
            self.store.spare()
        spent = self.bare.meter.snapshot() - before
        if spent.puts + spent.deletes == 0 and not isinstance(report, MetaReport):  # whose symbols go to the state
            assert report.nothing_new, f"wrote nothing, and says otherwise: {report}"
        return report

    def fetch(self, sessions: list[date] | None, kind: Kind) -> None:
        """Fetch sessions (None: those due); what the provider said has landed, and what is reported is acknowledged."""
        before = self.landing()
        report = self.run(lambda: self.fetch_report(sessions, kind))
        if report is None:
            return
        landed = self.landing()
        for session in [*report.provisional, *report.final]:
            for symbol, history in landed.items():
                if session in history:
                    self.acknowledged.setdefault(symbol, {})[session] = history[session]
            told = oracle.sound_rows((row["T"], session, row) for row in self.world.rows(session, kind))
            lost = [symbol for symbol, _ in told if _value(landed, symbol, session) != told[symbol, session]]
            # A session that was completed from landing alone was not asked for: the provider may say more by now.
            same = all(_value(landed, symbol, session) == _value(before, symbol, session) for symbol in SYMBOLS)
            assert not lost or (same and report.resumed), f"{session}: {lost} did not land"

    def check_silver(self, intervals: Iterable[int]) -> None:
        """Silver holds what plain Python computes from the same consolidated bars."""
        lake = {
            symbol: {day: bar.values for day, bar in history.items()}
            for symbol, history in self.view.consolidated().items()
        }
        splits: dict[str, list[oracle.Split]] = {}
        for row in self.known_splits:
            day = date.fromisoformat(row["execution_date"])
            splits.setdefault(row["ticker"], []).append(oracle.Split(day, row["split_from"], row["split_to"]))
        calendar = _calendar_sessions(frozenset(read_closures(self.bare)))
        for sessions in intervals:
            expected, found = oracle.silver(lake, splits, calendar, sessions), self.view.silver(sessions)
            assert sorted(found) == sorted(expected), f"{sessions}d: months"
            for month, bars in expected.items():
                assert not (wrong := oracle.differences(found[month], bars)), f"{sessions}d {month}: {wrong[:3]}"

    # --- at rest -------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Let everything come to rest, then hold the lake against a clean full run and against plain Python."""
        try:
            if sys.exception() is self._handled and hasattr(self, "source"):
                self._settle()
        finally:
            self.things.close()

    def _settle(self) -> None:
        self.store.spare()
        self.world.release()
        for asked in self.unfinished_ranges:  # who was killed in a fetch of symbols asks for them again
            assert not self.fetch_symbols_report(asked).left
        jobs = self._all_jobs()
        for job in jobs:
            report = self.run(job)
            # A listing that became too short is not believed, now or again.
            assert isinstance(report, MetaReport) or not getattr(report, "left", None), report
        self._check_rest(jobs)
        self._check_ledger()
        assert self.view.consolidated() == self.landing(), "rule 1: bars are not what the landed answers say"
        self.check_silver(INTERVALS)
        self._check_clean_run()
        found = verify(self.bare, self.state, calendar=self.calendar, now=self.now)
        # False splits are meant here; recent bars are read again only where a symbol is merged, and a damaged record of
        # removals, which nothing can bring back, is begun anew only when something is removed.
        meant = ("split_jump", layout.RECENT_BARS, layout.CLEANUP_MANIFEST)
        broken = [line for line in found.broken if line.rule not in meant and not line.what.startswith(meant)]
        assert not broken, broken

    def _all_jobs(self) -> list[Callable[[], Report]]:
        return [
            lambda: self.fetch_report(None, "grouped"),
            self.fetch_meta_report,
            lambda: consolidate(self.store, now=self.now, calendar=self.calendar),
            lambda: vacuum(self.store, now=self.now),
            lambda: resample(self.store, calendar=self.calendar),
        ]

    def _check_rest(self, jobs: Iterable[Callable[[], Report]]) -> None:
        """Rule 8: with nothing new every job writes nothing, removes nothing, and says so."""
        for job in jobs:
            before = self.bare.meter.snapshot()
            report = job()
            spent = self.bare.meter.snapshot() - before
            assert report.nothing_new, report
            assert (spent.puts, spent.deletes) == (0, 0), f"{spent}: {report}"

    def _check_ledger(self) -> None:
        """Rule 4: no gap is left, what is due for its final fetch had it, and a symbol's watermark is its last row."""
        states = {row.session_date: row.state for row in self.state.sessions()}
        past = [day for day in self.past_from(0) if states and day >= min(states)]
        assert set(states) - self.world.closed == set(past), "the ledger does not have just the sessions that are over"
        for day in past:
            final_due = datetime.combine(day + timedelta(days=1), time(11), NEW_YORK)
            settled = states[day] == "final" or (states[day] == "provisional" and self.now < final_due)
            right = states[day] == "not_entitled" if day < self.world.plan_start else settled
            assert right, f"{day} is {states[day]} at {self.now}"
        assert self.state.symbol_watermarks() == {symbol: max(bars) for symbol, bars in self.landing().items()}

    def _check_clean_run(self) -> None:
        """Rule 1: one full run over what landed gives the same rows, and the same bytes of silver."""
        clean = open_store(f"memory://{uuid.uuid4().hex}")
        clean.put_many(self.view.bodies((layout.LANDING, layout.CORPORATE_ACTIONS, layout.CLOSURES)).items())
        consolidate(clean, now=self.now, calendar=self.calendar, force_full=True)
        resample(clean, calendar=self.calendar, force_full=True)
        built = LakeView(clean)
        bars, silver = built.bodies((layout.BRONZE,)), built.bodies((layout.SILVER,))
        clean.delete_many(built.keys(""))
        assert {symbol_of(key): history_of(data) for key, data in bars.items()} == self.view.consolidated()
        assert silver == self.view.bodies((layout.SILVER,)), (
            "rule 1: silver is not what a clean run makes, byte for byte"
        )

    # --- what all need -------------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The clock of the jobs, in UTC."""
        return self.world.now.astimezone(UTC)

    @property
    def calendar(self) -> Calendar:
        """The calendar with the closures that the lake has heard of."""
        return Calendar.shipped(read_closures(self.bare))

    def past_from(self, at: int) -> list[date]:
        """Return the sessions that are over, from the one at a position on; positions go round."""
        past = [session for session in self.world.past() if session not in self.world.closed]
        return past[at % len(past) :]

    def landing(self) -> dict[str, History]:
        """Return the bars as landing tells them."""
        return self.view.landing(day for day in self.world.sessions if day not in self.world.closed)

    def fetch_report(self, sessions: list[date] | None, kind: Kind) -> FetchReport:
        """Fetch sessions."""
        source = self.source if kind == "grouped" else self.world.source(kind)
        return fetch_bars(self.store, source, self.state, calendar=self.calendar, now=self.now, sessions=sessions)

    def fetch_symbols_report(self, asked: Asked) -> FetchReport:
        """Fetch symbols by the range endpoint."""
        symbols, first, last = asked
        when: dict[str, Any] = {"calendar": self.calendar, "now": self.now, "first": first, "last": last}
        return fetch_symbols(self.store, self.source, self.state, symbols=symbols, **when)

    def fetch_meta_report(self) -> MetaReport:
        """Fetch metadata, and remember which splits the lake has heard of."""
        told: Sequence[dict[str, Any]] = [dict(row) for row in self.world.market.splits]
        report = fetch_meta(self.store, self.source, self.state, now=self.now)
        if not report.left:
            self.known_splits = list(told)
        return report


def _value(bars: dict[str, History], symbol: str, session: date) -> Values | None:
    bar = bars.get(symbol, {}).get(session)
    return bar.values if bar is not None else None


@cache
def _empty_state() -> bytes:
    """Return an empty state database: making one takes ten times as long as copying it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.sqlite"
        State.open(f"sqlite:///{path}", migrate=True).close()
        return path.read_bytes()


@lru_cache(maxsize=64)
def _calendar_sessions(closures: frozenset[date]) -> list[date]:
    calendar = Calendar.shipped()
    return [session for session in calendar.sessions(calendar.first, calendar.last) if session not in closures]

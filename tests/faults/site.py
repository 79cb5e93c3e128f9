"""One lake under trial, with its provider, its clock and its state, as the jobs see them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

from condvest.demo.market import NEW_YORK
from condvest.domain.calendar import INTERVALS, Calendar
from condvest.jobs.consolidate import consolidate
from condvest.jobs.fetch_bars import fetch_bars
from condvest.jobs.fetch_meta import fetch_meta
from condvest.jobs.fetch_symbols import fetch_symbols
from condvest.jobs.plan_sessions import rows_for
from condvest.jobs.rebuild import rebuild_ledger
from condvest.jobs.record_landed import record_landed
from condvest.jobs.repair import repair
from condvest.jobs.replay import replay
from condvest.jobs.resample import resample
from condvest.jobs.run_day import run_day
from condvest.jobs.session_log import DetachedLog
from condvest.jobs.vacuum import vacuum
from condvest.jobs.verify import VerifyReport, verify
from condvest.state import State
from condvest.storage.closures import read_closures
from condvest.storage.store import Store
from property.provider import ERAS, SYMBOLS, Kind, World, evening

R = TypeVar("R")

#: Around a year's end, with an early close: period bars of two years.
_ERA = ERAS[1]


class Site:
    """A lake and what belongs to it. With `is_open` false the jobs do nothing: a script then only moves the world on."""

    def __init__(self, store: Store, state: State, *, seed: int, is_open: bool = True) -> None:
        """Take a lake; the world is that of the seed, on the evening of the last session that is over."""
        self.store = store
        self.state = state
        self.world = World(seed, _ERA, entitled_from=0)
        self.is_open = is_open
        self.delay = timedelta(0)
        """How much later than the world's clock the jobs run."""
        self.source: Callable[[Kind], Any] = self.world.source
        """How the jobs reach the provider."""

    # The clock and the calendar

    @property
    def now(self) -> datetime:
        """The clock of the jobs, in UTC."""
        return (self.world.now + self.delay).astimezone(UTC)

    @property
    def calendar(self) -> Calendar:
        """The calendar with the closures that the lake has heard of."""
        return Calendar.shipped(read_closures(self.store))

    @property
    def sessions(self) -> list[date]:
        """All sessions that the provider knows, those to come too."""
        return self.world.sessions

    def past(self, count: int) -> list[date]:
        """Return the last sessions that are over."""
        return self.world.past()[-count:]

    def next_evening(self, sessions: int = 1) -> None:
        """Let sessions pass: it is 16:05 after the last of them."""
        at = self.world.sessions.index(self.world.past()[-1])
        self.world.now = evening(self.world.sessions[at + sessions])

    def next_morning(self) -> None:
        """It is 11:01 on the day after: what is past can be final."""
        local = self.world.now.astimezone(NEW_YORK)
        self.world.now = (local + timedelta(days=1)).replace(hour=11, minute=1)

    def restate(self) -> None:
        """Let the provider have other values for bars of the last two sessions, by the delay of the jobs' clock."""
        variant = 1 + int(self.delay / timedelta(minutes=1)) % 3
        for session in self.past(2):
            for symbol in SYMBOLS[:2]:
                self.world.tell(session, symbol, variant)

    # The jobs

    def fetch(self, sessions: Sequence[date] | None = None, *, kind: Kind = "grouped") -> Any:
        """Fetch sessions, or what is due."""
        source = self.source(kind)
        return self._do(
            lambda: fetch_bars(self.store, source, self.state, calendar=self.calendar, now=self.now, sessions=sessions)
        )

    def fetch_symbols(self, *symbols: str, count: int) -> Any:
        """Fetch the last sessions of some symbols by the range endpoint."""
        first, *_, last = self.past(count)
        when: dict[str, Any] = {"calendar": self.calendar, "now": self.now, "first": first, "last": last}
        return self._do(lambda: fetch_symbols(self.store, self.source("grouped"), self.state, symbols=symbols, **when))

    def fetch_meta(self) -> Any:
        """Fetch tickers, splits, dividends and closures."""
        return self._do(lambda: fetch_meta(self.store, self.source("grouped"), self.state, now=self.now, details=2))

    def fetch_detached(self) -> Any:
        """Fetch what is due as a function without the database does it: `record` acknowledges it later."""

        def work() -> None:
            rows = self.state.sessions()
            due = [row.session_date for row in rows if row.state != "final"] or self.past(1)
            sessions = sorted({*due, *self.past(1)})
            self.state.expect(sessions, now=self.now)
            log = DetachedLog(rows_for(self.state.sessions(), sessions))
            source = self.source("grouped")
            fetch_bars(self.store, source, log, calendar=self.calendar, now=self.now, sessions=sessions)

        return self._do(work)

    def record(self) -> Any:
        """Let ledger and watermarks follow from what landed."""
        return self._do(lambda: record_landed(self.store, self.state, calendar=self.calendar, now=self.now))

    def consolidate(self, **options: Any) -> Any:
        """Merge `date=` files, with cleanup."""
        return self._do(lambda: consolidate(self.store, now=self.now, calendar=self.calendar, **options))

    def vacuum(self, **options: Any) -> Any:
        """Remove `date=` files that are past retention and proven."""
        return self._do(lambda: vacuum(self.store, now=self.now, **options))

    def resample(self, *, intervals: Collection[int] = INTERVALS, force_full: bool = False) -> Any:
        """Bring silver up to date."""
        return self._do(
            lambda: resample(self.store, calendar=self.calendar, intervals=sorted(intervals), force_full=force_full)
        )

    def rebuild(self) -> Any:
        """Make ledger and watermarks anew from the lake."""
        return self._do(lambda: rebuild_ledger(self.store, self.state, calendar=self.calendar, now=self.now))

    def replay(self, sessions: Sequence[date]) -> Any:
        """Bring bars of some sessions back to bronze from landing."""
        return self._do(lambda: replay(self.store, self.state, calendar=self.calendar, now=self.now, sessions=sessions))

    def repair(self) -> Any:
        """Build again what follows from something else."""
        return self._do(lambda: repair(self.store, self.state, calendar=self.calendar, now=self.now))

    def run_day(self) -> Any:
        """Do the whole day."""
        source = self.source("grouped")
        return self._do(
            lambda: run_day(self.store, source, source, self.state, calendar=lambda: self.calendar, now=self.now)
        )

    def verify(self) -> VerifyReport:
        """Hold the lake against its rules."""
        return verify(self.store, self.state, calendar=self.calendar, now=self.now)

    def _do(self, job: Callable[[], R]) -> R | None:
        return job() if self.is_open else None

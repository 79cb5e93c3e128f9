"""A small lake to try the jobs on: a real store, a real state database, the stand-in provider over HTTP, and a clock.

    with Kit(tmp_path) as kit:
        kit.evening(DAYS[0]).fetch(DAYS[0])
        kit.next_morning(DAYS[0]).fetch()
        kit.consolidate()
        kit.assert_as_rebuilt()

The market can be changed at any time. `kit.lake` (`watched_lake`) is the store as the jobs see it: it can stop them before
any write, or let another writer go first. What a person would look up afterwards are methods: `states`, `closes`, `listed`,
`quarantine`.
"""

from __future__ import annotations

import io
import tempfile
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from condvest.demo.market import NEW_YORK, Bar, Market
from condvest.demo.standin import StandIn
from condvest.domain.answers import SessionSource
from condvest.domain.bars import DAILY_SCHEMA, merge_history
from condvest.domain.calendar import INTERVALS, Calendar
from condvest.errors import ObjectNotFound
from condvest.jobs.consolidate import ConsolidateReport, consolidate
from condvest.jobs.fetch_bars import fetch_bars
from condvest.jobs.fetch_meta import MetaReport, fetch_meta
from condvest.jobs.fetch_report import FetchReport
from condvest.jobs.fetch_symbols import fetch_symbols
from condvest.jobs.repair import RepairReport, repair
from condvest.jobs.replay import ReplayReport, replay
from condvest.jobs.resample import ResampleReport, resample
from condvest.jobs.vacuum import VacuumReport, vacuum
from condvest.sources.polygon import PolygonSource
from condvest.sources.retry import RetryPolicy
from condvest.state import State
from condvest.storage import layout
from condvest.storage.closures import read_closures
from condvest.storage.opening import open_store
from condvest.storage.store import Counts
from integration.watched_lake import Killed, Lake

QUICK = RetryPolicy(attempts=2, wait_initial_seconds=0.001, wait_max_seconds=0.01, empty_attempts=2)
#: Sessions from Monday 2025-11-03 on: Thanksgiving (27 November) is none, the day after closes early.
DAYS = Calendar.shipped().sessions(date(2025, 11, 3), date(2026, 2, 27))
#: Enough symbols for an answer to be called short; two of them differ in case alone.
SYMBOLS = ("AAPL", "BCPC", "BCpC", "BRK.B", "CON", "IBM", "MSFT", "NA", "TRUE")


def bar(close: float, **changes: Any) -> Bar:
    """Return a sane bar that closes at a price."""
    made = Bar(close - 1, close + 2, close - 3, close, 1000.5, close - 0.5, 12)
    return replace(made, **changes) if changes else made


def market_of(sessions: Iterable[date], symbols: Sequence[str] = SYMBOLS) -> Market:
    """Return a market whose closes rise by 1 a session, the first symbol from 100, the second from 110, and so on."""
    market = Market()
    for number, session in enumerate(sessions):
        for position, symbol in enumerate(symbols):
            market.set_bar(symbol, session, bar(100.0 + 10 * position + number))
    return market


@cache
def _empty_state() -> bytes:
    """Return a state database with its tables and nothing in them; made once, as making it takes longer than a small job."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "state.sqlite")
        State.open(f"sqlite:///{path}", migrate=True).close()
        return path.read_bytes()


class Kit:
    """One lake with all that its jobs need, open for the length of a `with` block."""

    def __init__(
        self,
        folder: Path,
        *,
        market: Market | None = None,
        lake_url: str | None = None,
        state_url: str | None = None,
        plan_start: date | None = None,
    ) -> None:
        """Prepare a lake in `folder`, or where the URLs say; `plan_start` is the first session that the plan includes."""
        self.market = market if market is not None else market_of(DAYS)
        self.store = open_store(lake_url) if lake_url else open_store(str(folder / "lake"), fsync=False)
        self.lake = Lake(self.store)
        self.now = datetime(2025, 11, 3, tzinfo=UTC)
        self.universe: frozenset[str] | None = None
        self._state_url = state_url or f"sqlite:///{folder}/state.sqlite"
        if state_url is None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "state.sqlite").write_bytes(_empty_state())
        self._plan_start = plan_start
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            self.state = opening.enter_context(State.open(self._state_url, migrate=True))
            self.provider = opening.enter_context(
                StandIn(self.market, now=lambda: self.now, plan_start=self._plan_start)
            )
            self.source = opening.enter_context(
                PolygonSource(self.provider.url, self.provider.api_key, requests_per_minute=0, retry=QUICK)
            )
            self._stack = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    # The clock

    def evening(self, session: date) -> Self:
        """Set the clock to 16:05 in New York: bars are out, and provisional."""
        self.now = datetime.combine(session, time(16, 5), tzinfo=NEW_YORK).astimezone(UTC)
        return self

    def next_morning(self, session: date) -> Self:
        """Set the clock to five minutes after a session's bars are final."""
        self.now = self.calendar.final_due(session) + timedelta(minutes=5)
        return self

    def after(self, **amount: float) -> Self:
        """Move the clock on by a `timedelta`, given by its parts."""
        self.now += timedelta(**amount)
        return self

    @property
    def calendar(self) -> Calendar:
        """The shipped calendar less the closures that lie in the lake, as an entry point makes it."""
        return Calendar.shipped(read_closures(self.store))

    # The jobs

    def fetch(self, *sessions: date, source: SessionSource | None = None, accept_short: bool = False) -> FetchReport:
        """Fetch sessions, or without any what is due."""
        return fetch_bars(
            self.lake,
            source or self.source,
            self.state,
            calendar=self.calendar,
            now=self.now,
            sessions=list(sessions) or None,
            universe=self.universe,
            accept_short=accept_short,
        )

    def fetch_symbols(self, *symbols: str, first: date, last: date) -> FetchReport:
        """Fetch some symbols by the range endpoint."""
        return fetch_symbols(
            self.lake,
            self.source,
            self.state,
            calendar=self.calendar,
            now=self.now,
            symbols=symbols,
            first=first,
            last=last,
        )

    def fetch_meta(self, details: int = 0) -> MetaReport:
        """Fetch metadata."""
        return fetch_meta(self.lake, self.source, self.state, now=self.now, details=details, universe=self.universe)

    def consolidate(self, **options: Any) -> ConsolidateReport:
        """Consolidate at the kit's time."""
        return consolidate(self.lake, now=self.now, universe=self.universe, calendar=self.calendar, **options)

    def vacuum(self, **options: Any) -> VacuumReport:
        """Vacuum at the kit's time."""
        return vacuum(self.lake, now=self.now, **options)

    def resample(self, *intervals: int, force_full: bool = False) -> ResampleReport:
        """Resample to some intervals, or to all six."""
        return resample(self.lake, calendar=self.calendar, intervals=intervals or INTERVALS, force_full=force_full)

    def repair(self) -> RepairReport:
        """Verify, repair and verify again."""
        return repair(self.lake, self.state, calendar=self.calendar, now=self.now, universe=self.universe)

    def replay(self, *sessions: date, symbols: Sequence[str] | None = None) -> ReplayReport:
        """Bring bronze of some sessions back from landing."""
        return replay(
            self.lake,
            self.state,
            calendar=self.calendar,
            now=self.now,
            sessions=sessions,
            symbols=symbols,
            universe=self.universe,
        )

    def cost(self, job: Callable[[], object]) -> Counts:
        """Run a job and return what it asked of the store."""
        before = self.store.meter.snapshot()
        job()
        return self.store.meter.snapshot() - before

    # What a person would look up

    def states(self) -> dict[date, str]:
        """Return the state of each session in the ledger."""
        return {row.session_date: row.state for row in self.state.sessions()}

    def listed(self, prefix: str = "") -> list[str]:
        """Return the keys under a prefix."""
        return [info.key for info in self.store.list(prefix)]

    def files(self, prefix: str = "") -> dict[str, bytes]:
        """Return the objects under a prefix."""
        return {key: self.store.get(key).data for key in self.listed(prefix)}

    def daily_keys(self) -> list[str]:
        """Return the keys of all `date=` files."""
        return [key for key in self.listed(layout.BRONZE) if "/date=" in key]

    def table(self, key: str) -> pa.Table:
        """Return one parquet object as a table."""
        return pq.read_table(io.BytesIO(self.store.get(key).data))

    def consolidated(self, symbol: str) -> list[dict[str, Any]]:
        """Return the rows of a symbol's `data.parquet`; none where there is no such file."""
        try:
            rows: list[dict[str, Any]] = self.table(layout.data_key(symbol)).to_pylist()
        except ObjectNotFound:
            return []
        return rows

    def closes(self, symbol: str) -> dict[date, float]:
        """Return the close of each session in bronze, whether consolidated yet or not."""
        tables = [self.table(key) for key in self.listed(layout.symbol_prefix(symbol))]
        merged = merge_history([table.select(DAILY_SCHEMA.names) for table in tables])
        return dict(zip(merged["date"].to_pylist(), merged["close"].to_pylist(), strict=True))

    def closes_of_data(self, symbol: str) -> dict[date, float]:
        """Return the close of each session in `data.parquet` alone."""
        return {row["date"]: row["close"] for row in self.consolidated(symbol)}

    def quarantine(self) -> list[dict[str, Any]]:
        """Return every row in quarantine."""
        keys = [key for key in self.listed(layout.QUARANTINE) if layout.parse_quarantine_key(key)]
        return [row for key in keys for row in self.table(key).to_pylist()]

    def assert_as_rebuilt(self, *intervals: int) -> None:
        """Hold the lake against one that a single clean run makes of the same landed answers.

        Every `data.parquet` has the same rows, and where `intervals` are given (else: wherever silver lies) every month file
        has the same bytes.
        """
        clean = open_store(f"memory://{uuid.uuid4().hex}")
        kept = (layout.LANDING, layout.CORPORATE_ACTIONS, layout.CLOSURES)
        clean.put_many((key, data) for key, data in self.files().items() if key.startswith(kept))
        rebuilt = consolidate(
            clean, now=self.now, force_full=True, universe=self.universe, calendar=self.calendar, skip_cleanup=True
        )
        assert rebuilt.left == []
        data = [key for key in self.listed(layout.BRONZE) if key.endswith("/data.parquet")]
        assert data == [info.key for info in clean.list(layout.BRONZE)]
        for key in data:
            assert self.table(key).to_pylist() == pq.read_table(io.BytesIO(clean.get(key).data)).to_pylist(), key
        silver = self.files(layout.SILVER)
        if silver or intervals:
            made = sorted({found.interval_sessions for key in silver if (found := layout.parse_silver_key(key))})
            resample(clean, calendar=self.calendar, intervals=intervals or made)
            assert silver.keys() == {info.key for info in clean.list(layout.SILVER)}
            assert [key for key, body in silver.items() if clean.get(key).data != body] == []


def survive_every_kill(
    make: Callable[[], AbstractContextManager[Kit]], act: Callable[[Kit], object], check: Callable[[Kit], object]
) -> int:
    """Run `act` on a new lake each time, killed before its first write, its second, and so on, and `check` what is left.

    Ends with the run that was not killed, and returns the number of writes that it made.
    """
    for number in count():
        with make() as kit:
            kit.lake.kill_at(number)
            try:
                act(kit)
            except Killed:
                kit.lake.kill_at(None)
                check(kit)
            else:
                kit.lake.kill_at(None)
                check(kit)
                return number
    raise AssertionError("count() has no end")

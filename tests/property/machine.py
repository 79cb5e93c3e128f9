"""A lake under random orders of everything that can happen to it, and the laws that it has to keep at every step."""

from __future__ import annotations

import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from condvest.demo.market import NEW_YORK
from condvest.domain.calendar import INTERVALS, Calendar
from condvest.jobs.consolidate import consolidate
from condvest.jobs.fetch_bars import fetch_bars
from condvest.jobs.fetch_report import FetchReport
from condvest.jobs.fetch_meta import MetaReport, fetch_meta
from condvest.jobs.fetch_symbols import fetch_symbols
from condvest.jobs.rebuild import rebuild_ledger
from condvest.jobs.resample import resample
from condvest.jobs.vacuum import vacuum
from condvest.jobs.verify import verify
from condvest.state import State
from condvest.storage import layout
from condvest.storage.closures import read_closures
from condvest.storage.store import Store, open_store
from property import oracle
from property.killing import Killed, KillingState, KillingStore
from property.oracle import Daily, History, Values
from property.provider import ERAS, PAST, SYMBOLS, TRUE_SPLITS, WINDOW, Kind, Source, World, evening

positions = st.integers(0, WINDOW - 1)
symbols = st.sampled_from(SYMBOLS)
flags = st.sampled_from([False, False, False, True])


class Report(Protocol):
    """What every job's report tells."""

    @property
    def nothing_new(self) -> bool: ...


R = TypeVar("R", bound=Report)


@dataclass(frozen=True)
class Place:
    """Where a lake lies, and how its provider is reached."""

    new_url: Callable[[], str]
    serve: Callable[[World], AbstractContextManager[Source]]


class LakeLaws(RuleBasedStateMachine):
    """One lake, one provider, one clock. Every rule is something that happens; the laws are checked after each."""

    def __init__(self, place: Place) -> None:
        """Make an empty lake."""
        super().__init__()
        self._place = place
        self._handled = sys.exception()
        self._things = ExitStack()
        fast = "/dev/shm" if Path("/dev/shm").is_dir() else None
        self._folder = Path(tempfile.mkdtemp(prefix="condvest-laws-", dir=fast))
        self._things.callback(shutil.rmtree, self._folder)
        url = place.new_url() or str(self._folder / "lake")
        self._bare: Store = open_store(url, fsync=False) if "://" not in url else open_store(url)
        self._store = KillingStore(self._bare)
        self._state = KillingState(self._new_state(), self._store)
        self._parsed: dict[tuple[str, str], Any] = {}
        self._landed_etags: dict[str, str] = {}
        self._acknowledged: dict[str, History] = {}
        self._known_splits: list[dict[str, Any]] = []
        self._unfinished_ranges: list[tuple[tuple[str, ...], date, date]] = []
        self._copies: dict[str, list[bytes]] = {}

    def _new_state(self) -> State:
        path = self._folder / f"{uuid.uuid4().hex}.sqlite"
        path.write_bytes(_empty_state())
        state = State.open(f"sqlite:///{path}", migrate=False)
        self._things.callback(state.close)
        return state

    @initialize(
        seed=st.integers(0, 9999),
        era=st.sampled_from(ERAS),
        entitled_from=st.sampled_from([0, 0, 0, 2, 30]),
        filled=st.sampled_from([0, 5, 30]),
    )
    def begin(self, seed: int, era: date, entitled_from: int, filled: int) -> None:
        """Make the world, and a lake that is empty or holds its last sessions."""
        self._world = World(seed, era, entitled_from=entitled_from)
        self._source = self._things.enter_context(self._place.serve(self._world))
        if filled:
            self._fetch(self._past_from(PAST - filled), "grouped")
            self.consolidate(False, False, 30, None)
            self.resample(INTERVALS, False)

    # --- what happens outside ------------------------------------------------------------------------------------

    @rule(sessions=st.integers(1, 9))
    def days_pass(self, sessions: int) -> None:
        """It is the evening of a later session."""
        to_come = [session for session in self._world.sessions if evening(session) > self._world.now]
        self._world.now = max([self._world.now, *map(evening, to_come[:sessions])])

    @rule()
    def morning_comes(self) -> None:
        """It is the next morning: what is past can be final."""
        local = self._world.now.astimezone(NEW_YORK)
        if local.hour >= 16:
            self._world.now = (local + timedelta(days=1)).replace(hour=11, minute=1)

    @rule()
    def clock_is_set_back(self) -> None:
        """The clock goes back by a little, as clocks do when they are corrected."""
        self._world.now -= timedelta(seconds=2)

    @rule(at=positions)
    def session_is_late(self, at: int) -> None:
        """The provider has no answer for a session."""
        self._world.withhold(self._world.sessions[at])

    @rule()
    def late_sessions_come(self) -> None:
        """The provider has an answer for every session again."""
        self._world.release()

    @rule(at=positions, symbol=symbols, variant=st.sampled_from([0, 0, 1, 2, 3, None]))
    def bar_is_restated(self, at: int, symbol: str, variant: int | None) -> None:
        """The provider changes a bar, brings its old value back, adds one or withdraws one."""
        self._world.tell(self._world.sessions[at], symbol, variant)

    @rule(at=positions, symbol=symbols, how=st.integers(0, 5))
    def answer_is_spoiled(self, at: int, symbol: str, how: int) -> None:
        """An answer holds a row that breaks a rule, or no longer."""
        self._world.spoil(self._world.sessions[at], symbol, how)

    @rule(symbol=symbols, kind=st.sampled_from(["forward_split", "stock_dividend"]))
    def true_split_is_announced(self, symbol: str, kind: str) -> None:
        """The provider tells of a split that the prices bear out: past, to come, or told twice."""
        at, old, new = TRUE_SPLITS[symbol]
        self._world.market.add_split(symbol, self._world.sessions[at], old, new, adjustment_type=kind)

    @rule(
        at=positions, symbol=symbols, ratio=st.sampled_from([(1, 2), (2, 1), (1, 4), (10, 11)]), days=st.integers(0, 3)
    )
    def any_split_is_announced(self, at: int, symbol: str, ratio: tuple[int, int], days: int) -> None:
        """The provider tells of a split, true or false, on a day that may be no session."""
        self._world.market.add_split(symbol, self._world.sessions[at] + timedelta(days=days), *ratio)

    @precondition(lambda self: self._world.market.splits)
    @rule(which=st.integers(0, 99))
    def split_is_withdrawn(self, which: int) -> None:
        """The provider no longer tells of a split."""
        splits = self._world.market.splits
        del splits[which % len(splits)]

    @rule(sessions=st.integers(1, 6))
    def closure_is_announced(self, sessions: int) -> None:
        """The exchange will not open on a day to come; the lake hears of it."""
        today = self._world.now.astimezone(NEW_YORK).date()
        to_come = [session for session in self._world.sessions if session > today][:sessions]
        if to_come and len(self._world.closed) < 2 and to_come[-1] != oracle.ZERO_SESSION:
            self._world.close(to_come[-1])
            self._store.spare()
            self.fetch_metadata()

    # --- jobs ----------------------------------------------------------------------------------------------------

    @rule(after=st.integers(0, 25))
    def next_job_is_killed(self, after: int) -> None:
        """The next job dies after so many writes."""
        self._store.kill_after(after)

    @rule()
    def fetch_due(self) -> None:
        """Fetch what the ledger has as due."""
        self._fetch(None, "grouped")

    @rule(at=positions, count=st.integers(1, 6), kind=st.sampled_from(["grouped", "grouped", "flat_files"]))
    def fetch_some(self, at: int, count: int, kind: Kind) -> None:
        """Fetch a few sessions, again if they are there."""
        self._fetch(self._past_from(at)[:count], kind)

    @rule(at=st.integers(0, 20), count=st.integers(21, WINDOW), kind=st.sampled_from(["grouped", "flat_files"]))
    def backfill(self, at: int, count: int, kind: Kind) -> None:
        """Fetch more than 20 sessions, which go straight into `data.parquet`."""
        self._fetch(self._past_from(at)[:count], kind)

    @rule(at=positions, count=st.integers(1, 30), some=st.lists(symbols, min_size=1, max_size=2, unique=True))
    def fetch_ranges(self, at: int, count: int, some: list[str]) -> None:
        """Fetch some symbols by the range endpoint; the session ledger stays as it is."""
        sessions = self._past_from(at)[:count]
        before = self._state.sessions()
        asked = (tuple(some), sessions[0], sessions[-1])
        self._unfinished_ranges.append(asked)
        if self._run(lambda: self._fetch_symbols(*asked)) is not None:
            self._unfinished_ranges.remove(asked)
            landed = self._landing()
            for symbol in some:
                for session in sessions:
                    told = self._told(session, "grouped", ranged=True).get((symbol, session))
                    held = landed.get(symbol, {}).get(session)
                    assert told is None or (held is not None and held.values == told), f"{symbol} {session} not landed"
                    if told is not None and held is not None:
                        self._acknowledged.setdefault(symbol, {})[session] = held
        assert self._state.sessions() == before, "a fetch of symbols changed the session ledger"

    @rule()
    def fetch_metadata(self) -> None:
        """Fetch splits and closures."""
        told = [dict(row) for row in self._world.market.splits]
        job = lambda: fetch_meta(self._store, self._source, cast(State, self._state), now=self._now)  # noqa: E731
        report = self._run(job)
        if report is not None and not report.left:
            self._known_splits = told

    @rule(
        force_full=flags,
        skip_cleanup=st.booleans(),
        days=st.sampled_from([7, 30]),
        some=st.none() | st.lists(symbols, unique=True),
    )
    def consolidate(self, force_full: bool, skip_cleanup: bool, days: int, some: list[str] | None) -> None:
        """Merge `date=` files, with or without cleanup."""
        self._run(
            lambda: consolidate(
                self._store,
                now=self._now,
                symbols=some,
                calendar=self._calendar,
                force_full=force_full,
                retention_days=days,
                skip_cleanup=skip_cleanup,
            )
        )

    @rule(days=st.sampled_from([0, 7, 30]), dry_run=flags)
    def vacuum(self, days: int, dry_run: bool) -> None:
        """Remove `date=` files; a dry run says just what a real one then removes."""
        options: dict[str, Any] = {"now": self._now, "retention_days": days, "force": days < 7}
        if not dry_run:
            self._run(lambda: vacuum(self._store, **options))
            return
        self._store.spare()
        before = {info.key for info in self._bare.list(layout.BRONZE)}
        announced = vacuum(self._store, dry_run=True, **options).removed
        assert {info.key for info in self._bare.list(layout.BRONZE)} == before, "a dry run removed something"
        self._run(lambda: vacuum(self._store, **options))
        gone = before - {info.key for info in self._bare.list(layout.BRONZE)}
        assert gone == set(announced), "a vacuum did not remove what its dry run said"

    @rule(intervals=st.just(INTERVALS) | st.sets(st.sampled_from(INTERVALS), min_size=1), force_full=flags)
    def resample(self, intervals: Iterable[int], force_full: bool) -> None:
        """Bring silver of some intervals up to date: it then holds what plain Python computes from the same bars."""
        chosen = sorted(intervals)
        job = lambda: resample(self._store, calendar=self._calendar, intervals=chosen, force_full=force_full)  # noqa: E731
        if self._run(job) is not None:
            self._check_silver(chosen)

    # --- damage --------------------------------------------------------------------------------------------------

    @rule(which=st.integers(0, 99), how=st.sampled_from(["lost", "corrupt", "old"]))
    def cache_is_damaged(self, which: int, how: str) -> None:
        """A manifest or checkpoint is lost, cut short, or comes back as it was some time ago."""
        keys = [key for key in self._keys(layout.METADATA) if key != layout.CLOSURES]
        if keys:
            self._damage(keys[which % len(keys)], how)

    @rule(which=st.integers(0, 99), how=st.sampled_from(["lost", "corrupt"]))
    def silver_is_damaged(self, which: int, how: str) -> None:
        """A month file of silver is lost or cut short."""
        if keys := self._keys(layout.SILVER):
            self._damage(keys[which % len(keys)], how)

    @rule(symbol=symbols, how=st.sampled_from(["lost", "corrupt"]))
    def history_is_damaged(self, symbol: str, how: str) -> None:
        """A `data.parquet` is lost or cut short, and a full consolidation brings it back."""
        key = layout.data_key(symbol)
        if key in self._keys(layout.BRONZE):
            self._damage(key, how)
            self._store.spare()
            self.consolidate(True, False, 30, None)

    @rule()
    def state_is_lost(self) -> None:
        """The state database is gone, and is rebuilt from the lake."""
        self._state = KillingState(self._new_state(), self._store)
        rebuild_ledger(self._bare, cast(State, self._state), calendar=self._calendar, now=self._now)

    def _damage(self, key: str, how: str) -> None:
        body = self._bare.get(key).data
        copies = self._copies.setdefault(key, [])
        if how == "lost":
            self._bare.delete_many([key])
        else:
            self._bare.put(key, copies[len(copies) // 2] if how == "old" and copies else body[: len(body) // 2])
        copies.append(body)

    # --- laws ----------------------------------------------------------------------------------------------------

    @invariant()
    def nothing_acknowledged_is_lost(self) -> None:
        """Rule 2: every acknowledged row is in `data.parquet` or in a `date=` file, or a later value of it is."""
        if not self._acknowledged:
            return
        held: dict[str, History] = {}
        for symbol, history in self._bronze():
            seen = held.setdefault(symbol, {})
            for day, bar in history.items():
                if day not in seen or bar.seen > seen[day].seen:
                    seen[day] = bar
        for symbol, history in self._acknowledged.items():
            for day, bar in history.items():
                have = held.get(symbol, {}).get(day)
                assert have is not None, f"{symbol} {day}: an acknowledged row is gone"
                assert have == bar or have.seen > bar.seen, f"{symbol} {day}: {bar} was acknowledged, {have} is there"

    def teardown(self) -> None:
        """Let everything come to rest, then hold the lake against a clean full run and against plain Python."""
        try:
            if sys.exception() is self._handled and hasattr(self, "_world"):
                self._settle()
        finally:
            self._things.close()

    def _settle(self) -> None:
        self._store.spare()
        self._world.release()
        for asked in self._unfinished_ranges:  # who was killed in a fetch of symbols asks for them again
            assert not self._fetch_symbols(*asked).left
        self.fetch_metadata()
        jobs = self._all_jobs()
        for job in jobs:
            report = self._run(job)
            # A listing that became too short is not believed, now or again.
            assert isinstance(report, MetaReport) or not getattr(report, "left", None), report
        self._check_rest(jobs)
        self._check_ledger()
        self._check_bars()
        self._check_silver(INTERVALS)
        self._check_clean_run()
        found = verify(self._bare, cast(State, self._state), calendar=self._calendar, now=self._now)
        # False splits are meant here; recent bars are read again only where a symbol is merged.
        meant = ("split_jump", layout.RECENT_BARS)
        broken = [line for line in found.broken if line.rule not in meant and not line.what.startswith(meant)]
        assert not broken, broken

    def _all_jobs(self) -> list[Callable[[], Report | None]]:
        return [
            lambda: self._fetch_report(None, "grouped"),
            lambda: fetch_meta(self._store, self._source, cast(State, self._state), now=self._now),
            lambda: consolidate(self._store, now=self._now, calendar=self._calendar),
            lambda: vacuum(self._store, now=self._now),
            lambda: resample(self._store, calendar=self._calendar),
        ]

    def _check_rest(self, jobs: Iterable[Callable[[], Report | None]]) -> None:
        """Rule 8: with nothing new every job writes nothing, removes nothing, and says so."""
        for job in jobs:
            before = self._bare.meter.snapshot()
            report = job()
            spent = self._bare.meter.snapshot() - before
            assert report is not None
            assert report.nothing_new, report
            assert (spent.puts, spent.deletes) == (0, 0), f"{spent}: {report}"

    def _check_ledger(self) -> None:
        """Rule 4: no gap is left, what is due for its final fetch had it, and each symbol's watermark is its last row."""
        rows = self._state.sessions()
        scheduled = set(self._scheduled())
        states = {row.session_date: row.state for row in rows if row.session_date in scheduled}
        landed = self._landing()
        if states:
            first, last = min(states), max(self._past_from(0))
            days = [day for day in self._past_from(0) if first <= day]
            assert set(days) <= set(states), "a scheduled session is not in the ledger"
            for day in days:
                told = states[day]
                if day < self._world.plan_start:
                    assert told == "not_entitled"
                else:
                    due = datetime.combine(day + timedelta(days=1), datetime.min.time(), NEW_YORK).replace(hour=11)
                    assert told == "final" or (told == "provisional" and self._now < due), (
                        f"{day} is {told} at {self._now}"
                    )
            assert max(states) <= last
        marks = {symbol: max(history) for symbol, history in landed.items() if history}
        assert self._state.symbol_watermarks() == marks

    def _check_bars(self) -> None:
        """Rule 1: consolidated bars are what the landed answers say, read once more in plain Python."""
        assert self._consolidated() == self._landing()

    def _check_silver(self, intervals: Iterable[int]) -> None:
        lake = {symbol: _values(history) for symbol, history in self._consolidated().items()}
        splits: dict[str, list[oracle.Split]] = {}
        for row in self._known_splits:
            day = date.fromisoformat(row["execution_date"])
            splits.setdefault(row["ticker"], []).append(oracle.Split(day, row["split_from"], row["split_to"]))
        for sessions in intervals:
            expected = oracle.silver(lake, splits, _calendar_sessions(frozenset(self._recorded_closures())), sessions)
            found = {}
            for key in self._keys(layout.silver_prefix(sessions)):
                parsed = layout.parse_silver_key(key)
                assert parsed is not None
                found[f"{parsed.year}-{parsed.month:02}"] = self._read(key, _rows)
            assert sorted(found) == sorted(expected), f"{sessions}: months"
            for month, bars in expected.items():
                assert not (wrong := oracle.differences(found[month], bars)), f"{sessions}d {month}: {wrong[:3]}"

    def _check_clean_run(self) -> None:
        """Rule 1: one full run over what landed gives the same rows, and the same bytes of silver."""
        clean = open_store(f"memory://{uuid.uuid4().hex}")
        kept = (layout.LANDING, layout.CORPORATE_ACTIONS, layout.CLOSURES)
        inputs = [key for key in self._keys("") if key.startswith(kept)]
        clean.put_many((key, self._bare.get(key).data) for key in inputs)
        consolidate(clean, now=self._now, calendar=self._calendar, force_full=True)
        resample(clean, calendar=self._calendar, force_full=True)
        again = {info.key: clean.get(info.key).data for info in clean.list("")}
        clean.delete_many(list(again))
        assert {key: self._bare.get(key).data for key in self._keys(layout.SILVER)} == {
            key: data for key, data in again.items() if key.startswith(layout.SILVER)
        }
        built = [(key, data) for key, data in again.items() if key.startswith(layout.BRONZE)]
        bars = {_symbol_of(key): _history(data) for key, data in built}
        assert bars == self._consolidated()

    # --- looking at the lake -------------------------------------------------------------------------------------

    @property
    def _now(self) -> datetime:
        return self._world.now.astimezone(UTC)

    @property
    def _calendar(self) -> Calendar:
        return Calendar.shipped(self._recorded_closures())

    def _recorded_closures(self) -> list[date]:
        return read_closures(self._bare)

    def _scheduled(self) -> list[date]:
        return [session for session in self._world.sessions if session not in self._world.closed]

    def _past_from(self, at: int) -> list[date]:
        past = [session for session in self._world.past() if session not in self._world.closed]
        return past[at % len(past) :]

    def _keys(self, prefix: str) -> list[str]:
        return [info.key for info in self._bare.list(prefix)]

    def _read(self, key: str, parse: Callable[[bytes], Any], etag: str | None = None) -> Any:
        """Return an object as `parse` reads it; what was read already with this ETag is not read again."""
        if etag is None:
            return parse(self._bare.get(key).data)
        if (key, etag) not in self._parsed:
            self._parsed[key, etag] = parse(self._bare.get(key).data)
        return self._parsed[key, etag]

    def _bronze(self) -> Iterator[tuple[str, History]]:
        for info in self._bare.list(layout.BRONZE):
            yield _symbol_of(info.key), self._read(info.key, _history, info.etag)

    def _consolidated(self) -> dict[str, History]:
        found = [info for info in self._bare.list(layout.BRONZE) if info.key.endswith("/data.parquet")]
        return {_symbol_of(info.key): self._read(info.key, _history, info.etag) for info in found}

    def _landing(self) -> dict[str, History]:
        """Return the bars as landing tells them. What landed is never rewritten and never goes."""
        found = {info.key: info.etag for info in self._bare.list(layout.LANDING)}
        assert self._landed_etags.items() <= found.items(), "a landed answer was changed or is gone"
        self._landed_etags = found
        answers = [self._read(key, lambda data, key=key: oracle.read_landed(key, data), found[key]) for key in found]
        return oracle.histories([answer for answer in answers if answer is not None], self._scheduled())

    # --- running jobs --------------------------------------------------------------------------------------------

    def _told(self, session: date, kind: Kind, *, ranged: bool = False) -> dict[tuple[str, date], Values]:
        rows = self._world.rows(session, kind)
        if ranged:
            rows = [row for row in rows if row not in self._world.market.raw_rows.get(session, [])]
        return oracle.sound_rows((row["T"], session, row) for row in rows)

    def _fetch_report(self, sessions: list[date] | None, kind: Kind) -> FetchReport:
        source = self._source if kind == "grouped" else self._world.source(kind)
        return fetch_bars(
            self._store, source, cast(State, self._state), calendar=self._calendar, now=self._now, sessions=sessions
        )

    def _fetch_symbols(self, some: Sequence[str], first: date, last: date) -> FetchReport:
        return fetch_symbols(
            self._store,
            self._source,
            cast(State, self._state),
            calendar=self._calendar,
            now=self._now,
            symbols=some,
            first=first,
            last=last,
        )

    def _fetch(self, sessions: list[date] | None, kind: Kind) -> None:
        before = self._landing()
        report = self._run(lambda: self._fetch_report(sessions, kind))
        if report is None:
            return
        landed = self._landing()
        asked = report.asked > 0
        for session in [*report.provisional, *report.final]:
            told = self._told(session, kind)
            for symbol, history in landed.items():
                if session in history:
                    self._acknowledged.setdefault(symbol, {})[session] = history[session]
            fresh = [key for key, values in told.items() if _value(landed, *key) != values]
            # A session that was completed from landing alone was not asked for: there the world may say more by now.
            resumed = all(_value(landed, symbol, session) == _value(before, symbol, session) for symbol in SYMBOLS)
            assert not fresh or (resumed and (report.resumed or not asked)), f"{session}: {fresh} did not land"

    def _run(self, job: Callable[[], R | None]) -> R | None:
        """Run a job, which may be killed; one that wrote nothing says so, and one that says so wrote no data."""
        before = self._bare.meter.snapshot()
        try:
            report = job()
        except Killed:
            return None
        finally:
            self._store.spare()
        spent = self._bare.meter.snapshot() - before
        assert report is not None
        if spent.puts + spent.deletes == 0 and not isinstance(report, MetaReport):  # whose symbols go to the state
            assert report.nothing_new, f"wrote nothing, and says otherwise: {report}"
        return report


def _symbol_of(key: str) -> str:
    found = layout.parse_bronze_key(key)
    assert found is not None, key
    return found.symbol


def _value(bars: dict[str, History], symbol: str, session: date) -> Values | None:
    bar = bars.get(symbol, {}).get(session)
    return bar.values if bar is not None else None


def _values(history: History) -> dict[date, Values]:
    return {day: bar.values for day, bar in history.items()}


def _rows(data: bytes) -> list[tuple[Any, ...]]:
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        columns = file.read().to_pydict()
    return list(zip(*columns.values(), strict=True))


def _history(data: bytes) -> History:
    rows = _rows(data)
    history = {row[1]: Daily(Values(*row[2:9]), row[9]) for row in rows}
    assert list(history) == sorted(history), "sessions are not ascending"
    assert len(history) == len(rows), "a session stands twice"
    return history


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

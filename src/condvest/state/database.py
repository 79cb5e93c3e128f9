"""The state database as the jobs see it: whole questions and whole transactions, in plain records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from types import TracebackType
from typing import Final, Self

from condvest.domain.ledger import LedgerRow
from condvest.domain.records import RunOutcome, RunRow, SymbolRow, Traffic, WatermarkRow
from condvest.state import ledger, marks, runs, schema, symbols
from condvest.state import watermarks as _watermarks
from condvest.state.engine import Database
from condvest.state.failures import shown

#: How long a fetch waits for another one. The longest hold is that of a backfill that merges what landed: minutes.
FETCH_WAIT_SECONDS: Final = 1800.0


class State:
    """Session ledger, watermarks, symbols and runs. Each method is one transaction: after a failure it did nothing.

    Times are aware and come back in UTC. Methods raise TransientError when the database is unreachable or locked,
    ConfigError when it refuses the user or lacks its tables, DataError when it refuses a value. Calls may come from
    several threads.
    """

    def __init__(self, database: Database) -> None:
        """Wrap an open database; `State.open` makes one."""
        self._database = database

    @classmethod
    def open(cls, url: str, *, migrate: bool, lock_timeout_seconds: int = 30) -> State:
        """Open `sqlite:///path` or `postgresql+psycopg://...`. Idempotent.

        A SQLite file is made and migrated by itself. PostgreSQL is migrated when `migrate`, else it has to be at this
        version.

        Raises:
            ConfigError: a bad address, wrong password, unknown database, or tables that are not at this version.
            TransientError: not reachable, or locked for longer than `lock_timeout_seconds`.
        """
        database = Database(url, lock_timeout_seconds=lock_timeout_seconds)
        state = cls(database)
        try:
            with database.read() as connection:
                revision = schema.revision(connection)
            if revision != schema.HEAD:
                schema.check(revision, shown(database.url), migrate=migrate or database.is_sqlite)
                state.upgrade()
        except BaseException:
            database.close()
            raise
        return state

    def upgrade(self) -> None:
        """Bring the tables to this version in one transaction. Idempotent; two processes at once take turns."""
        with self._database.write() as connection:
            schema.upgrade(connection)

    def close(self) -> None:
        """Close all connections. Idempotent."""
        self._database.close()

    @property
    def url_shown(self) -> str:
        """The address for people: password masked, options left out."""
        return shown(self._database.url)

    def __repr__(self) -> str:
        return f"State({self.url_shown!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def exclusive(self, *, wait_seconds: float = FETCH_WAIT_SECONDS) -> Iterator[None]:
        """Hold, for a block, the right to bring answers into the lake and to record them; others wait for it.

        It ends with the block, with the process, and with the connection. Reading and all other jobs go on beside it.

        Raises:
            TransientError: somebody else holds it for longer than `wait_seconds`, or the database is unreachable; or, at the
                end of a block that did all its work, the connection was lost on the way, and the lock with it.
        """
        with self._database.exclusive(wait_seconds=wait_seconds):
            yield

    # Session ledger

    def sessions(self, first: date | None = None, last: date | None = None) -> list[LedgerRow]:
        """Return the ledger's rows from `first` to `last` (inclusive; None: no bound), ascending."""
        with self._database.read() as connection:
            return ledger.read(connection, first, last)

    def ledger_is_empty(self) -> bool:
        """Say whether no session was ever recorded."""
        with self._database.read() as connection:
            return ledger.is_empty(connection)

    def record(self, rows: Sequence[LedgerRow], *, watermarks: Mapping[str, date], reason: str, now: datetime) -> None:
        """Write ledger rows (insert or replace) and move watermarks forward, in one transaction. Idempotent.

        A watermark becomes the later one of what is recorded and what is given: here it never moves back. What
        changes nothing writes nothing.
        """
        with self._database.write() as connection:
            ledger.upsert(connection, rows, now=now)
            _watermarks.advance(connection, watermarks, reason=reason, now=now)

    # What landed

    def recorded_through(self) -> dict[str, datetime]:
        """Return, by kind of landed answers, the instant of the last one that is recorded; absent: none is.

        Kept for kinds whose keys tell no session, `tickers`, `details` and `range`. Of sessions the ledger tells.
        """
        with self._database.read() as connection:
            return marks.read(connection)

    def note_recorded(self, kind: str, through: datetime) -> None:
        """Say that the answers of a kind are recorded up to an instant; it never moves back. Idempotent."""
        with self._database.write() as connection:
            marks.advance(connection, {kind: through})

    def expect(self, sessions: Sequence[date], *, now: datetime) -> None:
        """Record as `missing` those of `sessions` that the ledger does not have, and leave the others. Idempotent."""
        with self._database.write() as connection:
            ledger.add_missing(connection, sessions, now=now)

    def replace_ledger(
        self, rows: Sequence[LedgerRow], *, watermarks: Mapping[str, date], reason: str, now: datetime
    ) -> None:
        """Make `rows` the whole ledger and `watermarks` the current ones, in one transaction: a rebuild from the lake.

        The history of watermarks stays: only what changes is closed and followed by a new row; a recorded symbol that
        is not given gets a current row without a session. Idempotent: what equals the recorded writes nothing.

        Raises:
            ConfigError: a watermark would move back and `reason` is `fetch`, `backfill` or empty. Nothing is written.
        """
        with self._database.write() as connection:
            ledger.keep_only(connection, {row.session_date for row in rows})
            ledger.upsert(connection, rows, now=now)
            _watermarks.restate(connection, watermarks, reason=reason, now=now)

    def repair_ledger(self, rows: Sequence[LedgerRow], *, drop: Sequence[date], now: datetime) -> None:
        """Write ledger rows (insert or replace) and delete those of `drop`, in one transaction. Idempotent."""
        with self._database.write() as connection:
            ledger.drop(connection, drop)
            ledger.upsert(connection, rows, now=now)

    # Watermarks

    def restate_watermarks(self, watermarks: Mapping[str, date | None], *, reason: str, now: datetime) -> None:
        """Make these the current watermarks of their symbols, back as well as forward, in one transaction. Idempotent.

        None: the symbol has no acknowledged bar. Other symbols keep theirs. What stays writes nothing.

        Raises:
            ConfigError: one would move back and `reason` is `fetch`, `backfill` or empty. Nothing is written.
        """
        with self._database.write() as connection:
            _watermarks.restate_some(connection, watermarks, reason=reason, now=now)

    def symbol_watermarks(self) -> dict[str, date]:
        """Return the session of the last acknowledged bar of each symbol, ordered by symbol."""
        with self._database.read() as connection:
            return _watermarks.current(connection)

    def watermark_history(self, symbol: str) -> list[WatermarkRow]:
        """Return all periods of a symbol's watermark, the oldest first; empty for a symbol never seen."""
        with self._database.read() as connection:
            return _watermarks.history(connection, symbol)

    # Symbols

    def upsert_symbols(self, rows: Sequence[SymbolRow], now: datetime, *, landed_as: str | None = None) -> int:
        """Record what the provider says of symbols and return how many changed or are new. Idempotent.

        Pass the active and the delisted list in one call: of two rows for one symbol the active one counts. What
        changes nothing writes nothing; `last_seen` alone is written once a UTC day, and not counted. When a symbol's
        composite FIGI becomes another one, its details are forgotten: it is another security. `landed_as`: of which kind
        the answer is that landed at `now`, which then counts as recorded (`recorded_through`).
        """
        with self._database.write() as connection:
            marks.advance(connection, {landed_as: now} if landed_as is not None else {})
            return symbols.upsert(connection, rows, now=now)

    def symbols(self) -> list[SymbolRow]:
        """Return all symbols, ordered by symbol (by code point: capitals first)."""
        with self._database.read() as connection:
            return symbols.read(connection)

    def stale_details(self, limit: int, now: datetime, max_age_days: int = 30) -> list[str]:
        """Return at most `limit` symbols whose details are worth a request: never asked for first, then the oldest.

        Old is what was asked for `max_age_days` or longer ago; for a delisted symbol, what was asked for before its
        delisting.
        """
        with self._database.read() as connection:
            return symbols.stale_details(connection, limit, now=now, max_age_days=max_age_days)

    # Runs

    def start_run(self, job: str, arguments: Mapping[str, object], now: datetime) -> int:
        """Record that a run began, with outcome `running`, and return its number. `arguments` hold no secret."""
        with self._database.write() as connection:
            return runs.start(connection, job, arguments, now=now)

    def finish_run(
        self,
        run: int,
        outcome: RunOutcome,
        *,
        counts: Mapping[str, object],
        now: datetime,
        traffic: Traffic = Traffic(),  # noqa: B008 - frozen
        error: str | None = None,
    ) -> None:
        """Record how a run ended and what it cost. Raises DataError when there is no such run."""
        with self._database.write() as connection:
            runs.finish(connection, run, outcome, counts=counts, traffic=traffic, error=error, now=now)

    def recent_runs(self, limit: int) -> list[RunRow]:
        """Return the last `limit` runs, the newest first."""
        with self._database.read() as connection:
            return runs.recent(connection, limit)

    def runs_between(self, after: datetime, until: datetime) -> list[RunRow]:
        """Return the runs that began after one instant and up to another, by when they began."""
        with self._database.read() as connection:
            return runs.between(connection, after, until)

    def has_runs_by(self, instant: datetime) -> bool:
        """Say whether a run had begun by an instant."""
        with self._database.read() as connection:
            return runs.any_by(connection, instant)

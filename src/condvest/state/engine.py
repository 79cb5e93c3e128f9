"""One engine for SQLite and PostgreSQL: where a transaction begins, who waits for whom, and what an address may be."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, OperationalError, StatementError

from condvest.errors import ConfigError, NotWritable, TransientError
from condvest.state.failures import shown, translated

# Writers of one PostgreSQL database take turns under this key (the ASCII codes of the name, as a 64-bit number).
_WRITERS = int.from_bytes(b"condvest")
_WRITES = "condvest_writes"
# Who brings answers into the lake takes turns under this one: beside the tables, and longer than a transaction.
_FETCHERS = _WRITERS + 1
_LOCK_FILE = ".fetching"
_LOCK_NOT_AVAILABLE = "55P03"
# Of a lock file: another user's, read-only, a folder or a link in its place; a file system without locks. What else the
# system says is of the disk.
_NO_LOCK_FILE = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ELOOP, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}
)
_NO_RIGHT = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
# How libpq connects, unless the address says otherwise. Text is UTF-8 whatever the server holds (of SQL_ASCII the driver
# would make bytes). A connection that waits (for an answer, or with the fetchers' lock) is kept alive on its way, and a
# server that is gone is noticed after about two minutes: Linux would ask after two hours.
_CONNECT = {
    "connect_timeout": "10",
    "application_name": "condvest",
    "client_encoding": "utf8",
    "keepalives_idle": "60",
    "keepalives_interval": "15",
    "keepalives_count": "4",
    "tcp_user_timeout": "120000",
}
# The driver reads instants in ISO alone. The server looks after us in the same way: else the lock of a machine that is
# gone would stay for hours.
_PREPARE_POSTGRES = """
SET DateStyle = 'ISO';
SET tcp_keepalives_idle = 60;
SET tcp_keepalives_interval = 15;
SET tcp_keepalives_count = 4
"""
_UNREADABLE = (
    "the state database's address cannot be read: it is sqlite:///path or postgresql+psycopg://user:password@host/name;"
    " percent-encode special characters"
)


class Database:
    """An engine with its two kinds of transaction. Driver errors leave it as condvest's (see `failures`)."""

    def __init__(self, url: str, *, lock_timeout_seconds: int) -> None:
        """Make the engine and a SQLite file's folder; nothing is connected yet. Raises ConfigError on a bad address."""
        self.url = parse_url(url)
        self._engine = _make_engine(self.url, lock_timeout_seconds)
        self._writer = self._engine.execution_options(**{_WRITES: True})
        self._lock_timeout_seconds = lock_timeout_seconds

    @property
    def is_sqlite(self) -> bool:
        """True on SQLite, False on PostgreSQL."""
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads. It never waits for a PostgreSQL writer."""
        with translated(self.url), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open the one writing transaction: all of it is committed at the end, or none of it when something is raised.

        Writers take turns from their first statement on, so what one reads stands until it commits. Who waits longer
        than the lock time-out gets a TransientError.
        """
        with translated(self.url), self._writer.begin() as connection:
            if not self.is_sqlite:
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{self._lock_timeout_seconds}s'")
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITERS})")
            yield connection

    @contextmanager
    def exclusive(self, *, wait_seconds: float) -> Iterator[None]:
        """Hold the one lock of fetchers. It ends with the block, and with the process or its connection.

        On SQLite it is a file beside the database, on PostgreSQL an advisory lock of a connection of its own.

        Raises:
            TransientError: another process or thread holds it for longer than `wait_seconds`, or its disk fails; or, at the
                end of a block that did all its work, its connection was lost on the way.
            ConfigError: the lock file cannot be locked, by this user or on this file system.
        """
        if self.is_sqlite:
            with self._locked_file(wait_seconds):
                yield
            return
        with translated(self.url), self._engine.connect() as connection:
            autocommit = connection.execution_options(isolation_level="AUTOCOMMIT")
            # 0 would be no time-out at all.
            autocommit.exec_driver_sql(f"SET lock_timeout = {max(1, int(wait_seconds * 1000))}")
            try:
                autocommit.exec_driver_sql(f"SELECT pg_advisory_lock({_FETCHERS})")
            except OperationalError as error:
                if getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
                    raise self._is_held(wait_seconds) from error
                raise
            was_held = False
            try:
                yield
            finally:
                with suppress(StatementError):  # the lock went with the connection
                    was_held = autocommit.exec_driver_sql(f"SELECT pg_advisory_unlock({_FETCHERS})").scalar_one()
                    autocommit.exec_driver_sql("RESET lock_timeout")
            if not was_held:
                raise TransientError(
                    f"state database {shown(self.url)}: the lock of fetches was lost with its connection, so another fetch may"
                    " have run meanwhile; run again, and run `condvest verify` to see that every bar is as landing has it"
                )

    @contextmanager
    def _locked_file(self, wait_seconds: float) -> Iterator[None]:
        lock = FileLock(f"{self.url.database}{_LOCK_FILE}", thread_local=False, fallback_to_soft=False)
        try:
            lock.acquire(timeout=wait_seconds, poll_interval=0.01)
        except Timeout as error:
            raise self._is_held(wait_seconds) from error
        except OSError as error:
            if error.errno in _NO_LOCK_FILE:
                raise ConfigError(
                    f"lock file {lock.lock_file} cannot be locked ({error}); make it a file that you may write to, on a"
                    " file system with locks"
                ) from error
            raise TransientError(f"lock file {lock.lock_file}: {error}; see to its disk, then try again") from error
        try:
            yield
        finally:
            lock.release()

    def _is_held(self, wait_seconds: float) -> TransientError:
        return TransientError(
            f"state database {shown(self.url)}: another fetch into this lake is under way for over {wait_seconds:g} s; wait"
            " until it has ended, then run again"
        )

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def parse_url(text: str) -> URL:
    """Read a database address: `sqlite:///path` or `postgresql+psycopg://user:password@host/name`.

    Special characters of the parts are percent-encoded, as `sqlalchemy.URL.render_as_string` does it; PostgreSQL's options
    follow a `?`.

    Raises:
        ConfigError: anything else. The text is not repeated: it may hold a password.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigError(_UNREADABLE) from None
    if url.drivername == "sqlite":
        # What follows a `?` would be cut off, and another file opened.
        if url.database in (None, "", ":memory:") or "?" in text:
            raise ConfigError(
                f"state database {text}: it needs a file, without options; write sqlite:///path, ? as %3F"
            )
        return url
    if url.drivername not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise ConfigError(f"state database {url.drivername!r}: it is sqlite or postgresql+psycopg; choose one of them")
    if "@" in f"{url.host}{url.database}":  # the end of a password that is not encoded
        raise ConfigError(_UNREADABLE)
    return url.set(drivername="postgresql+psycopg")


def _make_engine(url: URL, lock_timeout_seconds: int) -> Engine:
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url, lock_timeout_seconds)
    engine = create_engine(
        url,
        connect_args={name: value for name, value in _CONNECT.items() if name not in url.query},
        hide_parameters=True,
        pool_pre_ping=True,
    )
    event.listen(engine, "connect", _prepare_postgres)
    return engine


def _prepare_postgres(connection: Any, _record: object) -> None:
    """Make a new connection's session what condvest needs, whatever the server's or the user's settings are."""
    connection.execute(_PREPARE_POSTGRES)
    connection.commit()


def _sqlite_engine(url: URL, lock_timeout_seconds: int) -> Engine:
    """No pool: between two calls the file is closed, so a lake folder can be copied or moved."""
    folder = Path(url.database or "").parent
    try:
        folder = folder.absolute()  # fails where the working folder is gone
        _make_durably(folder)
    except OSError as error:
        kind = NotWritable if error.errno in _NO_RIGHT else ConfigError
        raise kind(
            f"folder {folder} of the state database cannot be made ({error.strerror}); name one that you may write to"
        ) from error
    engine = create_engine(
        url, poolclass=NullPool, connect_args={"timeout": lock_timeout_seconds}, hide_parameters=True
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_durably(folder: Path) -> None:
    """Make a folder and those above it that are missing, each on the disk before there is something in it.

    SQLite syncs the folder of its file, but not the ones above: a committed ledger could be gone with its folder.
    """
    missing = [above for above in (folder, *folder.parents) if not above.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        handle = os.open(made.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    """Let SQLAlchemy begin transactions (the driver would begin late and commit before DDL), and make commits last.

    The rollback journal (the default), not WAL: one file, which can be copied with the lake and may lie on a network
    drive, where WAL breaks. EXTRA is FULL plus a sync of the folder once the journal is gone, so that a power cut
    right after a commit does not undo it.
    """
    connection.isolation_level = None
    connection.execute("PRAGMA synchronous = EXTRA")


def _begin_sqlite(connection: Connection) -> None:
    """A writer takes its lock first (else two that read before they write would block each other for good)."""
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

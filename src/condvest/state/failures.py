"""Database errors become condvest's: which may pass, which is a setting, which is a matter of the data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL
from sqlalchemy.exc import DataError as ValueRefused
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError

from condvest.errors import CondvestError, ConfigError, DataError, NotWritable, TransientError

# Beginnings of SQLSTATE codes that another try may get past: connection, resources, deadlock or serialization, lock not
# available, shutdown, I/O, a server that takes no writes (as a standby before it takes over).
_PASSING = ("08", "53", "40", "55P03", "57P", "58", "25006")
# libpq gives a refused connection no SQLSTATE, only the server's words. These speak of settings; the rest may pass.
_REFUSED = (
    "authentication failed",
    "does not exist",
    "no password supplied",
    "no pg_hba.conf entry",
    "is not permitted to log in",
    "permission denied",
)
_TLS = ("does not support SSL", "sslmode", "certificate")
_SQLITE_HELD = ("locked", "busy")
_SQLITE_DISK = ("I/O error", "is full")
_NO_RIGHT = "42501"
_SQLITE_SETTINGS = ("unable to open", "readonly", "read-only")
_SQLITE_CORRUPT = ("not a database", "malformed")


def shown(url: URL) -> str:
    """Return a database's address for people: password masked, options left out (libpq takes a password there too)."""
    if url.get_backend_name() == "sqlite":
        return f"sqlite:///{url.database}"
    return url.set(query={}).render_as_string(hide_password=True)


@contextmanager
def translated(url: URL) -> Iterator[None]:
    """Turn what the driver raises inside into condvest's errors. No message holds a password.

    Raises:
        TransientError: unreachable, locked, shut down, out of connections.
        ConfigError: wrong password, unknown database, tables absent; `NotWritable`: no permission.
        DataError: a value that a rule of the tables refuses, or a corrupt file.
    """
    try:
        yield
    except StatementError as error:
        _forget_password(getattr(error.orig, "pgconn", None))
        raise _as_condvest(error, url) from error


def _forget_password(connection: Any) -> None:
    """Take the password out of what psycopg keeps of a connection that failed: its `repr` shows all that it holds."""
    if dataclasses.is_dataclass(connection):  # else it is libpq's, which shows nothing
        vars(connection).update(password=b"***", info=[])


def _as_condvest(error: StatementError, url: URL) -> CondvestError:
    if isinstance(error.orig, CondvestError):
        return error.orig
    words = _first_line(error, url)
    where = f"state database {shown(url)}"
    if isinstance(error, (IntegrityError, ValueRefused)) or not isinstance(error, DBAPIError):
        return DataError(f"{where} refused a value: {words}; nothing was written")
    if url.get_backend_name() == "sqlite":
        return _of_sqlite(words, where)
    return _of_postgres(error, words, where)


def _of_sqlite(words: str, where: str) -> CondvestError:
    if any(part in words for part in _SQLITE_HELD):
        return TransientError(f"{where} is not available: {words}; another run may hold it: try again")
    if any(part in words for part in _SQLITE_DISK):
        return TransientError(f"{where} is not available: {words}; see to its disk, then try again")
    if any(part in words for part in _SQLITE_CORRUPT):
        return DataError(f"{where} is corrupt: {words}; move the file away and run again: it is rebuilt from the lake")
    if any(part in words for part in _SQLITE_SETTINGS):
        return NotWritable(f"{where} cannot be opened for writing: {words}; name a file that you may write to")
    return ConfigError(
        f"{where} lacks what this version needs: {words}; run `condvest db upgrade` or move the file away"
    )


def _of_postgres(error: DBAPIError, words: str, where: str) -> CondvestError:
    sqlstate: str | None = getattr(error.orig, "sqlstate", None)
    if sqlstate is None:
        if any(part in words for part in _TLS):
            return ConfigError(f"{where} refuses the connection: {words}; check RDS_SSLMODE and RDS_CA_FILE")
        if any(part in words for part in _REFUSED):
            return ConfigError(
                f"{where} refuses the connection: {words}; check RDS_HOST, RDS_DATABASE, RDS_USER and RDS_PASSWORD"
            )
        return TransientError(f"{where} is not reachable: {words}; check that the server runs, then try again")
    if sqlstate.startswith(_PASSING) or error.connection_invalidated:
        return TransientError(f"{where} is not available: {words} ({sqlstate}); try again")
    kind = NotWritable if sqlstate == _NO_RIGHT else ConfigError
    return kind(f"{where} cannot do this: {words} ({sqlstate}); run `condvest db upgrade` and check the user's rights")


def _first_line(error: StatementError, url: URL) -> str:
    """The driver's own words in one line, without the statement, its values and the password."""
    words = " ".join(str(error.orig).split()) or type(error.orig).__name__
    return words.replace(url.password, "***") if url.password else words

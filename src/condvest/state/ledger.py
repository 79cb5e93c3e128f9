"""Reading and writing of the session ledger, inside a transaction that the caller opened."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from condvest.domain.ledger import LedgerRow
from condvest.state.tables import session_ledger

_L = session_ledger.c
_FIELDS = tuple(field.name for field in dataclasses.fields(LedgerRow))


def read(connection: Connection, first: date | None = None, last: date | None = None) -> list[LedgerRow]:
    """Return the ledger's rows from `first` to `last` (inclusive; None: no bound), ascending."""
    query = select(*(_L[name] for name in _FIELDS)).order_by(_L.session_date)
    if first is not None:
        query = query.where(_L.session_date >= first)
    if last is not None:
        query = query.where(_L.session_date <= last)
    return [LedgerRow(**dict(zip(_FIELDS, row, strict=True))) for row in connection.execute(query)]


def is_empty(connection: Connection) -> bool:
    """Say whether no session was ever recorded."""
    return connection.execute(select(_L.session_date).limit(1)).first() is None


def upsert(connection: Connection, rows: Iterable[LedgerRow], *, now: datetime) -> None:
    """Write the rows that differ from what is recorded; their `updated_at` becomes `now`.

    Of two rows for one session the last counts.
    """
    given = {row.session_date: row for row in rows}
    if not given:
        return
    known = {row.session_date: row for row in read(connection, min(given), max(given))}
    _insert(connection, [row for day, row in given.items() if day not in known], now)
    changed = [row for day, row in given.items() if day in known and _content(row) != _content(known[day])]
    if changed:
        values: dict[str, Any] = {name: bindparam(name) for name in _FIELDS if name != "session_date"}
        statement = update(session_ledger).where(_L.session_date == bindparam("day")).values(values)
        connection.execute(statement, [{**_written(row, now), "day": row.session_date} for row in changed])


def add_missing(connection: Connection, sessions: Sequence[date], *, now: datetime) -> None:
    """Record as `missing` those of `sessions` that the ledger does not have; leave the others as they are."""
    if not sessions:
        return
    known = {row.session_date for row in read(connection, min(sessions), max(sessions))}
    absent = sorted(set(sessions) - known)
    _insert(connection, [LedgerRow(session_date=day, state="missing", reason="never fetched") for day in absent], now)


def keep_only(connection: Connection, sessions: Collection[date]) -> None:
    """Delete the rows of all other sessions."""
    drop(connection, [row.session_date for row in read(connection) if row.session_date not in sessions])


def drop(connection: Connection, sessions: Iterable[date]) -> None:
    """Delete the rows of some sessions."""
    gone = [{"day": session} for session in sessions]
    if gone:
        connection.execute(delete(session_ledger).where(_L.session_date == bindparam("day")), gone)


def _insert(connection: Connection, rows: Sequence[LedgerRow], now: datetime) -> None:
    if rows:
        connection.execute(insert(session_ledger), [_written(row, now) for row in rows])


def _content(row: LedgerRow) -> LedgerRow:
    return dataclasses.replace(row, updated_at=None)


def _written(row: LedgerRow, now: datetime) -> dict[str, object]:
    return {name: getattr(row, name) for name in _FIELDS} | {"updated_at": now}

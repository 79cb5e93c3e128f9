"""Symbol metadata: which columns an answer speaks for, and what it changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, bindparam, case, insert, or_, select, update

from condvest.domain.records import SymbolRow
from condvest.log import warn
from condvest.state.tables import symbol_metadata

_S = symbol_metadata.c
_FIELDS = tuple(field.name for field in dataclasses.fields(SymbolRow))
_DETAILS = ("list_date", "sic_code", "sic_description", "market_cap", "details_at")
# Far below the number of bound values that either database takes in one statement (SQLite 32,766, PostgreSQL 65,535).
_CHUNK = 1_000


def read(connection: Connection, symbols: Collection[str] | None = None) -> list[SymbolRow]:
    """Return the rows of `symbols` (None: of all), ordered by symbol."""
    query = select(*(_S[name] for name in _FIELDS)).order_by(_S.symbol)
    parts = [query] if symbols is None else [query.where(_S.symbol.in_(part)) for part in _chunks(symbols)]
    return [SymbolRow(**dict(zip(_FIELDS, row, strict=True))) for part in parts for row in connection.execute(part)]


def upsert(connection: Connection, rows: Iterable[SymbolRow], *, now: datetime) -> int:
    """Record what was learned and return how many symbols are new or changed.

    `SymbolRow` says which columns a row speaks for. Of several list rows for one symbol (tickers are used again) an
    active one counts before a delisted one, then the one delisted last. What changes nothing writes nothing;
    `last_seen` alone is written once a UTC day, and not counted.
    """
    lists: dict[str, SymbolRow] = {}
    details: dict[str, SymbolRow] = {}
    for row in rows:
        if row.details_at is not None:
            details[row.symbol] = row
        elif row.symbol not in lists or _weight(row) >= _weight(lists[row.symbol]):
            lists[row.symbol] = row
    known = {row.symbol: row for row in read(connection, lists.keys() | details.keys())}
    merged = dict(known)
    for symbol, row in lists.items():
        merged[symbol] = _with_list(merged.get(symbol), row, now)
    for symbol, row in details.items():
        merged[symbol] = _with_details(merged.get(symbol), row, now)
    return _write(connection, known, merged, now)


def _write(
    connection: Connection, known: Mapping[str, SymbolRow], merged: Mapping[str, SymbolRow], now: datetime
) -> int:
    new: list[dict[str, Any]] = []
    changed: list[SymbolRow] = []
    seen: list[SymbolRow] = []
    for symbol, row in merged.items():
        if symbol not in known:
            new.append(_values(row))
        elif row != known[symbol]:
            seen_only = row == dataclasses.replace(known[symbol], last_seen=row.last_seen)
            (seen if seen_only else changed).append(row)
    if new:
        connection.execute(insert(symbol_metadata), new)
    if changed:
        parameters: dict[str, Any] = {name: bindparam(name) for name in _FIELDS if name != "symbol"}
        statement = update(symbol_metadata).where(_S.symbol == bindparam("key")).values(parameters)
        connection.execute(statement, [{**_values(row), "key": row.symbol} for row in changed])
    for part in _chunks([row.symbol for row in seen]):
        connection.execute(update(symbol_metadata).where(_S.symbol.in_(part)).values(last_seen=now))
    return len(new) + len(changed)


def stale_details(connection: Connection, limit: int, *, now: datetime, max_age_days: int) -> list[str]:
    """Return at most `limit` symbols whose details are worth a request, in the order to ask.

    First those never asked for (active before delisted), then the oldest. Old is what was asked for `max_age_days` or
    longer ago. A delisted symbol's details change no more: old is what was asked for before it was delisted.
    """
    old = or_(
        and_(_S.active, _S.details_at <= now - timedelta(days=max_age_days)),
        and_(_S.active.is_(False), _S.details_at < _S.delisted_at),
    )
    rank = case((_S.details_at.is_not(None), 2), (_S.active, 0), else_=1)
    query = select(_S.symbol).where(or_(_S.details_at.is_(None), old)).order_by(rank, _S.details_at, _S.symbol)
    return list(connection.execute(query.limit(limit)).scalars())


def _with_list(known: SymbolRow | None, row: SymbolRow, now: datetime) -> SymbolRow:
    """A row of the provider's list: all its columns, absent values too.

    Another FIGI under the same ticker is another security: its details are not known yet.
    """
    kept: dict[str, Any] = dict.fromkeys(_DETAILS)
    if known is None:
        return dataclasses.replace(row, **kept, first_seen=now, last_seen=now)
    if None in (known.composite_figi, row.composite_figi) or known.composite_figi == row.composite_figi:
        kept = {name: getattr(known, name) for name in _DETAILS}
    else:
        warn(
            "ticker_reused",
            symbol=row.symbol,
            before=known.composite_figi,
            now=row.composite_figi,
            effect="bars of both securities lie under one symbol, as one history",
        )
    seen = known.last_seen
    if seen is None or now.astimezone(UTC).date() > seen.date():
        seen = now
    return dataclasses.replace(row, **kept, first_seen=known.first_seen, last_seen=seen)


def _with_details(known: SymbolRow | None, row: SymbolRow, now: datetime) -> SymbolRow:
    """A symbol's details. The list's columns stay: each answer leaves out others, and they would flip."""
    if known is None:
        return dataclasses.replace(row, first_seen=now, last_seen=now)
    return dataclasses.replace(known, **{name: getattr(row, name) for name in _DETAILS})


def _weight(row: SymbolRow) -> tuple[bool, datetime]:
    return row.active, row.delisted_at or datetime.min.replace(tzinfo=UTC)


def _values(row: SymbolRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in _FIELDS}


def _chunks(symbols: Collection[str]) -> Iterator[list[str]]:
    ordered = sorted(symbols)
    for start in range(0, len(ordered), _CHUNK):
        yield ordered[start : start + _CHUNK]

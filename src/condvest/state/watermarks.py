"""Watermarks of symbols as SCD type 2: a symbol's current row is closed and its successor added, never rewritten."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import date, datetime

from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    Date,
    Subquery,
    Text,
    and_,
    cast,
    func,
    insert,
    literal,
    select,
    true,
    type_coerce,
    update,
)

from condvest.domain.records import WatermarkRow
from condvest.errors import ConfigError
from condvest.state.tables import Instant, data_ingestion_watermark

# Reasons that are ordinary progress: with them no watermark moves back.
FORWARD_REASONS = frozenset({"fetch", "backfill"})

_W = data_ingestion_watermark.c
_FIELDS = tuple(field.name for field in dataclasses.fields(WatermarkRow))


def current(connection: Connection) -> dict[str, date]:
    """Return each symbol's watermark, by symbol; symbols for which a rebuild found no bar are left out."""
    query = select(_W.symbol, _W.last_session).where(_W.is_current, _W.last_session.is_not(None)).order_by(_W.symbol)
    return {symbol: last for symbol, last in connection.execute(query) if last is not None}


def history(connection: Connection, symbol: str) -> list[WatermarkRow]:
    """Return all periods of a symbol's watermark, the oldest first."""
    query = select(*(_W[name] for name in _FIELDS)).where(_W.symbol == symbol).order_by(_W.id)
    return [WatermarkRow(**row._mapping) for row in connection.execute(query)]


def advance(connection: Connection, watermarks: Mapping[str, date], *, reason: str, now: datetime) -> None:
    """Move watermarks forward to the later one of what is recorded and what is given. What stays writes nothing."""
    if not watermarks:
        return
    known = _known(connection)
    moved: dict[str, date | None] = {}
    for symbol, session in watermarks.items():
        have = known.get(symbol)
        if have is None or session > have:
            moved[symbol] = session
    _replace(connection, moved, reason, now)


def restate(connection: Connection, watermarks: Mapping[str, date], *, reason: str, now: datetime) -> None:
    """Make `watermarks` the current ones of all symbols, back as well as forward. What stays writes nothing.

    A recorded symbol that is not given gets a current row without a session: none is ever left without a current row.

    Raises:
        ConfigError: one would move back and the reason is ordinary progress (`FORWARD_REASONS`) or empty.
    """
    every = dict.fromkeys(_known(connection)) | dict(watermarks)
    restate_some(connection, every, reason=reason, now=now)


def restate_some(connection: Connection, watermarks: Mapping[str, date | None], *, reason: str, now: datetime) -> None:
    """Make these the current watermarks of their symbols, as `restate` does, and leave those of the others."""
    known = _known(connection)
    moved: dict[str, date | None] = {}
    for symbol, session in watermarks.items():
        have = known.get(symbol)
        if symbol in known and have == session:
            continue
        if have is not None and (session is None or session < have):
            _check_step_back(symbol, have, session, reason)
        moved[symbol] = session
    _replace(connection, moved, reason, now)


def _check_step_back(symbol: str, have: date, session: date | None, reason: str) -> None:
    if reason in FORWARD_REASONS or not reason.strip():
        raise ConfigError(
            f"watermark of {symbol} would move back from {have} to {session} with reason {reason!r}:"
            " a step back is recorded with a reason of its own; name it"
        )


def _known(connection: Connection) -> dict[str, date | None]:
    """The current row of every symbol, those without a session too."""
    rows = connection.execute(select(_W.symbol, _W.last_session).where(_W.is_current))
    return {row.symbol: row.last_session for row in rows}


def _replace(connection: Connection, moved: Mapping[str, date | None], reason: str, now: datetime) -> None:
    """Close the old periods and add the new ones: two statements, however many symbols.

    All new periods begin at one instant, `now`, or the newest recorded one should the clock stand behind it: no
    period ends before it began.
    """
    if not moved:
        return
    newest = connection.execute(select(func.max(_W.valid_from)).where(_W.is_current)).scalar()
    since = literal(max(now, newest) if newest else now, Instant)
    given, history = _as_table(connection, moved), data_ingestion_watermark
    replaced = and_(_W.is_current, _W.symbol.in_(select(given.c.symbol)))
    connection.execute(update(history).where(replaced).values(is_current=False, valid_to=since))
    rows = select(given.c.symbol, given.c.last_session, since, true(), literal(reason, Text)).order_by(given.c.symbol)
    connection.execute(
        insert(history).from_select(["symbol", "last_session", "valid_from", "is_current", "reason"], rows)
    )


def _as_table(connection: Connection, moved: Mapping[str, date | None]) -> Subquery:
    """The moved watermarks as rows of `symbol` and `last_session`, bound as one JSON value.

    Bound one by one, 10,000 rows cost 0.2 s.
    """
    document = literal(json.dumps({symbol: session and session.isoformat() for symbol, session in moved.items()}), Text)
    last: ColumnElement[date]
    if connection.dialect.name == "sqlite":
        pairs = func.json_each(document).table_valued("key", "value")
        last = type_coerce(pairs.c.value, Date)  # SQLite holds a date as its ISO text
    else:
        pairs = func.json_each_text(cast(document, JSON)).table_valued("key", "value")
        last = cast(pairs.c.value, Date)
    return select(type_coerce(pairs.c.key, Text).label("symbol"), last.label("last_session")).subquery()

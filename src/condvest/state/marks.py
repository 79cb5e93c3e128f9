"""How far each kind of landed answers is recorded, inside a transaction that the caller opened."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from condvest.state.tables import landing_recorded

_M = landing_recorded.c


def read(connection: Connection) -> dict[str, datetime]:
    """Return the instant of the last answer of each kind that is recorded; kinds of which none is are absent."""
    return {row.kind: row.recorded_through for row in connection.execute(select(_M.kind, _M.recorded_through))}


def advance(connection: Connection, through: Mapping[str, datetime]) -> None:
    """Move marks forward to the later one of what is recorded and what is given. What stays writes nothing."""
    known = read(connection) if through else {}
    for kind, instant in through.items():
        if kind not in known:
            connection.execute(insert(landing_recorded).values(kind=kind, recorded_through=instant))
        elif instant > known[kind]:
            connection.execute(update(landing_recorded).where(_M.kind == kind).values(recorded_through=instant))

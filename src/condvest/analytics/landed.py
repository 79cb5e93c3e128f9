"""What the landing zone tells a reader: which sessions are there, and which bars a later answer changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from condvest.domain.answers import parse_range, parse_session
from condvest.domain.bars import (
    DAILY_SCHEMA,
    UTC_MICROSECONDS,
    VALUE_FIELDS,
    VALUE_NAMES,
    changed_rows,
    overlay,
    stamp,
)
from condvest.domain.calendar import Calendar
from condvest.domain.ledger import LedgerRow
from condvest.errors import DataError
from condvest.storage import layout
from condvest.storage.landing import read_index, unpack
from condvest.storage.layout import LandingKey
from condvest.storage.store import Store, Stored

SESSIONS_SCHEMA: Final = pa.schema(
    [
        ("session", pa.date32()),
        ("state", pa.string()),
        ("source", pa.string()),
        ("rows", pa.int64()),
        ("answer_rows", pa.int64()),
        ("quarantined", pa.int64()),
        ("restated", pa.int64()),
        ("withdrawn", pa.int64()),
        ("fetched_at", UTC_MICROSECONDS),
        ("reason", pa.string()),
    ]
)
RESTATEMENTS_SCHEMA: Final = pa.schema(
    [
        pa.field("symbol", pa.string()),
        pa.field("date", pa.date32()),
        pa.field("seen_at", UTC_MICROSECONDS),
        *(pa.field(f"old_{field.name}", field.type) for field in VALUE_FIELDS),
        *(pa.field(f"new_{field.name}", field.type) for field in VALUE_FIELDS),
    ]
)


def sessions_of_ledger(rows: list[LedgerRow]) -> pa.Table:
    """Return the session ledger as a table with `SESSIONS_SCHEMA`, in the order given."""
    columns = {name: [getattr(row, name) for row in rows] for name in SESSIONS_SCHEMA.names if name != "session"}
    return _table({"session": [row.session_date for row in rows], **columns}, SESSIONS_SCHEMA)


def sessions_of_landing(store: Store, calendar: Calendar) -> pa.Table:
    """Return the sessions whose whole market landed, with `SESSIONS_SCHEMA`, ascending; from a listing alone.

    Final is what the provider was last known to say after its final run; counts and reasons are null.
    """
    index = read_index(store)
    sessions = sorted(index.answers)
    last = [index.answers[session][-1][1] for session in sessions]
    seen = [index.seen_through(session) for session in sessions]
    finals = [at is not None and at >= calendar.final_due(day) for day, at in zip(sessions, seen, strict=True)]
    return _table(
        {
            "session": sessions,
            "state": ["final" if final else "provisional" for final in finals],
            "source": [key.kind for key in last],
            "fetched_at": [key.instant for key in last],
        },
        SESSIONS_SCHEMA,
    )


def restatements(store: Store, session: date) -> pa.Table:
    """Return the bars of a session that a later answer changed, with `RESTATEMENTS_SCHEMA`, by time, then symbol.

    A bar that was changed twice stands there twice. Values are raw, as the provider gave them; `seen_at` is UTC.
    """
    index = read_index(store, [session])
    keys = [key for key, _ in index.answers.get(session, ())] + [key for key, _ in index.ranges]
    answers = sorted(store.map(keys, lambda key, stored: _answer(key, stored, session)), key=lambda one: _order(one[0]))
    known, found = DAILY_SCHEMA.empty_table(), [RESTATEMENTS_SCHEMA.empty_table()]
    for key, bars in answers:
        if known.num_rows == 0:
            known = stamp(bars, key.instant)
            continue
        changed, _ = changed_rows(known, bars, key.instant)
        found.append(_differences(known, changed))
        known = overlay(known, changed)
    return pa.concat_tables(found).combine_chunks()


def _answer(key: str, stored: Stored | None, session: date) -> tuple[LandingKey, pa.Table]:
    found = layout.parse_landing_key(key)
    if stored is None or found is None:
        raise DataError(f"{key}: the landed answer is gone; landing is never deleted: restore it from a copy")
    body = unpack(stored.data, key)
    bars = parse_range(body, found.symbol).bars if found.symbol else parse_session(found.kind, body, session).bars
    return found, bars.filter(pc.equal(bars["date"], pa.scalar(session, pa.date32())))


def _order(key: LandingKey) -> tuple[object, ...]:
    return (key.instant, key.kind, key.symbol or "", key.digest)


def _differences(known: pa.Table, changed: pa.Table) -> pa.Table:
    """Return old and new values of the rows of `changed` that `known` has as well."""
    where = pc.index_in(changed["symbol"], value_set=known["symbol"].combine_chunks())
    new, old = changed.filter(pc.is_valid(where)), known.take(pc.drop_null(where))
    columns = [*(new[name] for name in ("symbol", "date", "ingested_at")), *(old[name] for name in VALUE_NAMES)]
    return pa.Table.from_arrays([*columns, *(new[name] for name in VALUE_NAMES)], schema=RESTATEMENTS_SCHEMA)


def _table(columns: Mapping[str, Sequence[object]], schema: pa.Schema) -> pa.Table:
    """Return a table of typed columns; those not given are null."""
    rows = len(next(iter(columns.values())))
    arrays = [pa.array(columns.get(field.name, [None] * rows), field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)

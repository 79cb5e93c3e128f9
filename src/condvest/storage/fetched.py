"""The bars that were written for one session, in one object: a cache that spares consolidation a read for each symbol.

Each row stands beside the ETag of the `date=` file that holds it, and is true of that version of the file alone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from condvest.domain.bars import DAILY_SCHEMA
from condvest.errors import DataError
from condvest.log import warn
from condvest.storage import layout
from condvest.storage.bars_file import decode_session
from condvest.storage.parquet import concat, encode_fetched
from condvest.storage.store import Store, Stored

#: How many sessions have an object: those of a month and a half that wait to be merged are read without their `date=` files.
KEPT_SESSIONS: Final = 60
#: A file alone is read as quickly as an object that holds its row.
LEAST_FILES: Final = 2
SCHEMA: Final = pa.schema([*DAILY_SCHEMA, ("etag", pa.string())])


@dataclass(frozen=True, slots=True)
class Fetched:
    """Bars of `date=` files, ordered by symbol, then session (`DAILY_SCHEMA`), and of each the session and the file's ETag.

    `spans` has the first row of each symbol, and the one past its last.
    """

    bars: pa.Table
    sessions: list[date]
    etags: list[str]
    spans: dict[str, tuple[int, int]]

    def row(self, symbol: str, session: date, etag: str) -> int | None:
        """Return the row that one version of a `date=` file holds; None where it is not known."""
        first, stop = self.spans.get(symbol, (0, 0))
        at = bisect_left(self.sessions, session, first, stop)
        is_it = etag and at < stop and self.sessions[at] == session and self.etags[at] == etag
        return at if is_it else None

    def is_other(self, symbol: str, session: date, etag: str, bar: pa.Table) -> bool:
        """Say whether another bar is known of one version of a `date=` file than the one that it holds."""
        row = self.row(symbol, session, etag)
        return row is not None and not self.take([row]).equals(bar)

    def take(self, rows: Sequence[int]) -> pa.Table:
        """Return the bars of some rows, which ascend."""
        if rows[-1] - rows[0] == len(rows) - 1:
            return self.bars.slice(rows[0], len(rows))
        return self.bars.take(pa.array(rows))


def write_fetched(store: Store, bars: pa.Table, etags: Sequence[str]) -> None:
    """Keep bars (`DAILY_SCHEMA`) beside the ETags of the `date=` files that were just written with them.

    They take the place of the same symbols' rows. Of several writers of one session at once the last one's rows stay; those
    of the others are read from their files. Objects of all but the last 60 sessions go.
    """
    rows = bars.append_column(SCHEMA.field("etag"), pa.array(etags, pa.string()))
    rows = rows.sort_by([("date", "ascending"), ("symbol", "ascending")]).combine_chunks()
    counts = rows["date"].value_counts()
    offset, written = 0, False
    for session, count in zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True):
        if count >= LEAST_FILES:
            _write(store, session, rows.slice(offset, count))
            written = True
        offset += count
    if written:
        store.delete_many(layout.fetched_key(session) for session in fetched_sessions(store)[:-KEPT_SESSIONS])


def _write(store: Store, session: date, rows: pa.Table) -> None:
    key = layout.fetched_key(session)
    (known,) = store.map([key], _decoded)
    if isinstance(known, pa.Table):
        others = known.filter(pc.invert(pc.is_in(known["symbol"], value_set=rows["symbol"].combine_chunks())))
        rows = pa.concat_tables([others, rows]).sort_by("symbol").combine_chunks()
    store.put(key, encode_fetched(rows))


def fetched_sessions(store: Store) -> list[date]:
    """Return the sessions that have an object, ascending."""
    found = (layout.parse_fetched_key(info.key) for info in store.list(layout.FETCHED))
    return [session for session in found if session is not None]


def read_fetched(store: Store, sessions: Collection[date]) -> Fetched:
    """Return the rows of the last 60 of some sessions; nothing of one whose object is absent, or unreadable (which is logged)."""
    found, errors = try_fetched(store, sessions)
    for key, error in errors.items():
        warn("fetched_bars_unreadable", key=key, error=error, remedy="it is a cache; the date= files are read")
    return found


def try_fetched(store: Store, sessions: Collection[date]) -> tuple[Fetched, dict[str, str]]:
    """Return what `read_fetched` does, and by their keys why objects cannot be read."""
    keys = [layout.fetched_key(session) for session in sorted(sessions)[-KEPT_SESSIONS:]]
    tables, errors = list[pa.Table](), dict[str, str]()
    for key, found in zip(keys, store.map(keys, _decoded), strict=True):
        if isinstance(found, DataError):
            errors[key] = str(found)
        elif found is not None:
            tables.append(found)
    rows = concat(tables, SCHEMA).sort_by([("symbol", "ascending"), ("date", "ascending")]).combine_chunks()
    runs = pc.run_end_encode(rows["symbol"].combine_chunks())
    spans = dict(zip(runs.values.to_pylist(), pairwise([0, *runs.run_ends.to_pylist()]), strict=True))
    bars = rows.select(DAILY_SCHEMA.names)
    return Fetched(bars, rows["date"].to_pylist(), rows["etag"].to_pylist(), spans), errors


def _decoded(key: str, stored: Stored | None) -> pa.Table | DataError | None:
    try:
        return decode_session(stored.data, SCHEMA, key, layout.parse_fetched_key(key)) if stored is not None else None
    except DataError as error:
        return error

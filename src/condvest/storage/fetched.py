"""The bars that were written for one session, in one object: a cache that spares consolidation a read for each symbol.

Each row stands beside the ETag of the `date=` file that holds it, and is true of that version of the file alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import chain, islice, pairwise
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from condvest.domain.bars import DAILY_SCHEMA
from condvest.errors import CondvestError, DataError
from condvest.log import warn
from condvest.storage import layout
from condvest.storage.bars_file import decode_session
from condvest.storage.parquet import concat, encode_fetched
from condvest.storage.store import Store, Stored

#: How many sessions have an object: those of six weeks that wait to be merged are read without their `date=` files.
KEPT_SESSIONS: Final = 30
#: An object costs as much to read as one in so many of the files that it stands for.
WORTH: Final = 100
SCHEMA: Final = pa.schema([*DAILY_SCHEMA, ("etag", pa.string())])


@dataclass(frozen=True, slots=True)
class Fetched:
    """Bars of `date=` files beside the ETags of these files (`SCHEMA`), ordered by symbol, then session.

    `spans` has the first row of each symbol, and the one past its last.
    """

    rows: pa.Table
    spans: dict[str, tuple[int, int]]

    def of(self, symbol: str) -> dict[tuple[date, str], int]:
        """Return the rows of one symbol by session and ETag."""
        span = self._span(symbol)
        return _by_version(_versions(self.rows.slice(span.start, len(span)), span))

    def of_each(self, symbols: Iterable[str]) -> Iterator[dict[tuple[date, str], int]]:
        """Yield what `of` returns for each of many symbols; all their rows are taken together, which is much faster."""
        spans = [self._span(symbol) for symbol in symbols]
        rows = list(chain.from_iterable(spans))
        versions = _versions(self.rows.select(["date", "etag"]).take(pa.array(rows, pa.int64())), rows)
        for span in spans:
            yield _by_version(islice(versions, len(span)))

    def _span(self, symbol: str) -> range:
        return range(*self.spans.get(symbol, (0, 0)))

    def take(self, rows: Sequence[int]) -> pa.Table:
        """Return the bars of some rows (`DAILY_SCHEMA`), which ascend."""
        if rows[-1] - rows[0] == len(rows) - 1:
            return self.rows.slice(rows[0], len(rows)).select(DAILY_SCHEMA.names)
        return self.rows.take(pa.array(rows)).select(DAILY_SCHEMA.names)

    def is_other(self, symbol: str, session: date, etag: str, bar: pa.Table) -> bool:
        """Say whether another bar is known of one version of a `date=` file than the one that it holds."""
        row = self.of(symbol).get((session, etag))
        return row is not None and not self.take([row]).equals(bar)


def _versions(rows: pa.Table, numbers: Sequence[int]) -> Iterator[tuple[date, str, int]]:
    return zip(rows["date"].to_pylist(), rows["etag"].to_pylist(), numbers, strict=True)


def _by_version(versions: Iterable[tuple[date, str, int]]) -> dict[tuple[date, str], int]:
    return {(session, etag): row for session, etag, row in versions if etag}


def write_fetched(store: Store, bars: pa.Table, etags: Sequence[str]) -> None:
    """Keep bars (`DAILY_SCHEMA`) beside the ETags of the `date=` files that were just written with them.

    An object a session, of the last 30 sessions; bars take the place of the same symbols' rows in it. A few bars of a session
    whose others are known are left out: their files are read. So are those of the first of two writers at once. It is a
    cache: a failure to write it is logged, and no failure of the caller's.
    """
    try:
        _write(store, bars.append_column(SCHEMA.field("etag"), pa.array(etags, pa.string())))
    except CondvestError as error:
        warn("fetched_bars_not_written", error=error, remedy="it is a cache; the date= files are read")


def _write(store: Store, rows: pa.Table) -> None:
    rows = rows.sort_by([("date", "ascending"), ("symbol", "ascending")]).combine_chunks()
    counts = rows["date"].value_counts()
    parts, offset = dict[date, pa.Table](), 0
    for session, count in zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True):
        parts[session] = rows.slice(offset, count)
        offset += count
    there = fetched_sessions(store)
    kept = set(sorted({*there, *parts})[-KEPT_SESSIONS:])
    parts = {session: part for session, part in parts.items() if session in kept and part.num_rows > 1}
    known = store.map([layout.fetched_key(session) for session in parts], _decoded)
    store.put_many(
        (layout.fetched_key(session), encode_fetched(whole))
        for session, whole in ((session, _whole(part, next(known))) for session, part in parts.items())
        if whole is not None
    )
    store.delete_many(layout.fetched_key(session) for session in there if session not in kept)


def _whole(part: pa.Table, known: pa.Table | DataError | None) -> pa.Table | None:
    """Return new rows of a session together with those that are known of other symbols; None where it is not worth it."""
    if not isinstance(known, pa.Table):
        return part
    if part.num_rows * WORTH < known.num_rows:
        return None
    others = known.filter(pc.invert(pc.is_in(known["symbol"], value_set=part["symbol"].combine_chunks())))
    return pa.concat_tables([others, part]).sort_by("symbol").combine_chunks()


def fetched_sessions(store: Store) -> list[date]:
    """Return the sessions that have an object, ascending."""
    found = (layout.parse_fetched_key(info.key) for info in store.list(layout.FETCHED))
    return [session for session in found if session is not None]


def read_fetched(store: Store, sessions: Collection[date]) -> Fetched:
    """Return the rows of the last 30 of some sessions; nothing of one whose object is absent, or unreadable (which is logged)."""
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
    return Fetched(rows, spans), errors


def _decoded(key: str, stored: Stored | None) -> pa.Table | DataError | None:
    try:
        return decode_session(stored.data, SCHEMA, key, layout.parse_fetched_key(key)) if stored is not None else None
    except DataError as error:
        return error

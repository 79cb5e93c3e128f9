"""The last months of daily bars of all symbols in one object: a cache that spares the resampler thousands of reads a day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from condvest.domain.bars import ANSWER_SCHEMA, PRICE_NAMES
from condvest.errors import CommitConflict, DataError
from condvest.log import warn
from condvest.storage import layout
from condvest.storage.manifest import short_mark
from condvest.storage.parquet import decode, encode_recent
from condvest.storage.second_look import look
from condvest.storage.store import Store, Stored, When

#: How many days before its own last bar a symbol's rows reach back.
RECENT_DAYS: Final = 120
_ATTEMPTS: Final = 20
_NEVER_NULL: Final = ("symbol", "date", *PRICE_NAMES, "volume", "source")
SCHEMA: Final = pa.schema([*ANSWER_SCHEMA, pa.field("source", pa.string())])


@dataclass(frozen=True, slots=True)
class Recent:
    """Recent bars by symbol: every bar that the symbol has since `RECENT_DAYS` before its last one, and their source.

    True of the `data.parquet` whose `short_mark` is the source, and of no other version.
    """

    by_symbol: dict[str, tuple[str, pa.Table]]

    def of(self, symbol: str, etag: str) -> tuple[date, pa.Table] | None:
        """Return the first date from which all bars are there, and the bars; None when they are of another version."""
        source, bars = self.by_symbol.get(symbol, ("", None))
        if bars is None or source != short_mark(etag):
            return None
        return bars["date"][-1].as_py() - timedelta(days=RECENT_DAYS), bars


def read_recent(store: Store) -> Recent:
    """Return the cached bars; nothing where it is absent, or cannot be read at a second look either (logged)."""
    return _read(store)[0]


class RecentWriter:
    """Collects the recent bars of the symbols that a job merged, and writes them at its end."""

    def __init__(self, store: Store) -> None:
        """Begin with nothing collected."""
        self._store = store
        self._fresh: dict[str, tuple[str, pa.Table]] = {}

    def add(self, bars: pa.Table, etag: str) -> None:
        """Take the last bars of one symbol's history; they are copied, so that the history can go."""
        since = bars["date"][-1].as_py() - timedelta(days=RECENT_DAYS)
        last = bars.slice(max(0, bars.num_rows - RECENT_DAYS - 1)).select(ANSWER_SCHEMA.names)  # one bar a day at most
        recent = last.filter(pc.greater_equal(last["date"], pa.scalar(since, pa.date32())))
        self._fresh[bars["symbol"][0].as_py()] = (short_mark(etag), recent)

    def write(self) -> bool:
        """Put what was collected in place of the same symbols' older rows; return whether anything was written.

        Symbols whose last bar is more than `RECENT_DAYS` before the lake's last are left out.
        """
        if not self._fresh:
            return False
        for _ in range(_ATTEMPTS):
            known, body, when = _read(self._store)
            fresh = _encoded({**known.by_symbol, **self._fresh})
            if fresh == body:
                return False
            try:
                self._store.put(layout.RECENT_BARS, fresh, when=when)
            except CommitConflict:
                continue
            return True
        warn("recent_bars_not_written", reason=f"{_ATTEMPTS} other writers were first", remedy="it is only a cache")
        return False


def _encoded(by_symbol: dict[str, tuple[str, pa.Table]]) -> bytes:
    last = max(bars["date"][-1].as_py() for _, bars in by_symbol.values())
    kept = [
        bars.append_column(SCHEMA.field("source"), pa.repeat(pa.scalar(source, pa.string()), bars.num_rows))
        for _, (source, bars) in sorted(by_symbol.items())
        if bars["date"][-1].as_py() >= last - timedelta(days=RECENT_DAYS)
    ]
    return encode_recent(pa.concat_tables(kept).combine_chunks())


def _read(store: Store) -> tuple[Recent, bytes, When]:
    found = look(store, layout.RECENT_BARS, _decoded)
    if found.error is not None:
        remedy = "it is a cache and is built again"
        warn("recent_bars_unreadable", key=layout.RECENT_BARS, error=found.error, remedy=remedy)
    return found.content or Recent({}), found.stored.data if found.stored is not None else b"", found.when


def _decoded(stored: Stored) -> Recent:
    table = decode(stored.data, SCHEMA, layout.RECENT_BARS, needed=_NEVER_NULL)
    return Recent(_by_symbol(table.combine_chunks()))


def _by_symbol(table: pa.Table) -> dict[str, tuple[str, pa.Table]]:
    if table.num_rows == 0:
        return {}
    symbols, sources, days = (table[name].combine_chunks() for name in ("symbol", "source", "date"))
    begins = pc.not_equal(symbols[:-1], symbols[1:])
    starts = [0, *(at + 1 for at in pc.indices_nonzero(begins).to_pylist())]
    names, marks = symbols.take(pa.array(starts)).to_pylist(), sources.take(pa.array(starts)).to_pylist()
    if pc.any(pc.and_(pc.invert(begins), pc.not_equal(sources[:-1], sources[1:]))).as_py():
        raise DataError(f"{layout.RECENT_BARS}: bars of one symbol are of two versions; it is built again")
    if len(set(names)) < len(starts) or pc.all(pc.or_(begins, pc.less(days[:-1], days[1:]))).as_py() is False:
        raise DataError(f"{layout.RECENT_BARS}: rows are not in the order of symbol and date; it is built again")
    bars = table.select(ANSWER_SCHEMA.names)
    bounds = zip(names, marks, pairwise([*starts, table.num_rows]), strict=True)
    return {name: (mark, bars.slice(begin, stop - begin)) for name, mark, (begin, stop) in bounds}

"""The last months of daily bars of all symbols in one object: a cache that spares the resampler thousands of reads a day."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import accumulate, pairwise
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from condvest.domain.bars import ANSWER_SCHEMA, PRICE_NAMES, SERIES_NAMES
from condvest.errors import CommitConflict, DataError
from condvest.log import warn
from condvest.storage import layout
from condvest.storage.manifest import short_mark
from condvest.storage.parquet import coded, decode, encode_recent
from condvest.storage.second_look import look
from condvest.storage.store import Store, Stored, When

#: How many days before its own last bar a symbol's rows reach back.
RECENT_DAYS: Final = 120
_REACH: Final = timedelta(days=RECENT_DAYS)
_ATTEMPTS: Final = 20
_NEVER_NULL: Final = ("symbol", "date", *PRICE_NAMES, "volume", "source")
SCHEMA: Final = pa.schema([*ANSWER_SCHEMA, pa.field("source", pa.string())])
#: Columns whose values repeat row after row: in memory they are codes into a dictionary.
_REPEATED: Final = ("symbol", "source")
#: So many symbols' bars are put together at a time.
_AT_A_TIME: Final = 64


@dataclass(frozen=True, slots=True)
class Span:
    """The rows of one symbol, `begin` to before `stop`; its last session; and `source`, the `short_mark` of their version."""

    source: str
    last: date
    begin: int
    stop: int


@dataclass(frozen=True, slots=True)
class Recent:
    """Recent bars: every bar that a symbol has since `RECENT_DAYS` before its last one, and where each symbol's lie.

    True of the `data.parquet` whose `short_mark` is the source, and of no other version. `rows` have `SCHEMA`, with `symbol`
    and `source` as dictionaries.
    """

    rows: pa.Table
    spans: dict[str, Span]
    _values: pa.Table

    @classmethod
    def over(cls, rows: pa.Table) -> Recent:
        """Find each symbol's rows; DataError where they do not follow each other, by date and of one version."""
        return cls(rows, _spans(rows), rows.select(SERIES_NAMES))

    @classmethod
    def nothing(cls) -> Recent:
        """Return no bars."""
        return cls.over(coded(SCHEMA, _REPEATED).empty_table())

    def of(self, symbol: str, etag: str) -> tuple[date, pa.Table] | None:
        """Return the date from which all bars are there, and the bars (`SERIES_NAMES`); None when they are of another version."""
        span = self.spans.get(symbol)
        if span is None or span.source != short_mark(etag):
            return None
        return span.last - _REACH, self._values.slice(span.begin, span.stop - span.begin)


def read_recent(store: Store) -> Recent:
    """Return the cached bars; nothing where it is absent, or cannot be read at a second look either (logged)."""
    return _read(store)[0]


def last_bars(bars: pa.Table) -> pa.Table:
    """Return the last bars of a history, all that may be recent; copied, so that the history can go."""
    end = bars.slice(max(0, bars.num_rows - RECENT_DAYS - 1))  # one bar a day at most
    return pa.concat_tables([end, end.slice(0, 0)]).combine_chunks()  # one chunk alone would not be copied


class RecentWriter:
    """Collects the recent bars of the symbols that a job merged, and writes them at its end."""

    def __init__(self, store: Store) -> None:
        """Begin with nothing collected."""
        self._store = store
        self._ends: list[tuple[pa.Table, date, str]] = []
        self._fresh: list[Recent] = []

    def add(self, bars: pa.Table, etag: str) -> None:
        """Take what `last_bars` gives of one symbol's history; each symbol once."""
        self._ends.append((bars, bars["date"][-1].as_py(), short_mark(etag)))
        if len(self._ends) == _AT_A_TIME:
            self._join()

    def write(self) -> bool:
        """Put what was collected in place of the same symbols' older rows; return whether anything was written.

        Symbols whose last bar is more than `RECENT_DAYS` before the lake's last are left out.
        """
        self._join()
        if not self._fresh:
            return False
        for _ in range(_ATTEMPTS):
            known, body, when = _read(self._store)
            fresh = encode_recent(_latest([known, *self._fresh]))
            if fresh == body:
                return False
            try:
                self._store.put(layout.RECENT_BARS, fresh, when=when)
            except CommitConflict:
                continue
            return True
        warn("recent_bars_not_written", reason=f"{_ATTEMPTS} other writers were first", remedy="it is only a cache")
        return False

    def _join(self) -> None:
        """Keep of the bars at hand those since `RECENT_DAYS` before the last one of each symbol."""
        if self._ends:
            self._fresh.append(_recent(self._ends))
            self._ends = []


def _recent(ends: Sequence[tuple[pa.Table, date, str]]) -> Recent:
    stops = pa.array(accumulate(bars.num_rows for bars, _, _ in ends), pa.int32())

    def each_row(values: pa.Array) -> pa.Array:
        return pc.run_end_decode(pa.RunEndEncodedArray.from_arrays(stops, values))

    since = each_row(pa.array([last - _REACH for _, last, _ in ends], pa.date32()))
    source = each_row(pa.array([source for _, _, source in ends], pa.string()))
    rows = pa.concat_tables([bars for bars, _, _ in ends]).select(ANSWER_SCHEMA.names)
    rows = rows.append_column(SCHEMA.field("source"), source).filter(pc.greater_equal(rows["date"], since))
    return Recent.over(rows.cast(coded(SCHEMA, _REPEATED)).combine_chunks())


def _latest(parts: Iterable[Recent]) -> pa.Table:
    """Return the rows of all symbols in order (`SCHEMA`); where several parts have a symbol, the last one counts."""
    found = {symbol: (part.rows, span) for part in parts for symbol, span in part.spans.items()}
    since = max(span.last for _, span in found.values()) - _REACH
    runs = list[tuple[pa.Table, int, int]]()
    for _, (rows, span) in sorted(found.items()):
        if span.last < since:
            continue
        if runs and runs[-1][0] is rows and runs[-1][2] == span.begin:
            runs[-1] = (rows, runs[-1][1], span.stop)
        else:
            runs.append((rows, span.begin, span.stop))
    slices = [rows.slice(begin, stop - begin) for rows, begin, stop in runs]
    return pa.concat_tables(slices).cast(SCHEMA).combine_chunks()


def _read(store: Store) -> tuple[Recent, bytes, When]:
    found = look(store, layout.RECENT_BARS, _decoded)
    if found.error is not None:
        remedy = "it is a cache and is built again"
        warn("recent_bars_unreadable", key=layout.RECENT_BARS, error=found.error, remedy=remedy)
    return found.content or Recent.nothing(), found.stored.data if found.stored is not None else b"", found.when


def _decoded(stored: Stored) -> Recent:
    return Recent.over(decode(stored.data, SCHEMA, layout.RECENT_BARS, needed=_NEVER_NULL, repeated=_REPEATED))


def _spans(rows: pa.Table) -> dict[str, Span]:
    if rows.num_rows == 0:
        return {}
    symbols, sources, days = (rows[name].combine_chunks() for name in ("symbol", "source", "date"))
    runs = pc.run_end_encode(symbols.indices)
    stops = runs.run_ends.to_pylist()
    names = symbols.dictionary.take(runs.values).to_pylist()
    lasts = pa.array([stop - 1 for stop in stops])
    if not set(pc.run_end_encode(sources.indices).run_ends.to_pylist()).issubset(stops):
        raise DataError(f"{layout.RECENT_BARS}: bars of one symbol are of two versions; it is built again")
    falls = pc.indices_nonzero(pc.greater_equal(days[:-1], days[1:])).to_pylist()
    if len(set(names)) < len(names) or not {at + 1 for at in falls}.issubset(stops):
        raise DataError(f"{layout.RECENT_BARS}: rows are not in the order of symbol and date; it is built again")
    marks, ends = sources.take(lasts).to_pylist(), days.take(lasts).to_pylist()
    return {
        name: Span(mark, last, begin, stop)
        for name, mark, last, (begin, stop) in zip(names, marks, ends, pairwise([0, *stops]), strict=True)
    }

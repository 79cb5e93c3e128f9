"""Record ranges: watermarks of symbols that were fetched one by one follow from what landed and what bronze holds of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from condvest.domain.answers import ParsedBars
from condvest.domain.bars import DAILY_SCHEMA, merge_history, stamp
from condvest.domain.calendar import Calendar
from condvest.jobs.bronze import BLOCK_SYMBOLS, blocks
from condvest.jobs.held import not_held
from condvest.jobs.landed import INCOMPLETE, read_range
from condvest.jobs.stopping import Stop, never
from condvest.log import event, warn
from condvest.storage.landing import LandingIndex, fold
from condvest.storage.layout import LandingKey
from condvest.storage.parquet import concat
from condvest.storage.store import Store

if TYPE_CHECKING:
    from condvest.state import State

#: Ranges are looked at again for so long: a fetch lands what it asked for under the instant at which it began.
_OVERLAP: Final = timedelta(days=1)

_Range = tuple[str, LandingKey]


@dataclass(slots=True)
class RangesRecorded:
    """Symbols whose watermark moved; whose bars are not all in bronze, with the remedy; and that were not looked at."""

    moved: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    remaining: list[str] = field(default_factory=list)


def record_ranges(
    store: Store,
    state: State,
    index: LandingIndex,
    *,
    calendar: Calendar,
    now: datetime,
    universe: Collection[str] | None = None,
    stop: Stop = never,
) -> RangesRecorded:
    """Move the watermarks of symbols whose range answers reach past them, once bronze holds their bars by value. Idempotent.

    An answer that ends before its range does (the symbol was delisted) reaches past the watermark for ever: it is looked at
    for a day and then counts as recorded. One that is not whole in bronze, or cannot be read, stands in `left` until it is.
    """
    report, known = RangesRecorded(), state.symbol_watermarks()
    recorded = state.recorded_through().get("range")
    since = min(recorded, now) - _OVERLAP if recorded is not None else None
    news = [one for one in index.ranges if _is_news(one[1], since, known, universe)]
    again: list[datetime] = []
    todo = [(symbol, list(group)) for symbol, group in groupby(sorted(news, key=_by_symbol), key=_symbol)]
    for done, block in enumerate(blocks(todo)):
        if stop():
            report.remaining = [symbol for symbol, _ in todo[done * BLOCK_SYMBOLS :]]
            return report
        again += _record(store, state, block, known, report, calendar, now)
    _note_recorded(state, index, min(again, default=None), now)
    return report


def _is_news(
    key: LandingKey, since: datetime | None, known: Mapping[str, date], universe: Collection[str] | None
) -> bool:
    if key.symbol is None or key.last is None or (universe is not None and key.symbol not in universe):
        return False
    reached = known.get(key.symbol)
    return (since is None or key.instant > since) and (reached is None or reached < key.last)


def _record(
    store: Store,
    state: State,
    block: Sequence[tuple[str, list[_Range]]],
    known: Mapping[str, date],
    report: RangesRecorded,
    calendar: Calendar,
    now: datetime,
) -> list[datetime]:
    """Record some symbols in one transaction; return when the answers landed that have to be looked at again."""
    histories, again = [], list[datetime]()
    read = store.map([key for _, answers in block for key, _ in answers], read_range)
    for symbol, answers in block:
        bars, problems = _history([(key, next(read)) for _, key in answers], calendar)
        if problems:
            report.left += problems
            again += [key.instant for _, key in answers]
        elif bars.num_rows:
            histories.append((symbol, bars))
    lacking = {symbol for symbol, _ in not_held(store, histories, by_value=True)}
    report.left += [f"{symbol}: {INCOMPLETE}" for symbol in sorted(lacking)]
    again += [key.instant for symbol, answers in block if symbol in lacking for _, key in answers]
    held = {symbol: bars["date"][-1].as_py() for symbol, bars in histories if symbol not in lacking}
    moved = {symbol: day for symbol, day in held.items() if symbol not in known or known[symbol] < day}
    if moved:
        state.record([], watermarks=moved, reason="fetch", now=now)
        event("ranges_recorded", symbols=len(moved))
    report.moved += moved
    return again


def _history(answers: Sequence[tuple[LandingKey, ParsedBars | str]], calendar: Calendar) -> tuple[pa.Table, list[str]]:
    """Return the bars of one symbol's range answers, ascending, the last value of each; and what cannot be read."""
    tables, problems = [], []
    for found, parsed in answers:
        if isinstance(parsed, str):
            warn("range_unread", symbol=found.symbol, error=parsed)
            problems.append(parsed)
        else:
            tables.append(stamp(parsed.bars, found.instant))
    bars = merge_history(tables)
    sessions = pa.array([calendar.is_session(day) for day in bars["date"].to_pylist()], pa.bool_())
    return bars.filter(sessions).combine_chunks(), problems


def _note_recorded(state: State, index: LandingIndex, open_since: datetime | None, now: datetime) -> None:
    """Say how far the ranges are recorded: up to the last, or to before the first that has to be looked at again."""
    if open_since is not None:
        state.note_recorded("range", open_since - timedelta(microseconds=1))
    elif index.ranges:
        # No later than now: a clock that was once ahead must not hide what lands from here on.
        state.note_recorded("range", min(now, max(key.instant for _, key in index.ranges)))


def _symbol(one: _Range) -> str:
    return one[1].symbol or ""


def _by_symbol(one: _Range) -> tuple[str, datetime]:
    return _symbol(one), one[1].instant


def record_between(
    store: Store,
    state: State,
    index: LandingIndex,
    *,
    calendar: Calendar,
    now: datetime,
    symbols: Collection[str],
    first: date,
    last: date,
    reason: str = "fetch",
) -> list[str]:
    """Move the watermarks of symbols whose landed bars from `first` to `last` (inclusive) are in bronze. Idempotent.

    Returns the symbols whose bars are not all there, with the remedy; their watermarks stay.
    """
    sessions = calendar.sessions(first, last)
    found = list(fold(store, sessions, index, symbols))
    bars = concat([one.bars for one in found], DAILY_SCHEMA)
    wanted = sorted(set(bars["symbol"].to_pylist()))
    histories = [(symbol, bars.filter(pc.equal(bars["symbol"], symbol)).combine_chunks()) for symbol in wanted]
    lacking = {symbol for symbol, _ in not_held(store, histories)}
    held = {symbol: rows["date"][-1].as_py() for symbol, rows in histories if symbol not in lacking}
    state.record([], watermarks=held, reason=reason, now=now)
    return [f"{symbol}: {INCOMPLETE}" for symbol in sorted(lacking)] + [
        f"{one.session}: {problem}" for one in found for problem in one.problems
    ]

"""Fetch some symbols by the range endpoint: their bars come to bronze, the session ledger stays as it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final, Protocol, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from condvest.domain.answers import ParsedBars
from condvest.domain.bars import DAILY_SCHEMA, Reject
from condvest.domain.calendar import Calendar
from condvest.errors import CondvestError, NotEntitled, TimeOver
from condvest.jobs.fetch_bars import BULK_SESSIONS
from condvest.jobs.fetch_report import FetchReport
from condvest.jobs.held import not_held
from condvest.jobs.progress import Progress, silent
from condvest.jobs.session_log import SessionLog
from condvest.jobs.stopping import Stop, never
from condvest.jobs.write_bars import merge_bars, quarantine, write_bars
from condvest.log import event, warn
from condvest.storage import layout
from condvest.storage.landing import LandingIndex, fold, next_instant, pack, read_index
from condvest.storage.parquet import concat
from condvest.storage.store import Store

#: Answers that are landed at once: so many a kill may cost.
_LANDED_AT_A_TIME: Final = 8
_Answer: TypeAlias = tuple[str, bytes, ParsedBars]


class RangeSource(Protocol):
    """Where the history of one symbol comes from."""

    def fetch_range(self, symbol: str, first: date, last: date) -> tuple[bytes, ParsedBars]:
        """Return the answer for the sessions from first to last, both inclusive, all pages in one."""


def fetch_symbols(
    store: Store,
    source: RangeSource,
    log: SessionLog,
    *,
    calendar: Calendar,
    now: datetime,
    symbols: Sequence[str],
    first: date,
    last: date,
    stop: Stop = never,
    progress: Progress = silent,
) -> FetchReport:
    """Fetch the bars of some symbols from `first` to `last` (both inclusive) and move their watermarks. Idempotent.

    Answers land first. More than 20 sessions go straight into `data.parquet`, fewer into `date=` files too. A row on a day
    without a session goes to quarantine. What is known already follows from landing: every landed answer of these sessions
    is read once. Sessions that all lie before the plan's first one stand in `not_entitled`. Asked to stop, it completes
    the symbols that it has asked for and leaves the others in `remaining_symbols`.
    """
    sessions = calendar.sessions(first, last)
    report = FetchReport()
    if not sessions:
        return report
    fetch = _Fetch(store, log, source, calendar, now, sessions, (first, last), stop, report)
    asked = _ask(fetch, symbols, progress)
    with log.exclusive():
        _complete(fetch, asked)
    return report


@dataclass(frozen=True, slots=True)
class _Fetch:
    """What every step of one fetch needs. `instants`: under which the answers of this fetch landed."""

    store: Store
    log: SessionLog
    source: RangeSource
    calendar: Calendar
    now: datetime
    sessions: Sequence[date]
    bounds: tuple[date, date]
    stop: Stop
    report: FetchReport
    instants: set[datetime] = field(default_factory=set)


def _ask(fetch: _Fetch, symbols: Sequence[str], progress: Progress) -> list[str]:
    """Ask for each symbol and land the answers, a few at a time; return the symbols that were not left to another call."""
    waiting, report = list[_Answer](), fetch.report
    try:
        for done, symbol in enumerate(symbols):
            answer = None if fetch.stop() else _answer(fetch, symbol)
            if answer is None:
                report.remaining_symbols = [] if report.not_entitled else list(symbols[done:])
                break
            waiting.append(answer)
            if len(waiting) == _LANDED_AT_A_TIME:
                _land(fetch, waiting)
                waiting = []
            progress("fetch symbols", done + 1, len(symbols))
    except CondvestError:
        _land(fetch, waiting)
        raise
    _land(fetch, waiting)
    return [symbol for symbol in symbols if symbol not in set(report.remaining_symbols)]


def _answer(fetch: _Fetch, symbol: str) -> _Answer | None:
    """Ask for one symbol; None where the time for asking is over, or the plan does not include these sessions."""
    first, last = fetch.bounds
    try:
        body, parsed = fetch.source.fetch_range(symbol, first, last)
    except TimeOver:
        return None
    except NotEntitled as error:  # whatever the symbol
        warn("range_refused", first=first, last=last, state="not_entitled", reason=str(error))
        fetch.report.not_entitled = list(fetch.sessions)
        fetch.report.asked += 1
        return None
    fetch.report.asked += 1
    return symbol, body, parsed


def _land(fetch: _Fetch, answers: Sequence[_Answer]) -> None:
    """Land answers as what landed before them wants it."""
    if answers:
        with fetch.log.exclusive():
            index = read_index(fetch.store, fetch.sessions)
            fetch.store.put_many([item for answer in answers for item in _landing(fetch, index, *answer)])


def _complete(fetch: _Fetch, symbols: Sequence[str]) -> None:
    """Bring to bronze what landed for some symbols and is not there, then move their watermarks."""
    store, sessions, report, now = fetch.store, fetch.sessions, fetch.report, fetch.now
    known = list(fold(store, sessions, read_index(store, sessions), set(symbols)))
    report.pending = {one.session: "; ".join(one.problems) for one in known if one.problems}
    report.restated = sum(one.restated_by(fetch.instants) for one in known)
    bars = _not_in_bronze(store, concat([one.bars for one in known], DAILY_SCHEMA), symbols)
    if bars.num_rows:
        report.rows = bars.num_rows
        report.unmerged = merge_bars(store, bars) if len(sessions) > BULK_SESSIONS else write_bars(store, bars, now=now)
    if not report.unmerged:
        fetch.log.record([], watermarks=_latest([one.bars for one in known]), reason="fetch", now=now)


def _landing(
    fetch: _Fetch, index: LandingIndex, symbol: str, body: bytes, parsed: ParsedBars
) -> list[tuple[str, bytes]]:
    """Return what to land of one answer: nothing where the last one is for these bounds and has the same values."""
    bounds, report = fetch.bounds, fetch.report
    last = index.latest(*bounds, symbol)
    is_same = last is not None and (last.symbol, last.first, last.last, last.digest) == (symbol, *bounds, parsed.digest)
    if parsed.total == 0 or is_same:
        return []
    at = next_instant(fetch.now, last)
    fetch.instants.add(at)
    report.landed += 1
    event("range_landed", symbol=symbol, rows=parsed.total)
    objects = [(layout.range_landing_key(symbol, at, parsed.digest, *bounds), pack(body))]
    strays = [row for row in parsed.bars.to_pylist() if not fetch.calendar.is_session(row["date"])]
    rejects = [*parsed.rejects, *(_stray(row) for row in strays)]
    report.quarantined += len(rejects)
    days = sorted({reject.session for reject in rejects})
    return objects + [quarantine(day, parsed, [row for row in rejects if row.session == day], at) for day in days]


def _stray(row: dict[str, Any]) -> Reject:
    raw = json.dumps(row, sort_keys=True, default=str)
    return Reject(row["symbol"], row["date"], "not_a_session", "no session is scheduled on this day", raw)


def _not_in_bronze(store: Store, bars: pa.Table, symbols: Sequence[str]) -> pa.Table:
    """Return the bars that bronze does not hold with these values."""
    histories = ((symbol, bars.filter(pc.equal(bars["symbol"], symbol)).combine_chunks()) for symbol in symbols)
    found = not_held(store, ((symbol, rows) for symbol, rows in histories if rows.num_rows))
    return concat([rows for _, rows in found], DAILY_SCHEMA)


def _latest(tables: Sequence[pa.Table]) -> dict[str, date]:
    """Return each symbol's last session; the tables come in ascending order of sessions."""
    return {symbol: bars["date"][0].as_py() for bars in tables for symbol in bars["symbol"].to_pylist()}

"""Fetch bars: ask for whole sessions, land the answers, write bronze, then the ledger; resumable at every point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from condvest.domain.answers import SessionAnswer, SessionRefusal, SessionSource
from condvest.domain.bars import DAILY_SCHEMA, changed_rows, overlay
from condvest.domain.calendar import Calendar
from condvest.domain.ledger import UsualRows, due
from condvest.jobs.fetch_bulk import backfill
from condvest.jobs.fetch_report import FetchReport
from condvest.jobs.fetch_steps import (
    DONE,
    Fetch,
    accepted,
    is_landed,
    landing,
    next_in_time,
    note,
    refuse,
    reopen,
    row_of,
)
from condvest.jobs.landed import unread
from condvest.jobs.progress import Progress, silent
from condvest.jobs.session_log import SessionLog
from condvest.jobs.stopping import Stop, never
from condvest.jobs.write_bars import count_not_in, write_bars
from condvest.log import event, warn
from condvest.storage.landing import fold, only, read_index
from condvest.storage.store import Store

#: More sessions than this are a backfill: they land first, then go straight into `data.parquet`, without `date=` files.
BULK_SESSIONS: Final = 20


def fetch_bars(
    store: Store,
    source: SessionSource,
    log: SessionLog,
    *,
    calendar: Calendar,
    now: datetime,
    sessions: Sequence[date] | None = None,
    universe: frozenset[str] | None = None,
    accept_short: bool = False,
    stop: Stop = never,
    progress: Progress = silent,
) -> FetchReport:
    """Fetch sessions, or with None every one that the ledger has as due at `now`. Idempotent; may be killed anywhere.

    An answer lands first, then its bars, then the ledger and the watermarks in one transaction. A session whose answer landed
    in a run that was killed is completed from landing without asking again. More than 20 sessions are a backfill. A
    session is final when its answer came from 11:00 New York time of the next day on. A session fails alone: it stays
    pending with the reason. `universe` limits the bars that go to bronze, never what lands. Asked to stop, it leaves the
    sessions that it did not complete in `remaining`. Fetches of one log take turns: answers land in the order of their
    instants, and bronze follows them before the next one may begin.

    Raises:
        ConfigError: the key is refused; nothing more is asked. TransientError, DataError: the store or the log failed.
    """
    report = FetchReport()
    wanted = due(log.sessions(), calendar, now) if sessions is None else sessions

    def begin(wanted: Sequence[date]) -> Fetch:
        log.expect(wanted, now=now)
        ledger = {row.session_date: row for row in log.sessions()}
        usual, index = UsualRows(list(ledger.values())), read_index(store, wanted)
        return Fetch(
            store, log, source, calendar, now, universe, accept_short, stop, index, dict(ledger), ledger, usual, report
        )

    if len(wanted) > BULK_SESSIONS:
        backfill(begin(wanted), wanted, progress)
    elif wanted:
        with log.exclusive():
            if sessions is None:  # another fetch may have ended meanwhile
                wanted = due(log.sessions(), calendar, now)
            _fetch_days(begin(wanted), wanted, progress)
    return report


def _fetch_days(fetch: Fetch, sessions: Sequence[date], progress: Progress) -> None:
    """Complete what landed, then ask for the other sessions one by one."""
    resumable = [session for session in sessions if is_landed(fetch, session)]
    ask = [session for session in sessions if session not in set(resumable)]
    fetch.report.asked, fetch.report.resumed = len(ask), len(resumable)
    event("fetch_planned", sessions=len(sessions), to_ask=len(ask), landed_already=len(resumable))
    _resume(fetch, resumable, progress)
    _ask(fetch, ask, progress)


def _resume(fetch: Fetch, sessions: Sequence[date], progress: Progress) -> None:
    """Complete sessions from what landed."""
    for done, folded in enumerate(fold(fetch.store, sessions, fetch.index, fetch.universe)):
        if fetch.stop():
            fetch.report.remaining += sessions[done:]
            return
        if folded.problems:
            refuse(fetch, SessionRefusal(folded.session, "pending", unread(folded.problems)))
        else:
            _complete(fetch, folded.session, folded.bars, rows=folded.bars.num_rows, restated=folded.restated)
        progress("complete landed sessions", done + 1, len(sessions))


def _ask(fetch: Fetch, sessions: Sequence[date], progress: Progress) -> None:
    """Ask the provider for sessions, and complete each as its answer comes."""
    outcomes = iter(fetch.source.fetch_sessions(sessions))
    for done in range(len(sessions)):
        if fetch.stop():
            fetch.report.remaining += sessions[done:]
            return
        outcome = next_in_time(outcomes)
        if outcome is None:
            fetch.report.remaining += sessions[done:]
            return
        _daily(fetch, outcome)
        progress("fetch sessions", done + 1, len(sessions))


def _daily(fetch: Fetch, outcome: SessionAnswer | SessionRefusal) -> None:
    answer = accepted(fetch, outcome)
    if answer is None:
        return
    session, last = answer.session, fetch.index.last(answer.session)
    folded = next(fold(fetch.store, [session], fetch.index, fetch.universe), None)
    if folded is not None and folded.problems:
        refuse(fetch, SessionRefusal(session, "pending", unread(folded.problems)))
        return
    before = folded.bars if folded is not None else DAILY_SCHEMA.empty_table()
    bars = only(answer.parsed.bars, fetch.universe)
    row = fetch.ledger[session]
    is_whole = row.state in DONE and last is not None and row.answer_digest == last.digest
    at, objects = landing(fetch, answer)
    if objects:
        reopen(fetch, [session])
    fetch.store.put_many(objects)
    changed, restated = changed_rows(before, bars, at)
    fetch.report.restated += restated
    withdrawn = count_not_in(before, bars) if last is None or at > last.instant else 0
    if withdrawn:
        warn("bars_withdrawn", session=session, bars=withdrawn, kept="the last value that the provider gave")
        fetch.report.withdrawn += withdrawn
        fetch.ledger[session] = replace(fetch.ledger[session], withdrawn=row.withdrawn + withdrawn)
    after = overlay(before, changed)
    told = restated + (folded.restated if folded is not None else 0)
    if is_whole and row.fetched_at is not None:
        # A run that was killed between landing and bronze left values that the ledger does not know: bronze may lack them.
        changed = overlay(before.filter(pc.greater(before["ingested_at"], row.fetched_at)), changed)
    _complete(fetch, session, changed if is_whole else after, rows=after.num_rows, restated=told)


def _complete(fetch: Fetch, session: date, bars: pa.Table, *, rows: int, restated: int) -> None:
    """Write the bars, then the ledger row and the watermarks in one transaction."""
    left = write_bars(fetch.store, bars, now=fetch.now) if bars.num_rows else []
    fetch.report.rows += bars.num_rows
    fetch.report.unmerged += left
    if left:
        return
    row = row_of(fetch, session, rows, restated)
    watermarks = dict.fromkeys(bars["symbol"].to_pylist(), session)
    fetch.log.record([row], watermarks=watermarks, reason="fetch", now=fetch.now)
    note(fetch, row)
    event("session_done", session=session, state=row.state, rows=row.rows, restated=row.restated or None)

"""Fetch bars: ask for whole sessions, land the answers, write bronze, then the ledger; resumable at every point."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from condvest.domain.answers import SessionAnswer, SessionRefusal, SessionSource
from condvest.domain.bars import DAILY_SCHEMA, changed_rows, overlay
from condvest.domain.calendar import Calendar
from condvest.domain.ledger import LedgerRow, UsualRows, due
from condvest.errors import TimeOver
from condvest.jobs.backfill import merge_landed
from condvest.jobs.fetch_report import FetchReport
from condvest.jobs.progress import Progress, silent
from condvest.jobs.session_log import SessionLog
from condvest.jobs.stopping import Stop, never
from condvest.jobs.write_bars import count_not_in, quarantine, wanted_rejects, write_bars
from condvest.log import event, warn
from condvest.storage import layout
from condvest.storage.landing import LandingIndex, fold, next_instant, only, pack, read_index, receipt
from condvest.storage.store import Store

#: More sessions than this are a backfill: they land first, then go straight into `data.parquet`, without `date=` files.
BULK_SESSIONS: Final = 20
#: Answers that a backfill gathers before it writes them at once: so many a kill may cost, at 5 requests a minute.
_LANDED_AT_A_TIME: Final = 8
#: An answer with fewer than half of the usual rows is short; markets of fewer rows are too small to tell.
_LEAST_USUAL: Final = 8
_DONE: Final = ("provisional", "final")


@dataclass(frozen=True, slots=True)
class _Fetch:
    """What every step of one fetch needs."""

    store: Store
    log: SessionLog
    source: SessionSource
    calendar: Calendar
    now: datetime
    universe: frozenset[str] | None
    accept_short: bool
    stop: Stop
    index: LandingIndex
    before: Mapping[date, LedgerRow]
    ledger: dict[date, LedgerRow]
    usual: UsualRows
    report: FetchReport


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
    sessions that it did not complete in `remaining`.

    Raises:
        ConfigError: the key is refused; nothing more is asked. TransientError, DataError: the store or the log failed.
    """
    if sessions is None:
        sessions = due(log.sessions(), calendar, now)
    report = FetchReport()
    if not sessions:
        return report
    log.expect(sessions, now=now)
    ledger = {row.session_date: row for row in log.sessions()}
    index = read_index(store, sessions)
    usual = UsualRows(list(ledger.values()))
    fetch = _Fetch(
        store, log, source, calendar, now, universe, accept_short, stop, index, dict(ledger), ledger, usual, report
    )
    resumable = [session for session in sessions if _is_landed(fetch, session)]
    ask = [session for session in sessions if session not in set(resumable)]
    report.asked, report.resumed = len(ask), len(resumable)
    event("fetch_planned", sessions=len(sessions), to_ask=len(ask), landed_already=len(resumable))
    if len(sessions) > BULK_SESSIONS:
        _backfill(fetch, sessions, ask, progress)
    else:
        _resume(fetch, resumable, progress)
        _ask(fetch, ask, progress)
    return report


def _resume(fetch: _Fetch, sessions: Sequence[date], progress: Progress) -> None:
    """Complete sessions from what landed."""
    for done, folded in enumerate(fold(fetch.store, sessions, fetch.index, fetch.universe)):
        if fetch.stop():
            fetch.report.remaining += sessions[done:]
            return
        if folded.problems:
            _refuse(fetch, SessionRefusal(folded.session, "pending", "; ".join(folded.problems)))
        else:
            _complete(fetch, folded.session, folded.bars, rows=folded.bars.num_rows, restated=folded.restated)
        progress("complete landed sessions", done + 1, len(sessions))


def _ask(fetch: _Fetch, sessions: Sequence[date], progress: Progress) -> None:
    """Ask the provider for sessions, and complete each as its answer comes."""
    outcomes = iter(fetch.source.fetch_sessions(sessions))
    for done in range(len(sessions)):
        if fetch.stop():
            fetch.report.remaining += sessions[done:]
            return
        outcome = _next_in_time(outcomes)
        if outcome is None:
            fetch.report.remaining += sessions[done:]
            return
        _daily(fetch, outcome)
        progress("fetch sessions", done + 1, len(sessions))


def _next_in_time(outcomes: Iterator[SessionAnswer | SessionRefusal]) -> SessionAnswer | SessionRefusal | None:
    """Return the next outcome; None where the time for asking is over."""
    try:
        return next(outcomes)
    except TimeOver:
        return None


def _is_landed(fetch: _Fetch, session: date) -> bool:
    """Say whether the landed answer serves: the session is not done, and asking again would not make it final."""
    seen = fetch.index.seen_through(session)
    if seen is None or fetch.ledger[session].state in _DONE:
        return False
    due_at = fetch.calendar.final_due(session)
    return seen >= due_at or fetch.now < due_at


def _backfill(fetch: _Fetch, sessions: Sequence[date], ask: Sequence[date], progress: Progress) -> None:
    """Land what is asked for, then merge all that landed straight into `data.parquet`, then record it in one transaction."""
    if not _land(fetch, ask, progress) or fetch.stop():
        refused = {*fetch.report.pending, *fetch.report.not_entitled}
        fetch.report.remaining += [session for session in sessions if session not in refused]
        return
    merged = merge_landed(
        fetch.store, sessions, fetch.index, calendar=fetch.calendar, universe=fetch.universe, progress=progress
    )
    for session, why in merged.unread.items():
        _refuse(fetch, SessionRefusal(session, "pending", why))
    fetch.report.unmerged += merged.unmerged
    fetch.report.rows += merged.rows
    if merged.unmerged:
        return
    # A session of which only some symbols' ranges landed is not done.
    whole = [(session, found) for session, found in merged.sessions.items() if fetch.index.last(session)]
    rows = [_row(fetch, session, found.rows, found.restated) for session, found in whole]
    fetch.report.restated += sum(max(row.restated - fetch.before[row.session_date].restated, 0) for row in rows)
    fetch.log.record(rows, watermarks=merged.last_sessions, reason="backfill", now=fetch.now)
    for row in rows:
        _note(fetch, row)


def _land(fetch: _Fetch, sessions: Sequence[date], progress: Progress) -> bool:
    """Ask the provider for sessions, and land the answers a few at a time; say whether the time was enough for all."""
    waiting, landed = list[tuple[str, bytes]](), list[date]()
    outcomes = iter(fetch.source.fetch_sessions(sessions))
    for done in range(1, len(sessions) + 1):
        outcome = _next_in_time(outcomes)
        answer = _accepted(fetch, outcome) if outcome is not None else None
        if answer is not None:
            waiting += _landing(fetch, answer)[1]
            landed.append(answer.session)
        is_last = outcome is None or done == len(sessions) or fetch.stop()
        if waiting and (is_last or len(waiting) >= _LANDED_AT_A_TIME):
            _reopen(fetch, landed)
            fetch.store.put_many(waiting)
            waiting, landed = [], []
        progress("land sessions", done, len(sessions))
        if is_last:
            return outcome is not None and done == len(sessions)
    return True


def _daily(fetch: _Fetch, outcome: SessionAnswer | SessionRefusal) -> None:
    answer = _accepted(fetch, outcome)
    if answer is None:
        return
    session, last = answer.session, fetch.index.last(answer.session)
    folded = next(fold(fetch.store, [session], fetch.index, fetch.universe), None)
    if folded is not None and folded.problems:
        _refuse(fetch, SessionRefusal(session, "pending", "; ".join(folded.problems)))
        return
    before = folded.bars if folded is not None else DAILY_SCHEMA.empty_table()
    bars = only(answer.parsed.bars, fetch.universe)
    row = fetch.ledger[session]
    is_whole = row.state in _DONE and last is not None and row.answer_digest == last.digest
    at, objects = _landing(fetch, answer)
    if objects:
        _reopen(fetch, [session])
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


def _reopen(fetch: _Fetch, sessions: Sequence[date]) -> None:
    """Record done sessions as pending while a later answer lands: who is killed before bronze leaves them to the next fetch."""
    done = [fetch.ledger[session] for session in sessions if fetch.ledger[session].state in _DONE]
    rows = [replace(row, state="pending", reason="a later answer landed; the next fetch completes it") for row in done]
    if rows:
        fetch.log.record(rows, watermarks={}, reason="fetch", now=fetch.now)


def _accepted(fetch: _Fetch, outcome: SessionAnswer | SessionRefusal) -> SessionAnswer | None:
    """Return the answer when it can be taken; else record why not."""
    if isinstance(outcome, SessionAnswer):
        short = _short(fetch, outcome)
        if short is None:
            return outcome
        outcome = SessionRefusal(outcome.session, "pending", short)
    _refuse(fetch, outcome)
    return None


def _refuse(fetch: _Fetch, refusal: SessionRefusal) -> None:
    """Record why there is no answer for a session. One that is done stays as it is."""
    session = refusal.session
    warn("session_refused", session=session, state=refusal.state, reason=refusal.reason)
    if refusal.state == "not_entitled":
        fetch.report.not_entitled.append(session)
    else:
        fetch.report.pending[session] = refusal.reason
    if fetch.ledger[session].state not in _DONE:
        fetch.ledger[session] = replace(fetch.ledger[session], state=refusal.state, reason=refusal.reason)
        fetch.log.record([fetch.ledger[session]], watermarks={}, reason="fetch", now=fetch.now)


def _short(fetch: _Fetch, answer: SessionAnswer) -> str | None:
    usual = fetch.usual.around(answer.session)
    if fetch.accept_short or usual is None or usual < _LEAST_USUAL or answer.parsed.total * 2 >= usual:
        return None
    return (
        f"short answer: {answer.parsed.total} rows, usual are {usual}; it is asked for again by the next fetch; if it is right,"
        f" take it with `condvest fetch bars --date {answer.session} --accept-short`"
    )


def _landing(fetch: _Fetch, answer: SessionAnswer) -> tuple[datetime, list[tuple[str, bytes]]]:
    """Return when an answer's values were first seen by the lake, and the objects to land: none where nothing is new.

    The index counts them as landed already.
    """
    objects: list[tuple[str, bytes]] = []
    session, parsed = answer.session, answer.parsed
    last, latest = fetch.index.last(session), fetch.index.latest(session, session)
    # The same values again after a range said otherwise are news.
    if last is None or last != latest or last.digest != parsed.digest or last.kind != fetch.source.kind:
        at = next_instant(fetch.now, latest)
        key = layout.landing_key(fetch.source.kind, session, at, parsed.digest)
        objects.append((key, pack(answer.body)))
        fetch.index.note(key)
        fetch.report.landed += 1
        event("session_landed", level=logging.DEBUG, session=session, rows=parsed.total)
    else:
        at = last.instant
        seen = fetch.index.seen_through(session) or at
        due_at = fetch.calendar.final_due(session)
        if fetch.now >= due_at > seen:
            key = layout.confirmed_key(session, fetch.now, parsed.digest)
            objects.append((key, receipt(last, fetch.now)))
            fetch.index.note(key)
    rejects = wanted_rejects(parsed.rejects, fetch.universe)
    if rejects and (last is None or last.instant != at or fetch.ledger[session].state not in _DONE):
        objects.append(quarantine(session, parsed, rejects, at))
    fetch.report.quarantined += len(rejects)
    fetch.ledger[session] = replace(
        fetch.ledger[session], answer_rows=parsed.total, quarantined=len(rejects), fetched_at=fetch.now
    )
    fetch.usual.note(session, parsed.total)
    return at, objects


def _complete(fetch: _Fetch, session: date, bars: pa.Table, *, rows: int, restated: int) -> None:
    """Write the bars, then the ledger row and the watermarks in one transaction."""
    left = write_bars(fetch.store, bars, now=fetch.now) if bars.num_rows else []
    fetch.report.rows += bars.num_rows
    fetch.report.unmerged += left
    if left:
        return
    row = _row(fetch, session, rows, restated)
    watermarks = dict.fromkeys(bars["symbol"].to_pylist(), session)
    fetch.log.record([row], watermarks=watermarks, reason="fetch", now=fetch.now)
    _note(fetch, row)
    event("session_done", session=session, state=row.state, rows=row.rows, restated=row.restated or None)


def _row(fetch: _Fetch, session: date, rows: int, restated: int) -> LedgerRow:
    """Return the ledger row of a session whose landed answers are in bronze."""
    known, last = fetch.ledger[session], fetch.index.last(session)
    seen = fetch.index.seen_through(session) or fetch.now
    return replace(
        known,
        state="final" if seen >= fetch.calendar.final_due(session) else "provisional",
        source=last.kind if last is not None else known.source,
        rows=rows,
        answer_rows=known.answer_rows or rows,
        answer_digest=last.digest if last is not None else known.answer_digest,
        restated=restated,
        fetched_at=max(seen, known.fetched_at or seen),
        reason=None,
    )


def _note(fetch: _Fetch, row: LedgerRow) -> None:
    """Count a session that is done; one that only came again as it was is not new."""
    report, before = fetch.report, fetch.before[row.session_date]
    report.changed += (before.state, before.rows, before.restated) != (row.state, row.rows, row.restated)
    (report.final if row.state == "final" else report.provisional).append(row.session_date)

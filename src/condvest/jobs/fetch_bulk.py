"""Many sessions at once: they land first, a few at a time, then go straight into `data.parquet`, without `date=` files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final

from condvest.domain.answers import SessionAnswer, SessionRefusal
from condvest.jobs.backfill import merge_landed
from condvest.jobs.fetch_steps import Fetch, accepted, is_landed, landing, next_in_time, note, refuse, reopen, row_of
from condvest.jobs.progress import Progress
from condvest.log import event
from condvest.storage.landing import read_index

#: Answers that a backfill gathers before it writes them at once: so many a kill may cost, at 5 requests a minute.
_LANDED_AT_A_TIME: Final = 8


def backfill(fetch: Fetch, sessions: Sequence[date], progress: Progress) -> None:
    """Land what is not there yet, then merge all that landed into `data.parquet`, then record it in one transaction.

    Waiting for the provider keeps nobody else from fetching: the lock is held to land a few answers, and to merge.
    """
    ask = [session for session in sessions if not is_landed(fetch, session)]
    fetch.report.asked, fetch.report.resumed = len(ask), len(sessions) - len(ask)
    event("fetch_planned", sessions=len(sessions), to_ask=len(ask), landed_already=fetch.report.resumed)
    if not _land(fetch, ask, progress) or fetch.stop():
        refused = {*fetch.report.pending, *fetch.report.not_entitled}
        fetch.report.remaining += [session for session in sessions if session not in refused]
        return
    with fetch.log.exclusive():
        fetch.index.take(read_index(fetch.store, sessions), sessions)
        _merge(fetch, sessions, progress)


def _merge(fetch: Fetch, sessions: Sequence[date], progress: Progress) -> None:
    merged = merge_landed(
        fetch.store, sessions, fetch.index, calendar=fetch.calendar, universe=fetch.universe, progress=progress
    )
    for session, why in merged.unread.items():
        refuse(fetch, SessionRefusal(session, "pending", why))
    fetch.report.unmerged += merged.unmerged
    fetch.report.rows += merged.rows
    if merged.unmerged:
        return
    # A session of which only some symbols' ranges landed is not done.
    whole = [(session, found) for session, found in merged.sessions.items() if fetch.index.last(session)]
    rows = [row_of(fetch, session, found.rows, found.restated) for session, found in whole]
    fetch.report.restated += sum(max(row.restated - fetch.before[row.session_date].restated, 0) for row in rows)
    fetch.log.record(rows, watermarks=merged.last_sessions, reason="backfill", now=fetch.now)
    for row in rows:
        note(fetch, row)


def _land(fetch: Fetch, sessions: Sequence[date], progress: Progress) -> bool:
    """Ask the provider for sessions, and land the answers a few at a time; say whether the time was enough for all."""
    waiting, outcomes = list[SessionAnswer](), iter(fetch.source.fetch_sessions(sessions))
    for done in range(1, len(sessions) + 1):
        outcome = next_in_time(outcomes)
        answer = accepted(fetch, outcome) if outcome is not None else None
        if answer is not None:
            waiting.append(answer)
        is_last = outcome is None or done == len(sessions) or fetch.stop()
        if waiting and (is_last or len(waiting) >= _LANDED_AT_A_TIME):
            with fetch.log.exclusive():
                _land_some(fetch, waiting)
            waiting = []
        progress("land sessions", done, len(sessions))
        if is_last:
            return outcome is not None and done == len(sessions)
    return True


def _land_some(fetch: Fetch, answers: Sequence[SessionAnswer]) -> None:
    """Land answers as what landed before them wants it: another fetch may have been there since the sessions were listed."""
    sessions = [answer.session for answer in answers]
    fetch.index.take(read_index(fetch.store, sessions), sessions)
    known = {row.session_date: row for row in fetch.log.sessions(min(sessions), max(sessions))}
    fetch.ledger.update((session, known[session]) for session in sessions if session in known)
    objects = [item for answer in answers for item in landing(fetch, answer)[1]]
    if objects:
        reopen(fetch, sessions)
    fetch.store.put_many(objects)

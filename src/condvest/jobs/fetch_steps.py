"""The steps of a fetch that daily and bulk have in common: is an answer taken, what lands, what the ledger is told."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Final

from condvest.domain.answers import SessionAnswer, SessionRefusal, SessionSource
from condvest.domain.calendar import Calendar
from condvest.domain.ledger import LedgerRow, UsualRows
from condvest.errors import TimeOver
from condvest.jobs.fetch_report import FetchReport
from condvest.jobs.session_log import SessionLog
from condvest.jobs.stopping import Stop
from condvest.jobs.write_bars import quarantine, wanted_rejects
from condvest.log import event, warn
from condvest.storage import layout
from condvest.storage.landing import LandingIndex, next_instant, pack, receipt
from condvest.storage.store import Store

#: An answer with fewer than half of the usual rows is short; markets of fewer rows are too small to tell.
_LEAST_USUAL: Final = 8
#: States of a session that is in the lake.
DONE: Final = ("provisional", "final")


@dataclass(frozen=True, slots=True)
class Fetch:
    """What every step of one fetch needs. `before` is the ledger as it was, `ledger` as it comes to be."""

    store: Store
    log: SessionLog
    source: SessionSource
    calendar: Calendar
    now: datetime
    universe: frozenset[str] | None
    accept_short: bool
    stop: Stop
    index: LandingIndex
    before: dict[date, LedgerRow]
    ledger: dict[date, LedgerRow]
    usual: UsualRows
    report: FetchReport


def is_landed(fetch: Fetch, session: date) -> bool:
    """Say whether the landed answer serves: it is not in the ledger yet, and asking again would not make it final.

    The ledger has the digest of the answer that bronze holds: that of a session which was opened again, for an answer that then
    did not land, is still that of the last one.
    """
    row, last, seen = fetch.ledger[session], fetch.index.last(session), fetch.index.seen_through(session)
    if last is None or seen is None or row.state in DONE or row.answer_digest == last.digest:
        return False
    due_at = fetch.calendar.final_due(session)
    return seen >= due_at or fetch.now < due_at


def next_in_time(outcomes: Iterator[SessionAnswer | SessionRefusal]) -> SessionAnswer | SessionRefusal | None:
    """Return the next outcome; None where the time for asking is over."""
    try:
        return next(outcomes)
    except TimeOver:
        return None


def accepted(fetch: Fetch, outcome: SessionAnswer | SessionRefusal) -> SessionAnswer | None:
    """Return the answer when it can be taken; else record why not."""
    if isinstance(outcome, SessionAnswer):
        short = _short(fetch, outcome)
        if short is None:
            return outcome
        outcome = SessionRefusal(outcome.session, "pending", short)
    refuse(fetch, outcome)
    return None


def _short(fetch: Fetch, answer: SessionAnswer) -> str | None:
    usual = fetch.usual.around(answer.session)
    if fetch.accept_short or usual is None or usual < _LEAST_USUAL or answer.parsed.total * 2 >= usual:
        return None
    return (
        f"short answer: {answer.parsed.total} rows, usual are {usual}; it is asked for again by the next fetch; if it is right,"
        f" take it with `condvest fetch bars --date {answer.session} --accept-short`"
    )


def refuse(fetch: Fetch, refusal: SessionRefusal) -> None:
    """Record why there is no answer for a session. One that is done stays as it is."""
    session = refusal.session
    warn("session_refused", session=session, state=refusal.state, reason=refusal.reason)
    if refusal.state == "not_entitled":
        fetch.report.not_entitled.append(session)
    else:
        fetch.report.pending[session] = refusal.reason
    if fetch.ledger[session].state not in DONE:
        fetch.ledger[session] = replace(fetch.ledger[session], state=refusal.state, reason=refusal.reason)
        fetch.log.record([fetch.ledger[session]], watermarks={}, reason="fetch", now=fetch.now)


def reopen(fetch: Fetch, sessions: Sequence[date]) -> None:
    """Record done sessions as pending while a later answer lands: who is killed before bronze leaves them to the next fetch."""
    done = [fetch.ledger[session] for session in sessions if fetch.ledger[session].state in DONE]
    rows = [replace(row, state="pending", reason="a later answer landed; the next fetch completes it") for row in done]
    if rows:
        fetch.log.record(rows, watermarks={}, reason="fetch", now=fetch.now)


def landing(fetch: Fetch, answer: SessionAnswer) -> tuple[datetime, list[tuple[str, bytes]]]:
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
    if rejects and (last is None or last.instant != at or fetch.ledger[session].state not in DONE):
        objects.append(quarantine(session, parsed, rejects, at))
    fetch.report.quarantined += len(rejects)
    fetch.ledger[session] = replace(
        fetch.ledger[session], answer_rows=parsed.total, quarantined=len(rejects), fetched_at=fetch.now
    )
    fetch.usual.note(session, parsed.total)
    return at, objects


def row_of(fetch: Fetch, session: date, rows: int, restated: int) -> LedgerRow:
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


def note(fetch: Fetch, row: LedgerRow) -> None:
    """Count a session that is done; one that only came again as it was is not new."""
    report, before = fetch.report, fetch.before[row.session_date]
    report.changed += (before.state, before.rows, before.restated) != (row.state, row.rows, row.restated)
    (report.final if row.state == "final" else report.provisional).append(row.session_date)

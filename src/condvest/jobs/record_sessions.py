"""Record: session ledger and watermarks follow from what landed and from what bronze holds, never from what a fetch says.

A fetch that can reach the state database records as it goes. One that cannot (on AWS it has the internet and no database)
leaves that to this job, which sees the lake and the database and no provider.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from condvest.domain.answers import SessionRefusal
from condvest.domain.calendar import Calendar
from condvest.domain.ledger import LedgerRow
from condvest.jobs.bronze import blocks
from condvest.jobs.held import not_held, not_held_of_session
from condvest.jobs.landed import INCOMPLETE, LandedRanges, is_not_whole, ledger_row, read_landed, read_ranges
from condvest.jobs.progress import Progress, silent
from condvest.jobs.stopping import Stop, never
from condvest.jobs.transpose import Transposition
from condvest.log import event, warn
from condvest.storage.landing import LandingIndex, read_index
from condvest.storage.store import Store

if TYPE_CHECKING:
    from condvest.state import State

#: Up to so many sessions are held against their `date=` files, more against each symbol's `data.parquet`.
_BULK_SESSIONS: Final = 20
#: Sessions recorded in one transaction: so many a kill may cost.
_BLOCK_SESSIONS: Final = 250
_DONE: Final = ("provisional", "final")
_CLAIMED: Final = (
    "done by the ledger, but not all of its bars are in bronze; run `condvest consolidate --force-full`, which merges all"
    " that landed"
)


@dataclass(slots=True)
class RecordReport:
    """What was recorded. Sessions by what they became; `left` names those that landed and are not whole in bronze.

    `changed`: rows of the ledger that are new or other than before; `changed_sessions`: those of them that landed. `restated`
    and `quarantined`: of the sessions that are.
    `symbols_moved`: whose watermark moved by ranges. `symbols_changed`: of whom the recorded listings say something new.
    `incomplete_others`: ranges and listings that are left. What begins with `remaining` it did not look at, as it was asked
    to stop.
    """

    changed: int = 0
    changed_sessions: list[date] = field(default_factory=list)
    rows: int = 0
    restated: int = 0
    quarantined: int = 0
    provisional: list[date] = field(default_factory=list)
    final: list[date] = field(default_factory=list)
    incomplete: dict[date, str] = field(default_factory=dict)
    refused: int = 0
    symbols_moved: list[str] = field(default_factory=list)
    symbols_changed: int = 0
    listings_recorded: int = 0
    incomplete_others: list[str] = field(default_factory=list)
    remaining: list[date] = field(default_factory=list)
    remaining_symbols: list[str] = field(default_factory=list)
    remaining_listings: list[str] = field(default_factory=list)

    @property
    def left(self) -> list[str]:
        """What the next fetch has to complete."""
        return [f"{session}: {reason}" for session, reason in sorted(self.incomplete.items())] + self.incomplete_others

    @property
    def nothing_new(self) -> bool:
        """Whether the ledger was right already."""
        return not (self.changed or self.symbols_moved or self.symbols_changed)


@dataclass(frozen=True, slots=True)
class _Record:
    """What every step of one recording needs. `ranges`: all that landed, read once for all blocks; None: a few sessions' do."""

    store: Store
    state: State
    calendar: Calendar
    now: datetime
    universe: Collection[str] | None
    index: LandingIndex
    ranges: LandedRanges | None
    known: Mapping[date, LedgerRow]
    report: RecordReport
    is_named: bool
    reason: str


def record_sessions(
    store: Store,
    state: State,
    index: LandingIndex,
    *,
    calendar: Calendar,
    now: datetime,
    refused: Sequence[SessionRefusal] = (),
    universe: Collection[str] | None = None,
    sessions: Sequence[date] | None = None,
    reason: str = "fetch",
    stop: Stop = never,
    progress: Progress = silent,
) -> RecordReport:
    """Bring the ledger up to what landed: every session whose landed answers (`index`) it does not know yet. Idempotent.

    Such a session is provisional or final once bronze holds all its bars, by content, and pending else, even where the ledger
    had it as done: the next fetch completes it; such sessions are looked at last. Where an answer cannot be read, a row that
    is done stays, and the session is named. What the ledger knows already costs nothing
    more than the listing. `refused` are sessions of which a fetch got no answer; they count where nothing landed. The lake is
    only read. The caller holds `state.exclusive()` since before it listed the index.

    With `sessions` just those of them that landed are looked at, whatever the ledger knows, and held against bronze. One that
    is done and of which bronze lacks bars stays as it is, and is named: what the ledger acknowledged tells what was lost.
    `reason` is recorded with the watermarks.
    """
    known, is_named = {row.session_date: row for row in state.sessions()}, sessions is not None
    job = _Record(store, state, calendar, now, universe, index, None, known, RecordReport(), is_named, reason)
    landed = [session for session in index.answers if calendar.is_session(session)]
    news = [session for session in landed if session in (sessions or ()) or (not is_named and _is_news(job, session))]
    todo = sorted(news, key=lambda session: (_is_open(job, session), session))
    event("record_planned", sessions=len(todo), refused=len(refused) or None)
    if len(todo) > _BULK_SESSIONS:
        job = replace(job, ranges=read_ranges(store, index, universe))
    _refuse(job, refused)
    for done, block in enumerate(blocks(todo, _BLOCK_SESSIONS)):
        if stop():
            job.report.remaining = todo[done * _BLOCK_SESSIONS :]
            break
        _record(job, sorted(block))
        progress("record sessions", done * _BLOCK_SESSIONS + len(block), len(todo))
    return job.report


def _is_news(job: _Record, session: date) -> bool:
    """Say whether something landed that the ledger's row does not tell of."""
    row, last, seen = job.known.get(session), job.index.last(session), job.index.seen_through(session)
    if row is None or last is None or seen is None or row.state not in _DONE:
        return last is not None
    is_final = seen >= job.calendar.final_due(session)
    return row.answer_digest != last.digest or (row.state == "provisional" and is_final)


def _is_open(job: _Record, session: date) -> bool:
    """Say whether the last recording found the session not whole: what it finds again must not keep others waiting."""
    row = job.known.get(session)
    return row is not None and row.state == "pending"


def _is_confirmed(job: _Record, row: LedgerRow) -> bool:
    """Say whether the row stands as it was, and has only become final: its bars are known to be in bronze."""
    before = job.known.get(row.session_date)
    return (
        not job.is_named and before is not None and before.state in _DONE and before.answer_digest == row.answer_digest
    )


def _record(job: _Record, sessions: Sequence[date]) -> None:
    """Record some sessions in one transaction."""
    rows: list[LedgerRow] = []
    watermarks: dict[str, date] = {}
    with Transposition() as histories:
        for row, bars in _landed(job, sessions):
            if row.state == "pending" or _is_confirmed(job, row):
                rows.append(row)
            elif len(sessions) > _BULK_SESSIONS:
                rows.append(row)
                histories.add(bars)
            else:
                lacking = not_held_of_session(job.store, bars)
                rows.append(_pending(row) if lacking.num_rows else row)
                if not lacking.num_rows:
                    watermarks.update(dict.fromkeys(bars["symbol"].to_pylist(), row.session_date))
        open_days = {
            day for _, rows_ in not_held(job.store, histories.histories()) for day in rows_["date"].to_pylist()
        }
        rows = [_pending(row) if row.session_date in open_days else row for row in rows]
        watermarks.update(_last_sessions(histories.histories(), open_days))
    rows = [row for row in rows if not _stands(job, row)]
    told = [row for row in rows if not _is_kept(job, row)]
    job.state.record(told, watermarks=watermarks, reason=job.reason, now=job.now)
    for row in rows:
        _note(job, row)


def _stands(job: _Record, row: LedgerRow) -> bool:
    """Say whether the ledger has a named session as it is: how often it was confirmed or restated may be told otherwise."""
    before = job.known.get(row.session_date)
    told = (row.state, row.answer_digest, row.rows)
    return job.is_named and before is not None and told == (before.state, before.answer_digest, before.rows)


def _is_kept(job: _Record, row: LedgerRow) -> bool:
    """Say whether the ledger keeps its row of a session that is not found whole.

    It does where an answer cannot be read, which tells nothing of the session: what is done stays done, and what waits to be
    looked at again waits on. And it does where a named session is done, and bronze does not bear it out.
    """
    before = job.known.get(row.session_date)
    if row.state != "pending" or before is None:
        return False
    if row.reason == INCOMPLETE:
        return job.is_named and before.state in _DONE
    return before.state in _DONE or is_not_whole(before)


def _landed(job: _Record, sessions: Sequence[date]) -> Iterator[tuple[LedgerRow, pa.Table]]:
    """Yield what the landed answers of each session justify, with its bars."""
    index, ranges = job.index, job.ranges
    if ranges is None:
        index = read_index(job.store, sessions)
        ranges = read_ranges(job.store, index, job.universe)
    for found in read_landed(job.store, sessions, index, ranges, job.universe):
        yield ledger_row(found, index, job.calendar), found.bars


def _pending(row: LedgerRow) -> LedgerRow:
    return replace(row, state="pending", answer_digest=None, reason=INCOMPLETE)


def _last_sessions(
    histories: Iterator[tuple[str, pa.Table]], open_days: Collection[date]
) -> Iterator[tuple[str, date]]:
    """Yield each symbol and its last session that is not open."""
    for symbol, bars in histories:
        days = bars["date"].to_pylist() if open_days else [bars["date"][-1].as_py()]
        done = [day for day in days if day not in open_days]
        if done:
            yield symbol, done[-1]


def _refuse(job: _Record, refused: Sequence[SessionRefusal]) -> None:
    """Record why there is no answer for a session; one of which anything landed, or that is done, tells for itself."""
    rows = []
    for refusal in refused:
        row = job.known.get(refusal.session, LedgerRow(session_date=refusal.session, state="missing"))
        if row.state not in _DONE and job.index.last(refusal.session) is None:
            rows.append(replace(row, state=refusal.state, reason=refusal.reason))
    job.state.record(rows, watermarks={}, reason="fetch", now=job.now)
    job.report.refused = len(rows)
    job.report.changed += sum(job.known.get(row.session_date) != row for row in rows)


def _note(job: _Record, row: LedgerRow) -> None:
    report, before, is_kept = job.report, job.known.get(row.session_date), _is_kept(job, row)
    is_other = before is None or (
        (before.state, before.reason, before.answer_digest) != (row.state, row.reason, row.answer_digest)
        or (job.is_named and before.rows != row.rows)
    )
    if is_other and not is_kept:
        report.changed += 1
        report.changed_sessions.append(row.session_date)
    if row.state == "pending":
        reason = _CLAIMED if row.reason == INCOMPLETE and is_kept else row.reason or INCOMPLETE
        warn("session_incomplete", session=row.session_date, reason=reason)
        report.incomplete[row.session_date] = reason
        return
    report.rows += row.rows
    report.quarantined += row.quarantined
    report.restated += max(row.restated - (before.restated if before is not None else 0), 0)
    (report.final if row.state == "final" else report.provisional).append(row.session_date)
    event("session_recorded", session=row.session_date, state=row.state, rows=row.rows)

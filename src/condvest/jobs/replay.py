"""Replay: bronze of some sessions from landing alone, without the provider."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Final

from condvest.domain.calendar import Calendar
from condvest.jobs.backfill import LandedMerge, take_landed
from condvest.jobs.findings import shown
from condvest.jobs.progress import Progress, silent
from condvest.jobs.record_ranges import record_between
from condvest.jobs.record_sessions import record_sessions
from condvest.jobs.replay_bronze import Restore
from condvest.jobs.transpose import Transposition
from condvest.log import event
from condvest.storage.landing import LandingIndex, read_index
from condvest.storage.store import Store

if TYPE_CHECKING:
    from condvest.state import State

_REASON: Final = "replay"


@dataclass(slots=True)
class ReplayReport:
    """What a replay restored. Sessions that the ledger has otherwise now stand in `provisional` and `final`.

    `rows`: bars that bronze did not hold as landing has them. `left` names what could not be restored, with the remedy.
    """

    sessions: int = 0
    rows: int = 0
    changed: int = 0
    provisional: list[date] = field(default_factory=list)
    final: list[date] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    @property
    def nothing_new(self) -> bool:
        """Whether the lake is as it was."""
        return not (self.rows or self.changed)


@dataclass(frozen=True, slots=True)
class _Replay:
    """What every step of one replay needs."""

    store: Store
    state: State
    calendar: Calendar
    now: datetime
    sessions: Sequence[date]
    symbols: Collection[str] | None
    universe: Collection[str] | None
    index: LandingIndex
    report: ReplayReport


def replay(
    store: Store,
    state: State,
    *,
    calendar: Calendar,
    now: datetime,
    sessions: Sequence[date],
    symbols: Collection[str] | None = None,
    universe: Collection[str] | None = None,
    progress: Progress = silent,
) -> ReplayReport:
    """Bring the bars of some sessions (ascending) back to bronze as landing has them; then ledger and watermarks. Idempotent.

    Written is what bronze lacks or holds in an earlier value, and `date=` files that cannot be read; no bar is ever removed.
    Up to 20 sessions come as `date=` files, those of more than 5 days ago into `data.parquet` as well; more go into
    `data.parquet` alone. A `data.parquet` that is gone or cannot be read is never begun from these sessions: where its symbol
    needs one it stands in `left`. So does a session of which nothing landed, one with an answer that cannot be read, and a
    bar that bronze holds otherwise than landing has it and not earlier.

    With `symbols` just these (`universe` otherwise limits them; None: all), and the session ledger stays as it is. May be
    killed anywhere: bronze is written before the ledger, and the next replay finds what is still lacking.
    """
    report = ReplayReport(sessions=len(sessions))
    with state.exclusive():  # no answer lands while bronze is made to follow
        index = read_index(store, sessions)
        job = _Replay(store, state, calendar, now, sessions, symbols, universe, index, report)
        report.left += _not_landed(job)
        unread = _restore(job, progress)
        _acknowledge(job, [session for session in sessions if session not in unread], progress)
    report.left = list(dict.fromkeys(report.left))
    event("replayed", sessions=len(sessions), rows=report.rows, left=len(report.left) or None)
    return report


def _restore(job: _Replay, progress: Progress) -> Collection[date]:
    """Write to bronze what it lacks of the landed bars; return the sessions with an answer that cannot be read."""
    wanted = job.universe if job.symbols is None else job.symbols
    found = LandedMerge()
    with Transposition() as landed:
        take_landed(
            job.store,
            job.sessions,
            job.index,
            landed,
            found,
            universe=wanted,
            calendar=job.calendar,
            progress=progress,
        )
        job.report.left += [f"{session}: {why}" for session, why in found.unread.items()]
        restore = Restore(job.store, job.sessions, job.now)
        job.report.rows = restore.run(landed, progress)
        job.report.left += restore.left
    return found.unread


def _not_landed(job: _Replay) -> Iterator[str]:
    """Yield each session of which nothing, or not the whole market, landed."""
    for session in job.sessions:
        if job.index.last(session) is not None:
            continue
        again = f"restore bronze/landing/ from a copy, or run `condvest fetch bars --date {session}"
        ranged = {
            key.symbol for _, key in job.index.ranges if key.first and key.last and key.first <= session <= key.last
        }
        if job.symbols is not None:
            lacking = sorted(set(job.symbols) - ranged)
            if lacking:
                yield f"{session}: nothing of {shown(lacking)} landed; {again} --symbols {','.join(lacking)}`"
        else:
            told = (
                f"no answer with the whole market landed, only {len(ranged):,} symbols" if ranged else "nothing landed"
            )
            yield f"{session}: {told}; {again}`"


def _acknowledge(job: _Replay, sessions: Sequence[date], progress: Progress) -> None:
    """Make ledger and watermarks follow from what bronze holds now."""
    report = job.report
    if job.symbols is not None:
        before = job.state.symbol_watermarks()
        report.left += record_between(
            job.store,
            job.state,
            job.index,
            calendar=job.calendar,
            now=job.now,
            symbols=job.symbols,
            first=job.sessions[0],
            last=job.sessions[-1],
            reason=_REASON,
        )
        after = job.state.symbol_watermarks()
        report.changed = sum(before.get(symbol) != session for symbol, session in after.items())
        return
    done = record_sessions(
        job.store,
        job.state,
        job.index,
        calendar=job.calendar,
        now=job.now,
        universe=job.universe,
        sessions=sessions,
        reason=_REASON,
        progress=progress,
    )
    report.changed, report.provisional, report.final = done.changed, done.provisional, done.final
    report.left += done.left

"""Checks of rule 4: the session ledger says what landing justifies, and each symbol has the one watermark that bronze gives."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Final

from condvest.domain.calendar import Calendar
from condvest.domain.ledger import LedgerRow, due, watermark
from condvest.jobs.checks_rows import LandedCount, is_done
from condvest.jobs.findings import Findings, shown
from condvest.jobs.landed import is_not_whole
from condvest.storage.landing import LandingIndex

if TYPE_CHECKING:
    from condvest.state import State

_REPAIR: Final = "run `condvest verify --repair`: the ledger follows from landing and bronze"
_WATERMARK: Final = (
    "run `condvest verify --repair`: it follows from bronze; where bronze lost bars, first"
    " `condvest consolidate --force-full`, which merges all that landed"
)


@dataclass(frozen=True, slots=True)
class LedgerCheck:
    """Holds the ledger's rows (ascending) against what landed; `counts` has the bars of each readable landed session."""

    findings: Findings
    rows: Sequence[LedgerRow]
    index: LandingIndex
    counts: Mapping[date, LandedCount]
    calendar: Calendar
    universe: Collection[str] | None

    def run(self, now: datetime) -> None:
        """Check every row, and every session that landed without one."""
        self.findings.counts["ledger_rows"] += len(self.rows)
        for row in self.rows:
            if not self._is_scheduled(row.session_date):
                self.findings.wrong.sessions.add(row.session_date)
                # A weekday that turned out to be a closure while it was waited for is no damage.
                is_damage = is_done(row) or row.session_date.weekday() > 4
                tell = self.findings.broken if is_damage else self.findings.notice
                tell("ledger_session", f"{row.session_date}: in the ledger, and no session", _REPAIR)
            elif is_done(row):
                self._check_done(row)
        self._check_in_work()
        self._check_due(now)

    def _check_done(self, row: LedgerRow) -> None:
        session, last = row.session_date, self.index.last(row.session_date)
        seen = self.index.seen_through(session)
        again = f"`condvest fetch bars --date {session}`"
        if last is None or seen is None:
            self.findings.wrong.sessions.add(session)
            self.findings.broken(
                "ledger_landing",
                f"{session}: {row.state} by the ledger, and no answer of it landed",
                f"restore bronze/landing/ from a copy, or run {again}",
            )
            return
        due = self.calendar.final_due(session)
        if row.state == "final" and seen < due:
            self.findings.wrong.sessions.add(session)
            self.findings.broken(
                "ledger_state",
                f"{session}: final by the ledger, but last seen {seen:%Y-%m-%d %H:%M}Z, before it is due {due:%Y-%m-%d %H:%M}Z",
                f"run {again}",
            )
        if row.state == "provisional" and seen >= due:
            what = f"{session}: provisional by the ledger, and its final answer landed"
            self.findings.notice("in_work", what, "the next `condvest fetch bars` completes it")
        if row.answer_digest != last.digest:
            what = f"{session}: landed with digest {last.digest}, the ledger knows {row.answer_digest}"
            self.findings.notice("in_work", what, f"run {again}")
        else:
            self._check_rows(row)

    def _check_rows(self, row: LedgerRow) -> None:
        found = self.counts.get(row.session_date)
        if found is None or found.whole <= row.rows <= found.rows:
            return
        what = f"{row.session_date}: {row.rows:,} rows by the ledger, {found.rows:,} landed"
        if self.universe is None:
            self.findings.wrong.sessions.add(row.session_date)
            self.findings.broken("ledger_rows", what, _REPAIR)
        else:
            self.findings.notice("ledger_rows", what, "none if CONDVEST_UNIVERSE changed since")

    def _check_in_work(self) -> None:
        """A session that landed and is not done comes next, unless the ledger does not reach it at all."""
        known = {row.session_date: row for row in self.rows}
        low, high = min(known, default=date.max), max(known, default=date.min)
        landed = [day for day in sorted(self.index.answers) if self._is_scheduled(day)]
        lost = [day for day in landed if not low <= day <= high]
        if lost:
            self.findings.wrong.sessions.update(lost)
            what = f"{len(lost):,} landed sessions are beyond the ledger: {shown(lost)}"
            self.findings.broken("ledger_lost", what, _REPAIR)
        waiting = [day for day in landed if low <= day <= high and (day not in known or not is_done(known[day]))]
        if waiting:
            what = f"{len(waiting):,} sessions landed and are not done: {shown(waiting)}"
            self.findings.notice("in_work", what, "the next `condvest fetch bars` completes them")
        # A recording found bars missing, or a file or an answer that it could not read then: all may be whole by now.
        self.findings.wrong.sessions.update(day for day in waiting if day in known and is_not_whole(known[day]))

    def _check_due(self, now: datetime) -> None:
        rows = [row for row in self.rows if self._is_scheduled(row.session_date)]
        waiting = due(rows, self.calendar, now)
        if waiting:
            what = f"{len(waiting):,} sessions are due: {shown(waiting)}; the watermark is {watermark(rows, self.calendar)}"
            self.findings.notice("due", what, "run `condvest fetch bars`")

    def _is_scheduled(self, day: date) -> bool:
        return self.calendar.first <= day <= self.calendar.last and self.calendar.is_session(day)


def check_watermarks(
    findings: Findings,
    state: State,
    *,
    last: Mapping[str, date],
    last_done: Mapping[str, date],
    unreadable: Collection[str],
) -> None:
    """Check that each symbol has exactly one current watermark row, and that it stands at its last acknowledged bar.

    `last` has each symbol's last bar in bronze, `last_done` the last one in a session that is done. The database itself
    refuses a second current row.
    """
    current = state.symbol_watermarks()
    findings.counts["watermarks"] += len(current)
    for symbol in sorted((current.keys() | last.keys()) - set(unreadable)):
        at, bar, acknowledged = current.get(symbol), last.get(symbol), last_done.get(symbol)
        what = None
        if at is None:
            # Whoever was killed before the ledger left bars that nothing acknowledges yet.
            rows = [row for row in state.watermark_history(symbol) if row.is_current]
            if len(rows) != 1 and (rows or acknowledged is not None):
                what = f"{len(rows)} current watermark rows, must be one"
            elif acknowledged is not None:
                what = f"no watermark, its last bar is {acknowledged}"
        elif bar is None or at > bar or (acknowledged is not None and at < acknowledged):
            ahead = bar is None or at > bar
            what = f"watermark {at}, its last bar is {(bar or 'nowhere') if ahead else acknowledged}"
        if what is not None:
            findings.wrong.watermarks.add(symbol)
            findings.broken("watermark", f"{symbol}: {what}", _WATERMARK)

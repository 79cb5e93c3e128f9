"""Where a fetch looks up what is known of its sessions, and tells what became of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import date, datetime
from typing import Protocol

from condvest.domain.ledger import LedgerRow


class SessionLog(Protocol):
    """What a fetch needs of the session ledger. The state database is one, `DetachedLog` another."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Hold the right to land answers and to record them; another fetch waits for it."""
        ...

    def sessions(self, first: date | None = None, last: date | None = None) -> list[LedgerRow]:
        """Return the rows that are known from `first` to `last` (inclusive; None: no bound), ascending."""
        ...

    def expect(self, sessions: Sequence[date], *, now: datetime) -> None:
        """Take as `missing` those of `sessions` that are not known."""
        ...

    def record(self, rows: Sequence[LedgerRow], *, watermarks: Mapping[str, date], reason: str, now: datetime) -> None:
        """Replace rows, and move watermarks forward."""
        ...


class DetachedLog:
    """A log of a fetch that cannot reach the state database: it begins with planned rows and ends with the process.

    It acknowledges nothing. `record_sessions` makes ledger and watermarks follow from what landed. It keeps nobody out: who
    starts such a fetch sees to it that there is one at a time.
    """

    def __init__(self, rows: Iterable[LedgerRow]) -> None:
        """Begin with the rows of a plan."""
        self._rows = {row.session_date: row for row in rows}

    def exclusive(self) -> AbstractContextManager[None]:
        """Hold nothing."""
        return nullcontext()

    def sessions(self, first: date | None = None, last: date | None = None) -> list[LedgerRow]:
        """Return the rows from `first` to `last`, ascending."""
        known = sorted(self._rows)
        return [self._rows[day] for day in known if (first is None or first <= day) and (last is None or day <= last)]

    def expect(self, sessions: Sequence[date], *, now: datetime) -> None:  # noqa: ARG002 - nothing is dated here
        """Take as `missing` those of `sessions` that no row tells of."""
        for session in sessions:
            self._rows.setdefault(session, LedgerRow(session_date=session, state="missing"))

    def record(self, rows: Sequence[LedgerRow], *, watermarks: Mapping[str, date], reason: str, now: datetime) -> None:  # noqa: ARG002
        """Replace rows for the rest of this fetch; watermarks follow from bronze, elsewhere."""
        self._rows.update((row.session_date, row) for row in rows)

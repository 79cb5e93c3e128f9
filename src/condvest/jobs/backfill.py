"""Backfill: merge what landed, many sessions at once, straight into each symbol's `data.parquet`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date

import pyarrow as pa

from condvest.domain.calendar import Calendar
from condvest.jobs.progress import Progress, silent
from condvest.jobs.stopping import Stop, never, until
from condvest.jobs.transpose import Transposition
from condvest.jobs.write_bars import merge_parts
from condvest.storage.landing import LandingIndex, fold
from condvest.storage.store import Store


@dataclass(frozen=True, slots=True)
class SessionCount:
    """How many bars one session has, and how many of them a later answer changed."""

    rows: int
    restated: int


@dataclass(slots=True)
class LandedMerge:
    """What came of a merge from landing.

    `sessions`: those that were read. `unread`: sessions that were passed over, since an answer
    could not be read, and why. `unmerged`: which
    `data.parquet` could not be written, and why; empty when every row that was read is in a committed one. `rows`:
    bars that are new or changed.
    """

    sessions: dict[date, SessionCount] = field(default_factory=dict)
    last_sessions: dict[str, date] = field(default_factory=dict)
    unread: dict[date, str] = field(default_factory=dict)
    unmerged: list[str] = field(default_factory=list)
    rows: int = 0


def merge_landed(
    store: Store,
    sessions: Sequence[date],
    index: LandingIndex,
    *,
    calendar: Calendar,
    universe: Collection[str] | None = None,
    progress: Progress = silent,
) -> LandedMerge:
    """Merge the landed answers of some sessions (ascending) into each symbol's `data.parquet`; no `date=` files. Idempotent.

    Each `data.parquet` is written once at the most, and not where it holds the rows already: a run after a kill goes on where
    the last one ended. Memory is bounded by `Transposition`.
    """
    result = LandedMerge()
    with Transposition() as transposition:
        take_landed(
            store, sessions, index, transposition, result, universe=universe, calendar=calendar, progress=progress
        )
        symbols = transposition.symbols
        parts = _noting_last(transposition.histories(), result, len(symbols), progress)
        result.unmerged, result.rows = merge_parts(store, parts, symbols)
    return result


def take_landed(
    store: Store,
    sessions: Sequence[date] | None,
    index: LandingIndex,
    transposition: Transposition,
    result: LandedMerge,
    *,
    universe: Collection[str] | None,
    calendar: Calendar,
    progress: Progress,
    stop: Stop = never,
) -> None:
    """Read the landed answers of some sessions (ascending; None: of all) into a transposition, or as far as `stop` lets it."""
    total = len(index.answers if sessions is None else sessions)
    for done, folded in enumerate(until(stop, fold(store, sessions, index, universe)), 1):
        if folded.problems:
            result.unread[folded.session] = "; ".join(folded.problems)
        if calendar.is_session(folded.session) and not folded.problems:
            result.sessions[folded.session] = SessionCount(folded.bars.num_rows, folded.restated)
            if folded.bars.num_rows:
                transposition.add(folded.bars)
        progress("read landed sessions", done, max(done, total))


def _noting_last(
    histories: Iterable[tuple[str, pa.Table]], result: LandedMerge, total: int, progress: Progress
) -> Iterator[tuple[str, pa.Table]]:
    for done, (symbol, bars) in enumerate(histories, 1):
        result.last_sessions[symbol] = bars["date"][-1].as_py()
        progress("merge symbols", done, total)
        yield symbol, bars

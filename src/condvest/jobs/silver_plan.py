"""What a resample has to build: everything, or the groups that hold a changed session and only those."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from condvest.domain.actions import Split
from condvest.domain.calendar import Calendar
from condvest.storage.checkpoint import Checkpoint
from condvest.storage.manifest import Entry, short_mark


@dataclass(frozen=True, slots=True)
class Source:
    """One symbol's consolidated bars: the ETag of its `data.parquet` and its manifest entry, None where that is of another."""

    symbol: str
    etag: str
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class IntervalPlan:
    """What to build of one interval.

    `rebuild`: everything; else `dirty` has, by symbol, the first session from which its groups are built again (None: all of
    them), and `months` those whose files hold a group that became complete since. `sources` are the marks to record.
    """

    interval_sessions: int
    rebuild: bool
    reason: str
    dirty: dict[str, date | None]
    months: frozenset[str]
    sources: dict[str, str]

    @property
    def nothing_to_do(self) -> bool:
        """Whether silver of this interval is as it should be."""
        return not (self.rebuild or self.dirty or self.months)


def splits_by_symbol(splits: Iterable[Split]) -> dict[str, list[Split]]:
    """Return the splits that the provider still gives, by symbol."""
    of_symbol: dict[str, list[Split]] = defaultdict(list)
    for split in splits:
        if split.withdrawn_at is None:
            of_symbol[split.symbol].append(split)
    return dict(of_symbol)


def source_mark(source: Source, splits: Iterable[Split], reach: date) -> str:
    """Return what a symbol's period bars depend on: its `data.parquet`, and its splits up to the lake's last session."""
    done = sorted(
        f"{split.execution_date}|{split.split_from}|{split.split_to}"
        for split in splits
        if split.execution_date <= reach
    )
    by_splits = hashlib.blake2b("\n".join(done).encode(), digest_size=4).hexdigest() if done else ""
    return f"{short_mark(source.etag)}/{by_splits}"


def plan_interval(
    sessions: int,
    checkpoint: Checkpoint | None,
    listed_months: Mapping[str, str],
    sources: Collection[Source],
    marks: dict[str, str],
    *,
    reach: date,
    calendar: Calendar,
    builder: str,
    force_full: bool,
) -> IntervalPlan:
    """Decide what to build of one interval; `listed_months` has the ETags of the month files that lie there."""
    reason = _why_rebuild(checkpoint, listed_months, marks, reach, calendar, builder, force_full)
    if reason or checkpoint is None:
        return IntervalPlan(sessions, True, reason, {}, frozenset(), marks)
    dirty: dict[str, date | None] = {}
    for source in sources:
        before, after = checkpoint.sources.get(source.symbol), marks[source.symbol]
        if before != after:
            dirty[source.symbol] = _dirty_from(source, before, after)
    months = completed_months(sessions, checkpoint.reach, reach, calendar)
    return IntervalPlan(sessions, False, "", dirty, frozenset(months & listed_months.keys()), marks)


def _why_rebuild(
    checkpoint: Checkpoint | None,
    listed_months: Mapping[str, str],
    marks: Mapping[str, str],
    reach: date,
    calendar: Calendar,
    builder: str,
    force_full: bool,
) -> str:
    if force_full:
        return "asked for"
    if checkpoint is None:
        return "no checkpoint"
    if checkpoint.calendar_version != calendar.version:
        return "the calendar changed"
    if checkpoint.builder != builder:
        return "the kernel or the writer changed"
    if dict(listed_months) != checkpoint.months:
        return "month files are not as they were left"
    if not checkpoint.sources.keys() <= marks.keys():
        return "a symbol is gone"
    if reach < checkpoint.reach:
        return "the lake ends earlier than it did"
    return ""


def _dirty_from(source: Source, before: str | None, after: str) -> date | None:
    if before is None or source.entry is None:
        return None
    if before.partition("/")[2] != after.partition("/")[2]:
        return None
    known, first = source.entry.changed_since(before.partition("/")[0])
    return first if known else None


def completed_months(sessions: int, before: date, reach: date, calendar: Calendar) -> set[str]:
    """Return the months (`YYYY-MM`) of the groups whose last session lies after `before` and up to `reach`."""
    months = set()
    low, high = calendar.ordinal(before), calendar.ordinal(reach)
    for group in range((low + 1) // sessions, high // sessions + 1):
        if low < group * sessions + sessions - 1 <= high:
            months.add(calendar.group_bounds(group, sessions)[0].strftime("%Y-%m"))
    return months

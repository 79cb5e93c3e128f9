"""What a resample has to build: everything, or the groups that hold a changed session and only those."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from condvest.domain.actions import Split
from condvest.domain.calendar import Calendar
from condvest.storage.checkpoint import Checkpoint
from condvest.storage.manifest import Entry, short_mark


@dataclass(frozen=True, slots=True)
class Source:
    """What one symbol's period bars follow from.

    The ETag of its `data.parquet`, its manifest entry (None where that is of another version), and its splits.
    """

    symbol: str
    etag: str
    entry: Entry | None
    splits: Sequence[Split] = ()


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


def source_mark(source: Source, reach: date) -> str:
    """Return what a symbol's period bars depend on: its `data.parquet`, and its splits up to the lake's last session."""
    return f"{short_mark(source.etag)}/{_splits_mark(source, reach)}"


def _splits_mark(source: Source, reach: date) -> str:
    done = sorted(
        f"{split.execution_date}|{split.split_from}|{split.split_to}"
        for split in source.splits
        if split.execution_date <= reach
    )
    return hashlib.blake2b("\n".join(done).encode(), digest_size=4).hexdigest() if done else ""


@dataclass(frozen=True, slots=True)
class Since:
    """What changed since a checkpoint.

    `dirty`: the first session that changed, by symbol (None: all of it); symbols without a change are left out. `unlike`: a
    symbol of which it is not known that its bars are those of the checkpoint and later ones; bars may be gone.
    """

    dirty: dict[str, date | None]
    unlike: str | None


class Changes:
    """The symbols as they are, and what changed in them since a checkpoint.

    `marks`: what each symbol's period bars depend on. `reach`: the last session of the consolidated lake.
    """

    def __init__(self, sources: Collection[Source], reach: date) -> None:
        """Take the symbols."""
        self.reach = reach
        self.marks = {source.symbol: source_mark(source, reach) for source in sources}
        self._sources = sources
        self._known: list[tuple[Checkpoint, Since]] = []

    def since(self, checkpoint: Checkpoint) -> Since:
        """Return what changed since a checkpoint."""
        for known, found in self._known:  # the intervals are mostly built together
            if (known.reach, known.sources) == (checkpoint.reach, checkpoint.sources):
                return found
        dirty: dict[str, date | None] = {}
        unlike = None
        for source in self._sources:
            before = checkpoint.sources.get(source.symbol)
            if before == self.marks[source.symbol]:
                continue
            dirty[source.symbol] = _dirty_from(source, before, checkpoint.reach, self.reach)
            if before is not None and not _has_grown(source, before):
                unlike = source.symbol
        self._known.append((checkpoint, Since(dirty, unlike)))
        return self._known[-1][1]


def plan_interval(
    sessions: int,
    checkpoint: Checkpoint | None,
    listed_months: Mapping[str, str],
    changes: Changes,
    *,
    calendar: Calendar,
    builder: str,
    force_full: bool,
) -> IntervalPlan:
    """Decide what to build of one interval; `listed_months` has the ETags of the month files that lie there."""
    reach, marks = changes.reach, changes.marks
    reason = _why_rebuild(checkpoint, listed_months, marks, reach, calendar, builder, force_full)
    if reason or checkpoint is None:
        return IntervalPlan(sessions, True, reason, {}, frozenset(), marks)
    since = changes.since(checkpoint)
    if since.unlike is not None:  # months in which it has no bar any more are not known
        return IntervalPlan(sessions, True, f"{since.unlike} is not known to have only grown", {}, frozenset(), marks)
    months = completed_months(sessions, checkpoint.reach, reach, calendar)
    return IntervalPlan(sessions, False, "", since.dirty, frozenset(months & listed_months.keys()), marks)


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


def _dirty_from(source: Source, before: str | None, reach_before: date, reach: date) -> date | None:
    """Return the first session whose group has to be built again; None: all have to.

    A split that came into effect since concerns the group that it lies in, and no earlier one.
    """
    if before is None or source.entry is None:
        return None
    etag_mark, _, splits_mark = before.partition("/")
    known, first = source.entry.changed_since(etag_mark)
    if not known or splits_mark != _splits_mark(source, reach_before):
        return None
    days = [split.execution_date for split in source.splits if reach_before < split.execution_date <= reach]
    return min([*days, *([first] if first is not None else [])], default=None)


def _has_grown(source: Source, before: str) -> bool:
    return source.entry is not None and source.entry.changed_since(before.partition("/")[0])[0]


def completed_months(sessions: int, before: date, reach: date, calendar: Calendar) -> set[str]:
    """Return the months (`YYYY-MM`) of the groups whose last session lies after `before` and up to `reach`."""
    months = set()
    low, high = calendar.ordinal(before), calendar.ordinal(reach)
    for group in range((low + 1) // sessions, high // sessions + 1):
        if low < group * sessions + sessions - 1 <= high:
            months.add(calendar.group_bounds(group, sessions)[0].strftime("%Y-%m"))
    return months

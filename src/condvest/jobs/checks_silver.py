"""Check of rule 1 for silver: every month file holds, byte for byte, what a full rebuild from bronze gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from condvest.domain.calendar import INTERVALS, Calendar
from condvest.domain.resample import PERIOD_SCHEMA
from condvest.errors import CondvestError, DataError, ObjectNotFound
from condvest.jobs.bronze import blocks
from condvest.jobs.findings import Findings, shown
from condvest.jobs.progress import Progress
from condvest.jobs.resample import BUILDER, silver_tables
from condvest.storage import layout
from condvest.storage.checkpoint import Checkpoint, read_checkpoint
from condvest.storage.parquet import decode
from condvest.storage.store import Store

_MONTHS_AT_A_TIME: Final = 16
_REPAIR: Final = "run `condvest verify --repair`, or `condvest resample --force-full`"
_CHECKPOINT: Final = "run `condvest verify --repair`, or `condvest resample`, which builds it again"
_CALENDAR: Final = (
    f"if {layout.CLOSURES} was lost, restore it from a copy; if closures or the shipped calendar changed, run"
    " `condvest resample`, which builds it anew"
)


@dataclass(frozen=True, slots=True)
class _Interval:
    """One interval of silver: the ETags of its month files, what its checkpoint says, and whether it should be current."""

    sessions: int
    listed: Mapping[str, str]
    checkpoint: Checkpoint | None
    is_current: bool

    def key(self, month: str) -> str:
        return layout.silver_key(self.sessions, int(month[:4]), int(month[5:]))

    def is_as_left(self, month: str) -> bool:
        """Say whether a month lies there (or not) as the last resample left it."""
        return self.checkpoint is not None and self.checkpoint.months.get(month) == self.listed.get(month)

    @property
    def is_unknown(self) -> bool:
        """Whether ETags tell nothing: there is no checkpoint, or the lake was copied and no file has the one it had."""
        return self.checkpoint is None or (bool(self.listed) and not any(map(self.is_as_left, self.listed)))


def listed_intervals(store: Store) -> dict[int, dict[str, str]]:
    """Return the ETags of the month files by interval and month (`YYYY-MM`); the usual intervals are always there."""
    found: dict[int, dict[str, str]] = {sessions: {} for sessions in INTERVALS}
    for info in store.list(layout.SILVER):
        key = layout.parse_silver_key(info.key)
        if key is not None:
            found.setdefault(key.interval_sessions, {})[f"{key.year:04d}-{key.month:02d}"] = info.etag
    return found


def check_silver(
    store: Store,
    findings: Findings,
    intervals: Mapping[int, Mapping[str, str]],
    *,
    calendar: Calendar,
    marks: Mapping[str, str],
    progress: Progress,
) -> set[str]:
    """Check each interval that has files or a checkpoint; `marks` are the sources that a resample would record now.

    Returns the symbols that some of it was built from and that have no `data.parquet` now.
    """
    gone = set[str]()
    for done, (sessions, listed) in enumerate(sorted(intervals.items()), 1):
        checkpoint, when = read_checkpoint(store, sessions)
        key = layout.checkpoint_key(sessions)
        if checkpoint is None and when.etag is not None:
            findings.wrong.intervals.add(sessions)
            findings.broken("checkpoint", f"{key}: cannot be read", _CHECKPOINT)
        elif checkpoint is None and listed:
            findings.wrong.intervals.add(sessions)
            findings.notice("checkpoint", f"{key}: absent", _CHECKPOINT)
        gone |= (checkpoint.sources if checkpoint is not None else {}).keys() - marks.keys()
        if checkpoint is not None and checkpoint.calendar_version != calendar.version:
            findings.wrong.calendar = True
            what = f"{key}: built with another calendar"
            findings.notice("silver_calendar", what, _CALENDAR)
        if listed or checkpoint is not None:
            is_current = (
                checkpoint is not None
                and checkpoint.sources == marks
                and (checkpoint.calendar_version, checkpoint.builder) == (calendar.version, BUILDER)
            )
            _check_interval(store, findings, _Interval(sessions, listed, checkpoint, is_current), calendar)
        findings.counts["silver_files"] += len(listed)
        progress("check silver", done, len(intervals))
    return gone


def _check_interval(store: Store, findings: Findings, interval: _Interval, calendar: Calendar) -> None:
    expected, stale = set[str](), list[str]()
    try:
        for month, same in _compared(store, interval, calendar):
            expected.add(month)
            if not same:
                _report(store, findings, interval, month, stale, "holds other bars than bronze gives")
    except CondvestError as error:
        what = f"silver_{interval.sessions}d: could not be compared ({str(error).partition(';')[0]})"
        findings.notice("silver_unchecked", what, "repair bronze first, then verify again")
        for month in sorted(interval.listed):
            _check_readable(store, findings, interval, month)
        return
    for month in sorted(interval.listed.keys() - expected):
        _report(store, findings, interval, month, stale, "bronze gives no bars of that month")
    if stale:
        findings.wrong.intervals.add(interval.sessions)
        what = f"silver_{interval.sessions}d: {len(stale):,} months are older than bronze: {shown(stale)}"
        findings.notice("silver_stale", what, "run `condvest resample`")


def _compared(store: Store, interval: _Interval, calendar: Calendar) -> Iterator[tuple[str, bool]]:
    """Yield each month of a full rebuild, and whether its file is the same; a few months in memory."""
    for some in blocks(silver_tables(store, calendar=calendar, sessions=interval.sessions), _MONTHS_AT_A_TIME):
        there = store.map([interval.key(month) for month, _ in some], lambda _, stored: stored and stored.data)
        for (month, body), data in zip(some, there, strict=True):
            yield month, data == body


def _report(
    store: Store, findings: Findings, interval: _Interval, month: str, stale: list[str], difference: str
) -> None:
    """Report a month that is not as a rebuild gives it: broken, unless silver is just older than bronze."""
    if not _check_readable(store, findings, interval, month):
        return
    if interval.is_current or not (interval.is_as_left(month) or interval.is_unknown):
        told = difference if month in interval.listed else "is not there"
        findings.wrong.intervals.add(interval.sessions)
        findings.broken("silver_file", f"{interval.key(month)}: {told}", _REPAIR)
    else:
        stale.append(month)


def _check_readable(store: Store, findings: Findings, interval: _Interval, month: str) -> bool:
    try:
        decode(store.get(interval.key(month)).data, PERIOD_SCHEMA, interval.key(month))
    except ObjectNotFound:
        return True
    except DataError as error:
        findings.wrong.intervals.add(interval.sessions)
        findings.broken("silver_file", str(error).partition(";")[0], _REPAIR)
        return False
    return True

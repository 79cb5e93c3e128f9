"""Check of rule 1 for silver: every month file holds, byte for byte, what a full rebuild from bronze gives."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from condvest.domain.calendar import INTERVALS, Calendar
from condvest.domain.resample import PERIOD_SCHEMA
from condvest.errors import CondvestError, DataError
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
    """One interval of silver: the ETags of its month files, what its checkpoint says, and whether it should be current.

    `universe` is the one that the fetches have.
    """

    sessions: int
    listed: Mapping[str, str]
    checkpoint: Checkpoint | None
    is_current: bool
    universe: Collection[str] | None

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
    universe: Collection[str] | None,
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
            _check_interval(store, findings, _Interval(sessions, listed, checkpoint, is_current, universe), calendar)
        findings.counts["silver_files"] += len(listed)
        progress("check silver", done, len(intervals))
    return gone


def _check_interval(store: Store, findings: Findings, interval: _Interval, calendar: Calendar) -> None:
    expected, stale = set[str](), list[str]()
    try:
        for month, same, unreadable in _compared(store, interval, calendar):
            expected.add(month)
            if not same:
                _report(findings, interval, month, unreadable, stale, "holds other bars than bronze gives")
    except CondvestError as error:
        what = f"silver_{interval.sessions}d: could not be compared ({str(error).partition(';')[0]})"
        findings.notice("silver_unchecked", what, "repair bronze first, then verify again")
        for _, unreadable in _read(store, interval, sorted(interval.listed)):
            _is_readable(findings, interval, unreadable)
        return
    for month, unreadable in _read(store, interval, sorted(interval.listed.keys() - expected)):
        _report(findings, interval, month, unreadable, stale, "bronze gives no bars of that month")
    if stale:
        findings.wrong.intervals.add(interval.sessions)
        what = f"silver_{interval.sessions}d: {len(stale):,} months are older than bronze: {shown(stale)}"
        findings.notice("silver_stale", what, "run `condvest resample`")


def _compared(store: Store, interval: _Interval, calendar: Calendar) -> Iterator[tuple[str, bool, str | None]]:
    """Yield each month of a full rebuild, whether its file is the same, else why it cannot be read; a few months in memory."""
    built = silver_tables(store, calendar=calendar, sessions=interval.sessions, universe=interval.universe)
    for some in blocks(built, _MONTHS_AT_A_TIME):
        keys = [interval.key(month) for month, _ in some]
        there = store.map(keys, lambda _, stored: stored.data if stored is not None else None)
        for (month, body), data in zip(some, there, strict=True):
            yield month, data == body, None if data == body else _unreadable(interval.key(month), data)


def _read(store: Store, interval: _Interval, months: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Yield each month, and why its file cannot be read, if so."""
    keys = [interval.key(month) for month in months]
    read = store.map(keys, lambda key, stored: _unreadable(key, stored.data if stored is not None else None))
    return zip(months, read, strict=True)


def _report(
    findings: Findings, interval: _Interval, month: str, unreadable: str | None, stale: list[str], difference: str
) -> None:
    """Report a month that is not as a rebuild gives it: broken, unless silver is just older than bronze."""
    if not _is_readable(findings, interval, unreadable):
        return
    if interval.is_current or not (interval.is_as_left(month) or interval.is_unknown):
        told = difference if month in interval.listed else "is not there"
        findings.wrong.intervals.add(interval.sessions)
        findings.broken("silver_file", f"{interval.key(month)}: {told}", _REPAIR)
    else:
        stale.append(month)


def _unreadable(key: str, data: bytes | None) -> str | None:
    """Return why a month file cannot be read; one that is not there is nothing to read."""
    try:
        if data is not None:
            decode(data, PERIOD_SCHEMA, key)
    except DataError as error:
        return str(error).partition(";")[0]
    return None


def _is_readable(findings: Findings, interval: _Interval, unreadable: str | None) -> bool:
    if unreadable is None:
        return True
    findings.wrong.intervals.add(interval.sessions)
    findings.broken("silver_file", unreadable, _REPAIR)
    return False

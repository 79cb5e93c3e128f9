"""Write the month files of silver: only those whose bytes differ, and only if nobody else wrote them meanwhile."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from condvest.aio import in_order
from condvest.domain.actions import EPOCH
from condvest.domain.resample import PERIOD_SCHEMA, Ints, period_table, periods_in
from condvest.errors import CommitConflict, DataError
from condvest.jobs.silver_build import Work, group_starts
from condvest.jobs.silver_plan import IntervalPlan
from condvest.jobs.spool import MonthSpool, as_rows
from condvest.storage import layout
from condvest.storage.parquet import decode, encode_periods
from condvest.storage.store import IF_ABSENT, Store, Stored, When, if_match

_THREADS: Final = 2
#: Months encoded and not yet written.
_AHEAD: Final = 4
#: A month of so many bars leaves its thread with memory that is given back; of smaller ones that takes too long.
_LARGE_BARS: Final = 65_536


@dataclass(slots=True)
class MonthsWritten:
    """The ETag of every month file by `YYYY-MM`, and what was written and removed."""

    etags: dict[str, str]
    written: int = 0
    removed: int = 0
    bars: int = 0


def list_months(store: Store, intervals: Collection[int]) -> dict[int, dict[str, str]]:
    """Return the ETags of each interval's month files by `YYYY-MM`."""
    months: dict[int, dict[str, str]] = {sessions: {} for sessions in intervals}
    for info in store.list_many(layout.silver_prefix(sessions) for sessions in intervals):
        key = layout.parse_silver_key(info.key)
        if key is not None:
            months[key.interval_sessions][f"{key.year:04d}-{key.month:02d}"] = info.etag
    return months


def write_months(
    store: Store, work: Work, plan: IntervalPlan, spool: MonthSpool, listed: Mapping[str, str]
) -> MonthsWritten:
    """Write the month files that differ from what lies there; after a rebuild remove those without bars.

    Months are read, built and written at the same time, a few of each. CommitConflict when a file is not as it was listed:
    nothing is taken over from it, the caller plans again.
    """
    result = MonthsWritten(dict(listed))
    for put in store.put_many_if(_changed(_built(store, work, plan, spool, listed), plan.interval_sessions, result)):
        found = layout.parse_silver_key(put.key)
        if put.etag is None or found is None:
            raise CommitConflict(f"{put.key}: another writer was first")
        result.etags[f"{found.year:04d}-{found.month:02d}"] = put.etag
    stale = sorted(listed.keys() - set(spool.months())) if plan.rebuild else []
    store.delete_many([_key(plan.interval_sessions, month) for month in stale])
    result.removed = len(stale)
    result.etags = {month: etag for month, etag in result.etags.items() if month not in stale}
    return result


@dataclass(frozen=True, slots=True)
class _Month:
    """One month file: what lies there, and what belongs there."""

    month: str
    before: Stored | None
    body: bytes
    bars_built: int


def _changed(months: Iterable[_Month], sessions: int, result: MonthsWritten) -> Iterator[tuple[str, bytes, When]]:
    """Yield what has to be written, and count it."""
    for made in months:
        if made.before is None or made.before.data != made.body:
            result.written += 1
            result.bars += made.bars_built
            yield _key(sessions, made.month), made.body, if_match(made.before.etag) if made.before else IF_ABSENT


def _built(
    store: Store, work: Work, plan: IntervalPlan, spool: MonthSpool, listed: Mapping[str, str]
) -> Iterator[_Month]:
    """Yield every month that has bars to build or that became complete, ascending; encoded in two threads."""
    starts, reach_day = group_starts(work, plan), (work.reach - EPOCH).days
    months = sorted({*spool.months(), *plan.months})

    def build(month: str, before: Stored | None) -> _Month:
        bars = built = spool.read(month)
        if before is not None and not plan.rebuild:
            bars = _merged(_kept(before, work, starts, plan.interval_sessions, month), built)
        bars_built, table = len(built), period_table(bars, work.names, reach_day)
        del bars, built  # as large as the table
        body = encode_periods(table)
        if len(table) >= _LARGE_BARS:
            del table
            pa.default_memory_pool().release_unused()
        return _Month(month, before, body, bars_built)

    existing = _existing(store, plan.interval_sessions, months, listed)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="condvest-encode") as pool:
        yield from in_order(
            lambda found: pool.submit(build, *found),
            zip(months, existing, strict=True),
            ahead=_AHEAD,
        )


def _existing(store: Store, sessions: int, months: Sequence[str], listed: Mapping[str, str]) -> Iterator[Stored | None]:
    """Yield the month files as they were listed, None where none was; one that changed since is a conflict."""
    there = (_key(sessions, month) for month in months if month in listed)
    read = store.map(there, lambda _, stored: stored)
    for month in months:
        if month not in listed:
            yield None
            continue
        stored = next(read)
        if stored is None or stored.etag != listed[month]:
            raise CommitConflict(f"{_key(sessions, month)}: another writer changed it")
        yield stored


def _key(sessions: int, month: str) -> str:
    return layout.silver_key(sessions, int(month[:4]), int(month[5:]))


def _kept(stored: Stored, work: Work, starts: Ints, sessions: int, month: str) -> npt.NDArray[Any]:
    """Return the bars of a month file that are not built again."""
    table = decode(stored.data, PERIOD_SCHEMA, _key(sessions, month))
    symbols = table["symbol"].combine_chunks().dictionary_encode()
    try:
        of_dictionary = np.array([work.codes[symbol] for symbol in symbols.dictionary.to_pylist()], np.int32)
    except KeyError as unknown:
        raise DataError(
            f"{_key(sessions, month)}: holds symbol {unknown}, which has no data.parquet; run"
            " `condvest resample --force-full`"
        ) from None
    bars = periods_in(table, of_dictionary[symbols.indices.to_numpy()])
    return as_rows(bars, np.flatnonzero(bars["date"] < starts[bars["symbol"]]))


def _merged(kept: npt.NDArray[Any] | None, built: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if kept is None or len(kept) == 0:
        return built
    rows = np.concatenate([kept, built])
    return rows[np.lexsort((rows["date"], rows["symbol"]))]

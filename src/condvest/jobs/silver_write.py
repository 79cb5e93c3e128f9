"""Write the month files of silver: only those whose bytes differ, and only if nobody else wrote them meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from condvest.domain.actions import EPOCH
from condvest.domain.resample import PERIOD_SCHEMA, Ints, period_rows, period_table
from condvest.errors import CommitConflict, DataError
from condvest.jobs.bronze import blocks
from condvest.jobs.silver_build import Work, group_starts
from condvest.jobs.silver_plan import IntervalPlan
from condvest.jobs.spool import MonthSpool
from condvest.storage import layout
from condvest.storage.parquet import decode, encode_periods
from condvest.storage.store import IF_ABSENT, Store, Stored, if_match

_MONTHS_AT_A_TIME: Final = 32
_THREADS: Final = 2


@dataclass(slots=True)
class MonthsWritten:
    """The ETag of every month file by `YYYY-MM`, and what was written and removed."""

    etags: dict[str, str]
    written: int = 0
    removed: int = 0
    bars: int = 0


def list_months(store: Store, sessions: int) -> dict[str, str]:
    """Return the ETags of an interval's month files by `YYYY-MM`."""
    found = ((layout.parse_silver_key(info.key), info.etag) for info in store.list(layout.silver_prefix(sessions)))
    return {f"{key.year:04d}-{key.month:02d}": etag for key, etag in found if key is not None}


def write_months(
    store: Store, work: Work, plan: IntervalPlan, spool: MonthSpool, listed: Mapping[str, str]
) -> MonthsWritten:
    """Write the month files that differ from what lies there; after a rebuild remove those without bars.

    CommitConflict when a file is not as it was listed: nothing is taken over from it, the caller plans again.
    """
    result = MonthsWritten(dict(listed))
    starts = group_starts(work, plan)
    todo = sorted({*spool.months(), *plan.months})
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="condvest-encode") as pool:
        for months in blocks(todo, _MONTHS_AT_A_TIME):
            existing = _existing(store, plan, months, listed)
            built = [spool.read(month) for month in months]

            def encoded(month: str, bars: npt.NDArray[Any], existing: Mapping[str, Stored] = existing) -> bytes:
                if not plan.rebuild and month in existing:
                    bars = _merged(_kept(existing[month], work, starts, plan.interval_sessions, month), bars)
                return encode_periods(period_table(bars, work.names, (work.reach - EPOCH).days))

            bodies = dict(zip(months, pool.map(encoded, months, built), strict=True))
            fresh = {
                month: body for month, body in bodies.items() if month not in existing or existing[month].data != body
            }
            _put(store, plan.interval_sessions, fresh, existing, result)
            result.bars += sum(len(bars) for month, bars in zip(months, built, strict=True) if month in fresh)
    stale = sorted(listed.keys() - set(spool.months())) if plan.rebuild else []
    store.delete_many([_key(plan.interval_sessions, month) for month in stale])
    result.removed = len(stale)
    result.etags = {month: etag for month, etag in result.etags.items() if month not in stale}
    return result


def _put(
    store: Store, sessions: int, bodies: Mapping[str, bytes], existing: Mapping[str, Stored], result: MonthsWritten
) -> None:
    writes = [
        (_key(sessions, month), body, if_match(existing[month].etag) if month in existing else IF_ABSENT)
        for month, body in bodies.items()
    ]
    for month, put in zip(bodies, store.put_many_if(writes), strict=True):
        if put.etag is None:
            raise CommitConflict(f"{put.key}: another writer was first")
        result.etags[month] = put.etag
    result.written += len(writes)


def _key(sessions: int, month: str) -> str:
    return layout.silver_key(sessions, int(month[:4]), int(month[5:]))


def _existing(store: Store, plan: IntervalPlan, months: Sequence[str], listed: Mapping[str, str]) -> dict[str, Stored]:
    """Read the listed files among the months; one that is not as it was listed is a conflict."""
    there = [month for month in months if month in listed]
    keys = [_key(plan.interval_sessions, month) for month in there]
    existing = {}
    for month, key, stored in zip(there, keys, store.map(keys, lambda _, stored: stored), strict=True):
        if stored is None or stored.etag != listed[month]:
            raise CommitConflict(f"{key}: another writer changed it")
        existing[month] = stored
    return existing


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
    rows = period_rows(table, of_dictionary[symbols.indices.to_numpy()])
    kept: npt.NDArray[Any] = rows[rows["date"] < starts[rows["symbol"]]]
    return kept


def _merged(kept: npt.NDArray[Any] | None, built: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if kept is None or len(kept) == 0:
        return built
    rows = np.concatenate([kept, built])
    return rows[np.lexsort((rows["date"], rows["symbol"]))]

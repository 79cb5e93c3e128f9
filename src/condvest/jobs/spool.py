"""A spool on local disk: period bars written as they are computed, by symbol, and read back month by month."""

from __future__ import annotations

import errno
import os
import tempfile
from array import array
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, partial
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from condvest.domain.resample import Ints, PeriodBars
from condvest.jobs.scratch import scratch_errors

_INTEGERS: Final = ("symbol", "date", "end_date", "n_sessions")
_FLOATS: Final = ("open", "high", "low", "close", "volume", "vwap", "transactions")
#: One period bar in the spool; the fields are as in `PeriodBars`.
ROW: Final = np.dtype([*((name, "<i4") for name in _INTEGERS), *((name, "<f8") for name in _FLOATS)])


@dataclass(frozen=True, slots=True)
class ByMonth:
    """Period bars by the month of their first session, then as they came; `months`: (`YYYY-MM`, first row, past the last)."""

    rows: npt.NDArray[Any]
    months: list[tuple[str, int, int]]


def as_rows(bars: PeriodBars, places: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Return the period bars at some places as rows (`ROW`)."""
    rows = np.empty(len(places), ROW)
    for name in (*_INTEGERS, *_FLOATS):
        rows[name] = bars[name][places]
    return rows


def by_month(bars: PeriodBars, which: npt.NDArray[np.bool_]) -> ByMonth:
    """Order the chosen period bars by month; those of one month keep their order."""
    places = np.flatnonzero(which)
    if len(places) == 0:
        return ByMonth(np.empty(0, ROW), [])
    months = month_numbers(bars["date"][places])
    order = np.argsort(months, kind="stable")  # a radix sort, as months are 16 bits wide
    months = months[order]
    starts = np.concatenate(([0], np.flatnonzero(months[1:] != months[:-1]) + 1))
    bounds = [*starts.tolist(), len(places)]
    names = [month_name(number) for number in months[starts].tolist()]
    return ByMonth(as_rows(bars, places[order]), list(zip(names, bounds[:-1], bounds[1:], strict=True)))


class MonthSpool:
    """Period bars of one interval in a temporary file, grouped by the month of their first session.

    A context manager: the file goes with it. One thread adds; when all is there, any thread reads. TransientError when the
    temporary folder fails.
    """

    @scratch_errors()
    def __init__(self) -> None:
        """Begin empty."""
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by __exit__
        # By month: the first row and the count of each part, one after the other. There is a part a block and month: as
        # objects they would outgrow the bars in memory. 32 bits name 4 billion rows, 300 GB of one interval.
        self._parts: dict[str, array[int]] = defaultdict(partial(array, "I"))
        self._rows = 0

    def __enter__(self) -> Self:
        """Return the spool."""
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Delete the file."""
        self._file.close()

    @scratch_errors()
    def add(self, bars: ByMonth) -> None:
        """Take a block of bars that were ordered by symbol and date; blocks come in ascending order of symbols."""
        left = bars.rows.view(np.uint8).data
        while left:  # one call writes 2 GiB at most
            left = left[self._file.write(left) or 0 :]
        for month, start, stop in bars.months:
            self._parts[month].extend((self._rows + start, stop - start))
        self._rows += len(bars.rows)

    def months(self) -> Iterable[str]:
        """Return the months (`YYYY-MM`) that hold bars."""
        return self._parts.keys()

    @scratch_errors()
    def read(self, month: str) -> npt.NDArray[Any]:
        """Return the bars of one month, ordered by symbol and date."""
        parts = self._parts[month] if month in self._parts else array("I")
        firsts, counts = parts[::2], parts[1::2]
        bars = np.empty(sum(counts), ROW)
        left = bars.view(np.uint8).data
        for first, count in zip(firsts, counts, strict=True):
            size = count * ROW.itemsize
            if os.preadv(self._file.fileno(), [left[:size]], first * ROW.itemsize) != size:
                raise OSError(errno.EIO, "the temporary file is shorter than what was written to it")
            left = left[size:]
        return bars


def month_numbers(days: Ints) -> npt.NDArray[np.uint16]:
    """Return months (year * 12 + month - 1) for days since 1970-01-01, from 1900 to 2199."""
    first, months = _months()
    return months[days - first]


@cache
def _months() -> tuple[int, npt.NDArray[np.uint16]]:
    """Return the first day that is known, and the month of each day from it on: looked up in a tenth of the time."""
    days = np.arange("1900-01-01", "2200-01-01", dtype="datetime64[D]")
    months = days.astype("datetime64[M]").astype(np.int32) + 1970 * 12
    return int(days[0].astype(np.int64)), months.astype(np.uint16)


def month_name(number: int) -> str:
    """Return `YYYY-MM` for a month as `month_numbers` gives it."""
    return f"{number // 12:04d}-{number % 12 + 1:02d}"

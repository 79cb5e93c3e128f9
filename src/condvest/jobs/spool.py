"""A spool on local disk: period bars written as they are computed, by symbol, and read back month by month."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from condvest.domain.resample import PERIOD_DTYPE, Ints
from condvest.jobs.scratch import scratch_errors

_IN_MEMORY_BYTES: Final = 4 << 20


class MonthSpool:
    """Period bars of one interval, grouped by the month of their first session. A context manager: the file goes with it.

    TransientError when the temporary folder fails.
    """

    def __init__(self) -> None:
        """Begin empty; beyond 4 MiB the bars lie in a temporary file."""
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 - closed by __exit__
        self._parts: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self._size = 0

    def __enter__(self) -> Self:
        """Return the spool."""
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Delete the file."""
        self._file.close()

    @scratch_errors()
    def add(self, bars: npt.NDArray[Any]) -> None:
        """Take a block of bars ordered by symbol and date; blocks come in ascending order of symbols."""
        if len(bars) == 0:
            return
        months = month_numbers(bars["date"])
        order = np.argsort(months, kind="stable")  # a radix sort, as months are 16 bits wide
        months = months[order]
        starts = np.concatenate(([0], np.flatnonzero(months[1:] != months[:-1]) + 1))
        bounds = [*starts.tolist(), len(bars)]
        self._file.seek(self._size)
        self._file.write(bars.take(order).view(np.uint8).data)
        for month, start, stop in zip(months[starts].tolist(), bounds[:-1], bounds[1:], strict=True):
            self._parts[month_name(month)].append((self._size + start * PERIOD_DTYPE.itemsize, stop - start))
        self._size += bars.nbytes

    def months(self) -> Iterable[str]:
        """Return the months (`YYYY-MM`) that hold bars."""
        return self._parts.keys()

    @scratch_errors()
    def read(self, month: str) -> npt.NDArray[Any]:
        """Return the bars of one month, ordered by symbol and date."""
        blocks = []
        for offset, count in self._parts.get(month, []):
            self._file.seek(offset)
            blocks.append(np.frombuffer(self._file.read(count * PERIOD_DTYPE.itemsize), PERIOD_DTYPE))
        return np.concatenate(blocks) if blocks else np.empty(0, PERIOD_DTYPE)


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

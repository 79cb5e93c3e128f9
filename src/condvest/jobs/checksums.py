"""Checksums of bars that do not depend on their order: equal sums on two sides mean equal bars, in memory O(sessions + symbols).

A bar's hash has 64 bits over all its columns; a session's (or symbol's) checksum is the sum of its bars' hashes modulo 2^64.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from condvest.domain.actions import EPOCH
from condvest.domain.bars import VALUE_FIELDS
from condvest.domain.calendar import Calendar
from condvest.domain.resample import Ints, day_numbers, floats

Hashes = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]

# The finalizer of SplitMix64 (Steele, Lea, Flood 2014): each bit of the input moves each bit of the output.
_STEPS: Final = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_GAMMA: Final = np.uint64(0x9E3779B97F4A7C15)
_NO_COUNT: Final = -1
#: Bars that wait to be hashed together.
_ROWS_AT_A_TIME: Final = 50_000


class SessionGrid:
    """The scheduled sessions as an array: where a day stands in it."""

    def __init__(self, calendar: Calendar) -> None:
        """Take every session of the calendar."""
        self.sessions = calendar.sessions(calendar.first, calendar.last)
        self._days: Ints = np.array([(session - EPOCH).days for session in self.sessions], np.int32)

    def __len__(self) -> int:
        """Return the count of sessions."""
        return len(self.sessions)

    def find(self, days: Ints) -> tuple[npt.NDArray[np.intp], Flags]:
        """Return for each day (since 1970-01-01) its place, and whether it is a session; the place of another means nothing."""
        places = np.minimum(np.searchsorted(self._days, days), len(self._days) - 1)
        return places, self._days[places] == days

    def between(self, first: date | None, last: date | None) -> list[date]:
        """Return the sessions from `first` to `last`, both inclusive (None: no bound)."""
        low = 0 if first is None else bisect_left(self.sessions, first)
        return self.sessions[low : None if last is None else bisect_right(self.sessions, last)]

    def flags(self, sessions: Sequence[date]) -> Flags:
        """Return an array that is true at some sessions; other days are passed over."""
        flags = np.zeros(len(self), np.bool_)
        places, known = self.find(np.array([(session - EPOCH).days for session in sessions], np.int32))
        flags[places[known]] = True
        return flags


class SymbolCodes:
    """A number for each symbol, in the order of their first appearance, and a hash of its name."""

    def __init__(self) -> None:
        """Begin without symbols."""
        self.names: list[str] = []
        self._codes: dict[str, int] = {}
        self._hashes: Hashes = np.empty(0, np.uint64)

    def of(self, symbols: pa.ChunkedArray) -> npt.NDArray[np.int64]:
        """Return the code of each row's symbol."""
        encoded = symbols.combine_chunks().dictionary_encode()
        names = encoded.dictionary.to_pylist()
        fresh = [name for name in names if name not in self._codes]
        for name in fresh:
            self._codes[name] = len(self.names)
            self.names.append(name)
        if fresh:
            digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in fresh)
            self._hashes = np.concatenate([self._hashes, np.frombuffer(digests, np.uint64)])
        codes = np.array([self._codes[name] for name in names], np.int64)
        found: npt.NDArray[np.int64] = codes[encoded.indices.to_numpy()]
        return found

    def code(self, symbol: str) -> int | None:
        """Return the code of one symbol; None when it never appeared."""
        return self._codes.get(symbol)

    def hashes(self, codes: npt.NDArray[np.int64]) -> Hashes:
        """Return the hash of each code's symbol."""
        return self._hashes[codes]


def row_hashes(bars: pa.Table, symbols: Hashes) -> Hashes:
    """Return a hash of each bar (`DAILY_SCHEMA`) over symbol, session, values and `ingested_at`; `symbols` has the symbol's.

    Nulls of one column are equal, and so are 0.0 and -0.0.
    """
    hashes = _mixed(symbols + day_numbers(bars["date"]).astype(np.int64).view(np.uint64))
    for field in VALUE_FIELDS:
        column = bars[field.name]
        if pa.types.is_floating(field.type):
            values = floats(column) + 0.0
            bits = np.where(np.isnan(values), np.nan, values).view(np.uint64)
        else:
            bits = pc.fill_null(column, _NO_COUNT).to_numpy().astype(np.int64).view(np.uint64)
        hashes = _mixed(hashes + bits)
    return _mixed(hashes + bars["ingested_at"].cast(pa.int64()).to_numpy().view(np.uint64))


def _mixed(values: Hashes) -> Hashes:
    values = values + _GAMMA
    for shift, factor in _STEPS:
        values = (values ^ (values >> np.uint64(shift))) * np.uint64(factor)
    return values ^ (values >> np.uint64(31))


class Tally:
    """Checksums and counts of bars by session and by symbol. Rows on days without a session are passed over.

    By symbol only the sessions that are `compared` at the end count; by session all do.
    """

    def __init__(self, grid: SessionGrid, codes: SymbolCodes, compared: Flags) -> None:
        """Begin at nothing; two tallies that are to be compared share all three."""
        self._grid, self._codes, self._compared = grid, codes, compared
        self._session_sums: Hashes = np.zeros(len(grid), np.uint64)
        self._session_rows = np.zeros(len(grid), np.int64)
        self._symbol_sums: Hashes = np.zeros(0, np.uint64)
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0

    def add(self, bars: pa.Table) -> None:
        """Take bars (`DAILY_SCHEMA`) of any symbols and sessions. A session stops being compared only before it is added."""
        self._waiting.append(bars)
        self._waiting_rows += bars.num_rows
        if self._waiting_rows >= _ROWS_AT_A_TIME:
            self._flush()

    def rows(self) -> npt.NDArray[np.int64]:
        """Return the count of bars of each session."""
        self._flush()
        return self._session_rows

    def symbols_unlike(self, other: Tally) -> list[str]:
        """Return the symbols, in order, whose checksum differs from another tally's."""
        self._flush()
        other._flush()
        mine, theirs = (tally._padded(len(self._codes.names)) for tally in (self, other))
        return sorted(self._codes.names[code] for code in np.flatnonzero(mine != theirs).tolist())

    def sessions_unlike(self, other: Tally) -> Flags:
        """Return for each session whether its checksum or its count differs from another tally's."""
        unlike: Flags = (self.rows() != other.rows()) | (self._session_sums != other._session_sums)
        return unlike

    def _flush(self) -> None:
        """Hash what waits: many bars at once cost little more than a few."""
        if not self._waiting_rows:
            return
        bars = pa.concat_tables(self._waiting)
        self._waiting, self._waiting_rows = [], 0
        codes = self._codes.of(bars["symbol"])
        places, known = self._grid.find(day_numbers(bars["date"]))
        hashes = row_hashes(bars, self._codes.hashes(codes))
        np.add.at(self._session_sums, places[known], hashes[known])
        np.add.at(self._session_rows, places[known], 1)
        self._symbol_sums = self._padded(len(self._codes.names))
        kept = known & self._compared[places]
        np.add.at(self._symbol_sums, codes[kept], hashes[kept])

    def _padded(self, count: int) -> Hashes:
        missing = count - len(self._symbol_sums)
        return np.concatenate([self._symbol_sums, np.zeros(missing, np.uint64)]) if missing else self._symbol_sums


def day_of(number: int) -> date:
    """Return the date of a count of days since 1970-01-01."""
    return EPOCH + timedelta(days=number)

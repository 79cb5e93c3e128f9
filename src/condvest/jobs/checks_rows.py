"""Check of rule 2: each bar that landed is, by content, in bronze, and bronze holds nothing that did not land."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from condvest.domain.ledger import LedgerRow
from condvest.domain.resample import day_numbers
from condvest.jobs.checksums import Flags, SessionGrid, SymbolCodes, Tally, day_of, row_hashes
from condvest.jobs.contents import read_bronze
from condvest.jobs.findings import Findings, shown
from condvest.jobs.landed import LandedRanges, read_landed, read_ranges
from condvest.jobs.progress import Progress
from condvest.storage.landing import LandingIndex
from condvest.storage.store import Store

#: Symbols that are looked at bar by bar when their checksums differ; the rest is counted.
_EXAMINED: Final = 500
_DAY_ZERO: Final = 2**31
_FORCE: Final = "`condvest consolidate --force-full`"


def is_done(row: LedgerRow) -> bool:
    """Say whether the ledger says that a session's bars are in the lake."""
    return row.state in ("provisional", "final")


@dataclass(frozen=True, slots=True)
class LandedCount:
    """Bars of one session: those that an answer with the whole market holds, and all."""

    whole: int
    rows: int


@dataclass(slots=True)
class RowsCheck:
    """Compares what landed with what lies in bronze, by checksums first, bar by bar where they differ.

    Compared are the sessions whose last landed answer the ledger acknowledges, and those of which only ranges landed; what
    landed and is not acknowledged yet is in work. `universe` limits both sides.
    """

    store: Store
    findings: Findings
    grid: SessionGrid
    index: LandingIndex
    ledger: Mapping[date, LedgerRow]
    universe: Collection[str] | None
    counts: dict[date, LandedCount] = field(default_factory=dict)
    _outside: int = 0
    _ranges: LandedRanges = field(init=False)
    _landed: Tally = field(init=False)
    _bronze: Tally = field(init=False)
    _known: Flags = field(init=False)
    _compared: Flags = field(init=False)

    def __post_init__(self) -> None:
        """Read the range answers, and decide which sessions are compared."""
        self._ranges = read_ranges(self.store, self.index, self.universe)
        ranged = self._ranges.rows.sessions - self.index.answers.keys()
        # Which sessions a range answer holds that cannot be read is not known: all that it was asked for.
        asked = [key for _, key in self.index.ranges if key.symbol in self._ranges.problems]
        maybe = [day for key in asked for day in self.grid.between(key.first, key.last)]
        self._known = self.grid.flags([*self.index.answers, *ranged, *maybe])
        self._compared = self.grid.flags([*filter(self._is_acknowledged, self.index.answers), *ranged])
        codes = SymbolCodes()
        self._landed, self._bronze = (Tally(self.grid, codes, self._compared) for _ in range(2))

    def _is_acknowledged(self, session: date) -> bool:
        row, last = self.ledger.get(session), self.index.last(session)
        return row is not None and last is not None and is_done(row) and row.answer_digest == last.digest

    def read_landing(self, progress: Progress) -> None:
        """Read every landed answer of a scheduled session."""
        sessions = self._sessions()
        for done, session in enumerate(read_landed(self.store, sessions, self.index, self._ranges, self.universe), 1):
            for problem in session.problems:
                self._corrupt(problem, f"`condvest fetch bars --date {session.session}`")
            if session.problems:
                self._compared[self.grid.flags([session.session])] = False
            else:
                self.counts[session.session] = LandedCount(session.whole, session.bars.num_rows)
                self._landed.add(session.bars)
            progress("read what landed", done, len(sessions))
        self.findings.counts["landed_sessions"] += len(sessions)

    def take(self, symbol: str, bars: pa.Table) -> None:
        """Take the winning bars of one symbol in bronze."""
        if self.universe is not None and symbol not in self.universe:
            self._outside += 1
        else:
            self._bronze.add(bars)

    def compare(self, unreadable: Collection[str], progress: Progress) -> None:
        """Report what differs, once both sides are read; symbols that cannot be read are left out."""
        self._check_unlanded()
        for symbol, problems in self._ranges.problems.items():
            for problem in problems:
                self._corrupt(problem, f"`condvest fetch bars --symbols {symbol}`")
        unknown = {*unreadable, *self._ranges.problems}
        unlike = [symbol for symbol in self._bronze.symbols_unlike(self._landed) if symbol not in unknown]
        if unlike:
            self._examine(unlike[:_EXAMINED], progress)
        if len(unlike) > _EXAMINED:
            more = len(unlike) - _EXAMINED
            self.findings.broken(
                "rows_differ", f"{more:,} more symbols differ from what landed", "settle the listed ones first"
            )
        if self._outside:
            self.findings.notice(
                "outside_universe",
                f"{self._outside:,} symbols in bronze are not in the universe",
                "none: they stay as they are",
            )

    def _sessions(self) -> list[date]:
        found = sorted(self.index.answers.keys() | set(self._ranges.rows.sessions))
        scheduled = set(self.grid.sessions)
        strays = [session for session in self.index.answers if session not in scheduled]
        if strays:
            self.findings.notice(
                "landing_session",
                f"{shown(sorted(strays))}: landed, and no session is scheduled then",
                "none: it is passed over",
            )
        return [session for session in found if session in scheduled]

    def _corrupt(self, problem: str, again: str) -> None:
        what, separator, _ = problem.rpartition("; ")
        self.findings.broken(
            "landing_file", what if separator else problem, f"restore it from a copy, or remove it and run {again}"
        )

    def _check_unlanded(self) -> None:
        bars = self._bronze.rows()
        for place in np.flatnonzero(~self._known & (bars > 0)).tolist():
            session, rows = self.grid.sessions[place], int(bars[place])
            self.findings.broken(
                "not_landed",
                f"{session}: {rows:,} bars in bronze, and no landed answer of that session",
                f"restore bronze/landing/ from a copy, or run `condvest fetch bars --date {session}`",
            )

    def _examine(self, symbols: Sequence[str], progress: Progress) -> None:
        """Find the bars that differ: both sides are read again, for these symbols and the sessions whose checksums differ."""
        flags = self._compared & self._bronze.sessions_unlike(self._landed)
        sessions = [self.grid.sessions[place] for place in np.flatnonzero(flags).tolist()]
        wanted, codes = set(symbols), SymbolCodes()
        landed, bronze = _Keyed(codes), _Keyed(codes)
        found = read_landed(self.store, sessions, self.index, read_ranges(self.store, self.index, wanted), wanted)
        for done, session in enumerate(found, 1):
            landed.add(session.bars)
            progress("examine what differs", done, len(sessions))
        for content in read_bronze(self.store, wanted):
            bars = content.bars()
            places, known = self.grid.find(day_numbers(bars["date"]))
            bronze.add(bars.filter(pa.array(known & flags[places])))
        lost, changed, extra = landed.against(bronze)
        self._report(
            "lost", lost, codes, "landed and not in bronze", lambda _: f"run {_FORCE}, which merges all that landed"
        )
        self._report("different", changed, codes, "not as landed", _rebuilt)
        self._report(
            "unexplained",
            extra,
            codes,
            "in bronze, and in no landed answer",
            lambda symbol: f"restore the answer to bronze/landing/ from a copy; if there was none, {_rebuilt(symbol)}",
        )

    def _report(
        self, rule: str, keys: Sequence[int], codes: SymbolCodes, what: str, remedy: Callable[[str], str]
    ) -> None:
        """Report bars by symbol, or by session where those are fewer."""
        by_symbol: dict[str, list[date]] = defaultdict(list)
        by_session: dict[date, list[str]] = defaultdict(list)
        for code, session in map(_symbol_and_day, keys):
            symbol = codes.names[code]
            by_symbol[symbol].append(session)
            by_session[session].append(symbol)
        if len(by_session) < len(by_symbol):
            for session, symbols in sorted(by_session.items()):
                told = shown(sorted(symbols))
                self.findings.broken(rule, f"{session}: {len(symbols):,} bars {what}: {told}", remedy(told))
        else:
            for symbol, sessions in sorted(by_symbol.items()):
                told = shown(sorted(sessions))
                self.findings.broken(rule, f"{symbol}: {len(sessions):,} bars {what}: {told}", remedy(symbol))


class _Keyed:
    """Bars as pairs of a key (symbol code, day) and a hash: 16 bytes each."""

    def __init__(self, codes: SymbolCodes) -> None:
        self._codes = codes
        self._keys: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
        self._hashes: list[npt.NDArray[np.uint64]] = [np.empty(0, np.uint64)]

    def add(self, bars: pa.Table) -> None:
        if bars.num_rows:
            codes = self._codes.of(bars["symbol"])
            self._keys.append((codes << 32) + (day_numbers(bars["date"]).astype(np.int64) + _DAY_ZERO))
            self._hashes.append(row_hashes(bars, self._codes.hashes(codes)))

    def against(self, other: _Keyed) -> tuple[list[int], list[int], list[int]]:
        """Return the keys that only this side has, those whose hashes differ, and those that only the other side has."""
        mine, theirs = np.concatenate(self._keys), np.concatenate(other._keys)
        both, here, there = np.intersect1d(mine, theirs, assume_unique=True, return_indices=True)
        differs = np.concatenate(self._hashes)[here] != np.concatenate(other._hashes)[there]
        alone = [np.setdiff1d(*sides, assume_unique=True) for sides in ((mine, theirs), (theirs, mine))]
        return alone[0].tolist(), both[differs].tolist(), alone[1].tolist()


def _symbol_and_day(key: int) -> tuple[int, date]:
    return key >> 32, day_of((key & 0xFFFFFFFF) - _DAY_ZERO)


def _rebuilt(symbol: str) -> str:
    return f"move the files of {symbol} out of the lake and run {_FORCE}, which rebuilds them from landing"

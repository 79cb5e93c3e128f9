"""Which bars of some sessions bronze does not hold as landing has them, and how they are brought back."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from condvest.domain.bars import DAILY_SCHEMA, changed_history, merge_history
from condvest.jobs.bronze import SymbolFiles, blocks, list_bronze
from condvest.jobs.contents import SymbolContent, read_contents
from condvest.jobs.findings import shown
from condvest.jobs.progress import Progress
from condvest.jobs.transpose import Transposition
from condvest.jobs.write_bars import is_merged_at_once, merge_parts, write_bars, write_daily
from condvest.storage import layout
from condvest.storage.landing import fold, read_index
from condvest.storage.manifest import read_manifest
from condvest.storage.parquet import concat
from condvest.storage.store import Store

#: Up to so many sessions come as `date=` files, as a fetch brings them.
_DAILY_SESSIONS: Final = 20


@dataclass(slots=True)
class Restore:
    """One restoration of bronze: `left` says what was not done, with the remedy."""

    store: Store
    sessions: Sequence[date]
    now: datetime
    left: list[str] = field(default_factory=list)
    _damaged: list[pa.Table] = field(default_factory=list)
    _rewritten: int = 0
    _symbols: list[str] = field(default_factory=list)
    _not_begun: dict[str, str] | None = None

    def run(self, landed: Transposition, progress: Progress) -> int:
        """Write what bronze lacks and return how many bars that were; `date=` files that cannot be read are written anew."""
        self._symbols, rows = landed.symbols, 0
        if self._is_bulk:
            unmerged, rows = merge_parts(self.store, self._lacking(landed, progress), self._symbols, may_begin=True)
        else:
            bars = concat([part for _, part in self._lacking(landed, progress)], DAILY_SCHEMA)
            unmerged = write_bars(self.store, bars, now=self.now, may_begin=True) if bars.num_rows else []
            rows = int(bars.num_rows)
        self.left += unmerged
        if self._damaged:
            write_daily(self.store, concat(self._damaged, DAILY_SCHEMA))
        return rows + self._rewritten

    @property
    def _is_bulk(self) -> bool:
        return len(self.sessions) > _DAILY_SESSIONS

    def _lacking(self, landed: Transposition, progress: Progress) -> Iterator[tuple[str, pa.Table]]:
        """Yield each symbol's bars that bronze does not hold; bronze is read once, 256 symbols at a time."""
        listed = {files.symbol: files for files in list_bronze(self.store, self._symbols)}
        wanted, total, done = set(self.sessions), len(self._symbols), 0
        for block in blocks(landed.histories()):
            files = [_in_sessions(listed.get(symbol, SymbolFiles(symbol, None, ())), wanted) for symbol, _ in block]
            for (symbol, bars), content in zip(block, read_contents(self.store, files), strict=True):
                lacking = self._of_symbol(bars, content)
                if lacking.num_rows:
                    yield symbol, lacking
            done += len(block)
            progress("replay symbols", done, total)

    def _of_symbol(self, bars: pa.Table, content: SymbolContent) -> pa.Table:
        """Return the bars to write of one symbol: none where it needs a `data.parquet` that may not be begun."""
        dates = bars["date"].combine_chunks()
        held = content.bars()
        before = held.filter(pc.is_in(held["date"], value_set=dates))
        after = merge_history([before, bars])
        overruled = changed_history(after, bars)
        if overruled.num_rows:
            self.left.append(_told_otherwise(content.symbol, overruled["date"].to_pylist()))
        lacking = changed_history(before, after)
        why = self._why_not(content) if self._needs_data(lacking) else None
        if why is not None:
            again = f"`condvest consolidate --force-full --symbols {content.symbol}`"
            self.left.append(f"{why}; run {again}, which rebuilds it from landing")
            return lacking.slice(0, 0)
        self._note_damaged(bars, content, set(lacking["date"].to_pylist()))
        return lacking

    def _note_damaged(self, bars: pa.Table, content: SymbolContent, lacking: Collection[date]) -> None:
        """Take the bars whose `date=` file cannot be read and is not written anyway."""
        readable = {file.session for file, _ in content.daily}
        damaged = {file.session for file in content.files.daily} - readable
        again = bars.filter(
            pc.is_in(
                bars["date"],
                value_set=pa.array(sorted(damaged if self._is_bulk else damaged.difference(lacking)), pa.date32()),
            )
        )
        if again.num_rows:
            self._damaged.append(again)
            self._rewritten += sum(day not in lacking for day in again["date"].to_pylist())

    def _needs_data(self, lacking: pa.Table) -> bool:
        return (self._is_bulk and lacking.num_rows > 0) or any(
            is_merged_at_once(day, self.now) for day in lacking["date"].to_pylist()
        )

    def _why_not(self, content: SymbolContent) -> str | None:
        if not content.is_known:
            data = layout.data_key(content.symbol)
            problem = next(problem for problem in content.problems if problem.startswith(data))
            return problem.partition(";")[0]
        if content.files.data_etag is not None:
            return None
        if self._not_begun is None:  # only who needs it pays for it
            self._not_begun = _not_begun(self.store, self.sessions, self._symbols)
        return self._not_begun.get(content.symbol)


def _not_begun(store: Store, sessions: Sequence[date], symbols: Sequence[str]) -> dict[str, str]:
    """Return the symbols without a `data.parquet` whose history is more than these sessions, and how that is known.

    Begun from these sessions it would be taken for the whole history. Known it is from the manifest, or, where that is lost
    too, from what else landed, which is read until every symbol is found.
    """
    listed = list_bronze(store, symbols)
    absent = set(symbols) - {files.symbol for files in listed if files.data_etag is not None}
    if not absent:
        return {}
    manifest = read_manifest(store)
    known = {symbol: manifest[symbol] for symbol in absent if symbol in manifest}
    found = {
        symbol: f"{layout.data_key(symbol)}: is gone, though it held {entry.row_count:,} bars up to"
        f" {entry.last_consolidated_date}"
        for symbol, entry in known.items()
    }
    for symbol, session in _landed_elsewhere(store, sessions, absent - known.keys()):
        found[symbol] = f"{layout.data_key(symbol)}: is not there, though bars of it landed, as on {session}"
    return found


def _landed_elsewhere(store: Store, sessions: Sequence[date], symbols: Collection[str]) -> Iterator[tuple[str, date]]:
    """Yield the symbols of which bars landed in other sessions, with one of those."""
    left, index = set(symbols), read_index(store)
    for _, key in index.ranges if left else ():
        outside = [day for day in (key.first, key.last) if day is not None and not sessions[0] <= day <= sessions[-1]]
        if key.symbol in left and outside:
            left.remove(key.symbol)
            yield key.symbol, outside[0]
    others = sorted(index.answers.keys() - set(sessions))
    for folded in fold(store, others, index, left) if left else ():
        for symbol in left.intersection(folded.bars["symbol"].to_pylist()):
            left.remove(symbol)
            yield symbol, folded.session
        if not left:
            return


def _in_sessions(files: SymbolFiles, sessions: Collection[date]) -> SymbolFiles:
    return replace(files, daily=tuple(file for file in files.daily if file.session in sessions))


def _told_otherwise(symbol: str, days: Sequence[date]) -> str:
    return (
        f"{symbol}: {len(days):,} bars in bronze are not as landed, and not earlier: {shown(days)}; restore the answer that"
        f" brought them to bronze/landing/ from a copy; if there was none, move the files of {symbol} out of the lake and run"
        " `condvest consolidate --force-full`"
    )

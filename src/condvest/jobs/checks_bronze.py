"""Checks of bronze: each file is sound, each bar keeps the rules, and no price jumps as a split does without one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from condvest.domain.actions import EVIDENCE_DAYS, Split, Verdict, judge_splits
from condvest.domain.bars import broken_rules
from condvest.domain.resample import day_numbers, floats
from condvest.jobs.checksums import Flags, SessionGrid, day_of
from condvest.jobs.contents import SymbolContent
from condvest.jobs.findings import Findings, shown
from condvest.storage import layout

#: From this ratio on (or its inverse) an open against the close before looks like a split.
_JUMP: Final = 1.8
_FAR: Final = date(9999, 12, 31)


@dataclass(frozen=True, slots=True)
class SymbolBars:
    """The winning bars of one symbol as arrays: days since 1970-01-01, ascending, and raw prices."""

    symbol: str
    days: npt.NDArray[np.int32]
    open: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    close: npt.NDArray[np.float64]


@dataclass(slots=True)
class BronzeCheck:
    """Checks the content of one symbol after the other and remembers, by symbol, what the checks of the ledger need.

    `last`: the last session with a bar; `last_done`: the last one that is also done by the ledger. `unreadable`: the symbols
    whose `data.parquet` cannot be used. `pending_rows` of `pending_symbols` are in `date=` files alone.
    """

    findings: Findings
    grid: SessionGrid
    done: Flags
    splits: Mapping[str, list[Split]]
    last: dict[str, date] = field(default_factory=dict)
    last_done: dict[str, date] = field(default_factory=dict)
    unreadable: set[str] = field(default_factory=set)
    pending_rows: int = 0
    pending_symbols: int = 0

    def take(self, content: SymbolContent) -> pa.Table | None:
        """Check one symbol; return its winning bars, or None where they are not known."""
        self.findings.counts["symbols"] += 1
        self.findings.counts["data_files"] += content.data is not None
        self.findings.counts["date_files"] += len(content.files.daily)
        for problem in content.problems:
            self.findings.broken("bronze_file", problem.partition(";")[0], _restored(problem))
        if not content.is_known:
            self.unreadable.add(content.symbol)
            return None
        if not content.is_as_written:
            what = f"{layout.data_key(content.symbol)}: bytes beside its rows are damaged (statistics or metadata)"
            self.findings.broken("bronze_file", what, _rebuild(content.symbol))
        bars = content.bars()
        if bars.num_rows == 0:
            return None
        self.findings.counts["daily_bars"] += bars.num_rows
        self._check_rules(content)
        self._check_bars(content.symbol, bars)
        return bars

    def _check_rules(self, content: SymbolContent) -> None:
        tables = [*([content.data] if content.data is not None else []), *(row for _, row in content.daily)]
        rows = pa.concat_tables(tables)
        for rule, mask in broken_rules(rows).items():
            if pc.any(mask).as_py():
                days = sorted(set(rows["date"].filter(mask).to_pylist()))
                what = f"{content.symbol} {shown(days)}: breaks the rule {rule}"
                self.findings.broken("bar_rule", what, _rebuild(content.symbol))
        known = self.grid.find(day_numbers(rows["date"]))[1]
        if not known.all():
            days = sorted(set(rows["date"].filter(pa.array(~known)).to_pylist()))
            what = f"{content.symbol} {shown(days)}: a bar on a day without a session"
            self.findings.broken("bar_session", what, _rebuild(content.symbol))

    def _check_bars(self, symbol: str, table: pa.Table) -> None:
        bars = SymbolBars(
            symbol, day_numbers(table["date"]), *(floats(table[name]) for name in ("open", "high", "low", "close"))
        )
        places, known = self.grid.find(bars.days)
        done = bars.days[known & self.done[places]]
        self.last[symbol] = day_of(int(bars.days[-1]))
        if len(done):
            self.last_done[symbol] = day_of(int(done[-1]))
        outside = (np.minimum(bars.open, bars.close) < bars.low) | (np.maximum(bars.open, bars.close) > bars.high)
        outside &= bars.high >= bars.low
        if outside.any():
            days = [day_of(day) for day in bars.days[outside].tolist()]
            self.findings.notice(
                "bar_range",
                f"{symbol} {shown(days)}: open or close outside low and high",
                "none: the provider gives it so",
            )
        self._check_splits(bars)

    def _check_splits(self, bars: SymbolBars) -> None:
        splits = self.splits.get(bars.symbol, [])
        if (bars.open > 0).all() and (bars.close > 0).all():  # else a rule is broken, and a jump means nothing
            verdicts = judge_splits(splits, bars.days.data, bars.open.data, bars.close.data, through=_FAR)
            _check_verdicts(self.findings, bars, verdicts)
            _check_jumps(self.findings, bars, splits)


def _check_verdicts(findings: Findings, bars: SymbolBars, verdicts: Sequence[Verdict]) -> None:
    by_date: dict[date, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        by_date[verdict.split.execution_date].append(verdict)
    for day, judged in by_date.items():
        ratios = {verdict.split.price_factor for verdict in judged}
        told = f"{bars.symbol} {day}: {_told(judged)}"
        if len(ratios) == 1 and any(verdict.applied for verdict in judged):
            if len(judged) > 1:
                findings.notice("split_twice", f"{told} stands {len(judged)} times in the ledger, counted once", "none")
            continue
        reason = "two different splits on one date" if len(ratios) > 1 else "the price does not bear it out"
        findings.broken(
            "split_jump",
            f"{told}: {reason}; {_jump_told(bars, day)}",
            "compare with the exchange's notice; the provider's ledger is read again by `condvest fetch meta`",
        )


def _told(judged: Sequence[Verdict]) -> str:
    texts: dict[float, str] = {}
    for verdict in judged:
        split = verdict.split
        texts.setdefault(split.price_factor, f"{split.split_to:g}-for-{split.split_from:g}")
    if len(texts) == 1:
        return f"split {next(iter(texts.values()))}"
    applied = next((texts[verdict.split.price_factor] for verdict in judged if verdict.applied), "none")
    return f"splits {' and '.join(texts.values())}, {applied} is applied"


def _jump_told(bars: SymbolBars, day: date) -> str:
    at = int(np.searchsorted(bars.days, np.int32((day - day_of(0)).days)))
    if at == 0 or at == len(bars.days) or day_of(int(bars.days[at])) != day:
        return "no price of that day to tell"
    return f"the close before was {bars.close[at - 1]:g}, the open {bars.open[at]:g}"


def _check_jumps(findings: Findings, bars: SymbolBars, splits: Sequence[Split]) -> None:
    """A notice, not a broken rule: prices do fall by half in a night, and small ones double."""
    ratios = bars.open[1:] / bars.close[:-1]
    near = np.diff(bars.days) <= EVIDENCE_DAYS
    known = {(split.execution_date - day_of(0)).days for split in splits}
    for at in np.flatnonzero(near & ((ratios >= _JUMP) | (ratios <= 1 / _JUMP))).tolist():
        if int(bars.days[at + 1]) not in known:
            day = day_of(int(bars.days[at + 1]))
            findings.notice(
                "price_jump",
                f"{bars.symbol} {day}: {_jump_told(bars, day)}, and no split is known",
                "none if it fell or rose so; for a missing split run `condvest fetch meta`",
            )


def _restored(problem: str) -> str:
    """Return how the file that a problem begins with comes back."""
    found = layout.parse_bronze_key(problem.partition(":")[0])
    if found is not None and found.session is not None:
        return f"run `condvest replay --from {found.session} --to {found.session}`, which writes it from landing"
    symbols = f" --symbols {found.symbol}" if found is not None else ""
    return (
        f"restore it from a copy, or run `condvest consolidate --force-full{symbols}`, which rebuilds it from landing"
    )


def _rebuild(symbol: str) -> str:
    return f"move the files of {symbol} out of the lake and run `condvest consolidate --force-full`, which rebuilds from landing"

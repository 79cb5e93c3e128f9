"""What a lake holds when a trial is over, as plain values that can be held against those of a clean run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date
from typing import Any

from condvest.domain.ledger import LedgerRow
from condvest.storage import layout
from faults.site import Site
from property.lake_view import LakeView, rows_of
from property.oracle import History


@dataclass(frozen=True)
class Outcome:
    """Everything that a lake promises. Caches and records are not in it: `verify` looks at those.

    `bars`: the winning bar of each symbol and session, wherever it lies; `consolidated`: those of `data.parquet` alone.
    """

    bars: Mapping[str, History]
    consolidated: Mapping[str, History]
    silver: Mapping[str, bytes]
    actions: Mapping[str, Any]
    landed: Mapping[str, bytes]
    ledger: tuple[LedgerRow, ...]
    watermarks: Mapping[str, date]

    @property
    def rows(self) -> int:
        """How many rows a comparison looks at: daily bars, period bars, sessions and watermarks."""
        periods = sum(len(rows_of(data)) for data in self.silver.values())
        return sum(map(len, self.bars.values())) + periods + len(self.ledger) + len(self.watermarks)


def outcome_of(site: Site) -> Outcome:
    """Read a lake whole; a file of bars that cannot be read holds none."""
    view = LakeView(site.store, unreadable_is_empty=True)
    return Outcome(
        bars={symbol: bars for symbol, bars in view.bronze().items() if bars},
        consolidated=view.consolidated(),
        silver=view.bodies((layout.SILVER,)),
        actions={key: rows_of(data) for key, data in view.bodies((layout.CORPORATE_ACTIONS,)).items()},
        landed=view.bodies((layout.LANDING,)),
        ledger=tuple(site.state.sessions()),
        watermarks=site.state.symbol_watermarks(),
    )


def held(site: Site) -> dict[str, History]:
    """Return the winning bars that a lake holds now; a file that cannot be read holds none."""
    return LakeView(site.store, unreadable_is_empty=True).bronze()


def lost(before: Mapping[str, History], after: Mapping[str, History]) -> list[str]:
    """Return the bars that were there and are not, nor a later value of them (rule 2)."""
    return [
        f"{symbol} {day}"
        for symbol, history in before.items()
        for day, bar in history.items()
        if (have := after.get(symbol, {}).get(day)) is None or (have != bar and have.seen <= bar.seen)
    ]


def different(found: Outcome, clean: Outcome) -> list[str]:
    """Return in what two lakes differ, a line each; nothing where they are equal."""
    lines = []
    for field in fields(Outcome):
        have, want = getattr(found, field.name), getattr(clean, field.name)
        if have != want:
            lines.append(f"{field.name}: {_first_difference(have, want)}")
    return lines


def _first_difference(have: Any, want: Any) -> str:
    if isinstance(want, Mapping):
        for key in sorted(have.keys() | want.keys()):
            if have.get(key) != want.get(key):
                return f"{key}: {_first_difference(have.get(key), want.get(key))}"
    if isinstance(want, tuple) and isinstance(have, tuple) and len(have) == len(want):
        pairs = [pair for pair in zip(have, want, strict=True) if pair[0] != pair[1]]
        return f"{pairs[0][0]} in place of {pairs[0][1]}" if pairs else "equal"
    return f"{_short(have)} in place of {_short(want)}"


def _short(value: object) -> str:
    text = f"{len(value)} bytes" if isinstance(value, bytes) else repr(value)
    return text if len(text) < 200 else f"{text[:200]}…"

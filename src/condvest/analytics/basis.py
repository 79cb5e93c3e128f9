"""The corporate actions of a lake by symbol, and which of them apply to the bars that are read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import date, datetime
from functools import cached_property
from typing import TypeVar

import pyarrow as pa

from condvest.domain.actions import Dividend, Split, applied_splits, judge_splits, known_at
from condvest.domain.resample import day_numbers, floats
from condvest.storage.actions import read_dividends, read_splits
from condvest.storage.store import Store

Action = TypeVar("Action", Split, Dividend)


class CorporateActions:
    """Splits and dividends as they lay in the lake when first asked for; each is one object, read once."""

    def __init__(self, store: Store) -> None:
        """Read nothing yet."""
        self._store = store

    @cached_property
    def _splits(self) -> dict[str, list[Split]]:
        return _by_symbol(read_splits(self._store))

    @cached_property
    def _dividends(self) -> dict[str, list[Dividend]]:
        return _by_symbol(read_dividends(self._store))

    def splits(self, symbol: str, bars: pa.Table, *, through: date, as_of: datetime | None) -> list[Split]:
        """Return the splits executed up to `through` and known at `as_of` that the symbol's raw daily bars bear out."""
        known = known_at(self._splits.get(symbol, ()), as_of)
        if not known:
            return []
        splits = [action for action in known if isinstance(action, Split)]
        days, opens, closes = day_numbers(bars["date"]), floats(bars["open"]), floats(bars["close"])
        # memoryviews: few of their items are looked at, and each is a plain number.
        return applied_splits(judge_splits(splits, days.data, opens.data, closes.data, through=through))

    def dividends(self, symbol: str, *, through: date, as_of: datetime | None) -> list[Dividend]:
        """Return the dividends that went ex up to `through`, known at `as_of`, in the currency of the prices (USD)."""
        return [
            action
            for action in known_at(self._dividends.get(symbol, ()), as_of)
            if isinstance(action, Dividend)
            and action.ex_dividend_date <= through
            and (action.currency or "USD").upper() == "USD"
        ]


def _by_symbol(actions: Iterable[Action]) -> dict[str, list[Action]]:
    of_symbol: dict[str, list[Action]] = defaultdict(list)
    for action in actions:
        of_symbol[action.symbol].append(action)
    return dict(of_symbol)

"""The corporate actions of a lake by symbol, and which of them apply to the bars that are read."""

from __future__ import annotations

from datetime import date, datetime
from functools import cached_property
from itertools import pairwise
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from condvest.domain.actions import Dividend, Split, applied_splits, judge_splits, known_at
from condvest.domain.resample import day_numbers, floats
from condvest.storage.actions import actions_in, dividend_table, split_table
from condvest.storage.store import Store

Action = TypeVar("Action", Split, Dividend)


class CorporateActions:
    """Splits and dividends as they lay in the lake when first asked for; each is one object, read once."""

    def __init__(self, store: Store) -> None:
        """Read nothing yet."""
        self._store = store

    @cached_property
    def _splits(self) -> _BySymbol[Split]:
        return _BySymbol(split_table(self._store), Split)

    @cached_property
    def _dividends(self) -> _BySymbol[Dividend]:
        return _BySymbol(dividend_table(self._store), Dividend)

    def splits(self, symbol: str, bars: pa.Table, *, through: date, as_of: datetime | None) -> list[Split]:
        """Return the splits executed up to `through` and known at `as_of` that the symbol's raw daily bars bear out."""
        splits = known_at(self._splits.of(symbol), as_of)
        if not splits:
            return []
        days, opens, closes = day_numbers(bars["date"]), floats(bars["open"]), floats(bars["close"])
        # memoryviews: few of their items are looked at, and each is a plain number.
        return applied_splits(judge_splits(splits, days.data, opens.data, closes.data, through=through))

    def dividends(self, symbol: str, *, through: date, as_of: datetime | None) -> list[Dividend]:
        """Return the dividends that went ex up to `through`, known at `as_of`, in the currency of the prices (USD)."""
        return [
            action
            for action in known_at(self._dividends.of(symbol), as_of)
            if action.ex_dividend_date <= through and (action.currency or "USD").upper() == "USD"
        ]


class _BySymbol(Generic[Action]):
    """A ledger of actions, of which those of a symbol are made when they are asked for: a market has hundreds of thousands."""

    def __init__(self, ledger: pa.Table, kind: type[Action]) -> None:
        """Find the rows of each symbol."""
        symbols = ledger["symbol"].combine_chunks().dictionary_encode()
        names: list[str] = symbols.dictionary.to_pylist()
        codes: npt.NDArray[np.int32] = symbols.indices.to_numpy()
        bounds: list[int] = np.cumsum([0, *np.bincount(codes, minlength=len(names))]).tolist()
        self._kind: type[Action] = kind
        self._rows = ledger.take(pa.array(np.argsort(codes, kind="stable")))
        self._spans = dict(zip(names, pairwise(bounds), strict=True))
        self._made: dict[str, list[Action]] = {}

    def of(self, symbol: str) -> list[Action]:
        """Return the actions of one symbol, in the order of the ledger."""
        if symbol not in self._spans:
            return []
        if symbol not in self._made:
            begin, stop = self._spans[symbol]
            self._made[symbol] = actions_in(self._rows.slice(begin, stop - begin), self._kind)
        return self._made[symbol]

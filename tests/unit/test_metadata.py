"""The provider's rows about symbols and corporate actions: what cannot be kept is told apart, not put right."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from condvest.domain.metadata import details_of, dividend_of, parse_rows, split_of, symbol_of

_NOW = datetime(2025, 11, 20, tzinfo=UTC)
_SPLIT = {"ticker": "AAPL", "execution_date": "2020-08-31", "split_from": 1, "split_to": 4}
_DIVIDEND = {"ticker": "AAPL", "ex_dividend_date": "2024-02-09", "cash_amount": 0.24}


@pytest.mark.parametrize(
    ("parse", "row", "reason"),
    [
        (partial(split_of, seen=_NOW), {**_SPLIT, "split_to": 10**400}, "must be a number above 0"),
        (partial(split_of, seen=_NOW), {**_SPLIT, "split_from": 1e20, "split_to": 1e-20}, "beyond any split"),
        (partial(split_of, seen=_NOW), {**_SPLIT, "adjustment_type": "\ud83d"}, "no text that can be kept"),
        (partial(split_of, seen=_NOW), {**_SPLIT, "adjustment_type": ["x"]}, "must be a text"),
        (partial(dividend_of, seen=_NOW), {**_DIVIDEND, "currency": {}}, "must be a text"),
        (symbol_of, {"ticker": "AAPL", "active": "false"}, "must be true or false"),
        (symbol_of, {"ticker": "AAPL", "active": None}, "must be true or false"),
        (symbol_of, {"ticker": "AAPL", "name": "A\0B"}, "no text that can be kept"),
        (symbol_of, {"ticker": "AAPL", "delisted_utc": "0001-01-01T00:00:00+05:00"}, "out of range"),
        (partial(details_of, now=_NOW), {"ticker": "AAPL", "market_cap": 10**400}, "too large"),
        (partial(details_of, now=_NOW), {"ticker": "AAPL", "market_cap": True}, "must be a number"),
    ],
)
def test_what_no_table_can_hold_is_told_apart(parse: Any, row: dict[str, Any], reason: str) -> None:
    """Such a row ends neither the fetch nor in the lake; the line about it says why."""
    good, (line,) = parse_rows([row], parse)
    assert good == []
    assert reason in line

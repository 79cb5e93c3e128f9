"""The provider's rows about symbols and corporate actions, read: a row of the wrong shape is told apart, not guessed at."""

from __future__ import annotations

import math
import reprlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any, Final, Literal, TypeAlias, TypeVar

from condvest.domain.actions import MOST_RATIO, Dividend, Split
from condvest.domain.bars import MOST_VALUE
from condvest.domain.records import SymbolRow
from condvest.domain.symbols import is_valid_symbol
from condvest.errors import ConfigError

Row = Mapping[str, Any]
#: The provider's listings that come in pages.
Listing: TypeAlias = Literal["listed", "delisted", "splits", "dividends"]
#: What can be asked for beside the details of single symbols.
ListingName: TypeAlias = Literal["tickers", "splits", "dividends", "closures"]
#: The same, in the order in which it is asked for.
LISTINGS: Final[tuple[ListingName, ...]] = ("tickers", "splits", "dividends", "closures")
#: Where the next page of a listing is: a path and its query, without any key.
Following: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
Action = TypeVar("Action", Split, Dividend)
Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True)
class ListingPage:
    """One page of a listing; `following` None: it is the last."""

    rows: Sequence[Row]
    following: Following | None


def parse_rows(rows: Iterable[Row], parse: Callable[[Row], Parsed]) -> tuple[list[Parsed], list[str]]:
    """Parse each row; return what was read, and for each row that cannot be read one line that says why."""
    good, bad = [], []
    for row in rows:
        try:
            good.append(parse(row))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            bad.append(f"{repr(dict(row))[:200]}: {reason[:100]}")
    return good, bad


def symbols_unread(rows: Iterable[Row], read: Iterable[Action]) -> frozenset[str] | None:
    """Return the symbols of which a row is not among the actions that were read; None: a row does not even tell its symbol."""
    given = Counter(row.get("ticker") if isinstance(row.get("ticker"), str) else None for row in rows)
    unread = given - Counter(action.symbol for action in read)
    return frozenset(symbol for symbol in unread if symbol is not None) if None not in unread else None


def split_of(row: Row, seen: datetime) -> Split:
    """Read one split; ValueError, KeyError or TypeError for one that cannot be: ratios are above 0, up to `MOST_RATIO`."""
    old, new = _positive(row["split_from"], "split_from"), _positive(row["split_to"], "split_to")
    if not 1 / MOST_RATIO <= new / old <= MOST_RATIO:
        raise ValueError(f"split_to / split_from is {new / old!r}, beyond any split")
    kind = _text(row, "adjustment_type") or ""
    return Split(_symbol(row), date.fromisoformat(row["execution_date"]), old, new, kind, seen)


def dividend_of(row: Row, seen: datetime) -> Dividend:
    """Read one cash dividend; ValueError, KeyError or TypeError for one that cannot be: the amount must be above 0."""
    amount = _positive(row["cash_amount"], "cash_amount")
    texts = _text(row, "currency") or "USD", _text(row, "distribution_type") or ""
    return Dividend(_symbol(row), date.fromisoformat(row["ex_dividend_date"]), amount, *texts, seen)


def symbol_of(row: Row) -> SymbolRow:
    """Read one row of the list of tickers; ValueError, KeyError or TypeError for one that cannot be."""
    active = row.get("active", True)
    if not isinstance(active, bool):
        raise ValueError(f"active is {reprlib.repr(active)}, must be true or false")
    return SymbolRow(
        symbol=_symbol(row),
        name=_text(row, "name"),
        active=active,
        type=_text(row, "type"),
        market=_text(row, "market"),
        primary_exchange=_text(row, "primary_exchange"),
        currency=_text(row, "currency_name"),
        cik=_text(row, "cik"),
        composite_figi=_text(row, "composite_figi"),
        share_class_figi=_text(row, "share_class_figi"),
        delisted_at=_instant(row.get("delisted_utc")),
    )


def details_of(row: Row, now: datetime) -> SymbolRow:
    """Read the details of one ticker, asked for at `now`; a row with the ticker alone, where there are none, counts as asked."""
    listed = row.get("list_date")
    cap = row.get("market_cap")
    if isinstance(cap, bool) or not isinstance(cap, int | float | None):
        raise ValueError(f"market_cap is {reprlib.repr(cap)}, must be a number")
    return SymbolRow(
        symbol=_symbol(row),
        list_date=date.fromisoformat(listed) if listed else None,
        sic_code=_text(row, "sic_code"),
        sic_description=_text(row, "sic_description"),
        market_cap=float(cap) if cap is not None and math.isfinite(cap) else None,
        details_at=now,
    )


def closures_of(rows: Iterable[Row], is_session: Callable[[date], bool]) -> list[date]:
    """Return the days on which NYSE announces to be closed though a session is scheduled, ascending.

    ValueError: a date is none, or outside the calendar.
    """
    days = set()
    for row in rows:
        if row.get("exchange") == "NYSE" and row.get("status") == "closed":
            day = date.fromisoformat(str(row.get("date")))
            try:
                if is_session(day):
                    days.add(day)
            except ConfigError as error:  # of the provider's date, not of a setting
                raise ValueError(str(error)) from None
    return sorted(days)


def merge_actions(
    known: Sequence[Action], given: Iterable[Action], now: datetime, *, unread: Collection[str] | None = ()
) -> list[Action]:
    """Return the ledger of actions after a listing: new ones join, those no longer given are withdrawn at `now`.

    An action keeps its `first_seen`. One that is given again after it was withdrawn joins as a new one. Of the symbols
    `unread` (None: of any) the listing has rows that cannot be read: none of theirs is withdrawn, it may stand there.
    """
    listed = {_identity(action): action for action in given}
    merged, current = [], set()
    for action in known:
        is_open = action.withdrawn_at is None
        if is_open and _identity(action) not in listed:
            if unread is not None and action.symbol not in unread:
                action = replace(action, withdrawn_at=now)
        elif is_open:
            current.add(_identity(action))
        merged.append(action)
    return merged + [action for identity, action in listed.items() if identity not in current]


def _identity(action: Split | Dividend) -> tuple[object, ...]:
    if isinstance(action, Split):
        return (action.symbol, action.execution_date, action.split_from, action.split_to, action.adjustment_type)
    return (action.symbol, action.ex_dividend_date, action.cash_amount, action.currency, action.distribution_type)


def _symbol(row: Row) -> str:
    symbol = row["ticker"]
    if not isinstance(symbol, str) or not is_valid_symbol(symbol):
        raise ValueError(f"the symbol {reprlib.repr(symbol)} is impossible")
    return symbol


def _positive(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MOST_VALUE:
        raise ValueError(f"{name} is {reprlib.repr(value)}, must be a number above 0, up to {MOST_VALUE:g}")
    return float(value)


def _text(row: Row, name: str) -> str | None:
    """Return a text, None where there is none; ValueError for what no table can hold as text, or is none."""
    value = row.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{name} is {reprlib.repr(value)}, must be a text")
    text = str(value)
    # JSON may name half of a surrogate pair, which UTF-8 cannot hold, and NUL, which PostgreSQL does not take.
    if any(sign == "\0" or "\ud800" <= sign <= "\udfff" for sign in text):
        raise ValueError(f"{name} is {reprlib.repr(value)}, which is no text that can be kept")
    return text


def _instant(value: object) -> datetime | None:
    if not value:
        return None
    instant = datetime.fromisoformat(str(value))
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)

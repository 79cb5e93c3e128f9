"""What bars are asked for, and how one symbol's daily bars become them. Pure."""

from __future__ import annotations

import re
import reprlib
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from condvest.domain.actions import EPOCH, Split
from condvest.domain.adjust import ADJUSTMENTS, Adjustment
from condvest.domain.resample import PERIOD_SCHEMA, SessionTable, daily_block, period_columns, resample
from condvest.errors import ConfigError

Anchor = Literal["calendar", "listing"]
ANCHORS: Final = get_args(Anchor)
_INTERVAL: Final = re.compile(r"([1-9][0-9]{0,4})d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which bars are asked for: sessions a bar, adjusted how, as known when (aware; None: now), groups counted from where."""

    sessions: int = 1
    adjusted: Adjustment = "none"
    as_of: datetime | None = None
    anchor: Anchor = "calendar"

    def __post_init__(self) -> None:
        """Refuse with ConfigError what cannot be answered."""
        if self.adjusted not in ADJUSTMENTS:
            raise ConfigError(
                f"adjusted {reprlib.repr(self.adjusted)} is unknown; give one of {', '.join(ADJUSTMENTS)}"
            )
        if self.anchor not in ANCHORS:
            raise ConfigError(f"anchor {reprlib.repr(self.anchor)} is unknown; give one of {', '.join(ANCHORS)}")
        if self.as_of is not None and not isinstance(self.as_of, datetime):
            raise ConfigError(f"as_of {reprlib.repr(self.as_of)} is no instant; give an aware datetime, in UTC")
        # pandas' NaT is a datetime without a zone, and knows no offset.
        if self.as_of is not None and (self.as_of.tzinfo is None or self.as_of.utcoffset() is None):
            raise ConfigError(f"as_of {self.as_of.isoformat()} has no time zone; give an aware instant, in UTC")


def parse_interval(text: str) -> int:
    """Return the sessions of an interval such as `13d`: 1 to 99999. ConfigError for another text."""
    found = _INTERVAL.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ConfigError(
            f"interval {reprlib.repr(text)} is not possible: it is a number of sessions from 1 to 99999 and a d, such as"
            " 1d or 13d"
        )
    return int(found[1])


def check_day(name: str, day: object) -> None:
    """Refuse with ConfigError what is no plain date: a datetime has a time and a zone, which nobody meant."""
    if type(day) is not date:
        raise ConfigError(f"{name} {reprlib.repr(day)} is no date; give a datetime.date such as date(2025, 11, 19)")


def check_bounds(first: date | None, last: date | None) -> None:
    """Refuse with ConfigError bounds that are no plain dates, or that are the wrong way round."""
    for name, bound in (("first", first), ("last", last)):
        if bound is not None:
            check_day(name, bound)
    if first is not None and last is not None and first > last:
        raise ConfigError(f"first {first} is after last {last}; both are inclusive: exchange them")


def between(bars: pa.Table, first: date | None, last: date | None) -> pa.Table:
    """Return the bars whose `date` lies from `first` to `last`, both inclusive; None is no bound."""
    # Scalars of a given type: to infer one, pyarrow looks for pandas, which takes longer than all the rest.
    if first is not None:
        bars = bars.filter(pc.greater_equal(bars["date"], pa.scalar(first, pa.date32())))
    if last is not None:
        bars = bars.filter(pc.less_equal(bars["date"], pa.scalar(last, pa.date32())))
    return bars


def period_bars(
    bars: pa.Table, symbol: str, sessions: int, *, table: SessionTable, splits: list[Split], reach: date, anchor: Anchor
) -> pa.Table:
    """Return one symbol's period bars with `PERIOD_SCHEMA`, ascending, from all its daily bars (one at least).

    `splits` that execute inside a group are applied to it. A bar is complete when its group ends on or before `reach`.
    """
    block = daily_block(bars, np.zeros(bars.num_rows, np.int32), table)
    origin = np.full(len(block), block.ordinals[0]) if anchor == "listing" else None
    found = resample(block, sessions, table, [(0, split) for split in splits], origin=origin)
    symbols = pa.repeat(pa.scalar(symbol, pa.string()), len(found["date"]))
    columns = period_columns(found, (reach - EPOCH).days)
    return pa.Table.from_arrays([symbols, *columns.values()], schema=PERIOD_SCHEMA)

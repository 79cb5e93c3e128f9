"""Corporate actions: splits and cash dividends, when each was first seen, and which splits the prices bear out."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, TypeVar

import pyarrow as pa

from condvest.domain.bars import UTC_MICROSECONDS

SPLITS_SCHEMA: Final = pa.schema(
    [
        ("symbol", pa.string()),
        ("execution_date", pa.date32()),
        ("split_from", pa.float64()),
        ("split_to", pa.float64()),
        ("adjustment_type", pa.string()),
        ("first_seen", UTC_MICROSECONDS),
        ("withdrawn_at", UTC_MICROSECONDS),
    ]
)
DIVIDENDS_SCHEMA: Final = pa.schema(
    [
        ("symbol", pa.string()),
        ("ex_dividend_date", pa.date32()),
        ("cash_amount", pa.float64()),
        ("currency", pa.string()),
        ("distribution_type", pa.string()),
        ("first_seen", UTC_MICROSECONDS),
        ("withdrawn_at", UTC_MICROSECONDS),
    ]
)

EPOCH: Final = date(1970, 1, 1)

#: No split takes a share apart further, or joins more.
MOST_RATIO: Final = 1e9
#: A close older than this many days says nothing about a jump at the split.
EVIDENCE_DAYS: Final = 15
#: Smallest difference of logarithms (about 28 %) by which a jump can contradict a split: ordinary days move by less.
_LEAST_CONTRADICTION: Final = 0.25


@dataclass(frozen=True, slots=True)
class Split:
    """One split: `split_from` shares become `split_to` before the open of `execution_date` (a New York date).

    `first_seen` and `withdrawn_at` are UTC instants: when this lake first saw it, and when the provider no longer gave it.
    """

    symbol: str
    execution_date: date
    split_from: float
    split_to: float
    adjustment_type: str
    first_seen: datetime
    withdrawn_at: datetime | None = None

    @property
    def price_factor(self) -> float:
        """What a price from before the split is multiplied with to be on the basis after it."""
        return self.split_from / self.split_to


@dataclass(frozen=True, slots=True)
class Dividend:
    """One cash dividend in `currency` a share, on the basis of its `ex_dividend_date` (a New York date)."""

    symbol: str
    ex_dividend_date: date
    cash_amount: float
    currency: str
    distribution_type: str
    first_seen: datetime
    withdrawn_at: datetime | None = None


Action = TypeVar("Action", Split, Dividend)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a split is applied, and why not where it is not."""

    split: Split
    applied: bool
    reason: str


def known_at(actions: Iterable[Action], as_of: datetime | None) -> list[Action]:
    """Return the actions that the lake knew at `as_of` (None: those it knows now), withdrawn ones left out."""
    if as_of is None:
        return [action for action in actions if action.withdrawn_at is None]
    return [
        action
        for action in actions
        if action.first_seen <= as_of and (action.withdrawn_at is None or action.withdrawn_at > as_of)
    ]


def judge_splits(
    splits: Iterable[Split], days: Sequence[int], opens: Sequence[float], closes: Sequence[float], *, through: date
) -> list[Verdict]:
    """Judge the splits of one symbol that executed up to `through`, by the symbol's raw daily bars.

    `days` (since 1970-01-01) ascend, one for each open and close; lists or arrays.

    The jump at a split is ln(last close before / open on its date). A split whose logarithm differs from that by more than
    half its own size, and by 0.25 at least, is contradicted and not applied. Without a bar on its date, or a close within
    15 days before, there is no evidence and it is applied. Of several on one date, equal ones count once; of different ones
    the one that the jump bears out best is applied, none without evidence. Ascending by date.
    """
    verdicts: list[Verdict] = []
    due = sorted((split for split in splits if split.execution_date <= through), key=_order)
    for day in sorted({split.execution_date for split in due}):
        verdicts += _judge_date(
            [split for split in due if split.execution_date == day], _jump(day, days, opens, closes)
        )
    return verdicts


def applied_splits(verdicts: Iterable[Verdict]) -> list[Split]:
    """Return the splits that are applied, in the order given."""
    return [verdict.split for verdict in verdicts if verdict.applied]


def _order(split: Split) -> tuple[date, float, float, str, datetime]:
    return (split.execution_date, split.split_from, split.split_to, split.adjustment_type, split.first_seen)


def _jump(day: date, days: Sequence[int], opens: Sequence[float], closes: Sequence[float]) -> float | None:
    number = (day - EPOCH).days
    at = bisect_left(days, number)
    if at == 0 or at == len(days) or days[at] != number or number - days[at - 1] > EVIDENCE_DAYS:
        return None
    before, after = closes[at - 1], opens[at]
    if not (before > 0 and after > 0 and 0 < before / after < math.inf):  # prices that break a rule are no evidence
        return None
    return math.log(before / after)


def _judge_date(splits: list[Split], jump: float | None) -> list[Verdict]:
    ratios = sorted({split.price_factor for split in splits}, key=lambda ratio: (_miss(ratio, jump), ratio))
    best = ratios[0]
    verdicts: list[Verdict] = []
    applied = False
    for split in splits:
        if split.price_factor != best:
            verdicts.append(Verdict(split, False, "another split stands on this date"))
        elif len(ratios) > 1 and jump is None:
            verdicts.append(Verdict(split, False, "several splits on this date and no price to tell them apart"))
        elif jump is not None and _contradicted(best, jump):
            verdicts.append(Verdict(split, False, f"the price jumped by {math.exp(jump):.3g}, not {1 / best:.3g}"))
        elif applied:
            verdicts.append(Verdict(split, False, "the same split stands twice on this date"))
        else:
            applied = True
            verdicts.append(Verdict(split, True, ""))
    return verdicts


def _miss(ratio: float, jump: float | None) -> float:
    return 0.0 if jump is None else abs(jump + math.log(ratio))


def _contradicted(ratio: float, jump: float) -> bool:
    return _miss(ratio, jump) > max(abs(math.log(ratio)) / 2, _LEAST_CONTRADICTION)

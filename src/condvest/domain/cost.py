"""What requests and storage cost on S3: counts times the prices of a table. Pure.

Amounts are in the table's currency. A GB is 2^30 bytes, as S3 bills it; a month has 30.4 days.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from condvest.domain.records import RunRow, Traffic
from condvest.errors import ConfigError

MONTH_DAYS: Final = 30.4
#: How far back runs are looked at, and from how few days a month is still scaled: a week has the market's whole rhythm.
WINDOW: Final = timedelta(days=31)
LEAST_DAYS: Final = 7

_GB: Final = 2**30
_TEXTS: Final = ("region", "date", "currency", "source")
_NOTE: Final = "note"
_LONGEST_TEXT: Final = 500
_HIGHEST_PRICE: Final = 1_000_000  # so that no amount is infinite


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What S3 takes in `region` as of `date`, in `currency`: requests by the thousand, bytes by the GB.

    `s3_transfer_out_gb`: for bytes that leave the bucket; nothing inside its region.
    """

    region: str
    date: date
    currency: str
    source: str
    s3_put_list_per_1000: float
    s3_get_per_1000: float
    s3_delete_per_1000: float
    s3_transfer_out_gb: float
    s3_storage_gb_month: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What some requests cost, by kind; `transfer`: the bytes that came from the bucket."""

    gets: float
    puts: float
    lists: float
    deletes: float
    transfer: float

    @property
    def total(self) -> float:
        """The sum of the parts."""
        return self.gets + self.puts + self.lists + self.deletes + self.transfer


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCost:
    """What the runs of one job asked and cost, as recorded; `month`: the price of a month of them, None: not known."""

    runs: int
    traffic: Traffic
    price: Price
    total: float
    month: float | None


def price_of(traffic: Traffic, prices: Prices) -> Price:
    """Return what S3 takes for these requests and bytes. The provider's requests cost nothing here."""
    return Price(
        gets=traffic.gets / 1000 * prices.s3_get_per_1000,
        puts=traffic.puts / 1000 * prices.s3_put_list_per_1000,
        lists=traffic.lists / 1000 * prices.s3_put_list_per_1000,
        deletes=traffic.deletes / 1000 * prices.s3_delete_per_1000,
        transfer=traffic.bytes_in / _GB * prices.s3_transfer_out_gb,
    )


def storage_price(size_bytes: int, prices: Prices) -> float:
    """Return what S3 takes a month for so many bytes."""
    return size_bytes / _GB * prices.s3_storage_gb_month


def recorded_days(first: datetime, now: datetime, *, goes_back_further: bool) -> int:
    """Return for how many of the last 31 days runs are on record: UTC dates from that of `first`, today counted.

    `first`: when the first run of these days began. `goes_back_further`: there were runs before, so all 31 are on record.
    """
    if goes_back_further:
        return WINDOW.days
    return min(WINDOW.days, (now.astimezone(UTC).date() - first.astimezone(UTC).date()).days + 1)


def month_factor(days: int) -> float | None:
    """Return by what the cost of so many days is multiplied to get that of a month; None: too few (below 7) to tell."""
    return MONTH_DAYS / days if days >= LEAST_DAYS else None


def cost_of_runs(runs: Sequence[RunRow], prices: Prices, factor: float | None) -> JobCost:
    """Return what these runs cost together, and with `factor` what a month of them does."""
    traffic = sum((run.traffic for run in runs), Traffic())
    price = price_of(traffic, prices)
    total = price.total
    return JobCost(
        runs=len(runs),
        traffic=traffic,
        price=price,
        total=total,
        month=None if factor is None else total * factor,
    )


def read_prices(table: object) -> Prices:
    """Return the prices of S3 in a table as JSON gives it, which may have other prices besides.

    Raises:
        ConfigError: the table is no object, a name is missing, a text is empty, too long or no date, or a price is no number
            from 0 to 1,000,000. Says neither where the table is from nor the remedy.
    """
    if not isinstance(table, Mapping):
        raise ConfigError("a price table is one JSON object: names with their prices")
    names = [field.name for field in fields(Prices)]
    if missing := [name for name in names if name not in table]:
        raise ConfigError(f"{missing[0]} is missing; a price table has {', '.join(names)}")
    texts: dict[str, Any] = {name: _text(name, table[name]) for name in _TEXTS}
    numbers: dict[str, Any] = {
        name: _number(name, value) for name, value in table.items() if name not in (*_TEXTS, _NOTE)
    }
    try:
        texts["date"] = date.fromisoformat(texts["date"])
    except ValueError:
        raise ConfigError(f"date is {texts['date']!r}; the day of the prices is written as 2025-11-30") from None
    return Prices(**texts, **{name: numbers[name] for name in names if name in numbers})


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > _LONGEST_TEXT:
        shown = ascii(value)[:80]
        raise ConfigError(f"{name} is {shown}; it is a text of one line, at most {_LONGEST_TEXT} characters")
    return value


def _number(name: str, value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _HIGHEST_PRICE:
        return abs(float(value))  # minus nothing is nothing
    raise ConfigError(
        f"{ascii(name)[1:-1][:80]} is {ascii(value)[:80]}; a price is a number from 0 to {_HIGHEST_PRICE:,}"
    )

"""The arithmetic of costs: counts times prices, by its laws; which days are on record; which tables are taken."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, date, datetime, timedelta, timezone
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condvest.app.cost import SHIPPED, load_prices
from condvest.domain.cost import (
    MONTH_DAYS,
    Prices,
    cost_of_runs,
    month_factor,
    price_of,
    read_prices,
    recorded_days,
    storage_price,
)
from condvest.domain.records import RunRow, Traffic
from condvest.errors import ConfigError

NOW = datetime(2025, 11, 28, 18, tzinfo=UTC)
TABLE: dict[str, Any] = json.loads((resources.files("condvest.app") / SHIPPED).read_bytes())
KINDS = [field.name for field in dataclasses.fields(Traffic)]
GB = 2**30

counts = st.integers(0, 10**12)
traffics = st.fixed_dictionaries(dict.fromkeys(KINDS, counts)).map(lambda found: Traffic(**found))
amounts = st.floats(0, 1000, allow_subnormal=False)
tables = st.fixed_dictionaries({name: amounts for name in TABLE if name.startswith("s3_")}).map(
    lambda found: read_prices(TABLE | found)
)


def run_of(job: str, traffic: Traffic) -> RunRow:
    """Return a run that ended."""
    return RunRow(id=1, job=job, started_at=NOW, finished_at=NOW, outcome="done", traffic=traffic)


@given(traffics, traffics, tables)
def test_a_price_is_linear_in_the_counts(one: Traffic, other: Traffic, prices: Prices) -> None:
    """Two runs cost together what they cost alone, kind by kind, and ten times the requests ten times as much."""
    both, alone = price_of(one + other, prices), (price_of(one, prices), price_of(other, prices))
    for name, part in dataclasses.asdict(both).items():
        assert part == pytest.approx(getattr(alone[0], name) + getattr(alone[1], name))
    ten = sum([one] * 10, Traffic())
    assert price_of(ten, prices).total == pytest.approx(10 * price_of(one, prices).total)
    assert (one + other) - other == one


@given(traffics, tables)
def test_the_parts_are_the_total(traffic: Traffic, prices: Prices) -> None:
    """Nothing is in the total that is in no part, and each part comes from its own kind of request alone."""
    price = price_of(traffic, prices)
    assert sum(dataclasses.asdict(price).values()) == pytest.approx(price.total)
    alone = [price_of(Traffic(**{name: getattr(traffic, name)}), prices).total for name in KINDS]
    assert sum(alone) == pytest.approx(price.total)
    assert min(dataclasses.asdict(price).values()) >= 0


@given(tables)
def test_nothing_costs_nothing(prices: Prices) -> None:
    """No request and no byte; and what S3 gives for nothing: bytes that come in, and requests to the provider."""
    assert price_of(Traffic(), prices).total == storage_price(0, prices) == 0
    assert price_of(Traffic(requests=10**9, bytes_out=10**15), prices).total == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), traffics), max_size=8), tables, st.integers(7, 31))
def test_jobs_add_up_to_all_runs(runs: list[tuple[str, Traffic]], prices: Prices, days: int) -> None:
    """However runs are grouped, the groups have all runs and cost what all cost, in the days and in the month."""
    rows, factor = [run_of(job, traffic) for job, traffic in runs], month_factor(days)
    whole = cost_of_runs(rows, prices, factor)
    groups = [cost_of_runs([row for row in rows if row.job == job], prices, factor) for job in "abc"]
    assert sum(group.runs for group in groups) == whole.runs == len(runs)
    assert sum((group.traffic for group in groups), Traffic()) == whole.traffic
    assert sum(group.total for group in groups) == pytest.approx(whole.total)
    assert sum(group.month or 0 for group in groups) == pytest.approx(whole.month)
    assert whole.month == pytest.approx(whole.total * MONTH_DAYS / days)
    assert cost_of_runs(rows, prices, None).month is None


def test_the_shipped_table_prices_a_known_month() -> None:
    """By hand: a thousand PUT 0.005, a thousand LIST the same, a million GET 0.40, a GB-month 0.023."""
    prices, _ = load_prices(None)
    price = price_of(Traffic(puts=1000, lists=2000, gets=1_000_000, deletes=10**6, bytes_in=GB, bytes_out=GB), prices)
    assert dataclasses.asdict(price) == {"puts": 0.005, "lists": 0.01, "gets": 0.4, "deletes": 0, "transfer": 0}
    assert storage_price(10 * GB, prices) == pytest.approx(0.23)
    assert (prices.region, prices.currency, prices.date) == ("us-east-1", "USD", date(2025, 11, 30))
    abroad = dataclasses.replace(prices, s3_transfer_out_gb=0.09)
    assert price_of(Traffic(bytes_in=GB, bytes_out=GB), abroad).total == pytest.approx(0.09)


@pytest.mark.parametrize(
    ("first", "further", "days"),
    [
        (NOW, False, 1),
        (NOW - timedelta(hours=17, minutes=59), False, 1),
        (NOW - timedelta(hours=19), False, 2),
        (datetime(2025, 11, 22, tzinfo=UTC), False, 7),
        (datetime(2025, 11, 21, 20, tzinfo=timezone(timedelta(hours=-5))), False, 7),
        (NOW - timedelta(days=31) + timedelta(seconds=1), False, 31),
        (NOW, True, 31),
    ],
)
def test_days_on_record_are_dates(first: datetime, further: bool, days: int) -> None:
    """One run a day for a week is seven days, whatever the hour; a record that goes back further has all 31."""
    assert recorded_days(first, NOW, goes_back_further=further) == days


def test_a_month_is_told_from_a_week_on() -> None:
    """A day of backfill is no month: less than a week is not scaled. A run a day makes 30.4 a month, whatever the span."""
    assert [month_factor(days) for days in (0, 1, 6)] == [None] * 3
    assert [month_factor(days) for days in (7, 31)] == [30.4 / 7, 30.4 / 31]
    prices = read_prices(TABLE)
    months = [
        cost_of_runs([run_of("run", Traffic(puts=9))] * days, prices, month_factor(days)) for days in range(7, 32)
    ]
    assert {round(found.month or 0, 12) for found in months} == {round(30.4 * 9 * 0.005 / 1000, 12)}


WRONG = [
    (b"", "is no JSON"),
    (b"\xff", "is no JSON"),
    (b"prices", "is no JSON"),
    (b"[" * 100_000, "is no JSON"),
    (b"[1]", "one JSON object"),
    (b"{}", "region is missing"),
    *[
        (json.dumps({key: TABLE[key] for key in TABLE if key != name}), f"{name} is missing")
        for name in list(TABLE)[5:10]
    ],
    *[
        (json.dumps(TABLE | {name: value}), said)
        for name, value, said in [
            ("s3_get_per_1000", -0.1, "s3_get_per_1000 is -0.1; a price is a number from 0"),
            ("s3_get_per_1000", "0.4", "s3_get_per_1000 is '0.4'"),
            ("s3_get_per_1000", None, "s3_get_per_1000 is None"),
            ("s3_get_per_1000", True, "s3_get_per_1000 is True"),
            ("s3_get_per_1000", float("nan"), "s3_get_per_1000 is nan"),
            ("s3_get_per_1000", float("inf"), "s3_get_per_1000 is inf"),
            ("s3_get_per_1000", 10**400, "s3_get_per_1000 is 1000"),
            ("secret_month", -1, "secret_month is -1"),
            ("of_my_own", [], "of_my_own is []"),
            ("region", "", "region is ''; it is a text"),
            ("region", "a\nb", "it is a text of one line"),
            ("currency", 5, "currency is 5"),
            ("source", "x" * 501, "at most 500 characters"),
            ("date", "30.11.2025", "date is '30.11.2025'; the day of the prices is written as 2025-11-30"),
        ]
    ],
]


@pytest.mark.parametrize(("content", "said"), WRONG, ids=[said for _, said in WRONG])
def test_a_wrong_table_is_refused(tmp_path: Path, content: bytes | str, said: str) -> None:
    """In one line, with the file, the value, the rule, and where a sound table is to begin with."""
    file = tmp_path / "prices.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as refused:
        load_prices(file)
    text = str(refused.value)
    assert said in text
    assert "prices.json'" in text
    assert "mend it, or begin with a copy of " in text
    assert "\n" not in text


def test_another_table_counts(tmp_path: Path) -> None:
    """A price of one's own, and prices of other things that are not asked for; the note may be anything."""
    file = tmp_path / "ours.json"
    file.write_text(json.dumps(TABLE | {"s3_storage_gb_month": 0, "currency": "CAD", "note": 5, "of_my_own": 1.5}))
    prices, table = load_prices(file)
    assert (prices.currency, prices.s3_storage_gb_month, table["of_my_own"]) == ("CAD", 0, 1.5)

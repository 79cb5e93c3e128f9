"""Price a month on AWS: run real days of a whole market through both zones, meter their requests, multiply by a price table.

    python benchmarks/price_month.py [--symbols 12000] [--prices FILE]

The price table is that of `condvest status --cost` (src/condvest/app/prices.json), or FILE.

The days are run by the functions that the Lambda handlers call, on a folder whose store counts requests as S3 bills them. A
month has 21 sessions, each fetched in the evening and once more the next morning, when 1 % of the bars are restated. The
weekly full resample and the monthly vacuum are run once, child by child as on Batch; the resample's seconds are those of the
lake here times the sessions of 20 years by the sessions here.
Durations on AWS are not measured here: they are taken from the time that the requests need at 20 ms and 64 in flight, plus
the CPU seconds of this machine. Fixed parts (database, endpoint, secrets, key, alarms) are billed whatever the market does.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from pathlib import Path

from condvest.app import App
from condvest.app.commands import consolidate, resample, vacuum
from condvest.app.cost import load_prices
from condvest.app.dates import DateOptions
from condvest.app.runs import JobResult
from condvest.app.zones import fetch_planned, land_meta, plan, record
from condvest.config import Settings
from condvest.demo.market import NEW_YORK, Bar, Market
from condvest.demo.standin import StandIn
from condvest.domain.calendar import Calendar
from condvest.domain.cost import price_of, read_prices
from condvest.domain.records import Traffic
from condvest.domain.shard import Shard

_SESSIONS_A_MONTH = 21
_WEEKS_A_MONTH = 52 / 12
_HOURS_A_MONTH = 730
_SESSIONS_OF_20_YEARS = 5040
_STACK = Path(__file__).parents[1] / "deploy" / "stack"
_LATENCY_SECONDS = 0.02
_IN_FLIGHT = 64
#: Memory of the functions (GB), as the stack has them.
_MEMORY_GB = {"fetch bars": 2.0, "fetch meta": 3.0, "record": 2.0, "consolidate": 3.0}
#: vCPU and GB of the Batch jobs, the seconds until one has started, which are billed, and the parts of the vacuum.
_RESAMPLER, _VACUUM = (2.0, 8.0), (1.0, 4.0)
_START_SECONDS = 60
_VACUUM_PARTS = 4


@dataclass
class Meter:
    """What the steps of some days, or of one job, asked for."""

    puts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    gets: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    bytes_out: int = 0

    def add(self, result: JobResult, cpu_seconds: float) -> None:
        """Take one step."""
        traffic = result.traffic
        self.puts[result.job] += traffic.puts + traffic.lists
        self.gets[result.job] += traffic.gets
        requests = traffic.puts + traffic.lists + traffic.gets + traffic.deletes
        self.seconds[result.job] += cpu_seconds + requests * _LATENCY_SECONDS / _IN_FLIGHT
        self.bytes_out += traffic.bytes_out


@dataclass
class Usage:
    """What was metered: two days, one full resample and one vacuum, and how many sessions the lake had for these."""

    days: Meter = field(default_factory=Meter)
    full_resample: Meter = field(default_factory=Meter)
    vacuum: Meter = field(default_factory=Meter)
    intervals: int = 0
    sessions: int = 0


def main() -> None:
    """Run the days and print what a month costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=12_000)
    parser.add_argument("--prices", type=Path)
    options = parser.parse_args()
    _, prices = load_prices(options.prices)
    _print(_metered(options.symbols), prices, options.symbols)


def _metered(symbols: int) -> Usage:
    """Fill a lake with a month, then meter two days of it (evening and morning, all steps), and the weekly and monthly jobs."""
    sessions = Calendar.shipped().sessions(date(2025, 10, 1), date(2025, 11, 19))
    market, at = _market(symbols, sessions), datetime(2025, 11, 1, tzinfo=UTC)
    usage = Usage(sessions=len(sessions))
    with tempfile.TemporaryDirectory() as lake, StandIn(market, now=lambda: at) as provider:
        settings = Settings(
            lake_url=lake,
            condvest_fsync=False,
            polygon_api_key=provider.api_key,  # type: ignore[arg-type]  # pydantic makes a SecretStr of it
            polygon_base_url=provider.url,
            polygon_requests_per_minute=0,
        )
        at = _close(sessions[-3])
        _day(settings, at, Meter(), DateOptions(first=str(sessions[0])))
        for session in sessions[-2:]:
            at = _close(session)
            _day(settings, at, usage.days)
            for number in range(0, symbols, 100):
                market.set_bar(_name(number), session, _bar(number, 11.0))
            at = Calendar.shipped().final_due(session) + timedelta(minutes=15)
            _day(settings, at, usage.days)
        _weekly_and_monthly(settings, at, usage)
    return usage


def _weekly_and_monthly(settings: Settings, at: datetime, usage: Usage) -> None:
    """Run each child of the two array jobs."""
    with App(settings, now=at) as app:
        intervals = app.intervals
    usage.intervals = len(intervals)
    for interval in intervals:
        started = time.process_time()
        with App(settings, now=at) as app:
            result = resample(app, intervals=[interval], force_full=True)
        usage.full_resample.add(result, time.process_time() - started)
    for part in range(_VACUUM_PARTS):
        started = time.process_time()
        with App(settings, now=at) as app:
            result = vacuum(app, shard=Shard(part, _VACUUM_PARTS))
        usage.vacuum.add(result, time.process_time() - started)


def _day(settings: Settings, at: datetime, meter: Meter, dates: DateOptions = DateOptions()) -> None:  # noqa: B008 - frozen
    """Take the steps of one execution of the state machine."""
    started = time.process_time()

    def took(result: JobResult) -> JobResult:
        nonlocal started
        meter.add(result, time.process_time() - started)
        started = time.process_time()
        return result

    with App(settings, now=at) as app:
        fetched = fetch_planned(app, plan(app, dates))
        took(fetched.result)
        took(land_meta(app))
        took(record(app, refused=fetched.refused))
        took(consolidate(app))
        took(resample(app))


def _print(usage: Usage, prices: dict[str, float], symbols: int) -> None:
    days = 2
    print(f"{symbols:,} symbols; prices of {prices['region']}, {prices['date']}, in {prices['currency']}\n")
    print("| step, a session (evening and morning) | PUT and LIST | GET | seconds |\n|---|---|---|---|")
    for job in usage.days.seconds:
        print(_row(job, usage.days, job, days))
    print(_row("full resample, a week", usage.full_resample, "resample", 1))
    print(_row("vacuum, a month", usage.vacuum, "vacuum", 1))
    lines = _lines(usage, prices, _SESSIONS_A_MONTH / days)
    print("\n| part, a month | USD |\n|---|---|")
    for name, cost in lines.items():
        print(f"| {name} | {cost:.2f} |")
    print(f"| total | {sum(lines.values()):.2f} |")


def _row(name: str, meter: Meter, job: str, days: int) -> str:
    return (
        f"| {name} | {meter.puts[job] / days:,.0f} | {meter.gets[job] / days:,.0f} | {meter.seconds[job] / days:.0f} |"
    )


def _lines(usage: Usage, prices: dict[str, float], factor: float) -> dict[str, float]:
    days = usage.days
    gb_seconds = sum(days.seconds[job] * memory for job, memory in _MEMORY_GB.items()) * factor
    requests = (
        _requests(days, prices) * factor
        + _requests(usage.full_resample, prices) * _WEEKS_A_MONTH
        + _requests(usage.vacuum, prices)
    )
    alarms = (_STACK / "monitoring.yaml").read_text().count("Type: AWS::CloudWatch::Alarm")
    transitions = 2 * _SESSIONS_A_MONTH * 20
    watched = transitions / 1000 * prices["states_transition_per_1000"] + 0.5 * prices["logs_gb"]
    watched += 35 * prices["metric_month"] * 2 / 24 + alarms * prices["alarm_month"]
    database = prices["rds_t4g_micro_hour"] * _HOURS_A_MONTH + 20 * prices["rds_storage_gb_month"]
    daily = days.seconds["resample"] * factor + _START_SECONDS * 2 * _SESSIONS_A_MONTH
    weekly = usage.full_resample.seconds["resample"] * _SESSIONS_OF_20_YEARS / usage.sessions
    weekly += _START_SECONDS * usage.intervals
    monthly = usage.vacuum.seconds["vacuum"] + _START_SECONDS * _VACUUM_PARTS
    return {
        "S3 requests": requests,
        "S3 storage (10 GB of lake, 25 GB of older versions)": 35 * prices["s3_storage_gb_month"],
        "Lambda": gb_seconds * prices["lambda_gb_second_arm64"],
        "Batch (Fargate Spot): daily resample": _fargate(daily, _RESAMPLER, prices),
        "Batch: weekly full resample of 20 years": _fargate(weekly * _WEEKS_A_MONTH, _RESAMPLER, prices),
        "Batch: monthly vacuum": _fargate(monthly, _VACUUM, prices),
        "registry (10 images of 0.15 GB)": 1.5 * prices["ecr_gb_month"],
        f"Step Functions, logs, metrics, {alarms} alarms": watched,
        "RDS db.t4g.micro, 20 GB": database,
        "endpoint for Secrets Manager, one zone": prices["interface_endpoint_hour"] * _HOURS_A_MONTH,
        "2 secrets": 2 * prices["secret_month"],
        "key of the failures topic": prices["kms_key_month"],
    }


def _requests(meter: Meter, prices: dict[str, float]) -> float:
    asked = Traffic(puts=sum(meter.puts.values()), gets=sum(meter.gets.values()))
    return price_of(asked, read_prices(prices)).total


def _fargate(seconds: float, size: tuple[float, float], prices: dict[str, float]) -> float:
    cpus, memory_gb = size
    hourly = cpus * prices["fargate_spot_vcpu_hour_arm64"] + memory_gb * prices["fargate_spot_gb_hour_arm64"]
    return seconds / 3600 * hourly


def _market(symbols: int, sessions: list[date]) -> Market:
    market = Market()
    for session in sessions:
        for number in range(symbols):
            market.set_bar(_name(number), session, _bar(number, 10.0))
    return market


def _bar(number: int, close: float) -> Bar:
    close = close + number % 97
    return Bar(close - 0.5, close + 1, close - 1, close, 1000.0 + number, close, 12)


def _name(number: int) -> str:
    letters = ""
    number += 1
    while number:
        number, letter = divmod(number - 1, 26)
        letters = chr(65 + letter) + letters
    return letters


def _close(session: date) -> datetime:
    return datetime.combine(session, clock(16, 5), tzinfo=NEW_YORK).astimezone(UTC)


if __name__ == "__main__":
    main()

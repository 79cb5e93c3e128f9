"""The project on emulated AWS, deployed by its own script, and the same days on a laptop: the lakes are equal."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from aws.cloud import BATCH_STATE, FUNCTIONS, MACHINE, Cloud, Execution
from aws.laptop import Laptop
from condvest.demo.market import NEW_YORK, Market
from condvest.demo.standin import StandIn
from condvest.domain.calendar import Calendar
from condvest.domain.ledger import LedgerRow, watermark
from condvest.state import State
from integration.jobs_kit import bar, market_of
from servers.emulator import ROOT, running_ministack
from servers.postgres import PASSWORD, PostgresServer

pytestmark = [pytest.mark.aws, pytest.mark.postgres]

#: The most that Step Functions passes from state to state.
LARGEST_BYTES = 256 * 1024
BUCKET = "test-condvest-datalake"
METRICS = {"Sessions", "Rows", "Quarantined", "Restated", "Requests", "Bytes", "Seconds"}
KEY = "the-key-that-no-log-shows"
#: Sessions until the end of 2025. The backfill takes more than are planned at a time, so that it goes in two chunks.
SESSIONS = Calendar.shipped().sessions(date(2024, 10, 1), date(2025, 12, 31))
FIRST, LAST, DAY, NEXT_DAY = SESSIONS[0], SESSIONS[279], SESSIONS[280], SESSIONS[281]


@dataclass
class Stage:
    """One market, seen by the project on AWS and by the one on a laptop, at one clock."""

    market: Market
    provider: StandIn
    cloud: Cloud
    laptop: Laptop
    state_url: str
    now: datetime = datetime(2025, 11, 3, tzinfo=UTC)

    def at(self, now: datetime) -> Stage:
        """Set every clock."""
        self.now = now
        self.cloud.set_clock(now)
        return self

    def run(self, request: dict[str, object]) -> Execution:
        """Run the state machine, then what it would have run on Batch."""
        execution = self.cloud.run(request)
        self.cloud.run_batch("resampler", CONDVEST_NOW=self.now.isoformat())
        return execution

    def ledger(self) -> list[LedgerRow]:
        """Return the session ledger on PostgreSQL, without the instants of its own changes."""
        with State.open(self.state_url, migrate=False) as state:
            return plain_rows(state)

    def watermarks(self) -> dict[str, date]:
        """Return each symbol's watermark on PostgreSQL."""
        with State.open(self.state_url, migrate=False) as state:
            return state.symbol_watermarks()

    def assert_equal(self) -> None:
        """Hold the lake on AWS against the one on the laptop: keys, contents, ledger, watermarks and symbols."""
        keys = sorted(self.laptop.keys())
        assert sorted(self.cloud.objects()) == keys
        # What is left out are caches: they name the versions of objects, which a folder and S3 count in their own ways.
        assert [key for key in keys if key.startswith(("bronze/", "silver/")) and not self._is_same(key)] == []
        with State.open(self.state_url, migrate=False) as there, self.laptop.state() as here:
            assert plain_rows(there) == plain_rows(here)
            assert there.symbol_watermarks() == here.symbol_watermarks()
            assert there.symbols() == here.symbols()

    def _is_same(self, key: str) -> bool:
        there, here = self.cloud.body(key), self.laptop.store.get(key).data
        return there == here or (key.endswith(".json.gz") and answer_of(there) == answer_of(here))


def plain_rows(state: State) -> list[LedgerRow]:
    """Return the rows of a ledger without when each was last written."""
    return [replace(row, updated_at=None) for row in state.sessions()]


def answer_of(data: bytes) -> dict[str, Any]:
    """Return a landed answer of the provider without the number that it gives each request."""
    answer: dict[str, Any] = json.loads(gzip.decompress(data))
    answer.pop("request_id", None)
    return answer


def evening(session: date) -> datetime:
    """Return 16:05 in New York: bars are out, and provisional."""
    return datetime.combine(session, time(16, 5), tzinfo=NEW_YORK).astimezone(UTC)


def next_morning(session: date) -> datetime:
    """Return 11:15 in New York on the day after: bars are final."""
    return datetime.combine(session + timedelta(days=1), time(11, 15), tzinfo=NEW_YORK).astimezone(UTC)


@contextmanager
def deployed(folder: Path, postgres: PostgresServer) -> Iterator[Stage]:
    """Deploy the project with its own script, beside a provider and a database."""
    market = market_of(SESSIONS)
    market.add_ticker("AAPL", name="Apple Inc.")
    market.add_split("MSFT", SESSIONS[10], 1, 2)
    market.add_dividend("IBM", SESSIONS[12], 1.5)
    mocks = {MACHINE: {BATCH_STATE: {"JobId": "mocked", "Status": "SUCCEEDED"}}}
    with (
        running_ministack(mocks) as emulator,
        postgres.empty_database() as state_url,
        StandIn(market, api_key=KEY) as provider,
    ):
        cloud = Cloud(emulator, BUCKET)
        deploy(cloud, provider_url=provider.url, state_url=state_url)
        laptop = Laptop(folder / "laptop", provider_url=provider.url, api_key=KEY)
        stage = Stage(market, provider, cloud, laptop, state_url)
        provider.now = lambda: stage.now
        yield stage


def deploy(cloud: Cloud, *, provider_url: str, state_url: str) -> None:
    """Run the project's one command, without AWS Batch and with this test's provider, database and secrets."""
    url, secrets = make_url(state_url), cloud.emulator.client("secretsmanager")
    password = json.dumps({"username": url.username, "password": url.password})
    database = secrets.create_secret(Name="test-database", SecretString=password)["ARN"]
    parameters = {
        "LakeBucketName": BUCKET,
        "CreateDatabase": "false",
        "OwnDatabaseHost": url.host,
        "OwnDatabasePort": url.port,
        "OwnDatabaseSecretArn": database,
        "DatabaseName": url.database,
        "RdsSslMode": "prefer",
        "PolygonBaseUrl": provider_url,
        "BarsRequestsPerMinute": 0,
        "MetaRequestsPerMinute": 0,
        "PolygonRetrySeconds": 0,
    }
    words = [word for name, value in parameters.items() for word in ("--parameter", f"{name}={value}")]
    command = [str(ROOT / "deploy" / "deploy.sh"), "--stage", "test", "--skip", "batch", "--runtime", "provided.al2023"]
    cloud.script(*command, *words)
    cloud.script(*command)  # a second run finds all as it is
    secrets.put_secret_value(SecretId="condvest/test/provider-key", SecretString=KEY)
    cloud.open_mailbox(cloud.output("orchestration", "TopicArn"))


def test_days_on_aws_equal_days_on_a_laptop(tmp_path: Path, postgres_server: PostgresServer) -> None:
    """One deployment: a backfill, a day, the day again, a restated day, a failed day and its recovery.

    After each, the lake on AWS has the same objects as one that the command line made at the same instants. The functions
    run with their own roles, over TLS: what a role does not allow would fail here.
    """
    with deployed(tmp_path, postgres_server) as stage:
        backfill(stage)
        a_day(stage)
        the_same_day_again(stage)
        a_restated_day(stage)
        no_trading_day(stage)
        a_failed_day(stage)
        the_recovery(stage)
        what_the_functions_said(stage)
        a_fetch_by_hand(stage)
        the_schedules(stage)


def backfill(stage: Stage) -> None:
    """An empty lake: a range of sessions in one execution."""
    done = stage.at(evening(LAST)).run({"from": str(FIRST), "to": str(LAST)})
    assert (done.status, done.failures) == ("SUCCEEDED", [])
    assert done.states.count("Plan") == 2
    assert done.largest_bytes < LARGEST_BYTES
    laptop = stage.laptop
    laptop.run(stage.now, "fetch", "bars", "--from", str(FIRST), "--to", str(LAST))
    for command in ("fetch meta", "consolidate", "resample"):
        laptop.run(stage.now, *command.split())
    stage.assert_equal()
    rows = stage.ledger()
    assert [row.state for row in rows] == ["final"] * (len(rows) - 1) + ["provisional"]
    assert watermark(rows, Calendar.shipped()) == LAST


def a_day(stage: Stage) -> None:
    """The evening's schedule fetches the day, provisionally, and makes what was provisional final; a bad row is set aside."""
    stage.market.set_bar("BAD", DAY, bar(9.0, high=1.0))
    done = stage.at(evening(DAY)).run({"schedule": "close"})
    assert (done.status, done.failures) == ("SUCCEEDED", [])
    stage.laptop.run(stage.now, "run")
    stage.assert_equal()
    assert stage.ledger()[-1].session_date == DAY
    assert set(stage.watermarks().values()) == {DAY}


def the_same_day_again(stage: Stage) -> None:
    """Nothing is new: not one object is written, at the same instant or a little later."""
    before, ledger = stage.cloud.objects(), stage.ledger()
    for minutes in (0, 10):
        done = stage.at(stage.now + timedelta(minutes=minutes)).run({"schedule": "close"})
        assert (done.status, done.failures) == ("SUCCEEDED", [])
        assert stage.cloud.objects() == before
        assert stage.ledger() == ledger


def a_restated_day(stage: Stage) -> None:
    """The morning's schedule makes the day final; a bar that changed meanwhile reaches bronze, silver and the ledger."""
    stage.market.set_bar("IBM", DAY, bar(999.0))
    done = stage.at(next_morning(DAY)).run({"schedule": "final"})
    assert (done.status, done.failures) == ("SUCCEEDED", [])
    stage.laptop.run(stage.now, "run")
    stage.assert_equal()
    last = stage.ledger()[-1]
    assert (last.session_date, last.state, last.restated) == (DAY, "final", 1)
    again = stage.at(stage.now + timedelta(minutes=10)).run({"schedule": "final"})
    assert (again.status, BATCH_STATE in again.states) == ("SUCCEEDED", False), "nothing was due, and yet it ran"


def no_trading_day(stage: Stage) -> None:
    """On a Saturday the execution ends after the plan, and nobody asks the provider."""
    asked, before = len(stage.provider.requests), stage.cloud.objects()
    saturday = next(DAY + timedelta(days=n) for n in range(1, 8) if (DAY + timedelta(days=n)).weekday() == 5)
    done = stage.at(evening(saturday)).run({"schedule": "close"})
    assert (done.status, BATCH_STATE in done.states) == ("SUCCEEDED", False)
    assert (len(stage.provider.requests), stage.cloud.objects()) == (asked, before)


def a_failed_day(stage: Stage) -> None:
    """The provider is down: the fetch is retried, the rest of the day goes on, a person hears of it, no watermark moves."""
    before, marks, reached = stage.cloud.objects(), stage.watermarks(), watermark(stage.ledger(), Calendar.shipped())
    stage.cloud.mail()
    # Who is told to come back in an hour does not wait for it, but fails at once.
    stage.provider.fail("/", times=10_000, status=503, headers={"Retry-After": "3600"})
    done = stage.at(evening(NEXT_DAY)).run({"schedule": "close"})
    assert done.status == "FAILED"
    assert done.failures.count("TransientError") >= 4, "each of the two fetches is tried at least twice"
    assert BATCH_STATE in done.states, "what is there is consolidated and resampled all the same"
    mail = stage.cloud.mail()
    assert len(mail) == 1, done.states
    message = mail[0]
    told = json.loads(message["Message"])
    assert MACHINE in told["execution"]
    assert [one["state"] for one in told["failed"]] == ["FetchBars", "FetchMeta"]
    assert [one["error"] for one in told["failed"]] == ["WorkLeft", "TransientError"]
    assert all("503" in one["cause"] for one in told["failed"])
    assert KEY not in json.dumps(message)
    assert stage.cloud.objects() == before
    assert stage.watermarks() == marks
    assert watermark(stage.ledger(), Calendar.shipped()) == reached


def the_recovery(stage: Stage) -> None:
    """The provider is back: the next execution does what was left."""
    stage.provider.heal()
    done = stage.at(stage.now + timedelta(minutes=30)).run({"schedule": "close"})
    assert (done.status, done.failures) == ("SUCCEEDED", [])
    stage.laptop.run(stage.now, "run")
    stage.assert_equal()
    assert set(stage.watermarks().values()) == {NEXT_DAY}
    assert stage.cloud.mail() == []


def what_the_functions_said(stage: Stage) -> None:
    """Metrics count what came; every line is JSON with a run id; no secret is in any of them."""
    fetched = list(stage.cloud.metrics("daily-ohlcv-fetcher"))
    assert sum(sum(found.get("Sessions", [0])) for found in fetched) >= SESSIONS.index(NEXT_DAY)
    assert {found["namespace"] for found in fetched} == {"condvest"}
    for name in FUNCTIONS:
        for found in stage.cloud.metrics(name):
            assert found.keys() >= METRICS, name
    for name in ("Rows", "Quarantined", "Restated", "Requests", "Bytes", "Seconds"):
        assert sum(sum(found[name]) for found in fetched) > 0, name
    merged = list(stage.cloud.metrics("consolidate-bronze-daily"))
    for name in ("Sessions", "Rows", "Restated", "Requests", "Bytes", "Seconds"):
        assert sum(sum(found[name]) for found in merged) > 0, name
    lags = [
        found["WatermarkLagSessions"]
        for found in stage.cloud.metrics("record-session")
        if "WatermarkLagSessions" in found
    ]
    assert lags
    assert lags[-1] == [0]
    for name in FUNCTIONS:
        lines = stage.cloud.log(name)
        assert lines, name
        text = json.dumps(lines)
        assert KEY not in text, name
        assert PASSWORD not in text, name


def a_fetch_by_hand(stage: Stage) -> None:
    """Who invokes the fetcher by hand causes an event, and the event starts the state machine, which finds what landed."""
    before = set(stage.cloud.executions())
    stage.market.set_bar("NEW", DAY, bar(5.0))
    stage.cloud.call("daily-ohlcv-fetcher", {"symbols": ["NEW"], "from": str(FIRST), "to": str(NEXT_DAY)})
    assert stage.cloud.wait_for(lambda: set(stage.cloud.executions()) - before)
    (started,) = set(stage.cloud.executions()) - before
    done = stage.cloud.ended(started)
    # The emulator has no Batch, and nobody mocks that state in an execution that an event starts: all before it is done.
    assert (done.failures[:-1], done.states[-2:]) == ([], ["NotifyFailure", "Failed"])
    assert [one["state"] for mail in stage.cloud.mail() for one in json.loads(mail["Message"])["failed"]] == [
        BATCH_STATE
    ]
    assert stage.watermarks()["NEW"] == DAY


def the_schedules(stage: Stage) -> None:
    """The two daily schedules are those of the spec, in New York's time, whatever the season."""
    scheduler = stage.cloud.emulator.client("scheduler")
    listed = scheduler.list_schedules()["Schedules"]
    found = [scheduler.get_schedule(Name=one["Name"], GroupName=one["GroupName"]) for one in listed]
    assert {(one["ScheduleExpression"], json.loads(one["Target"]["Input"])["schedule"]) for one in found} == {
        ("cron(5 16 ? * MON-FRI *)", "close"),
        ("cron(15 11 ? * TUE-SAT *)", "final"),
    }
    # The emulator drops the time zone of a schedule that a template makes: it is looked up there.
    for template in (ROOT / "deploy" / "stack").glob("*.yaml"):
        lines = template.read_text().split()
        schedules, zones = lines.count("AWS::Scheduler::Schedule"), lines.count("ScheduleExpressionTimezone:")
        assert (zones, lines.count("America/New_York")) == (schedules, schedules)

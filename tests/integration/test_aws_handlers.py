"""The Lambda handlers, called as Lambda calls them: on a real S3 server, a real PostgreSQL, and the stand-in provider."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time as time_module
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from sqlalchemy import make_url

from condvest.app import App
from condvest.aws import batch, consolidate_bronze, daily_meta_fetcher, daily_ohlcv_fetcher, record_session
from condvest.config import Settings, load_settings, settings_table
from condvest.demo.market import NEW_YORK, Market
from condvest.demo.standin import StandIn
from condvest.domain.calendar import Calendar
from condvest.domain.records import SymbolRow
from condvest.errors import ConfigError, TransientError, WorkLeft
from condvest.storage import layout
from condvest.storage.manifest import read_manifest
from condvest.storage.opening import open_store
from integration.jobs_kit import DAYS, SYMBOLS, Kit, bar, market_of

DAY, NEXT, THIRD = DAYS[:3]
ANY_TIME = 900_000


@dataclass
class Context:
    """Lambda's context: so much time is left at each look, the last for all later ones."""

    times: list[int] = field(default_factory=lambda: [ANY_TIME])
    aws_request_id: str = "run-1"

    def get_remaining_time_in_millis(self) -> int:
        """Return the time that is left, in milliseconds."""
        return self.times.pop(0) if len(self.times) > 1 else self.times[0]


def running_out(after: int) -> Context:
    """Return a context whose time is short from a number of looks on."""
    return Context([ANY_TIME] * (after + 1) + [1])


class Cloud:
    """A bucket, a database and a provider, and the steps of a day in the order of the state machine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, lake_url: str, database_url: str) -> None:
        """Set the variables that the functions have on AWS."""
        self.market = market_of(DAYS)
        self.now = datetime(2025, 11, 3, tzinfo=UTC)
        self.lake_url = lake_url
        self._environ = monkeypatch
        url = make_url(database_url)
        given = {
            "LAKE_URL": lake_url,
            "RDS_HOST": url.host,
            "RDS_PORT": str(url.port),
            "RDS_DATABASE": url.database,
            "RDS_USER": url.username,
            "RDS_PASSWORD": url.password or "none",
            "POLYGON_REQUESTS_PER_MINUTE": "0",
        }
        for name, value in given.items():
            monkeypatch.setenv(name, str(value))
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.provider = self._stack.enter_context(StandIn(self.market, now=lambda: self.now))
        self._environ.setenv("POLYGON_API_KEY", self.provider.api_key)
        self._environ.setenv("POLYGON_BASE_URL", self.provider.url)
        self.store = open_store(self.lake_url)
        self.record({"mode": "upgrade"})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def evening(self, session: date) -> Self:
        """Set the clock to 16:05 in New York."""
        return self.at(datetime.combine(session, time(16, 5), tzinfo=NEW_YORK))

    def next_morning(self, session: date) -> Self:
        """Set the clock to when a session's bars are final."""
        return self.at(Calendar.shipped().final_due(session) + timedelta(minutes=15))

    def at(self, instant: datetime) -> Self:
        """Set the clock."""
        self.now = instant.astimezone(UTC)
        self._environ.setenv("CONDVEST_NOW", self.now.isoformat())
        return self

    def record(self, event: dict[str, Any]) -> dict[str, Any]:
        """Call `record_session`."""
        return _json(record_session.lambda_handler(event, Context()))

    def fetch(self, event: dict[str, Any], context: Context | Limit | None = None) -> dict[str, Any]:
        """Call `daily_ohlcv_fetcher`."""
        return _json(daily_ohlcv_fetcher.lambda_handler(event, context or Context()))

    def meta(self, event: dict[str, Any], context: Context | Limit | None = None) -> dict[str, Any]:
        """Call `daily_meta_fetcher`."""
        return _json(daily_meta_fetcher.lambda_handler(event, context or Context()))

    def consolidate(self, event: dict[str, Any], context: Context | Limit | None = None) -> dict[str, Any]:
        """Call `consolidate_bronze`."""
        return _json(consolidate_bronze.lambda_handler(event, context or Context()))

    def day(self, request: dict[str, Any] | None = None) -> dict[str, Any]:
        """Take the steps of the state machine; return the plan."""
        plan = self.record({"mode": "plan", "request": request or {}})
        if plan["run"]:
            bars, meta = self.fetch(plan["bars"]), self.meta(plan["meta"])
            while bars["remaining"]:
                bars = self.fetch(bars["again"])
            while meta["remaining"]:
                meta = self.meta(meta["again"])
            self.record({"refused": bars["refused"]})
            self.consolidate(plan["consolidate"])
        return plan

    def symbols(self) -> list[SymbolRow]:
        """Return what the database knows of symbols."""
        with App(load_settings()) as app:
            return app.state.symbols()

    def watermarks(self) -> dict[str, date]:
        """Return each symbol's watermark."""
        with App(load_settings()) as app:
            return app.state.symbol_watermarks()

    def states(self) -> dict[str, int]:
        """Return how many sessions are in each state, those that are in any."""
        states: dict[str, int] = self.record({"mode": "status"})["states"]
        return {name: count for name, count in states.items() if count}

    def objects(self) -> dict[str, str]:
        """Return the ETag of every object of the lake."""
        return {info.key: info.etag for info in self.store.list("")}


def _json(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer as the next state gets it: through JSON, which holds no more than 256 KiB."""
    text = json.dumps(answer)
    assert len(text) < 256 * 1024
    made: dict[str, Any] = json.loads(text)
    return made


@pytest.fixture
def cloud(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, tmp_path: Path, postgres_url: str
) -> Iterator[Cloud]:
    """Functions on an S3 server and PostgreSQL."""
    lake: str = request.getfixturevalue("s3_url")
    for name in [*os.environ]:
        if name in {setting.name for setting in settings_table()} and not name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    with Cloud(monkeypatch, lake, postgres_url) as made:
        yield made


pytestmark = [pytest.mark.s3, pytest.mark.postgres]


def test_a_day_goes_through_both_zones(cloud: Cloud) -> None:
    """Planned by the ledger, fetched without it, recorded from the lake, consolidated; the next morning makes it final."""
    cloud.evening(DAY).day({"date": str(DAY)})
    assert cloud.states() == {"provisional": 1}
    cloud.market.set_bar("IBM", DAY, bar(50.0))
    assert cloud.next_morning(DAY).day({"schedule": "final"})["run"]
    assert cloud.states() == {"final": 1}
    status = cloud.record({"mode": "status"})
    assert (status["watermark"], status["sessions_behind"], status["due"]) == (str(DAY), 0, [])
    assert layout.data_key("IBM") in cloud.objects()


def test_the_same_day_again_changes_nothing(cloud: Cloud) -> None:
    """A state machine that is started twice leaves the lake as it was, object by object."""
    cloud.evening(DAY).day({"date": str(DAY)})
    before = cloud.objects()
    cloud.day()
    cloud.day({"schedule": "close"})
    assert cloud.objects() == before


def test_a_day_without_a_session_ends_at_once(cloud: Cloud) -> None:
    """Nothing is asked of the provider on Thanksgiving, nor where nothing is due in the morning."""
    cloud.evening(DAY).day({"date": str(DAY)})
    asked = len(cloud.provider.requests)
    thanksgiving = cloud.evening(date(2025, 11, 27)).day({"schedule": "close"})
    assert (thanksgiving["run"], thanksgiving["why"]) == (False, "2025-11-27 is no session")
    cloud.next_morning(DAY).day()
    asked = len(cloud.provider.requests)
    nothing = cloud.day({"schedule": "final"})
    assert (nothing["run"], nothing["why"], len(cloud.provider.requests)) == (False, "nothing is due", asked)


def test_a_backfill_goes_in_chunks(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """More sessions than an event can hold are planned again and again, each time from where the last plan ended."""
    monkeypatch.setattr("condvest.app.zones.PLANNED_SESSIONS", 24)
    request: dict[str, Any] = {"from": str(DAY), "to": str(DAYS[59])}
    cloud.evening(DAYS[59])
    plans = [cloud.day(request)]
    while plans[-1]["has_next"]:
        plans.append(cloud.day(plans[-1]["next"]))
    assert [plan["bars"]["plan"]["sessions"][0] for plan in plans] == [str(DAYS[0]), str(DAYS[24]), str(DAYS[48])]
    assert cloud.states() == {"final": 59, "provisional": 1}


def test_a_fetch_stops_before_its_time_is_over_and_goes_on(cloud: Cloud) -> None:
    """It names the event to go on with, asks for nothing twice, and the ledger is the same in the end."""
    cloud.evening(THIRD)
    plan = cloud.record({"mode": "plan", "request": {"from": str(DAY)}})
    first = cloud.fetch(plan["bars"], running_out(1))
    assert (first["remaining"], first["again"]["plan"]["sessions"]) == (2, [str(NEXT), str(THIRD)])
    second = cloud.fetch(first["again"])
    assert second["remaining"] == 0
    cloud.record({})
    assert cloud.states() == {"final": 2, "provisional": 1}


def test_what_the_plan_does_not_include_is_recorded_though_the_fetch_was_cut(cloud: Cloud) -> None:
    """A refusal of the first call reaches the ledger with the answer of the last one; it is not due again."""
    cloud.provider.plan_start = NEXT
    cloud.evening(THIRD)
    plan = cloud.record({"mode": "plan", "request": {"from": str(DAY)}})
    answer = cloud.fetch(plan["bars"], running_out(1))
    answer = cloud.fetch(answer["again"])
    assert [row["session"] for row in answer["refused"]] == [str(DAY)]
    cloud.record({"refused": answer["refused"]})
    assert cloud.states() == {"not_entitled": 1, "final": 1, "provisional": 1}


def test_a_consolidation_stops_before_its_time_is_over_and_goes_on(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it merged is committed; calling it again until nothing remains merges the rest."""
    monkeypatch.setattr("condvest.jobs.bronze.BLOCK_SYMBOLS", 2)
    cloud.evening(DAY).day({"date": str(DAY)})
    cloud.evening(NEXT)
    cloud.fetch({"date": str(NEXT)})
    for mode in ("incremental", "full"):
        answer = cloud.consolidate({"mode": mode}, running_out(4))
        assert 0 < answer["remaining"] < len(SYMBOLS)
        while answer["remaining"]:
            answer = cloud.consolidate(answer["again"], running_out(4))
    assert cloud.consolidate({})["outcome"] == "nothing_new"


def test_a_consolidation_goes_on_whatever_names_it_does_not_know(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Symbols that the lake has not are named at the end, and keep no other from being merged."""
    monkeypatch.setattr("condvest.jobs.bronze.BLOCK_SYMBOLS", 2)
    cloud.evening(DAY).fetch({"date": str(DAY)})
    event = {"symbols": [*SYMBOLS, "aapl", "ibm", "msft", "na", "true"]}
    answer = cloud.consolidate(event, running_out(4))
    assert answer["remaining"] > 0
    with pytest.raises(WorkLeft, match="consolidate: 5 left, first: symbol 'aapl': has no bars"):
        cloud.consolidate(answer["again"])
    assert all(layout.data_key(symbol) in cloud.objects() for symbol in SYMBOLS)


def test_a_consolidation_that_cannot_begin_in_its_time_says_where_to_run_it(cloud: Cloud) -> None:
    """It never goes round for ever."""
    cloud.evening(DAY)
    cloud.fetch({"date": str(DAY)})
    with pytest.raises(ConfigError, match=r"run it on Batch: python -m condvest\.aws\.batch consolidate"):
        cloud.consolidate({"mode": "full"}, Context([ANY_TIME, 1]))


def test_a_fetch_that_nobody_planned_finds_what_is_due_by_what_landed(cloud: Cloud) -> None:
    """Called by hand it needs no ledger, tells a short answer, and the next recording acknowledges what it brought."""
    with pytest.raises(ConfigError, match="is empty, so where to begin is not known"):
        cloud.evening(DAY).fetch({})
    cloud.fetch({"date": str(DAY)})
    cloud.evening(NEXT).fetch({})
    cloud.record({})
    assert cloud.states() == {"final": 1, "provisional": 1}
    for symbol in SYMBOLS[2:]:
        del cloud.market.bars[THIRD][symbol]
    with pytest.raises(WorkLeft, match=f"fetch bars: 1 left, first: {THIRD}: short answer: 2 rows, usual are 9"):
        cloud.evening(THIRD).fetch({})
    assert cloud.fetch({"date": str(THIRD), "accept_short": True})["counts"]["rows"] == 2


def test_symbols_come_by_ranges_and_move_their_watermarks(cloud: Cloud) -> None:
    """The spec's `symbols`, with the dates of the lake where none are given."""
    cloud.evening(THIRD).day({"from": str(DAY)})
    cloud.market.set_bar("NEW", DAY, bar(5.0))
    plan = cloud.day({"symbols": ["NEW"]})
    assert plan["bars"]["from"] == str(DAY)
    assert layout.data_key("NEW") in cloud.objects()
    with App(load_settings()) as app:
        assert app.state.symbol_watermarks()["NEW"] == DAY


def test_symbols_stop_before_the_time_is_over(cloud: Cloud) -> None:
    """What was asked for is whole, the others are named."""
    cloud.evening(THIRD)
    event = {"symbols": ["IBM", "MSFT", "NA"], "from": str(DAY), "to": str(THIRD)}
    answer = cloud.fetch(event, running_out(2))
    assert (answer["remaining"], answer["again"]["symbols"]) == (1, ["NA"])
    assert layout.daily_key("MSFT", THIRD) in cloud.objects()
    with pytest.raises(ConfigError, match="symbols need a date"):
        cloud.fetch({"symbols": ["IBM"]})


def test_metadata_is_landed_in_one_zone_and_recorded_in_the_other(cloud: Cloud) -> None:
    """Symbols and the details that were planned reach the database by way of the lake."""
    cloud.market.add_ticker("AAPL", list_date="1980-12-12", sic_code="3571", market_cap=3.0e12)
    cloud.evening(DAY).day({"date": str(DAY)})
    plan = cloud.day({"details": 2})
    assert plan["meta"]["details"] == ["AAPL", "BCPC"]
    with App(load_settings()) as app:
        rows = {row.symbol: row for row in app.state.symbols()}
    assert (len(rows), rows["AAPL"].sic_code, rows["IBM"].details_at) == (9, "3571", None)


def test_details_stop_before_the_time_is_over(cloud: Cloud) -> None:
    """The answer names an event that asks for the other details and for no listing."""
    answer = cloud.evening(DAY).meta({"details": ["AAPL", "IBM"], "listings": []}, running_out(1))
    assert (answer["remaining"], answer["again"]) == (1, {"listings": [], "details": ["IBM"], "orchestrated": False})
    cloud.meta(answer["again"])
    cloud.record({})
    assert {row.symbol for row in cloud.symbols() if row.details_at} == {"AAPL", "IBM"}, "of both calls"


def test_symbols_that_were_fetched_by_hand_are_recorded_by_whoever_records_next(cloud: Cloud) -> None:
    """In one call or in several, with nothing told: the recording finds what landed."""
    cloud.evening(THIRD)
    event = {"symbols": ["IBM", "MSFT", "NA"], "from": str(DAY), "to": str(THIRD)}
    answer = cloud.fetch(event, running_out(2))
    cloud.fetch(answer["again"])
    assert cloud.record({})["counts"]["symbols_moved"] == ["IBM", "MSFT", "NA"]
    assert cloud.watermarks() == {"IBM": THIRD, "MSFT": THIRD, "NA": THIRD}


def test_a_plan_records_first_what_landed(cloud: Cloud) -> None:
    """A session that somebody fetched meanwhile is not asked for again."""
    cloud.evening(DAY).day({"date": str(DAY)})
    cloud.next_morning(DAY).fetch({"date": str(DAY)})
    assert cloud.record({"mode": "plan"})["bars"]["plan"] == {"sessions": []}
    assert cloud.states() == {"final": 1}


def test_what_cannot_be_recorded_is_told_where_nothing_is_due(cloud: Cloud) -> None:
    """The morning's execution does not end as if all were well."""
    cloud.evening(DAY).day({"date": str(DAY)})
    cloud.next_morning(DAY).day()
    assert not cloud.record({"mode": "plan", "request": {"schedule": "final"}})["run"]
    cloud.market.add_ticker("IBM", name="International Business Machines")
    cloud.at(cloud.now + timedelta(minutes=5)).meta({"listings": ["tickers"]})
    key = sorted(key for key in cloud.objects() if key.startswith(layout.landing_prefix("tickers")))[-1]
    cloud.store.put(key, b"no gzip")
    plan = cloud.record({"mode": "plan", "request": {"schedule": "final"}})
    assert (plan["run"], plan["bars"]["plan"]) == (True, {"sessions": []})
    assert cloud.fetch(plan["bars"])["outcome"] == "nothing_new"
    with pytest.raises(WorkLeft, match=r"record: 1 left, first: .*the landed answer is corrupt"):
        cloud.record({})


def test_what_an_unreadable_row_leaves_is_told_and_the_rest_recorded(cloud: Cloud, tmp_path: Path) -> None:
    """As the local command does: it names the row, and the database has every other symbol."""
    cloud.market.add_ticker("../up")
    with pytest.raises(WorkLeft, match="fetch meta: 1 left, first: ticker"):
        cloud.evening(DAY).meta({})
    cloud.record({})
    with Kit(tmp_path / "whole", market=cloud.market) as local:
        local.evening(DAY).fetch_meta()
        assert cloud.symbols() == local.state.symbols()
    assert len(cloud.symbols()) == 9


def test_a_refusal_that_was_lost_with_a_failed_fetch_is_told_again(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session stays due, so that the next fetch asks for it and tells."""
    monkeypatch.setenv("POLYGON_RETRY_SECONDS", "0")
    cloud.provider.plan_start = NEXT
    cloud.evening(THIRD)
    plan = cloud.record({"mode": "plan", "request": {"from": str(DAY)}})
    cloud.provider.fail(f"/v2/aggs/grouped/locale/us/market/stocks/{THIRD}", status=503)
    with pytest.raises(WorkLeft, match=f"fetch bars: 1 left, first: {THIRD}"):
        cloud.fetch(plan["bars"])
    cloud.record({})
    cloud.day()
    assert cloud.states() == {"not_entitled": 1, "final": 1, "provisional": 1}


def test_what_an_earlier_call_left_is_raised_by_the_last(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that goes on does not raise: what is left travels with the event, and the end names it."""
    monkeypatch.setenv("POLYGON_RETRY_SECONDS", "0")
    cloud.evening(THIRD)
    plan = cloud.record({"mode": "plan", "request": {"from": str(DAY)}})
    cloud.provider.fail(f"/v2/aggs/grouped/locale/us/market/stocks/{DAY}", status=503)
    first = cloud.fetch(plan["bars"], running_out(1))
    assert (first["remaining"], first["again"]["left"]["count"]) == (2, 1)
    with pytest.raises(WorkLeft, match=f"fetch bars: 1 left, first: {DAY}: .*503"):
        cloud.fetch(first["again"])
    cloud.record({})
    assert cloud.states() == {"missing": 1, "final": 1, "provisional": 1}
    cloud.market.add_ticker("../up")
    first = cloud.meta({"details": ["IBM"]}, running_out(5))
    assert (first["again"]["details"], first["again"]["left"]["count"]) == (["IBM"], 1)
    with pytest.raises(WorkLeft, match="fetch meta: 1 left, first: ticker"):
        cloud.meta(first["again"])


def test_a_file_that_cannot_be_merged_keeps_no_other_waiting(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut, and with a corrupt file: calling on until nothing remains merges all others, and then raises."""
    monkeypatch.setattr("condvest.jobs.bronze.BLOCK_SYMBOLS", 2)
    cloud.evening(DAY)
    cloud.fetch({"date": str(DAY)})
    cloud.store.put(layout.daily_key("AAPL", DAY), b"no parquet")
    for mode in ("incremental", "full"):
        events: list[dict[str, Any]] = [{"mode": mode}]

        def go_on(events: list[dict[str, Any]] = events) -> None:
            while events[-1]:
                events.append(cloud.consolidate(events[-1], running_out(5))["again"])

        with pytest.raises(WorkLeft, match=r"consolidate: 1 left, first: .*symbol=AAPL"):
            go_on()
        assert len(events) > 1
        assert {symbol for symbol in SYMBOLS if layout.data_key(symbol) not in cloud.objects()} <= {"AAPL"}


def test_a_universe_limits_what_is_fetched(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """A symbol outside of it is refused by name, in every function and in the plan."""
    monkeypatch.setenv("CONDVEST_UNIVERSE", "AAPL")
    message = "MSFT is not in CONDVEST_UNIVERSE"
    cloud.evening(DAY)
    with pytest.raises(ConfigError, match=f"symbols: {message}"):
        cloud.fetch({"symbols": ["MSFT"], "date": str(DAY)})
    with pytest.raises(ConfigError, match=f"details: {message}"):
        cloud.meta({"details": ["MSFT"]})
    with pytest.raises(ConfigError, match=f"symbols: {message}"):
        cloud.record({"mode": "plan", "request": {"symbols": ["MSFT"], "date": str(DAY)}})
    assert cloud.objects() == {}


class Limit:
    """A context whose time really goes by."""

    aws_request_id = "run-1"

    def __init__(self, seconds: float) -> None:
        """Begin now."""
        self._end = time_module.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        """Return the time that is left, in milliseconds."""
        return int((self._end - time_module.monotonic()) * 1000)


@pytest.mark.parametrize(
    ("call", "event"),
    [
        ("fetch", {"date": str(DAY)}),
        ("fetch", {"from": str(DAY), "to": str(DAYS[21])}),
        ("fetch", {"symbols": ["IBM"], "date": str(DAY)}),
        ("meta", {}),
        ("meta", {"listings": ["closures"]}),
        ("meta", {"listings": [], "details": ["IBM"]}),
    ],
)
def test_retries_end_before_the_time_of_the_function_does(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, call: str, event: dict[str, Any]
) -> None:
    """A provider that is down for longer than the function may run: it ends by itself, in the reserve, and goes on nowhere."""
    monkeypatch.setenv("POLYGON_RETRY_SECONDS", "300")
    cloud.evening(DAYS[21])
    cloud.provider.fail("/", times=10_000, status=503)
    limit = Limit(4.0)
    with pytest.raises(TransientError, match="in the function's time; the provider may be down"):
        getattr(cloud, call)(event, limit)
    assert limit.get_remaining_time_in_millis() > 500, "the reserve is half of it"


def test_a_fetch_whose_time_is_over_at_the_slow_end_keeps_what_came(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the plan's rate some sessions come in the time of one call: they count, the others remain."""
    monkeypatch.setenv("POLYGON_REQUESTS_PER_MINUTE", "60")
    cloud.evening(DAYS[9])
    answer = cloud.fetch({"from": str(DAY)}, Limit(5.0))
    assert 0 < answer["remaining"] < 10
    monkeypatch.setenv("POLYGON_REQUESTS_PER_MINUTE", "0")
    assert cloud.fetch(answer["again"])["remaining"] == 0
    cloud.record({})
    assert sum(cloud.states().values()) == 10


def test_a_plan_is_cut_and_goes_on(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A database that was lost is filled by as many calls as it takes, before anything is planned."""
    monkeypatch.setattr("condvest.jobs.record_sessions._BLOCK_SESSIONS", 2)
    cloud.evening(DAYS[4]).day({"from": str(DAY)})
    with request.getfixturevalue("postgres_server").empty_database() as url:
        monkeypatch.setenv("RDS_DATABASE", str(make_url(url).database))
        cloud.next_morning(DAYS[4]).record({"mode": "upgrade"})
        asked = {"mode": "plan", "request": {"schedule": "final", "details": 3}}
        plan = _json(record_session.lambda_handler(asked, running_out(1)))
        assert (plan["run"], plan["remaining"] > 0, plan["again"]) == (False, True, asked["request"])
        plan = cloud.record({"mode": "plan", "request": plan["again"]})
        assert (plan["remaining"], plan["bars"]["plan"]["sessions"]) == (0, [str(DAYS[4])])
        assert cloud.states() == {"final": 4, "provisional": 1}


def test_a_provider_that_is_down_raises_and_moves_nothing(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Failure raises, names what is left, and the ledger stays; once it is up the same plan brings the day."""
    cloud.evening(DAY).day({"date": str(DAY)})
    cloud.evening(NEXT)
    plan = cloud.record({"mode": "plan"})
    monkeypatch.setenv("POLYGON_RETRY_SECONDS", "0")
    cloud.provider.fail("/v2/aggs/grouped", status=503, times=2)
    with pytest.raises(WorkLeft, match=f"fetch bars: 2 left, first: {DAY}"):
        cloud.fetch(plan["bars"])
    cloud.record({"refused": []})
    assert cloud.record({"mode": "status"})["watermark"] == str(DAY)
    cloud.day()
    assert cloud.record({"mode": "status"})["watermark"] == str(NEXT)


def test_a_new_database_beside_a_filled_lake_is_filled_from_it(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A lost database costs nothing: the first plan rebuilds the ledger from the lake."""
    cloud.evening(DAYS[24]).day({"from": str(DAY)})
    before = cloud.states()
    with request.getfixturevalue("postgres_server").empty_database() as url:
        monkeypatch.setenv("RDS_DATABASE", str(make_url(url).database))
        cloud.record({"mode": "upgrade"})
        cloud.record({"mode": "plan"})
        assert cloud.states() == before == {"final": 24, "provisional": 1}


@pytest.mark.parametrize(
    ("call", "event", "message"),
    [
        ("fetch", {"dat": "2025-11-03"}, "event field 'dat' is not known; the fields are accept_short, date, from"),
        ("fetch", {"symbols": "AAPL"}, "event field 'symbols' is 'AAPL'"),
        ("fetch", {"date": "yesterday"}, "date is 'yesterday': this is no date"),
        ("fetch", {"date": "2025-11-03", "to": "2025-11-04"}, "date does not go with from or to"),
        ("fetch", {"plan": {"sessions": ["2025-11-33"]}}, "event field 'plan.sessions.0' is '2025-11-33'"),
        ("meta", {"details": 5}, "event field 'details' is 5"),
        ("consolidate", {"mode": "all"}, "event field 'mode' is 'all': input should be 'incremental' or 'full'"),
        ("consolidate", {"retention_days": "30"}, "event field 'retention_days' is '30'"),
        ("consolidate", {"retention_days": 3}, "retention 3 days: must be 7 at least"),
        ("consolidate", {"skip_cleanup": 1}, "event field 'skip_cleanup' is 1"),
        ("record", {"mode": "forget"}, "event field 'mode' is 'forget'"),
        ("record", {"mode": "plan", "request": {"schedule": "noon"}}, r"event field 'request\.schedule' is 'noon'"),
        ("fetch", {"day": "2025-11-03"}, "event field 'day' is not known"),
        ("fetch", {"first": "2025-11-03"}, "event field 'first' is not known"),
        ("fetch", {"symbols": []}, "event field 'symbols' is .*: list should have at least 1 item"),
        (
            "fetch",
            {"symbols": ["../x"], "date": "2025-11-03"},
            r"event field 'symbols\.0' is '../x': symbol '../x' is not",
        ),
        ("fetch", {"symbols": ["IBM,MSFT"]}, r"event field 'symbols\.0' is 'IBM,MSFT': this is no single symbol"),
        (
            "fetch",
            {"symbols": ["IBM"], "accept_short": True},
            "event: symbols does not go with accept_short; leave one",
        ),
        ("fetch", {"symbols": ["IBM"], "plan": {"nonsense": 1}}, "event: symbols does not go with plan"),
        ("fetch", {"plan": {"sessions": []}, "date": "2025-11-03"}, "event: plan does not go with date"),
        ("meta", {"details": ["IBM "]}, r"event field 'details\.0' is 'IBM '"),
        ("meta", {"listings": ["tickers", "bars"]}, r"event field 'listings\.1' is 'bars'"),
        ("meta", {"listings": []}, "event: neither listings nor details are asked for"),
        ("meta", {"details": [f"S{n}" for n in range(5001)]}, "should have at most 5000 items"),
        ("consolidate", {"symbols": ["IBM,MSFT"]}, "this is no single symbol"),
        ("record", {"request": {}}, "event: request goes with mode plan alone, and this is record"),
        ("record", {"mode": "status", "refused": []}, "event: refused goes with mode record alone, and this is status"),
        ("record", {"mode": "plan", "request": {"details": 5001}}, r"event field 'request\.details' is 5001"),
        (
            "record",
            {"mode": "plan", "request": {"noon": 1}},
            "'request.noon' is not known; the fields are accept_short, date",
        ),
        (
            "record",
            {"mode": "plan", "request": {"schedule": "close", "date": "2025-11-03"}},
            "event field 'request': schedule does not go with date; leave one out",
        ),
        ("record", {"refused": [{"session": "noon"}]}, r"event field 'refused\.0"),
        ("record", {"mode": "plan", "request": {"retention_days": 3}}, "retention 3 days: must be 7 at least"),
        (
            "record",
            {"mode": "plan", "request": {"symbols": ["IBM"], "date": "2025-11-02"}},
            "2025-11-02 is no session",
        ),
        ("record", {"mode": "plan"}, "is empty, so where to begin is not known"),
        ("record", {"mode": "plan", "request": {"symbols": ["A"]}}, "the lake is empty, so symbols need dates"),
        ("record", [1], "event field 'event' is"),
    ],
)
def test_a_wrong_event_is_refused_before_any_work(cloud: Cloud, call: str, event: Any, message: str) -> None:
    """Unknown and wrong fields are named, with the remedy; nothing is written."""
    with pytest.raises(ConfigError, match=message):
        getattr(cloud.evening(DAY), call)(event)
    assert cloud.objects() == {}


def test_logs_and_metrics_are_json_and_hold_no_secret(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    """Each line is a JSON object with the run's id; the metrics are in CloudWatch's embedded format."""
    cloud.evening(DAY)
    capsys.readouterr()
    cloud.day({"date": str(DAY)})
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    logs, metrics = [line for line in lines if "_aws" not in line], [line for line in lines if "_aws" in line]
    assert {line["run_id"] for line in logs} == {"run-1"}
    done = [line for line in logs if line.get("event") == "session_done"]
    assert done[0]["fields"] == {"session": str(DAY), "state": "provisional", "rows": 9}
    fetched = next(line for line in metrics if line["service"] == "daily-ohlcv-fetcher")
    assert (fetched["Sessions"], fetched["Rows"], fetched["Quarantined"]) == ([1.0], [9.0], [0.0])
    assert fetched["Requests"][0] > 10
    assert any("WatermarkLagSessions" in line for line in metrics)
    answers = [line["answer"] for line in logs if line["message"] == "answered"]
    assert [answer["job"] for answer in answers] == ["plan", "fetch bars", "fetch meta", "record", "consolidate"]
    assert answers[0]["bars"]["plan"] == ["ledger", "sessions"], "a plan is named, not repeated"
    text = json.dumps(lines)
    assert cloud.provider.api_key not in text
    assert os.environ["RDS_PASSWORD"] not in text


def asked_of(capsys: pytest.CaptureFixture[str]) -> dict[str, list[dict[str, int]]]:
    """Return by service what each call since the last look asked, as its log has it."""
    found: dict[str, list[dict[str, int]]] = {}
    for line in map(json.loads, capsys.readouterr().out.splitlines()):
        if line.get("message") == "asked":
            found.setdefault(line["service"], []).append(line["asked"])
    return found


def test_what_a_call_asked_is_in_its_log_by_kind_and_where_it_can_be_in_the_database(
    cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line a call, of a failed one too: what has no database is priced by these. The database has `record` alone."""
    cloud.evening(DAY)
    capsys.readouterr()
    cloud.day({"date": str(DAY)})
    asked = asked_of(capsys)
    assert [*asked] == ["record-session", "daily-ohlcv-fetcher", "daily-meta-fetcher", "consolidate-bronze-daily"]
    (fetched,), (merged,) = asked["daily-ohlcv-fetcher"], asked["consolidate-bronze-daily"]
    puts = 1 + 9 + 1  # landing, a file for each of nine symbols, the session in one
    assert (fetched["requests"], fetched["puts"]) == (1, puts)
    assert (merged["requests"], merged["puts"] > 9, merged["lists"] > 0, merged["bytes_in"] > 0) == (
        0,
        True,
        True,
        True,
    )
    with App(load_settings()) as app:
        runs = app.state.recent_runs(9)[::-1]
    assert [run.job for run in runs] == ["record", "record"]
    together = [sum(getattr(run.traffic, name) for run in runs) for name in ("gets", "lists", "bytes_in")]
    assert together == [sum(call[name] for call in asked["record-session"]) for name in ("gets", "lists", "bytes_in")]
    cloud.provider.fail("/v2/aggs/grouped", status=401)
    with pytest.raises(ConfigError):
        cloud.fetch({"date": str(DAY)})
    assert asked_of(capsys)["daily-ohlcv-fetcher"][0]["requests"] == 1


def test_a_batch_job_logs_what_it_asked(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also one that fails, and one that reaches no database, as on AWS."""
    cloud.evening(DAY).day({"date": str(DAY)})
    capsys.readouterr()
    assert batch.main(["resampler"]) == 0
    (asked,) = asked_of(capsys)["condvest-batch"]
    assert min(asked[name] for name in ("gets", "puts", "lists", "bytes_in", "bytes_out")) > 0
    monkeypatch.delenv("RDS_HOST")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("LAKE_URL", f"{cloud.lake_url}-empty")
    assert batch.main(["resampler"]) == 2
    (asked,) = asked_of(capsys)["condvest-batch"]
    assert (asked["lists"], asked["puts"]) == (3, 0)  # landing, metadata and bronze: where a lake would be


def test_a_function_needs_a_bucket_and_a_database(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lake on a function's own disk would be gone with it."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "x")
    monkeypatch.delenv("LAKE_URL")
    with pytest.raises(ConfigError, match="S3_BUCKET is not set"):
        cloud.consolidate({})
    monkeypatch.delenv("RDS_HOST")
    monkeypatch.setenv("LAKE_URL", cloud.lake_url)
    with pytest.raises(ConfigError, match="RDS_HOST is not set"):
        cloud.record({})


@pytest.mark.parametrize(
    "module", ["daily_ohlcv_fetcher", "daily_meta_fetcher", "consolidate_bronze", "record_session"]
)
def test_importing_a_handler_loads_no_heavy_library(module: str) -> None:
    """Neither DuckDB nor a web framework nor pandas; what only one call needs is left for it. `make bench` has the seconds."""
    code = f"import condvest.aws.{module}, sys; print(*sorted(name for name in sys.modules if '.' not in name))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    unwanted = {"duckdb", "pandas", "polars", "fastapi", "flask", "starlette", "typer", "rich", "boto3", "plotly"}
    assert unwanted.isdisjoint(loaded)
    assert ("sqlalchemy" in loaded) is False


def metrics_of(capsys: pytest.CaptureFixture[str], service: str) -> list[dict[str, float]]:
    """Return each set of metrics that a function has emitted since the last look."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    found = [line for line in lines if line["service"] == service]
    return [{name: sum(value) for name, value in line.items() if isinstance(value, list)} for line in found]


def test_metrics_count_what_was_quarantined_and_restated(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    """By the day, in a backfill, by ranges and in the consolidation; bytes of the provider count too."""
    cloud.market.set_bar("TRUE", DAY, bar(9.0, high=1.0))
    cloud.evening(DAY)
    capsys.readouterr()
    cloud.fetch({"date": str(DAY)})
    (first,) = metrics_of(capsys, "daily-ohlcv-fetcher")
    assert (first["Sessions"], first["Rows"], first["Quarantined"], first["Restated"]) == (1, 8, 1, 0)
    cloud.record({})
    (recorded,) = metrics_of(capsys, "record-session")
    assert (recorded["Sessions"], recorded["Rows"], recorded["Quarantined"]) == (1, 8, 1)
    cloud.consolidate({})
    (merged,) = metrics_of(capsys, "consolidate-bronze-daily")
    assert (merged["Sessions"], merged["Rows"], merged["Restated"], merged["Quarantined"]) == (1, 8, 0, 0)
    cloud.market.set_bar("IBM", DAY, bar(50.0))
    cloud.next_morning(DAY).fetch({"date": str(DAY)})
    (again,) = metrics_of(capsys, "daily-ohlcv-fetcher")
    assert (again["Rows"], again["Restated"]) == (1, 1)
    cloud.record({})
    assert [found["Restated"] for found in metrics_of(capsys, "record-session")] == [1]
    cloud.store.put(layout.data_key("MSFT"), b"no parquet")
    cloud.consolidate({"mode": "full"})
    (merged,) = metrics_of(capsys, "consolidate-bronze-daily")
    assert (merged["Restated"], merged["Quarantined"]) == (1, 1), "a restated bar, and a file that was set aside"


def test_metrics_count_restatements_of_backfills_and_ranges(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    """What a later answer changes counts, whichever way it comes."""
    cloud.evening(DAYS[21])
    cloud.fetch({"from": str(DAY)})
    cloud.market.set_bar("IBM", DAY, bar(50.0))
    cloud.at(cloud.now + timedelta(hours=1))
    capsys.readouterr()
    cloud.fetch({"from": str(DAY)})
    assert [found["Restated"] for found in metrics_of(capsys, "daily-ohlcv-fetcher")] == [1]
    cloud.market.set_bar("IBM", NEXT, bar(51.0))
    cloud.at(cloud.now + timedelta(hours=1))
    cloud.fetch({"symbols": ["IBM"], "from": str(DAY), "to": str(DAYS[21])})
    assert [found["Restated"] for found in metrics_of(capsys, "daily-ohlcv-fetcher")] == [1]


def test_a_call_that_fails_tells_what_it_cost(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    """Every call writes its metrics, those that raise too; and one set of them."""
    cloud.evening(DAY)
    capsys.readouterr()
    with pytest.raises(ConfigError):
        cloud.fetch({"nonsense": 1})
    (refused,) = metrics_of(capsys, "daily-ohlcv-fetcher")
    assert refused.keys() == {
        *("Sessions", "Rows", "Quarantined", "Restated", "Requests", "Bytes", "Seconds", "Remaining")
    }
    cloud.provider.fail("/v2/aggs/grouped", status=401)
    with pytest.raises(ConfigError, match="was refused"):
        cloud.fetch({"date": str(DAY)})
    (failed,) = metrics_of(capsys, "daily-ohlcv-fetcher")
    assert failed["Requests"] > 1
    assert failed["Bytes"] > 0
    assert failed["Seconds"] > 0


def test_a_bug_is_raised_as_it_is(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lambda logs it with its traceback; metrics are written, and no line of ours has its words, which might hold a secret."""

    def break_down(*_: object, **__: object) -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr("condvest.aws.consolidate_bronze.consolidate", break_down)
    with pytest.raises(RuntimeError, match="hunter2"):
        cloud.consolidate({})
    said = capsys.readouterr().out
    assert "hunter2" not in said
    assert any("Seconds" in json.loads(line) for line in said.splitlines())


def test_every_handler_runs_on_this_machine_too(cloud: Cloud, tmp_path: Path) -> None:
    """As the spec tests it: `python -m condvest.aws.consolidate_bronze`, with the event as its argument."""
    cloud.evening(DAY)
    cloud.fetch({"date": str(DAY)})
    command = [sys.executable, "-m", "condvest.aws.consolidate_bronze"]
    done = subprocess.run([*command, '{"mode": "incremental"}'], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout[done.stdout.index("{\n") :])["counts"]["symbols_changed"] == 9
    wrong = subprocess.run([*command, '{"mode": "all"}'], capture_output=True, text=True, check=False)
    assert (wrong.returncode, "event field 'mode' is 'all'" in wrong.stderr) == (2, True)
    wrong = subprocess.run([*command, "{"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, "the event is no JSON" in wrong.stderr) == (2, True)


class Apart(Cloud):
    """Functions in processes of their own, which have what the layer has: no numpy, no DuckDB, no command line."""

    def record(self, event: dict[str, Any]) -> dict[str, Any]:
        """Call `record_session`."""
        return self._call("record_session", event)

    def fetch(self, event: dict[str, Any], context: Context | Limit | None = None) -> dict[str, Any]:
        """Call `daily_ohlcv_fetcher`."""
        return self._call("daily_ohlcv_fetcher", event)

    def meta(self, event: dict[str, Any], context: Context | Limit | None = None) -> dict[str, Any]:
        """Call `daily_meta_fetcher`."""
        return self._call("daily_meta_fetcher", event)

    def consolidate(self, event: dict[str, Any], context: Context | Limit | None = None) -> dict[str, Any]:
        """Call `consolidate_bronze`."""
        return self._call("consolidate_bronze", event)

    def _call(self, module: str, event: dict[str, Any]) -> dict[str, Any]:
        code = (
            "import runpy, sys; sys.modules.update(dict.fromkeys(['duckdb', 'numpy', 'rich', 'typer']));"
            f"runpy.run_module('condvest.aws.{module}', run_name='__main__')"
        )
        called = [sys.executable, "-c", code, json.dumps(event)]
        done = subprocess.run(called, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return _json(json.loads(done.stdout[done.stdout.index("{\n") :]))


def test_the_functions_work_with_what_the_layer_has(
    monkeypatch: pytest.MonkeyPatch, s3_url: str, postgres_url: str
) -> None:
    """A day, its restatement on the next morning, and all of it again from the lake: numpy is no part of the layer."""
    with Apart(monkeypatch, s3_url, postgres_url) as cloud:
        cloud.evening(DAY).day({"date": str(DAY)})
        cloud.market.set_bar("IBM", DAY, bar(50.0))
        cloud.next_morning(DAY).day({"schedule": "final"})
        assert cloud.states() == {"final": 1}
        again = cloud.consolidate({"mode": "full"})
        assert again["counts"]["symbols_read"] == 9


def test_both_fetchers_together_keep_to_the_plan() -> None:
    """They run at once: what the template gives to each adds up to the default of the plan."""
    text = Path(__file__).parents[2].joinpath("deploy/stack/functions.yaml").read_text()
    shares = re.findall(r"  (?:Bars|Meta)RequestsPerMinute:\n    Type: Number\n    Default: (\d+)", text)
    assert sum(map(int, shares)) == Settings.model_fields["polygon_requests_per_minute"].default


# --- Batch -------------------------------------------------------------------------------------------------------


def _child(monkeypatch: pytest.MonkeyPatch, index: int, size: int) -> None:
    monkeypatch.setenv("AWS_BATCH_JOB_ARRAY_INDEX", str(index))
    monkeypatch.setenv("AWS_BATCH_JOB_ARRAY_SIZE", str(size))


def test_the_children_of_an_array_do_what_one_job_does(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three parts of the symbols, then of the intervals, in any order and one of them twice: the lake of one whole job."""
    cloud.evening(DAYS[19])
    cloud.fetch({"from": str(DAY)})
    assert batch.main(["consolidate"]) == batch.main(["resampler"]) == 0
    whole = {key: cloud.store.get(key).data for key in cloud.objects() if "/symbol=" in key or "silver" in key}
    manifest = {symbol: entry.row_count for symbol, entry in read_manifest(cloud.store).items()}
    gone = [key for key in cloud.objects() if "silver" in key or key.endswith("data.parquet") or "metadata/" in key]
    cloud.store.delete_many(gone)
    for job in ("consolidate", "resampler"):
        for index in (2, 0, 1, 0):
            _child(monkeypatch, index, 3)
            assert batch.main([job]) == 0
    again = {key: cloud.store.get(key).data for key in whole}
    assert {key for key in whole if "checkpoint" not in key and again[key] != whole[key]} == set()
    assert {symbol: entry.row_count for symbol, entry in read_manifest(cloud.store).items()} == manifest


def test_children_at_once_never_overwrite_each_others_entries(cloud: Cloud) -> None:
    """Four real processes at one time: every symbol is in the manifest, and a run after them has nothing to do."""
    cloud.market.bars.clear()
    for number in range(40):
        cloud.market.set_bar(f"S{number}", DAY, bar(10.0 + number))
    cloud.evening(DAY)
    cloud.fetch({"date": str(DAY)})
    command = [sys.executable, "-m", "condvest.aws.batch", "consolidate"]
    children = [
        subprocess.Popen(
            command,
            env={**os.environ, "AWS_BATCH_JOB_ARRAY_INDEX": str(index), "AWS_BATCH_JOB_ARRAY_SIZE": "4"},
            stdout=subprocess.DEVNULL,
        )
        for index in range(4)
    ]
    assert [child.wait(timeout=120) for child in children] == [0, 0, 0, 0]
    answer = cloud.consolidate({})
    assert (answer["outcome"], answer["counts"]["symbols"]) == ("nothing_new", 40)


def test_more_children_than_intervals_do_nothing(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """The seventh child of six intervals ends well."""
    _child(monkeypatch, 6, 7)
    assert batch.main(["resampler"]) == 0


def test_the_batch_command_says_what_is_wrong(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Settings and options end with 2, work that is left with 1."""
    with pytest.raises(SystemExit) as exit_info:
        batch.main(["defragment"])
    assert exit_info.value.code == 2
    assert batch.main(["consolidate"]) == 2
    assert "no lake at" in capsys.readouterr().err
    monkeypatch.setenv("AWS_BATCH_JOB_ARRAY_INDEX", "1")
    assert batch.main(["vacuum"]) == 2
    assert "an array job has both" in capsys.readouterr().err
    _child(monkeypatch, 3, 3)
    assert batch.main(["vacuum", "--dry-run"]) == 2
    assert "shard 3 of 3 is not possible" in capsys.readouterr().err


def test_the_vacuum_of_an_array_removes_each_file_once(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run names them all between its parts and removes none; the real one removes just these."""
    cloud.evening(DAY).day({"date": str(DAY)})
    cloud.at(cloud.now + timedelta(days=60))
    for options, left in ((["--dry-run"], 9), ([], 0)):
        for index in range(2):
            _child(monkeypatch, index, 2)
            assert batch.main(["vacuum", *options, "--retention-days", "30"]) == 0
        assert sum("/date=" in key and key.startswith(layout.BRONZE) for key in cloud.objects()) == left


def test_the_market_of_these_tests_is_the_kits(cloud: Cloud) -> None:
    """What the stand-in serves here is what the job tests know."""
    assert isinstance(cloud.market, Market)
    assert len(cloud.market.bars[DAY]) == len(SYMBOLS)

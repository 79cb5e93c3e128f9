"""The stand-in provider, driven by the vendor's own client for its shapes and by plain HTTP for its faults."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from datetime import time as clock_time

import httpx
import pytest
from massive import RESTClient
from massive.exceptions import BadResponse

from condvest.demo.market import Bar, Market
from condvest.demo.standin import StandIn
from condvest.errors import ConfigError

THURSDAY, FRIDAY, SATURDAY = date(2013, 2, 28), date(2013, 3, 1), date(2013, 3, 2)
GROUPED = "/v2/aggs/grouped/locale/us/market/stocks"
RANGE = "/v2/aggs/ticker/AAPL/range/1/day"
BAR = Bar(10.0, 12.0, 9.0, 11.0, 1000.5, 10.5, 42)


def made_market() -> Market:
    """Return two sessions of four symbols; two of them differ by case alone, one is traded over the counter."""
    market = Market()
    for session in (THURSDAY, FRIDAY):
        for symbol in ("AAPL", "BCPC", "BCpC"):
            market.set_bar(symbol, session, BAR)
    market.set_bar("OTCX", FRIDAY, replace(BAR, vwap=None, transactions=None, otc=True))
    market.add_ticker("AAPL", name="Apple Inc.", market_cap=2.5e12, sic_code="3571", list_date="1980-12-12")
    market.delist("OTCX", date(2013, 3, 4))
    market.add_split("AAPL", date(2005, 2, 28), 1, 2)
    market.add_split("AAPL", date(2014, 6, 9), 1, 7)
    market.add_split("BCPC", date(2013, 3, 1), 10, 1)
    market.add_dividend("AAPL", date(2013, 2, 7), 2.65, pay_date="2013-02-14")
    market.add_closure(date(2013, 3, 29), "Good Friday")
    market.add_closure(date(2013, 7, 3), "Independence Day", early_close=clock_time(13))
    return market


@pytest.fixture
def market() -> Market:
    """Return a market of this test's own."""
    return made_market()


@pytest.fixture
def standin(market: Market) -> Iterator[StandIn]:
    """Serve it on the Sunday after its two sessions."""
    with StandIn(market, now=lambda: datetime(2013, 3, 3, 18, tzinfo=UTC)) as served:
        yield served


@pytest.fixture
def http(standin: StandIn) -> Iterator[httpx.Client]:
    """Return a plain client that shows the key as a client should."""
    with httpx.Client(base_url=standin.url, headers={"Authorization": f"Bearer {standin.api_key}"}) as client:
        yield client


@pytest.fixture
def vendor(standin: StandIn) -> Iterator[RESTClient]:
    """Return the vendor's own client; it does not retry, so that each fault shows."""
    client = RESTClient(standin.api_key, base=standin.url, retries=0)
    yield client
    client.client.clear()


class TestVendorClient:
    """The vendor's client understands every answer."""

    def test_grouped_daily(self, vendor: RESTClient) -> None:
        """One request brings the session: bars as they are, `t` at the END of the window, 16:00 in New York."""
        rows = vendor.get_grouped_daily_aggs(FRIDAY, adjusted=False)
        assert [row.ticker for row in rows] == ["AAPL", "BCPC", "BCpC"]
        assert (rows[0].open, rows[0].high, rows[0].low, rows[0].close) == (10.0, 12.0, 9.0, 11.0)
        assert (rows[0].volume, rows[0].vwap, rows[0].transactions) == (1000.5, 10.5, 42)
        assert rows[0].timestamp == datetime(2013, 3, 1, 21, tzinfo=UTC).timestamp() * 1000

    def test_over_the_counter(self, vendor: RESTClient) -> None:
        """OTC rows come only when asked for, are marked, and what a bar lacks is left out."""
        row = vendor.get_grouped_daily_aggs(FRIDAY, adjusted=False, include_otc=True)[-1]
        assert (row.ticker, row.otc, row.vwap, row.transactions) == ("OTCX", True, None, None)

    def test_holiday(self, vendor: RESTClient, http: httpx.Client) -> None:
        """A day without trading answers 200 with no `results`, which the vendor's client turns into an empty list."""
        assert vendor.get_grouped_daily_aggs(SATURDAY, adjusted=False) == []
        answer = http.get(f"{GROUPED}/{SATURDAY}")
        assert answer.status_code == 200
        assert answer.json().keys() == {"queryCount", "resultsCount", "adjusted", "status", "request_id", "count"}

    def test_range(self, vendor: RESTClient) -> None:
        """A range brings one symbol's bars in order, `t` at the START of the window, 00:00 in New York."""
        rows = list(vendor.list_aggs("AAPL", 1, "day", THURSDAY, FRIDAY, adjusted=False, sort="asc", limit=50000))
        assert [row.timestamp for row in rows] == [
            datetime(2013, 2, 28, 5, tzinfo=UTC).timestamp() * 1000,
            datetime(2013, 3, 1, 5, tzinfo=UTC).timestamp() * 1000,
        ]
        assert rows[0].close == 11.0

    def test_range_across_pages(self, vendor: RESTClient, standin: StandIn) -> None:
        """`next_url` leads through a long range, newest first when asked for, though it names another host."""
        standin.page_size = 1
        rows = list(vendor.list_aggs("AAPL", 1, "day", THURSDAY, FRIDAY, adjusted=False, sort="desc"))
        assert [row.timestamp for row in rows] == [1362114000000, 1362027600000]
        assert len(standin.requests) == 2

    def test_range_takes_milliseconds(self, vendor: RESTClient) -> None:
        """Bounds may be instants in milliseconds; their New York date counts."""
        rows = vendor.get_aggs("AAPL", 1, "day", datetime(2013, 3, 1, 12, tzinfo=UTC), FRIDAY, adjusted=False)
        assert [row.timestamp for row in rows] == [1362114000000]

    def test_range_of_a_wrong_case(self, vendor: RESTClient) -> None:
        """A ticker's case counts: an unknown one answers 200 without results, not an error."""
        assert vendor.get_aggs("aapl", 1, "day", THURSDAY, FRIDAY) == []

    def test_adjusted_by_default(self, vendor: RESTClient) -> None:
        """Who forgets `adjusted=false` gets prices on today's basis: splits up to now count, later ones do not."""
        rows = {row.ticker: row for row in vendor.get_grouped_daily_aggs(THURSDAY)}
        assert (rows["BCPC"].close, rows["BCPC"].volume) == (110.0, 100.05)
        assert rows["AAPL"].close == 11.0
        assert [row.close for row in vendor.get_aggs("BCPC", 1, "day", THURSDAY, FRIDAY)] == [110.0, 11.0]

    def test_tickers_across_pages(self, vendor: RESTClient, standin: StandIn) -> None:
        """`next_url` names another host; the vendor's client takes its path to its own base, and so sees all pages."""
        found = [row.ticker for row in vendor.list_tickers(market="stocks", active=True, limit=2)]
        assert found == ["AAPL", "BCPC", "BCpC"]
        first, second = standin.requests
        assert (first.path, first.query["limit"]) == ("/v3/reference/tickers", "2")
        assert second.query.keys() == {"cursor"}

    def test_delisted_tickers(self, vendor: RESTClient) -> None:
        """Delisted tickers come only with `active=false`; as of an earlier date they were still active."""
        (gone,) = vendor.list_tickers(active=False)
        assert (gone.ticker, gone.active, gone.delisted_utc) == ("OTCX", False, "2013-03-04T00:00:00Z")
        assert "OTCX" in [row.ticker for row in vendor.list_tickers(date="2013-03-01")]
        assert "AAPL" not in [row.ticker for row in vendor.list_tickers(date="1980-01-01")]

    def test_details(self, vendor: RESTClient) -> None:
        """Details are one object; an unknown ticker is a 404."""
        found = vendor.get_ticker_details("AAPL")
        assert (found.name, found.market_cap, found.sic_code) == ("Apple Inc.", 2.5e12, "3571")
        with pytest.raises(BadResponse, match="NOT_FOUND"):
            vendor.get_ticker_details("NOPE")

    def test_splits(self, vendor: RESTClient, standin: StandIn) -> None:
        """Splits come sorted and in pages, with the cumulated factor for prices before each of them."""
        standin.page_size = 2
        rows = list(vendor.list_stocks_splits(sort="execution_date.asc", limit=5000))
        assert [(row.ticker, row.execution_date, row.adjustment_type) for row in rows] == [
            ("AAPL", "2005-02-28", "forward_split"),
            ("BCPC", "2013-03-01", "reverse_split"),
            ("AAPL", "2014-06-09", "forward_split"),
        ]
        assert (rows[0].split_from, rows[0].split_to) == (1, 2)
        assert [row.historical_adjustment_factor for row in rows] == pytest.approx([1 / 14, 10, 1 / 7])
        assert [row.ticker for row in vendor.list_stocks_splits(execution_date_gte="2014-01-01")] == ["AAPL"]
        assert [row.ticker for row in vendor.list_stocks_splits(ticker_any_of="BCPC,X")] == ["BCPC"]

    def test_dividends(self, vendor: RESTClient) -> None:
        """A dividend's amount is as declared; the amount on today's shares stands beside it."""
        (row,) = vendor.list_stocks_dividends(ticker="AAPL", sort="ex_dividend_date.asc", limit=5000)
        assert (row.ex_dividend_date, row.cash_amount, row.pay_date) == ("2013-02-07", 2.65, "2013-02-14")
        assert row.split_adjusted_cash_amount == pytest.approx(2.65 / 7)

    @pytest.mark.parametrize(
        ("hour_utc", "day", "state", "early", "late"),
        [
            (8, 1, "closed", False, False),
            (13, 1, "extended-hours", True, False),
            (15, 1, "open", False, False),
            (22, 1, "extended-hours", False, True),
            (15, 2, "closed", False, False),
            (15, 29, "closed", False, False),
        ],
    )
    def test_market_now(
        self, vendor: RESTClient, standin: StandIn, hour_utc: int, day: int, state: str, early: bool, late: bool
    ) -> None:
        """The market's state follows the stand-in's clock: closed at night, at weekends, on announced holidays."""
        standin.now = lambda: datetime(2013, 3, day, hour_utc, tzinfo=UTC)
        status = vendor.get_market_status()
        assert (status.market, status.early_hours, status.after_hours) == (state, early, late)
        assert status.exchanges.nyse == state
        assert datetime.fromisoformat(status.server_time) == standin.now()

    def test_market_upcoming(self, vendor: RESTClient, standin: StandIn) -> None:
        """Closures come as a bare array, a row an exchange; only early closes carry times, in UTC; past ones go."""
        rows = vendor.get_market_holidays()
        assert [(row.date, row.exchange, row.status) for row in rows[:4]] == [
            ("2013-03-29", "NYSE", "closed"),
            ("2013-03-29", "NASDAQ", "closed"),
            ("2013-03-29", "OTC", "closed"),
            ("2013-07-03", "NYSE", "early-close"),
        ]
        assert (rows[0].open, rows[3].open, rows[3].close) == (
            None,
            "2013-07-03T13:30:00.000Z",
            "2013-07-03T17:00:00.000Z",
        )
        standin.now = lambda: datetime(2013, 5, 1, tzinfo=UTC)
        assert len(vendor.get_market_holidays()) == 3

    def test_delayed_plan(self, vendor: RESTClient, http: httpx.Client, standin: StandIn) -> None:
        """On a delayed plan the same good answers say DELAYED, also those that were made before."""
        vendor.get_grouped_daily_aggs(FRIDAY, adjusted=False)
        standin.delayed = True
        assert len(vendor.get_grouped_daily_aggs(FRIDAY, adjusted=False)) == 3
        assert http.get(f"{GROUPED}/{FRIDAY}?adjusted=false").json()["status"] == "DELAYED"


class TestRefusals:
    """What the provider refuses, with its status and words."""

    def test_unknown_key(self, standin: StandIn) -> None:
        """A wrong key is a 401 everywhere, and so is none."""
        wrong = httpx.get(f"{standin.url}/v1/marketstatus/now", headers={"Authorization": "Bearer other"})
        assert (wrong.status_code, wrong.json()["status"], wrong.json()["error"]) == (401, "ERROR", "Unknown API Key")
        assert httpx.get(f"{standin.url}{GROUPED}/{FRIDAY}").status_code == 401

    def test_key_in_the_query(self, standin: StandIn) -> None:
        """The key may stand in the query, as the provider allows; `next_url` never carries it on."""
        answer = httpx.get(f"{standin.url}/v3/reference/tickers", params={"apiKey": standin.api_key, "limit": 1})
        assert answer.status_code == 200
        assert answer.json()["next_url"].startswith("https://api.polygon.io/v3/reference/tickers?cursor=")
        assert standin.api_key not in answer.text
        assert "YXBpS2V5" not in answer.text  # base64 of "apiKey"

    def test_before_the_plan(self, standin: StandIn, http: httpx.Client) -> None:
        """A session before the plan's start is a permanent 403; a range that begins before it is cut."""
        standin.plan_start = FRIDAY
        refused = http.get(f"{GROUPED}/{THURSDAY}")
        assert (refused.status_code, refused.json()["status"]) == (403, "NOT_AUTHORIZED")
        assert "plan doesn't include this data timeframe" in refused.json()["message"]
        assert http.get(f"{RANGE}/{THURSDAY}/{THURSDAY}").status_code == 403
        assert http.get(f"{RANGE}/{THURSDAY}/{FRIDAY}").json()["resultsCount"] == 1

    def test_today_before_the_end_of_day(self, standin: StandIn, http: httpx.Client) -> None:
        """Today's session is a passing 403 until the end of the day by the stand-in's own clock, in New York."""
        standin.now = lambda: datetime(2013, 3, 1, 20, 59, tzinfo=UTC)
        refused = http.get(f"{GROUPED}/{FRIDAY}")
        assert (refused.status_code, refused.json()["status"]) == (403, "NOT_AUTHORIZED")
        assert "Attempted to request today's data before end of day" in refused.json()["message"]
        assert http.get(f"{RANGE}/{THURSDAY}/{FRIDAY}").status_code == 403
        standin.now = lambda: datetime(2013, 3, 1, 21, tzinfo=UTC)
        assert http.get(f"{GROUPED}/{FRIDAY}").json()["resultsCount"] == 3

    def test_the_future(self, standin: StandIn, http: httpx.Client) -> None:
        """The future is refused in the words of a plan that is too small, and no bar of it leaks into a range."""
        standin.now = lambda: datetime(2013, 2, 28, 22, tzinfo=UTC)
        refused = http.get(f"{GROUPED}/{FRIDAY}")
        assert refused.status_code == 403
        assert "timeframe" in refused.json()["message"]
        assert http.get(f"{RANGE}/2013-01-01/2013-12-31").json()["resultsCount"] == 1

    @pytest.mark.parametrize(
        ("path", "status", "words"),
        [
            (f"{GROUPED}/2013-02-30", 400, "Could not parse the time parameter: 'date'"),
            (f"{RANGE}/soon/2013-03-01", 400, "'from'"),
            ("/v3/reference/tickers?limit=1001", 400, "limit must be between 1 and 1000"),
            ("/stocks/v1/splits?limit=none", 400, "limit"),
            ("/v3/reference/tickers?cursor=%FF", 400, "cursor"),
            ("/v9/nothing", 404, "no such endpoint"),
        ],
    )
    def test_wrong_requests(self, http: httpx.Client, path: str, status: int, words: str) -> None:
        """A request that makes no sense is refused, never answered with an empty list."""
        answer = http.get(path)
        assert answer.status_code == status
        assert words in answer.text

    def test_each_answer_has_its_own_id(self, http: httpx.Client) -> None:
        """`request_id` differs in each answer, so equal data never mean equal bytes."""
        paths = [f"{GROUPED}/{FRIDAY}?adjusted=false"] * 2 + ["/stocks/v1/splits", "/v3/reference/tickers/NOPE"]
        assert len({http.get(path).json()["request_id"] for path in paths}) == 4


class TestFaults:
    """What a network and a busy server do to an answer."""

    @pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
    def test_status(self, standin: StandIn, http: httpx.Client, status: int) -> None:
        """A status fault lasts for as many requests as asked, then the true answer is back."""
        standin.fail(GROUPED, times=2, status=status)
        answers = [http.get(f"{GROUPED}/{FRIDAY}") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [status, status, 200]
        assert answers[0].json()["status"] in ("ERROR", "NOT_AUTHORIZED")

    def test_body_and_headers(self, standin: StandIn, http: httpx.Client) -> None:
        """A fault may bring headers and any body: text, bytes or an object."""
        standin.fail("/v1", status=429, headers={"Retry-After": "7"})
        standin.fail("/v1", status=200, body="<html>")
        standin.fail("/v1", status=502, body=b"\xff")
        standin.fail("/v1", status=500, body={"status": "ERROR"})
        answers = [http.get("/v1/marketstatus/now") for _ in range(4)]
        assert answers[0].headers["retry-after"] == "7"
        assert (answers[1].status_code, answers[1].text) == (200, "<html>")
        assert answers[2].content == b"\xff"
        assert answers[3].json() == {"status": "ERROR"}

    def test_truncated(self, standin: StandIn, http: httpx.Client) -> None:
        """A truncated answer promises more bytes than come, and ends the connection."""
        standin.fail(GROUPED, kind="truncate")
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
            http.get(f"{GROUPED}/{FRIDAY}")
        assert http.get(f"{GROUPED}/{FRIDAY}").status_code == 200

    def test_reset(self, standin: StandIn, http: httpx.Client) -> None:
        """A reset drops the connection before the first byte."""
        standin.fail(GROUPED, kind="reset")
        with pytest.raises(httpx.ReadError):
            http.get(f"{GROUPED}/{FRIDAY}")
        assert http.get(f"{GROUPED}/{FRIDAY}").status_code == 200

    def test_empty_short_and_double(self, standin: StandIn, http: httpx.Client) -> None:
        """Under load a good status hides missing rows: none, half of them; or each comes twice."""
        for kind in ("empty", "short", "duplicates"):
            standin.fail(GROUPED, kind=kind)
        empty, short, double, true = [http.get(f"{GROUPED}/{FRIDAY}").json() for _ in range(4)]
        assert "results" not in empty
        assert [answer["resultsCount"] for answer in (empty, short, double, true)] == [0, 1, 6, 3]
        assert [row["T"] for row in double["results"][:3]] == ["AAPL", "AAPL", "BCPC"]

    def test_empty_array_and_details(self, standin: StandIn, http: httpx.Client) -> None:
        """The same faults fit answers that are a bare array or one object."""
        standin.fail("/v1/marketstatus/upcoming", kind="short")
        standin.fail("/v3/reference/tickers/AAPL", kind="empty")
        assert len(http.get("/v1/marketstatus/upcoming").json()) == 3
        assert "results" not in http.get("/v3/reference/tickers/AAPL").json()

    def test_delay(self, standin: StandIn, http: httpx.Client) -> None:
        """A delayed answer is the true one, late; a client may give up before."""
        standin.fail(GROUPED, kind="delay", seconds=0.05, times=2)
        start = time.perf_counter()
        assert http.get(f"{GROUPED}/{FRIDAY}").json()["resultsCount"] == 3
        assert time.perf_counter() - start >= 0.05
        with pytest.raises(httpx.ReadTimeout):
            http.get(f"{GROUPED}/{FRIDAY}", timeout=0.01)

    def test_others_are_left_alone(self, standin: StandIn, http: httpx.Client) -> None:
        """A fault waits for its own path and may be called off."""
        standin.fail(f"{GROUPED}/{FRIDAY}", status=500, times=9)
        assert http.get(f"{GROUPED}/{THURSDAY}").status_code == 200
        assert http.get(f"{GROUPED}/{FRIDAY}").status_code == 500
        standin.heal()
        assert http.get(f"{GROUPED}/{FRIDAY}").status_code == 200

    def test_wrong_faults(self, standin: StandIn) -> None:
        """A fault that makes no sense is refused when it is asked for, not when it strikes."""
        with pytest.raises(ConfigError, match="'explode' is unknown"):
            standin.fail("/", kind="explode")  # type: ignore[arg-type]  # the point of the test
        with pytest.raises(ConfigError, match="has no status"):
            standin.fail("/")


class TestServer:
    """The server itself."""

    def test_requests_are_kept(self, standin: StandIn, http: httpx.Client) -> None:
        """Each request is kept as it came, so that a test can show where the key was; its text never shows it."""
        http.get("/v3/reference/tickers/BC%70C", params={"date": "2013-03-01"})
        (request,) = standin.requests
        assert (request.method, request.path) == ("GET", "/v3/reference/tickers/BC%70C")
        assert request.query == {"date": "2013-03-01"}
        assert request.headers["authorization"] == "Bearer test-key"
        assert "test-key" not in repr(request)

    def test_changes_show_at_once(self, market: Market, http: httpx.Client) -> None:
        """A changed, removed or added bar shows in the next answer, whichever way the market was changed."""
        path = f"{GROUPED}/{FRIDAY}?adjusted=false"
        assert http.get(path).json()["resultsCount"] == 3
        market.set_bar("AAPL", FRIDAY, replace(BAR, close=11.5))
        assert http.get(path).json()["results"][0]["c"] == 11.5
        market.remove_bar("BCPC", FRIDAY)
        market.bars[FRIDAY]["NEW"] = BAR
        assert [row["T"] for row in http.get(path).json()["results"]] == ["AAPL", "BCpC", "NEW"]
        market.raw_rows[FRIDAY] = [{"T": "BAD", "h": 1, "l": 2}]
        assert http.get(path).json()["results"][-1] == {"T": "BAD", "h": 1, "l": 2}
        market.raw_rows[FRIDAY][0]["h"] = None
        assert http.get(path).json()["results"][-1]["h"] is None

    def test_provisional_values(self, standin: StandIn, http: httpx.Client) -> None:
        """The evening's value of a session may differ from the final one, in grouped and range answers alike."""

        def evening(session: date, symbol: str, bar: Bar, now: datetime) -> Bar:
            early = symbol == "AAPL" and now < datetime(2013, 3, 2, 16, tzinfo=UTC) and session == FRIDAY
            return replace(bar, volume=bar.volume - 1) if early else bar

        standin.provisional = evening
        volumes = []
        for hour in (datetime(2013, 3, 1, 22, tzinfo=UTC), datetime(2013, 3, 2, 18, tzinfo=UTC)):
            standin.now = lambda hour=hour: hour  # type: ignore[misc]  # bound at once
            volumes += [row["v"] for row in http.get(f"{GROUPED}/{FRIDAY}?adjusted=false").json()["results"][:2]]
            volumes += [row["v"] for row in http.get(f"{RANGE}/{THURSDAY}/{FRIDAY}?adjusted=false").json()["results"]]
        assert volumes == [999.5, 1000.5, 1000.5, 999.5] + [1000.5] * 4

    def test_many_clients_at_once(self, standin: StandIn) -> None:
        """Requests from many threads are all answered and all kept."""
        headers = {"Authorization": f"Bearer {standin.api_key}"}
        with httpx.Client(base_url=standin.url, headers=headers) as client, ThreadPoolExecutor(16) as pool:
            sizes = list(pool.map(lambda _: client.get(f"{GROUPED}/{FRIDAY}").json()["resultsCount"], range(200)))
        assert sizes == [3] * 200
        assert len(standin.requests) == 200

    def test_stops_with_clients_connected(self, market: Market) -> None:
        """Leaving the block ends idle and waiting connections and leaves no thread behind."""
        before = threading.active_count()
        with httpx.Client() as idle, httpx.Client(timeout=30) as waiting, ThreadPoolExecutor(1) as pool:
            with StandIn(market) as served:
                url, key = served.url, {"apiKey": served.api_key}
                idle.get(f"{url}/v1/marketstatus/now", params=key)
                served.fail("/slow", kind="delay", seconds=30)
                answer = pool.submit(waiting.get, f"{url}/slow", params=key)
                while len(served.requests) < 2:
                    time.sleep(0.001)
            with pytest.raises(httpx.ConnectError):
                httpx.get(url)
            assert answer.exception(timeout=5) is not None or answer.result().status_code == 404
        for _ in range(1000):  # a thread outlives its connection by an instant
            if threading.active_count() <= before:
                break
            time.sleep(0.002)
        assert threading.active_count() <= before

    def test_needs_a_with_block(self, market: Market) -> None:
        """There is no URL before the block and none after it."""
        served = StandIn(market)
        with pytest.raises(ConfigError, match="not running"):
            _ = served.url
        with served:
            assert served.url.startswith("http://127.0.0.1:")

    def test_its_own_defects_are_raised(self, market: Market) -> None:
        """A hook that fails does not pass for a network fault: the block raises it at its end."""

        def broken(session: date, symbol: str, bar: Bar, now: datetime) -> Bar:
            raise ZeroDivisionError

        def fetch() -> None:
            with StandIn(market) as served:
                served.provisional = broken
                with pytest.raises(httpx.RemoteProtocolError):
                    httpx.get(f"{served.url}{GROUPED}/{FRIDAY}", params={"apiKey": served.api_key})

        with pytest.raises(ZeroDivisionError):
            fetch()

    def test_a_whole_market_is_kept_as_bytes(self, standin: StandIn, http: httpx.Client, market: Market) -> None:
        """The answer for 10,000 symbols is whole the first and the second time."""
        with market.lock:
            for number in range(10_000):
                market.set_bar(f"S{number}", FRIDAY, BAR)
        first, second = (http.get(f"{GROUPED}/{FRIDAY}?adjusted=false").content for _ in range(2))
        assert len(json.loads(first)["results"]) == 10_003
        assert first[first.index(b",") :] == second[second.index(b",") :]
